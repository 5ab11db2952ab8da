//! Figures over a time, by name.

use std::time::Duration;

use super::sample::{Gauge, Sample};
use crate::telemetry::record::CacheResult;

/// A figure that a sample gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Requests; attempts of an upstream.
    Requests,
    /// Requests per second.
    Rate,
    /// Failed requests.
    Errors,
    /// Failed requests per second.
    ErrorRate,
    /// Failed requests as a share of all, 0 to 1.
    ErrorRatio,
    /// Seconds that this share of requests, 0 to 1, does not exceed.
    Latency(f64),
    /// Mean seconds of a request.
    LatencyMean,
    /// Hits as a share of the requests that the cache could answer, 0 to 1.
    HitRatio,
    /// Requests by what the cache did.
    Result(CacheResult),
    /// Bytes of request bodies.
    BytesIn,
    /// Bytes of response bodies.
    BytesOut,
    /// Tokens that upstreams made.
    TokensUpstream,
    /// Tokens that the cache spared them.
    TokensCache,
    /// Dollars spent.
    Cost,
    /// Dollars saved.
    Saved,
    /// Unique principals, about.
    Principals,
    /// Mean of what was read.
    Mean(Gauge),
    /// The largest that was read.
    Max(Gauge),
}

impl Metric {
    /// The figure of a sample over a time of this width; none where there is none, such as a share of nothing.
    pub fn of(self, sample: &Sample, width: Duration) -> Option<f64> {
        let per_second = |count: u64| {
            let seconds = width.as_secs_f64();
            (seconds > 0.0).then(|| count as f64 / seconds)
        };
        match self {
            Self::Requests => Some(sample.requests as f64),
            Self::Rate => per_second(sample.requests),
            Self::Errors => Some(sample.errors as f64),
            Self::ErrorRate => per_second(sample.errors),
            Self::ErrorRatio => sample.error_ratio(),
            Self::Latency(quantile) => sample.latency.quantile(quantile),
            Self::LatencyMean => {
                (sample.requests > 0).then(|| sample.micros as f64 / sample.requests as f64 / 1e6)
            }
            Self::HitRatio => sample.hit_ratio(),
            Self::Result(result) => Some(sample.result(result) as f64),
            Self::BytesIn => Some(sample.bytes_in as f64),
            Self::BytesOut => Some(sample.bytes_out as f64),
            Self::TokensUpstream => Some(sample.tokens_upstream as f64),
            Self::TokensCache => Some(sample.tokens_cache as f64),
            Self::Cost => Some(sample.cost),
            Self::Saved => Some(sample.saved),
            Self::Principals => Some(sample.principals.count()),
            Self::Mean(gauge) => sample.gauge(gauge).mean(),
            Self::Max(gauge) => Some(sample.gauge(gauge))
                .filter(|read| read.count > 0)
                .map(|read| read.max),
        }
    }
}
