//! Warm-up: what is fetched before it is asked for, and what is learned for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, Token, eventually};

const PATH: &str = "/api/v1/performance/cache/warm";

async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=600"));
    origin
}

/// The warm-ups that are known.
async fn jobs(sidecar: &Sidecar) -> Vec<Value> {
    let answer = sidecar
        .admin(Call::get(PATH).bearer(&Token::Viewer.secret()))
        .await;
    answer.json()["jobs"].as_array().unwrap().clone()
}

/// Waits for the end of the only warm-up of entry `name`.
async fn ended(sidecar: &Sidecar, name: &str) -> Value {
    eventually("the end of a warm-up", async || {
        let jobs = jobs(sidecar).await;
        let job = jobs.into_iter().find(|job| job["name"] == name)?;
        (!job["ended_at"].is_null()).then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_list_at_start_makes_the_first_request_a_hit() {
    let origin = origin().await;
    let config = ConfigText::new(origin.address())
        .cache("warm: [{name: models, at: start, requests: [{path: '/v1/models?all=1'}, {path: /gone, host: nowhere}]}]")
        .with("telemetry: {access_log: {enabled: true}}");
    let sidecar = Sidecar::start(&config).await;
    let job = ended(&sidecar, "models").await;
    assert_eq!(
        (&job["state"], &job["total"], &job["fetched"], &job["trigger"]),
        (&json!("done"), &json!(2), &json!(2), &json!("start")),
        "{job}"
    );
    let answer = sidecar.get("/v1/models?all=1").await;
    assert!(answer.cache_says("hit"), "{answer:?}");
    assert_eq!(origin.count("/v1/models"), 1);
    let seen = origin.last("/v1/models");
    assert_eq!(seen.header("host"), sidecar.address().to_string());
    assert!(seen.header("user-agent").ends_with("(warm-up)"), "{seen:?}");
    // It is told as what it is, and not as traffic.
    let requests =
        async |labels: &[(&str, &str)]| sidecar.metric("outrigger_cache_requests_total", labels).await;
    assert_eq!(
        (requests(&[]).await, requests(&[("result", "hit")]).await),
        (1.0, 1.0)
    );
    let warmed = sidecar
        .metric("outrigger_warm_requests_total", &[("result", "fetched")])
        .await;
    assert_eq!(warmed, 2.0);
    assert_eq!(
        sidecar
            .metric("outrigger_warm_jobs_total", &[("state", "done")])
            .await,
        1.0
    );
    let upstream = "outrigger_http_client_request_duration_seconds_count";
    assert_eq!(sidecar.metric(upstream, &[]).await, 2.0);
    let line = |warm: bool| {
        let access = sidecar.access_log();
        async move {
            access
                .wait_for("a line", 0, |line| {
                    line.text("path") == "/v1/models" && line.is("warm_up") == warm
                })
                .await
        }
    };
    assert_eq!(line(true).await.text("cache"), "miss");
    assert_eq!(line(false).await.text("cache"), "hit");
    let stats = sidecar
        .admin(Call::get("/api/v1/performance/cache/stats").bearer(&Token::Viewer.secret()))
        .await;
    assert_eq!(stats.json()["routes"]["api"]["hits"], 1, "{stats:?}");
}

#[tokio::test]
async fn a_body_that_counts_is_warmed_with_it() {
    let origin = origin().await;
    let config = ConfigText::new(origin.address())
        .routes(
            r#"
- name: chat
  match: {hosts: [hub.local], path: /v1/chat}
  upstream: hub
  cache: {mode: "on", methods: [POST], ttl: 60s, min_uses: 3, vary: {body: {json: {}}}}
"#,
        )
        .cache(
            r#"warm: [{name: chat, at: start, requests: [{method: POST, path: /v1/chat, headers: {content-type: application/json}, body: '{"a": 1, "b": 2}'}]}]"#,
        );
    let sidecar = Sidecar::start(&config).await;
    let job = ended(&sidecar, "chat").await;
    assert_eq!(job["fetched"], 1, "{job}");
    // Without a host of its own it is the route's.
    let call = Call::json("/v1/chat", r#"{"b":2,"a":1}"#).replace("host", "hub.local");
    let answer = sidecar.fetch(call).await;
    assert!(answer.cache_says("hit"), "{answer:?}");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(origin.last("/v1/chat").body, r#"{"a": 1, "b": 2}"#);
}

#[tokio::test]
async fn a_reload_brings_new_entries_and_takes_old_ones_away() {
    let origin = origin().await;
    let config = ConfigText::new(origin.address());
    let sidecar = Sidecar::start(&config.clone().cache("warm: [{name: a, requests: [{path: /a}]}]")).await;
    let start = async |name: &str| {
        let call = Call::json(PATH, json!({"name": name}).to_string());
        sidecar
            .admin(call.bearer(&Token::Operator.secret()))
            .await
            .status
            .as_u16()
    };
    assert_eq!((start("a").await, start("b").await), (202, 404));
    let new = config.cache("warm: [{name: b, schedule: '0 0 1 1 *', requests: [{path: /b}]}]");
    assert!(sidecar.reload(&new.text()).await.applied);
    assert_eq!((start("a").await, start("b").await), (404, 202));
    ended(&sidecar, "b").await;
    assert!(sidecar.get("/b").await.cache_says("hit"));
}

/// Paths as a popular site is asked for them: the first half of all requests is for few of them.
fn traffic() -> Vec<String> {
    let mut paths = Vec::new();
    for number in 0..40_u32 {
        for _ in 0..(40 / (number + 1)).max(1) {
            paths.push(format!("/items/{number}"));
        }
    }
    paths
}

/// Sends the traffic of a minute. Gives the share of hits.
async fn minute(sidecar: &Sidecar) -> f64 {
    let traffic = traffic();
    let mut hits = 0_u32;
    for path in &traffic {
        // Clients know the service by its name; the port of the tests changes with each run.
        let call = Call::get(path)
            .header("host", "hub.local")
            .header("accept-encoding", "gzip");
        hits += u32::from(sidecar.fetch(call).await.cache_says("hit"));
    }
    f64::from(hits) / traffic.len() as f64
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// Ends the process as an orchestrator does, and keeps its state.
async fn restart(mut sidecar: Sidecar, config: &ConfigText) -> Sidecar {
    let kept = tempfile::tempdir().unwrap();
    sidecar.signal(Signal::SIGTERM);
    sidecar.wait_exit().await;
    for from in files(&sidecar.directory().join("state")) {
        let to = kept.path().join(from.strip_prefix(sidecar.directory()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, to).unwrap();
    }
    start_in(kept, config).await
}

async fn start_in(directory: tempfile::TempDir, config: &ConfigText) -> Sidecar {
    let file: PathBuf = directory.path().join("outrigger.yaml");
    let text = config.text().replace("@DIR@", directory.path().to_str().unwrap());
    fs::write(&file, text).unwrap();
    Sidecar::start_in(directory, &file).await
}

#[tokio::test]
async fn what_was_asked_for_most_is_there_after_a_restart() {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        Reply::ok(seen.path)
            .cache_control("max-age=600")
            .header("vary", "accept-encoding")
    });
    let with = ConfigText::new(origin.address()).cache("warm: [{name: top, at: start, top_keys: 25}]");
    let without = ConfigText::new(origin.address());
    let sidecar = Sidecar::start(&with).await;
    let first = minute(&sidecar).await;
    // A restart forgets everything,
    let sidecar = restart(sidecar, &without).await;
    let asked = origin.requests().len();
    let cold = minute(&sidecar).await;
    let cold_requests = origin.requests().len() - asked;
    // but for what it remembers of the first run.
    let sidecar = restart(sidecar, &with).await;
    let job = ended(&sidecar, "top").await;
    assert_eq!(
        (&job["total"], &job["fetched"]),
        (&json!(25), &json!(25)),
        "{job}"
    );
    let asked = origin.requests().len();
    let warm = minute(&sidecar).await;
    let warm_requests = origin.requests().len() - asked;
    println!(
        "hit ratio of the first minute: {:.3} without the top keys ({cold_requests} requests to the origin), \
         {:.3} with them ({warm_requests})",
        cold, warm
    );
    assert!((first - cold).abs() < f64::EPSILON);
    assert_eq!((cold_requests, warm_requests), (40, 15));
    assert!(warm > cold, "{warm} {cold}");
    // Those that are asked for most are the ones that were there.
    let again = restart(sidecar, &with).await;
    ended(&again, "top").await;
    for path in ["/items/0", "/items/1", "/items/9"] {
        let call = Call::get(path)
            .header("host", "hub.local")
            .header("accept-encoding", "gzip");
        assert!(again.fetch(call).await.cache_says("hit"), "{path}");
    }
}

#[tokio::test]
async fn a_corrupt_memory_of_the_last_run_is_set_aside() {
    let origin = origin().await;
    let config = ConfigText::new(origin.address()).cache("warm: [{name: top, at: start, top_keys: 25}]");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    let file = |name: &str, directory: &Path| directory.join("state").join(name);
    fs::write(file("top-keys", directory.path()), "garbage\n\0\u{1}").unwrap();
    let sidecar = start_in(directory, &config).await;
    assert_eq!(ended(&sidecar, "top").await["total"], 0);
    assert_eq!(sidecar.get("/a").await.status, 200);
    let aside = fs::read_to_string(file("top-keys.corrupt", sidecar.directory())).unwrap();
    assert!(aside.starts_with("garbage"));
    let told = sidecar
        .logs()
        .find(0, |line| line.text("message").contains("set aside"));
    assert!(told.is_some(), "{}", sidecar.logs().text());
}

#[tokio::test]
async fn no_secret_is_remembered() {
    let origin = origin().await;
    let routes = r#"
- name: mine
  match: {path_prefix: /mine/}
  upstream: hub
  cache: {mode: "on", ttl: 60s, vary: {principal: {header: x-user}, headers: [x-plan]}}
- name: tenants
  match: {path_prefix: /tenants/}
  upstream: hub
  cache: {mode: "on", ttl: 60s, share: {tenant: {header: x-tenant}}}
- name: shared
  match: {path_prefix: /shared/}
  upstream: hub
  cache: {mode: "on", ttl: 60s, share: all}
- name: chat
  match: {path: /chat}
  upstream: hub
  cache: {mode: "on", methods: [GET, POST], ttl: 60s, vary: {body: {json: {}}}}
"#;
    let config = ConfigText::new(origin.address())
        .routes(routes)
        .cache("warm: [{name: top, at: start, top_keys: 100}]");
    let mut sidecar = Sidecar::start(&config).await;
    let mut calls = vec![
        Call::get("/mine/a").header("x-user", "canary-user"),
        Call::get("/mine/a").header("x-plan", "canary-plan"),
        Call::get("/mine/a").header("x-other", "canary-other"),
        Call::get("/mine/a?key=canary-query"),
        Call::get("/mine/a").header("x-original-url", "/canary-override"),
        Call::get("/tenants/a").header("x-tenant", "canary-tenant"),
        Call::json("/chat", r#"{"prompt": "canary-body"}"#),
    ];
    for name in [
        "authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-access-token",
    ] {
        for path in ["/mine/a", "/shared/a"] {
            calls.push(Call::get(path).header(name, "canary-credential"));
        }
    }
    for call in calls {
        assert_eq!(sidecar.fetch(call).await.status, 200);
    }
    assert_eq!(sidecar.get("/shared/public").await.status, 200);
    sidecar.signal(Signal::SIGTERM);
    sidecar.wait_exit().await;
    let mut names = BTreeSet::new();
    for path in files(&sidecar.directory().join("state")) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("canary"), "{path:?}: {text}");
        names.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.contains("top-keys"), "{names:?}");
    let kept = fs::read_to_string(sidecar.directory().join("state/top-keys")).unwrap();
    assert!(kept.contains("/shared/public"), "{kept}");
}

#[tokio::test]
async fn what_follows_is_fetched_when_its_forerunner_is_served() {
    let origin = Origin::start().await;
    // The second page is never fresh for long, so that every client would have to wait for it.
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=600"));
    let config = ConfigText::new(origin.address())
        .cache("warm: [{name: next, predict: {routes: [api], confidence: 50%}}]");
    let sidecar = Sidecar::start(&config).await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("/first").await.status, 200);
        assert_eq!(sidecar.get("/second").await.status, 200);
    }
    // Now it is known; the second page is thrown away and comes back when the first one is asked for.
    sidecar.purge(&json!({"prefix": "/second"})).await;
    assert_eq!(origin.count("/second"), 1);
    assert!(sidecar.get("/first").await.cache_says("hit"));
    origin.reached("/second", 2).await;
    eventually("the prediction to be stored", async || {
        let jobs = jobs(&sidecar).await;
        (jobs[0]["fetched"] == 1).then_some(())
    })
    .await;
    assert!(sidecar.get("/second").await.cache_says("hit"));
    let job = &jobs(&sidecar).await[0];
    assert_eq!(
        (&job["name"], &job["trigger"], &job["state"]),
        (&json!("next"), &json!("predict"), &json!("running")),
        "{job}"
    );
}
