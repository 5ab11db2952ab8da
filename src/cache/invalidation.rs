//! Invalidation by unsafe methods (RFC 9111, section 4.4; RFC 9875), without an index of what is stored.
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
    /// The last time that any group was invalidated; 0 for never.
    group: AtomicU64,
}

impl Default for Invalidations {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            any: AtomicBool::new(false),
            group: AtomicU64::new(0),
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

    /// Invalidates everything stored for the origin `authority` in `group`, up to `now` (RFC 9875, section 3).
    pub fn mark_group(&self, authority: &str, group: &str, now: Timestamp) {
        self.mark(&group_mark(authority, group), now);
        self.group.fetch_max(now.as_micros(), Ordering::AcqRel);
    }

    /// Whether a fill that began at `began` may have been invalidated since by a group.
    pub fn any_group_since(&self, began: Timestamp) -> bool {
        let last = self.group.load(Ordering::Acquire);
        last > 0 && last >= began.as_micros()
    }

    /// Whether `group` of the origin `authority` has been invalidated since `began`.
    pub fn covers_group(&self, authority: &str, group: &str, began: Timestamp) -> bool {
        self.covers(&group_mark(authority, group), began)
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

/// A name that no target has: a target begins with its authority and a slash.
fn group_mark(authority: &str, group: &str) -> String {
    format!("{authority} {group}")
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

    #[test]
    fn a_group_is_of_one_origin() {
        let table = Invalidations::default();
        let (before, at) = (Timestamp::from_secs(99), Timestamp::from_secs(100));
        assert!(!table.any_group_since(before));
        table.mark("hub/a", at);
        assert!(!table.any_group_since(before));
        table.mark_group("hub", "a", at);
        assert!(table.any_group_since(at) && !table.any_group_since(Timestamp::from_secs(101)));
        assert!(table.covers_group("hub", "a", before));
        assert!(!table.covers_group("hub", "b", before));
        assert!(!table.covers_group("other", "a", before));
        assert!(!table.covers_group("hub", "a", Timestamp::from_secs(101)));
    }
}
