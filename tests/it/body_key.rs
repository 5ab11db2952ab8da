//! POST answers cached by their body: JSON by meaning (RFC 8785), everything else by its bytes.

use crate::harness::{Answer, Call, ConfigText, Origin, Reply, Sidecar};

/// A completion endpoint that numbers its answers, behind a route that keys by body.
async fn chat() -> (Origin, Sidecar) {
    let origin = Origin::start().await;
    origin.on("/v1/chat", |seen| Reply::ok(seen.body));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: chat
  match: {path: /v1/chat, methods: [POST]}
  upstream: hub
  cache:
    mode: "on"
    methods: [POST]
    ttl: 300s
    vary: {body: {json: {ignore: [/user, /metadata]}, max: 1KiB}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    (origin, sidecar)
}

async fn ask(sidecar: &Sidecar, body: &str) -> Answer {
    sidecar.fetch(Call::json("/v1/chat", body.to_owned())).await
}

#[tokio::test]
async fn reordered_keys_and_spaces_are_the_same_question() {
    let (origin, sidecar) = chat().await;
    let first = r#"{"model": "m", "messages": [{"role": "user", "content": "h\u00e9"}], "n": 1.0}"#;
    assert!(ask(&sidecar, first).await.cache_says("stored"));
    assert_eq!(
        origin.last("/v1/chat").body,
        first,
        "the origin gets the body byte for byte"
    );
    let again = ask(
        &sidecar,
        r#"{"n":1,"messages":[{"content":"hé","role":"user"}],"model":"m"}"#,
    )
    .await;
    assert!(again.cache_says("hit"), "{again:?}");
    assert_eq!(again.text(), first);
    assert_eq!(origin.count("/v1/chat"), 1);
}

#[tokio::test]
async fn ignored_members_make_no_difference() {
    let (_origin, sidecar) = chat().await;
    ask(&sidecar, r#"{"q": 1, "user": "a", "metadata": {"x": [1, 2]}}"#).await;
    assert!(ask(&sidecar, r#"{"q": 1, "user": "b"}"#).await.cache_says("hit"));
    assert!(ask(&sidecar, r#"{"q": 1}"#).await.cache_says("hit"));
}

#[tokio::test]
async fn other_values_are_other_questions() {
    let (origin, sidecar) = chat().await;
    let bodies = [
        r#"{"q": 1}"#,
        r#"{"q": 2}"#,
        r#"{"q": "1"}"#,
        r#"{"q": [1]}"#,
        r#"{"q": null}"#,
        r#"{"q": 1, "r": 1}"#,
        r#"{"q": {"user": 1}}"#,
        r#"{"q": [1, 2]}"#,
        r#"{"q": [2, 1]}"#,
        // Members that occur twice, and integers that JSON readers round, count by their bytes.
        r#"{"q": 1, "q": 2}"#,
        r#"{"q": 2, "q": 1}"#,
        r#"{"q": 9007199254740992}"#,
        r#"{"q": 9007199254740993}"#,
    ];
    for body in bodies {
        let answer = ask(&sidecar, body).await;
        assert!(!answer.cache_says("hit"), "{body}: {answer:?}");
        assert_eq!(answer.text(), body);
    }
    assert_eq!(origin.count("/v1/chat"), bodies.len());
    for body in bodies {
        let answer = ask(&sidecar, body).await;
        assert!(answer.cache_says("hit"), "{body}: {answer:?}");
        assert_eq!(answer.text(), body);
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_passes_uncached_and_whole() {
    let (origin, sidecar) = chat().await;
    let large = format!(r#"{{"q": "{}"}}"#, "x".repeat(4096));
    for _ in 0..2 {
        let answer = ask(&sidecar, &large).await;
        assert_eq!(answer.text(), large);
        assert!(
            !answer.cache_says("hit") && !answer.cache_says("stored"),
            "{answer:?}"
        );
        assert!(answer.cache_says("detail=body-too-large"), "{answer:?}");
    }
    assert_eq!(origin.count("/v1/chat"), 2);
}

#[tokio::test]
async fn a_body_that_is_no_json_counts_by_its_bytes() {
    let (origin, sidecar) = chat().await;
    assert!(ask(&sidecar, "not { json").await.cache_says("stored"));
    assert!(ask(&sidecar, "not { json").await.cache_says("hit"));
    assert!(!ask(&sidecar, "not {  json").await.cache_says("hit"));
    let plain = |body: &'static str| Call::json("/v1/chat", body).replace("content-type", "text/plain");
    assert!(sidecar.fetch(plain("{\"q\":1}")).await.cache_says("stored"));
    assert!(
        !sidecar.fetch(plain("{ \"q\": 1 }")).await.cache_says("hit"),
        "other types count by their bytes"
    );
    assert_eq!(origin.count("/v1/chat"), 4);
}

#[tokio::test]
async fn two_users_with_one_question_get_two_answers() {
    let (origin, sidecar) = chat().await;
    for user in ["alice", "bob"] {
        let answer = sidecar.fetch(Call::json("/v1/chat", "{}").bearer(user)).await;
        assert!(!answer.cache_says("hit"), "{answer:?}");
    }
    assert_eq!(origin.count("/v1/chat"), 2);
}

#[tokio::test]
async fn a_question_that_cannot_be_kept_leaves_the_other_answers_alone() {
    let (_origin, sidecar) = chat().await;
    assert!(ask(&sidecar, "{}").await.cache_says("stored"));
    let large = format!("{{\"q\": \"{}\"}}", "x".repeat(2_000));
    assert!(ask(&sidecar, &large).await.cache_says("detail=body-too-large"));
    assert!(ask(&sidecar, "{}").await.cache_says("hit"));
}

#[tokio::test]
async fn requests_that_the_provider_remembers_take_no_part() {
    let (origin, sidecar) = chat().await;
    let table = [
        (r#"{"q": 1, "store": true}"#, "store"),
        (r#"{"q": 1, "previous_response_id": "r"}"#, "previous-response"),
        (r#"{"q": 1, "conversation": "c"}"#, "conversation"),
    ];
    for (body, reason) in table {
        for _ in 0..2 {
            let answer = ask(&sidecar, body).await;
            assert!(answer.cache_says("fwd=bypass"), "{answer:?}");
            assert!(answer.cache_says(&format!("detail={reason}")), "{answer:?}");
            assert_eq!(
                origin.last("/v1/chat").body,
                body,
                "the origin gets the body byte for byte"
            );
        }
    }
    assert_eq!(origin.count("/v1/chat"), 6);
    let kept_nowhere = r#"{"q": 1, "store": false, "conversation": null, "temperature": 0.7}"#;
    assert!(ask(&sidecar, kept_nowhere).await.cache_says("stored"));
    assert!(ask(&sidecar, kept_nowhere).await.cache_says("hit"));
}

#[tokio::test]
async fn a_temperature_is_bypassed_where_the_route_says_so() {
    let origin = Origin::start().await;
    origin.on("/v1/chat", |seen| Reply::ok(seen.body));
    let config = ConfigText::new(origin.address()).routes(
        "- {name: chat, match: {path: /v1/chat}, upstream: hub, \
         cache: {methods: [POST], ttl: 300s, nondeterministic: bypass}}",
    );
    let sidecar = Sidecar::start(&config).await;
    for _ in 0..2 {
        let warm = ask(&sidecar, r#"{"temperature": 0.7}"#).await;
        assert!(warm.cache_says("detail=temperature"), "{warm:?}");
    }
    ask(&sidecar, r#"{"temperature": 0}"#).await;
    assert!(ask(&sidecar, r#"{"temperature": 0.0}"#).await.cache_says("hit"));
}
