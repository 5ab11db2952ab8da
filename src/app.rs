//! Builds every part from one configuration, runs them, and drains. The only file that knows everyone.

mod below;
mod gauges;
mod history;
mod replicas;
mod warm;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::below::Below;
use crate::admin::{self, audit::Audit, auth::LockOut};
use crate::cache::engine::Cache;
use crate::clock::Clock;
use crate::config::{Config, Environment, Loaded, Name};
use crate::control::reload::{self, Controller, Participant};
use crate::control::state::State;
use crate::control::warm::Warming;
use crate::control::watch;
use crate::insight::history::History;
use crate::proxy::fleet::{self, Fleet};
use crate::proxy::listener::SharedListener;
use crate::proxy::tls::ReloadingTls;
use crate::tasks::Tasks;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::BuildInfo;
use crate::telemetry::{Event, Telemetry};

/// Longest wait for the first health checks before the process counts as started.
const FIRST_CHECKS: Duration = Duration::from_secs(1);
/// Longest wait for the levels below memory: what they kept is of use to the first requests already.
const FIRST_LEVELS: Duration = Duration::from_secs(2);
/// Longest life of a cache entry, and so of a record in the purge log.
const PURGE_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Time for spans and log lines to leave at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration file, for reloads.
    pub file: Option<PathBuf>,
    /// Where `${VAR}` and sizes relative to the machine come from.
    pub environment: Environment,
    /// How long connections are still accepted after the drain began.
    pub drain_delay: Duration,
    /// How long requests under way may take to finish after that.
    pub drain_timeout: Duration,
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound, or has no usable certificates.
    #[error(transparent)]
    Listener(#[from] fleet::BindError),
    /// An upstream or the collector cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The machine refuses a thread, a runtime or a signal handler.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs until a signal, or the admin API, ends the process.
///
/// # Errors
/// When it cannot start.
pub fn run(loaded: Loaded, options: Options, log: LogHandle) -> Result<(), StartError> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let drain = CancellationToken::new();
        watch_terminate(drain.clone())?;
        let running = Running::start(loaded, options, log, drain)?;
        running.reload_on_hangup()?;
        running.until_drained().await;
        Ok(())
    })
}

/// A proxy needs two descriptors for a request; the soft limit is often 1024 for the sake of select(2), which
/// nothing here uses.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        } else {
            Ok(())
        }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// A sidecar that is running in this process.
pub struct Running {
    state: Arc<State>,
    controller: Arc<Controller>,
    below: Below,
    warming: Arc<Warming>,
    history: Arc<History>,
    fleet: Fleet,
    tasks: Tasks,
    drain_delay: Duration,
    drain_timeout: Duration,
    drain: CancellationToken,
    /// Where clients connect, by listener.
    pub listeners: BTreeMap<Name, SocketAddr>,
    /// Where the admin API listens.
    pub admin: SocketAddr,
}

impl Running {
    /// Binds every listener and starts everything. Must be called inside the control runtime; `drain` ends it.
    ///
    /// # Errors
    /// When a listener cannot be bound or a part cannot be built; then nothing is left running.
    pub fn start(
        loaded: Loaded,
        options: Options,
        log: LogHandle,
        drain: CancellationToken,
    ) -> Result<Self, StartError> {
        let Options {
            file,
            environment,
            drain_delay,
            drain_timeout,
        } = options;
        let config = &loaded.config;
        let tasks = Tasks::new();
        let clock = Clock::system();
        let bound = fleet::bind(&config.listeners, config.workers)?;
        let admin_listener = bind_admin(config.admin.bind)?;
        let telemetry = telemetry(config, &clock, &tasks)?;
        let below = Below::start(config, &telemetry, &clock, &tasks)?;
        let cache = cache(config, &below, &clock);
        let snapshot = reload::build(config.clone(), None, &telemetry, &clock)
            .map_err(|problems| StartError::Configuration(problems.to_string()))?;
        let state = Arc::new(State::new(snapshot, cache, Arc::clone(&telemetry), clock));
        gauges::watch(&state);
        let history = history::start(config, &telemetry, &state.clock, &tasks);
        let listeners: BTreeMap<Name, SocketAddr> = bound
            .iter()
            .map(|listener| (Arc::clone(&listener.name), listener.address))
            .collect();
        let warming = warm::start(&state, config, &listeners, &tasks);
        let mut participants: Vec<_> = bound
            .iter()
            .map(|listener| participant(&listener.shared))
            .chain([below.participant()])
            .collect();
        participants.push(warm::participant(&warming));
        let controller = Controller::new(
            Arc::clone(&state),
            file,
            environment,
            participants,
            &loaded,
            tasks.clone(),
        );
        let fleet = Fleet::start(bound, &state, config.workers)?;
        let admin = admin_listener.local_addr()?;
        let context = Arc::new(admin::Context {
            state: Arc::clone(&state),
            controller: Arc::clone(&controller),
            log,
            history: Arc::clone(&history),
            warming: Arc::clone(&warming),
            drain: drain.clone(),
            lock_out: LockOut::default(),
            audit: audit(config, &state, &tasks),
        });
        let stop = tasks.token().clone();
        tasks.spawn_to_end(async move {
            if let Err(error) = admin::serve(admin_listener, context, stop).await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        tasks.spawn("watch", watch::watch(Arc::clone(&controller)));
        replicas::run(&state, &tasks);
        for (listener, address) in &listeners {
            tracing::info!(%listener, %address, "listening");
        }
        tracing::info!(listener = "admin", address = %admin, "listening");
        telemetry.emit(Event::ConfigLoaded { hash: &config.hash });
        tasks.spawn("start", declare_started(Arc::clone(&state)));
        Ok(Self {
            state,
            controller,
            below,
            warming,
            history,
            fleet,
            tasks,
            drain_delay,
            drain_timeout,
            drain,
            listeners,
            admin,
        })
    }

    fn reload_on_hangup(&self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let controller = Arc::clone(&self.controller);
        self.tasks.spawn("sighup", async move {
            while hangup.recv().await.is_some() {
                Controller::reload_in_background(Arc::clone(&controller)).await;
            }
        });
        Ok(())
    }

    /// Waits until start-up is complete.
    pub async fn started(&self) {
        self.state.started().await;
    }

    /// Waits for the drain to be asked for, then drains: not ready at once, accepting through the delay, requests
    /// under way finished, telemetry flushed.
    pub async fn until_drained(self) {
        self.drain.cancelled().await;
        self.state.begin_drain();
        self.warming.stop();
        self.fleet.begin_drain();
        tracing::info!(delay = ?self.drain_delay, "draining");
        tokio::time::sleep(self.drain_delay).await;
        let finished = self.fleet.drain(self.drain_timeout).await;
        if !finished {
            tracing::warn!("requests were still under way at the end of the drain");
        }
        self.warming.save();
        let telemetry = &self.state.telemetry;
        tokio::join!(
            telemetry.shutdown(FLUSH),
            self.history.close(telemetry, FLUSH),
            self.below.drain(FLUSH)
        );
        self.state.cache.invalidations.close();
        self.tasks.cancel();
        self.tasks.drained(FLUSH).await;
        tracing::info!("stopped");
    }
}

/// SIGTERM and SIGINT begin the drain; a second one ends the process at once.
fn watch_terminate(drain: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Tasks::new().spawn("signals", async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                tracing::warn!("second signal: ending at once");
                end_now();
            }
            asked = true;
            drain.cancel();
        }
    });
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the second signal asks for exactly this: no draining, no destructors"
)]
fn end_now() -> ! {
    std::process::exit(1)
}

fn bind_admin(address: SocketAddr) -> Result<tokio::net::TcpListener, StartError> {
    let failed = |source| fleet::BindError::Bind {
        name: "admin".into(),
        address,
        source,
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(tokio::net::TcpListener::from_std(listener).map_err(failed)?)
}

/// On a reload a listener takes new limits, trusted proxies and certificates; its address needs a restart.
fn participant(shared: &Arc<SharedListener>) -> Participant {
    let shared = Arc::clone(shared);
    Box::new(move |config| {
        let name = shared.name();
        let Some(listener) = config
            .listeners
            .iter()
            .find(|listener| listener.name == name)
            .cloned()
        else {
            return Ok(Box::new(|| {}));
        };
        let fresh = listener
            .tls
            .as_ref()
            .map(ReloadingTls::load)
            .transpose()
            .map_err(|error| error.to_string())?;
        let shared = Arc::clone(&shared);
        Ok(Box::new(move || {
            if let (Some(tls), Some(fresh)) = (shared.tls(), fresh) {
                tls.install(fresh.config());
            }
            shared.reconfigure(listener);
        }))
    })
}

fn audit(config: &Config, state: &State, tasks: &Tasks) -> Audit {
    Audit::open(
        config.admin.state_dir.as_deref(),
        state.clock.clone(),
        Arc::clone(&state.telemetry),
        tasks.clone(),
    )
}

fn telemetry(config: &Config, clock: &Clock, tasks: &Tasks) -> Result<Arc<Telemetry>, StartError> {
    let telemetry = Telemetry::new(
        clock.clone(),
        BuildInfo {
            version: crate::version(),
            commit: crate::commit(),
        },
    );
    telemetry.apply(&config.telemetry)?;
    if let Some(otlp) = &config.telemetry.otlp {
        telemetry
            .start_exporter(otlp, tasks)
            .map_err(|error| StartError::Configuration(format!("telemetry.otlp: {error}")))?;
    }
    Ok(telemetry)
}

fn cache(config: &crate::config::Config, below: &Below, clock: &Clock) -> Cache {
    let purges = replicas::purge_log(config, clock);
    let mut cache = Cache::new(&config.cache, purges, clock.clone())
        .over(below.tiers(), below::invalidations(config, clock));
    cache.replication = replicas::replication(config, below, &cache, clock);
    cache
}

/// Start-up is complete when each upstream had its first check, or after a second, and each level below memory was
/// opened, or after two.
async fn declare_started(state: Arc<State>) {
    let snapshot = state.snapshot.load_full();
    let checks = async {
        for cluster in snapshot.clusters.values() {
            cluster.first_checked().await;
        }
    };
    let levels = tokio::time::timeout(FIRST_LEVELS, state.cache.tiers.opened());
    let (checked, opened) = tokio::join!(tokio::time::timeout(FIRST_CHECKS, checks), levels);
    if checked.is_err() {
        tracing::warn!("not every upstream had its first check within a second; starting all the same");
    }
    if opened.is_err() {
        tracing::warn!("not every cache level was opened within two seconds; starting all the same");
    }
    state.set_started();
    tracing::info!("ready");
}
