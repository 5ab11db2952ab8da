//! Purges: what they select, that they hold, and who may ask for them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Call, ConfigText, Gate, Origin, Reply, Sidecar, Token, eventually};

/// Everything the sidecar of [`filled`] holds.
const ALL: [&str; 5] = ["/api/a", "/api/b", "/api/b/c", "/app/a", "/tenant/a"];

/// Three cached routes, `api_items`, `app` and `tenant`, with an entry for each path of [`ALL`].
async fn filled() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        let tag = seen.path.replace('/', "-");
        Reply::ok(seen.path)
            .cache_control("max-age=600")
            .header("surrogate-key", &format!("{tag} every"))
    });
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: api_items
  match: {path_prefix: /api/}
  upstream: hub
  cache: {mode: "on", tags: {header: [surrogate-key], static: [catalog]}}
- name: app
  match: {path_prefix: /app/}
  upstream: hub
  cache: {mode: "on", tags: {header: [surrogate-key]}}
- name: tenant
  match: {path_prefix: /tenant/}
  upstream: hub
  cache: {mode: "on", share: {tenant: {header: x-tenant}}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    for path in ALL {
        assert!(sidecar.fetch(get(path)).await.cache_says("stored"), "{path}");
    }
    (origin, sidecar)
}

fn get(path: &str) -> Call {
    Call::get(path).header("x-tenant", "red")
}

/// Which of [`ALL`] are no hits any more.
async fn gone(sidecar: &Sidecar) -> BTreeSet<&'static str> {
    let mut gone = BTreeSet::new();
    for path in ALL {
        if !sidecar.fetch(get(path)).await.cache_says("hit") {
            gone.insert(path);
        }
    }
    gone
}

/// After a purge of `what`, exactly `expected` is gone.
async fn purging(what: Value, expected: &[&str]) {
    let (_origin, sidecar) = filled().await;
    let answer = sidecar.purge(&what).await;
    assert!(
        answer["position"].as_u64().is_some_and(|position| position > 0),
        "{answer}"
    );
    assert_eq!(answer["matched"], expected.len(), "{answer}");
    assert_eq!(gone(&sidecar).await, expected.iter().copied().collect(), "{what}");
}

#[tokio::test]
async fn by_glob() {
    purging(json!({"pattern": "api_*"}), &["/api/a", "/api/b", "/api/b/c"]).await;
    purging(json!({"pattern": "*/a"}), &["/api/a", "/app/a", "/tenant/a"]).await;
    purging(json!({"pattern": "api_items:POST *"}), &[]).await;
}

#[tokio::test]
async fn by_prefix() {
    purging(json!({"prefix": "/api/b"}), &["/api/b", "/api/b/c"]).await;
}

#[tokio::test]
async fn by_tag_of_a_header_and_of_the_route() {
    purging(json!({"tags": ["-api-a", "-app-a"]}), &["/api/a", "/app/a"]).await;
    purging(json!({"tags": ["catalog"]}), &["/api/a", "/api/b", "/api/b/c"]).await;
}

#[tokio::test]
async fn by_route_and_everything() {
    purging(json!({"route": "app"}), &["/app/a"]).await;
    purging(json!({"all": true}), &ALL).await;
}

#[tokio::test]
async fn by_tenant() {
    purging(json!({"tenant": "red"}), &["/tenant/a"]).await;
    purging(json!({"tenant": "blue"}), &[]).await;
}

#[tokio::test]
async fn by_url() {
    let (_origin, sidecar) = filled().await;
    sidecar
        .purge(&json!({"urls": [format!("http://{}/api/b", sidecar.address())]}))
        .await;
    assert_eq!(gone(&sidecar).await, BTreeSet::from(["/api/b"]));
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let (_origin, sidecar) = filled().await;
    let answer = sidecar.purge(&json!({"pattern": "api_*", "dry_run": true})).await;
    assert_eq!(answer["matched"], 3, "{answer}");
    assert_eq!(gone(&sidecar).await, BTreeSet::new());
}

#[tokio::test]
async fn a_soft_purge_makes_stale_what_the_origin_may_confirm() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| match seen.header("if-none-match") {
        "\"1\"" => Reply::status(304)
            .cache_control("max-age=600")
            .header("etag", "\"1\""),
        _ => Reply::ok("kept")
            .cache_control("max-age=600")
            .header("etag", "\"1\""),
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/a").await;
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    let answer = sidecar.get("/a").await;
    assert_eq!(answer.text(), "kept");
    assert!(answer.cache_says("fwd-status=304"), "{answer:?}");
    assert_eq!(origin.last("/a").header("if-none-match"), "\"1\"");
    assert!(sidecar.get("/a").await.cache_says("hit"));
}

#[tokio::test]
async fn the_seeds_clear_call_empties_what_matches_and_nothing_else() {
    let (_origin, sidecar) = filled().await;
    let call = Call::new("POST", "/api/v1/performance/api/cache/clear?pattern=api_*");
    let answer = sidecar.admin(call.bearer(&Token::Operator.secret())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        gone(&sidecar).await,
        BTreeSet::from(["/api/a", "/api/b", "/api/b/c"])
    );
}

#[tokio::test]
async fn only_operators_and_admins_purge() {
    let (_origin, sidecar) = filled().await;
    let purge = || Call::json("/api/v1/performance/cache/purge", r#"{"all": true}"#);
    let clear = || Call::new("POST", "/api/v1/performance/api/cache/clear?pattern=*");
    for call in [purge, clear] as [fn() -> Call; 2] {
        assert_eq!(sidecar.admin(call()).await.status, 401);
        assert_eq!(sidecar.admin(call().bearer("wrong")).await.status, 401);
        assert_eq!(
            sidecar.admin(call().bearer(&Token::Viewer.secret())).await.status,
            403
        );
    }
    assert_eq!(gone(&sidecar).await, BTreeSet::new());
    for token in [Token::Operator, Token::Admin] {
        assert_eq!(sidecar.admin(purge().bearer(&token.secret())).await.status, 200);
    }
}

#[tokio::test]
async fn a_purge_that_selects_nothing_in_particular_is_refused() {
    let (_origin, sidecar) = filled().await;
    for body in [
        "{}",
        r#"{"all": false}"#,
        r#"{"everything": true}"#,
        r#"{"keys": ["xyz"]}"#,
        "[",
    ] {
        let call = Call::json("/api/v1/performance/cache/purge", body).bearer(&Token::Operator.secret());
        let answer = sidecar.admin(call).await;
        assert!(answer.status.is_client_error(), "{body}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{body}"
        );
    }
    assert_eq!(gone(&sidecar).await, BTreeSet::new());
}

/// PROOF, fault 1.
#[tokio::test]
async fn a_fill_that_began_before_a_purge_is_never_served_after_it() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/a", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("old").cache_control("max-age=600")
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let (waiting, ()) = tokio::join!(sidecar.get("/a"), async {
        origin.reached("/a", 1).await;
        sidecar.purge(&json!({"all": true})).await;
        gate.open();
    });
    assert_eq!(waiting.text(), "old", "the one who waited may have it");
    origin.on("/a", |_| Reply::ok("new").cache_control("max-age=600"));
    assert_eq!(sidecar.get("/a").await.text(), "new");
}

#[tokio::test]
async fn an_acknowledged_purge_is_counted_and_written_down() {
    let (_origin, sidecar) = filled().await;
    let position = sidecar.purge(&json!({"route": "app"})).await["position"].clone();
    eventually("the count", async || {
        let count = sidecar
            .metric("outrigger_purge_total", &[("scope", "route")])
            .await;
        (count >= 1.0).then_some(())
    })
    .await;
    // Positions only grow.
    assert!(sidecar.purge(&json!({"route": "app"})).await["position"].as_u64() > position.as_u64());
    let state = std::fs::read_dir(sidecar.directory().join("state")).unwrap();
    assert!(state.count() > 0, "the log lies in the state directory");
}

#[tokio::test]
async fn by_what_the_request_body_names() {
    let origin = Origin::start().await;
    origin.on("*", |seen| {
        Reply::ok(seen.body)
            .header("surrogate-key", "answers")
            .header("cache-groups", "\"all chats\"")
    });
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: chat
  match: {path: /chat}
  upstream: hub
  cache:
    methods: [POST]
    ttl: 300s
    tags: {header: [surrogate-key, cache-groups], static: [chat], json: [/model, /tools]}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    let bodies = [
        r#"{"model": "small", "q": 1}"#,
        r#"{"model": "large", "q": 1, "tools": ["search"]}"#,
    ];
    for (tag, expected) in [
        ("small", [true, false]),
        ("large", [false, true]),
        ("search", [false, true]),
        ("1", [false, false]),
        ("chat", [true, true]),
        ("answers", [true, true]),
        ("all chats", [true, true]),
    ] {
        for body in bodies {
            sidecar.fetch(Call::json("/chat", body)).await;
            assert!(
                sidecar.fetch(Call::json("/chat", body)).await.cache_says("hit"),
                "{body}"
            );
        }
        sidecar.purge(&json!({"tags": [tag]})).await;
        for (body, gone) in bodies.into_iter().zip(expected) {
            let answer = sidecar.fetch(Call::json("/chat", body)).await;
            assert_eq!(!answer.cache_says("hit"), gone, "{tag}: {body}");
        }
    }
}

#[tokio::test]
async fn a_304_changes_the_tags() {
    let origin = Origin::start().await;
    let reply = |status: u16, tags: &str| {
        let reply = Reply::ok(if status == 200 { "body" } else { "" }).with_status(status);
        reply
            .cache_control("max-age=60")
            .header("etag", "\"1\"")
            .header("surrogate-key", tags)
    };
    origin.on("/t", move |_| reply(200, "first both"));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: tagged
  match: {path: /t}
  upstream: hub
  cache: {mode: "on", tags: {header: [surrogate-key], static: [own]}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    sidecar.get("/t").await;
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    origin.on("/t", move |_| reply(304, "second both"));
    assert!(sidecar.get("/t").await.cache_says("fwd-status=304"));
    for (tag, matched) in [("first", 0), ("second", 1), ("both", 1), ("own", 1)] {
        let counted = sidecar.purge(&json!({"tags": [tag], "dry_run": true})).await;
        assert_eq!(counted["matched"], matched, "{tag}");
    }
    sidecar.purge(&json!({"tags": ["first"]})).await;
    assert!(sidecar.get("/t").await.cache_says("hit"));
    sidecar.purge(&json!({"tags": ["second"]})).await;
    assert!(!sidecar.get("/t").await.cache_says("hit"));
}
