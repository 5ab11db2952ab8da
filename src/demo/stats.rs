//! What the demo's clients saw: counted while traffic runs, and pictured for the view.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};

use super::endpoint::Endpoint;
use super::hub::Hub;

/// Latencies kept per endpoint and kind of answer; quantiles are those of the latest so many answers.
const KEPT_LATENCIES: usize = 2_000;

/// What became of one request, as its client could tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered from the cache.
    Hit,
    /// Fetched from the hub, or shared with a request that did.
    Fetched,
    /// Answered with a server error.
    Error,
    /// Not answered.
    Failed,
}

impl Outcome {
    /// Reads the outcome from a response head. `Cache-Status` is a list with the cache nearest to the origin first
    /// (RFC 9211, section 2); the sidecar is the nearest to the client, so its member is the last.
    pub(super) fn of(status: http::StatusCode, headers: &HeaderMap) -> Self {
        if status.is_server_error() {
            return Self::Error;
        }
        let hit = headers
            .get_all("cache-status")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .next_back()
            .and_then(|value| value.rsplit(',').next())
            .is_some_and(|member| {
                member
                    .split(';')
                    .skip(1)
                    .any(|parameter| parameter.trim() == "hit")
            });
        if hit { Self::Hit } else { Self::Fetched }
    }
}

/// Counts while traffic runs; shared by all clients.
#[derive(Debug)]
pub(super) struct Recorder {
    clock: Clock,
    started: Timestamp,
    counted: Mutex<BTreeMap<Endpoint, Counted>>,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    requests: u64,
    hits: u64,
    errors: u64,
    failed: u64,
    foreign: u64,
    hit_latencies: Latest,
    fetched_latencies: Latest,
}

/// The latest latencies, in microseconds.
#[derive(Clone, Debug, Default)]
struct Latest(VecDeque<u64>);

impl Recorder {
    /// A recorder that counts from now.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            started: clock.now(),
            clock,
            counted: Mutex::new(BTreeMap::new()),
        }
    }

    /// The clock that latencies are measured with.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Counts one request that took `latency` to its last byte.
    pub(super) fn record(&self, endpoint: Endpoint, outcome: Outcome, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut counted = self.counted.lock();
        let counted = counted.entry(endpoint).or_default();
        counted.requests += 1;
        match outcome {
            Outcome::Hit => {
                counted.hits += 1;
                counted.hit_latencies.push(micros);
            }
            Outcome::Fetched => counted.fetched_latencies.push(micros),
            Outcome::Error => counted.errors += 1,
            Outcome::Failed => counted.failed += 1,
        }
    }

    /// Counts an answer that was made for somebody else.
    pub(super) fn record_foreign(&self, endpoint: Endpoint) {
        self.counted.lock().entry(endpoint).or_default().foreign += 1;
    }

    /// The picture now, with what `hub` was really asked.
    pub(super) fn stats(&self, hub: &Hub) -> DemoStats {
        let counted = self.counted.lock().clone();
        let endpoints = counted
            .into_iter()
            .map(|(endpoint, counted)| EndpointStats {
                endpoint,
                requests: counted.requests,
                hits: counted.hits,
                errors: counted.errors,
                failed: counted.failed,
                foreign: counted.foreign,
                hub_calls: hub.calls(endpoint),
                hit_latency: counted.hit_latencies.quantiles(),
                fetched_latency: counted.fetched_latencies.quantiles(),
            })
            .collect();
        DemoStats {
            elapsed: self.clock.now().since(self.started),
            endpoints,
        }
    }
}

impl Latest {
    fn push(&mut self, micros: u64) {
        if self.0.len() == KEPT_LATENCIES {
            self.0.pop_front();
        }
        self.0.push_back(micros);
    }

    fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        Some(Quantiles {
            p50: nearest_rank(&sorted, 50)?,
            p95: nearest_rank(&sorted, 95)?,
        })
    }
}

/// The smallest value that at least `percent` of all values do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.checked_sub(1)?)
        .copied()
        .map(Duration::from_micros)
}

/// Median and 95th percentile, to the last byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 95 % of the answers took no longer.
    pub p95: Duration,
}

/// The figures of a demo at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoStats {
    /// Since the traffic began.
    pub elapsed: Duration,
    /// The endpoints that were asked.
    pub endpoints: Vec<EndpointStats>,
}

/// The figures of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStats {
    /// Which.
    pub endpoint: Endpoint,
    /// Requests that clients sent.
    pub requests: u64,
    /// Of these, answered from the cache.
    pub hits: u64,
    /// Answered with a server error.
    pub errors: u64,
    /// Not answered.
    pub failed: u64,
    /// Answered with what belongs to another user; anything but 0 is a fault.
    pub foreign: u64,
    /// Requests that reached the hub.
    pub hub_calls: u64,
    /// Latency of answers from the cache; none when there was none.
    pub hit_latency: Option<Quantiles>,
    /// Latency of answers from the hub; none when there was none.
    pub fetched_latency: Option<Quantiles>,
}

impl DemoStats {
    /// Requests that clients sent.
    pub fn requests(&self) -> u64 {
        self.sum(|endpoint| endpoint.requests)
    }

    /// Requests that got an answer of any kind.
    pub fn answered(&self) -> u64 {
        self.requests() - self.sum(|endpoint| endpoint.failed)
    }

    /// The sum of `figure` over all endpoints.
    pub fn sum(&self, figure: impl Fn(&EndpointStats) -> u64) -> u64 {
        self.endpoints.iter().map(figure).sum()
    }
}

impl EndpointStats {
    /// Answered requests that the hub was spared.
    pub fn saved(&self) -> u64 {
        self.requests
            .saturating_sub(self.failed)
            .saturating_sub(self.hub_calls)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn outcome(status: u16, cache_status: &[&str]) -> Outcome {
        let mut headers = HeaderMap::new();
        for value in cache_status {
            headers.append("cache-status", HeaderValue::from_str(value).unwrap());
        }
        Outcome::of(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn the_outcome_is_what_the_nearest_cache_says() {
        assert_eq!(outcome(200, &["outrigger; hit; ttl=123"]), Outcome::Hit);
        assert_eq!(
            outcome(200, &["outrigger; fwd=uri-miss; stored"]),
            Outcome::Fetched
        );
        assert_eq!(
            outcome(200, &["origin; hit, outrigger; fwd=uri-miss"]),
            Outcome::Fetched
        );
        assert_eq!(
            outcome(200, &["origin; hit", "outrigger; fwd=bypass"]),
            Outcome::Fetched
        );
        assert_eq!(
            outcome(200, &["origin; fwd=miss", "outrigger; hit"]),
            Outcome::Hit
        );
        assert_eq!(outcome(200, &[]), Outcome::Fetched);
        assert_eq!(outcome(500, &["outrigger; hit"]), Outcome::Error);
    }

    #[test]
    fn quantiles_are_nearest_ranks_of_the_latest_answers() {
        let mut latest = Latest::default();
        assert_eq!(latest.quantiles(), None);
        for micros in 1..=100 {
            latest.push(micros);
        }
        let quantiles = latest.quantiles().unwrap();
        assert_eq!(quantiles.p50, Duration::from_micros(50));
        assert_eq!(quantiles.p95, Duration::from_micros(95));
        for _ in 0..KEPT_LATENCIES {
            latest.push(7);
        }
        assert_eq!(latest.quantiles().unwrap().p95, Duration::from_micros(7));
        assert_eq!(latest.0.len(), KEPT_LATENCIES);
    }

    #[test]
    fn hits_and_fetches_are_told_apart_and_errors_have_no_latency() {
        let clock = Clock::manual(Timestamp::from_secs(10));
        let hub = Hub::new(clock.clone());
        let recorder = Recorder::new(clock.clone());
        recorder.record(Endpoint::Me, Outcome::Hit, Duration::from_millis(1));
        recorder.record(Endpoint::Me, Outcome::Fetched, Duration::from_millis(30));
        recorder.record(Endpoint::Me, Outcome::Failed, Duration::from_secs(9));
        recorder.record_foreign(Endpoint::Me);
        clock.advance(Duration::from_secs(3));

        let stats = recorder.stats(&hub);
        assert_eq!(stats.elapsed, Duration::from_secs(3));
        assert_eq!((stats.requests(), stats.answered()), (3, 2));
        let me = stats.endpoints.first().unwrap();
        assert_eq!((me.hits, me.failed, me.foreign, me.saved()), (1, 1, 1, 2));
        assert_eq!(me.hit_latency.unwrap().p95, Duration::from_millis(1));
        assert_eq!(me.fetched_latency.unwrap().p50, Duration::from_millis(30));
    }
}
