//! The history as a whole, on a clock that is moved by hand.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{FILE, Gauge, History, Metric, Scope};
use crate::clock::{Clock, Timestamp};
use crate::config::model;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::BuildInfo;
use crate::telemetry::record::{Attempt, CacheResult, RequestRecord, TraceContext};
use crate::telemetry::routes::RouteMetrics;
use crate::telemetry::system::SystemSample;
use crate::telemetry::usage::{TokenRecord, TokenSource, Tokens};

/// A full hour.
pub(super) const START: Timestamp = Timestamp::from_secs(1_700_002_800);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// For the thread to write.
const PATIENCE: Duration = Duration::from_secs(30);

/// A hit that took 40 ms.
pub(super) fn record() -> RequestRecord {
    RequestRecord {
        started: START,
        first_byte: None,
        ended: START.plus(Duration::from_millis(40)),
        client: "192.0.2.7:5000".parse().unwrap(),
        principal: None,
        method: http::Method::GET,
        scheme: "http",
        authority: http::HeaderValue::from_static("hub.local"),
        uri: http::Uri::from_static("/"),
        version: http::Version::HTTP_11,
        status: 200,
        cache: CacheResult::Hit,
        level: None,
        reason: "hit",
        stored: false,
        tokens: None,
        filled: None,
        bytes_in: 0,
        bytes_out: 100,
        attempts: Vec::new(),
        trace: TraceContext::default(),
        error: None,
        aborted: false,
        warm_up: false,
    }
}

fn keep() -> model::History {
    model::History::default()
}

/// A process: its telemetry and its history.
struct Process {
    clock: Clock,
    telemetry: Arc<Telemetry>,
    chat: Arc<RouteMetrics>,
    history: Arc<History>,
}

impl Process {
    fn start(at: Timestamp, directory: Option<&Path>, keep: &model::History) -> Self {
        let clock = Clock::manual(at);
        let build = BuildInfo {
            version: "0",
            commit: "0",
        };
        let telemetry = Telemetry::new(clock.clone(), build);
        Self {
            chat: telemetry.route("chat"),
            history: History::start(keep, directory, &clock, &Tasks::new()),
            clock,
            telemetry,
        }
    }

    fn serve(&self, change: impl FnOnce(&mut RequestRecord)) {
        let mut record = record();
        change(&mut record);
        self.telemetry.record(Some(&self.chat), &record);
    }

    fn tick(&self) {
        self.clock.advance(SECOND);
        self.history.tick(&self.telemetry);
    }

    /// Passes whole minutes with `requests` requests in the first second of each.
    fn minutes(&self, minutes: u64, requests: u64) {
        for _ in 0..minutes {
            (0..requests).for_each(|_| self.serve(|_| {}));
            self.tick();
            self.clock.advance(MINUTE - SECOND);
        }
    }

    async fn stop(self) {
        self.history.close(&self.telemetry, PATIENCE).await;
    }

    fn value(&self, metric: Metric, span: Duration) -> Option<f64> {
        let (from, to) = self.history.last(span);
        self.history.value(metric, &chat(), from, to)
    }
}

fn chat() -> Scope {
    Scope::Route("chat".into())
}

#[test]
fn one_event_is_counted_for_route_level_upstream_and_all() {
    let process = Process::start(START, None, &keep());
    let level = process.telemetry.level("l1");
    process.serve(|record| {
        record.level = Some(level);
        record.principal = Some(1 << 60);
        record.bytes_in = 7;
        record.tokens = Some(Box::new(TokenRecord {
            model: "m".to_owned(),
            tokens: Tokens {
                input: 3,
                output: 4,
                ..Tokens::default()
            },
            source: TokenSource::Cache,
            provider: None,
            dollars: 0.5,
        }));
    });
    process.serve(|record| {
        record.cache = CacheResult::Miss;
        record.status = 503;
        record.principal = Some(2 << 60);
        record.attempts = vec![Attempt {
            upstream: "hub".into(),
            endpoint: "a:1".into(),
            span_id: [0; 8],
            started: START,
            first_byte: None,
            ended: START.plus(Duration::from_millis(20)),
            status: None,
            error: Some("connect"),
        }];
    });
    process.serve(|record| record.warm_up = true);
    process.tick();
    let of = |metric: Metric, scope: &Scope| {
        let (from, to) = process.history.last(MINUTE);
        process.history.value(metric, scope, from, to)
    };
    for scope in [chat(), Scope::All] {
        assert_eq!(of(Metric::Requests, &scope), Some(2.0));
        assert_eq!(of(Metric::Errors, &scope), Some(1.0));
        assert_eq!(of(Metric::ErrorRatio, &scope), Some(0.5));
        assert_eq!(of(Metric::HitRatio, &scope), Some(0.5));
        assert_eq!(of(Metric::Rate, &scope), Some(2.0 / 60.0));
        assert_eq!(of(Metric::BytesIn, &scope), Some(7.0));
        assert_eq!(of(Metric::BytesOut, &scope), Some(200.0));
        assert_eq!(of(Metric::TokensCache, &scope), Some(7.0));
        assert_eq!(of(Metric::TokensUpstream, &scope), Some(0.0));
        assert_eq!(of(Metric::Saved, &scope), Some(0.5));
        assert_eq!(of(Metric::Principals, &scope).map(f64::round), Some(2.0));
        let p99 = of(Metric::Latency(0.99), &scope).unwrap();
        assert!((p99 - 0.04).abs() <= 0.002, "{p99}");
    }
    assert_eq!(of(Metric::Requests, &Scope::Level("l1".into())), Some(1.0));
    for scope in [
        Scope::Upstream("hub".into()),
        Scope::Endpoint("hub".into(), "a:1".into()),
    ] {
        assert_eq!(of(Metric::Errors, &scope), Some(1.0));
    }
    let unknown = Scope::Route("other".into());
    assert_eq!(of(Metric::Requests, &unknown), None);
    assert!(process.history.scopes().contains(&Scope::Upstream("hub".into())));
}

#[test]
fn the_system_is_read_into_its_scope() {
    let process = Process::start(START, None, &keep());
    for cpu in [10.0, 30.0] {
        let mut sample = SystemSample::default();
        sample.process.cpu_percent = Some(cpu);
        process.history.observe_system(&sample);
        process.tick();
    }
    let (from, to) = process.history.last(MINUTE);
    let of = |metric| process.history.value(metric, &Scope::System, from, to);
    assert_eq!(of(Metric::Mean(Gauge::ProcessCpu)), Some(20.0));
    assert_eq!(of(Metric::Max(Gauge::ProcessCpu)), Some(30.0));
    assert_eq!(of(Metric::Mean(Gauge::HostCpu)), None);
}

#[test]
fn minutes_and_hours_are_the_sums_of_their_seconds() {
    let process = Process::start(START, None, &keep());
    let mut sent = 0;
    for second in 0..2 * 3600 + 90_u64 {
        for _ in 0..second % 7 {
            process.serve(|record| record.bytes_out = second);
            sent += 1;
        }
        process.tick();
    }
    assert_eq!(process.value(Metric::Requests, 3 * HOUR), Some(f64::from(sent)));
    // By the second, by the minute and over a whole hour.
    let sum = |from: u64, to: u64| (from..to).map(|second| second % 7).sum::<u64>() as f64;
    let at = |second: u64| START.plus(Duration::from_secs(second));
    for (from, to) in [(7_205, 7_235), (600, 6_000), (0, 3_600), (3_540, 7_260)] {
        let told = process.history.value(Metric::Requests, &chat(), at(from), at(to));
        assert_eq!(told, Some(sum(from, to)), "{from} to {to}");
    }
    let points = process
        .history
        .points(Metric::Requests, &chat(), at(0), at(7_200), HOUR);
    assert_eq!(points, [Some(sum(0, 3_600)), Some(sum(3_600, 7_200))]);
    let points = process
        .history
        .points(Metric::Requests, &chat(), at(600), at(900), MINUTE);
    let expected: Vec<_> = (10..15)
        .map(|minute| Some(sum(minute * 60, minute * 60 + 60)))
        .collect();
    assert_eq!(points, expected);
}

#[test]
fn a_series_has_nothing_where_nothing_was_recorded() {
    let process = Process::start(START.plus(MINUTE), None, &keep());
    process.minutes(1, 3);
    process.minutes(1, 0);
    process.clock.advance(2 * MINUTE);
    process.minutes(1, 5);
    process.tick();
    let end = START.plus(6 * MINUTE);
    let points = process
        .history
        .points(Metric::Requests, &chat(), START, end, MINUTE);
    assert_eq!(points, [None, Some(3.0), Some(0.0), None, None, Some(5.0)]);
    assert_eq!(
        process
            .history
            .value(Metric::Requests, &chat(), START, START.plus(MINUTE)),
        None
    );
}

#[tokio::test]
async fn a_restart_keeps_the_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let first = Process::start(START, Some(directory.path()), &keep());
    for tens in 1..=7_u32 {
        first.minutes(10, 2);
        written(&first, START.plus((10 * tens - 1) * MINUTE)).await;
    }
    first.serve(|record| record.principal = Some(3 << 60));
    first.tick();
    first.stop().await;
    // In the middle of the same minute.
    let again = Process::start(
        START.plus(70 * MINUTE + 10 * SECOND),
        Some(directory.path()),
        &keep(),
    );
    again.serve(|record| record.principal = Some(3 << 60));
    again.tick();
    opened(&again).await;
    assert_eq!(again.value(Metric::Requests, 2 * HOUR), Some(142.0));
    again.minutes(2, 5);
    again.tick();
    written(&again, START.plus(72 * MINUTE)).await;
    assert_eq!(again.value(Metric::Requests, 2 * HOUR), Some(152.0));
    assert_eq!(
        again.value(Metric::Principals, 2 * HOUR).map(f64::round),
        Some(1.0)
    );
    let begin = START.plus(60 * MINUTE);
    let points = again
        .history
        .points(Metric::Requests, &chat(), begin, begin.plus(12 * MINUTE), MINUTE);
    assert_eq!(points[9..], [Some(2.0), Some(7.0), Some(5.0)]);
    again.stop().await;
}

/// Waits for the thread to have opened the file.
async fn opened(process: &Process) {
    let writer = process.history.writer.as_ref().unwrap();
    until(|| writer.reader().is_some()).await;
}

/// Waits for the thread to have written the minute before `end`.
async fn written(process: &Process, end: Timestamp) {
    let writer = process.history.writer.as_ref().unwrap();
    let minute = end.minus(MINUTE).as_secs();
    until(|| {
        let mut found = false;
        if let Some(reader) = writer.reader() {
            let read = reader.each(
                &Scope::All,
                super::Resolution::Minute,
                (minute, minute + 60),
                |_, _| {
                    found = true;
                },
            );
            read.unwrap();
        }
        found
    })
    .await;
}

async fn until(done: impl Fn() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_after_a_restart_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = 0.0;
    for offset in [2, 3, 1, 2_u32] {
        let process = Process::start(START.plus(offset * HOUR), Some(directory.path()), &keep());
        process.minutes(3, 4);
        expected += 12.0;
        process.stop().await;
    }
    let process = Process::start(START.plus(5 * HOUR), Some(directory.path()), &keep());
    opened(&process).await;
    assert_eq!(process.value(Metric::Requests, 6 * HOUR), Some(expected));
    // Within one process: an hour passes unseen.
    process.minutes(2, 1);
    process.clock.advance(HOUR);
    process.minutes(2, 1);
    assert_eq!(process.value(Metric::Requests, 2 * HOUR), Some(4.0));
    process.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    fs::write(&file, vec![b'x'; 10_000]).unwrap();
    let process = Process::start(START, Some(directory.path()), &keep());
    process.minutes(3, 1);
    process.stop().await;
    let aside = directory.path().join(format!("{FILE}.damaged"));
    assert_eq!(fs::read(&aside).unwrap(), vec![b'x'; 10_000]);
    // Pages in the middle.
    let mut bytes = fs::read(&file).unwrap();
    bytes.iter_mut().skip(4096).for_each(|octet| *octet ^= 0x55);
    fs::write(&file, &bytes).unwrap();
    let process = Process::start(START.plus(HOUR), Some(directory.path()), &keep());
    process.minutes(2, 1);
    assert_eq!(process.value(Metric::Requests, 2 * HOUR), Some(2.0));
    process.stop().await;
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    let process = Process::start(START.plus(2 * HOUR), Some(directory.path()), &keep());
    opened(&process).await;
    assert_eq!(process.value(Metric::Requests, 3 * HOUR), Some(2.0));
    process.stop().await;
}

#[tokio::test]
async fn without_a_usable_directory_it_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    // A file stands where the directory should be.
    fs::write(&missing, "").unwrap();
    let process = Process::start(START, Some(&missing), &keep());
    process.minutes(90, 1);
    assert_eq!(process.value(Metric::Requests, 2 * HOUR), Some(90.0));
    // It goes away: from the next minute on, it is used, and what has waited is written.
    fs::remove_file(&missing).unwrap();
    process.minutes(1, 1);
    process.stop().await;
    let again = Process::start(START.plus(2 * HOUR), Some(&missing), &keep());
    opened(&again).await;
    let kept = again.value(Metric::Requests, 2 * HOUR).unwrap();
    // As many as may wait at the thread, and on their way to it.
    assert!((2.0..=34.0).contains(&kept), "{kept}");
    again.stop().await;
}
