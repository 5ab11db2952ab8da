//! Selecting an endpoint: one file per algorithm, behind one trait.
//!
//! The ring is pingora's (`pingora-ketama`, the points that nginx computes). Its `pingora-load-balancing` is not
//! used: `pingora-core` behind it makes 253 crates of 203, one of which (zlib-ng) is built by `cmake`, and its round
//! robin gives an endpoint all the turns of its weight at a stretch.

mod ketama;
mod round_robin;

use std::sync::Arc;

use self::ketama::Ketama;
use self::round_robin::RoundRobin;
use super::endpoint::Endpoint;
use crate::config::Balance;

/// An algorithm, built for one set of endpoints and asked by all workers. Endpoints are known to it by their place
/// in that set.
pub(super) trait Selector: Send + Sync {
    /// The first endpoint in the algorithm's order that `accept` accepts; none if it accepts none. `key` decides
    /// with consistent hashing and is ignored otherwise.
    fn pick(&self, key: &[u8], accept: &dyn Fn(usize) -> bool) -> Option<usize>;
}

/// The addresses of one upstream at one time, ordered by address, and the choice among them. Never changed: a new
/// set of addresses is a new `Members`.
pub(super) struct Members {
    endpoints: Vec<Arc<Endpoint>>,
    selector: Box<dyn Selector>,
}

impl Members {
    /// `endpoints` must be ordered by address, each address once.
    pub(super) fn new(balance: &Balance, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let weighted = endpoints
            .iter()
            .map(|endpoint| (endpoint.address(), endpoint.configured().weight));
        let selector: Box<dyn Selector> = match balance {
            Balance::RoundRobin => Box::new(RoundRobin::build(weighted.map(|(_, weight)| weight))),
            Balance::Ketama(_) => Box::new(Ketama::build(weighted)),
        };
        Self { endpoints, selector }
    }

    pub(super) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The first endpoint in the algorithm's order that `accept` accepts.
    pub(super) fn select(
        &self,
        key: &[u8],
        accept: impl Fn(&Arc<Endpoint>) -> bool,
    ) -> Option<Arc<Endpoint>> {
        let place = self
            .selector
            .pick(key, &|place| self.endpoints.get(place).is_some_and(&accept))?;
        self.endpoints.get(place).cloned()
    }
}

/// The first of `count` places, from `start` on and around, that is accepted.
fn scan(start: usize, count: usize, accept: &dyn Fn(usize) -> bool) -> Option<usize> {
    (0..count)
        .map(|step| (start % count + step) % count)
        .find(|&place| accept(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_visits_every_place_once_and_goes_around() {
        let visited = std::cell::RefCell::new(Vec::new());
        let none = scan(8, 3, &|place| {
            visited.borrow_mut().push(place);
            false
        });
        assert_eq!((none, visited.into_inner()), (None, vec![2, 0, 1]));
        assert_eq!(scan(8, 3, &|place| place < 2), Some(0));
        assert_eq!(scan(8, 0, &|_| true), None);
    }
}
