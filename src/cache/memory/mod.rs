//! The first level: slots in this process's memory, bounded in bytes.

mod backing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use self::backing::Backing;
use super::digest::KeyDigest;
use super::entry::Entry;
use super::slot::Slot;
use crate::config::MemoryLevel;

/// Locks for changes of a slot: two variants that are stored at the same time must not undo each other. Readers take
/// none of them.
const WRITE_LOCKS: usize = 64;

/// Entries by digest; when full, the eviction policy decides which slots make room.
#[derive(Debug)]
pub struct Memory {
    backing: Backing,
    writers: [Mutex<()>; WRITE_LOCKS],
    max_object: u64,
    evictions: Arc<AtomicU64>,
}

impl Memory {
    /// An empty level with the capacity, policy and object limit of `level`.
    pub fn new(level: &MemoryLevel) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        Self {
            backing: Backing::new(level, Arc::clone(&evictions)),
            writers: std::array::from_fn(|_| Mutex::new(())),
            max_object: level.max_object,
            evictions,
        }
    }

    /// The variants under `digest`.
    pub fn get(&self, digest: &KeyDigest) -> Option<Arc<Slot>> {
        self.backing.get(digest)
    }

    /// The variants under `digest`, for an onlooker: it does not count as a use where the policy can tell.
    pub fn peek(&self, digest: &KeyDigest) -> Option<Arc<Slot>> {
        self.backing.peek(digest)
    }

    /// Whether `entry` is within the object limit and could be admitted.
    pub fn has_room_for(&self, entry: &Arc<Entry>) -> bool {
        self.admits(&Slot::new(Arc::clone(entry)))
    }

    /// Adds `entry` to the variants under `digest`, and returns them all. None, and nothing changes, when its body is
    /// larger than the level's object limit, the entry could not be admitted at all, or what it would replace is from
    /// a later fill.
    pub fn put(&self, digest: &KeyDigest, entry: Arc<Entry>) -> Option<Arc<Slot>> {
        if !self.has_room_for(&entry) {
            return None;
        }
        let slot = Slot::new(Arc::clone(&entry));
        let _writer = self.writer(digest).lock();
        let slot = match self.backing.peek(digest) {
            Some(before) if before.is_newer_than(&entry) => return None,
            Some(before) => before.with(entry, self.backing.max_slot_weight()),
            None => slot,
        };
        let slot = Arc::new(slot);
        self.backing.insert(*digest, Arc::clone(&slot));
        Some(slot)
    }

    /// Adds the variants that another level had under `digest`, and returns them with those that were here; of the same
    /// variant the newer one. What cannot be admitted is returned, too, but not kept.
    pub fn adopt(&self, digest: &KeyDigest, found: &Arc<Slot>) -> Arc<Slot> {
        let _writer = self.writer(digest).lock();
        let slot = match self.backing.peek(digest) {
            Some(before) => Arc::new(before.merged(found, self.backing.max_slot_weight())),
            None => Arc::clone(found),
        };
        if self.admits(&slot) {
            self.backing.insert(*digest, Arc::clone(&slot));
        }
        slot
    }

    fn admits(&self, slot: &Slot) -> bool {
        let fits = |entry: &Arc<Entry>| entry.body_len() as u64 <= self.max_object;
        slot.weight() <= self.backing.max_slot_weight() && slot.variants().all(fits)
    }

    /// Removes all variants under `digest`; whether there were any.
    pub fn remove(&self, digest: &KeyDigest) -> bool {
        let _writer = self.writer(digest).lock();
        self.backing.remove(digest)
    }

    /// Removes `entry` and nothing that has replaced it meanwhile; what is left under `digest`.
    pub fn remove_entry(&self, digest: &KeyDigest, entry: &Arc<Entry>) -> Option<Arc<Slot>> {
        let _writer = self.writer(digest).lock();
        let slot = self.backing.peek(digest)?;
        if !slot.variants().any(|variant| Arc::ptr_eq(variant, entry)) {
            return Some(slot);
        }
        let rest = slot.without(entry).map(Arc::new);
        match &rest {
            Some(rest) => self.backing.insert(*digest, Arc::clone(rest)),
            None => {
                self.backing.remove(digest);
            }
        }
        rest
    }

    /// Removes everything.
    pub fn clear(&self) {
        let _writers: Vec<_> = self.writers.iter().map(Mutex::lock).collect();
        self.backing.clear();
    }

    /// Slots held. Under moka's policies the latest changes may not be counted yet.
    pub fn len(&self) -> u64 {
        self.backing.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, keys and overhead included.
    pub fn bytes(&self) -> u64 {
        self.backing.weight()
    }

    /// Slots that had to make room since the start.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Calls `visit` for each entry. Entries that come or go meanwhile may or may not be visited; no lock is held
    /// during a call.
    pub fn for_each(&self, mut visit: impl FnMut(&KeyDigest, &Arc<Entry>)) {
        self.backing.for_each(|digest, slot| {
            for entry in slot.variants() {
                visit(digest, entry);
            }
        });
    }

    fn writer(&self, digest: &KeyDigest) -> &Mutex<()> {
        // The last byte: the first ones choose the shard of the table.
        let [.., last] = digest.0;
        &self.writers[usize::from(last) % WRITE_LOCKS]
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::sample;
    use super::*;
    use crate::config::EvictionPolicy;

    const POLICIES: [EvictionPolicy; 3] = [
        EvictionPolicy::ClockPro,
        EvictionPolicy::WTinyLfu,
        EvictionPolicy::Lru,
    ];

    fn memory(policy: EvictionPolicy, capacity: u64, max_object: u64) -> Memory {
        Memory::new(&MemoryLevel {
            name: "l1".into(),
            capacity,
            policy,
            max_object,
        })
    }

    fn digest(n: usize) -> KeyDigest {
        KeyDigest(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn sized(n: usize, body: usize) -> Arc<Entry> {
        sample::entry_with(
            &format!("a:GET h/{n}"),
            &[],
            0,
            Default::default(),
            &vec![b'x'; body],
        )
    }

    fn variant(accept: &str) -> Arc<Entry> {
        let nominated = sample::nominated("accept", accept);
        sample::entry_with("a:GET h/", &[], 0, nominated, b"body")
    }

    #[test]
    fn what_is_put_is_found_until_it_is_removed() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 16);
            assert!(memory.put(&digest(1), sized(1, 10)).is_some());
            assert!(memory.put(&digest(2), sized(2, 20)).is_some());
            assert_eq!(
                memory
                    .get(&digest(2))
                    .unwrap()
                    .variants()
                    .next()
                    .unwrap()
                    .body_len(),
                20
            );
            assert!(memory.remove(&digest(2)) && !memory.remove(&digest(2)));
            assert!(memory.get(&digest(2)).is_none());
            memory.clear();
            assert!(
                memory.get(&digest(1)).is_none() && memory.is_empty() && memory.bytes() == 0,
                "{policy:?}"
            );
        }
    }

    #[test]
    fn an_object_of_half_a_small_capacity_fits() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 8 << 20);
            for n in 0..3 {
                assert!(memory.put(&digest(n), sized(n, 512 << 10)).is_some());
                assert!(memory.get(&digest(n)).is_some(), "{policy:?}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_disturbs_nothing() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 16);
            memory.put(&digest(1), sized(1, 10));
            assert!(memory.put(&digest(2), sized(2, 1 << 16)).is_some());
            assert!(
                memory.put(&digest(1), sized(1, (1 << 16) + 1)).is_none(),
                "over max_object"
            );
            assert!(memory.get(&digest(1)).is_some());
        }
        let memory = memory(EvictionPolicy::ClockPro, 1 << 20, 8 << 20);
        assert!(
            memory.put(&digest(1), sized(1, 1 << 20)).is_none(),
            "over the capacity"
        );
    }

    #[test]
    fn held_bytes_stay_within_the_capacity_and_evictions_are_counted() {
        for policy in POLICIES {
            let memory = memory(policy, 4 << 20, 1 << 20);
            for n in 0..10_000 {
                memory.put(&digest(n), sized(n, 1024));
            }
            assert!(memory.bytes() <= 4 << 20, "{policy:?} {}", memory.bytes());
            assert!(memory.len() > 1_000, "{policy:?} {}", memory.len());
            assert!(
                memory.evictions() + memory.len() >= 10_000,
                "{policy:?} {}",
                memory.evictions()
            );
        }
    }

    #[test]
    fn one_key_never_takes_more_than_can_be_admitted() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 20);
            for n in 0..16 {
                let nominated = sample::nominated("accept", &n.to_string());
                let entry = sample::entry_with("a:GET h/", &[], 0, nominated, &vec![0; 300 << 10]);
                assert!(memory.put(&digest(1), entry).is_some());
            }
            let kept = memory.get(&digest(1)).unwrap().variants().count();
            assert!((2..=3).contains(&kept), "{policy:?} {kept}");
        }
    }

    #[test]
    fn variants_that_are_stored_at_the_same_time_are_all_kept() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 16);
            for round in 0..50 {
                std::thread::scope(|scope| {
                    for n in 0..8 {
                        let memory = &memory;
                        scope.spawn(move || memory.put(&digest(round), variant(&n.to_string())));
                    }
                });
                assert_eq!(memory.get(&digest(round)).unwrap().variants().count(), 8);
            }
        }
    }

    #[test]
    fn removing_an_entry_spares_what_replaced_it_and_its_siblings() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 16);
            let (old, new, sibling) = (variant("a"), variant("a"), variant("b"));
            memory.put(&digest(1), Arc::clone(&old));
            memory.put(&digest(1), Arc::clone(&sibling));
            memory.put(&digest(1), Arc::clone(&new));
            let left = |entry| {
                memory
                    .remove_entry(&digest(1), entry)
                    .map(|slot| slot.variants().count())
            };
            assert_eq!(left(&old), Some(2));
            assert_eq!(left(&new), Some(1));
            assert_eq!(memory.get(&digest(1)).unwrap().variants().count(), 1);
            assert_eq!(left(&sibling), None);
            assert!(memory.get(&digest(1)).is_none());
        }
    }

    #[test]
    fn every_variant_of_every_key_is_visited() {
        for policy in POLICIES {
            let memory = memory(policy, 1 << 20, 1 << 16);
            memory.put(&digest(1), variant("a"));
            memory.put(&digest(1), variant("b"));
            memory.put(&digest(2), sized(2, 10));
            let mut seen = Vec::new();
            memory.for_each(|digest, entry| seen.push((*digest, entry.body_len())));
            seen.sort();
            let mut expected = vec![(digest(1), 4), (digest(1), 4), (digest(2), 10)];
            expected.sort();
            assert_eq!(seen, expected);
        }
    }
}
