//! What the admin API tells of the past, and what of it outlives the process.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, Token, eventually};

async fn stage() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("body").cache_control("max-age=60"));
    origin.on("/broken", |_| Reply::status(503));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    (origin, sidecar)
}

async fn told(sidecar: &Sidecar, target: &str) -> Value {
    let target = format!("/api/v1/performance/{target}");
    let answer = sidecar
        .admin(Call::get(&target).bearer(&Token::Viewer.secret()))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The figures of the only route, once they tell of so many requests.
async fn route(sidecar: &Sidecar, requests: u64) -> Value {
    eventually("the requests are told", async || {
        let shown = told(sidecar, "endpoints?hours=1").await;
        let mut routes = shown["routes"].as_array().unwrap().iter();
        let api = routes.find(|route| route["name"] == "api")?.clone();
        (api["requests"] == requests).then_some(api)
    })
    .await
}

#[tokio::test]
async fn routes_tell_what_they_did() {
    let (_origin, sidecar) = stage().await;
    for token in ["one", "two"] {
        for _ in 0..2 {
            sidecar.fetch(Call::get("/a").bearer(token)).await;
        }
    }
    sidecar.get("/broken").await;
    let api = route(&sidecar, 5).await;
    assert_eq!((&api["errors"], &api["error_ratio"]), (&json!(1), &json!(0.2)));
    assert_eq!((&api["hits"], &api["hit_ratio"]), (&json!(2), &json!(0.4)));
    assert_eq!(
        (&api["bytes_out"], &api["unique_principals"]),
        (&json!(16), &json!(2))
    );
    let quantile = |name: &str| api[name].as_f64().unwrap();
    assert!(
        quantile("p50_seconds") <= quantile("p99_seconds") && quantile("p50_seconds") > 0.0,
        "{api}"
    );
    let shown = told(&sidecar, "endpoints").await;
    assert_eq!(shown["total"]["requests"], 5, "{shown}");
    assert_eq!(shown["upstreams"][0]["requests"], 3, "{shown}");
    assert_eq!(shown["levels"][0]["name"], "l1", "{shown}");
    assert!(!shown.to_string().contains("one"), "{shown}");
}

#[tokio::test]
async fn the_system_is_told_by_step() {
    let (_origin, sidecar) = stage().await;
    eventually("a sample", async || {
        let shown = told(&sidecar, "system?hours=0.01").await;
        shown["total"]["process"]["memory_bytes"]["max"]
            .as_f64()
            .filter(|bytes| *bytes > 1e6)?;
        let series = shown["series"].as_array().unwrap();
        assert!(series.len() <= 61, "{shown}");
        series
            .iter()
            .any(|step| step["host"]["load"]["mean"].is_number())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn windows_are_bounded() {
    let (_origin, sidecar) = stage().await;
    for query in [
        "hours=0",
        "hours=-1",
        "hours=9601",
        "hours=nan",
        "hours=inf",
        "hours=x",
        "days=1",
    ] {
        for group in ["endpoints", "system"] {
            let target = format!("/api/v1/performance/{group}?{query}");
            let answer = sidecar
                .admin(Call::get(&target).bearer(&Token::Viewer.secret()))
                .await;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
    }
    told(&sidecar, "endpoints?hours=9600").await;
}

#[tokio::test]
async fn it_outlives_a_restart() {
    let (_origin, sidecar) = stage().await;
    sidecar.get("/a").await;
    route(&sidecar, 1).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    sidecar.get("/a").await;
    route(&sidecar, 2).await;
}

#[tokio::test]
async fn after_a_kill_it_goes_on_with_what_was_written() {
    let (_origin, sidecar) = stage().await;
    sidecar.get("/a").await;
    route(&sidecar, 1).await;
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    route(&sidecar, 1).await;
    let sidecar = sidecar.restart(Signal::SIGKILL).await;
    route(&sidecar, 1).await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_traffic_goes_on() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("body").cache_control("max-age=60"));
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("history.sqlite3"), "no database").unwrap();
    let file = directory.path().join("outrigger.yaml");
    let text = ConfigText::new(origin.address()).text();
    fs::write(&file, text.replace("@DIR@", directory.path().to_str().unwrap())).unwrap();
    let sidecar = Sidecar::start_in(directory, &file).await;
    sidecar.get("/a").await;
    route(&sidecar, 1).await;
    let aside = sidecar.directory().join("state/history.sqlite3.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), "no database");
    assert!(sidecar.logs().text().contains("set aside"));
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    route(&sidecar, 1).await;
}
