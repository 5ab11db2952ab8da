//! What unsafe methods make invalid (RFC 9111, section 4.4; RFC 9875).

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar};

/// A sidecar that caches GET and HEAD as the origin's headers say.
async fn cached(origin: &Origin) -> Sidecar {
    Sidecar::start(&ConfigText::new(origin.address())).await
}

#[tokio::test]
async fn an_unsafe_method_invalidates_what_it_changed() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| {
        Reply::ok(seen.method.as_str().to_owned()).cache_control("max-age=60")
    });
    let sidecar = cached(&origin).await;

    sidecar.get("/a").await;
    assert_eq!(sidecar.fetch(Call::json("/a", "{}")).await.text(), "POST");
    // RFC 9111, section 4.4.
    let after = sidecar.get("/a").await;
    assert!(!after.cache_says("hit"), "{after:?}");
    assert_eq!(after.text(), "GET");
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn an_unsafe_method_invalidates_the_groups_that_its_answer_names() {
    // RFC 9875.
    let origin = Origin::start().await;
    for (path, groups) in [("/a", "\"x\", \"y\""), ("/b", "\"Y\""), ("/none", "")] {
        origin.on(path, move |_| {
            Reply::ok(path)
                .cache_control("max-age=60")
                .header("cache-groups", groups)
        });
    }
    origin.on("/change", |_| {
        Reply::ok("").header("cache-group-invalidation", "\"z\", \"y\"")
    });
    let sidecar = cached(&origin).await;
    let paths = ["/a", "/b", "/none"];
    for path in paths {
        sidecar.get(path).await;
    }
    // The answer to a safe request invalidates nothing.
    sidecar.get("/change").await;
    for path in paths {
        assert!(sidecar.get(path).await.cache_says("hit"), "{path}");
    }
    sidecar.fetch(Call::json("/change", "{}")).await;
    for (path, hit) in paths.into_iter().zip([false, true, true]) {
        let answer = sidecar.get(path).await;
        assert_eq!(answer.cache_says("hit"), hit, "{path}: {answer:?}");
    }
    assert!(sidecar.get("/a").await.cache_says("hit"), "it was stored anew");
}

#[tokio::test]
async fn a_failed_unsafe_method_invalidates_nothing() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| match seen.method.as_str() {
        "GET" => Reply::ok("kept").cache_control("max-age=60"),
        _ => Reply::status(500),
    });
    let sidecar = cached(&origin).await;
    sidecar.get("/a").await;
    assert_eq!(sidecar.fetch(Call::json("/a", "{}")).await.status, 500);
    assert!(sidecar.get("/a").await.cache_says("hit"));
}
