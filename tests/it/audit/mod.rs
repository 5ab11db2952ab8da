//! The audit log over the real binary: what was answered is in it, whatever happens, and nothing secret is.

mod crash;

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, Token, outrigger};

const AUDIT: &str = "/api/v1/performance/audit";

async fn stage() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("x").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    (origin, sidecar)
}

fn as_admin(method: &str, target: &str, body: &str) -> Call {
    let call = match body {
        "" => Call::new(method, target),
        _ => Call::json(target, body.to_owned()).method(method),
    };
    call.bearer(&Token::Admin.secret())
}

async fn audit(sidecar: &Sidecar, query: &str) -> Value {
    let call = Call::get(&format!("{AUDIT}{query}")).bearer(&Token::Viewer.secret());
    let answer = sidecar.admin(call).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn entries(page: &Value) -> &[Value] {
    page["entries"].as_array().unwrap()
}

/// Everything in the log, page by page.
async fn all(sidecar: &Sidecar) -> Vec<Value> {
    let (mut told, mut query) = (Vec::new(), String::from("?limit=1000"));
    loop {
        let page = audit(sidecar, &query).await;
        told.extend_from_slice(entries(&page));
        let Some(next) = page["next"].as_str() else {
            return told;
        };
        query = format!("?limit=1000&after={next}");
    }
}

fn log(sidecar: &Sidecar) -> String {
    let dir = sidecar.directory().join("state/audit");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

async fn verified(sidecar: &Sidecar) -> (Option<i32>, String) {
    let state = sidecar.directory().join("state");
    let ended = outrigger(&state, &["audit", "verify", "--dir", state.to_str().unwrap()]).await;
    (ended.code, ended.stdout + &ended.stderr)
}

#[tokio::test]
async fn every_change_is_told_with_who_made_it_and_what_became_of_it() {
    let (origin, sidecar) = stage().await;
    let endpoint = format!("/api/v1/performance/upstreams/hub/endpoints/{}", origin.address());
    let (out, back) = (format!("{endpoint}/drain"), format!("{endpoint}/enable"));
    let changes = [
        (
            "POST",
            "/api/v1/performance/cache/purge",
            r#"{"tags": ["a"], "mode": "soft"}"#,
            "cache.purge",
        ),
        (
            "POST",
            "/api/v1/performance/api/cache/clear?pattern=api_*",
            "",
            "api.cache.clear",
        ),
        (
            "POST",
            "/api/v1/performance/cache/warm",
            r#"{"urls": ["http://hub.local/a"]}"#,
            "cache.warm",
        ),
        ("PUT", "/log-level", r#"{"level": "debug"}"#, "log-level"),
        ("POST", "/config/reload", "", "config.reload"),
        ("POST", &out, "", "upstreams.endpoints.drain"),
        ("POST", &back, "", "upstreams.endpoints.enable"),
        (
            "POST",
            "/api/v1/performance/cache/warm",
            r#"{"name": "nothing"}"#,
            "cache.warm",
        ),
        ("POST", "/drain", "", "drain"),
    ];
    let mut ids = Vec::new();
    for (method, target, body, _) in changes {
        let answer = sidecar.admin(as_admin(method, target, body)).await;
        assert!(!answer.status.is_server_error(), "{target}: {answer:?}");
        let id = answer.header("outrigger-audit-id").to_owned();
        if target.ends_with("/cache/purge") {
            assert_eq!(answer.json()["audit_id"], id);
        }
        ids.push(id);
    }
    let told = audit(&sidecar, "").await;
    let told: Vec<&Value> = entries(&told).iter().rev().collect();
    assert_eq!(told.len(), changes.len(), "{told:?}");
    for ((entry, id), (method, target, _, action)) in told.iter().zip(&ids).zip(changes) {
        assert_eq!((&entry["id"], &entry["action"]), (&json!(id), &json!(action)));
        assert_eq!(
            (&entry["caller"], &entry["role"]),
            (&json!("admin"), &json!("admin"))
        );
        let path = target.split('?').next().unwrap();
        assert_eq!(entry["target"], format!("{method} {path}"));
        assert!(
            entry["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{entry}"
        );
        assert!(entry["ended"].is_string(), "{entry}");
    }
    assert_eq!(told[0]["parameters"], json!({"tags": ["a"], "mode": "soft"}));
    assert_eq!(told[1]["parameters"], json!({"pattern": "api_*"}));
    assert_eq!(
        (&told[7]["result"], &told[7]["status"]),
        (&json!("failed"), &json!(404))
    );
    assert_eq!(
        (&told[8]["result"], &told[8]["status"]),
        (&json!("done"), &json!(202))
    );
}

#[tokio::test]
async fn the_log_is_paged_and_filtered() {
    let (_origin, sidecar) = stage().await;
    for number in 0..7 {
        sidecar.purge(&json!({"tags": [number.to_string()]})).await;
    }
    sidecar
        .admin(as_admin("PUT", "/log-level", r#"{"level": "info"}"#))
        .await;
    let tags = |page: &Value| -> Vec<String> {
        let of = |entry: &Value| entry["parameters"]["tags"][0].as_str().unwrap().to_owned();
        entries(page).iter().map(of).collect()
    };
    let first = audit(&sidecar, "?limit=5&action=cache.purge").await;
    assert_eq!(tags(&first), ["6", "5", "4", "3", "2"]);
    let next = first["next"].as_str().unwrap();
    let second = audit(&sidecar, &format!("?limit=5&action=cache.purge&after={next}")).await;
    assert_eq!(tags(&second), ["1", "0"]);
    assert!(second["next"].is_null(), "{second}");
    assert_eq!(entries(&audit(&sidecar, "?caller=admin").await).len(), 1);
    assert_eq!(entries(&audit(&sidecar, "?caller=operator").await).len(), 7);
    let of_third = entries(&first)[4]["time"].as_str().unwrap();
    assert_eq!(
        entries(&audit(&sidecar, &format!("?since={of_third}")).await).len(),
        6
    );
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?after=x",
        "?after=-1",
        "?since=yesterday",
        "?a=b",
    ] {
        let call = Call::get(&format!("{AUDIT}{bad}")).bearer(&Token::Viewer.secret());
        assert_eq!(sidecar.admin(call).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn attempts_without_the_right_are_told_and_cannot_fill_the_disk() {
    let (_origin, sidecar) = stage().await;
    let purge = || Call::json("/api/v1/performance/cache/purge", r#"{"all": true}"#);
    assert_eq!(sidecar.admin(purge()).await.status, 401);
    assert_eq!(
        sidecar
            .admin(purge().bearer(&Token::Viewer.secret()))
            .await
            .status,
        403
    );
    let told = audit(&sidecar, "").await;
    let [newest, oldest] = entries(&told) else {
        panic!("{told}");
    };
    assert_eq!(
        (&newest["caller"], &newest["result"], &newest["status"]),
        (&json!("viewer"), &json!("refused"), &json!(403))
    );
    assert_eq!(
        (&oldest["caller"], &oldest["result"], &oldest["status"]),
        (&json!("anonymous"), &json!("refused"), &json!(401))
    );
    for _ in 0..100 {
        assert_eq!(sidecar.admin(purge()).await.status, 401);
    }
    let told = entries(&audit(&sidecar, "").await).len();
    assert!((20..30).contains(&told), "{told}");
    let suppressed = sidecar
        .metric("outrigger_audit_events_total", &[("result", "suppressed")])
        .await;
    assert!(suppressed > 70.0, "{suppressed}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_made_and_reads_go_on() {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("x").cache_control("max-age=60"));
    let config = ConfigText::new(origin.address());
    let sidecar = Sidecar::start_with_files(&config, &[("state/audit", "in the way")]).await;
    sidecar.get("/a").await;
    for (method, target, body) in [
        ("POST", "/api/v1/performance/cache/purge", r#"{"all": true}"#),
        ("PUT", "/log-level", r#"{"level": "error"}"#),
        ("POST", "/drain", ""),
    ] {
        let answer = sidecar.admin(as_admin(method, target, body)).await;
        assert_eq!(answer.status, 503, "{target}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["type"], "urn:outrigger:problem:not-audited");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    let hit = sidecar.get("/a").await;
    assert!(
        hit.header("cache-status").starts_with("outrigger; hit"),
        "{hit:?}"
    );
    assert_eq!(sidecar.admin(Call::get("/readyz")).await.status, 200);
    let stats = Call::get("/api/v1/performance/cache/stats").bearer(&Token::Viewer.secret());
    assert_eq!(sidecar.admin(stats).await.status, 200);
    let list = Call::get(AUDIT).bearer(&Token::Viewer.secret());
    assert_eq!(sidecar.admin(list).await.status, 503);
    let failed = sidecar
        .metric("outrigger_audit_events_total", &[("result", "failed")])
        .await;
    assert_eq!(failed, 3.0);
    fs::remove_file(sidecar.directory().join("state/audit")).unwrap();
    assert_eq!(sidecar.purge(&json!({"all": true})).await["matched"], 1);
    assert_eq!(all(&sidecar).await.len(), 1);
}

#[tokio::test]
async fn nothing_secret_is_in_the_log() {
    let (_origin, sidecar) = stage().await;
    let warm = json!({"requests": [{"path": "/a?key=canary-query", "headers": {"x-api-key": "canary-header",
        "authorization": "Bearer canary-token"}, "method": "GET", "body": "canary-body"}]});
    sidecar
        .admin(as_admin(
            "POST",
            "/api/v1/performance/cache/warm",
            &warm.to_string(),
        ))
        .await;
    sidecar
        .purge(&json!({"urls": ["http://hub.local/a?key=canary-url"], "tenant": "canary-tenant"}))
        .await;
    let bad = Call::json("/api/v1/performance/cache/purge", r#"{"all": true}"#).bearer("canary-bad-token");
    assert_eq!(sidecar.admin(bad).await.status, 401);
    let odd = as_admin(
        "PUT",
        "/log-level",
        r#"{"level": "info", "unknown": "canary-unknown"}"#,
    );
    sidecar.admin(odd).await;
    let told = json!(all(&sidecar).await).to_string();
    for text in [log(&sidecar), told] {
        assert!(text.contains("REDACTED") && !text.contains("canary"), "{text}");
        for token in [Token::Viewer, Token::Operator, Token::Admin] {
            assert!(!text.contains(&token.secret()));
        }
    }
}

#[tokio::test]
async fn a_change_to_the_log_is_named_and_kept() {
    let (_origin, sidecar) = stage().await;
    sidecar.purge(&json!({"tags": ["before"]})).await;
    let file = sidecar.directory().join("state/audit/audit-00000001.jsonl");
    let told = outrigger(
        sidecar.directory(),
        &["audit", "verify", "--admin", "http://127.0.0.1:1"],
    )
    .await;
    assert_eq!(told.code, Some(1), "no sidecar there: {told:?}");
    let text = fs::read_to_string(&file).unwrap().replace("before", "behind");
    fs::write(&file, text).unwrap();
    let (code, text) = verified(&sidecar).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("audit-00000001.jsonl, line 2:"), "{text}");
    let url = format!("http://{}", sidecar.admin_address());
    let token = sidecar.directory().join("token");
    fs::write(&token, Token::Viewer.secret()).unwrap();
    let asked = [
        "audit",
        "verify",
        "-o",
        "json",
        "--admin",
        &url,
        "--token-file",
        token.to_str().unwrap(),
    ];
    let told = outrigger(sidecar.directory(), &asked).await;
    let answer: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((told.code, &answer["fault"]["line"]), (Some(1), &json!(2)));
    let sidecar = sidecar.restart(Signal::SIGTERM).await;
    assert!(sidecar.logs().text().contains("a new chain begins behind it"));
    let broken = sidecar
        .metric("outrigger_audit_events_total", &[("result", "broken")])
        .await;
    assert_eq!(broken, 1.0);
    sidecar.purge(&json!({"tags": ["after"]})).await;
    assert_eq!(verified(&sidecar).await.0, Some(1), "it is never repaired");
    assert_eq!(all(&sidecar).await.len(), 2);
}
