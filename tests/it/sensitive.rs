//! Encryption at rest: nothing of a sensitive route is readable below memory, and keys change without losing hits.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::explain::explain;
use crate::harness::{
    self, Answer, Call, ConfigText, Origin, RedisServer, Reply, Sidecar, Token, eventually, outrigger,
};

/// What must be found nowhere: in requests and answers of the sensitive route, wherever they have room for it.
const CANARY: &str = "canary-7f3a9c";

/// Whom all sidecars are asked for; their own addresses differ.
const HOST: &str = "hub.local";

const ROUTES: &str = r#"
- name: secret
  match: {path_prefix: /secret}
  upstream: hub
  cache:
    mode: "on"
    methods: [GET, POST]
    sensitive: true
    share: all
    vary: {query: {include: ["*"]}, headers: [x-user], body: {json: {}}}
    tags: {json: [/tag]}
- name: open
  match: {path_prefix: /open}
  upstream: hub
  cache: {mode: "on"}
"#;

/// A keyring with these keys, the newest last.
fn ring(ids: &[&str]) -> String {
    let secret = |name: &str| hex::encode(blake3::hash(name.as_bytes()).as_bytes());
    let mut text = format!("index_secret: \"{}\"\nkeys:\n", secret("index"));
    for id in ids {
        writeln!(text, "  - {{id: \"{id}\", secret: \"{}\"}}", secret(id)).unwrap();
    }
    text
}

/// An origin and a Redis that writes everything down; sidecars come and go before them.
struct Stage {
    origin: Origin,
    redis: RedisServer,
}

impl Stage {
    async fn new() -> Self {
        let origin = Origin::start().await;
        origin.on("*", |seen| {
            Reply::ok(format!("{{\"answer\": \"{CANARY} {}\"}}", seen.path))
                .header("content-type", "application/json")
                .header("etag", &format!("\"{CANARY}\""))
                .header("x-about", CANARY)
                .header("vary", "x-user")
                .cache_control("max-age=600")
        });
        Self {
            origin,
            redis: RedisServer::start_with("appendonly yes\nappendfsync always").await,
        }
    }

    /// Memory, disk and Redis, the last two with `keys`.
    fn config(&self, keys: &str) -> ConfigText {
        ConfigText::new(self.origin.address())
            .level(&format!(
                "disk: {{name: disk, path: \"@DIR@/disk\", capacity: 32MiB{keys}}}"
            ))
            .level(&format!(
                "redis: {{name: fleet, url: \"redis://{}\", timeout: 2s{keys}}}",
                self.redis.address()
            ))
            .with("telemetry: {access_log: {enabled: true}}")
            .routes(ROUTES)
    }

    /// A sidecar with a keyring of these keys, in front of an empty disk.
    async fn sidecar(&self, ids: &[&str]) -> Sidecar {
        let config = self.config(", encrypt: {keyring_file: \"@DIR@/keyring.yaml\"}");
        let sidecar = Sidecar::start_with_files(&config, &[("keyring.yaml", &ring(ids))]).await;
        sidecar.joined().await;
        sidecar
    }

    /// Waits until Redis has this many values.
    async fn keeps(&self, values: usize) {
        eventually(&format!("{values} values in Redis"), async || {
            (self.redis.values().await.len() == values).then_some(())
        })
        .await;
    }

    /// Whether `text` is in a key or a value in Redis, or in its files.
    async fn has(&self, text: &str) -> bool {
        let keys: Vec<Vec<u8>> = self.redis.command("KEYS *").await;
        if keys.iter().any(|key| contains(key, text)) {
            return true;
        }
        for key in self.redis.values().await {
            let value: Vec<u8> = self.redis.send(&[b"GET", key.as_bytes()]).await;
            if contains(&value, text) {
                return true;
            }
        }
        // What other keys hold, the purge log's, is in the files as well.
        directory_has(self.redis.directory(), text)
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// Whether `text` is in a file below `directory`, or in the name of one.
fn directory_has(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        contains(path.as_os_str().as_encoded_bytes(), text)
            || match path.is_dir() {
                true => directory_has(&path, text),
                false => contains(&fs::read(&path).unwrap(), text),
            }
    })
}

fn question() -> Call {
    let body = format!("{{\"prompt\": \"{CANARY}\", \"tag\": \"{CANARY}\"}}");
    Call::json(&format!("/secret?q={CANARY}"), body)
        .header("host", HOST)
        .header("x-user", CANARY)
}

async fn get(sidecar: &Sidecar, target: &str) -> Answer {
    sidecar.fetch(Call::get(target).header("host", HOST)).await
}

#[track_caller]
fn is_hit(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.cache_says("hit"), "{answer:?}");
}

#[track_caller]
fn is_miss(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.cache_says("fwd=uri-miss"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_of_a_sensitive_route_is_found_nowhere() {
    let stage = Stage::new().await;
    let other = stage.sidecar(&["a"]).await;
    let sidecar = stage.sidecar(&["a"]).await;
    is_miss(&sidecar.fetch(question()).await);
    stage.keeps(1).await;
    eventually("both levels to have written", async || {
        let waiting = sidecar.metric("outrigger_level_queue_length", &[]).await;
        (waiting < 0.5).then_some(())
    })
    .await;

    let answer = other.fetch(question()).await;
    is_hit(&answer);
    assert_eq!(answer.text(), format!("{{\"answer\": \"{CANARY} /secret\"}}"));
    assert_eq!(stage.origin.count("/secret"), 1);

    assert!(!stage.has(CANARY).await, "in Redis");
    for sidecar in [&sidecar, &other] {
        assert!(!directory_has(sidecar.directory(), CANARY), "on disk");
        for logs in [sidecar.logs(), sidecar.access_log()] {
            assert!(!logs.text().contains(CANARY), "{}", logs.text());
        }
        let shown = sidecar
            .admin(Call::get("/config").bearer("the-viewer-token-of-the-tests"))
            .await;
        for text in [shown.text(), &sidecar.logs().text()] {
            assert!(!text.contains(&ring(&["a"])[20..40]), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_a_sensitive_answer_stays_in_memory() {
    let stage = Stage::new().await;
    let sidecar = Sidecar::start(&stage.config("")).await;
    sidecar.joined().await;
    is_miss(&sidecar.fetch(question()).await);
    for level in ["disk", "fleet"] {
        eventually("the level to be left out", async || {
            let labels = [("level", level), ("reason", "no-key")];
            let dropped = sidecar
                .metric("outrigger_level_dropped_writes_total", &labels)
                .await;
            (dropped > 0.5).then_some(())
        })
        .await;
    }
    stage.keeps(0).await;
    assert!(!stage.has(CANARY).await);
    assert!(!directory_has(sidecar.directory(), CANARY));
    is_hit(&sidecar.fetch(question()).await);

    // What is not sensitive is kept, and is found by the same search.
    is_miss(&get(&sidecar, "/open").await);
    stage.keeps(1).await;
    assert!(stage.has(CANARY).await);
    eventually("the value on disk", async || {
        directory_has(&sidecar.directory().join("disk"), CANARY).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_without_a_restart_and_without_losing_hits() {
    let stage = Stage::new().await;
    let both = stage.sidecar(&["old", "new"]).await;
    let later = stage.sidecar(&["new"]).await;
    let sidecar = stage.sidecar(&["old"]).await;
    is_miss(&get(&sidecar, "/secret/1").await);
    stage.keeps(1).await;

    let from = sidecar.logs().len();
    sidecar.write_file("keyring.yaml", &ring(&["old", "new"]));
    assert!(sidecar.reloaded(from).await.applied);
    is_miss(&get(&sidecar, "/secret/2").await);
    stage.keeps(2).await;

    // With both keys everything is hit.
    is_hit(&get(&both, "/secret/1").await);
    is_hit(&get(&both, "/secret/2").await);
    assert_eq!(stage.origin.requests().len(), 2);

    // With the old key taken out, what it wrote is a miss and no failure.
    is_hit(&get(&later, "/secret/2").await);
    is_miss(&get(&later, "/secret/1").await);
    assert_eq!(stage.origin.requests().len(), 3);
    let failures = later.metric("outrigger_integrity_failures_total", &[]).await;
    assert!(failures < 0.5, "{failures}");
    let told = later.logs().find(0, |line| line.text("level") == "ERROR");
    assert!(told.is_none(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_with_a_mistake_leaves_the_old_one_in_force() {
    let stage = Stage::new().await;
    let other = stage.sidecar(&["a"]).await;
    let sidecar = stage.sidecar(&["a"]).await;
    let from = sidecar.logs().len();
    let broken = ring(&["a", "b"]).replace("id: \"b\"", "name: \"b\"");
    sidecar.write_file("keyring.yaml", &broken);
    assert!(!sidecar.reloaded(from).await.applied);
    let told = sidecar.logs().text();
    assert!(
        told.contains("keyring.yaml:4:6") && told.contains("unknown key `name`"),
        "{told}"
    );
    let secret = broken.lines().last().unwrap().split('"').nth(3).unwrap();
    assert!(!told.contains(secret));

    is_miss(&get(&sidecar, "/secret/1").await);
    stage.keeps(1).await;
    is_hit(&get(&other, "/secret/1").await);
}

/// What is told of the levels below memory.
async fn below(sidecar: &Sidecar, target: &str) -> Value {
    let told = explain(sidecar, &harness::get(target)).await;
    assert_eq!(told["store"]["would"], true, "{told}");
    told["store"]["below"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_level_keeps_an_answer_is_explained() {
    let stage = Stage::new().await;
    let kept = |reason: Option<&str>| {
        let level = |name: &str| json!({"level": name, "would": reason.is_none(), "reason": reason});
        json!([level("disk"), level("fleet")])
    };
    let sealed = stage.sidecar(&["a"]).await;
    assert_eq!(below(&sealed, "/secret/1").await, kept(None));
    let plain = Sidecar::start(&stage.config("")).await;
    plain.joined().await;
    assert_eq!(below(&plain, "/open/1").await, kept(None));
    assert_eq!(below(&plain, "/secret/1").await, kept(Some("no-key")));
    // And so it is.
    is_miss(&get(&plain, "/secret/1").await);
    is_miss(&get(&plain, "/open/1").await);
    stage.keeps(1).await;

    let admin = format!("http://{}", plain.admin_address());
    fs::write(plain.directory().join("token"), Token::Viewer.secret()).unwrap();
    let url = format!("http://{}/secret/2", plain.address());
    let target = ["--admin", &admin, "--token-file", "token", &url];
    let printed = outrigger(plain.directory(), &[&["cache", "explain"], &target[..]].concat()).await;
    for level in ["disk", "fleet"] {
        assert!(
            printed.stdout.contains(&format!("not in {level} (no-key)")),
            "{printed:?}"
        );
    }
}
