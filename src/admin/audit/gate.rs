//! How many refused attempts are recorded, so that strangers cannot fill the log.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Attempts that are recorded at once.
const BURST: u64 = 20;
/// Time after which one more is.
const REFILL: Duration = Duration::from_secs(10);

/// Lets some through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    used: u64,
    /// Since when one fewer could be used.
    since: Timestamp,
    suppressed: u64,
}

impl Gate {
    /// Whether this one is recorded: then with the number of those since the last that were not.
    pub(super) fn pass(&self, now: Timestamp) -> Option<u64> {
        let mut passed = self.0.lock();
        let refilled = now.since(passed.since).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            passed.used = passed.used.saturating_sub(refilled);
            passed.since = now;
        }
        if passed.used >= BURST {
            passed.suppressed += 1;
            return None;
        }
        passed.used += 1;
        Some(std::mem::take(&mut passed.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_pass_at_once_and_one_every_ten_seconds_which_tells_of_the_others() {
        let (gate, now) = (Gate::default(), Timestamp::from_secs(1_000));
        let passed = (0..1_000).filter(|_| gate.pass(now).is_some()).count();
        assert_eq!(passed, 20);
        assert_eq!(gate.pass(now.plus(Duration::from_secs(9))), None);
        let later = now.plus(Duration::from_secs(10));
        assert_eq!(gate.pass(later), Some(981));
        assert_eq!(gate.pass(later), None);
    }
}
