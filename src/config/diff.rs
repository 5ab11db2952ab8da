//! What differs between two configurations.

use super::model::{Config, Listener};

/// Paths of what differs and needs a restart to take effect; empty when a reload applies everything.
pub fn restart_required(old: &Config, new: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    let mut note = |changed: bool, path: &str| {
        if changed {
            paths.push(path.to_owned());
        }
    };
    note(old.workers != new.workers, "workers");
    for (index, listener) in new.listeners.iter().enumerate() {
        match old.listeners.iter().find(|other| other.name == listener.name) {
            Some(other) => {
                note(other.bind != listener.bind, &format!("listeners[{index}].bind"));
                note(
                    other.tls.is_some() != listener.tls.is_some(),
                    &format!("listeners[{index}].tls"),
                );
            }
            None => note(true, &format!("listeners[{index}]")),
        }
    }
    let gone = |listener: &Listener| !new.listeners.iter().any(|other| other.name == listener.name);
    note(old.listeners.iter().any(|listener| gone(listener)), "listeners");
    note(old.admin.bind != new.admin.bind, "admin.bind");
    note(old.admin.state_dir != new.admin.state_dir, "admin.state_dir");
    let levels = |config: &Config| (config.cache.memory.clone(), config.cache.lower.clone());
    note(levels(old) != levels(new), "cache.levels");
    note(old.replicas != new.replicas, "cache.purge");
    note(old.telemetry.otlp != new.telemetry.otlp, "telemetry.otlp");
    note(
        old.telemetry.history != new.telemetry.history,
        "telemetry.history",
    );
    paths
}
