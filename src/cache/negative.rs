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
    until: Cache<KeyDigest, Timestamp, DigestHash>,
    keep_for: Duration,
    clock: Clock,
}

impl NegativeMemory {
    /// A memory of at most about `capacity` keys, each kept for `keep_for`.
    pub fn new(capacity: u64, keep_for: Duration, clock: Clock) -> Self {
        let until = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(DigestHash);
        Self {
            until,
            keep_for,
            clock,
        }
    }

    /// Remembers that the answer to `key` cannot be shared.
    pub fn remember(&self, key: KeyDigest) {
        self.until.insert(key, self.clock.now().plus(self.keep_for));
    }

    /// Forgets `key`: its answer turned out cacheable.
    pub fn forget(&self, key: &KeyDigest) {
        self.until.invalidate(key);
    }

    /// Whether the answer to `key` could not be shared a moment ago.
    pub fn recalls(&self, key: &KeyDigest) -> bool {
        match self.until.get(key) {
            Some(until) if self.clock.now() < until => true,
            Some(_) => {
                self.until.invalidate(key);
                false
            }
            None => false,
        }
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
    fn memory_is_bounded_and_prefers_new_keys() {
        let memory = NegativeMemory::new(
            100,
            Duration::from_secs(5),
            Clock::manual(Timestamp::from_secs(1)),
        );
        for n in 0..10_000 {
            memory.remember(key(n));
        }
        memory.until.run_pending_tasks();
        assert!(memory.until.entry_count() <= 100);
        assert!(memory.recalls(&key(9_999)));
    }
}
