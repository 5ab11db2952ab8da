//! The purge log, and what connects this process with the other replicas.

use std::sync::Arc;

use super::PURGE_RETENTION;
use super::below::{self, Below};
use crate::cache::engine::Cache;
use crate::cache::purge::{PurgeLog, Rules};
use crate::cache::replication::Replication;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::state::State;
use crate::tasks::Tasks;
use crate::telemetry::samples::{PurgeLogSample, ReplicationSample};

/// The purge log, which replicas share if they can.
pub(super) fn purge_log(config: &Config, clock: &Clock) -> PurgeLog {
    let rules = Rules {
        retention: PURGE_RETENTION,
        replicas: config.replicas.as_ref().map(|replicas| replicas.cap),
    };
    let (log, warning) = PurgeLog::open(below::state_dir(config), clock.clone(), rules);
    if let Some(warning) = warning {
        tracing::warn!(warning, "purge log");
    }
    log
}

/// Begins to take part, if there are replicas.
pub(super) fn run(state: &State, tasks: &Tasks) {
    if let Some(replication) = state.cache.replication.clone() {
        tasks.spawn("replication", async move { replication.run().await });
    }
}

/// This process as one of the replicas that share a purge log, if there is a level to share it in.
pub(super) fn replication(
    config: &Config,
    below: &Below,
    cache: &Cache,
    clock: &Clock,
) -> Option<Arc<Replication>> {
    let replicas = config.replicas.as_ref()?;
    Some(Arc::new(Replication::new(
        below.client(&replicas.via)?,
        Arc::clone(&cache.purges),
        Arc::clone(&cache.invalidations),
        clock.clone(),
        PURGE_RETENTION,
        replicas.cap,
    )))
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
