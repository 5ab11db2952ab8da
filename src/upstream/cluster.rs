//! One upstream of the configuration: its endpoints, their health, and the choice among them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::balance::Members;
use super::check::Checker;
use super::connect::{Connector, Offer};
use super::endpoint::Endpoint;
use super::error::ClusterError;
use super::request::ExchangeKind;
use super::resolve::{RESOLVE_EVERY, Resolver};
use crate::clock::Clock;
use crate::config;
use crate::tasks::Tasks;

/// One upstream, shared by all workers. Its owner keeps it across reloads as long as [`Cluster::config`] is equal,
/// so that health and load survive; dropping it ends its tasks and retires its endpoints.
pub struct Cluster {
    config: Arc<config::Upstream>,
    connector: Arc<Connector>,
    resolver: Resolver,
    members: ArcSwap<Members>,
    clock: Clock,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

/// How far the first round of discovery and checks has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Started,
    Resolved,
    Checked,
}

/// The state of one endpoint, for the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// `host:port` as configured; the name under which it is drained.
    pub address: String,
    /// The address behind it; none for a name that has not resolved yet.
    pub resolved: Option<SocketAddr>,
    /// Whether its checks pass; true when there are none.
    pub healthy: bool,
    /// False while it is drained.
    pub enabled: bool,
    /// Share of the traffic, as configured.
    pub weight: u16,
    /// Exchanges under way.
    pub in_flight: usize,
    /// Open connections.
    pub open_connections: usize,
    /// Open HTTP/1.1 connections that wait for an exchange.
    pub idle_connections: usize,
    /// Bad checks in a row.
    pub consecutive_failures: u32,
    /// Why the last bad check was bad.
    pub last_error: Option<String>,
}

impl Cluster {
    /// Builds the upstream and reads its TLS files. Endpoints given by IP address can be selected at once; names
    /// after [`Cluster::start`] has resolved them.
    ///
    /// # Errors
    /// A TLS file that cannot be used, or a server name that is none.
    pub fn build(config: Arc<config::Upstream>, clock: Clock) -> Result<Arc<Self>, ClusterError> {
        let connector = Arc::new(Connector::load(&config)?);
        let resolver = Resolver::new(&config);
        // The addresses that need no resolver are there from the beginning.
        let members = Members::new(&config.balance, resolver.endpoints());
        let first = match (resolver.has_names(), &config.active_check) {
            (false, None) => Progress::Checked,
            (false, Some(_)) => Progress::Resolved,
            (true, _) => Progress::Started,
        };
        Ok(Arc::new(Self {
            config,
            connector,
            resolver,
            members: ArcSwap::from_pointee(members),
            clock,
            progress: watch::Sender::new(first),
            stop: CancellationToken::new(),
        }))
    }

    /// Takes over what `old`, which it replaces, knows of the same endpoints: the addresses of names, so that requests
    /// need not wait for the resolver, and which endpoints are drained. To be called before [`Cluster::start`].
    pub fn inherit(&self, old: &Self) {
        self.resolver.inherit(&old.resolver);
        self.update();
    }

    /// Starts resolving and checking, on the runtime that calls (the control runtime). The tasks end with the
    /// cluster or with `tasks`.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        if self.resolver.has_names() {
            let resolving = resolve(Arc::downgrade(self));
            let stop = self.stop.clone();
            tasks.spawn("upstream discovery", async move {
                stop.run_until_cancelled(resolving).await;
            });
        }
        if let Some(check) = &self.config.active_check {
            let checker = Checker {
                upstream: Arc::clone(&self.config.name),
                check: check.clone(),
                connector: Arc::clone(&self.connector),
            };
            let checking = run_checks(Arc::downgrade(self), checker, self.progress.subscribe());
            let stop = self.stop.clone();
            tasks.spawn("upstream health", async move {
                stop.run_until_cancelled(checking).await;
            });
        }
    }

    /// Waits until names were resolved and each endpoint was checked once; at once without names and checks.
    pub async fn first_checked(&self) {
        let done = match self.config.active_check {
            Some(_) => Progress::Checked,
            None => Progress::Resolved,
        };
        let mut progress = self.progress.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _seen = progress.wait_for(|progress| *progress >= done).await;
    }

    /// Whether names were resolved once, or there are none.
    pub fn is_resolved(&self) -> bool {
        *self.progress.borrow() >= Progress::Resolved
    }

    /// Waits until names were resolved once, whether or not that gave addresses; at once without names.
    pub async fn first_resolved(&self) {
        let mut progress = self.progress.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _seen = progress
            .wait_for(|progress| *progress >= Progress::Resolved)
            .await;
    }

    /// The configuration this was built from.
    pub fn config(&self) -> &Arc<config::Upstream> {
        &self.config
    }

    /// Whether an exchange of this kind goes over HTTP/1.1 in any case.
    pub fn is_http1(&self, kind: ExchangeKind) -> bool {
        self.connector.offer(kind) == Some(Offer::Http1)
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// An endpoint for a request: healthy, enabled and not among `tried`. `hash_key` decides with consistent
    /// hashing and is ignored otherwise. When no healthy one is left, any enabled one is taken: the checks may be
    /// wrong about all of them, and an attempt is better than a refusal. None when nothing is left at all.
    pub fn select(&self, hash_key: &[u8], tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let members = self.members.load();
        let allowed = |endpoint: &Arc<Endpoint>| {
            endpoint.configured().enabled() && !tried.iter().any(|other| Arc::ptr_eq(other, endpoint))
        };
        members
            .select(hash_key, |endpoint| {
                endpoint.health().is_healthy() && allowed(endpoint)
            })
            .or_else(|| members.select(hash_key, allowed))
    }

    /// Exchanges under way, and how many all endpoints together have connections for.
    pub fn load(&self) -> (usize, usize) {
        let members = self.members.load();
        let endpoints = members.endpoints();
        let in_flight = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        (in_flight, endpoints.len() * self.config.pool.max_connections)
    }

    /// The state of every endpoint, one row per address.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let members = self.members.load();
        let mut rows: Vec<_> = members.endpoints().iter().map(|endpoint| row(endpoint)).collect();
        for configured in self.resolver.configured() {
            if !rows.iter().any(|row| *row.address == *configured.label) {
                rows.push(EndpointStatus {
                    address: configured.label.to_string(),
                    resolved: None,
                    healthy: false,
                    enabled: configured.enabled(),
                    weight: configured.weight,
                    in_flight: 0,
                    open_connections: 0,
                    idle_connections: 0,
                    consecutive_failures: 0,
                    last_error: None,
                });
            }
        }
        rows
    }

    /// Drains the endpoint configured as `address` (`host:port`), or takes it back. Exchanges under way go on.
    /// Returns whether there is such an endpoint.
    pub fn set_enabled(&self, address: &str, enabled: bool) -> bool {
        let mut found = false;
        for configured in self
            .resolver
            .configured()
            .filter(|configured| *configured.label == *address)
        {
            configured.set_enabled(enabled);
            found = true;
        }
        found
    }

    /// Takes over the addresses that the resolver knows. Called by the discovery task alone.
    fn update(&self) {
        let endpoints = self.resolver.endpoints();
        let members = self.members.load();
        let unchanged = members.endpoints().len() == endpoints.len()
            && std::iter::zip(members.endpoints(), &endpoints).all(|(old, new)| Arc::ptr_eq(old, new));
        if !unchanged {
            self.members
                .store(Arc::new(Members::new(&self.config.balance, endpoints)));
        }
    }

    fn advance(&self, reached: Progress) {
        self.progress
            .send_modify(|progress| *progress = reached.max(*progress));
    }

    /// The interval of the checks, up to a tenth shorter or longer, so that replicas do not check in step.
    fn jittered(&self, interval: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        (
            self.clock.now(),
            &self.config.name,
            std::ptr::from_ref(self) as usize,
        )
            .hash(&mut hasher);
        let permille = u32::try_from(hasher.finish() % 201).unwrap_or(100) + 900;
        interval.saturating_mul(permille) / 1_000
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        self.resolver.retire_all();
    }
}

fn row(endpoint: &Endpoint) -> EndpointStatus {
    let seen = endpoint.health().seen();
    EndpointStatus {
        address: endpoint.label().to_string(),
        resolved: Some(endpoint.address()),
        healthy: endpoint.health().is_healthy(),
        enabled: endpoint.configured().enabled(),
        weight: endpoint.configured().weight,
        in_flight: endpoint.in_flight(),
        open_connections: endpoint.open_connections(),
        idle_connections: endpoint.idle_connections(),
        consecutive_failures: u32::try_from(seen.failures).unwrap_or(u32::MAX),
        last_error: seen.last_error.map(|reason| reason.to_string()),
    }
}

async fn resolve(cluster: Weak<Cluster>) {
    let mut ticks = tokio::time::interval(RESOLVE_EVERY);
    loop {
        ticks.tick().await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        cluster.resolver.resolve().await;
        cluster.update();
        cluster.advance(Progress::Resolved);
    }
}

async fn run_checks(cluster: Weak<Cluster>, checker: Checker, mut progress: watch::Receiver<Progress>) {
    if progress
        .wait_for(|progress| *progress >= Progress::Resolved)
        .await
        .is_err()
    {
        return;
    }
    loop {
        // Not held while the checks run, so that the cluster can be dropped meanwhile, which ends them.
        let Some(members) = cluster.upgrade().map(|cluster| cluster.members.load_full()) else {
            return;
        };
        checker.check_all(members.endpoints()).await;
        drop(members);
        let pause = {
            let Some(cluster) = cluster.upgrade() else {
                return;
            };
            cluster.advance(Progress::Checked);
            cluster.jittered(checker.check.interval)
        };
        tokio::time::sleep(pause).await;
    }
}
