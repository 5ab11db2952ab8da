//! Reload as a transaction: all of the new configuration, or the old one and every reason.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Call, ConfigText, Load, OnClose, Origin, Reply, Sidecar, Token, eventually};

async fn answering() -> Origin {
    let origin = Origin::start().await;
    origin.on("*", |seen| Reply::ok(seen.path).cache_control("max-age=600"));
    origin
}

/// Routes `/a` and `/b`; only the second differs with `number`.
fn config(origin: &Origin, number: usize) -> ConfigText {
    ConfigText::new(origin.address()).routes(&format!(
        r#"
- name: a
  match: {{path_prefix: /a}}
  upstream: hub
  cache: {{mode: "on"}}
- name: b
  match: {{path_prefix: /b}}
  upstream: hub
  cache: {{mode: "on"}}
  headers: {{response: {{set: {{x-number: "{number}"}}}}}}
"#
    ))
}

/// One of several ways to be wrong.
fn broken(good: &str, number: usize) -> String {
    match number % 4 {
        0 => format!("{good}routes_: []\n"),
        1 => good.replace("upstream: hub", "upstream: hut"),
        2 => format!("{good}  - [\n"),
        _ => good.replace("match:", "matches:"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_under_load_fail_no_request() {
    let origin = answering().await;
    let sidecar = Sidecar::start(&config(&origin, 0)).await;
    let load = Load::start(sidecar.address(), 8, &["/a", "/b"], OnClose::Reconnect);
    load.more(100).await;
    let (mut generation, mut number) = (None, 0);
    for round in 0..50 {
        let is_broken = round % 10 < 3;
        let good = config(&origin, round + 1).text();
        let reload = sidecar
            .reload(&if is_broken { broken(&good, round) } else { good })
            .await;
        assert_eq!(
            reload.applied,
            !is_broken,
            "round {round}: {}",
            sidecar.logs().text()
        );
        if is_broken {
            assert!(
                generation.is_none_or(|last| last == reload.generation),
                "a refused file is no generation"
            );
        } else {
            assert!(
                generation.is_none_or(|last| last < reload.generation),
                "generations grow"
            );
            number = round + 1;
        }
        generation = Some(reload.generation);
        assert_eq!(
            sidecar.get("/b").await.header("x-number"),
            number.to_string(),
            "round {round}"
        );
    }
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.answered > 100);
    for (result, expected) in [("applied", 35.0), ("refused", 15.0)] {
        let labels = [("result", result)];
        assert_eq!(
            sidecar.metric("outrigger_config_reloads_total", &labels).await,
            expected,
            "{result}"
        );
    }
}

#[tokio::test]
async fn warm_entries_of_unchanged_routes_stay() {
    let origin = answering().await;
    let sidecar = Sidecar::start(&config(&origin, 0)).await;
    sidecar.get("/a").await;
    sidecar.get("/b").await;
    assert!(sidecar.reload(&config(&origin, 1).text()).await.applied);
    assert!(sidecar.get("/a").await.cache_says("hit"));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn an_unknown_key_keeps_the_old_configuration_and_is_reported() {
    let origin = answering().await;
    let sidecar = Sidecar::start(&config(&origin, 7)).await;
    let from = sidecar.logs().len();
    let wrong = config(&origin, 8)
        .text()
        .replace("path_prefix: /b", "path_prefx: /b");
    assert!(!sidecar.reload(&wrong).await.applied);
    assert_eq!(sidecar.get("/b").await.header("x-number"), "7");
    assert_eq!(
        sidecar
            .metric("outrigger_config_last_reload_successful", &[])
            .await,
        0.0
    );
    let told = sidecar.logs().text();
    let told = told.lines().skip(from).collect::<String>();
    assert!(
        told.contains("path_prefx") && told.contains("path_prefix"),
        "the key and the hint: {told}"
    );

    assert!(sidecar.reload(&config(&origin, 9).text()).await.applied);
    assert_eq!(sidecar.get("/b").await.header("x-number"), "9");
    assert_eq!(
        sidecar
            .metric("outrigger_config_last_reload_successful", &[])
            .await,
        1.0
    );
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_the_rest_takes_effect() {
    let origin = answering().await;
    let sidecar = Sidecar::start(&config(&origin, 1)).await;
    let from = sidecar.logs().len();
    let moved = config(&origin, 2).text().replace("workers: 2", "workers: 1");
    let reload = sidecar.reload(&moved).await;
    let told = sidecar.logs().text();
    let told = told.lines().skip(from).collect::<String>();
    assert!(told.contains("workers") && told.contains("restart"), "{told}");
    // Never silently ignored: either everything else is in force, or nothing is and the answer is no.
    let expected = if reload.applied { "2" } else { "1" };
    assert_eq!(sidecar.get("/b").await.header("x-number"), expected);
}

#[tokio::test]
async fn a_new_upstream_is_in_force_at_once() {
    let (old, new) = (answering().await, answering().await);
    new.on("/c", |_| Reply::ok("new").cache_control("no-store"));
    old.on("/c", |_| Reply::ok("old").cache_control("no-store"));
    let sidecar = Sidecar::start(&ConfigText::new(old.address())).await;
    assert_eq!(sidecar.get("/c").await.text(), "old");
    assert!(
        sidecar
            .reload(&ConfigText::new(new.address()).text())
            .await
            .applied
    );
    assert_eq!(sidecar.get("/c").await.text(), "new");
}

#[tokio::test]
async fn sighup_and_the_admin_call_reload_too() {
    let origin = answering().await;
    let sidecar = Sidecar::start(&config(&origin, 1)).await;
    // The file is as it was: nobody but the signal asks.
    sidecar.signal(Signal::SIGHUP);
    eventually("the reload that the signal asked for", async || {
        let unchanged = [("result", "unchanged")];
        (sidecar.metric("outrigger_config_reloads_total", &unchanged).await >= 1.0).then_some(())
    })
    .await;

    let call = |token: Token| Call::new("POST", "/config/reload").bearer(&token.secret());
    assert_eq!(sidecar.admin(call(Token::Operator)).await.status, 403);
    sidecar.write_config(&config(&origin, 2).text());
    let answer = sidecar.admin(call(Token::Admin)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["generation"].is_u64(), "{answer:?}");
    assert_eq!(sidecar.get("/b").await.header("x-number"), "2");

    sidecar.write_config("version: 1\nroutes: [\n");
    let answer = sidecar.admin(call(Token::Admin)).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert_eq!(sidecar.get("/b").await.header("x-number"), "2");
}

/// A mounted ConfigMap: `file -> ..data/file`, `..data -> ..NAME`, swapped by a rename of `..data`.
fn mount(directory: &Path, version: &str, yaml: &str) {
    let data = directory.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("outrigger.yaml"),
        yaml.replace("@DIR@", directory.to_str().unwrap()),
    )
    .unwrap();
    symlink(format!("..{version}"), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_symlink() {
    let origin = answering().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("outrigger.yaml");
    fs::create_dir(directory.path().join("state")).unwrap();
    mount(directory.path(), "one", &config(&origin, 1).text());
    symlink("..data/outrigger.yaml", &file).unwrap();
    let sidecar = Sidecar::start_in(directory, &file).await;
    assert_eq!(sidecar.get("/b").await.header("x-number"), "1");

    for (version, number) in [("two", 2), ("three", 3)] {
        let from = sidecar.logs().len();
        mount(sidecar.directory(), version, &config(&origin, number).text());
        assert!(sidecar.reloaded(from).await.applied);
        assert_eq!(sidecar.get("/b").await.header("x-number"), number.to_string());
    }
}
