//! Metric handles of routes: tables indexed by enums, so that a request costs a few atomics and no label strings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::Method;
use parking_lot::RwLock;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::histogram::Histogram;

use super::families::{self, DURATION_BUCKETS, OVERHEAD_BUCKETS};
use super::reasons::ReasonCounters;
use super::record::{CacheResult, LevelId, RequestRecord};
use super::tally::{Subject, Taken, Tally};
use super::usage::{self, ModelNames, RouteTokens, TokenRecord};

/// The label `route` of requests that no route took.
pub const UNMATCHED: &str = "unmatched";

/// Values of the label `method`; other methods share the last one, so that a client cannot add series.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "other",
];

/// Values of the label `status_class`; `none` when no response was sent or received.
pub(super) const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Cache levels that have counters of their own; more than any configuration has.
pub(super) const LEVELS: usize = 8;

type ByCache = [OnceLock<Histogram>; CacheResult::ALL.len()];
type ByStatus = [ByCache; STATUS_CLASSES.len()];
type ByResult = [ReasonCounters; CacheResult::ALL.len()];

/// The metrics of one route. Rows of the tables are made on first use: most routes see few methods.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Arc<str>,
    durations: [OnceLock<Box<ByStatus>>; METHODS.len()],
    /// Index 0: no level decided; index n + 1: level n.
    lookups: [OnceLock<Box<ByResult>>; LEVELS + 1],
    time_to_first_byte: Histogram,
    overhead: Histogram,
    collapsed: AtomicU64,
    tokens: RouteTokens,
    tally: Tally,
}

impl RouteMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            durations: Default::default(),
            lookups: Default::default(),
            time_to_first_byte: Histogram::new(DURATION_BUCKETS),
            overhead: Histogram::new(OVERHEAD_BUCKETS),
            collapsed: AtomicU64::new(0),
            tokens: RouteTokens::default(),
            tally: Tally::default(),
        }
    }

    /// The route's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The counters of its tokens.
    pub(super) fn tokens(&self) -> &RouteTokens {
        &self.tokens
    }

    /// Counts and times one finished request.
    pub(super) fn observe(&self, record: &RequestRecord) {
        self.tally.request(record);
        let total = record.ended.since(record.started);
        if let Some(duration) = self.duration(record) {
            duration.observe(total.as_secs_f64());
        }
        if let Some(first_byte) = record.first_byte {
            self.time_to_first_byte
                .observe(first_byte.since(record.started).as_secs_f64());
        }
        if record.cache == CacheResult::Collapsed {
            // The time was spent waiting for another request's upstream: it is not ours, and not known here.
            self.collapsed.fetch_add(1, Ordering::Relaxed);
        } else {
            let upstream = record
                .attempts
                .iter()
                .map(|attempt| attempt.ended.since(attempt.started))
                .sum();
            self.overhead
                .observe(total.saturating_sub(upstream).as_secs_f64());
        }
        let level = record.level.map_or(0, |level| level.index() + 1);
        if let Some(results) = self.lookups.get(level) {
            let results = results.get_or_init(Box::default);
            if let Some(reasons) = results.get(record.cache as usize) {
                reasons.increment(record.reason);
            }
        }
    }

    fn duration(&self, record: &RequestRecord) -> Option<&Histogram> {
        let row = self.durations.get(method_index(&record.method))?;
        let cell = row
            .get_or_init(Box::default)
            .get(status_class(record.status))?
            .get(record.cache as usize)?;
        Some(cell.get_or_init(|| Histogram::new(DURATION_BUCKETS)))
    }
}

/// The metrics of all routes, by name: a route that a reload keeps also keeps its counters.
#[derive(Debug)]
pub(super) struct RouteTable {
    routes: RwLock<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
    levels: RwLock<Vec<Arc<str>>>,
    /// What was counted of the levels, by their index.
    level_tallies: [Tally; LEVELS],
    models: ModelNames,
    unmatched: Arc<RouteMetrics>,
}

impl RouteTable {
    pub(super) fn new() -> Self {
        let unmatched = Arc::new(RouteMetrics::new(Arc::from(UNMATCHED)));
        Self {
            routes: RwLock::new(BTreeMap::from([(Arc::from(UNMATCHED), Arc::clone(&unmatched))])),
            levels: RwLock::new(Vec::new()),
            level_tallies: Default::default(),
            models: ModelNames::default(),
            unmatched,
        }
    }

    pub(super) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.write();
        if let Some(route) = routes.get(name) {
            return Arc::clone(route);
        }
        let name: Arc<str> = Arc::from(name);
        let route = Arc::new(RouteMetrics::new(Arc::clone(&name)));
        routes.insert(name, Arc::clone(&route));
        route
    }

    pub(super) fn unmatched(&self) -> &RouteMetrics {
        &self.unmatched
    }

    /// Counts one finished request for the level that decided.
    pub(super) fn observe_level(&self, record: &RequestRecord) {
        let level = record
            .level
            .and_then(|level| self.level_tallies.get(level.index()));
        if let Some(tally) = level {
            tally.request(record);
        }
    }

    /// Takes what was counted of every route and level, of idle ones too.
    pub(super) fn take_tallies(&self, sink: &mut impl FnMut(Subject, Option<Taken>)) {
        for (name, route) in &*self.routes.read() {
            sink(Subject::Route(Arc::clone(name)), route.tally.take());
        }
        for (name, tally) in self.levels.read().iter().zip(&self.level_tallies) {
            sink(Subject::Level(Arc::clone(name)), tally.take());
        }
    }

    /// Counts the tokens of one answer.
    pub(super) fn count_tokens(&self, route: &RouteMetrics, record: &TokenRecord) {
        route.tally.tokens(record);
        route.tokens().count(self.models.number(&record.model), record);
    }

    pub(super) fn retain(&self, names: &[&str]) {
        self.routes
            .write()
            .retain(|name, _| &**name == UNMATCHED || names.contains(&&**name));
    }

    /// The id of the level called `name`; levels beyond the table's size share the last id.
    pub(super) fn level(&self, name: &str) -> LevelId {
        let mut levels = self.levels.write();
        let known = levels.iter().position(|level| &**level == name);
        let index = known.unwrap_or_else(|| {
            if levels.len() < LEVELS {
                levels.push(Arc::from(name));
            }
            levels.len() - 1
        });
        LevelId::from_index(index)
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let routes: Vec<_> = self.routes.read().values().map(Arc::clone).collect();
        encode_durations(&routes, encoder)?;
        encode_histogram(
            &families::TIME_TO_FIRST_BYTE,
            &routes,
            |route| &route.time_to_first_byte,
            encoder,
        )?;
        encode_histogram(&families::OVERHEAD, &routes, |route| &route.overhead, encoder)?;
        self.encode_lookups(&routes, encoder)?;
        let mut samples = families::COLLAPSED_REQUESTS.describe(encoder)?;
        for route in &routes {
            let count = route.collapsed.load(Ordering::Relaxed);
            families::counter(&mut samples, [("route", &route.name)], count)?;
        }
        let tokens = routes.iter().map(|route| (&*route.name, route.tokens()));
        usage::encode(&self.models, &tokens, encoder)
    }

    fn encode_lookups(
        &self,
        routes: &[Arc<RouteMetrics>],
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let levels = self.levels.read().clone();
        let mut samples = families::CACHE_REQUESTS.describe(encoder)?;
        for route in routes {
            let names = std::iter::once("none").chain(levels.iter().map(|level| &**level));
            for (level, results) in names.zip(&route.lookups) {
                let Some(results) = results.get() else { continue };
                for (result, reasons) in CacheResult::ALL.iter().zip(results.iter()) {
                    for (reason, count) in reasons.iter() {
                        let labels = [
                            ("route", &*route.name),
                            ("level", level),
                            ("result", result.as_str()),
                            ("reason", reason),
                        ];
                        families::counter(&mut samples, labels, count)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode_durations(routes: &[Arc<RouteMetrics>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut samples = families::SERVER_DURATION.describe(encoder)?;
    for route in routes {
        for (method, row) in METHODS.iter().zip(&route.durations) {
            let Some(row) = row.get() else { continue };
            for (status_class, cells) in STATUS_CLASSES.iter().zip(row.iter()) {
                for (cache, cell) in CacheResult::ALL.iter().zip(cells) {
                    let Some(histogram) = cell.get() else { continue };
                    let labels = [
                        ("route", &*route.name),
                        ("method", *method),
                        ("status_class", *status_class),
                        ("cache", cache.as_str()),
                    ];
                    histogram.encode(samples.encode_family(&labels)?)?;
                }
            }
        }
    }
    Ok(())
}

fn encode_histogram(
    family: &'static families::Family,
    routes: &[Arc<RouteMetrics>],
    pick: impl Fn(&RouteMetrics) -> &Histogram,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut samples = family.describe(encoder)?;
    for route in routes {
        pick(route).encode(samples.encode_family(&[("route", &*route.name)])?)?;
    }
    Ok(())
}

fn method_index(method: &Method) -> usize {
    let name = method.as_str();
    METHODS
        .iter()
        .position(|known| *known == name)
        .unwrap_or(METHODS.len() - 1)
}

/// Index into [`STATUS_CLASSES`].
pub(super) fn status_class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_and_statuses_share_a_series() {
        assert_eq!(METHODS[method_index(&Method::GET)], "GET");
        assert_eq!(
            METHODS[method_index(&Method::from_bytes(b"QUERY").unwrap())],
            "QUERY"
        );
        assert_eq!(
            METHODS[method_index(&Method::from_bytes(b"BREW").unwrap())],
            "other"
        );
        assert_eq!(
            METHODS[method_index(&Method::from_bytes(b"other").unwrap())],
            "other"
        );
        assert_eq!(STATUS_CLASSES[status_class(204)], "2xx");
        assert_eq!(STATUS_CLASSES[status_class(0)], "none");
        assert_eq!(STATUS_CLASSES[status_class(999)], "none");
    }

    #[test]
    fn the_order_of_cache_results_is_the_order_of_the_tables() {
        for (index, result) in CacheResult::ALL.iter().enumerate() {
            assert_eq!(*result as usize, index);
        }
    }

    #[test]
    fn a_route_is_the_same_until_it_is_removed() {
        let table = RouteTable::new();
        let chat = table.route("chat");
        assert!(Arc::ptr_eq(&chat, &table.route("chat")));
        table.retain(&["chat"]);
        assert!(Arc::ptr_eq(&chat, &table.route("chat")));
        table.retain(&["models"]);
        assert!(!Arc::ptr_eq(&chat, &table.route("chat")));
    }

    #[test]
    fn levels_have_stable_ids_and_never_overflow() {
        let table = RouteTable::new();
        assert_eq!(table.level("l1").index(), 0);
        assert_eq!(table.level("fleet").index(), 1);
        assert_eq!(table.level("l1").index(), 0);
        for n in 0..20 {
            assert!(table.level(&format!("x{n}")).index() < LEVELS);
        }
    }
}
