//! Every metric family the product exposes: the one list that registration, documentation and tests read.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name as scraped; counters end in `_total`.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// Label names, in order.
    pub labels: &'static [&'static str],
}

impl Family {
    /// Writes the family's description; samples are added by the encoder that is given back.
    ///
    /// OpenMetrics describes a counter without the `_total` of its samples, so it is cut off here.
    pub fn describe<'e>(
        &'static self,
        encoder: &'e mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'e>, fmt::Error> {
        let (name, kind) = match self.kind {
            Kind::Counter => (
                self.name.strip_suffix("_total").unwrap_or(self.name),
                MetricType::Counter,
            ),
            Kind::Gauge => (self.name, MetricType::Gauge),
            Kind::Histogram => (self.name, MetricType::Histogram),
        };
        encoder.encode_descriptor(name, self.help, None, kind)
    }
}

/// Writes one counter sample.
pub(super) fn counter<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    labels: [(&str, &str); N],
    value: u64,
) -> fmt::Result {
    if labels.is_empty() {
        return encoder.encode_counter::<[(&str, &str); 0], u64, f64>(&value, None);
    }
    ConstCounter::new(value).encode(encoder.encode_family(&labels)?)
}

/// Writes one gauge sample.
pub(super) fn gauge<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    labels: [(&str, &str); N],
    value: f64,
) -> fmt::Result {
    if labels.is_empty() {
        return encoder.encode_gauge(&value);
    }
    ConstGauge::new(value).encode(encoder.encode_family(&labels)?)
}

/// Buckets of durations of requests, seconds: those of the OpenTelemetry HTTP convention plus 15 to 120.
pub const DURATION_BUCKETS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0,
];

/// Buckets of our own time, seconds: a cache hit takes microseconds.
pub const OVERHEAD_BUCKETS: [f64; 15] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 1.0,
];

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                kind: Kind::$kind,
                help: $help,
                labels: &[$($label),*],
            };
        )*
        /// Every family, in the order in which they are exposed.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    SERVER_DURATION = Histogram "outrigger_http_server_request_duration_seconds" ["route", "method", "status_class", "cache"]
        "Time from the request head to the last byte of the response, seconds.";
    TIME_TO_FIRST_BYTE = Histogram "outrigger_time_to_first_byte_seconds" ["route"]
        "Time from the request head to the response head, seconds.";
    OVERHEAD = Histogram "outrigger_overhead_seconds" ["route"]
        "Our own time: the whole request minus the time spent on upstreams, seconds.";
    CACHE_REQUESTS = Counter "outrigger_cache_requests_total" ["route", "level", "result", "reason"]
        "Requests by what the cache did, why, and the level that decided.";
    COLLAPSED_REQUESTS = Counter "outrigger_collapsed_requests_total" ["route"]
        "Requests answered by another request's fetch.";
    TOKENS = Counter "outrigger_tokens_total" ["route", "model", "type", "source"]
        "Tokens of answers, by model, and whether an upstream made the answer or the cache gave it.";
    COST = Counter "outrigger_cost_dollars_total" ["route", "model"]
        "Dollars that the tokens made by upstreams cost, by the configured prices.";
    COST_SAVED = Counter "outrigger_cost_saved_dollars_total" ["route", "model"]
        "Dollars that the tokens of answers from the cache would have cost, by the configured prices.";
    ACTIVE_REQUESTS = Gauge "outrigger_http_server_active_requests" []
        "Requests being answered.";
    REQUESTS_REFUSED = Counter "outrigger_requests_refused_total" ["reason"]
        "Requests refused before routing.";
    CONNECTIONS = Gauge "outrigger_connections" ["listener"]
        "Open client connections.";
    CLIENT_DURATION = Histogram "outrigger_http_client_request_duration_seconds" ["upstream", "endpoint", "status_class"]
        "Time of one attempt at an endpoint, seconds.";
    RETRIES = Counter "outrigger_retries_total" ["upstream"]
        "Attempts after the first.";
    UPSTREAM_ENDPOINTS = Gauge "outrigger_upstream_endpoints" ["upstream", "state"]
        "Endpoints by state.";
    CACHE_ENTRIES = Gauge "outrigger_cache_entries" ["level"]
        "Entries kept.";
    CACHE_BYTES = Gauge "outrigger_cache_bytes" ["level"]
        "Bytes kept, keys and overhead included.";
    CACHE_EVICTIONS = Counter "outrigger_cache_evictions_total" ["level"]
        "Entries that had to make room.";
    LEVEL_UP = Gauge "outrigger_level_up" ["level"]
        "Whether a level below memory is asked and written; 0 while it is given a rest after failures.";
    LEVEL_DURATION = Histogram "outrigger_level_duration_seconds" ["level", "op"]
        "Time of one call to a level below memory, seconds.";
    LEVEL_ERRORS = Counter "outrigger_level_errors_total" ["level", "op", "error"]
        "Calls to a level below memory that failed.";
    INTEGRITY_FAILURES = Counter "outrigger_integrity_failures_total" ["level"]
        "Values of a level that failed a check; each was taken for a miss and deleted.";
    LEVEL_DROPPED = Counter "outrigger_level_dropped_writes_total" ["level", "reason"]
        "Writes to a level below memory that were given up, and why.";
    LEVEL_QUEUE = Gauge "outrigger_level_queue_length" ["level"]
        "Writes to a level below memory that wait or are under way.";
    PURGES = Counter "outrigger_purge_total" ["scope"]
        "Purges by scope.";
    PURGE_LOG_POSITION = Gauge "outrigger_purge_log_position" []
        "Position of the last purge that was applied.";
    PURGE_REPLICATION_UP = Gauge "outrigger_purge_replication_up" []
        "Whether the purges of all replicas are known up to the last look; only with replicas.";
    PURGE_REPLICATION_LAG = Gauge "outrigger_purge_replication_lag_seconds" []
        "Time since the purges of all replicas were last known, seconds; only with replicas.";
    PURGE_REPLICATION_UNPUBLISHED = Gauge "outrigger_purge_replication_unpublished" []
        "Purges of this replica that others cannot know of yet; only with replicas.";
    PURGE_REPLICATION_REPLICAS = Gauge "outrigger_purge_replication_replicas" []
        "Other replicas that were heard of lately; only with replicas.";
    PURGE_REPLICATION_INCARNATIONS = Counter "outrigger_purge_replication_incarnations_total" []
        "Shared purge logs that this replica became part of: one, and one more each time that the last was lost.";
    WARM_REQUESTS = Counter "outrigger_warm_requests_total" ["result"]
        "Requests that warmed the cache up, by result; no other metric counts them as requests.";
    WARM_JOBS = Counter "outrigger_warm_jobs_total" ["state"]
        "Warm-ups that have ended, by how.";
    AUDIT_EVENTS = Counter "outrigger_audit_events_total" ["result"]
        "Records of the audit log: recorded, failed (the change was refused), suppressed (refused attempts beyond the rate), and broken when a chain was found changed.";
    CONFIG_INFO = Gauge "outrigger_config_info" ["hash"]
        "The configuration in force; always 1.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = Gauge "outrigger_config_last_reload_successful" []
        "Whether the last load or reload was taken over.";
    CONFIG_RELOADS = Counter "outrigger_config_reloads_total" ["result"]
        "Reloads by result.";
    SPANS_DROPPED = Counter "outrigger_spans_dropped_total" []
        "Spans lost because the queue was full or the collector did not take them.";
    ACCESS_LOG_DROPPED = Counter "outrigger_access_log_dropped_total" []
        "Access log lines lost because standard output did not take them in time.";
    BUILD_INFO = Gauge "outrigger_build_info" ["version", "commit"]
        "The running program; always 1.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "User and system CPU time, seconds.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
        "Resident memory, bytes.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Virtual memory, bytes.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Largest number of open file descriptors.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start of the process, seconds since the Unix epoch.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names: Vec<_> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
