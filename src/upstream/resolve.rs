//! Discovery: the addresses behind the configured endpoints.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::endpoint::{Configured, Endpoint};
use crate::config;

/// Time between two resolutions of host names.
pub(super) const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// Time one resolution may take, so that new addresses are used within six seconds.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Knows the addresses of each configured endpoint. A name that stops resolving keeps its last good addresses.
pub(super) struct Resolver {
    upstream: config::Name,
    max_connections: usize,
    targets: Vec<Target>,
    endpoints: Mutex<HashMap<SocketAddr, Arc<Endpoint>>>,
}

struct Target {
    configured: Arc<Configured>,
    is_name: bool,
    addresses: Mutex<Addresses>,
}

#[derive(Default)]
struct Addresses {
    known: Vec<SocketAddr>,
    failing: bool,
}

impl Resolver {
    pub(super) fn new(config: &config::Upstream) -> Self {
        Self {
            upstream: Arc::clone(&config.name),
            max_connections: config.pool.max_connections,
            targets: config.endpoints.iter().map(Target::new).collect(),
            endpoints: Mutex::default(),
        }
    }

    /// Whether any endpoint is a name.
    pub(super) fn has_names(&self) -> bool {
        self.targets.iter().any(|target| target.is_name)
    }

    /// The endpoints as configured.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Arc<Configured>> {
        self.targets.iter().map(|target| &target.configured)
    }

    /// Takes over what `old` knows of the same endpoints: the addresses of names, and which are drained.
    pub(super) fn inherit(&self, old: &Self) {
        for target in &self.targets {
            let same = |other: &&Target| other.configured.label == target.configured.label;
            let Some(before) = old.targets.iter().find(same) else {
                continue;
            };
            target.configured.set_enabled(before.configured.enabled());
            if target.is_name {
                let known = before.addresses.lock().known.clone();
                target.addresses.lock().known = known;
            }
        }
    }

    /// Asks the system's resolver for every name. [`Resolver::endpoints`] then tells the result.
    pub(super) async fn resolve(&self) {
        let lookups = self.targets.iter().filter(|target| target.is_name);
        futures_util::future::join_all(lookups.map(|target| target.resolve(&self.upstream))).await;
    }

    /// The endpoints of all known addresses, ordered by address. An address keeps its [`Endpoint`] as long as it stays; one that is
    /// gone is retired, so that its connections are not kept. An address that several endpoints share counts once.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut known = self.endpoints.lock();
        let mut seen = HashSet::new();
        let mut endpoints = Vec::new();
        for target in &self.targets {
            for &address in &target.addresses.lock().known {
                if !seen.insert(address) {
                    continue;
                }
                let endpoint = known.entry(address).or_insert_with(|| {
                    let configured = Arc::clone(&target.configured);
                    Arc::new(Endpoint::new(configured, address, self.max_connections))
                });
                endpoints.push(Arc::clone(endpoint));
            }
        }
        known.retain(|address, endpoint| {
            let stays = seen.contains(address);
            if !stays {
                tracing::info!(upstream = %self.upstream, endpoint = %endpoint.label(), %address, "address is gone");
                endpoint.retire();
            }
            stays
        });
        endpoints.sort_unstable_by_key(|endpoint| endpoint.address());
        endpoints
    }

    /// Retires every endpoint: the upstream is gone or was replaced.
    pub(super) fn retire_all(&self) {
        for endpoint in self.endpoints.lock().values() {
            endpoint.retire();
        }
    }
}

impl Target {
    fn new(endpoint: &config::Endpoint) -> Self {
        let configured = Arc::new(Configured::new(endpoint));
        let fixed = configured.host.parse::<IpAddr>().ok();
        let known = fixed.map(|ip| SocketAddr::new(ip, configured.port));
        Self {
            is_name: fixed.is_none(),
            addresses: Mutex::new(Addresses {
                known: known.into_iter().collect(),
                failing: false,
            }),
            configured,
        }
    }

    async fn resolve(&self, upstream: &str) {
        let name = (self.configured.host.as_str(), self.configured.port);
        let found = match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name)).await {
            Ok(Ok(found)) => usable(found),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        self.learn(found, upstream);
    }

    /// Takes over an answer, and keeps what is known when there is none. A change for the worse is told once.
    fn learn(&self, found: Result<Vec<SocketAddr>, String>, upstream: &str) {
        let mut addresses = self.addresses.lock();
        match found {
            Ok(found) => {
                addresses.known = found;
                addresses.failing = false;
            }
            Err(reason) => {
                if !std::mem::replace(&mut addresses.failing, true) {
                    tracing::warn!(upstream, endpoint = %self.configured.label, reason, kept = addresses.known.len(),
                        "name does not resolve");
                }
            }
        }
    }
}

/// The IPv4 addresses of an answer if there are any, otherwise the IPv6 ones, without repetitions. Endpoints that
/// have both families usually listen on the first only (`localhost`), and containers often have no IPv6 route.
fn usable(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let all: BTreeSet<SocketAddr> = found.collect();
    let v4: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    match (v4.is_empty(), all.is_empty()) {
        (_, true) => Err("no address".to_owned()),
        (true, false) => Ok(all.into_iter().collect()),
        (false, _) => Ok(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_is_preferred_and_repetitions_are_dropped() {
        let mixed = ["[::1]:80", "127.0.0.1:80", "127.0.0.1:80"].map(address);
        assert_eq!(usable(mixed.into_iter()).unwrap(), [address("127.0.0.1:80")]);
        assert_eq!(
            usable([address("[::1]:80")].into_iter()).unwrap(),
            [address("[::1]:80")]
        );
        assert!(usable(std::iter::empty()).is_err());
    }

    #[test]
    fn a_name_that_stops_resolving_keeps_its_addresses() {
        let resolver = Resolver::new(&testing::config(&["hub.invalid:80"]));
        let target = &resolver.targets[0];
        assert!(resolver.has_names());
        assert!(resolver.endpoints().is_empty());
        target.learn(Ok(vec![address("10.0.0.1:80"), address("10.0.0.2:80")]), "hub");
        assert_eq!(resolver.endpoints().len(), 2);
        target.learn(Err("SERVFAIL".to_owned()), "hub");
        assert_eq!(resolver.endpoints().len(), 2);
    }

    #[test]
    fn an_address_keeps_its_endpoint_until_it_is_gone() {
        let resolver = Resolver::new(&testing::config(&["hub.invalid:80"]));
        let target = &resolver.targets[0];
        let endpoint = |resolver: &Resolver, text| resolver.endpoints.lock().get(&address(text)).cloned();
        target.learn(Ok(vec![address("10.0.0.1:80"), address("10.0.0.2:80")]), "hub");
        resolver.endpoints();
        let kept = endpoint(&resolver, "10.0.0.1:80").unwrap();
        let gone = endpoint(&resolver, "10.0.0.2:80").unwrap();
        target.learn(Ok(vec![address("10.0.0.1:80"), address("10.0.0.3:80")]), "hub");
        resolver.endpoints();
        assert!(Arc::ptr_eq(&kept, &endpoint(&resolver, "10.0.0.1:80").unwrap()));
        assert!(!kept.retired() && gone.retired());
    }
}
