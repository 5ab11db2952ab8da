//! The history: fed every second on the control runtime, and written for the last time at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::clock::Clock;
use crate::config::Config;
use crate::insight::history::History;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::telemetry::system::SystemSampler;

const SECOND: Duration = Duration::from_secs(1);

/// Starts the history and what feeds it.
pub(super) fn start(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    clock: &Clock,
    tasks: &Tasks,
) -> Arc<History> {
    let directory = config.admin.state_dir.as_deref();
    let history = History::start(&config.telemetry.history, directory, clock, tasks);
    tasks.spawn(
        "history",
        record(Arc::clone(&history), Arc::clone(telemetry), clock.clone()),
    );
    tasks.spawn("system", sample(Arc::clone(&history), clock.clone()));
    history
}

/// Ticks right after each second of the clock has ended.
async fn record(history: Arc<History>, telemetry: Arc<Telemetry>, clock: Clock) {
    let into = Duration::from_micros(clock.now().as_micros() % 1_000_000);
    let mut seconds = interval_at(Instant::now() + (SECOND - into), SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        seconds.tick().await;
        history.tick(&telemetry);
    }
}

/// Samples the system every second, where it may block: a network file system that hangs is waited for by nothing else.
async fn sample(history: Arc<History>, clock: Clock) {
    let mut sampler = SystemSampler::new();
    let mut seconds = interval_at(Instant::now(), SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        seconds.tick().await;
        let now = clock.now();
        let sampled = tokio::task::spawn_blocking(move || {
            let sample = sampler.sample(now);
            (sampler, sample)
        });
        match sampled.await {
            Ok((back, sample)) => {
                sampler = back;
                history.observe_system(&sample);
            }
            Err(error) => {
                tracing::error!(%error, "the system is not sampled any more");
                return;
            }
        }
    }
}
