//! Warm-ups: built, and told of new configurations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, Name};
use crate::control::reload::Participant;
use crate::control::state::State;
use crate::control::warm::Warming;
use crate::proxy::warm::WarmUps;
use crate::tasks::Tasks;

/// Starts what warms the cache up.
pub(super) fn start(
    state: &Arc<State>,
    config: &Config,
    listeners: &BTreeMap<Name, SocketAddr>,
    tasks: &Tasks,
) -> Arc<Warming> {
    let connect = config.listeners.iter().filter_map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        listeners.get(&listener.name).map(|address| (scheme, *address))
    });
    let warmer = Arc::new(WarmUps::new(state, tasks));
    Warming::start(state, warmer, connect.collect(), config, tasks)
}

/// On a reload warm-ups take the new entries.
pub(super) fn participant(warming: &Arc<Warming>) -> Participant {
    let warming = Arc::clone(warming);
    Box::new(move |config| {
        let (entries, mask) = (Arc::clone(&config.warm), config.telemetry.mask.clone());
        let warming = Arc::clone(&warming);
        Ok(Box::new(move || warming.configure(&entries, &mask)))
    })
}
