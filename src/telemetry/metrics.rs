//! The registry: everything that is counted, and how it is written out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::connections::OpenTable;
use super::exposition::{self, Format};
use super::families;
use super::levels::LevelTable;
use super::process;
use super::reasons::ReasonCounters;
use super::record::RequestRecord;
use super::routes::{RouteMetrics, RouteTable};
use super::samples::Samples;
use super::upstreams::UpstreamTable;
use super::warm::WarmCounters;
use crate::clock::Timestamp;

/// Which program this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: &'static str,
    /// Commit it was built from, or `unknown`.
    pub commit: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) own: Arc<OwnMetrics>,
    registry: Mutex<Registry>,
}

/// The metrics that this folder keeps itself, as tables of handles that are written out by [`families`].
#[derive(Debug)]
pub(super) struct OwnMetrics {
    pub(super) started: Timestamp,
    build: BuildInfo,
    pub(super) routes: RouteTable,
    pub(super) upstreams: UpstreamTable,
    pub(super) open: OpenTable,
    pub(super) samples: Samples,
    pub(super) levels: LevelTable,
    pub(super) refused: ReasonCounters,
    pub(super) purges: ReasonCounters,
    pub(super) audited: ReasonCounters,
    pub(super) reloads: ReasonCounters,
    pub(super) warm: WarmCounters,
    pub(super) config_hash: ArcSwapOption<String>,
    pub(super) last_reload_successful: AtomicBool,
    pub(super) spans_dropped: Arc<AtomicU64>,
    pub(super) access_log_dropped: Arc<AtomicU64>,
}

impl Metrics {
    pub(super) fn new(started: Timestamp, build: BuildInfo) -> Self {
        let own = Arc::new(OwnMetrics {
            started,
            build,
            routes: RouteTable::new(),
            upstreams: UpstreamTable::default(),
            open: OpenTable::default(),
            samples: Samples::default(),
            levels: LevelTable::default(),
            refused: ReasonCounters::default(),
            purges: ReasonCounters::default(),
            audited: ReasonCounters::default(),
            reloads: ReasonCounters::default(),
            warm: WarmCounters::default(),
            config_hash: ArcSwapOption::empty(),
            last_reload_successful: AtomicBool::new(false),
            spans_dropped: Arc::default(),
            access_log_dropped: Arc::default(),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&own)));
        Self {
            own,
            registry: Mutex::new(registry),
        }
    }

    pub(super) fn register_collector(&self, collector: Box<dyn Collector>) {
        self.registry.lock().register_collector(collector);
    }

    /// Everything that one finished request counts.
    pub(super) fn observe(&self, route: Option<&RouteMetrics>, record: &RequestRecord) {
        // No client waited for it: it is neither a hit nor a miss, and as slow as it likes.
        if record.warm_up {
            self.own.upstreams.observe(&record.attempts);
            return;
        }
        let route = route.unwrap_or_else(|| self.own.routes.unmatched());
        route.observe(record);
        self.own.routes.observe_level(record);
        if let Some(tokens) = &record.tokens {
            self.own.routes.count_tokens(route, tokens);
        }
        self.own.upstreams.observe(&record.attempts);
    }

    pub(super) fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let mut openmetrics = String::new();
        text::encode(&mut openmetrics, &self.registry.lock())?;
        Ok(match format {
            Format::OpenMetrics => openmetrics,
            Format::Text => exposition::to_text(&openmetrics),
        })
    }
}

impl Collector for OwnMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.routes.encode(&mut encoder)?;
        self.open.encode(&mut encoder)?;
        self.upstreams.encode(&mut encoder)?;
        self.samples.encode(&mut encoder)?;
        self.levels.encode(&mut encoder)?;
        encode_reasons(&families::REQUESTS_REFUSED, &self.refused, &mut encoder)?;
        encode_reasons(&families::PURGES, &self.purges, &mut encoder)?;
        self.warm.encode(&mut encoder)?;
        encode_reasons(&families::AUDIT_EVENTS, &self.audited, &mut encoder)?;
        encode_reasons(&families::CONFIG_RELOADS, &self.reloads, &mut encoder)?;
        self.encode_config(&mut encoder)?;
        encode_count(&families::SPANS_DROPPED, &self.spans_dropped, &mut encoder)?;
        encode_count(
            &families::ACCESS_LOG_DROPPED,
            &self.access_log_dropped,
            &mut encoder,
        )?;
        let mut samples = families::BUILD_INFO.describe(&mut encoder)?;
        let labels = [("version", self.build.version), ("commit", self.build.commit)];
        families::gauge(&mut samples, labels, 1.0)?;
        process::encode(self.started, &mut encoder)
    }
}

impl OwnMetrics {
    fn encode_config(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut samples = families::CONFIG_INFO.describe(encoder)?;
        if let Some(hash) = self.config_hash.load().as_ref() {
            families::gauge(&mut samples, [("hash", hash)], 1.0)?;
        }
        let mut samples = families::CONFIG_LAST_RELOAD_SUCCESSFUL.describe(encoder)?;
        let successful = self.last_reload_successful.load(Ordering::Relaxed);
        families::gauge(&mut samples, [], f64::from(u8::from(successful)))
    }
}

pub(super) fn encode_reasons(
    family: &'static families::Family,
    counters: &ReasonCounters,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let label = family.labels.first().copied().unwrap_or("reason");
    let mut samples = family.describe(encoder)?;
    for (reason, count) in counters.iter() {
        families::counter(&mut samples, [(label, reason)], count)?;
    }
    Ok(())
}

fn encode_count(
    family: &'static families::Family,
    count: &AtomicU64,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut samples = family.describe(encoder)?;
    families::counter(&mut samples, [], count.load(Ordering::Relaxed))
}
