//! Warm-ups, told and counted.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::families;
use super::metrics::encode_reasons;
use super::reasons::ReasonCounters;

/// Something that happened to a warm-up.
#[derive(Clone, Copy, Debug)]
pub enum WarmEvent<'a> {
    /// One of its requests is through.
    Request {
        /// `fetched`, `fresh`, `skipped` or `failed`.
        result: &'static str,
    },
    /// It has ended.
    Ended {
        /// Its entry in the configuration; empty without one.
        name: &'a str,
        /// How.
        state: &'static str,
        /// Requests that were fetched.
        fetched: u64,
        /// Requests that failed.
        failed: u64,
    },
}

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct WarmCounters {
    requests: ReasonCounters,
    jobs: ReasonCounters,
}

impl WarmCounters {
    pub(super) fn tell(&self, event: WarmEvent<'_>) {
        match event {
            WarmEvent::Request { result } => self.requests.increment(result),
            WarmEvent::Ended {
                name,
                state,
                fetched,
                failed,
            } => {
                self.jobs.increment(state);
                tracing::info!(name, state, fetched, failed, "warm-up ended");
            }
        }
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encode_reasons(&families::WARM_REQUESTS, &self.requests, encoder)?;
        encode_reasons(&families::WARM_JOBS, &self.jobs, encoder)
    }
}
