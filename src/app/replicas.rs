//! What connects this process with the other replicas.

use std::sync::Arc;

use super::{PURGE_RETENTION, StartError};
use crate::cache::engine::Cache;
use crate::cache::purge::Rules;
use crate::cache::redis::RedisClient;
use crate::cache::replication::Replication;
use crate::clock::Clock;
use crate::config::{Config, LowerLevel};
use crate::control::state::State;
use crate::tasks::Tasks;
use crate::telemetry::samples::{PurgeLogSample, ReplicationSample};

/// How the purge log is kept.
pub(super) fn rules(config: &Config) -> Rules {
    Rules {
        retention: PURGE_RETENTION,
        replicas: config.replicas.as_ref().map(|replicas| replicas.cap),
    }
}

/// Begins to take part, if there are replicas.
pub(super) fn run(state: &State, tasks: &Tasks) {
    if let Some(replication) = state.cache.replication.clone() {
        tasks.spawn("replication", async move { replication.run().await });
    }
}

/// This process as one of the replicas that share a purge log, if there is a level to share it in.
///
/// # Errors
/// When certificates cannot be used. Servers that cannot be reached are no error.
pub(super) fn replication(
    config: &Config,
    cache: &Cache,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Option<Arc<Replication>>, StartError> {
    let Some(replicas) = &config.replicas else {
        return Ok(None);
    };
    let level = config.cache.lower.iter().find_map(|level| match level {
        LowerLevel::Redis(level) if level.name == replicas.via => Some(level),
        _ => None,
    });
    let Some(level) = level else { return Ok(None) };
    let client = RedisClient::new(level, tasks)
        .map_err(|error| StartError::Configuration(format!("cache level `{}`: {error}", level.name)))?;
    Ok(Some(Arc::new(Replication::new(
        client,
        Arc::clone(&cache.purges),
        Arc::clone(&cache.invalidations),
        clock.clone(),
        PURGE_RETENTION,
        replicas.cap,
    ))))
}

/// The state of the purge log, for metrics.
pub(super) fn sample(state: &State) -> PurgeLogSample {
    let cache = &state.cache;
    PurgeLogSample {
        position: cache.purges.position(),
        replication: cache.replication.as_ref().map(|replication| {
            let status = replication.status();
            ReplicationSample {
                up: status.up,
                lag: state.clock.now().since(status.contact).as_secs_f64(),
                unpublished: cache.purges.unpublished_len() as u64,
                replicas: status.others.len() as u64,
                incarnations: status.incarnations,
            }
        }),
    }
}
