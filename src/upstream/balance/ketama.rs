//! Consistent hashing on a ketama ring.

use std::net::SocketAddr;

use pingora_ketama::{Bucket, Continuum};

use super::{Selector, scan};

/// Points of the ring that are looked at, per endpoint, before the endpoints are searched one by one: successive
/// points may belong to the same endpoint.
const POINTS_PER_ENDPOINT: usize = 8;

/// A ring on which each endpoint has points by its weight; a key belongs to the next point. Weights are not reduced,
/// because they decide where the points lie: reducing them would move keys when an endpoint comes or goes.
pub(super) struct Ketama {
    ring: Continuum,
    /// In order, so that an address of the ring can be looked up.
    addresses: Vec<SocketAddr>,
}

impl Ketama {
    /// `endpoints` (address, weight) must be ordered by address; a weight of zero counts as one.
    pub(super) fn build(endpoints: impl Iterator<Item = (SocketAddr, u16)>) -> Self {
        let (addresses, buckets): (Vec<_>, Vec<_>) = endpoints
            .map(|(address, weight)| (address, Bucket::new(address, u32::from(weight.max(1)))))
            .unzip();
        Self {
            ring: Continuum::new(&buckets),
            addresses,
        }
    }
}

impl Selector for Ketama {
    /// A key whose endpoint is not accepted goes to the next one on the ring, always the same.
    fn pick(&self, key: &[u8], accept: &dyn Fn(usize) -> bool) -> Option<usize> {
        let endpoints = self.addresses.len();
        let mut point = self.ring.node_idx(key);
        let mut place = 0;
        for _ in 0..endpoints.saturating_mul(POINTS_PER_ENDPOINT) {
            let address = self.ring.get_addr(&mut point)?;
            place = self.addresses.binary_search(address).ok()?;
            if accept(place) {
                return Some(place);
            }
        }
        scan(place, endpoints, accept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[u16]) -> Ketama {
        let addresses = (1..).map(|last| SocketAddr::from(([10, 0, 0, last], 80)));
        Ketama::build(addresses.zip(weights.iter().copied()))
    }

    fn share(ring: &Ketama, wanted: usize) -> usize {
        (0_u32..4_000)
            .filter(|key| ring.pick(&key.to_be_bytes(), &|_| true) == Some(wanted))
            .count()
    }

    #[test]
    fn endpoints_get_keys_by_weight() {
        let ring = ring(&[1, 3]);
        assert!((700..1_300).contains(&share(&ring, 0)), "{}", share(&ring, 0));
    }

    #[test]
    fn a_key_has_one_next_endpoint_and_the_others_stay() {
        let ring = ring(&[1, 1, 1, 1]);
        let mut next = [0; 4];
        for key in 0_u32..1_000 {
            let key = key.to_be_bytes();
            let first = ring.pick(&key, &|_| true).unwrap();
            let without = ring.pick(&key, &|place| place != 2).unwrap();
            assert_eq!(ring.pick(&key, &|place| place != 2), Some(without));
            if first == 2 {
                next[without] += 1;
            } else {
                assert_eq!(without, first);
            }
        }
        // The keys of the excluded endpoint are spread over all others.
        assert!([0, 1, 3].iter().all(|&place| next[place] > 20), "{next:?}");
        assert_eq!(next[2], 0);
    }

    #[test]
    fn an_empty_ring_and_a_refused_key_pick_nothing() {
        assert_eq!(ring(&[]).pick(b"key", &|_| true), None);
        assert_eq!(ring(&[1, 1]).pick(b"key", &|_| false), None);
    }
}
