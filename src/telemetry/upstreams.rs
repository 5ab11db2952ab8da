//! Metric handles of upstreams and their endpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::histogram::Histogram;

use super::families::{self, DURATION_BUCKETS};
use super::record::Attempt;
use super::routes::{STATUS_CLASSES, status_class};
use super::tally::{Subject, Taken, Tally};

/// The metrics of one endpoint of an upstream.
#[derive(Debug)]
pub struct EndpointMetrics {
    durations: [OnceLock<Histogram>; STATUS_CLASSES.len()],
    /// Shared by the endpoints of one upstream.
    retries: Arc<AtomicU64>,
    tally: Tally,
}

impl EndpointMetrics {
    fn new(retries: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            durations: Default::default(),
            retries,
            tally: Tally::default(),
        })
    }

    /// Counts and times one finished attempt; `retry` says that it was not the first for its request.
    pub(super) fn observe(&self, attempt: &Attempt, retry: bool) {
        self.tally.attempt(attempt);
        if let Some(cell) = self.durations.get(status_class(attempt.status.unwrap_or(0))) {
            let duration = attempt.ended.since(attempt.started);
            cell.get_or_init(|| Histogram::new(DURATION_BUCKETS))
                .observe(duration.as_secs_f64());
        }
        if retry {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct UpstreamMetrics {
    retries: Arc<AtomicU64>,
    endpoints: BTreeMap<Arc<str>, Arc<EndpointMetrics>>,
}

type Upstreams = BTreeMap<Arc<str>, UpstreamMetrics>;

/// The metrics of all endpoints. Read for every attempt, changed when an endpoint is first seen or a reload drops it.
#[derive(Debug, Default)]
pub(super) struct UpstreamTable(ArcSwap<Upstreams>);

impl UpstreamTable {
    /// Counts the attempts of one request, in order.
    pub(super) fn observe(&self, attempts: &[Attempt]) {
        if attempts.is_empty() {
            return;
        }
        let upstreams = self.0.load();
        for (index, attempt) in attempts.iter().enumerate() {
            let known = upstreams
                .get(&attempt.upstream)
                .and_then(|upstream| upstream.endpoints.get(&attempt.endpoint));
            match known {
                Some(endpoint) => endpoint.observe(attempt, index > 0),
                None => self
                    .endpoint(&attempt.upstream, &attempt.endpoint)
                    .observe(attempt, index > 0),
            }
        }
    }

    pub(super) fn endpoint(&self, upstream: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let find = |upstreams: &Upstreams| upstreams.get(upstream)?.endpoints.get(endpoint).map(Arc::clone);
        if let Some(known) = find(&self.0.load()) {
            return known;
        }
        self.0.rcu(|upstreams| {
            let mut upstreams = Upstreams::clone(upstreams);
            let metrics = upstreams.entry(Arc::from(upstream)).or_default();
            let retries = Arc::clone(&metrics.retries);
            metrics
                .endpoints
                .entry(Arc::from(endpoint))
                .or_insert_with(|| EndpointMetrics::new(retries));
            upstreams
        });
        find(&self.0.load()).unwrap_or_else(|| {
            // Dropped again in between by a reload: nobody will read these figures.
            EndpointMetrics::new(Arc::default())
        })
    }

    /// Takes what was counted of every endpoint, of idle ones too.
    pub(super) fn take_tallies(&self, sink: &mut impl FnMut(Subject, Option<Taken>)) {
        for (upstream, metrics) in &**self.0.load() {
            for (address, endpoint) in &metrics.endpoints {
                let subject = Subject::Endpoint(Arc::clone(upstream), Arc::clone(address));
                sink(subject, endpoint.tally.take());
            }
        }
    }

    /// Forgets endpoints for which `keep(upstream, endpoint)` is false, and upstreams without endpoints.
    pub(super) fn retain(&self, keep: impl Fn(&str, &str) -> bool) {
        self.0.rcu(|upstreams| {
            let mut upstreams = Upstreams::clone(upstreams);
            for (name, upstream) in &mut upstreams {
                upstream.endpoints.retain(|endpoint, _| keep(name, endpoint));
            }
            upstreams.retain(|_, upstream| !upstream.endpoints.is_empty());
            upstreams
        });
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let upstreams = self.0.load_full();
        let mut samples = families::CLIENT_DURATION.describe(encoder)?;
        for (name, upstream) in upstreams.iter() {
            for (endpoint, metrics) in &upstream.endpoints {
                for (status_class, cell) in STATUS_CLASSES.iter().zip(&metrics.durations) {
                    let Some(histogram) = cell.get() else { continue };
                    let labels = [
                        ("upstream", &**name),
                        ("endpoint", &**endpoint),
                        ("status_class", *status_class),
                    ];
                    histogram.encode(samples.encode_family(&labels)?)?;
                }
            }
        }
        let mut samples = families::RETRIES.describe(encoder)?;
        for (name, upstream) in upstreams.iter() {
            let count = upstream.retries.load(Ordering::Relaxed);
            families::counter(&mut samples, [("upstream", name)], count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_same_until_it_is_dropped() {
        let table = UpstreamTable::default();
        let first = table.endpoint("hub", "a:80");
        assert!(Arc::ptr_eq(&first, &table.endpoint("hub", "a:80")));
        table.retain(|upstream, endpoint| upstream == "hub" && endpoint == "a:80");
        assert!(Arc::ptr_eq(&first, &table.endpoint("hub", "a:80")));
        table.retain(|_, _| false);
        assert!(!Arc::ptr_eq(&first, &table.endpoint("hub", "a:80")));
    }
}
