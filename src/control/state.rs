//! What a request sees: one immutable snapshot of configuration, routes and clusters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use tokio::sync::watch;

use crate::cache::engine::Cache;
use crate::cache::request::host_of;
use crate::cache::warm::learner::Learner;
use crate::clock::Clock;
use crate::config::{self, Config, Name};
use crate::route::Router;
use crate::telemetry::Telemetry;
use crate::telemetry::record::LevelId;
use crate::telemetry::routes::RouteMetrics;
use crate::upstream::Cluster;

/// Everything of one generation of the configuration, swapped as a whole.
///
/// Invariant: a request loads the snapshot once and uses it to its end, so that it never sees two
/// configurations.
pub struct Snapshot {
    /// Counts applied configurations, from 1.
    pub generation: u64,
    /// The configuration itself.
    pub config: Arc<Config>,
    /// Finds the index of a route.
    pub router: Router,
    /// Routes in the order of the configuration.
    pub routes: Vec<Arc<ActiveRoute>>,
    /// Clusters by name.
    pub clusters: BTreeMap<Name, Arc<Cluster>>,
}

impl Snapshot {
    /// The route that a request belongs to; none if no route wants it. `authority` may have a port.
    pub fn route_of(
        &self,
        authority: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<&Arc<ActiveRoute>> {
        let host = if self.router.asks_for_hosts() {
            host_of(authority)
        } else {
            ""
        };
        self.routes.get(self.router.find(host, path, method, headers)?)
    }
}

/// A route with everything a request needs already looked up.
pub struct ActiveRoute {
    /// Its configuration.
    pub config: Arc<config::Route>,
    /// Who answers.
    pub cluster: Arc<Cluster>,
    /// Its metric handles.
    pub metrics: Arc<RouteMetrics>,
}

/// What all workers and the admin side share.
pub struct State {
    /// The current generation.
    pub snapshot: ArcSwap<Snapshot>,
    /// The cache.
    pub cache: Cache,
    /// What traffic tells about what will be asked for.
    pub learner: Learner,
    /// Metrics, spans and logs.
    pub telemetry: Arc<Telemetry>,
    /// The name of the first level in metrics; none without a level.
    pub first_level: Option<LevelId>,
    /// The time.
    pub clock: Clock,
    /// Whether the process is on its way out: not ready, connections are told to close.
    draining: AtomicBool,
    /// Whether the listeners are bound and each upstream had its first check.
    started: watch::Sender<bool>,
}

impl State {
    /// State around a first snapshot.
    pub fn new(snapshot: Snapshot, cache: Cache, telemetry: Arc<Telemetry>, clock: Clock) -> Self {
        let first_level = snapshot
            .config
            .cache
            .memory
            .as_ref()
            .map(|level| telemetry.level(&level.name));
        Self {
            first_level,
            snapshot: ArcSwap::from_pointee(snapshot),
            cache,
            learner: Learner::default(),
            telemetry,
            clock,
            draining: AtomicBool::new(false),
            started: watch::Sender::new(false),
        }
    }

    /// Begins to drain. Returns false when it had begun already.
    pub fn begin_drain(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Declares start-up complete.
    pub fn set_started(&self) {
        self.started.send_replace(true);
    }

    /// Waits until start-up is complete.
    pub async fn started(&self) {
        // Fails only when the sender is gone, and `self` holds it.
        let mut started = self.started.subscribe();
        let _seen = started.wait_for(|started| *started).await;
    }

    /// Whether start-up is complete.
    pub fn is_started(&self) -> bool {
        *self.started.borrow()
    }
}
