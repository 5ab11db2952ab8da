//! What is read from its owner when somebody scrapes.

use std::sync::Arc;

use super::replicas;
use crate::config::Name;
use crate::control::state::State;
use crate::telemetry::samples::{EndpointCount, LevelSample, PurgeLogSample};

/// Gauges are read from their owners when they are scraped.
pub(super) fn watch(state: &Arc<State>) {
    let telemetry = &state.telemetry;
    let snapshot = state.snapshot.load();
    if let Some(level) = &snapshot.config.cache.memory {
        let owner = Arc::downgrade(state);
        telemetry.watch_level(&level.name, move || {
            let Some(state) = owner.upgrade() else {
                return LevelSample::default();
            };
            state
                .cache
                .memory
                .as_ref()
                .map_or_else(LevelSample::default, |memory| LevelSample {
                    entries: Some(memory.len()),
                    bytes: Some(memory.bytes()),
                    evictions: Some(memory.evictions()),
                })
        });
    }
    for level in state.cache.tiers.status() {
        let (owner, name) = (Arc::downgrade(state), level.name);
        telemetry.watch_level(&name.clone(), move || {
            let holding = owner.upgrade().and_then(|state| state.cache.tiers.holding(&name));
            let holding = holding.unwrap_or_default();
            LevelSample {
                entries: holding.entries,
                bytes: holding.bytes,
                evictions: holding.evictions,
            }
        });
    }
    let owner = Arc::downgrade(state);
    telemetry.watch_purge_log(move || {
        owner
            .upgrade()
            .map_or_else(PurgeLogSample::default, |state| replicas::sample(&state))
    });
    let owner = Arc::downgrade(state);
    telemetry.watch_upstreams(move || {
        let Some(state) = owner.upgrade() else {
            return Vec::new();
        };
        let snapshot = state.snapshot.load();
        snapshot
            .clusters
            .iter()
            .flat_map(|(name, cluster)| endpoint_counts(name, cluster))
            .collect()
    });
}

fn endpoint_counts(name: &Name, cluster: &crate::upstream::Cluster) -> Vec<EndpointCount> {
    let status = cluster.status();
    let count = |state: &'static str, wanted: &dyn Fn(bool, bool) -> bool| EndpointCount {
        upstream: Arc::clone(name),
        state,
        endpoints: status
            .iter()
            .filter(|endpoint| wanted(endpoint.enabled, endpoint.healthy))
            .count() as u64,
    };
    vec![
        count("healthy", &|enabled, healthy| enabled && healthy),
        count("unhealthy", &|enabled, healthy| enabled && !healthy),
        count("draining", &|enabled, _| !enabled),
    ]
}
