//! Lives that the route decides: by how often the answer changes.

use serde_json::json;

use crate::harness::{Answer, ConfigText, Gate, Origin, Reply, Sidecar, eventually};

/// A sidecar whose only route, `r`, has these cache rules.
async fn sidecar(origin: &Origin, rules: &str) -> Sidecar {
    let route = format!("- {{name: r, match: {{path_prefix: /}}, upstream: hub, cache: {{{rules}}}}}");
    Sidecar::start(&ConfigText::new(origin.address()).routes(&route)).await
}

/// Seconds of freshness that a hit has left.
fn ttl(answer: &Answer) -> u64 {
    let status = answer.header("cache-status");
    let (_, ttl) = status
        .split_once("hit; ttl=")
        .unwrap_or_else(|| panic!("{answer:?}"));
    ttl.parse().unwrap()
}

/// Makes every entry stale, so that the next request validates it or fetches it anew.
async fn expire(sidecar: &Sidecar) {
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
}

/// Lets the entry expire and be asked for; the life of what then is stored, give or take the time of the test.
async fn next_life(sidecar: &Sidecar, path: &str) -> std::ops::RangeInclusive<u64> {
    expire(sidecar).await;
    assert!(sidecar.get(path).await.cache_says("stored"));
    let left = ttl(&sidecar.get(path).await);
    left..=left + 50
}

const ADAPTIVE: &str = "ttl: {adaptive: {min: 1000s, max: 2000s}}";

#[tokio::test]
async fn an_adaptive_life_grows_with_each_304_and_halves_with_a_new_body() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| match seen.header("if-none-match") {
        "\"1\"" => Reply::status(304).header("etag", "\"1\""),
        _ => Reply::ok("one").header("etag", "\"1\""),
    });
    let sidecar = sidecar(&origin, ADAPTIVE).await;
    assert!(sidecar.get("/a").await.cache_says("stored"));
    let first = ttl(&sidecar.get("/a").await);
    assert!((950..=1000).contains(&first), "{first}");
    assert!(next_life(&sidecar, "/a").await.contains(&1500));
    assert!(next_life(&sidecar, "/a").await.contains(&2000), "not 2250");

    origin.on("/a", |_| Reply::ok("two").header("etag", "\"2\""));
    assert!(next_life(&sidecar, "/a").await.contains(&1000));
    assert_eq!(sidecar.get("/a").await.text(), "two");
}

#[tokio::test]
async fn a_refetch_that_brings_the_same_bytes_is_unchanged() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("same"));
    let sidecar = sidecar(&origin, ADAPTIVE).await;
    sidecar.get("/a").await;
    assert!(next_life(&sidecar, "/a").await.contains(&1500));
    origin.on("/a", |_| Reply::ok("other"));
    assert!(next_life(&sidecar, "/a").await.contains(&1000));
    // What is gone has left nothing to compare with.
    assert!(next_life(&sidecar, "/a").await.contains(&1500));
    sidecar.purge(&json!({"all": true})).await;
    sidecar.get("/a").await;
    assert!((950..=1000).contains(&ttl(&sidecar.get("/a").await)));
}

#[tokio::test]
async fn an_adaptive_life_stores_nothing_that_the_origin_forbids() {
    let origin = Origin::start().await;
    let sidecar = sidecar(&origin, ADAPTIVE).await;
    for control in ["no-store", "private"] {
        origin.on("/a", |_| Reply::ok("open"));
        sidecar.purge(&json!({"all": true})).await;
        assert!(sidecar.get("/a").await.cache_says("stored"));
        expire(&sidecar).await;
        origin.on("/a", move |_| Reply::ok("open").cache_control(control));
        for _ in 0..2 {
            let answer = sidecar.get("/a").await;
            assert!(
                !answer.cache_says("stored") && !answer.cache_says("hit"),
                "{control}: {answer:?}"
            );
        }
        // The key proved uncacheable; an answer that may be stored makes it cacheable again.
        origin.on("/a", |_| Reply::ok("open"));
        sidecar.get("/a").await;
    }
    origin.on("/error", |_| Reply::status(404));
    assert!(
        !sidecar.get("/error").await.cache_says("stored"),
        "left to the origin"
    );
}

#[tokio::test]
async fn a_popular_entry_is_refreshed_before_it_expires() {
    let origin = Origin::start().await;
    origin.on("/other", |_| Reply::ok("x"));
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/a", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("old")
        }
    });
    let sidecar = sidecar(&origin, "ttl: 60s, refresh_ahead: {beta: 1000}").await;
    // The fetch takes as long as a hundred others: a thousand times that is long before the end of the minute.
    let (first, ()) = tokio::join!(sidecar.get("/a"), async {
        origin.reached("/a", 1).await;
        for _ in 0..100 {
            sidecar.get("/other").await;
        }
        gate.open();
    });
    assert_eq!(first.text(), "old");

    origin.on("/a", |_| Reply::ok("new"));
    eventually("the refreshed entry", async || {
        let answer = sidecar.get("/a").await;
        assert!(answer.cache_says("hit"), "nobody waits for it: {answer:?}");
        (answer.text() == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_stored_from_the_nth_use_of_its_key_on() {
    let origin = Origin::start().await;
    origin.on("*", |_| Reply::ok("x"));
    let sidecar = sidecar(&origin, "ttl: 300s, min_uses: 3").await;
    for path in ["/a", "/b"] {
        for _ in 0..2 {
            let early = sidecar.get(path).await;
            assert!(
                early.cache_says("fwd=uri-miss") && early.cache_says("detail=min-uses"),
                "{path}: {early:?}"
            );
        }
        assert!(sidecar.get(path).await.cache_says("stored"), "{path}");
        assert!(sidecar.get(path).await.cache_says("hit"), "{path}");
        assert_eq!(origin.count(path), 3, "{path}");
    }
    // What was stored need not be asked for as often again.
    expire(&sidecar).await;
    assert!(sidecar.get("/a").await.cache_says("stored"));
    let refused = [("result", "miss"), ("reason", "min-uses")];
    assert_eq!(
        sidecar.metric("outrigger_cache_requests_total", &refused).await,
        4.0
    );
}

#[tokio::test]
async fn an_error_lives_as_long_as_its_status_says() {
    let origin = Origin::start().await;
    origin.on("/404", |_| Reply::status(404).cache_control("max-age=9000"));
    origin.on("/410", |_| Reply::status(410));
    origin.on("/503", |_| Reply::status(503));
    origin.on("/closed", |_| Reply::status(404).cache_control("no-store"));
    origin.on("/ok", |_| Reply::ok("x").cache_control("max-age=9000"));
    let sidecar = sidecar(&origin, "ttl: {404: 1000s, 503: 500s}").await;
    for (path, most) in [("/404", 1000), ("/503", 500), ("/ok", 9000)] {
        assert!(sidecar.get(path).await.cache_says("stored"), "{path}");
        let left = ttl(&sidecar.get(path).await);
        assert!((most - 50..=most).contains(&left), "{path} {left}");
    }
    // Not listed, and nothing said; and what the origin forbids.
    for (path, reason) in [("/410", "detail=status"), ("/closed", "detail=no-store")] {
        assert!(sidecar.get(path).await.cache_says(reason), "{path}");
    }
    // An error that is kept makes room for the answer once there is one.
    origin.on("/404", |_| Reply::ok("found").cache_control("max-age=9000"));
    expire(&sidecar).await;
    assert_eq!(sidecar.get("/404").await.text(), "found");
    assert_eq!(sidecar.get("/404").await.text(), "found");
}
