//! Flights that go wrong: origins that fail or stall, clients that leave, bodies that prove too large.

use outrigger::tasks::Tasks;
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{
    Answer, Call, ConfigText, Gate, Origin, Reply, Sidecar, channel, eventually, fetch, try_fetch, within,
};

/// Starts `count` clients; their answers come through the channel.
fn ask(sidecar: &Sidecar, count: usize, tasks: &Tasks) -> mpsc::UnboundedReceiver<Answer> {
    let (sender, answers) = mpsc::unbounded_channel();
    for _ in 0..count {
        let (address, sender) = (sidecar.address(), sender.clone());
        tasks.spawn("client", async move {
            drop(sender.send(fetch(address, Call::get("/key")).await))
        });
    }
    answers
}

async fn all(mut answers: mpsc::UnboundedReceiver<Answer>, count: usize) -> Vec<Answer> {
    let mut received = Vec::new();
    while received.len() < count {
        received.push(within("an answer", answers.recv()).await.unwrap());
    }
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_shared_and_then_the_origin_is_left_alone_for_a_while() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    // What must not be kept or shared itself is still one failure for all who waited.
    origin.on_async("/key", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::status(503)
                .cache_control("no-store")
                .header("set-cookie", "secret=1")
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let answers = ask(&sidecar, 100, &tasks);
    sidecar.active(100).await;
    gate.open();
    let answers = all(answers, 100).await;
    assert!(answers.iter().all(|answer| answer.status == 503));
    let cookies = answers
        .iter()
        .filter(|answer| answer.headers.contains_key("set-cookie"));
    assert_eq!(cookies.count(), 1, "the origin's own answer is for one client");
    assert_eq!(origin.count("/key"), 1);

    let told = sidecar.get("/key").await;
    assert_eq!((told.status.as_u16(), origin.count("/key")), (503, 1), "{told:?}");
    assert_eq!(told.header("retry-after"), "1");
    let call = Call::json(
        "/api/v1/performance/cache/explain",
        json!({"method": "GET", "url": format!("http://{}/key", sidecar.address())}).to_string(),
    );
    let explained = sidecar
        .admin(call.bearer(&crate::harness::Token::Viewer.secret()))
        .await
        .json();
    if explained["verdict"] == "refused" {
        assert_eq!(
            explained["reasons"],
            json!(["uri-miss", "upstream-error"]),
            "{explained}"
        );
    }

    origin.on("/key", |_| Reply::ok("well").cache_control("max-age=60"));
    eventually("the end of the back-off", async || {
        (sidecar.get("/key").await.text() == "well").then_some(())
    })
    .await;
    assert_eq!(origin.count("/key"), 2, "nobody asked in between");
    assert!(sidecar.get("/key").await.cache_says("hit"));
}

#[tokio::test]
async fn a_lone_client_may_try_again_at_once() {
    let origin = Origin::start().await;
    origin.on("/key", |_| Reply::status(500));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    for count in 1..=3 {
        assert_eq!(sidecar.get("/key").await.status, 500);
        assert_eq!(origin.count("/key"), count);
    }
    origin.on("/key", |_| Reply::ok("well").cache_control("max-age=60"));
    let answer = sidecar.get("/key").await;
    assert!(
        answer.cache_says("stored"),
        "a failure is not hit-for-miss: {answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_runs_out_of_time_is_one_failure_for_all() {
    let origin = Origin::start().await;
    let never = Gate::closed();
    let held = never.clone();
    origin.on_async("/key", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("late")
        }
    });
    let config = ConfigText::new(origin.address()).upstream("timeouts: {first_byte: 2s}");
    let sidecar = Sidecar::start(&config).await;
    let tasks = Tasks::new();
    let answers = ask(&sidecar, 30, &tasks);
    for answer in all(answers, 30).await {
        assert_eq!(answer.status, 504, "{answer:?}");
    }
    assert_eq!(origin.count("/key"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_stands_in_without_asking_while_the_origin_is_left_alone() {
    let origin = Origin::start().await;
    let stale = || {
        let reply = Reply::ok("old").cache_control("max-age=60, stale-if-error=600");
        reply.header("age", "120")
    };
    origin.on("/key", move |_| stale());
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    sidecar.get("/key").await;
    let gate = Gate::closed();
    let held = gate.clone();
    origin.on_async("/key", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::status(500)
        }
    });
    let tasks = Tasks::new();
    let answers = ask(&sidecar, 20, &tasks);
    sidecar.active(20).await;
    gate.open();
    for answer in all(answers, 20).await {
        assert_eq!(answer.text(), "old", "{answer:?}");
    }
    let spared = sidecar.get("/key").await;
    assert_eq!(spared.text(), "old");
    assert!(spared.cache_says("detail=stale-if-error"), "{spared:?}");
    assert_eq!(origin.count("/key"), 2, "the fill and one failure");
}

#[tokio::test]
async fn nobody_waits_longer_for_anothers_fill_than_the_lock_timeout() {
    let origin = Origin::start().await;
    let (gate, first) = (Gate::closed(), std::sync::atomic::AtomicBool::new(true));
    let held = gate.clone();
    origin.on_async("/key", move |_| {
        let stalls = first.swap(false, std::sync::atomic::Ordering::AcqRel);
        let held = held.clone();
        async move {
            if stalls {
                held.passed().await;
            }
            Reply::ok(if stalls { "slow" } else { "own" }).cache_control("max-age=60")
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let slow = ask(&sidecar, 1, &tasks);
    origin.reached("/key", 1).await;
    let waited = tokio::time::Instant::now();
    let own = sidecar.get("/key").await;
    let waited = waited.elapsed().as_secs();
    assert_eq!(own.text(), "own");
    assert!(own.cache_says("detail=lock-timeout"), "{own:?}");
    assert!((4..20).contains(&waited), "{waited} s");
    gate.open();
    assert_eq!(all(slow, 1).await[0].text(), "slow");
}

#[tokio::test]
async fn when_the_last_reader_leaves_the_next_request_leads() {
    let origin = Origin::start().await;
    let never = Gate::closed();
    let held = never.clone();
    origin.on_async("/key", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("never")
        }
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let leader = tasks.child();
    let address = sidecar.address();
    leader.spawn("leader", async move {
        drop(try_fetch(address, Call::get("/key")).await)
    });
    origin.reached("/key", 1).await;
    leader.cancel();
    sidecar.active(0).await;
    origin.on("/key", |_| Reply::ok("next").cache_control("max-age=60"));
    let next = within("the next answer", sidecar.get("/key")).await;
    assert_eq!(next.text(), "next");
    assert!(
        next.cache_says("stored") && !next.cache_says("collapsed"),
        "{next:?}"
    );
}

#[tokio::test]
async fn a_refresh_that_is_refused_leaves_a_good_key_alone() {
    for status in [429, 503, 401] {
        let origin = Origin::start().await;
        let stale = || {
            let reply = Reply::ok("old").cache_control("max-age=60, stale-while-revalidate=600");
            reply.header("age", "120")
        };
        origin.on("/key", move |_| stale());
        let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
        sidecar.get("/key").await;
        origin.on("/key", move |_| Reply::status(status));
        assert_eq!(sidecar.get("/key").await.text(), "old");
        origin.reached("/key", 2).await;
        origin.on("/key", |_| Reply::ok("new").cache_control("max-age=60"));
        let renewed = eventually("the renewed entry", async || {
            let answer = sidecar.get("/key").await;
            assert!(answer.cache_says("hit"), "{status}: {answer:?}");
            (answer.text() == "new").then_some(answer)
        })
        .await;
        assert!(renewed.cache_says("hit"), "{renewed:?}");
        assert_eq!(
            origin.count("/key"),
            3,
            "{status}: one refresh, back-off, and one more"
        );
    }
}

/// A route that keeps at most 64 KiB of a body.
fn small(origin: &Origin) -> ConfigText {
    let route =
        "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\", max_object: 64KiB}}";
    ConfigText::new(origin.address())
        .routes(route)
        .with("telemetry: {access_log: {enabled: true}}")
}

#[tokio::test]
async fn a_body_that_proves_too_large_is_told_so_and_not_waited_for_again() {
    let origin = Origin::start().await;
    origin.on("/key", |_| {
        let (sender, body) = channel();
        let tasks = Tasks::new();
        tasks.spawn("body", async move {
            for _ in 0..20 {
                if !sender.chunk(vec![b'x'; 16 * 1024]).await {
                    return;
                }
            }
        });
        Reply::ok("").body(body).cache_control("max-age=60")
    });
    let sidecar = Sidecar::start(&small(&origin)).await;
    let first = sidecar.get("/key").await;
    assert_eq!(first.body.len(), 320 * 1024);
    let line = sidecar
        .access_log()
        .wait_for("the request", 0, |line| line.text("path") == "/key")
        .await;
    assert_eq!(line.text("reason"), "too-large");
    let labels = [("result", "miss"), ("reason", "too-large")];
    let counted = sidecar.metric("outrigger_cache_requests_total", &labels).await;
    assert!((counted - 1.0).abs() < 0.5, "{counted}");
    for _ in 0..2 {
        let again = sidecar.get("/key").await;
        assert!(again.cache_says("detail=hit-for-miss"), "{again:?}");
    }
}
