//! Hit-for-miss: keys that were found uncacheable a moment ago, so that requests for them do not queue behind each
//! other for an answer that none of them can share.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::digest::KeyDigest;
use super::digest_hash::DigestHash;
use crate::clock::{Clock, Timestamp};

/// Remembers a bounded number of keys for a while.
///
/// Least recently used keys make room: a frequency sketch would refuse exactly the keys that were just learned.
#[derive(Debug)]
pub struct NegativeMemory {
    known: Cache<KeyDigest, Known, DigestHash>,
    keep_for: Duration,
    clock: Clock,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    until: Timestamp,
    /// The body showed it: no head can show the contrary.
    by_body: bool,
}

impl NegativeMemory {
    /// A memory of at most about `capacity` keys, each kept for `keep_for`.
    pub fn new(capacity: u64, keep_for: Duration, clock: Clock) -> Self {
        let known = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(DigestHash);
        Self {
            known,
            keep_for,
            clock,
        }
    }

    /// Remembers that the answer to `key` cannot be shared.
    pub fn remember(&self, key: KeyDigest) {
        self.insert(key, false);
    }

    /// Remembers that the answer to `key` is too large to be kept, which only its body could tell.
    pub fn remember_by_body(&self, key: KeyDigest) {
        self.insert(key, true);
    }

    /// Forgets `key`: the head of its answer turned out cacheable.
    pub fn forget(&self, key: &KeyDigest) {
        if self.known.get(key).is_some_and(|known| !known.by_body) {
            self.known.invalidate(key);
        }
    }

    /// Whether the answer to `key` could not be shared a moment ago.
    pub fn recalls(&self, key: &KeyDigest) -> bool {
        match self.known.get(key) {
            Some(known) if self.clock.now() < known.until => true,
            Some(_) => {
                self.known.invalidate(key);
                false
            }
            None => false,
        }
    }

    fn insert(&self, key: KeyDigest, by_body: bool) {
        let until = self.clock.now().plus(self.keep_for);
        self.known.insert(key, Known { until, by_body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> KeyDigest {
        KeyDigest(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn a_key_is_recalled_for_its_time() {
        let clock = Clock::manual(Timestamp::from_secs(100));
        let memory = NegativeMemory::new(10, Duration::from_secs(5), clock.clone());
        memory.remember(key(1));
        assert!(memory.recalls(&key(1)) && !memory.recalls(&key(2)));
        clock.advance(Duration::from_millis(4_999));
        assert!(memory.recalls(&key(1)));
        clock.advance(Duration::from_millis(1));
        assert!(!memory.recalls(&key(1)));
    }

    #[test]
    fn a_forgotten_key_is_not_recalled() {
        let memory = NegativeMemory::new(10, Duration::from_secs(5), Clock::manual(Timestamp::from_secs(1)));
        memory.remember(key(1));
        memory.forget(&key(1));
        assert!(!memory.recalls(&key(1)));
    }

    #[test]
    fn what_a_body_showed_no_head_disproves() {
        let clock = Clock::manual(Timestamp::from_secs(1));
        let memory = NegativeMemory::new(10, Duration::from_secs(5), clock.clone());
        memory.remember_by_body(key(1));
        memory.forget(&key(1));
        assert!(memory.recalls(&key(1)));
        clock.advance(Duration::from_secs(5));
        assert!(!memory.recalls(&key(1)));
    }

    #[test]
    fn memory_is_bounded_and_prefers_new_keys() {
        let memory = NegativeMemory::new(
            100,
            Duration::from_secs(5),
            Clock::manual(Timestamp::from_secs(1)),
        );
        for n in 0..10_000 {
            memory.remember(key(n));
        }
        memory.known.run_pending_tasks();
        assert!(memory.known.entry_count() <= 100);
        assert!(memory.recalls(&key(9_999)));
    }
}
