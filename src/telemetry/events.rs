//! The one door through which the rest of the product tells what happened.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderMap;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;

use super::access_log::AccessLog;
use super::connections::{ActiveRequest, ListenerMetrics};
pub use super::event::Event;
use super::exposition::Format;
use super::levels::LevelMetrics;
use super::mask::Masking;
use super::metrics::{BuildInfo, Metrics};
use super::otlp::{Ending, Exporter, OtlpError, genai, metrics as otlp_metrics};
use super::record::{Attempt, LevelId, RequestRecord, TraceContext};
pub use super::reload::ReloadResult;
use super::routes::RouteMetrics;
use super::samples::{EndpointCount, LevelSample, PurgeLogSample};
use super::settings::Settings;
use super::spans;
use super::tally::{Subject, Taken};
use super::trace::{IdSource, Sampler};
use super::upstreams::EndpointMetrics;
use super::usage::TokenRecord;
use crate::clock::{Clock, Timestamp};
use crate::config::model::{self, Otlp};
use crate::tasks::Tasks;

/// Metrics, traces and the access log of the process. Outlives every configuration.
#[derive(Debug)]
pub struct Telemetry {
    clock: Clock,
    build: BuildInfo,
    metrics: Metrics,
    settings: ArcSwap<Settings>,
    exporter: ArcSwapOption<Exporter>,
    metrics_exporter: Mutex<Option<Ending>>,
    /// Held while the log's thread is started, so that it is started once.
    access_log: Mutex<Option<Arc<AccessLog>>>,
}

impl Telemetry {
    /// Empty metrics; no traces and no access log until [`Telemetry::apply`] and [`Telemetry::start_exporter`].
    pub fn new(clock: Clock, build: BuildInfo) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::new(clock.now(), build),
            clock,
            build,
            settings: ArcSwap::from_pointee(Settings::before_any()),
            exporter: ArcSwapOption::empty(),
            metrics_exporter: Mutex::new(None),
            access_log: Mutex::new(None),
        })
    }

    /// Takes over the settings of a configuration that is going into force: masking, sampling, the access log.
    ///
    /// # Errors
    /// When the access log's thread cannot be started; the old settings stay.
    pub fn apply(&self, config: &model::Telemetry) -> io::Result<()> {
        self.apply_logging_to(config, || Box::new(io::stdout()))
    }

    /// [`Telemetry::apply`] with another place for the access log, which is opened when it is first needed.
    pub(super) fn apply_logging_to(
        &self,
        config: &model::Telemetry,
        open: impl FnOnce() -> Box<dyn io::Write + Send>,
    ) -> io::Result<()> {
        let access_log = match config.access_log.enabled {
            true => Some((self.access_log(open)?, Sampler::new(config.access_log.sample))),
            false => None,
        };
        self.settings.store(Arc::new(Settings::new(config, access_log)));
        Ok(())
    }

    fn access_log(&self, open: impl FnOnce() -> Box<dyn io::Write + Send>) -> io::Result<Arc<AccessLog>> {
        let mut slot = self.access_log.lock();
        if let Some(log) = &*slot {
            return Ok(Arc::clone(log));
        }
        let dropped = Arc::clone(&self.metrics.own.access_log_dropped);
        let log = Arc::new(AccessLog::start(open(), dropped)?);
        *slot = Some(Arc::clone(&log));
        Ok(log)
    }

    /// Starts sending spans, and metrics where that is asked for; must be called on the control runtime, once: changing
    /// the collector needs a restart.
    ///
    /// # Errors
    /// When the endpoint cannot be used.
    pub fn start_exporter(self: &Arc<Self>, config: &Otlp, tasks: &Tasks) -> Result<(), OtlpError> {
        let dropped = Arc::clone(&self.metrics.own.spans_dropped);
        let exporter = Exporter::start(config, self.build.version, tasks, dropped)?;
        self.exporter.store(Some(Arc::new(exporter)));
        if let Some(interval) = config.metrics {
            let telemetry = Arc::downgrade(self);
            let ending = otlp_metrics::start(config, interval, self.build.version, telemetry, tasks)?;
            *self.metrics_exporter.lock() = Some(ending);
        }
        Ok(())
    }

    /// Sends waiting spans and the last metrics, and writes waiting log lines, within `limit` for all together.
    pub async fn shutdown(&self, limit: Duration) {
        let exporter = self.exporter.swap(None);
        let metrics_exporter = self.metrics_exporter.lock().take();
        let access_log = self.access_log.lock().clone();
        let metrics = async {
            match metrics_exporter {
                Some(exporter) => exporter.shutdown(limit).await,
                None => true,
            }
        };
        let spans = async {
            match exporter {
                Some(exporter) => exporter.shutdown(limit).await,
                None => true,
            }
        };
        let lines = async {
            match access_log {
                Some(log) => log.flush(limit).await,
                None => true,
            }
        };
        let (spans, metrics, lines) = tokio::join!(spans, metrics, lines);
        if !(spans && metrics && lines) {
            tracing::warn!(spans, metrics, lines, "not all telemetry was flushed in time");
        }
    }

    /// When this process began to count.
    pub(super) fn started(&self) -> Timestamp {
        self.metrics.own.started
    }

    /// The clock that records are timed by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Continues the caller's trace or begins one.
    pub fn trace(&self, headers: &HeaderMap, ids: &IdSource) -> TraceContext {
        TraceContext::continue_or_begin(headers, self.settings.load().head, ids)
    }

    /// The masking rules in force, for answers of the admin API.
    pub fn masking(&self) -> Masking {
        self.settings.load().masking.clone()
    }

    /// Tells one finished request: the only source of its metrics, its spans and its log line.
    ///
    /// `route` is none when no route took the request.
    pub fn record(&self, route: Option<&RouteMetrics>, record: &RequestRecord) {
        self.metrics.observe(route, record);
        let settings = self.settings.load();
        if let Some((log, sampler)) = &settings.access_log
            // Our own span id is random; a trace id may be the caller's choice.
            && sampler.keeps_random(record.trace.span_id)
        {
            let route = route.map_or(super::routes::UNMATCHED, |route| route.name());
            log.write(route, record, &settings.masking);
        }
        if settings.keeps_trace(record)
            && let Some(exporter) = self.exporter.load().as_ref()
        {
            let name = route.map(|route| &**route.name());
            let mut spans = spans::of_request(name, record, &settings.masking);
            if settings.genai {
                genai::describe(&mut spans, record);
            }
            exporter.offer(spans);
        }
    }

    /// Tells the attempts of a fill that belongs to no request, such as a revalidation in the background. The
    /// attempts of a request are told by its record.
    pub fn record_attempts(&self, attempts: &[Attempt]) {
        self.metrics.own.upstreams.observe(attempts);
    }

    /// Tells the tokens of an answer that a fill fetched. Those of other answers are told by their request's record.
    pub fn record_tokens(&self, route: &RouteMetrics, record: &TokenRecord) {
        self.metrics.own.routes.count_tokens(route, record);
    }

    /// Tells an event: counts it and writes it to the log of the process.
    pub fn emit(&self, event: Event<'_>) {
        let own = &self.metrics.own;
        match event {
            Event::ConfigLoaded { hash } => {
                own.config_hash.store(Some(Arc::new(hash.to_owned())));
                own.last_reload_successful.store(true, Ordering::Relaxed);
                tracing::info!(hash, "configuration loaded");
            }
            Event::ConfigReloaded {
                result,
                hash,
                generation,
                detail,
            } => {
                own.reloads.increment(result.as_str());
                own.config_hash.store(Some(Arc::new(hash.to_owned())));
                own.last_reload_successful
                    .store(result != ReloadResult::Refused, Ordering::Relaxed);
                match result {
                    ReloadResult::Refused => {
                        tracing::error!(generation, problems = detail, "configuration rejected");
                    }
                    ReloadResult::Unchanged => tracing::info!(hash, generation, "configuration unchanged"),
                    ReloadResult::Applied if detail.is_empty() => {
                        tracing::info!(hash, generation, "configuration reloaded");
                    }
                    ReloadResult::Applied => {
                        tracing::warn!(
                            hash,
                            generation,
                            restart_required = detail,
                            "configuration reloaded"
                        );
                    }
                }
            }
            Event::Purged {
                scope,
                matched,
                position,
            } => {
                own.purges.increment(scope);
                tracing::info!(scope, matched, position, "purged");
            }
            Event::Level { level, trouble } => match trouble {
                Some(trouble) => tracing::warn!(level, trouble, "cache level degraded"),
                None => tracing::info!(level, "cache level in use"),
            },
            Event::Audited { result } => own.audited.increment(result),
            Event::Warm(event) => own.warm.tell(event),
            Event::RequestRefused { reason } => {
                own.refused.increment(reason);
                tracing::debug!(reason, "request refused");
            }
        }
    }

    /// The metric handles of route `name`; the same ones as long as the route exists.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.metrics.own.routes.route(name)
    }

    /// Takes the series of all other routes out of the exposition.
    pub fn retain_routes(&self, names: &[&str]) {
        self.metrics.own.routes.retain(names);
    }

    /// The id of cache level `name`, for [`RequestRecord::level`].
    pub fn level(&self, name: &str) -> LevelId {
        self.metrics.own.routes.level(name)
    }

    /// The metric handles of cache level `name`, which lies below memory.
    pub fn lower_level(&self, name: &str) -> Arc<LevelMetrics> {
        self.metrics.own.levels.level(name)
    }

    /// The metric handles of one endpoint, made now rather than at its first attempt.
    pub fn upstream(&self, upstream: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        self.metrics.own.upstreams.endpoint(upstream, endpoint)
    }

    /// Takes the series of endpoints out of the exposition for which `keep(upstream, endpoint)` is false.
    pub fn retain_endpoints(&self, keep: impl Fn(&str, &str) -> bool) {
        self.metrics.own.upstreams.retain(keep);
    }

    /// The metric handles of listener `name`.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.metrics.own.open.listener(name)
    }

    /// Takes what was counted since the last call, for the history, of every route, level and endpoint; of idle ones it
    /// is none.
    pub fn take_tallies(&self, mut sink: impl FnMut(Subject, Option<Taken>)) {
        self.metrics.own.routes.take_tallies(&mut sink);
        self.metrics.own.upstreams.take_tallies(&mut sink);
    }

    /// Counts a request as being answered until the guard is dropped.
    pub fn request_started(&self) -> ActiveRequest {
        self.metrics.own.open.request_started()
    }

    /// Requests being answered now.
    pub fn active_requests(&self) -> usize {
        self.metrics.own.open.requests()
    }

    /// Reads the state of cache level `name` with `read` at every scrape.
    pub fn watch_level(&self, name: &str, read: impl Fn() -> LevelSample + Send + Sync + 'static) {
        self.metrics.own.samples.watch_level(name, Box::new(read));
    }

    /// Counts endpoints by upstream and state with `read` at every scrape.
    pub fn watch_upstreams(&self, read: impl Fn() -> Vec<EndpointCount> + Send + Sync + 'static) {
        self.metrics.own.samples.watch_upstreams(Box::new(read));
    }

    /// Reads the position of the purge log with `read` at every scrape.
    pub fn watch_purge_log(&self, read: impl Fn() -> PurgeLogSample + Send + Sync + 'static) {
        self.metrics.own.samples.watch_purge_log(Box::new(read));
    }

    /// Adds a collector to the exposition.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.metrics.register_collector(collector);
    }

    /// Everything that is counted, in a text format.
    ///
    /// # Errors
    /// When a registered collector fails.
    pub fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        self.metrics.encode(format)
    }
}
