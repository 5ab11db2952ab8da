//! Invalidation by unsafe methods (RFC 9111, section 4.4), without an index of what is stored.
//!
//! A fixed table holds, per bucket of target URIs, the moment of the last invalidation. An entry whose fill began
//! before that moment is not used again. Two URIs that share a bucket invalidate each other: too much may be
//! fetched again, never too little, and memory is constant whatever clients send.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::Timestamp;

const BUCKETS: usize = 16_384;

/// When the entries of a target URI were last invalidated.
#[derive(Debug)]
pub struct Invalidations {
    buckets: Box<[AtomicU64]>,
    any: AtomicBool,
}

impl Default for Invalidations {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            any: AtomicBool::new(false),
        }
    }
}

impl Invalidations {
    /// Invalidates everything stored for `target`, as [labels](super::key::Key::label) have it
    /// (`host/path?query`), up to `now`.
    pub fn mark(&self, target: &str, now: Timestamp) {
        if let Some(bucket) = self.buckets.get(index(target)) {
            bucket.fetch_max(now.as_micros(), Ordering::AcqRel);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether a fill of this target that began at `began` has been invalidated since.
    pub fn covers(&self, target: &str, began: Timestamp) -> bool {
        self.any.load(Ordering::Acquire)
            && self
                .buckets
                .get(index(target))
                .is_some_and(|bucket| bucket.load(Ordering::Acquire) >= began.as_micros())
    }
}

fn index(target: &str) -> usize {
    let digest = blake3::hash(target.as_bytes());
    let bytes = digest.as_bytes();
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_that_began_before_is_covered_and_one_after_is_not() {
        let table = Invalidations::default();
        let at = Timestamp::from_secs(100);
        assert!(!table.covers("hub/a", Timestamp::from_secs(1)));
        table.mark("hub/a", at);
        assert!(table.covers("hub/a", Timestamp::from_secs(99)));
        assert!(table.covers("hub/a", at));
        assert!(!table.covers("hub/a", Timestamp::from_secs(101)));
        assert!(!table.covers("hub/b", Timestamp::from_secs(99)));
    }
}
