//! What a reload may change of telemetry.

use std::sync::Arc;
use std::time::Duration;

use super::access_log::AccessLog;
use super::mask::Masking;
use super::record::RequestRecord;
use super::trace::Sampler;
use crate::config::model;

/// Settings of one configuration.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) masking: Masking,
    /// Decides at the head of a trace whether it is kept.
    pub(super) head: Sampler,
    keep_errors: bool,
    keep_slower_than: Option<Duration>,
    /// Whether spans tell models and tokens.
    pub(super) genai: bool,
    /// The log, and which requests are written to it.
    pub(super) access_log: Option<(Arc<AccessLog>, Sampler)>,
}

impl Settings {
    /// Before there is a configuration: everything is masked, no trace is kept, nothing is logged.
    pub(super) fn before_any() -> Self {
        Self {
            masking: Masking::new(&model::Mask {
                headers: Vec::new(),
                query: vec!["*".to_owned()],
            }),
            head: Sampler::NEVER,
            keep_errors: false,
            keep_slower_than: None,
            genai: false,
            access_log: None,
        }
    }

    /// Those of a configuration.
    pub(super) fn new(config: &model::Telemetry, access_log: Option<(Arc<AccessLog>, Sampler)>) -> Self {
        let otlp = config.otlp.as_ref();
        Self {
            masking: Masking::new(&config.mask),
            head: otlp.map_or(Sampler::NEVER, |otlp| Sampler::new(otlp.sample)),
            keep_errors: otlp.is_some_and(|otlp| otlp.keep_errors),
            keep_slower_than: otlp.and_then(|otlp| otlp.keep_slower_than),
            genai: otlp.is_some_and(|otlp| otlp.genai),
            access_log,
        }
    }

    /// The head's decision, and beyond it the local rule: errors and slow requests are kept whatever the head said.
    pub(super) fn keeps_trace(&self, record: &RequestRecord) -> bool {
        let failed = record.status >= 500 || record.error.is_some();
        record.trace.sampled
            || (self.keep_errors && failed)
            || self
                .keep_slower_than
                .is_some_and(|limit| record.ended.since(record.started) >= limit)
    }
}
