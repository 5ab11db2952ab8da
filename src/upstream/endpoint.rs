//! One address that serves an upstream, and its live load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::health::Health;
use crate::config;

/// An endpoint as configured; a host name may stand for several addresses.
#[derive(Debug)]
pub(super) struct Configured {
    /// `host:port`.
    pub(super) label: Arc<str>,
    /// IP address or name.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// Share of the traffic, as configured.
    pub(super) weight: u16,
    enabled: AtomicBool,
}

impl Configured {
    /// Takes over one endpoint of the configuration.
    pub(super) fn new(endpoint: &config::Endpoint) -> Self {
        let label = if endpoint.host.contains(':') && !endpoint.host.starts_with('[') {
            format!("[{}]:{}", endpoint.host, endpoint.port)
        } else {
            format!("{}:{}", endpoint.host, endpoint.port)
        };
        Self {
            label: label.into(),
            host: endpoint.host.trim_matches(['[', ']']).to_owned(),
            port: endpoint.port,
            weight: endpoint.weight,
            enabled: AtomicBool::new(true),
        }
    }

    /// Whether it may be selected.
    pub(super) fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Drains it (`false`) or takes it back.
    pub(super) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }
}

/// One address of a configured endpoint, shared by all workers.
#[derive(Debug)]
pub struct Endpoint {
    configured: Arc<Configured>,
    address: SocketAddr,
    in_flight: AtomicUsize,
    connections: Arc<Semaphore>,
    max_connections: usize,
    idle: AtomicUsize,
    waiting: AtomicUsize,
    retired: AtomicBool,
    health: Health,
}

impl Endpoint {
    pub(super) fn new(configured: Arc<Configured>, address: SocketAddr, max_connections: usize) -> Self {
        let max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            configured,
            address,
            in_flight: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            idle: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            health: Health::new(),
        }
    }

    /// `host:port` as configured.
    pub fn label(&self) -> &Arc<str> {
        &self.configured.label
    }

    /// The address connections go to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Exchanges under way, over all workers.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections, over all workers; upgraded ones included.
    pub fn open_connections(&self) -> usize {
        self.max_connections
            .saturating_sub(self.connections.available_permits())
    }

    /// Connections waiting for an exchange, over all workers; HTTP/2 connections are not counted.
    pub fn idle_connections(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    pub(super) fn configured(&self) -> &Arc<Configured> {
        &self.configured
    }

    /// Whether the address is no longer part of the upstream: its connections are not kept.
    pub(super) fn retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Requests that wait for a connection, over all workers.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What its checks said.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Leave to open a connection, if the limit allows one now.
    pub(super) fn try_open(&self) -> Option<OpenPermit> {
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        Some(OpenPermit { _permit: permit })
    }

    /// Waits for leave to open a connection; first come, first served.
    pub(super) async fn open(&self) -> Option<OpenPermit> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        Some(OpenPermit { _permit: permit })
    }
}

/// One of the connections the endpoint may have. It lives in the socket, so that it is given back exactly when the
/// socket closes, also after an upgrade.
#[derive(Debug)]
pub(super) struct OpenPermit {
    _permit: OwnedSemaphorePermit,
}

/// Counts one exchange on its endpoint until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one idle connection on its endpoint until it is dropped.
#[derive(Debug)]
pub(super) struct IdleCount(Arc<Endpoint>);

impl IdleCount {
    /// None when the endpoint has `max` idle connections already.
    pub(super) fn take(endpoint: &Arc<Endpoint>, max: usize) -> Option<Self> {
        let before = endpoint.idle.fetch_add(1, Ordering::Relaxed);
        // Constructed first, so that a refusal undoes the count by dropping it.
        let count = Self(Arc::clone(endpoint));
        (before < max).then_some(count)
    }
}

impl Drop for IdleCount {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request that waits for a connection until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    endpoint: &'a Endpoint,
    here: &'a AtomicUsize,
}

impl<'a> Waiting<'a> {
    /// Counts on the endpoint and on the worker's own count `here`.
    pub(super) fn new(endpoint: &'a Endpoint, here: &'a AtomicUsize) -> Self {
        endpoint.waiting.fetch_add(1, Ordering::Relaxed);
        here.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, here }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.endpoint.waiting.fetch_sub(1, Ordering::Relaxed);
        self.here.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(host: &str) -> Arc<Configured> {
        Arc::new(Configured::new(&config::Endpoint {
            host: host.to_owned(),
            port: 80,
            weight: 1,
        }))
    }

    #[test]
    fn labels_bracket_ipv6_once() {
        assert_eq!(&*configured("hub").label, "hub:80");
        assert_eq!(&*configured("::1").label, "[::1]:80");
        assert_eq!(&*configured("[::1]").label, "[::1]:80");
        assert_eq!(configured("[::1]").host, "::1");
    }

    #[test]
    fn counts_return_to_zero_and_idle_is_bounded() {
        let endpoint = Arc::new(Endpoint::new(
            configured("127.0.0.1"),
            ([127, 0, 0, 1], 80).into(),
            2,
        ));
        let exchange = InFlight::new(&endpoint);
        let first = IdleCount::take(&endpoint, 1);
        assert!(first.is_some());
        assert!(IdleCount::take(&endpoint, 1).is_none());
        assert_eq!((endpoint.in_flight(), endpoint.idle_connections()), (1, 1));
        let permits = (endpoint.try_open(), endpoint.try_open());
        assert!(endpoint.try_open().is_none());
        assert_eq!(endpoint.open_connections(), 2);
        drop((exchange, first, permits));
        assert_eq!(
            (
                endpoint.in_flight(),
                endpoint.idle_connections(),
                endpoint.open_connections()
            ),
            (0, 0, 0)
        );
    }
}
