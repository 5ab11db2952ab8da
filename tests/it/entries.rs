//! The list of entries, the commands, and what neither list nor explanation tells.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::explain::{EXPLAIN, admin, explain, stage};
use crate::harness::{Call, Sidecar, Token, chat, get, outrigger};

const ENTRIES: &str = "/api/v1/performance/cache/entries";

async fn entries(sidecar: &Sidecar, query: &str) -> Value {
    let answer = admin(sidecar, Call::get(&format!("{ENTRIES}{query}"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn bad_questions_are_refused_with_a_reason() {
    let (_origin, sidecar) = stage().await;
    let many: serde_json::Map<String, Value> = (0..101).map(|n| (format!("x-{n}"), json!("1"))).collect();
    for bad in [
        json!([]),
        json!({}),
        json!({"url": "/api/a"}),
        json!({"url": "ftp://hub/"}),
        json!({"url": "http://user:canary@hub/"}),
        json!({"url": format!("http://hub/{}", "x".repeat(9_000))}),
        json!({"host": "hub", "path": "api"}),
        json!({"url": "http://hub/", "host": "hub", "path": "/"}),
        json!({"url": "http://hub/", "method": "GE T"}),
        json!({"url": "http://hub/", "canary": 1}),
        json!({"url": "http://hub/", "headers": "canary"}),
        json!({"url": "http://hub/", "headers": {"authorization": "canary\n"}}),
        json!({"url": "http://hub/", "headers": {"canary canary": "1"}}),
        json!({"url": "http://hub/", "headers": {"cookie": {"canary": 1}}}),
        json!({"url": "http://hub/", "headers": many}),
        json!({"url": "http://hub/", "headers": {"x": "x".repeat(70_000)}}),
        json!({"url": "http://hub/", "body": "x".repeat(1_100_000)}),
        json!({"url": "http://hub/", "body": {"canary": 1}}),
    ] {
        let answer = admin(&sidecar, Call::json(EXPLAIN, bad.to_string())).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(
            answer.json()["detail"].is_string() && !answer.text().contains("canary"),
            "{answer:?}"
        );
    }
    let plain = Call::json(EXPLAIN, "{}").replace("content-type", "text/plain");
    assert_eq!(admin(&sidecar, plain).await.status, 415);
    let huge = Call::json(EXPLAIN, "x".repeat(3 << 20));
    let answer = admin(&sidecar, huge).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (413, "application/problem+json")
    );
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?after=x", "?unknown=1"] {
        let answer = admin(&sidecar, Call::get(&format!("{ENTRIES}{bad}"))).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn no_secret_is_told() {
    let (_origin, sidecar) = stage().await;
    let asks = [
        get("/api/s?token=canary&canary")
            .with("authorization", "Bearer canary")
            .with("cookie", "sid=canary; canary=1")
            .with("x-api-key", "canary"),
        get("/users/s").with("x-user-id", "canary"),
        get("/sessions/s").with("cookie", "sid=canary"),
        get("/tenants/s").with("x-tenant", "canary"),
        get("/languages/s?a=canary").with("x-plan", "canary"),
        get("/api/variants?q=canary").with("accept-language", "de"),
        chat(r#"{"q": "canary"}"#).with("authorization", "canary"),
        chat(&format!("\"{}\"", "canary".repeat(400))),
        get("/off/s?canary=canary").with("authorization", "canary"),
        get("/nowhere?canary").with("authorization", "canary"),
        get("/api/s?q=canary").with("if-match", "canary").by("POST"),
    ];
    for ask in asks {
        for _ in 0..2 {
            let told = explain(&sidecar, &ask).await.to_string();
            // A parameter's name is told, as in logs, when it has a value.
            let told = told.replace("canary=REDACTED", "");
            assert!(!told.contains("canary"), "{ask:?}: {told}");
            sidecar.fetch(ask.call()).await;
        }
    }
    let listed = entries(&sidecar, "").await;
    assert!(listed["entries"].as_array().unwrap().len() >= 7, "{listed}");
    assert!(!listed.to_string().contains("canary"), "{listed}");
    // Nor can a pattern find one out.
    assert_eq!(entries(&sidecar, "?pattern=*canary*").await["entries"], json!([]));
}

#[tokio::test]
async fn entries_are_listed_page_by_page() {
    let (_origin, sidecar) = stage().await;
    let paths = ["/api/a", "/api/b", "/api/c?x=1", "/fixed/a", "/fixed/b"];
    for path in paths {
        assert!(sidecar.get(path).await.cache_says("stored"), "{path}");
    }
    for language in ["de", "fr"] {
        let call = Call::get("/api/variants").header("accept-language", language);
        assert!(sidecar.fetch(call).await.cache_says("stored"), "{language}");
    }
    let whole = entries(&sidecar, "").await;
    assert_eq!(
        (whole["entries"].as_array().unwrap().len(), &whole["next"]),
        (7, &Value::Null)
    );
    for limit in [1, 2, 3, 7] {
        let (mut paged, mut query) = (Vec::new(), format!("?limit={limit}"));
        loop {
            let page = entries(&sidecar, &query).await;
            let listed = page["entries"].as_array().unwrap();
            assert!((1..=limit).contains(&listed.len()), "{page}");
            paged.extend(
                listed
                    .iter()
                    .map(|entry| (entry["key"].clone(), entry["label"].clone())),
            );
            match page["next"].as_str() {
                Some(next) => query = format!("?limit={limit}&after={next}"),
                None => break,
            }
        }
        let all = whole["entries"].as_array().unwrap().iter();
        let all: Vec<_> = all
            .map(|entry| (entry["key"].clone(), entry["label"].clone()))
            .collect();
        assert_eq!(paged, all, "{limit}");
    }
    let host = sidecar.address();
    let labels = async |query: &str| -> BTreeSet<String> {
        let listed = entries(&sidecar, query).await;
        let listed = listed["entries"].as_array().unwrap().iter();
        listed
            .map(|entry| entry["label"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected = ["a", "b"].map(|path| format!("fixed:GET {host}/fixed/{path}"));
    assert_eq!(labels("?route=fixed").await, BTreeSet::from(expected));
    let expected = format!("api:GET {host}/api/c?x=REDACTED");
    assert_eq!(labels("?pattern=api:*/c*").await, BTreeSet::from([expected]));
    let fixed = entries(&sidecar, "?route=fixed").await;
    let entry = &fixed["entries"][0];
    assert_eq!(
        (&entry["stale"], &entry["hits"]),
        (&json!(false), &json!(0)),
        "{entry}"
    );
    assert!(entry["ttl"].as_i64().is_some_and(|ttl| ttl > 200), "{entry}");
    // Its key is what a purge takes.
    let purged = sidecar.purge(&json!({"keys": [entry["key"]]})).await;
    assert_eq!(purged["matched"], 1, "{purged}");
}

#[tokio::test]
async fn the_commands_ask_for_both() {
    let (_origin, sidecar) = stage().await;
    sidecar.get("/api/a?x=1").await;
    let directory = sidecar.directory();
    fs::write(directory.join("token"), Token::Viewer.secret()).unwrap();
    let admin = format!("http://{}", sidecar.admin_address());
    let url = format!("{}/api/a?x=1", sidecar.address());
    let run = async |arguments: &[&str]| {
        let common = ["--admin", &admin, "--token-file", "token"];
        let ended = outrigger(directory, &[arguments, &common].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let told = run(&["cache", "explain", &url]).await;
    for part in [
        "hit (fresh)",
        "outrigger; hit; ttl=",
        "api",
        "x=REDACTED",
        "fresh",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = run(&["cache", "explain", "-o", "json", "-H", "If-Match: *", &url]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["reasons"], json!(["conditional"]));
    let told = run(&["cache", "explain", "-d", "{}", &url]).await;
    assert!(told.contains("bypass (method)"), "{told}");
    let listed = run(&["cache", "entries", "--route", "api", "--pattern", "*/api/a*"]).await;
    assert!(listed.contains("/api/a?x=REDACTED"), "{listed}");
    let none = run(&["cache", "entries", "--pattern", "nothing"]).await;
    assert_eq!(none.lines().count(), 1, "{none}");
    let ended = outrigger(directory, &["cache", "explain", "--admin", &admin, "ftp://hub"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
}
