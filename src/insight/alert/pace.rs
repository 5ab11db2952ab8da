//! How long to wait before a receiver is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Pauses that double from half a second to five minutes, each drawn from its upper half, so that many sidecars do not
/// come in waves.
#[derive(Debug, Default)]
pub(super) struct Pace {
    attempts: u32,
    random: RandomState,
}

impl Pace {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let half = pause / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.random.hash_one(self.attempts) % micros.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let mut pace = Pace::default();
        for times in [1, 2, 4, 8] {
            let pause = pace.next();
            assert!(
                FIRST * times / 2 <= pause && pause <= FIRST * times,
                "{times}: {pause:?}"
            );
        }
        for _ in 0..100 {
            let pause = pace.next();
            assert!(pause <= LONGEST);
        }
        assert!(pace.next() >= LONGEST / 2);
    }
}
