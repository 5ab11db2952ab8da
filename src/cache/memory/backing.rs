//! The two crates that keep the slots: quick_cache for CLOCK-Pro, moka for W-TinyLFU and LRU.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::notification::RemovalCause;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Lifecycle, Options, OptionsBuilder, Weighter};

use super::super::digest::KeyDigest;
use super::super::digest_hash::DigestHash;
use super::super::slot::Slot;
use crate::config::{EvictionPolicy, MemoryLevel};

/// Bytes of quick_cache's table per slot: its slab cell and hash bucket, both of which grow by doubling. At most 133
/// were measured.
const CLOCK_PRO_OVERHEAD: u64 = 160;

/// Bytes of moka's tables per slot: key, value and bookkeeping are allocations of their own, and so are the nodes of
/// its two queues. 264 to 276 were measured.
const MOKA_OVERHEAD: u64 = 320;

/// Objects of the largest size that a shard has room for; with fewer, large objects would crowd each other out of
/// one shard while others are empty.
const LARGEST_OBJECTS_PER_SHARD: u64 = 4;

/// Four for each of sixteen cores.
const MOST_SHARDS: u64 = 64;

/// Size of a usual entry; decides how many evicted keys CLOCK-Pro remembers.
const USUAL_ENTRY: u64 = 4 * 1024;

type ClockPro = QuickCache<KeyDigest, Arc<Slot>, SlotWeight, DigestHash, CountEvictions>;
type Moka = moka::sync::Cache<KeyDigest, Arc<Slot>, DigestHash>;

/// A bounded concurrent map of slots.
pub(super) enum Backing {
    ClockPro(Box<ClockPro>),
    Moka(Moka),
}

impl Backing {
    pub(super) fn new(level: &MemoryLevel, evictions: Arc<AtomicU64>) -> Self {
        match level.policy {
            EvictionPolicy::ClockPro => {
                let lifecycle = CountEvictions(evictions);
                Self::ClockPro(Box::new(QuickCache::with_options(
                    clock_pro_options(level),
                    SlotWeight,
                    DigestHash,
                    lifecycle,
                )))
            }
            EvictionPolicy::WTinyLfu => Self::Moka(moka(
                level.capacity,
                moka::policy::EvictionPolicy::tiny_lfu(),
                evictions,
            )),
            EvictionPolicy::Lru => Self::Moka(moka(
                level.capacity,
                moka::policy::EvictionPolicy::lru(),
                evictions,
            )),
        }
    }

    /// The heaviest slot that is admitted, without the table's overhead.
    pub(super) fn max_slot_weight(&self) -> u64 {
        match self {
            // The crate admits what fits into the hot part of a shard, by default 97 %.
            Self::ClockPro(cache) => (cache.shard_capacity() / 100 * 97).saturating_sub(CLOCK_PRO_OVERHEAD),
            // moka's weights have 32 bits.
            Self::Moka(cache) => {
                let capacity = cache.policy().max_capacity().unwrap_or(u64::MAX);
                capacity.min(u64::from(u32::MAX)).saturating_sub(MOKA_OVERHEAD)
            }
        }
    }

    pub(super) fn get(&self, digest: &KeyDigest) -> Option<Arc<Slot>> {
        match self {
            Self::ClockPro(cache) => cache.get(digest),
            Self::Moka(cache) => cache.get(digest),
        }
    }

    /// Like `get`, but does not count as a use where the crate can tell.
    pub(super) fn peek(&self, digest: &KeyDigest) -> Option<Arc<Slot>> {
        match self {
            Self::ClockPro(cache) => cache.peek(digest),
            Self::Moka(cache) => cache.get(digest),
        }
    }

    pub(super) fn insert(&self, digest: KeyDigest, slot: Arc<Slot>) {
        match self {
            Self::ClockPro(cache) => cache.insert(digest, slot),
            Self::Moka(cache) => cache.insert(digest, slot),
        }
    }

    pub(super) fn remove(&self, digest: &KeyDigest) -> bool {
        match self {
            Self::ClockPro(cache) => cache.remove(digest).is_some(),
            Self::Moka(cache) => cache.remove(digest).is_some(),
        }
    }

    pub(super) fn clear(&self) {
        match self {
            Self::ClockPro(cache) => cache.clear(),
            Self::Moka(cache) => {
                cache.invalidate_all();
                cache.run_pending_tasks();
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::ClockPro(cache) => u64::try_from(cache.len()).unwrap_or(u64::MAX),
            Self::Moka(cache) => {
                cache.run_pending_tasks();
                cache.entry_count()
            }
        }
    }

    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::ClockPro(cache) => cache.weight(),
            Self::Moka(cache) => {
                cache.run_pending_tasks();
                cache.weighted_size()
            }
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&KeyDigest, &Slot)) {
        match self {
            Self::ClockPro(cache) => cache.iter().for_each(|(digest, slot)| visit(&digest, &slot)),
            Self::Moka(cache) => cache.iter().for_each(|(digest, slot)| visit(&digest, &slot)),
        }
    }
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockPro(cache) => cache.fmt(f),
            Self::Moka(_) => f.write_str("Moka"),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "building fails only when a capacity is not given"
)]
fn clock_pro_options(level: &MemoryLevel) -> Options {
    let items = usize::try_from(level.capacity / USUAL_ENTRY).unwrap_or(usize::MAX);
    OptionsBuilder::new()
        .weight_capacity(level.capacity)
        .estimated_items_capacity(items)
        .shards(shards(level))
        .build()
        .expect("both capacities are given")
}

fn moka(capacity: u64, policy: moka::policy::EvictionPolicy, evictions: Arc<AtomicU64>) -> Moka {
    moka::sync::Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(policy)
        .weigher(|_, slot: &Arc<Slot>| u32::try_from(slot.weight() + MOKA_OVERHEAD).unwrap_or(u32::MAX))
        .eviction_listener(move |_, _, cause| {
            if cause == RemovalCause::Size {
                evictions.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build_with_hasher(DigestHash)
}

/// Shards of the table, a power of two. Each has its own part of the capacity.
fn shards(level: &MemoryLevel) -> usize {
    let roomy = level.capacity / level.max_object.saturating_mul(LARGEST_OBJECTS_PER_SHARD).max(1);
    let shards = roomy.clamp(1, MOST_SHARDS);
    1 << shards.ilog2()
}

/// Weighs a slot with its place in the table.
#[derive(Clone, Copy)]
pub(super) struct SlotWeight;

impl Weighter<KeyDigest, Arc<Slot>> for SlotWeight {
    fn weight(&self, _: &KeyDigest, slot: &Arc<Slot>) -> u64 {
        slot.weight() + CLOCK_PRO_OVERHEAD
    }
}

/// Counts evictions, and lets the slots go after the shard's lock.
#[derive(Clone)]
pub(super) struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<KeyDigest, Arc<Slot>> for CountEvictions {
    type RequestState = Vec<Arc<Slot>>;

    fn on_evict(&self, evicted: &mut Self::RequestState, _: KeyDigest, slot: Arc<Slot>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        evicted.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::sample;
    use super::*;

    fn level(capacity: u64, max_object: u64) -> MemoryLevel {
        MemoryLevel {
            name: "l1".into(),
            capacity,
            policy: EvictionPolicy::ClockPro,
            max_object,
        }
    }

    #[test]
    fn the_table_takes_no_more_than_the_overhead_at_any_size() {
        let Backing::ClockPro(cache) = Backing::new(&level(64 << 20, 1 << 20), Arc::default()) else {
            panic!("another policy")
        };
        let slot = Arc::new(Slot::new(sample::entry("a:GET h/", &[], 0)));
        for n in 0..20_000_u64 {
            cache.insert(
                KeyDigest(*blake3::hash(&n.to_le_bytes()).as_bytes()),
                Arc::clone(&slot),
            );
            // Smaller tables are dominated by what is reserved from the start, far below a percent of the capacity.
            if n > 4_000 && n % 100 == 0 {
                let used = u64::try_from(cache.memory_used().total()).unwrap();
                assert!(used <= (n + 1) * CLOCK_PRO_OVERHEAD, "{used} for {n}");
            }
        }
    }

    #[test]
    fn shards_are_few_when_objects_are_large_for_the_capacity() {
        assert_eq!(shards(&level(1 << 20, 512 << 10)), 1);
        assert_eq!(shards(&level(256 << 20, 8 << 20)), 8);
        assert_eq!(shards(&level(100 << 20, 8 << 20)), 2, "rounded down");
        assert_eq!(shards(&level(8 << 30, 1 << 20)), 64);
        assert_eq!(shards(&level(1 << 20, u64::MAX)), 1);
        assert_eq!(shards(&level(0, 0)), 1);
    }
}
