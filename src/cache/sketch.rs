//! How often keys were used lately, in a fixed number of bytes.
//!
//! A count-min sketch (Cormode, Muthukrishnan 2005) with conservative update (Estan, Varghese 2002), whose counts are
//! halved again and again, as in TinyLFU (Einziger, Friedman, Manes 2017). The caches in use have sketches of their own
//! and do not lend them.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};

use super::digest::KeyDigest;

/// Counters of a key; the least of them is nearest to the truth.
const ROWS: usize = 4;
/// Counters of one row in a block.
const COLUMNS: usize = 16;
/// All counters of a key lie in one block: two cache lines, which grow old together.
const BLOCK: usize = ROWS * COLUMNS;
/// 512 KiB of counters. If all of the last 65,536 uses were of different keys, a new key seems used before with a
/// probability of about one in forty half way, and of one in six right before its block is halved.
const BLOCKS: usize = 4096;
/// Uses after which another block is halved: all of them are, in turn, within 65,536 uses.
const USES_PER_BLOCK: usize = 16;

/// Counts uses of keys, never too few of those that were not halved, sometimes too many. Without locks: racing uses
/// may count as one.
#[derive(Debug)]
pub(super) struct UseSketch {
    counters: Box<[AtomicU16]>,
    uses: AtomicUsize,
}

impl UseSketch {
    /// Nothing was used yet.
    pub(super) fn new() -> Self {
        Self {
            counters: (0..BLOCKS * BLOCK).map(|_| AtomicU16::new(0)).collect(),
            uses: AtomicUsize::new(0),
        }
    }

    /// Counts one use of `key`; how many there were lately, with this one.
    pub(super) fn count(&self, key: &KeyDigest) -> u16 {
        self.grow_old();
        let counters = self.counters_of(key);
        let least = counters.clone().map(|counter| counter.load(Relaxed)).min();
        let count = least.unwrap_or(0).saturating_add(1);
        // Only what is too low moves: a counter that is higher counts other keys already.
        for counter in counters {
            counter.fetch_max(count, Relaxed);
        }
        count
    }

    fn counters_of(&self, key: &KeyDigest) -> impl Iterator<Item = &AtomicU16> + Clone {
        let [high, low, columns @ ..] = key.0;
        let block = usize::from(u16::from_be_bytes([high, low])) % BLOCKS * BLOCK;
        let columns = columns.into_iter().take(ROWS).enumerate();
        columns.filter_map(move |(row, column)| {
            self.counters
                .get(block + row * COLUMNS + usize::from(column) % COLUMNS)
        })
    }

    /// Halves one block now and then, so that no request pays for all of them.
    fn grow_old(&self) {
        let uses = self.uses.fetch_add(1, Relaxed);
        if !uses.is_multiple_of(USES_PER_BLOCK) {
            return;
        }
        let block = uses / USES_PER_BLOCK % BLOCKS;
        for counter in self.counters.iter().skip(block * BLOCK).take(BLOCK) {
            counter.store(counter.load(Relaxed) / 2, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> KeyDigest {
        KeyDigest(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn each_use_of_a_key_counts() {
        let sketch = UseSketch::new();
        for expected in 1..=1000 {
            assert_eq!(sketch.count(&key(1)), expected);
        }
        assert_eq!(sketch.count(&key(2)), 1);
        assert_eq!(sketch.count(&key(1)), 1001);
    }

    #[test]
    fn a_count_ends_at_its_greatest() {
        let sketch = UseSketch::new();
        for counter in &sketch.counters {
            counter.store(u16::MAX, Relaxed);
        }
        // The first use halves the first block; any other key is at the end.
        sketch.count(&key(0));
        let full = (1..).map(key).find(|key| key.0[1] != 0).unwrap();
        assert_eq!(sketch.count(&full), u16::MAX);
    }

    #[test]
    fn uses_of_long_ago_are_forgotten() {
        let sketch = UseSketch::new();
        for _ in 0..8 {
            sketch.count(&key(0));
        }
        let within = sketch
            .counters_of(&key(0))
            .map(|counter| counter.load(Relaxed))
            .min();
        assert_eq!(within, Some(8));
        sketch.uses.store(1, Relaxed);
        // Once around: every block was halved once. All of these are uses of one other key.
        for _ in 0..BLOCKS * USES_PER_BLOCK {
            sketch.count(&key(1));
        }
        assert_eq!(sketch.count(&key(0)), 5);
    }

    #[test]
    fn new_keys_seldom_seem_used_before_however_many_there_are() {
        let sketch = UseSketch::new();
        let used_before = |keys: std::ops::Range<usize>| {
            let total = keys.len();
            let wrong = keys.filter(|n| sketch.count(&key(*n)) > 1).count();
            wrong as f64 / total as f64
        };
        assert!(used_before(0..1000) < 0.001);
        used_before(1000..300_000);
        let share = used_before(300_000..400_000);
        assert!(share < 0.08, "{share}");
        assert_eq!(
            sketch.counters.len() * 2,
            512 << 10,
            "bytes, whatever was counted"
        );
    }
}
