//! What the history costs a request, and what a day of it costs who asks.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use http::{HeaderValue, Method, Uri, Version};

use outrigger::clock::Clock;
use outrigger::config;
use outrigger::insight::history::{History, Metric, Scope};
use outrigger::tasks::Tasks;
use outrigger::telemetry::Telemetry;
use outrigger::telemetry::metrics::BuildInfo;
use outrigger::telemetry::record::{CacheResult, RequestRecord, TraceContext};
use outrigger::telemetry::tally::Tally;

use super::NOW;

const ROUTES: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Counting one request; a second of 200 busy routes; the figures of a day of them.
pub(super) fn history(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history");
    let (route, level) = (Tally::default(), Tally::default());
    let mut record = record();
    group.bench_function("a request, for its route and its level", |bencher| {
        bencher.iter(|| {
            record.principal = record
                .principal
                .map(|digest| digest.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            route.request(black_box(&record));
            level.request(black_box(&record));
        });
    });
    let clock = Clock::manual(NOW);
    let build = BuildInfo {
        version: "0",
        commit: "0",
    };
    let telemetry = Telemetry::new(clock.clone(), build);
    let directory = tempfile::tempdir().expect("a directory");
    let history = History::start(
        &config::History::default(),
        Some(directory.path()),
        &clock,
        &Tasks::new(),
    );
    let routes: Vec<_> = (0..ROUTES)
        .map(|number| telemetry.route(&format!("r{number}")))
        .collect();
    let serve = |requests: u64| {
        for (number, route) in (0_u64..).zip(&routes) {
            for request in 0..requests {
                let mut record = record.clone();
                record.principal = Some((number + request).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                record.ended = record
                    .started
                    .plus(Duration::from_micros(1_000 + (request + number) % 97 * 731));
                telemetry.record(Some(route), &record);
            }
        }
    };
    for _ in 0..24 * 60 {
        serve(20);
        clock.advance(Duration::from_secs(1));
        history.tick(&telemetry);
        clock.advance(Duration::from_secs(59));
    }
    history.tick(&telemetry);
    let (from, to) = history.last(DAY);
    group.sample_size(20);
    group.bench_function("the figures of 200 routes over 24 h", |bencher| {
        let scopes = history.scopes();
        bencher.iter(|| history.totals(&scopes, from, to));
    });
    group.bench_function("a series of 24 h in 5 minutes", |bencher| {
        let step = Duration::from_secs(300);
        bencher.iter(|| history.points(Metric::Latency(0.95), &Scope::All, from, to, step));
    });
    group.bench_function("a second of 200 routes", |bencher| {
        bencher.iter_batched(
            || serve(25),
            |()| {
                clock.advance(Duration::from_secs(1));
                history.tick(&telemetry);
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn record() -> RequestRecord {
    RequestRecord {
        started: NOW,
        first_byte: Some(NOW),
        ended: NOW.plus(Duration::from_micros(1_234)),
        client: ([192, 0, 2, 1], 5000).into(),
        principal: Some(0x9e37_79b9_7f4a_7c15),
        method: Method::GET,
        scheme: "http",
        authority: HeaderValue::from_static("hub.local"),
        uri: Uri::from_static("/models/1"),
        version: Version::HTTP_11,
        status: 200,
        cache: CacheResult::Hit,
        level: None,
        reason: "hit",
        stored: false,
        tokens: None,
        filled: None,
        bytes_in: 0,
        bytes_out: 1024,
        attempts: Vec::new(),
        trace: TraceContext::default(),
        error: None,
        aborted: false,
        warm_up: false,
    }
}
