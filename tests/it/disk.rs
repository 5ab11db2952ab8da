//! A level on disk: what outlives the process, what must not, and what happens when the disk is of no use.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    Answer, Call, ConfigText, Connection, Gate, Origin, Reply, Sidecar, Token, eventually, outrigger,
};

/// An origin that counts its answers in them, fresh for an hour.
async fn counting() -> Origin {
    let origin = Origin::start().await;
    let answers = std::sync::atomic::AtomicUsize::new(0);
    origin.on("*", move |seen| {
        let number = answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        Reply::ok(format!("{number} {} {}", seen.method, seen.path))
            .cache_control("max-age=3600")
            .header("etag", "\"1\"")
    });
    origin
}

/// The host is part of the key; the port that a sidecar gets is not the same after a restart.
const HOST: &str = "hub.local";

fn call(target: &str) -> Call {
    Call::get(target).header("host", HOST)
}

async fn ask(sidecar: &Sidecar, target: &str) -> Answer {
    sidecar.fetch(call(target)).await
}

fn over_disk(origin: &Origin) -> ConfigText {
    ConfigText::new(origin.address()).level("disk: {name: l2, path: \"@DIR@/l2\", capacity: 64MiB}")
}

/// Waits until so many writes have reached the level, and none waits.
async fn written(sidecar: &Sidecar, writes: usize) {
    let level = ("level", "l2");
    eventually("the writes", async || {
        let done = sidecar
            .metric("outrigger_level_duration_seconds_count", &[level, ("op", "put")])
            .await;
        let waiting = sidecar.metric("outrigger_level_queue_length", &[level]).await;
        (done >= writes as f64 && waiting < 0.5).then_some(())
    })
    .await;
}

async fn hits(sidecar: &Sidecar, level: &str) -> f64 {
    sidecar
        .metric(
            "outrigger_cache_requests_total",
            &[("level", level), ("result", "hit")],
        )
        .await
}

async fn up(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_level_up", &[("level", "l2")]).await
}

#[tokio::test]
async fn hits_outlive_the_process_however_it_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let origin = counting().await;
        let sidecar = Sidecar::start(&over_disk(&origin)).await;
        for path in ["/a", "/b", "/c"] {
            assert!(ask(&sidecar, path).await.cache_says("stored"), "{path}");
        }
        written(&sidecar, 3).await;
        let sidecar = sidecar.restart(signal).await;
        for (number, path) in [(1, "/a"), (2, "/b"), (3, "/c")] {
            let answer = ask(&sidecar, path).await;
            assert!(answer.cache_says("hit"), "{signal} {path} {answer:?}");
            assert_eq!(answer.text(), format!("{number} GET {path}"));
            assert!(answer.header("age").parse::<u64>().is_ok(), "{answer:?}");
        }
        assert_eq!(
            (hits(&sidecar, "l2").await, hits(&sidecar, "l1").await),
            (3.0, 0.0)
        );
        assert!(ask(&sidecar, "/a").await.cache_says("hit"));
        assert_eq!(hits(&sidecar, "l1").await, 1.0, "it is in memory again");
        assert_eq!(origin.requests().len(), 3);
    }
}

#[tokio::test]
async fn without_a_state_directory_the_level_lends_its_own() {
    let origin = counting().await;
    let config = over_disk(&origin)
        .text()
        .replace("  state_dir: \"@DIR@/state\"\n", "");
    let sidecar = Sidecar::start_text(&config).await;
    ask(&sidecar, "/a").await;
    ask(&sidecar, "/b").await;
    sidecar.purge(&json!({"prefix": "/b"})).await;
    written(&sidecar, 2).await;
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    assert!(ask(&sidecar, "/a").await.cache_says("hit"));
    assert!(!ask(&sidecar, "/b").await.cache_says("hit"));
}

#[tokio::test]
async fn a_purge_holds_over_a_restart() {
    let origin = counting().await;
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    for path in ["/kept", "/gone", "/soft"] {
        ask(&sidecar, path).await;
    }
    written(&sidecar, 3).await;
    // The process is killed before the level has deleted anything, for all that anybody knows.
    sidecar.purge(&json!({"prefix": "/gone"})).await;
    sidecar.purge(&json!({"prefix": "/soft", "mode": "soft"})).await;
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    assert!(ask(&sidecar, "/kept").await.cache_says("hit"));
    let gone = ask(&sidecar, "/gone").await;
    assert!(!gone.cache_says("hit"), "{gone:?}");
    assert_eq!(origin.last("/gone").header("if-none-match"), "");
    let soft = ask(&sidecar, "/soft").await;
    assert!(!soft.cache_says("hit"), "{soft:?}");
    assert_eq!(
        origin.last("/soft").header("if-none-match"),
        "\"1\"",
        "it is validated"
    );
}

#[tokio::test]
async fn what_an_unsafe_request_has_changed_is_not_served_after_a_restart() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let origin = counting().await;
        let sidecar = Sidecar::start(&over_disk(&origin)).await;
        ask(&sidecar, "/a").await;
        ask(&sidecar, "/b").await;
        written(&sidecar, 2).await;
        assert_eq!(
            sidecar
                .fetch(Call::json("/a", "{}").header("host", HOST))
                .await
                .status,
            200
        );
        let sidecar = sidecar.restart(signal).await;
        // RFC 9111, section 4.4.
        let changed = ask(&sidecar, "/a").await;
        assert!(!changed.cache_says("hit"), "{signal} {changed:?}");
        assert!(ask(&sidecar, "/b").await.cache_says("hit"), "{signal}");
    }
}

#[tokio::test]
async fn every_kind_of_request_is_answered_from_below() {
    let origin = counting().await;
    let config = over_disk(&origin).routes(
        r#"
- {name: read_only, match: {path_prefix: /ro/}, upstream: hub, cache: {mode: read_only}}
- {name: twice, match: {path_prefix: /twice/}, upstream: hub, cache: {mode: "on", min_uses: 2}}
- {name: control, match: {path_prefix: /}, upstream: hub, cache: {mode: "on", client_control: honour}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    for path in ["/head", "/range", "/only", "/validated"] {
        ask(&sidecar, path).await;
    }
    ask(&sidecar, "/twice/a").await;
    ask(&sidecar, "/twice/a").await;
    written(&sidecar, 5).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    let asked = origin.requests().len();

    let head = sidecar
        .fetch(Call::new("HEAD", "/head").header("host", HOST))
        .await;
    assert!(head.cache_says("hit") && head.text().is_empty(), "{head:?}");
    let range = sidecar.fetch(call("/range").header("range", "bytes=0-0")).await;
    assert_eq!((range.status.as_u16(), range.text()), (206, "2"));
    let only = call("/only").header("cache-control", "only-if-cached");
    assert!(sidecar.fetch(only).await.cache_says("hit"));
    let unchanged = call("/validated").header("if-none-match", "\"1\"");
    assert_eq!(sidecar.fetch(unchanged).await.status, 304);
    assert!(
        ask(&sidecar, "/twice/a").await.cache_says("hit"),
        "what is kept need not be asked for often"
    );
    assert_eq!(origin.requests().len(), asked);

    let none = call("/none").header("cache-control", "only-if-cached");
    assert_eq!(sidecar.fetch(none).await.status, 504);
    assert_eq!(
        ask(&sidecar, "/ro/a").await.text(),
        format!("{} GET /ro/a", asked + 1)
    );
}

#[tokio::test]
async fn explain_tells_what_lies_below() {
    let origin = counting().await;
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    ask(&sidecar, "/a").await;
    written(&sidecar, 1).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    let asked = json!({"method": "GET", "url": "http://hub.local/a"}).to_string();
    let call = Call::json("/api/v1/performance/cache/explain", asked);
    let told = sidecar.admin(call.bearer(&Token::Operator.secret())).await.json();
    assert_eq!(
        (&told["verdict"], &told["level"]),
        (&json!("hit"), &json!("l2")),
        "{told}"
    );
    assert_eq!(told["stored"][0]["level"], "l2");
    assert!(ask(&sidecar, "/a").await.cache_says("hit"));
}

#[tokio::test]
async fn concurrent_requests_for_a_cold_key_look_below_once() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/a", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("body").cache_control("max-age=60")
        }
    });
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    let gets = async || {
        let labels = [("level", "l2"), ("op", "get")];
        sidecar
            .metric("outrigger_level_duration_seconds_count", &labels)
            .await
    };
    assert_eq!(gets().await, 0.0);
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(Connection::open(sidecar.address()).await.unwrap());
    }
    let answers = join_all(
        connections
            .iter_mut()
            .map(|connection| connection.fetch(call("/a"))),
    );
    let (answers, ()) = tokio::join!(answers, async {
        sidecar.active(100).await;
        gate.open();
    });
    assert!(answers.into_iter().all(|answer| answer.unwrap().text() == "body"));
    assert_eq!((gets().await, origin.count("/a")), (1.0, 1));
}

/// Starts over a level that cannot be used, and returns what its one log line says.
async fn degraded(origin: &Origin, level: &str) -> (Sidecar, String) {
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).level(level)).await;
    assert_eq!(up(&sidecar).await, 0.0);
    assert_eq!(sidecar.admin(Call::get("/readyz")).await.status, 200);
    let ready = sidecar.admin(Call::get("/readyz?verbose")).await;
    assert_eq!(ready.status, 200);
    let checks = ready.json()["checks"].clone();
    let check = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "level l2")
        .unwrap()
        .clone();
    assert_eq!(check["status"], "degraded", "{check}");
    // The other level does the work.
    assert!(ask(&sidecar, "/a").await.cache_says("stored"));
    assert!(ask(&sidecar, "/a").await.cache_says("hit"));
    let lines = sidecar.logs().text();
    let told: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let trouble = check["detail"].as_str().unwrap().to_owned();
    assert!(
        told[0].contains("cache level degraded") && told[0].contains("\"level\":\"l2\""),
        "{told:?}"
    );
    (sidecar, trouble)
}

#[tokio::test]
async fn a_directory_of_no_use_degrades_to_the_other_levels() {
    let origin = counting().await;
    for (path, capacity, expected) in [
        // Not even the superuser makes a directory there.
        ("/proc/outrigger", "64MiB", "/proc/outrigger"),
        // More than any disk has.
        ("@DIR@/l2", "1000TiB", "l2"),
        ("@DIR@/outrigger.yaml", "64MiB", "exists"),
    ] {
        let level = format!("disk: {{name: l2, path: \"{path}\", capacity: {capacity}}}");
        let (_sidecar, trouble) = degraded(&origin, &level).await;
        assert!(trouble.contains(expected), "{trouble}");
    }
}

#[tokio::test]
async fn a_directory_that_can_be_used_again_is_used_again() {
    let origin = counting().await;
    let level = "disk: {name: l2, path: \"@DIR@/viewer.sha256\", capacity: 64MiB}";
    let (sidecar, trouble) = degraded(&origin, level).await;
    assert!(trouble.contains("viewer.sha256"), "{trouble}");
    fs::remove_file(sidecar.directory().join("viewer.sha256")).unwrap();
    eventually("the level", async || (up(&sidecar).await > 0.5).then_some(())).await;
    ask(&sidecar, "/b").await;
    written(&sidecar, 1).await;
}

#[tokio::test]
async fn rubbish_in_the_directory_is_an_empty_level() {
    let origin = counting().await;
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    ask(&sidecar, "/a").await;
    written(&sidecar, 1).await;
    let file = sidecar.directory().join("l2/values-1");
    let rubbish: Vec<u8> = (0..fs::metadata(&file).unwrap().len())
        .map(|n| ((n * 7919) >> 3) as u8)
        .collect();
    fs::write(&file, rubbish).unwrap();
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    assert_eq!(up(&sidecar).await, 1.0);
    assert!(!ask(&sidecar, "/a").await.cache_says("hit"));
    written(&sidecar, 1).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    assert!(ask(&sidecar, "/a").await.cache_says("hit"));
}

/// Changes the first byte of every place where `text` stands in the file; how many there were.
fn flip(file: &Path, text: &[u8]) -> usize {
    let bytes = fs::read(file).unwrap();
    let open = fs::File::options().write(true).open(file).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, text).collect();
    for at in &places {
        open.write_all_at(&[text[0] ^ 1], *at as u64).unwrap();
    }
    places.len()
}

#[tokio::test]
async fn a_value_that_was_changed_on_disk_is_a_miss() {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        Reply::ok(format!("canary of {}", seen.path)).cache_control("max-age=60")
    });
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    ask(&sidecar, "/a").await;
    ask(&sidecar, "/b").await;
    written(&sidecar, 2).await;
    assert_eq!(flip(&sidecar.directory().join("l2/values-1"), b"canary of /a"), 1);
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    let answer = ask(&sidecar, "/a").await;
    assert!(!answer.cache_says("hit"), "{answer:?}");
    assert_eq!(answer.text(), "canary of /a");
    assert!(ask(&sidecar, "/b").await.cache_says("hit"));
    assert_eq!((origin.count("/a"), origin.count("/b")), (2, 1));
}

#[tokio::test]
async fn statistics_tell_of_every_level() {
    let origin = counting().await;
    let sidecar = Sidecar::start(&over_disk(&origin)).await;
    ask(&sidecar, "/a").await;
    written(&sidecar, 1).await;
    let call = Call::get("/api/v1/performance/cache/stats").bearer(&Token::Viewer.secret());
    let stats = sidecar.admin(call).await.json();
    let level = &stats["levels"][1];
    assert_eq!(stats["levels"][0]["kind"], "memory");
    assert_eq!(
        (&level["name"], &level["kind"], &level["state"]),
        (&json!("l2"), &json!("disk"), &json!("up"))
    );
    assert_eq!(
        (&level["misses"], &level["put"]["calls"], &level["queued"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(level["capacity"], 64 << 20);
    assert!(
        level["bytes_written"].as_u64().unwrap() > 0 && level["compression_ratio"].as_f64().unwrap() > 0.5
    );
    let admin = format!("http://{}", sidecar.admin_address());
    let token = sidecar.directory().join("token");
    fs::write(&token, Token::Viewer.secret()).unwrap();
    let arguments = ["cache", "stats", "--admin", &admin, "--token-file", "token"];
    let printed = outrigger(sidecar.directory(), &arguments).await;
    assert!(
        printed.stdout.contains("GET P99") && printed.stdout.contains("l2"),
        "{printed:?}"
    );
}
