//! Freshness, validation and variants, as a client sees them (RFC 9110, 9111, 5861, 9211).

use crate::harness::{Call, ConfigText, Gate, Origin, Reply, Sidecar, channel, eventually};

/// A sidecar that caches GET and HEAD as the origin's headers say.
async fn cached(origin: &Origin) -> Sidecar {
    Sidecar::start(&ConfigText::new(origin.address())).await
}

#[tokio::test]
async fn the_first_get_is_stored_and_the_second_is_a_hit() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("hello").cache_control("max-age=60").header("age", "7")
    });
    let sidecar = cached(&origin).await;

    let first = sidecar.get("/a").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.text(), "hello");
    assert!(
        first.header("cache-status").starts_with("outrigger;"),
        "{first:?}"
    );
    assert!(
        first.cache_says("fwd=uri-miss") && first.cache_says("stored"),
        "{first:?}"
    );

    let second = sidecar.get("/a").await;
    assert_eq!(second.text(), "hello");
    assert!(second.cache_says("hit"), "{second:?}");
    // RFC 9111, section 5.1: the age at the origin goes on counting.
    let age: u32 = second.header("age").parse().unwrap();
    assert!((7..60).contains(&age), "{second:?}");
    assert_eq!(origin.count("/a"), 1);
    assert!(
        sidecar
            .metric(
                "outrigger_cache_requests_total",
                &[("route", "api"), ("result", "hit")]
            )
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn head_is_answered_from_get_without_a_body() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("hello")
            .cache_control("max-age=60")
            .header("etag", "\"1\"")
    });
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;

    let head = sidecar.fetch(Call::new("HEAD", "/a")).await;
    assert!(head.cache_says("hit"), "{head:?}");
    assert_eq!(head.header("content-length"), "5");
    assert_eq!(head.header("etag"), "\"1\"");
    assert!(head.body.is_empty());
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_response_that_varies_is_kept_once_per_value() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| {
        Reply::ok(seen.header("accept-language").to_owned())
            .cache_control("max-age=60")
            .header("vary", "Accept-Language")
    });
    let sidecar = cached(&origin).await;
    let in_language = |language: &str| Call::get("/a").header("accept-language", language);

    assert_eq!(sidecar.fetch(in_language("de")).await.text(), "de");
    let other = sidecar.fetch(in_language("fr")).await;
    assert_eq!(other.text(), "fr");
    assert!(other.cache_says("fwd=vary-miss"), "{other:?}");
    for language in ["de", "fr"] {
        let again = sidecar.fetch(in_language(language)).await;
        assert_eq!(again.text(), language);
        assert!(again.cache_says("hit"), "{again:?}");
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn vary_star_is_never_a_hit() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("x").cache_control("max-age=60").header("vary", "*")
    });
    let sidecar = cached(&origin).await;
    for _ in 0..2 {
        assert!(!sidecar.get("/a").await.cache_says("hit"));
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn what_must_not_be_stored_is_not() {
    let origin = Origin::start().await;
    origin.on("/no-store", |_| {
        Reply::ok("x").cache_control("no-store, max-age=60")
    });
    origin.on("/private", |_| {
        Reply::ok("x").cache_control("private, max-age=60")
    });
    origin.on("/cookie", |_| {
        Reply::ok("x")
            .cache_control("max-age=60")
            .header("set-cookie", "a=b")
    });
    // An error without a word about caching is nobody else's answer.
    origin.on("/error", |_| Reply::status(500));
    origin.on("/silent", |_| Reply::ok("x"));
    let sidecar = cached(&origin).await;
    for path in ["/no-store", "/private", "/cookie", "/error", "/silent"] {
        for _ in 0..2 {
            let answer = sidecar.get(path).await;
            assert!(
                !answer.cache_says("hit") && !answer.cache_says("stored"),
                "{path}: {answer:?}"
            );
        }
        assert_eq!(origin.count(path), 2, "{path}");
    }
}

#[tokio::test]
async fn a_stale_entry_is_validated_and_a_304_renews_it() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| {
        if seen.header("if-none-match") == "\"1\"" {
            // RFC 9111, section 3.2: the stored header fields are updated from the 304.
            Reply::status(304)
                .cache_control("max-age=60")
                .header("etag", "\"1\"")
                .header("x-version", "two")
        } else {
            let stale = Reply::ok("body").cache_control("max-age=60").header("age", "120");
            stale.header("etag", "\"1\"").header("x-version", "one")
        }
    });
    let sidecar = cached(&origin).await;

    assert_eq!(sidecar.get("/a").await.header("x-version"), "one");
    let validated = sidecar.get("/a").await;
    assert_eq!(validated.status, 200);
    assert_eq!(validated.text(), "body");
    assert_eq!(validated.header("x-version"), "two");
    assert!(
        validated.cache_says("fwd=stale") && validated.cache_says("fwd-status=304"),
        "{validated:?}"
    );

    let renewed = sidecar.get("/a").await;
    assert!(renewed.cache_says("hit"), "{renewed:?}");
    assert_eq!(renewed.text(), "body");
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_client_that_has_it_already_gets_304() {
    let origin = Origin::start().await;
    origin.on("/a", |_| {
        Reply::ok("body")
            .cache_control("max-age=60")
            .header("etag", "W/\"1\"")
    });
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;

    // RFC 9110, section 13.1.2: weak comparison, and a list of tags.
    let same = sidecar
        .fetch(Call::get("/a").header("if-none-match", "\"0\", \"1\""))
        .await;
    assert_eq!(same.status, 304, "{same:?}");
    assert!(same.body.is_empty());
    assert_eq!(same.header("etag"), "W/\"1\"");
    let other = sidecar
        .fetch(Call::get("/a").header("if-none-match", "\"2\""))
        .await;
    assert_eq!(other.status, 200);
    assert_eq!(other.text(), "body");
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_stale_answer_is_better_than_an_error() {
    let origin = Origin::start().await;
    let stale = || {
        Reply::ok("old")
            .cache_control("max-age=60, stale-if-error=600")
            .header("age", "120")
    };
    origin.on("/a", move |_| stale());
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;

    origin.on("/a", |_| Reply::status(503));
    let answer = sidecar.get("/a").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text(), "old");

    let address = origin.address();
    drop(origin);
    let answer = sidecar.get("/a").await;
    assert_eq!(answer.text(), "old", "the origin at {address} is gone altogether");
}

#[tokio::test]
async fn what_was_fresh_a_moment_ago_outlasts_the_origin() {
    // RFC 9111, section 4.2.4: disconnected, and nothing forbids it.
    let origin = Origin::start().await;
    for (path, control) in [("/a", "max-age=60"), ("/strict", "max-age=60, must-revalidate")] {
        origin.on(path, move |_| {
            Reply::ok("old").cache_control(control).header("age", "59")
        });
    }
    let sidecar = cached(&origin).await;
    for path in ["/a", "/strict"] {
        sidecar.get(path).await;
    }
    // An error has no explicit window; that it came does not keep the entry from standing in later.
    origin.on("/a", |_| Reply::status(503));
    eventually("the error", async || {
        (sidecar.get("/a").await.status == 503).then_some(())
    })
    .await;
    drop(origin);
    let answer = eventually("a stale answer", async || {
        let answer = sidecar.get("/a").await;
        (answer.text() == "old").then_some(answer)
    })
    .await;
    assert!(answer.cache_says("detail=stale-if-disconnected"), "{answer:?}");
    eventually("no stale answer", async || {
        (sidecar.get("/strict").await.status == 502).then_some(())
    })
    .await;
}

#[tokio::test]
async fn must_revalidate_forbids_the_stale_answer() {
    let origin = Origin::start().await;
    let stale = || {
        let strict = "max-age=60, stale-if-error=600, must-revalidate";
        Reply::ok("old")
            .cache_control(strict)
            .header("age", "120")
            .header("etag", "\"1\"")
    };
    origin.on("/a", move |_| stale());
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;
    origin.on("/a", |_| Reply::status(503));
    assert_ne!(sidecar.get("/a").await.status, 200);
}

#[tokio::test]
async fn a_stale_answer_is_given_at_once_while_one_fetch_renews_it() {
    let origin = Origin::start().await;
    let stale = || {
        Reply::ok("old")
            .cache_control("max-age=60, stale-while-revalidate=600")
            .header("age", "120")
    };
    origin.on("/a", move |_| stale());
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;

    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/a", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("new").cache_control("max-age=60")
        }
    });
    // The origin does not answer yet, the sidecar does; and it asks only once.
    for _ in 0..3 {
        let answer = sidecar.get("/a").await;
        assert_eq!(answer.text(), "old");
        assert!(answer.cache_says("hit"), "{answer:?}");
    }
    origin.reached("/a", 2).await;
    gate.open();
    let renewed = crate::harness::eventually("the renewed entry", async || {
        let answer = sidecar.get("/a").await;
        (answer.text() == "new").then_some(answer)
    })
    .await;
    assert!(renewed.cache_says("hit"), "{renewed:?}");
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn the_routes_ttl_overrides_the_origin_and_a_status_may_have_its_own() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("x"));
    origin.on("/gone", |_| Reply::status(404));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: fixed
  match: {path: /a}
  upstream: hub
  cache: {mode: "on", ttl: 300s}
- name: by-status
  match: {path: /gone}
  upstream: hub
  cache: {mode: "on", ttl: {200: 300s, 404: 10s}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    for path in ["/a", "/gone"] {
        assert!(sidecar.get(path).await.cache_says("stored"), "{path}");
        assert!(sidecar.get(path).await.cache_says("hit"), "{path}");
    }
}

#[tokio::test]
async fn a_route_that_only_writes_answers_nothing() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("x").cache_control("max-age=60"));
    let config = ConfigText::new(origin.address())
        .routes("- {name: writer, match: {path: /a}, upstream: hub, cache: {mode: write_only}}");
    let sidecar = Sidecar::start(&config).await;
    for _ in 0..3 {
        let answer = sidecar.get("/a").await;
        assert!(
            answer.cache_says("detail=write-only") && answer.cache_says("stored"),
            "{answer:?}"
        );
    }
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn parameters_that_do_not_count_make_no_difference() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| Reply::ok(seen.query).cache_control("max-age=60"));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: query
  match: {path: /a}
  upstream: hub
  cache: {mode: "on", vary: {query: {include: ["*"], exclude: [utm_*], sort: true}}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    sidecar.get("/a?x=1&y=2&utm_source=mail").await;
    assert_eq!(
        origin.last("/a").query,
        "x=1&y=2&utm_source=mail",
        "the origin gets the query as it was"
    );
    assert!(sidecar.get("/a?utm_medium=web&y=2&x=1").await.cache_says("hit"));
    assert!(!sidecar.get("/a?x=1&y=3").await.cache_says("hit"));
}

#[tokio::test]
async fn a_client_that_has_it_already_still_fills_the_cache() {
    let origin = Origin::start().await;
    let (sender, body) = channel();
    let body = parking_lot::Mutex::new(Some(body));
    origin.on("/a", move |_| {
        let body = body.lock().take().expect("one request");
        Reply::ok("")
            .body(body)
            .cache_control("max-age=60")
            .header("etag", "\"1\"")
    });
    let sidecar = cached(&origin).await;
    let known = || Call::get("/a").header("if-none-match", "\"1\"");
    // The head tells that the client has it; the body comes only after the client is gone.
    assert_eq!(sidecar.fetch(known()).await.status, 304);
    assert!(sender.chunk("whole").await, "the fill goes on");
    drop(sender);
    let again = sidecar.get("/a").await;
    assert_eq!(again.text(), "whole");
}
