//! What the levels below memory do: how long their calls take, how they end, and what is lost on the way to them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};

use super::families;
use super::reasons::ReasonCounters;

/// Upper ends of the buckets of a call's duration, seconds.
const BUCKETS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// A kind of call, as the metric label `op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelOp {
    /// A look-up.
    Get,
    /// A write.
    Put,
    /// A removal.
    Remove,
}

impl LevelOp {
    /// Every value, for tables.
    pub const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Remove];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
        }
    }
}

/// Durations of one kind of call.
#[derive(Debug, Default)]
struct Durations {
    /// The last one counts what took longer than all others allow.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    failures: ReasonCounters,
}

/// A summary of the calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallSummary {
    /// Calls, failed ones included.
    pub calls: u64,
    /// Failed ones.
    pub failures: u64,
    /// Mean duration, seconds.
    pub mean: f64,
    /// Half of the calls took at most this, seconds, as exactly as the buckets of the metric tell.
    pub p50: f64,
    /// The same for 99 of 100.
    pub p99: f64,
}

impl Durations {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let index = BUCKETS.partition_point(|end| *end < seconds);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|index| {
            let bucket = self.buckets.get(index);
            bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        })
    }

    fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    fn summary(&self) -> CallSummary {
        let counts = self.counts();
        let calls: u64 = counts.iter().sum();
        CallSummary {
            calls,
            failures: self.failures.iter().map(|(_, count)| count).sum(),
            mean: if calls == 0 {
                0.0
            } else {
                self.seconds() / calls as f64
            },
            p50: quantile(&counts, 0.5),
            p99: quantile(&counts, 0.99),
        }
    }
}

/// The value below which `share` of the calls lie, as if they were spread evenly within their bucket.
fn quantile(counts: &[u64], share: f64) -> f64 {
    let calls = counts.iter().sum::<u64>();
    if calls == 0 {
        return 0.0;
    }
    let wanted = calls as f64 * share;
    let mut below = 0.0;
    let mut begin = 0.0;
    for (count, end) in counts.iter().zip(BUCKETS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return begin + (end - begin) * (wanted - below) / count;
        }
        below += count;
        begin = end;
    }
    begin
}

/// The metrics of one level below memory.
#[derive(Debug)]
pub struct LevelMetrics {
    name: Arc<str>,
    up: AtomicBool,
    calls: [Durations; LevelOp::ALL.len()],
    hits: AtomicU64,
    misses: AtomicU64,
    integrity_failures: AtomicU64,
    dropped: ReasonCounters,
    queued: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    bytes_before_sealing: AtomicU64,
}

/// What a level has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LevelSummary {
    /// Look-ups that found a usable value.
    pub hits: u64,
    /// Look-ups that did not, failed ones included.
    pub misses: u64,
    /// Values that failed a check.
    pub integrity_failures: u64,
    /// Writes and removals that were given up.
    pub dropped: u64,
    /// Writes and removals that wait or are under way.
    pub queued: u64,
    /// Bytes of the values that were read.
    pub bytes_read: u64,
    /// Bytes of the values that were written.
    pub bytes_written: u64,
    /// Bytes that the written values had before they were compressed and sealed.
    pub bytes_before_sealing: u64,
    /// Calls by kind, in the order of [`LevelOp::ALL`].
    pub calls: [CallSummary; LevelOp::ALL.len()],
}

impl LevelMetrics {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            up: AtomicBool::new(false),
            calls: Default::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            integrity_failures: AtomicU64::new(0),
            dropped: ReasonCounters::default(),
            queued: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            bytes_before_sealing: AtomicU64::new(0),
        }
    }

    /// Times one call; `failure` is the stable name of its error.
    pub fn called(&self, op: LevelOp, took: Duration, failure: Option<&'static str>) {
        if let Some(calls) = self.calls.get(op as usize) {
            calls.observe(took);
            if let Some(failure) = failure {
                calls.failures.increment(failure);
            }
        }
    }

    /// Counts a look-up of which this came.
    pub fn looked_up(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a value that failed a check.
    pub fn integrity_failed(&self) {
        self.integrity_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a value that was read.
    pub fn read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the bytes of a value that was written, and what they were before they were sealed.
    pub fn written(&self, bytes: usize, before: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes_before_sealing
            .fetch_add(before as u64, Ordering::Relaxed);
    }

    /// Counts writes that were given up, and why, by a stable name.
    pub fn dropped(&self, reason: &'static str, writes: usize) {
        (0..writes).for_each(|_| self.dropped.increment(reason));
    }

    /// Says how many writes wait or are under way.
    pub fn queued(&self, writes: usize) {
        self.queued.store(writes as u64, Ordering::Relaxed);
    }

    /// Says whether it is asked and written.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Whether it is asked and written.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Everything since the start.
    pub fn summary(&self) -> LevelSummary {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LevelSummary {
            hits: load(&self.hits),
            misses: load(&self.misses),
            integrity_failures: load(&self.integrity_failures),
            dropped: self.dropped.iter().map(|(_, count)| count).sum(),
            queued: load(&self.queued),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
            bytes_before_sealing: load(&self.bytes_before_sealing),
            calls: std::array::from_fn(|index| {
                self.calls
                    .get(index)
                    .map_or_else(CallSummary::default, Durations::summary)
            }),
        }
    }
}

/// The metrics of all levels below memory, in their order.
#[derive(Debug, Default)]
pub(super) struct LevelTable(RwLock<Vec<Arc<LevelMetrics>>>);

impl LevelTable {
    pub(super) fn level(&self, name: &str) -> Arc<LevelMetrics> {
        let mut levels = self.0.write();
        if let Some(level) = levels.iter().find(|level| &*level.name == name) {
            return Arc::clone(level);
        }
        let level = Arc::new(LevelMetrics::new(Arc::from(name)));
        levels.push(Arc::clone(&level));
        level
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let levels = self.0.read().clone();
        let mut samples = families::LEVEL_UP.describe(encoder)?;
        for level in &levels {
            let up = f64::from(u8::from(level.is_up()));
            families::gauge(&mut samples, [("level", &*level.name)], up)?;
        }
        encode_durations(&levels, encoder)?;
        let mut samples = families::LEVEL_ERRORS.describe(encoder)?;
        for level in &levels {
            for (op, calls) in LevelOp::ALL.iter().zip(&level.calls) {
                for (error, count) in calls.failures.iter() {
                    let labels = [("level", &*level.name), ("op", op.as_str()), ("error", error)];
                    families::counter(&mut samples, labels, count)?;
                }
            }
        }
        let mut samples = families::INTEGRITY_FAILURES.describe(encoder)?;
        for level in &levels {
            let count = level.integrity_failures.load(Ordering::Relaxed);
            families::counter(&mut samples, [("level", &*level.name)], count)?;
        }
        let mut samples = families::LEVEL_DROPPED.describe(encoder)?;
        for level in &levels {
            for (reason, count) in level.dropped.iter() {
                families::counter(&mut samples, [("level", &*level.name), ("reason", reason)], count)?;
            }
        }
        let mut samples = families::LEVEL_QUEUE.describe(encoder)?;
        for level in &levels {
            let queued = level.queued.load(Ordering::Relaxed) as f64;
            families::gauge(&mut samples, [("level", &*level.name)], queued)?;
        }
        Ok(())
    }
}

fn encode_durations(levels: &[Arc<LevelMetrics>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut samples = families::LEVEL_DURATION.describe(encoder)?;
    for level in levels {
        for (op, calls) in LevelOp::ALL.iter().zip(&level.calls) {
            let counts = calls.counts();
            let ends = BUCKETS.into_iter().chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts).collect();
            let labels = [("level", &*level.name), ("op", op.as_str())];
            samples.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                calls.seconds(),
                counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_the_bucket_of_the_call() {
        let calls = Durations::default();
        assert_eq!(calls.summary(), CallSummary::default());
        for _ in 0..98 {
            calls.observe(Duration::from_micros(80));
        }
        calls.observe(Duration::from_millis(20));
        calls.observe(Duration::from_secs(3));
        let summary = calls.summary();
        assert_eq!(summary.calls, 100);
        assert!((0.000_05..=0.000_1).contains(&summary.p50), "{summary:?}");
        assert!((0.01..=0.025).contains(&summary.p99), "{summary:?}");
        assert!((0.03..0.031).contains(&summary.mean), "{summary:?}");
    }

    #[test]
    fn what_takes_longest_counts_too() {
        let calls = Durations::default();
        calls.observe(Duration::from_secs(30));
        assert_eq!(calls.counts().iter().sum::<u64>(), 1);
        assert!((calls.summary().p99 - 1.0).abs() < f64::EPSILON);
    }
}
