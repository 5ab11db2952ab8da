//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause, before jitter. Short, because an attempt is cheap and a server that is back should be used soon.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double from 50 ms to 1 s, each drawn from its upper half, so that clients do not come in waves.
#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
    random: RandomState,
}

impl Backoff {
    /// Begins with the shortest pause.
    pub(super) fn new() -> Self {
        Self {
            attempts: 0,
            random: RandomState::new(),
        }
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        jittered(pause, self.random.hash_one(self.attempts))
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
        self.random = RandomState::new();
    }
}

/// Between a half of `pause` and `pause`, as `random` decides.
fn jittered(pause: Duration, random: u64) -> Duration {
    let half = pause / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(random % micros.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_begin_anew() {
        let mut backoff = Backoff::new();
        let first = backoff.next();
        assert!(FIRST / 2 <= first && first <= FIRST, "{first:?}");
        for _ in 0..100 {
            backoff.next();
        }
        let late = backoff.next();
        assert!(LONGEST / 2 <= late && late <= LONGEST, "{late:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
