//! Many requests for one cold key become one fetch, whose bytes all of them stream.

use std::sync::Arc;

use outrigger::tasks::Tasks;
use tokio::sync::mpsc;

use crate::harness::{
    Answer, Call, ConfigText, Connection, Gate, Origin, Reply, Sidecar, eventually, fetch, within,
};

/// An origin that answers `/cold` with `reply` once the gate is open.
async fn held(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Origin, Gate) {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let (held, reply) = (gate.clone(), Arc::new(reply));
    origin.on_async("/cold", move |_| {
        let (held, reply) = (held.clone(), Arc::clone(&reply));
        async move {
            held.passed().await;
            reply()
        }
    });
    (origin, gate)
}

/// Starts `count` clients, each with a connection of its own; their answers come through the channel.
fn ask(sidecar: &Sidecar, count: usize, tasks: &Tasks) -> mpsc::UnboundedReceiver<Answer> {
    let (sender, answers) = mpsc::unbounded_channel();
    for _ in 0..count {
        let (address, sender) = (sidecar.address(), sender.clone());
        tasks.spawn("client", async move {
            drop(sender.send(fetch(address, Call::get("/cold")).await))
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
async fn two_hundred_clients_on_one_cold_key_ask_once() {
    let body: String = (0..20_000).map(|number| format!("{number} ")).collect();
    let expected = body.clone();
    let (origin, gate) = held(move || Reply::ok(body.clone()).cache_control("max-age=60")).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();

    let answers = ask(&sidecar, 200, &tasks);
    sidecar.active(200).await;
    gate.open();
    let answers = all(answers, 200).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 200 && answer.text() == expected)
    );
    assert_eq!(origin.count("/cold"), 1);
    let collapsed = answers
        .iter()
        .filter(|answer| answer.cache_says("collapsed"))
        .count();
    assert_eq!(collapsed, 199);
    assert!(sidecar.get("/cold").await.cache_says("hit"));
}

#[tokio::test]
async fn followers_get_the_answer_when_the_leader_leaves() {
    let (origin, gate) = held(|| Reply::ok("whole").cache_control("max-age=60")).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();

    let address = sidecar.address();
    let leader = tasks.child();
    leader.spawn(
        "leader",
        async move { drop(fetch(address, Call::get("/cold")).await) },
    );
    origin.reached("/cold", 1).await;
    let answers = ask(&sidecar, 5, &tasks);
    sidecar.active(6).await;
    leader.cancel();
    sidecar.active(5).await;
    gate.open();
    for answer in all(answers, 5).await {
        assert_eq!(answer.text(), "whole", "{answer:?}");
    }
    assert_eq!(origin.count("/cold"), 1);
}

#[tokio::test]
async fn followers_stream_what_has_arrived_so_far() {
    let origin = Origin::start().await;
    let (body, payload) = crate::harness::channel();
    let payload = parking_lot::Mutex::new(Some(payload));
    origin.on("/cold", move |_| {
        Reply::ok("")
            .cache_control("max-age=60")
            .body(payload.lock().take().unwrap())
    });
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;

    let mut leader = Connection::open(sidecar.address()).await.unwrap();
    let mut follower = Connection::open(sidecar.address()).await.unwrap();
    let first = within("the leader's head", leader.send(Call::get("/cold")))
        .await
        .unwrap();
    assert!(body.chunk("one ").await);
    let second = within("the follower's head", follower.send(Call::get("/cold")))
        .await
        .unwrap();
    let mut second = second.into_body();
    let frame = within("the first chunk", http_body_util::BodyExt::frame(&mut second))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        frame.into_data().unwrap(),
        "one ",
        "before the origin has made the second"
    );
    assert!(body.chunk("two").await);
    drop(body);
    let (rest, _) = within("the rest", crate::harness::read_all(second))
        .await
        .unwrap();
    assert_eq!(rest, "two");
    let (whole, _) = within("the leader's body", crate::harness::read_all(first.into_body()))
        .await
        .unwrap();
    assert_eq!(whole, "one two");
    assert_eq!(origin.count("/cold"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uncacheable_key_is_remembered_and_runs_in_parallel() {
    let (origin, gate) = held(|| Reply::ok("fresh").cache_control("no-store")).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let first = ask(&sidecar, 1, &tasks);
    origin.reached("/cold", 1).await;
    gate.open();
    all(first, 1).await;

    let closed = Gate::closed();
    let held = closed.clone();
    origin.on_async("/cold", move |_| {
        let held = held.clone();
        async move {
            held.passed().await;
            Reply::ok("fresh").cache_control("no-store")
        }
    });
    let answers = ask(&sidecar, 10, &tasks);
    // All ten are at the origin while none has been answered: nobody queues behind another.
    origin.reached("/cold", 11).await;
    closed.open();
    for answer in all(answers, 10).await {
        assert_eq!(answer.text(), "fresh");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_fetch_is_told_to_everyone_and_not_kept() {
    let (origin, gate) = held(|| Reply::status(500)).await;
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    let tasks = Tasks::new();
    let answers = ask(&sidecar, 20, &tasks);
    sidecar.active(20).await;
    gate.open();
    for answer in all(answers, 20).await {
        assert_eq!(answer.status, 500);
    }
    assert_eq!(origin.count("/cold"), 1, "one failure for all of them");
    origin.on("/cold", |_| Reply::ok("well again").cache_control("max-age=60"));
    eventually("the end of the back-off", async || {
        (sidecar.get("/cold").await.text() == "well again").then_some(())
    })
    .await;
    assert_eq!(origin.count("/cold"), 2);
}

#[tokio::test]
async fn a_key_that_becomes_cacheable_is_cached_without_waiting() {
    let origin = Origin::start().await;
    origin.on("/cold", |_| Reply::ok("once").cache_control("no-store"));
    let sidecar = Sidecar::start(&ConfigText::new(origin.address())).await;
    assert!(sidecar.get("/cold").await.cache_says("detail=no-store"));
    assert!(sidecar.get("/cold").await.cache_says("detail=hit-for-miss"));
    origin.on("/cold", |_| Reply::ok("kept").cache_control("max-age=60"));
    assert!(sidecar.get("/cold").await.cache_says("detail=hit-for-miss"));
    assert!(sidecar.get("/cold").await.cache_says("stored"));
    assert!(sidecar.get("/cold").await.cache_says("hit"));
}
