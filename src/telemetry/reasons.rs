//! Counters keyed by a small closed set of names known at compile time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names beyond this many share the name `other`; the largest enum of reasons is well below it.
const SLOTS: usize = 32;

/// One counter per name, without locks and without hashing: the first use of a name takes the next free slot for
/// ever, later uses find it by a short scan.
#[derive(Debug, Default)]
pub struct ReasonCounters {
    slots: [OnceLock<(&'static str, AtomicU64)>; SLOTS],
    other: AtomicU64,
}

impl ReasonCounters {
    /// Counts one under `reason`.
    pub fn increment(&self, reason: &'static str) {
        for slot in &self.slots {
            let (name, count) = slot.get_or_init(|| (reason, AtomicU64::new(0)));
            if *name == reason {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// Every name used so far with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let named = self
            .slots
            .iter()
            .map_while(OnceLock::get)
            .map(|(name, count)| (*name, count.load(Ordering::Relaxed)));
        let other = self.other.load(Ordering::Relaxed);
        named.chain((other > 0).then_some(("other", other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_counter_and_the_overflow_is_shared() {
        const NAMES: [&str; 34] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
            "t", "u", "v", "w", "x", "y", "z", "0", "1", "2", "3", "4", "5", "6", "7",
        ];
        let counters = ReasonCounters::default();
        for name in NAMES {
            counters.increment(name);
        }
        counters.increment("a");
        let counts: Vec<_> = counters.iter().collect();
        assert_eq!(counts.len(), SLOTS + 1);
        assert_eq!(counts[0], ("a", 2));
        assert_eq!(counts[SLOTS], ("other", 2));
    }

    #[test]
    fn racing_first_uses_share_one_slot() {
        let counters = ReasonCounters::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| counters.increment("uri-miss")));
            }
        });
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("uri-miss", 4000)]);
    }
}
