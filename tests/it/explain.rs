//! Explanations: right about the request, and true of what the data plane then does.

use serde_json::{Value, json};

use crate::harness::{Answer, Ask, Call, ConfigText, Origin, Reply, Sidecar, Token, chat, get};

/// Where one asks.
pub(crate) const EXPLAIN: &str = "/api/v1/performance/cache/explain";

const ROUTES: &str = r#"
- {name: api, match: {path_prefix: /api/}, upstream: hub, cache: {mode: "on"}}
- {name: off, match: {path_prefix: /off/}, upstream: hub}
- {name: fixed, match: {path_prefix: /fixed/}, upstream: hub, cache: {mode: "on", ttl: 300s}}
- {name: honest, match: {path_prefix: /honest/}, upstream: hub, cache: {mode: "on", client_control: honour}}
- {name: writer, match: {path_prefix: /writer/}, upstream: hub, cache: {mode: write_only}}
- {name: reader, match: {path_prefix: /reader/}, upstream: hub, cache: {mode: read_only}}
- name: tenants
  match: {path_prefix: /tenants/}
  upstream: hub
  cache: {mode: "on", share: {tenant: {header: x-tenant}}}
- name: users
  match: {path_prefix: /users/}
  upstream: hub
  cache: {mode: "on", share: principal, vary: {principal: {header: x-user-id}}}
- name: sessions
  match: {path_prefix: /sessions/}
  upstream: hub
  cache: {mode: "on", share: principal, vary: {principal: {cookie: sid}}}
- name: languages
  match: {path_prefix: /languages/}
  upstream: hub
  cache: {mode: "on", vary: {headers: [accept-language, x-plan], query: {include: ["*"], exclude: [utm_*], sort: true}}}
- name: chat
  match: {path: /v1/chat, methods: [POST]}
  upstream: hub
  cache: {mode: "on", methods: [POST], ttl: 300s, vary: {body: {json: {ignore: [/user]}, max: 1KiB}}}
"#;

/// An origin for every situation, and a sidecar in front of it.
pub(crate) async fn stage() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    let old = |control: &str| Reply::ok("x").cache_control(control).header("age", "120");
    origin.on("*", |_| Reply::ok("x").cache_control("max-age=600"));
    origin.on("/api/behind", move |_| {
        old("max-age=60, stale-while-revalidate=600")
    });
    origin.on("/api/old", move |_| old("max-age=60").header("etag", "\"1\""));
    origin.on("/api/soft", |_| {
        let reply = Reply::ok("x").cache_control("max-age=600");
        reply.header("etag", "\"1\"")
    });
    origin.on("/api/variants", |_| {
        let reply = Reply::ok("x").cache_control("max-age=600");
        reply.header("vary", "accept-language")
    });
    origin.on("/api/private", |_| Reply::ok("x").cache_control("no-store"));
    origin.on("/api/public", |_| {
        Reply::ok("x").cache_control("public, max-age=600")
    });
    let config = ConfigText::new(origin.address()).routes(ROUTES);
    let sidecar = Sidecar::start(&config).await;
    (origin, sidecar)
}

/// Asks the admin API as a viewer.
pub(crate) async fn admin(sidecar: &Sidecar, call: Call) -> Answer {
    sidecar.admin(call.bearer(&Token::Viewer.secret())).await
}

/// What is told about the request.
pub(crate) async fn explain(sidecar: &Sidecar, ask: &Ask) -> Value {
    let answer = admin(sidecar, Call::json(EXPLAIN, ask.json(sidecar).to_string())).await;
    assert_eq!(answer.status, 200, "{ask:?}: {answer:?}");
    answer.json()
}

/// Whether the real answer's `Cache-Status` has every parameter that was foretold, the passing of time aside.
fn came_true(told: &Value, answer: &Answer) -> bool {
    let Some(foretold) = told["cache_status"].as_str() else {
        return !answer.cache_says("hit") && answer.status.as_u16() >= 400;
    };
    foretold
        .split("; ")
        .all(|part| part.starts_with("ttl=") || answer.cache_says(part))
}

/// The request is explained so, twice alike, and then treated so.
async fn so(sidecar: &Sidecar, ask: Ask, verdict: &str, reasons: &[&str]) -> Value {
    let told = explain(sidecar, &ask).await;
    assert_eq!(
        (&told["verdict"], &told["reasons"]),
        (&json!(verdict), &json!(reasons)),
        "{ask:?}: {told}"
    );
    let again = explain(sidecar, &ask).await;
    let hits = |told: &Value| told["stored"][0]["hits"].clone();
    assert_eq!(
        (&again["verdict"], hits(&again)),
        (&told["verdict"], hits(&told)),
        "{ask:?}"
    );
    let answer = sidecar.fetch(ask.call()).await;
    assert!(came_true(&told, &answer), "{ask:?}: {told}\n{answer:?}");
    told
}

/// The same, where nothing is stored before and the answer to it is stored.
async fn misses_then_hits(sidecar: &Sidecar, ask: Ask) -> Value {
    let told = so(sidecar, ask.clone(), "miss", &["uri-miss"]).await;
    assert_eq!(
        (&told["store"]["would"], &told["stored"]),
        (&json!(true), &json!([])),
        "{told}"
    );
    let told = so(sidecar, ask, "hit", &["fresh"]).await;
    let entry = &told["stored"][0];
    assert_eq!(
        (&entry["selected"], &entry["stale"]),
        (&json!(true), &json!(false)),
        "{told}"
    );
    told
}

#[tokio::test]
async fn what_is_stored_is_told_with_its_life() {
    let (origin, sidecar) = stage().await;
    let told = misses_then_hits(&sidecar, get("/api/a")).await;
    assert_eq!(
        (&told["route"], &told["upstream"]),
        (&json!("api"), &json!("hub")),
        "{told}"
    );
    let entry = &told["stored"][0];
    assert_eq!(
        (&entry["level"], &entry["status"]),
        (&json!("l1"), &json!(200)),
        "{told}"
    );
    assert_eq!(
        (&entry["hits"], &entry["body_bytes"]),
        (&json!(0), &json!(1)),
        "{told}"
    );
    assert!(
        entry["ttl"]
            .as_i64()
            .is_some_and(|ttl| (500..=600).contains(&ttl)),
        "{told}"
    );
    assert_eq!(origin.count("/api/a"), 1, "explaining fetches nothing");
    so(&sidecar, get("/api/a").by("HEAD"), "hit", &["fresh"]).await;
    so(&sidecar, get("/api/behind"), "miss", &["uri-miss"]).await;
    so(&sidecar, get("/api/behind"), "stale", &["stale-while-revalidate"]).await;
    so(&sidecar, get("/api/old"), "miss", &["uri-miss"]).await;
    let told = so(&sidecar, get("/api/old"), "miss", &["stale"]).await;
    assert_eq!(told["stored"][0]["reason"], "stale", "{told}");
}

#[tokio::test]
async fn parts_heads_and_equivalent_queries_are_told() {
    let (origin, sidecar) = stage().await;
    origin.on("/api/part", |_| {
        let reply = Reply::ok("234").with_status(206).cache_control("max-age=600");
        reply.header("content-range", "bytes 2-4/10")
    });
    let part = |range: &str| get("/api/part").with("range", range);
    so(&sidecar, part("bytes=2-4"), "miss", &["uri-miss"]).await;
    let told = so(&sidecar, part("bytes=3-3"), "hit", &["fresh"]).await;
    assert_eq!(told["stored"][0]["status"], 206, "{told}");
    let told = so(&sidecar, get("/api/part"), "miss", &["uri-miss"]).await;
    assert_eq!(told["stored"][0]["selected"], false, "{told}");

    so(&sidecar, get("/api/old"), "miss", &["uri-miss"]).await;
    let told = so(&sidecar, get("/api/old").by("HEAD"), "miss", &["stale"]).await;
    assert_eq!(told["store"]["would"], true, "{told}");
    assert_eq!(origin.last("/api/old").method, "HEAD");
    let told = so(&sidecar, get("/api/none").by("HEAD"), "miss", &["uri-miss"]).await;
    assert_eq!(told["store"]["reason"], "method", "{told}");

    origin.on("/api/query", |_| {
        let reply = Reply::ok("x").cache_control("max-age=600");
        reply.header("no-vary-search", "params=(\"utm\")")
    });
    so(&sidecar, get("/api/query?utm=1"), "miss", &["uri-miss"]).await;
    let told = so(&sidecar, get("/api/query?utm=2"), "hit", &["fresh"]).await;
    assert_eq!(told["stored"][0]["selected"], true, "{told}");
}

#[tokio::test]
async fn variants_purges_and_changes_are_told() {
    let (_origin, sidecar) = stage().await;
    let german = || get("/api/variants").with("accept-language", "de");
    misses_then_hits(&sidecar, german()).await;
    let told = so(
        &sidecar,
        get("/api/variants").with("accept-language", "fr"),
        "miss",
        &["vary-miss"],
    )
    .await;
    assert_eq!(
        told["stored"][0]["varies_on"],
        json!(["accept-language"]),
        "{told}"
    );
    assert_eq!(told["stored"][0]["selected"], false, "{told}");

    misses_then_hits(&sidecar, get("/api/soft")).await;
    sidecar
        .purge(&json!({"pattern": "api:*/api/soft", "mode": "soft"}))
        .await;
    let told = so(&sidecar, get("/api/soft"), "miss", &["purged"]).await;
    assert_eq!(told["stored"][0]["reason"], "purged", "{told}");

    misses_then_hits(&sidecar, get("/api/hard")).await;
    sidecar.purge(&json!({"pattern": "api:*/api/hard"})).await;
    // A hard purge takes the entry out.
    so(&sidecar, get("/api/hard"), "miss", &["uri-miss"]).await;

    misses_then_hits(&sidecar, get("/api/changed")).await;
    so(&sidecar, get("/api/changed").by("POST"), "bypass", &["method"]).await;
    so(&sidecar, get("/api/changed"), "miss", &["invalidated"]).await;
}

#[tokio::test]
async fn bypasses_and_refusals_are_told() {
    let (_origin, sidecar) = stage().await;
    let told = so(&sidecar, get("/off/a"), "bypass", &["route-off"]).await;
    assert_eq!(
        (&told["key"], &told["store"]),
        (&Value::Null, &Value::Null),
        "{told}"
    );
    let told = so(&sidecar, get("/nowhere"), "refused", &["no-route"]).await;
    assert_eq!(told["route"], Value::Null, "{told}");
    so(
        &sidecar,
        get("/api/a").with("if-match", "\"1\""),
        "bypass",
        &["conditional"],
    )
    .await;
    so(
        &sidecar,
        get("/api/a").with("range", "items=0-1"),
        "bypass",
        &["range"],
    )
    .await;
    let upgrade = get("/api/a")
        .with("connection", "upgrade")
        .with("upgrade", "websocket");
    so(&sidecar, upgrade, "bypass", &["upgrade"]).await;

    let range = || get("/api/a").with("range", "bytes=0-0");
    let several = get("/api/a").with("range", "bytes=0-0,5-5");
    let told = so(&sidecar, several, "miss", &["uri-miss"]).await;
    assert_eq!(told["store"]["reason"], "partial", "{told}");
    let told = so(&sidecar, range(), "miss", &["uri-miss"]).await;
    assert_eq!(told["store"]["would"], true, "{told}");
    // The origin ignores ranges: what it sent is the whole.
    sidecar.purge(&json!({"pattern": "api:*/api/a"})).await;
    misses_then_hits(&sidecar, get("/api/a")).await;
    so(&sidecar, range(), "hit", &["fresh"]).await;

    let asking = |control: &str| get("/honest/a").with("cache-control", control);
    so(&sidecar, asking("no-store"), "bypass", &["request-no-store"]).await;
    so(
        &sidecar,
        asking("only-if-cached"),
        "refused",
        &["uri-miss", "only-if-cached"],
    )
    .await;
    misses_then_hits(&sidecar, get("/honest/a")).await;
    so(&sidecar, asking("no-cache"), "miss", &["request"]).await;
    // Where the route does not honour it, it changes nothing.
    misses_then_hits(&sidecar, get("/api/b").with("cache-control", "no-store")).await;

    for _ in 0..2 {
        so(&sidecar, get("/writer/a"), "miss", &["write-only"]).await;
    }
    let told = so(&sidecar, get("/reader/a"), "miss", &["uri-miss"]).await;
    assert_eq!(told["store"]["reason"], "read-only", "{told}");

    so(&sidecar, get("/api/private"), "miss", &["uri-miss"]).await;
    so(
        &sidecar,
        get("/api/private"),
        "bypass",
        &["uri-miss", "hit-for-miss"],
    )
    .await;
}

#[tokio::test]
async fn partitions_are_told_by_kind() {
    let (_origin, sidecar) = stage().await;
    let partition = |told: &Value| {
        let from = &told["key"]["partition"]["from"];
        (
            told["key"]["partition"]["kind"].as_str().unwrap().to_owned(),
            from.clone(),
        )
    };
    let principal = |from: &str| ("principal".to_owned(), json!([from]));
    let told = misses_then_hits(&sidecar, get("/api/a").with("authorization", "Bearer one")).await;
    assert_eq!(partition(&told), principal("authorization"));
    misses_then_hits(&sidecar, get("/api/a").with("authorization", "Bearer two")).await;
    let told = misses_then_hits(&sidecar, get("/api/a")).await;
    assert_eq!(partition(&told), ("none".to_owned(), json!([])));

    misses_then_hits(&sidecar, get("/api/public").with("authorization", "Bearer one")).await;
    let told = so(
        &sidecar,
        get("/api/public").with("authorization", "Bearer two"),
        "hit",
        &["fresh"],
    )
    .await;
    assert_eq!(told["stored"][0]["public"], true, "{told}");

    so(&sidecar, get("/tenants/a"), "bypass", &["no-tenant"]).await;
    let told = misses_then_hits(&sidecar, get("/tenants/a").with("x-tenant", "red")).await;
    assert_eq!(partition(&told), ("tenant".to_owned(), json!(["x-tenant"])));
    let told = misses_then_hits(&sidecar, get("/users/a").with("x-user-id", "7")).await;
    assert_eq!(partition(&told), principal("x-user-id"));
    let told = misses_then_hits(&sidecar, get("/users/a")).await;
    assert_eq!(partition(&told), ("anonymous".to_owned(), json!([])));
    let told = misses_then_hits(&sidecar, get("/sessions/a").with("cookie", "sid=7; theme=dark")).await;
    assert_eq!(partition(&told), principal("cookie sid"));
    so(
        &sidecar,
        get("/sessions/a").with("cookie", "theme=light; sid=7"),
        "hit",
        &["fresh"],
    )
    .await;
}

#[tokio::test]
async fn keys_are_told_in_readable_parts() {
    let (_origin, sidecar) = stage().await;
    let told = misses_then_hits(&sidecar, chat(r#"{"q": 1, "n": 2, "user": "a"}"#)).await;
    let digest = told["key"]["body"].as_str().map(str::len);
    assert_eq!(digest, Some(64), "{told}");
    assert_eq!(
        (&told["store"]["life_by"], &told["store"]["fresh_for"]),
        (&json!("route"), &json!(300))
    );
    so(&sidecar, chat(r#"{"n":2,"user":"b","q":1}"#), "hit", &["fresh"]).await;
    so(&sidecar, chat(r#"{"q": 2}"#), "miss", &["uri-miss"]).await;
    let large = format!(r#"{{"q": "{}"}}"#, "x".repeat(2_000));
    so(&sidecar, chat(&large), "bypass", &["body-too-large"]).await;
    so(&sidecar, chat(r#"{"q": 1, "store": true}"#), "bypass", &["store"]).await;
    let unkeyed = get("/api/a").body("{}");
    so(&sidecar, unkeyed, "bypass", &["body-not-keyed"]).await;

    let ask = get("/languages/a?b=2&utm_source=mail&a=1").with("accept-language", "DE");
    let told = misses_then_hits(&sidecar, ask).await;
    let key = &told["key"];
    assert_eq!(
        (&key["path"], &key["query"]),
        (&json!("/languages/a"), &json!("a=REDACTED&b=REDACTED"))
    );
    assert_eq!(key["authority"], json!(sidecar.address().to_string()));
    let fields = json!([{"name": "accept-language", "value": "de"}, {"name": "x-plan", "value": null}]);
    assert_eq!(key["headers"], fields, "{told}");
    so(
        &sidecar,
        get("/languages/a?a=1&b=2").with("accept-language", "de"),
        "hit",
        &["fresh"],
    )
    .await;
}

#[tokio::test]
async fn a_trusted_peer_says_which_host_was_asked() {
    let (_origin, sidecar) = stage().await;
    let ask = |trusted: bool| json!({"host": "hub.local", "path": "/api/a", "trusted": trusted, "headers": {"x-forwarded-host": "a.example"}});
    let mut counted = Vec::new();
    for trusted in [false, true] {
        let answer = admin(&sidecar, Call::json(EXPLAIN, ask(trusted).to_string())).await;
        counted.push(answer.json()["key"]["headers"].clone());
    }
    let believed = json!([{"name": "x-forwarded-host", "value": "REDACTED"}]);
    assert_eq!(counted, [json!([]), believed]);
}
