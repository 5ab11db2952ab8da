//! Redis fails, and no request does: the sidecar goes on from memory and from the origin, and uses Redis again when it is
//! back, without a restart.

mod refusals;
mod topologies;
mod values;

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{
    Answer, Call, ConfigText, Fault, FaultProxy, Load, OnClose, Origin, RedisServer, Reply, Sidecar,
    eventually,
};

/// Targets of the load: with their bodies of 8 KiB far more than the memory level holds, so that Redis is asked.
const TARGETS: usize = 400;

/// A body that tells its path, long enough that memory does not hold all of them.
fn body(path: &str) -> String {
    format!("{path} {}", "x".repeat(8 << 10))
}

async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        Reply::ok(body(&seen.path)).cache_control("max-age=600")
    });
    origin
}

/// A sidecar with a small memory level over the Redis level of these keys.
async fn sidecar(origin: &Origin, redis: &str) -> Sidecar {
    Sidecar::start(&config(origin, redis)).await
}

fn config(origin: &Origin, redis: &str) -> ConfigText {
    ConfigText::new(origin.address())
        .memory("capacity: 1MiB")
        .level(&format!("redis: {{name: fleet, {redis}}}"))
}

fn url(address: std::net::SocketAddr) -> String {
    format!("url: \"redis://{address}\"")
}

fn targets() -> Vec<String> {
    (0..TARGETS).map(|number| format!("/item/{number}")).collect()
}

/// `GET target` by the name that all sidecars have for their clients; keys hold it.
async fn ask(sidecar: &Sidecar, target: &str) -> Answer {
    sidecar.fetch(Call::get(target).replace("host", "hub.test")).await
}

/// Waits until the level is ready for calls.
async fn opened(sidecar: &Sidecar) {
    sidecar.joined().await;
    eventually("the level to be opened", async || {
        let value = sidecar.metric("outrigger_level_up", &[("level", "fleet")]).await;
        (value > 0.5).then_some(())
    })
    .await;
}

/// Waits until the level is used, or is not.
async fn is_up(sidecar: &Sidecar, up: bool) {
    let mut number = 0;
    eventually(&format!("the level to be up: {up}"), async || {
        // A level that nobody asks is not found to be down.
        number += 1;
        drop(sidecar.get(&format!("/probe/{up}/{number}")).await);
        let value = sidecar.metric("outrigger_level_up", &[("level", "fleet")]).await;
        ((value > 0.5) == up).then_some(())
    })
    .await;
}

/// How often it happened to the level, by a metric and the value of its other label.
async fn counted(sidecar: &Sidecar, name: &str, label: (&str, &str)) -> f64 {
    sidecar.metric(name, &[("level", "fleet"), label]).await
}

/// Waits until the level is said to be degraded because of what has these words: in `/readyz?verbose`, which is 200 all
/// the same, and in the metrics.
async fn is_degraded_by(sidecar: &Sidecar, words: &str) {
    let mut number = 0;
    eventually(&format!("the level to be degraded by {words}"), async || {
        // What nobody stores is not found to be refused.
        number += 1;
        assert_eq!(
            sidecar
                .get(&format!("/probe/{}/{number}", words.trim()))
                .await
                .status,
            200
        );
        let answer = sidecar.admin(Call::get("/readyz?verbose")).await;
        assert_eq!(answer.status, 200);
        let answer = answer.json();
        let mut checks = answer["checks"].as_array().unwrap().iter();
        let level = checks.find(|check| check["name"] == "level fleet")?;
        let told = level["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains(words));
        (level["status"] == "degraded" && told).then_some(())
    })
    .await;
    let up = sidecar.metric("outrigger_level_up", &[("level", "fleet")]).await;
    assert!(up < 0.5, "{up}");
}

/// Load of eight clients on all targets.
fn load(sidecar: &Sidecar) -> Load {
    let targets = targets();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    Load::start(sidecar.address(), 8, &targets, OnClose::Reconnect)
}

/// Stops the load; every request must have been answered.
async fn unharmed(load: Load) {
    let report = load.stop().await;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.answered > 100, "{report:?}");
}

#[tokio::test]
async fn redis_down_at_start_delays_nothing_and_is_used_when_it_comes() {
    let origin = origin().await;
    let mut server = RedisServer::start().await;
    server.kill().await;
    let without = Instant::now();
    drop(Sidecar::start(&ConfigText::new(origin.address())).await);
    let without = without.elapsed();
    let with = Instant::now();
    let sidecar = sidecar(&origin, &url(server.address())).await;
    let with = with.elapsed();
    assert!(
        with < without + Duration::from_secs(1),
        "{without:?} without, {with:?} with"
    );
    assert_eq!(sidecar.get("/a").await.text(), body("/a"));
    assert!(sidecar.get("/a").await.header("cache-status").contains("hit"));
    let verbose = sidecar.admin(Call::get("/readyz?verbose")).await;
    assert_eq!(verbose.status, 200);
    assert!(verbose.text().contains("degraded"), "{}", verbose.text());
    server.restart().await;
    is_up(&sidecar, true).await;
    let verbose: Value = sidecar.admin(Call::get("/readyz?verbose")).await.json();
    assert!(!verbose.to_string().contains("degraded"), "{verbose}");
}

#[tokio::test]
async fn redis_killed_under_load_harms_no_request_and_comes_back() {
    let origin = origin().await;
    let mut server = RedisServer::start().await;
    let sidecar = sidecar(&origin, &url(server.address())).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(1000).await;
    server.kill().await;
    load.more(1000).await;
    is_up(&sidecar, false).await;
    server.restart().await;
    is_up(&sidecar, true).await;
    load.more(500).await;
    unharmed(load).await;
}

#[tokio::test]
async fn redis_frozen_under_load_harms_no_request_and_comes_back() {
    let origin = origin().await;
    let server = RedisServer::start().await;
    let sidecar = sidecar(&origin, &url(server.address())).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(1000).await;
    server.freeze();
    load.more(1000).await;
    is_up(&sidecar, false).await;
    server.thaw();
    is_up(&sidecar, true).await;
    load.more(500).await;
    unharmed(load).await;
}

#[tokio::test]
async fn redis_two_seconds_late_under_load_harms_no_request_and_comes_back() {
    let origin = origin().await;
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let sidecar = sidecar(&origin, &url(proxy.address())).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(1000).await;
    proxy.set(Fault::Delay(Duration::from_secs(2)));
    load.more(1000).await;
    is_up(&sidecar, false).await;
    proxy.set(Fault::None);
    is_up(&sidecar, true).await;
    load.more(500).await;
    unharmed(load).await;
}

#[tokio::test]
async fn a_frozen_redis_delays_a_few_requests_by_the_deadline_and_then_none() {
    let origin = origin().await;
    let server = RedisServer::start().await;
    let sidecar = sidecar(&origin, &url(server.address())).await;
    is_up(&sidecar, true).await;
    server.freeze();
    let began = Instant::now();
    for number in 0..400 {
        let one = Instant::now();
        assert_eq!(sidecar.get(&format!("/fresh/{number}")).await.status, 200);
        assert!(one.elapsed() < Duration::from_secs(1), "{:?}", one.elapsed());
    }
    // Each would have waited 25 ms for the deadline; the breaker spares them that.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    server.thaw();
}
