//! What of a query counts: `No-Vary-Search`; and the method QUERY (RFC 10008).

use serde_json::json;

use crate::harness::{Answer, Call, ConfigText, Origin, Reply, Sidecar, full};

/// An origin that says by `rule` what counts of the query, and answers with the query that it saw.
async fn origin(rule: &'static str) -> Origin {
    let origin = Origin::start().await;
    origin.on("/a", move |seen| {
        let reply = Reply::ok(seen.query.clone()).cache_control("max-age=60");
        match seen.method.as_str() {
            "PUT" => Reply::status(204),
            _ if rule.is_empty() => reply,
            _ => reply.header("no-vary-search", rule),
        }
    });
    origin
}

async fn cached(origin: &Origin) -> Sidecar {
    Sidecar::start(&ConfigText::new(origin.address())).await
}

#[tokio::test]
async fn equivalent_queries_share_what_is_stored() {
    for (rule, first, same, other) in [
        ("params=(\"utm\")", "x=1&utm=a", "utm=b&x=1", "x=2&utm=a"),
        ("key-order", "a=1&b=2", "b=2&a=1", "a=2&b=1"),
        ("params, except=(\"x\")", "x=1&y=1", "y=2&z&x=1", "x=2"),
    ] {
        let origin = origin(rule).await;
        let sidecar = cached(&origin).await;
        assert!(sidecar.get(&format!("/a?{first}")).await.cache_says("stored"));
        let hit = sidecar.get(&format!("/a?{same}")).await;
        assert!(hit.cache_says("hit"), "{rule}: {hit:?}");
        assert_eq!(hit.text(), first);
        assert!(sidecar.get(&format!("/a?{first}")).await.cache_says("hit"));
        let miss = sidecar.get(&format!("/a?{other}")).await;
        assert_eq!(miss.text(), other, "{rule}: {miss:?}");
        assert_eq!(origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn an_invalid_rule_and_none_share_nothing() {
    for rule in ["", "params=(utm)", "except=(\"x\")", "params, unknown"] {
        let origin = origin(rule).await;
        let sidecar = cached(&origin).await;
        for target in ["/a?x=1&utm=a", "/a?x=1&utm=b"] {
            assert!(sidecar.get(target).await.cache_says("stored"), "{rule}: {target}");
            assert!(sidecar.get(target).await.cache_says("hit"), "{rule}: {target}");
        }
    }
}

#[tokio::test]
async fn each_response_speaks_for_its_own_query() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| {
        let reply = Reply::ok(seen.query.clone()).cache_control("max-age=60");
        match seen.query.as_str() {
            query if query.starts_with("free") => reply.header("no-vary-search", "params=(\"utm\")"),
            _ => reply,
        }
    });
    let sidecar = cached(&origin).await;
    sidecar.get("/a?free&utm=1").await;
    assert!(sidecar.get("/a?free&utm=2").await.cache_says("hit"));
    for target in ["/a?strict&utm=1", "/a?strict&utm=2"] {
        assert!(sidecar.get(target).await.cache_says("stored"), "{target}");
        assert!(sidecar.get(target).await.cache_says("hit"), "{target}");
    }
}

#[tokio::test]
async fn purges_and_unsafe_requests_find_an_entry_by_every_equivalent_url() {
    let origin = origin("params=(\"utm\")").await;
    let sidecar = cached(&origin).await;
    let stored = async || {
        assert!(sidecar.get("/a?x=1&utm=a").await.cache_says("stored"));
        assert!(sidecar.get("/a?x=1&utm=b").await.cache_says("hit"));
    };
    stored().await;
    let url = format!("http://{}/a?utm=z&x=1", sidecar.address());
    assert_eq!(sidecar.purge(&json!({"urls": [url]})).await["matched"], 1);
    stored().await;
    assert_eq!(sidecar.fetch(Call::new("PUT", "/a?x=1&utm=y")).await.status, 204);
    stored().await;
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    stored().await;
}

#[tokio::test]
async fn principals_stay_apart_under_a_rule() {
    let origin = origin("params=(\"utm\")").await;
    let sidecar = cached(&origin).await;
    let of = |target: &str, who: &str| Call::get(target).bearer(who);
    assert!(sidecar.fetch(of("/a?utm=1", "one")).await.cache_says("stored"));
    assert!(sidecar.fetch(of("/a?utm=2", "one")).await.cache_says("hit"));
    assert!(!sidecar.fetch(of("/a?utm=3", "two")).await.cache_says("hit"));
    assert!(!sidecar.get("/a?utm=4").await.cache_says("hit"));
}

#[tokio::test]
async fn a_stale_entry_is_confirmed_by_an_equivalent_query_and_a_changed_rule_ends_it() {
    let origin = Origin::start().await;
    let stale = || {
        let reply = Reply::ok("body").cache_control("max-age=60").header("age", "120");
        reply
            .header("etag", "\"1\"")
            .header("no-vary-search", "params=(\"utm\")")
    };
    origin.on("/a", move |_| stale());
    let sidecar = cached(&origin).await;
    sidecar.get("/a?utm=1").await;
    let confirm = |rule: &'static str| {
        let reply = Reply::status(304)
            .cache_control("max-age=60")
            .header("etag", "\"1\"");
        reply.header("no-vary-search", rule)
    };
    origin.on("/a", move |_| confirm("params=(\"utm\")"));
    let confirmed = sidecar.get("/a?utm=2").await;
    assert!(confirmed.cache_says("fwd-status=304"), "{confirmed:?}");
    assert_eq!(confirmed.text(), "body");
    assert!(sidecar.get("/a?utm=3").await.cache_says("hit"));

    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    origin.on("/a", move |_| confirm("params=(\"other\")"));
    assert_eq!(sidecar.get("/a?utm=4").await.text(), "body");
    origin.on("/a", |_| Reply::ok("new").cache_control("max-age=60"));
    assert_eq!(sidecar.get("/a?utm=5").await.text(), "new");
}

/// A sidecar that caches QUERY.
async fn querying() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("/q", |seen| {
        let reply = Reply::ok(seen.body.clone()).cache_control("max-age=60");
        reply.header("etag", "\"1\"")
    });
    let route =
        "- {name: q, match: {path: /q}, upstream: hub, cache: {methods: [GET, QUERY], vary: {body: {}}}}";
    let sidecar = Sidecar::start(&ConfigText::new(origin.address()).routes(route)).await;
    (origin, sidecar)
}

async fn query(sidecar: &Sidecar, body: &'static str, kind: &str) -> Answer {
    let call = Call::new("QUERY", "/q").header("content-type", kind);
    sidecar.fetch(call.body(full(body))).await
}

#[tokio::test]
async fn a_query_is_keyed_by_its_body_and_invalidates_nothing() {
    // RFC 10008: safe, and what counts of the request is its content with its media type.
    let (origin, sidecar) = querying().await;
    assert!(sidecar.get("/q").await.cache_says("stored"));
    let first = query(&sidecar, "select a", "application/sql").await;
    assert!(first.cache_says("stored"), "{first:?}");
    assert_eq!(first.text(), "select a");
    let again = query(&sidecar, "select a", "application/sql").await;
    assert!(again.cache_says("hit"), "{again:?}");
    assert_eq!(
        query(&sidecar, "select b", "application/sql").await.text(),
        "select b"
    );
    let kind = query(&sidecar, "select a", "text/plain").await;
    assert!(!kind.cache_says("hit"), "{kind:?}");
    assert!(
        sidecar.get("/q").await.cache_says("hit"),
        "a QUERY changes nothing"
    );
    assert_eq!(origin.count("/q"), 4);
}

#[tokio::test]
async fn a_json_query_is_keyed_by_what_it_means() {
    let (origin, sidecar) = querying().await;
    query(&sidecar, r#"{"a": 1, "b": [2]}"#, "application/json").await;
    let same = query(&sidecar, r#"{"b":[2],"a":1.0}"#, "application/json").await;
    assert!(same.cache_says("hit"), "{same:?}");
    assert_eq!(origin.count("/q"), 1);
}
