//! A reader that is too slow for the others of its fetch, beyond what is held of a body: it holds nobody up, and goes on by
//! a fetch of its own where that certainly brings the same bytes.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger::tasks::Tasks;
use parking_lot::Mutex;

use crate::harness::{
    BodySender, Call, ConfigText, Connection, Gate, Origin, Reply, Seen, Sidecar, channel, full, read_all,
    within,
};

/// Octets of the content: far more than what is held of it and the buffers of the sockets on the way.
const TOTAL: usize = 32 * 1024 * 1024;

/// Content in which no two places look alike.
fn content() -> Bytes {
    let mut content = vec![0; TOTAL];
    let mut state = 1_u64;
    for place in content.chunks_exact_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        place.copy_from_slice(&state.to_le_bytes());
    }
    Bytes::from(content)
}

/// Sends `content` piece by piece, as long as somebody reads.
async fn send(sender: BodySender, content: Bytes) {
    for piece in content.chunks(64 * 1024) {
        if !sender.chunk(content.slice_ref(piece)).await {
            return;
        }
    }
}

/// A slow and a fast client of one fetch, and the content that the fast one has read.
struct Race {
    content: Bytes,
    origin: Origin,
    sidecar: Sidecar,
    slow: Connection,
    slow_body: Incoming,
    tasks: Tasks,
}

impl Race {
    /// The origin answers the first request by `head` and the content; those after it by `then`.
    async fn run<T>(head: Reply, then: T) -> Self
    where
        T: Fn(&Seen, &Bytes) -> Reply + Send + Sync + 'static,
    {
        let (content, origin, tasks) = (content(), Origin::start().await, Tasks::new());
        let (sender, body) = channel();
        let first = Mutex::new(Some(head.cache_control("max-age=60").body(body)));
        let whole = content.clone();
        origin.on("/key", move |seen| match first.lock().take() {
            Some(first) => first,
            None => then(&seen, &whole),
        });
        let route =
            "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\", max_object: 64KiB}}";
        let config = ConfigText::new(origin.address())
            .routes(route)
            .with("telemetry: {access_log: {enabled: true}}");
        let sidecar = Sidecar::start(&config).await;
        let mut fast = Connection::open(sidecar.address()).await.unwrap();
        let mut slow = Connection::open(sidecar.address()).await.unwrap();
        let fast_body = fast.send(Call::get("/key")).await.unwrap().into_body();
        let call = Call::get("/key")
            .header("if-none-match", "\"other\"")
            .header("x-client", "slow");
        let slow_body = slow.send(call).await.unwrap().into_body();
        tasks.spawn("body", send(sender, content.clone()));
        let (read, _) = within("the fast one", read_all(fast_body)).await.unwrap();
        assert!(read == content, "the fast one has every byte");
        assert_eq!(origin.count("/key"), 1, "both read one fetch");
        Self {
            content,
            origin,
            sidecar,
            slow,
            slow_body,
            tasks,
        }
    }

    /// What the slow client reads in the end, and whether that ended cleanly.
    async fn read_slowly(&mut self) -> (Vec<u8>, bool) {
        let mut read = Vec::new();
        while let Some(frame) = within("the slow one", self.slow_body.frame()).await {
            match frame {
                Ok(frame) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Err(_) => return (read, false),
            }
        }
        (read, true)
    }

    /// The slow client gets the beginning of the content, and is told that this is not all.
    async fn ends_truncated(mut self, requests: usize) {
        let (read, clean) = self.read_slowly().await;
        assert!(
            !clean && read.len() < TOTAL,
            "{} bytes, clean: {clean}",
            read.len()
        );
        assert!(self.content.starts_with(&read));
        assert_eq!(self.origin.count("/key"), requests);
    }
}

fn tagged(tag: &str) -> Reply {
    Reply::ok("").header("etag", tag)
}

/// The range that is asked for, as the origin answers it.
fn rest(seen: &Seen, content: &Bytes) -> Reply {
    let from = first_octet(seen);
    Reply::status(206)
        .header("etag", "\"v1\"")
        .header("content-range", &format!("bytes {from}-{}/{TOTAL}", TOTAL - 1))
        .body(full(content.slice(from..)))
}

fn first_octet(seen: &Seen) -> usize {
    let range = seen.header("range").strip_prefix("bytes=");
    let first = range.and_then(|range| range.strip_suffix('-'));
    first
        .and_then(|first| first.parse().ok())
        .expect("one open range")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_left_behind_goes_on_by_a_fetch_of_its_own() {
    let mut race = Race::run(tagged("\"v1\""), rest).await;
    let (read, clean) = race.read_slowly().await;
    assert!(
        clean && read == race.content,
        "{} bytes, clean: {clean}",
        read.len()
    );

    assert_eq!(race.origin.count("/key"), 2);
    let own = race.origin.last("/key");
    assert!((1..TOTAL).contains(&first_octet(&own)), "{own:?}");
    assert_eq!(own.header("if-range"), "\"v1\"");
    assert_eq!(
        (own.header("x-client"), own.header("if-none-match")),
        ("slow", "")
    );
    let log = race.sidecar.access_log();
    let line = log
        .wait_for("the slow one", 0, |line| {
            line.number("attempts") == Some(1) && line.text("cache") == "collapsed"
        })
        .await;
    assert_eq!(line.text("reason"), "too-large");
    assert_eq!(line.number("bytes_out"), Some(TOTAL as u64));

    let again = within("the next answer", race.slow.fetch(Call::get("/other"))).await;
    assert_eq!(again.unwrap().status, 404, "the connection still serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_origin_without_ranges_what_the_reader_has_is_skipped() {
    let mut race = Race::run(tagged("\"v1\""), |_, content| {
        let (sender, body) = channel();
        let content = content.clone();
        Tasks::new().spawn("whole body", send(sender, content));
        tagged("\"v1\"").body(body)
    })
    .await;
    let (read, clean) = race.read_slowly().await;
    assert!(
        clean && read == race.content,
        "{} bytes, clean: {clean}",
        read.len()
    );
    assert_eq!(race.origin.count("/key"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_has_changed_meanwhile_is_not_mixed() {
    let race = Race::run(tagged("\"v1\""), |_, content| {
        tagged("\"v2\"").body(full(content.clone()))
    })
    .await;
    race.ends_truncated(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_certain_to_be_the_same_is_not_asked_for() {
    for head in [Reply::ok(""), tagged("W/\"v1\"")] {
        let race = Race::run(head, |_, _| Reply::status(500)).await;
        race.ends_truncated(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_of_its_own_ends_with_its_client() {
    let (left, waiting) = (Gate::closed(), Gate::closed());
    let (seen_left, seen_waiting) = (left.clone(), waiting.clone());
    let tasks = Arc::new(Tasks::new());
    let spawner = Arc::clone(&tasks);
    let race = Race::run(tagged("\"v1\""), move |seen, content| {
        let (left, waiting) = (seen_left.clone(), seen_waiting.clone());
        let (sender, body) = channel();
        spawner.spawn("stalled body", async move {
            waiting.open();
            sender.abandoned().await;
            left.open();
        });
        rest(seen, content).body(body)
    })
    .await;
    let reader = race.tasks.child();
    let mut slow_body = race.slow_body;
    reader.spawn("slow reader", async move {
        while slow_body.frame().await.is_some() {}
    });
    within("its own fetch", waiting.passed()).await;
    reader.cancel();
    drop(race.slow);
    within("the end of its own fetch", left.passed()).await;
    race.sidecar.active(0).await;
    race.tasks.cancel();
}
