//! Warm-ups take what a level below memory has, and ask the origin for the rest only.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, ConfigText, Origin, RedisServer, Reply, Sidecar, Token, eventually};

const PATH: &str = "/api/v1/performance/cache/warm";

/// Requests that are warmed.
const ALL: usize = 20;

fn path(number: usize) -> String {
    format!("/item/{number}")
}

async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=600"));
    origin
}

async fn ask(sidecar: &Sidecar, number: usize) -> crate::harness::Answer {
    let call = Call::get(&path(number)).header("host", "hub.local");
    sidecar.fetch(call).await
}

/// Fills all but the last two, and waits until the level has them.
async fn fill(sidecar: &Sidecar, level: &str) {
    for number in 0..ALL - 2 {
        assert!(ask(sidecar, number).await.cache_says("stored"));
    }
    eventually("the writes", async || {
        let labels = [("level", level), ("op", "put")];
        let done = sidecar
            .metric("outrigger_level_duration_seconds_count", &labels)
            .await;
        (done as usize >= ALL - 2).then_some(())
    })
    .await;
}

/// Warms all of them and gives what became of it.
async fn warm(sidecar: &Sidecar) -> Value {
    let urls: Vec<String> = (0..ALL)
        .map(|number| format!("http://hub.local{}", path(number)))
        .collect();
    let call = Call::json(PATH, json!({"urls": urls}).to_string());
    let started = sidecar.admin(call.bearer(&Token::Operator.secret())).await;
    assert_eq!(started.status, 202, "{started:?}");
    let location = started.header("location").to_owned();
    eventually("the end of a warm-up", async || {
        let call = Call::get(&location).bearer(&Token::Viewer.secret());
        let job = sidecar.admin(call).await.json();
        (!job["ended_at"].is_null()).then_some(job)
    })
    .await
}

/// What a warm-up of a sidecar without memory of its own costs the origin, and that everything is a memory hit then.
async fn is_filled_from_below(origin: &Origin, sidecar: &Sidecar) {
    let asked = origin.requests().len();
    let job = warm(sidecar).await;
    assert_eq!(
        (
            &job["state"],
            &job["total"],
            &job["fresh"],
            &job["fetched"],
            &job["failed"]
        ),
        (&json!("done"), &json!(ALL), &json!(ALL - 2), &json!(2), &json!(0)),
        "{job}"
    );
    assert_eq!(origin.requests().len(), asked + 2, "only for what no level has");
    for number in 0..ALL {
        assert!(ask(sidecar, number).await.cache_says("hit"));
    }
    let labels = [("level", "l1"), ("result", "hit")];
    let hits = sidecar.metric("outrigger_cache_requests_total", &labels).await;
    assert!((hits - ALL as f64).abs() < 0.5, "{hits} hits in memory");
    assert_eq!(origin.requests().len(), asked + 2);
}

#[tokio::test]
async fn after_a_restart_from_disk() {
    let origin = origin().await;
    let config =
        ConfigText::new(origin.address()).level("disk: {name: l2, path: \"@DIR@/l2\", capacity: 64MiB}");
    let sidecar = Sidecar::start(&config).await;
    fill(&sidecar, "l2").await;
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    is_filled_from_below(&origin, &sidecar).await;
}

#[tokio::test]
async fn a_new_replica_from_redis() {
    let (origin, server) = (origin().await, RedisServer::start().await);
    let url = server.address();
    let config = ConfigText::new(origin.address()).level(&format!(
        "redis: {{name: fleet, url: \"redis://{url}\", timeout: 2s}}"
    ));
    let first = Sidecar::start(&config).await;
    first.joined().await;
    fill(&first, "fleet").await;
    let second = Sidecar::start(&config).await;
    second.joined().await;
    is_filled_from_below(&origin, &second).await;
}
