//! What the cache holds, and how its levels are doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::problem::Problem;
use crate::cache::tiers::LevelStatus;
use crate::telemetry::levels::CallSummary;

/// Statistics of the cache.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    /// Levels in the order in which they are asked.
    levels: Vec<LevelStats>,
    /// Entries and bytes by route.
    routes: BTreeMap<String, RouteStats>,
    /// Position of the last purge.
    purge_position: u64,
}

/// One level. What a level does not know is null.
#[derive(Serialize, ToSchema)]
struct LevelStats {
    /// Its name.
    name: String,
    /// `memory`, `disk`, `redis`.
    kind: &'static str,
    /// Keys.
    entries: Option<u64>,
    /// Bytes, keys and overhead included.
    bytes: Option<u64>,
    /// Bound of `bytes`.
    capacity: Option<u64>,
    /// Entries that made room for others.
    evictions: Option<u64>,
    /// What was done with it; only below memory.
    #[serde(flatten)]
    use_of: Option<LowerStats>,
}

/// What was done with a level below memory, since the start.
#[derive(Serialize, ToSchema)]
struct LowerStats {
    /// `up`, or `down` while it is given a rest after failures.
    state: &'static str,
    /// Why it rests; empty if it does not.
    trouble: String,
    /// Look-ups that found a usable entry.
    hits: u64,
    /// Look-ups that did not, failed ones included.
    misses: u64,
    /// Values that failed a check, were taken for a miss, and deleted.
    integrity_failures: u64,
    /// Writes and removals that wait or are under way.
    queued: u64,
    /// Writes and removals that were given up.
    dropped: u64,
    /// Bytes of the values that were read.
    bytes_read: u64,
    /// Bytes of the values that were written.
    bytes_written: u64,
    /// How many bytes of entries became one byte of a written value; null before the first.
    compression_ratio: Option<f64>,
    /// Look-ups.
    get: CallStats,
    /// Writes.
    put: CallStats,
    /// Removals.
    remove: CallStats,
}

/// Calls of one kind. Durations are as exact as the buckets of `outrigger_level_duration_seconds`.
#[derive(Serialize, ToSchema)]
struct CallStats {
    /// How many.
    calls: u64,
    /// Failed ones among them.
    failures: u64,
    /// Mean duration, seconds.
    mean_seconds: f64,
    /// Half of them took at most this, seconds.
    p50_seconds: f64,
    /// 99 of 100 took at most this, seconds.
    p99_seconds: f64,
}

impl From<CallSummary> for CallStats {
    fn from(calls: CallSummary) -> Self {
        Self {
            calls: calls.calls,
            failures: calls.failures,
            mean_seconds: calls.mean,
            p50_seconds: calls.p50,
            p99_seconds: calls.p99,
        }
    }
}

impl From<LevelStatus> for LevelStats {
    fn from(status: LevelStatus) -> Self {
        let (holding, done) = (status.holding, status.summary);
        let [get, put, remove] = done.calls.map(CallStats::from);
        Self {
            name: status.name,
            kind: status.kind,
            entries: holding.entries,
            bytes: holding.bytes,
            capacity: holding.capacity,
            evictions: holding.evictions,
            use_of: Some(LowerStats {
                state: if status.up { "up" } else { "down" },
                trouble: status.trouble,
                hits: done.hits,
                misses: done.misses,
                integrity_failures: done.integrity_failures,
                queued: done.queued,
                dropped: done.dropped,
                bytes_read: done.bytes_read,
                bytes_written: done.bytes_written,
                compression_ratio: (done.bytes_written > 0)
                    .then(|| done.bytes_before_sealing as f64 / done.bytes_written as f64),
                get,
                put,
                remove,
            }),
        }
    }
}

/// One route.
#[derive(Default, Serialize, ToSchema)]
struct RouteStats {
    /// Entries, variants counted singly.
    entries: u64,
    /// Bytes.
    bytes: u64,
    /// Times an entry now stored has answered.
    hits: u64,
}

/// Shows what is stored, by level and route.
#[utoipa::path(get, path = "/api/v1/performance/cache/stats", tag = "cache", responses((status = 200, body = Stats)))]
pub(super) async fn stats(State(context): State<Arc<Context>>) -> Result<Json<Stats>, Problem> {
    let count = move || {
        let cache = &context.state.cache;
        let snapshot = context.state.snapshot.load_full();
        let mut routes: BTreeMap<String, RouteStats> = BTreeMap::new();
        let mut levels = Vec::new();
        if let (Some(memory), Some(level)) = (&cache.memory, &snapshot.config.cache.memory) {
            memory.for_each(|_, entry| {
                let route = routes.entry(entry.route().to_string()).or_default();
                route.entries += 1;
                route.bytes += entry.weight();
                route.hits += entry.hits();
            });
            levels.push(LevelStats {
                name: level.name.to_string(),
                kind: "memory",
                entries: Some(memory.len()),
                bytes: Some(memory.bytes()),
                capacity: Some(level.capacity),
                evictions: Some(memory.evictions()),
                use_of: None,
            });
        }
        levels.extend(cache.tiers.status().into_iter().map(LevelStats::from));
        Stats {
            levels,
            routes,
            purge_position: cache.purges.position(),
        }
    };
    tokio::task::spawn_blocking(count)
        .await
        .map(Json)
        .map_err(|error| Problem::internal(error.to_string()))
}
