//! What happens while a fill is under way: purges, unsafe requests, and requests for another variant.

use std::future::Future;

use outrigger::tasks::Tasks;
use serde_json::json;
use tokio::sync::oneshot;

use crate::harness::{Answer, Call, ConfigText, Gate, Origin, Reply, Sidecar, eventually, fetch, within};

/// An origin whose first answer on `/x` to a GET is `old`, held back by the gate, and every later one `new`.
async fn slow_at_first() -> (Origin, Gate) {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let (held, first) = (gate.clone(), std::sync::atomic::AtomicBool::new(true));
    origin.on_async("/x", move |seen| {
        let first =
            seen.method == http::Method::GET && first.swap(false, std::sync::atomic::Ordering::AcqRel);
        let held = held.clone();
        async move {
            if first {
                held.passed().await;
            }
            Reply::ok(if first { "old" } else { "new" }).cache_control("max-age=60")
        }
    });
    (origin, gate)
}

/// Sends a request in the background.
fn send(tasks: &Tasks, sidecar: &Sidecar, call: Call) -> oneshot::Receiver<Answer> {
    let (sender, answer) = oneshot::channel();
    let address = sidecar.address();
    tasks.spawn(
        "client",
        async move { drop(sender.send(fetch(address, call).await)) },
    );
    answer
}

async fn answer(answer: impl Future<Output = Result<Answer, oneshot::error::RecvError>>) -> Answer {
    within("an answer", answer).await.unwrap()
}

#[tokio::test]
async fn who_asks_after_a_purge_does_not_join_a_fill_from_before_it() {
    let (origin, gate) = slow_at_first().await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();

    let before = send(&tasks, &sidecar, Call::get("/x"));
    origin.reached("/x", 1).await;
    sidecar.purge(&json!({"tags": ["whatever"]})).await;
    assert_eq!(within("an answer", sidecar.get("/x")).await.text(), "new");
    gate.open();
    assert_eq!(
        answer(before).await.text(),
        "old",
        "the fill answers its own waiters"
    );
    assert_eq!(sidecar.get("/x").await.text(), "new");
}

#[tokio::test]
async fn who_asks_after_an_unsafe_request_does_not_join_a_fill_from_before_it() {
    let (origin, gate) = slow_at_first().await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();

    let before = send(&tasks, &sidecar, Call::get("/x"));
    origin.reached("/x", 1).await;
    assert_eq!(sidecar.fetch(Call::new("PUT", "/x")).await.status, 200);
    assert_eq!(within("an answer", sidecar.get("/x")).await.text(), "new");
    gate.open();
    assert_eq!(answer(before).await.text(), "old");
    assert_eq!(sidecar.get("/x").await.text(), "new");
}

#[tokio::test]
async fn a_validation_of_one_variant_answers_no_request_for_another() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/x", move |seen| {
        let (held, language) = (held.clone(), seen.header("accept-language").to_owned());
        let validates = !seen.header("if-none-match").is_empty();
        async move {
            let reply = if validates {
                held.passed().await;
                Reply::status(304)
            } else {
                Reply::ok(language.clone())
            };
            reply
                .cache_control("max-age=60")
                .header("etag", &format!("\"{language}\""))
                .header("vary", "accept-language")
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let wanting = |language: &str| Call::get("/x").header("accept-language", language);
    assert_eq!(sidecar.fetch(wanting("en")).await.text(), "en");
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;

    let english = send(&tasks, &sidecar, wanting("en"));
    origin.reached("/x", 2).await;
    let german = send(&tasks, &sidecar, wanting("de"));
    sidecar.active(2).await;
    gate.open();
    assert_eq!(answer(english).await.text(), "en");
    let german = answer(german).await;
    assert_eq!(german.text(), "de");
    assert!(!german.cache_says("collapsed"), "{german:?}");
}

#[tokio::test]
async fn what_an_unsafe_request_has_changed_stands_in_for_no_error() {
    let origin = Origin::start().await;
    origin.on("/x", |_| {
        Reply::ok("old").cache_control("max-age=60, stale-if-error=600")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/x").await;
    assert_eq!(sidecar.fetch(Call::new("PUT", "/x")).await.status, 200);
    origin.on("/x", |_| Reply::status(503));
    // RFC 9111, section 4.4: it is validated before it is sent again.
    assert_eq!(sidecar.get("/x").await.status, 503);
}

#[tokio::test]
async fn what_was_purged_softly_stands_in_for_an_error_and_says_so() {
    let origin = Origin::start().await;
    origin.on("/x", |_| Reply::ok("old").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/x").await;
    sidecar.purge(&json!({"all": true, "mode": "soft"})).await;
    origin.on("/x", |_| Reply::status(503));
    let answer = sidecar.get("/x").await;
    assert_eq!(answer.text(), "old");
    assert!(answer.cache_says("detail=stale-if-error"), "{answer:?}");
    assert!(!answer.cache_says("stored"), "{answer:?}");
}

#[tokio::test]
async fn every_spelling_of_a_url_is_the_same_entry_purged_and_invalidated_as_one() {
    let origin = Origin::start().await;
    origin.on("/x", |_| Reply::ok("x").cache_control("max-age=60"));
    let config = ConfigText::new(origin.address()).routes(
        r#"
- name: api
  match: {path_prefix: /}
  upstream: hub
  cache: {mode: "on", vary: {query: {include: ["*"], exclude: [utm_*], sort: true}}}
"#,
    );
    let sidecar = Sidecar::start(&config).await;
    let get = |host: &str, target: &str| Call::get(target).header("host", host);
    let stored = async |host: &str, target: &str| {
        let answer = sidecar.fetch(get(host, target)).await;
        assert!(answer.cache_says("stored"), "{host}{target}: {answer:?}");
    };
    stored("hub.local", "/x?a=1&b=2").await;
    for host in ["hub.local", "HUB.local", "hub.local:80"] {
        let answer = sidecar.fetch(get(host, "/x?b=2&utm_source=y&a=1")).await;
        assert!(answer.cache_says("hit"), "{host}: {answer:?}");
    }
    for what in [
        json!({"urls": ["http://Hub.local:80/x?b=2&a=1&utm_campaign=z"]}),
        json!({"prefix": "http://HUB.local:80/x"}),
        json!({"prefix": "Hub.loc"}),
    ] {
        let answer = sidecar.purge(&what).await;
        assert_eq!(answer["matched"], 1, "{what}");
        stored("hub.local", "/x?a=1&b=2").await;
    }
    let put = Call::new("PUT", "/x?b=2&a=1&utm_source=z").header("host", "HUB.local:80");
    assert_eq!(sidecar.fetch(put).await.status, 200);
    stored("hub.local", "/x?a=1&b=2").await;
}

#[tokio::test]
async fn what_a_refresh_finds_gone_is_not_served_stale_again() {
    let origin = Origin::start().await;
    origin.on("/x", |_| {
        Reply::ok("old")
            .cache_control("max-age=60, stale-while-revalidate=600")
            .header("age", "120")
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/x").await;
    origin.on("/x", |_| Reply::status(404).cache_control("no-store"));
    assert_eq!(sidecar.get("/x").await.text(), "old");
    eventually("the old answer to go", async || {
        (sidecar.get("/x").await.status == 404).then_some(())
    })
    .await;
}
