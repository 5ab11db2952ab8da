//! The levels below memory: built, run on a thread of their own, and closed at the end.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::cache::codec::Codec;
use crate::cache::invalidation::Invalidations;
use crate::cache::level::Level;
use crate::cache::level::disk::Disk;
use crate::cache::redis::{RedisClient, RedisLevel};
use crate::cache::tiers::{Lower, Tiers};
use crate::clock::Clock;
use crate::config::{Config, LowerLevel, MemoryLevel, Name};
use crate::control::reload::Participant;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;

/// Threads that wait for the disk, or seal and open large values.
const BLOCKING_THREADS: usize = 16;
/// Time for those at the end.
const END: Duration = Duration::from_secs(1);

/// The running levels.
pub(super) struct Below {
    tiers: Arc<Tiers>,
    /// What reaches the Redis levels, by their names.
    clients: BTreeMap<Name, RedisClient>,
    /// None without levels.
    thread: Option<Thread>,
}

impl Below {
    /// Builds the levels of `config` and begins their work.
    ///
    /// # Errors
    /// When the machine refuses a thread or a runtime, or certificates cannot be used. A level that cannot be reached
    /// is no error: it is not used, and said not to be.
    pub(super) fn start(
        config: &Config,
        telemetry: &Arc<Telemetry>,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let memory = config.cache.memory.as_ref();
        let Some(memory) = memory.filter(|_| !config.cache.lower.is_empty()) else {
            return Ok(Self {
                tiers: Arc::new(Tiers::none(clock.clone())),
                clients: BTreeMap::new(),
                thread: None,
            });
        };
        let thread = Thread::start()?;
        let clients = clients(config, tasks)?;
        let lower = config.cache.lower.iter();
        let lower = lower.filter_map(|level| lower_level(config, memory, level, clock, &clients));
        let tiers = Tiers::new(lower.collect(), memory, telemetry, clock);
        let tiers = Arc::new(tiers);
        {
            let _inside = thread.handle.enter();
            tiers.run(tasks);
        }
        Ok(Self {
            tiers,
            clients,
            thread: Some(thread),
        })
    }

    /// The levels, for the cache.
    pub(super) fn tiers(&self) -> Arc<Tiers> {
        Arc::clone(&self.tiers)
    }

    /// What reaches the Redis level of this name.
    pub(super) fn client(&self, level: &str) -> Option<RedisClient> {
        self.clients.get(level).cloned()
    }

    /// On a reload the levels take over compression and keys; the levels themselves need a restart.
    pub(super) fn participant(&self) -> Participant {
        let tiers = self.tiers();
        Box::new(move |config| {
            let (tiers, settings) = (Arc::clone(&tiers), config.cache.clone());
            Ok(Box::new(move || tiers.apply(&settings)))
        })
    }

    /// Writes what waits, for at most `limit`, and ends.
    pub(super) async fn drain(self, limit: Duration) {
        if !self.tiers.drain(limit).await {
            tracing::warn!("not everything was written to the cache levels in time");
        }
        if let Some(thread) = self.thread {
            thread.stop.cancel();
            // The thread has nothing left to do but to return.
            if thread.handle_thread.join().is_err() {
                tracing::error!("the thread of the cache levels panicked");
            }
        }
    }
}

fn clients(config: &Config, tasks: &Tasks) -> Result<BTreeMap<Name, RedisClient>, StartError> {
    let mut clients = BTreeMap::new();
    for level in &config.cache.lower {
        if let LowerLevel::Redis(level) = level {
            let refused = |error| StartError::Configuration(format!("cache level `{}`: {error}", level.name));
            let client = RedisClient::new(level, tasks).map_err(refused)?;
            clients.insert(Name::clone(&level.name), client);
        }
    }
    Ok(clients)
}

fn lower_level(
    config: &Config,
    memory: &MemoryLevel,
    level: &LowerLevel,
    clock: &Clock,
    clients: &BTreeMap<Name, RedisClient>,
) -> Option<Lower> {
    let level: Arc<dyn Level> = match level {
        LowerLevel::Disk(level) => Arc::new(Disk::new(level, clock.clone())),
        LowerLevel::Redis(level) => Arc::new(RedisLevel::new(clients.get(&level.name)?.clone())),
    };
    let keyring = config.cache.keyrings.get(level.name());
    let codec = Codec::new(config.cache.compress, keyring, memory.max_object);
    Some(Lower { level, codec })
}

/// Where what must not be forgotten is kept: purges and invalidations. A level on disk lends its directory, because its
/// values are of no use without them.
pub(super) fn state_dir(config: &Config) -> Option<&Path> {
    let of_a_level = config.cache.lower.iter().find_map(|level| match level {
        LowerLevel::Disk(level) => Some(level.path.as_path()),
        LowerLevel::Redis(_) => None,
    });
    config.admin.state_dir.as_deref().or(of_a_level)
}

/// What unsafe requests have invalidated. Without a level of its own that outlives the process it may be forgotten with it:
/// what replicas share is judged by what they share of invalidations.
pub(super) fn invalidations(config: &Config, clock: &Clock) -> Invalidations {
    let mut levels = config.cache.lower.iter();
    if !levels.any(|level| matches!(level, LowerLevel::Disk(_))) {
        return Invalidations::default();
    }
    let now = clock.now();
    match state_dir(config).map(|dir| Invalidations::kept_in(dir, now)) {
        Some(Ok(kept)) => kept,
        Some(Err(error)) => {
            tracing::warn!(%error, "invalidations cannot be kept; what was stored before now counts as invalidated");
            Invalidations::since(now)
        }
        None => Invalidations::since(now),
    }
}

/// A thread with a runtime for what the levels do behind the requests' backs, so that neither a worker nor the control
/// runtime is kept busy by it.
struct Thread {
    handle: Handle,
    stop: CancellationToken,
    handle_thread: JoinHandle<()>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        let handle_thread = std::thread::Builder::new().name("levels".into()).spawn(move || {
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_timeout(END);
        })?;
        Ok(Self {
            handle,
            stop,
            handle_thread,
        })
    }
}
