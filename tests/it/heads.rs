//! HEAD: answered from what a GET has stored, and able to confirm or end it (RFC 9111, section 4.3.5).

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar};

fn head() -> Call {
    Call::new("HEAD", "/a")
}

/// A stale entry of five octets with the tag `"1"`, and the origin that made it.
async fn stale() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("hello")
            .cache_control("max-age=60")
            .header("age", "120")
            .header("etag", "\"1\"")
            .header("x-version", "one")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/a").await;
    (origin, sidecar)
}

#[tokio::test]
async fn a_head_asks_the_origin_by_head_and_confirms_a_stale_entry() {
    for status in [200, 304] {
        let (origin, sidecar) = stale().await;
        origin.on("/a", move |_| {
            let reply = Reply::ok(if status == 200 { "hello" } else { "" }).with_status(status);
            reply
                .cache_control("max-age=60")
                .header("etag", "\"1\"")
                .header("x-version", "two")
        });
        let answer = sidecar.fetch(head()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-version")),
            (200, "two"),
            "{answer:?}"
        );
        assert_eq!(answer.header("content-length"), "5");
        assert!(answer.cache_says(&format!("fwd-status={status}")), "{answer:?}");
        let asked = origin.last("/a");
        assert_eq!(
            (asked.method.as_str(), asked.header("if-none-match")),
            ("HEAD", "\"1\"")
        );
        let get = sidecar.get("/a").await;
        assert!(get.cache_says("hit"), "{get:?}");
        assert_eq!((get.text(), get.header("x-version")), ("hello", "two"));
        assert_eq!(origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_head_that_tells_of_a_change_ends_the_entry() {
    for (tag, length) in [("\"2\"", "hello"), ("\"1\"", "hello!")] {
        let (origin, sidecar) = stale().await;
        origin.on("/a", move |_| {
            Reply::ok(length)
                .cache_control("max-age=60, stale-if-error=600")
                .header("etag", tag)
        });
        let answer = sidecar.fetch(head()).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, tag));
        assert!(!answer.cache_says("stored"), "{answer:?}");
        origin.on("/a", |_| Reply::status(503));
        assert_eq!(sidecar.get("/a").await.status, 503, "nothing is left to stand in");
    }
}

#[tokio::test]
async fn a_head_without_a_validator_proves_nothing() {
    let (origin, sidecar) = stale().await;
    origin.on("/a", |seen| match seen.method.as_str() {
        "HEAD" => Reply::ok("hello").cache_control("max-age=60"),
        _ => Reply::status(304)
            .cache_control("max-age=60")
            .header("etag", "\"1\""),
    });
    assert_eq!(sidecar.fetch(head()).await.status, 200);
    let get = sidecar.get("/a").await;
    assert!(
        get.cache_says("fwd=stale") && get.cache_says("fwd-status=304"),
        "{get:?}"
    );
    assert_eq!(get.text(), "hello");
}

#[tokio::test]
async fn a_client_that_knows_the_head_gets_304_though_the_origin_was_asked_for_it() {
    let (origin, sidecar) = stale().await;
    origin.on("/a", |_| {
        Reply::ok("hello!")
            .cache_control("max-age=60")
            .header("etag", "\"2\"")
    });
    let known = sidecar.fetch(head().header("if-none-match", "\"2\"")).await;
    assert_eq!(known.status, 304, "{known:?}");
    assert_eq!(origin.last("/a").header("if-none-match"), "\"1\"");
}

#[tokio::test]
async fn an_entry_stands_in_when_the_origin_fails_to_answer_a_head() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("hello")
            .cache_control("max-age=60, stale-if-error=600")
            .header("age", "120")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/a").await;
    origin.on("/a", |_| Reply::status(503));
    let answer = sidecar.fetch(head()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.cache_says("detail=stale-if-error"), "{answer:?}");
}

#[tokio::test]
async fn a_head_that_misses_passes_and_stores_nothing() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("hello").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    for count in 1..=2 {
        assert!(!sidecar.fetch(head()).await.cache_says("hit"));
        assert_eq!(origin.count("/a"), count);
        assert_eq!(origin.last("/a").method, "HEAD");
    }
}
