//! Which keys are used most, in a fixed number of counters.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005): a key without a counter takes over the least one, count included.
//! After `n` uses with `m` counters no count is too low, none is too high by more than `n / m`, and every key that was
//! used more often than that has a counter.

use std::collections::HashMap;

use crate::cache::digest::KeyDigest;
use crate::cache::digest_hash::DigestHash;

/// The counters, each with a value that goes with its key.
#[derive(Debug)]
pub struct SpaceSaving<T> {
    slots: Vec<Slot<T>>,
    /// Indexes of slots, a binary heap by count with the least on top.
    heap: Vec<usize>,
    index: HashMap<KeyDigest, usize, DigestHash>,
    capacity: usize,
}

#[derive(Debug)]
struct Slot<T> {
    key: KeyDigest,
    count: u64,
    /// The count that was taken over.
    error: u64,
    /// Where it is in the heap.
    place: usize,
    value: T,
}

/// One counter.
#[derive(Debug, PartialEq, Eq)]
pub struct Counted<'a, T> {
    /// Its key.
    pub key: &'a KeyDigest,
    /// Uses, never too few.
    pub count: u64,
    /// By how many it may be too high.
    pub error: u64,
    /// The value.
    pub value: &'a T,
}

impl<T> SpaceSaving<T> {
    /// `capacity` counters, at least one; memory is taken as they are used.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            heap: Vec::new(),
            index: HashMap::default(),
            capacity: capacity.max(1),
        }
    }

    /// Counts `uses` uses of `key`; `value` is asked for if the key has no counter yet. Gives the counter's value.
    pub fn count(&mut self, key: &KeyDigest, uses: u64, value: impl FnOnce() -> T) -> Option<&mut T> {
        let slot = match self.index.get(key) {
            Some(slot) => *slot,
            None if self.slots.len() < self.capacity => self.add(*key, value()),
            None => self.take_over(*key, value())?,
        };
        let counter = self.slots.get_mut(slot)?;
        counter.count = counter.count.saturating_add(uses);
        let place = counter.place;
        self.sift_down(place);
        self.slots.get_mut(slot).map(|slot| &mut slot.value)
    }

    /// The value of the counter that `key` has.
    pub fn get_mut(&mut self, key: &KeyDigest) -> Option<&mut T> {
        let slot = *self.index.get(key)?;
        self.slots.get_mut(slot).map(|slot| &mut slot.value)
    }

    /// Halves every count, so that what was used long ago counts less.
    pub fn grow_old(&mut self) {
        for slot in &mut self.slots {
            // Halving keeps the order, so the heap stays one.
            slot.count = slot.count.div_ceil(2);
            slot.error = slot.error.div_ceil(2);
        }
    }

    /// Every counter, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Counted<'_, T>> {
        self.slots.iter().map(|slot| Counted {
            key: &slot.key,
            count: slot.count,
            error: slot.error,
            value: &slot.value,
        })
    }

    fn add(&mut self, key: KeyDigest, value: T) -> usize {
        let slot = self.slots.len();
        self.slots.push(Slot {
            key,
            count: 0,
            error: 0,
            place: self.heap.len(),
            value,
        });
        self.heap.push(slot);
        self.index.insert(key, slot);
        // Its count is the least there is.
        self.sift_up(slot);
        slot
    }

    fn take_over(&mut self, key: KeyDigest, value: T) -> Option<usize> {
        let slot = *self.heap.first()?;
        let least = self.slots.get_mut(slot)?;
        self.index.remove(&least.key);
        least.key = key;
        least.error = least.count;
        least.value = value;
        self.index.insert(key, slot);
        Some(slot)
    }

    fn count_at(&self, place: usize) -> Option<u64> {
        let slot = *self.heap.get(place)?;
        self.slots.get(slot).map(|slot| slot.count)
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            if let Some(slot) = self.heap.get(place).and_then(|slot| self.slots.get_mut(*slot)) {
                slot.place = place;
            }
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.count_at(place) >= self.count_at(parent) {
                return;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let counted = children
                .into_iter()
                .filter_map(|child| Some((self.count_at(child)?, child)));
            match counted.min() {
                Some((count, child)) if Some(count) < self.count_at(place) => {
                    self.swap(place, child);
                    place = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u16) -> KeyDigest {
        KeyDigest(*blake3::hash(&number.to_be_bytes()).as_bytes())
    }

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_too_high_by_a_bound(
            uses in prop::collection::vec((0_u16..300, 1_u64..4), 1..2_000),
            capacity in 1_usize..64,
        ) {
            let mut sketch = SpaceSaving::new(capacity);
            let mut truth = BTreeMap::new();
            let mut all = 0;
            for (number, times) in &uses {
                sketch.count(&key(*number), *times, || *number);
                *truth.entry(*number).or_insert(0) += times;
                all += times;
            }
            let bound = all / capacity as u64;
            prop_assert!(sketch.slots.len() <= capacity);
            for counted in sketch.iter() {
                let real = truth[counted.value];
                prop_assert_eq!(*counted.key, key(*counted.value));
                prop_assert!(real <= counted.count && counted.count - counted.error <= real);
                prop_assert!(counted.error <= bound, "{} > {all} / {capacity}", counted.error);
            }
            for (number, real) in truth {
                let kept = sketch.iter().any(|counted| *counted.value == number);
                prop_assert!(kept || real <= bound, "{number} was used {real} times of {all}");
            }
        }
    }

    #[test]
    fn what_was_used_long_ago_counts_less() {
        let mut sketch = SpaceSaving::new(2);
        sketch.count(&key(1), 9, || 1);
        sketch.count(&key(2), 4, || 2);
        sketch.grow_old();
        sketch.count(&key(2), 4, || 2);
        sketch.count(&key(3), 1, || 3);
        let mut kept: Vec<_> = sketch
            .iter()
            .map(|counted| (*counted.value, counted.count))
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, [(2, 6), (3, 6)]);
    }
}
