//! Event streams: stored only when whole, joined while they run, replayed byte for byte.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use outrigger::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::harness::{
    Answer, BodySender, Call, ConfigText, Connection, Origin, Reply, Sidecar, channel, eventually, fetch,
    read_all, try_fetch, within,
};

const CHAT: &str = "/v1/chat/completions";
const QUESTION: &str = r#"{"model": "m", "stream": true}"#;

/// A chat route; `more` are further keys of the route.
fn route(more: &str) -> String {
    format!(
        "- {{name: chat, match: {{path: {CHAT}}}, upstream: hub{more}, \
         cache: {{methods: [POST], ttl: 300s, on_last_reader_gone: finish}}}}"
    )
}

async fn sidecar(origin: &Origin, more: &str) -> Sidecar {
    Sidecar::start(&ConfigText::new(origin.address()).routes(&route(more))).await
}

fn question() -> Call {
    Call::json(CHAT, QUESTION)
}

fn stream() -> Reply {
    Reply::ok("")
        .header("content-type", "text/event-stream; charset=utf-8")
        .cache_control("no-cache")
}

/// An origin whose answers are sent by the test, in order.
async fn scripted(answers: usize) -> (Origin, VecDeque<BodySender>) {
    let origin = Origin::start().await;
    let (senders, payloads): (VecDeque<_>, VecDeque<_>) = (0..answers).map(|_| channel()).unzip();
    let payloads = Mutex::new(payloads);
    origin.on(CHAT, move |_| match payloads.lock().pop_front() {
        Some(payload) => stream().body(payload),
        None => Reply::status(410),
    });
    (origin, senders)
}

/// Asks, and lets the origin send these chunks; whether the body ended cleanly.
async fn ask(sidecar: &Sidecar, sender: BodySender, chunks: &[&str]) -> Result<Answer, String> {
    let (answer, ()) = tokio::join!(try_fetch(sidecar.address(), question()), async {
        for chunk in chunks {
            assert!(sender.chunk((*chunk).to_owned()).await);
        }
        drop(sender);
    });
    answer
}

const WHOLE: [&str; 4] = [
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
    ": still here\r\n\r\ndata: {\"choi",
    "ces\":[]}\r\n\r\n",
    "data: [DONE]\n\n",
];

#[tokio::test]
async fn a_whole_stream_is_stored_and_replayed_byte_for_byte() {
    let (origin, mut senders) = scripted(1).await;
    let sidecar = sidecar(&origin, "").await;
    let live = ask(&sidecar, senders.pop_front().unwrap(), &WHOLE).await.unwrap();
    assert!(live.cache_says("stored"), "{live:?}");
    let replayed = sidecar.fetch(question()).await;
    assert!(replayed.cache_says("hit"), "{replayed:?}");
    assert_eq!(replayed.text(), WHOLE.concat());
    assert_eq!(live.body, replayed.body);
    for name in ["content-type", "content-length", "transfer-encoding"] {
        assert_eq!(live.header(name), replayed.header(name), "{name}");
    }
    assert_eq!(origin.count(CHAT), 1);
}

#[tokio::test]
async fn what_is_not_whole_is_never_stored_and_says_why() {
    let table: [(&[&str], &str); 5] = [
        (&["data: {\"x\":1}\n\n"], "no-terminal-event"),
        (&["data: {\"x\":1}\n\ndata: [DONE]"], "no-terminal-event"),
        (
            &["data: {\"error\":{\"message\":\"x\"}}\n\n", "data: [DONE]\n\n"],
            "stream-error",
        ),
        (
            &["event: err", "or\ndata: {}\n\ndata: [DONE]\n\n"],
            "stream-error",
        ),
        (
            &["event: response.incomplete\ndata: {}\n\ndata: [DONE]\n\n"],
            "incomplete",
        ),
    ];
    for (chunks, reason) in table {
        let (origin, mut senders) = scripted(2).await;
        let sidecar = sidecar(&origin, "").await;
        for round in 1..=2 {
            let answer = ask(&sidecar, senders.pop_front().unwrap(), chunks).await.unwrap();
            assert_eq!(answer.text(), chunks.concat(), "the client gets what there is");
            assert_eq!(origin.count(CHAT), round, "{reason}");
        }
        let labels = [("route", "chat"), ("result", "miss"), ("reason", reason)];
        eventually("the reason in the metrics", async || {
            let counted = sidecar.metric("outrigger_cache_requests_total", &labels).await;
            (counted > 1.5).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_the_origin_breaks_off_is_broken_and_not_stored() {
    let (origin, mut senders) = scripted(2).await;
    let sidecar = sidecar(&origin, "").await;
    let sender = senders.pop_front().unwrap();
    let (answer, ()) = tokio::join!(try_fetch(sidecar.address(), question()), async {
        assert!(sender.chunk("data: 1\n\ndata: [DONE]\n\n").await);
        sender.abort().await;
    });
    assert!(answer.is_err(), "{answer:?}");
    let again = ask(&sidecar, senders.pop_front().unwrap(), &WHOLE).await.unwrap();
    assert!(again.cache_says("fwd=uri-miss"), "{again:?}");
    assert_eq!(origin.count(CHAT), 2);
}

#[tokio::test]
async fn a_stream_in_a_content_coding_passes_uncached() {
    let origin = Origin::start().await;
    origin.on(CHAT, |_| {
        stream()
            .header("content-encoding", "gzip")
            .body(crate::harness::full("x"))
    });
    let sidecar = sidecar(&origin, "").await;
    assert!(sidecar.fetch(question()).await.cache_says("detail=event-stream"));
}

#[tokio::test]
async fn the_route_may_have_a_terminal_event_of_its_own() {
    let (origin, mut senders) = scripted(2).await;
    let sidecar = sidecar(&origin, ", stream: {terminal: \"data: END\"}").await;
    let known = ask(&sidecar, senders.pop_front().unwrap(), &["data: [DONE]\n\n"])
        .await
        .unwrap();
    assert_eq!(known.text(), "data: [DONE]\n\n");
    ask(&sidecar, senders.pop_front().unwrap(), &["data: END\n\n"])
        .await
        .unwrap();
    let hit = sidecar.fetch(question()).await;
    assert!(hit.cache_says("hit") && hit.text() == "data: END\n\n", "{hit:?}");
    assert_eq!(origin.count(CHAT), 2);
}

#[tokio::test]
async fn a_running_stream_is_joined_from_its_beginning() {
    let (origin, mut senders) = scripted(1).await;
    let sidecar = sidecar(&origin, "").await;
    let sender = senders.pop_front().unwrap();
    let mut first = Connection::open(sidecar.address()).await.unwrap();
    let mut late = Connection::open(sidecar.address()).await.unwrap();
    let mut leader = within("the head", first.send(question()))
        .await
        .unwrap()
        .into_body();
    assert!(sender.chunk("data: 1\n\n").await);
    let frame = within("an event", leader.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
    let response = within("the head", late.send(question())).await.unwrap();
    assert!(
        response.headers()["cache-status"]
            .to_str()
            .unwrap()
            .contains("collapsed"),
        "{response:?}"
    );
    let mut late = response.into_body();
    let frame = within("the beginning", late.frame()).await.unwrap().unwrap();
    assert_eq!(
        frame.into_data().unwrap(),
        "data: 1\n\n",
        "before the second is made"
    );
    assert!(sender.chunk("data: 2\n\n").await);
    for body in [&mut leader, &mut late] {
        let frame = within("an event", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "data: 2\n\n");
    }
    drop(sender);
    for body in [leader, late] {
        within("the end", read_all(body)).await.unwrap();
    }
    assert_eq!(origin.count(CHAT), 1);
}

#[tokio::test]
async fn a_client_that_leaves_early_does_not_spoil_the_entry() {
    let (origin, mut senders) = scripted(1).await;
    let sidecar = sidecar(&origin, "").await;
    let sender = senders.pop_front().unwrap();
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let mut body = within("the head", client.send(question()))
        .await
        .unwrap()
        .into_body();
    assert!(sender.chunk("data: 1\n\n").await);
    within("an event", body.frame()).await.unwrap().unwrap();
    drop((body, client));
    sidecar.active(0).await;
    assert!(sender.chunk("data: [DONE]\n\n").await, "the fill goes on");
    drop(sender);
    let answer = sidecar.fetch(question()).await;
    assert_eq!(answer.text(), "data: 1\n\ndata: [DONE]\n\n");
    assert_eq!(origin.count(CHAT), 1);
}

#[tokio::test]
async fn a_recorded_stream_is_replayed_at_its_pace() {
    let (origin, mut senders) = scripted(1).await;
    let sidecar = sidecar(&origin, ", stream: {replay: recorded}").await;
    let sender = senders.pop_front().unwrap();
    let (gap, mut first_seen) = (Duration::from_millis(300), None);
    let mut client = Connection::open(sidecar.address()).await.unwrap();
    let mut live = within("the head", client.send(question()))
        .await
        .unwrap()
        .into_body();
    for event in ["data: 1\n\n", "data: [DONE]\n\n"] {
        assert!(sender.chunk(event).await);
        let frame = within("an event", live.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
        let seen = *first_seen.get_or_insert_with(tokio::time::Instant::now);
        // The pace is what this test is about: the second event is not made before its time.
        eventually("the time of the next event", async || {
            (seen.elapsed() >= gap).then_some(())
        })
        .await;
    }
    drop(sender);
    within("the end", read_all(live)).await.unwrap();

    let mut body = within("the head", client.send(question()))
        .await
        .unwrap()
        .into_body();
    let first = within("an event", body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
    let began = tokio::time::Instant::now();
    let second = within("an event", body.frame()).await.unwrap().unwrap();
    assert_eq!(second.into_data().unwrap(), "data: [DONE]\n\n");
    assert!(began.elapsed() >= gap / 2, "{:?}", began.elapsed());
    assert_eq!(origin.count(CHAT), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streaming_calls_reach_the_origin_once() {
    let (origin, mut senders) = scripted(1).await;
    let sidecar = sidecar(&origin, "").await;
    let sender = senders.pop_front().unwrap();
    let tasks = Tasks::new();
    let (told, mut answers) = mpsc::unbounded_channel();
    for _ in 0..100 {
        let (address, told) = (sidecar.address(), told.clone());
        tasks.spawn("client", async move {
            drop(told.send(fetch(address, question()).await));
        });
    }
    let events: Arc<Vec<String>> = Arc::new((0..200).map(|n| format!("data: {{\"n\":{n}}}\n\n")).collect());
    sidecar.active(100).await;
    for event in events.iter() {
        assert!(sender.chunk(event.clone()).await);
    }
    assert!(sender.chunk("data: [DONE]\n\n").await);
    drop(sender);
    let expected = format!("{}data: [DONE]\n\n", events.concat());
    for _ in 0..100 {
        let answer = within("an answer", answers.recv()).await.unwrap();
        assert_eq!(answer.text(), expected);
    }
    assert_eq!(origin.count(CHAT), 1);
}
