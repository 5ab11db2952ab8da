//! Back-off: keys whose fetch failed while several requests waited for it. For a moment nobody asks the origin for such
//! a key again, and each further failure doubles that moment.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::digest::KeyDigest;
use super::digest_hash::DigestHash;
use super::flight::FlightError;
use super::reuse::Failure;
use crate::clock::{Clock, Timestamp};

/// Time without a fetch after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest time without a fetch: an origin that has recovered is found out so soon.
const LONGEST: Duration = Duration::from_secs(5);
/// A key that has not failed again for so long after its time begins anew.
const MEMORY: Duration = Duration::from_secs(10);
/// Keys remembered.
const KEYS: u64 = 65_536;

/// How a fetch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What those are told who would have asked again.
    pub error: FlightError,
    /// What allows a stale entry in its place; none for a refusal that is no failure of the origin.
    pub failure: Option<Failure>,
    /// Whether others than the one who fetched waited. A failure that concerned one request alone holds back only the
    /// refreshes that nobody waits for: the client's own pace is back-off enough.
    pub shared: bool,
}

/// The keys that failed, bounded in number.
#[derive(Debug)]
pub struct Failures {
    known: Cache<KeyDigest, Known, DigestHash>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    failed: Failed,
    until: Timestamp,
    /// Length of the time that ends at `until`.
    window: Duration,
}

impl Failures {
    /// No failures yet.
    pub fn new(clock: Clock) -> Self {
        let known = Cache::builder()
            .max_capacity(KEYS)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(DigestHash);
        Self { known, clock }
    }

    /// Remembers that the fetch for `key` failed.
    pub fn remember(&self, key: KeyDigest, failed: Failed) {
        let now = self.clock.now();
        let window = match self.known.get(&key) {
            Some(known) if now < known.until.plus(MEMORY) => known.window.saturating_mul(2).min(LONGEST),
            _ => FIRST,
        };
        let until = now.plus(window);
        self.known.insert(
            key,
            Known {
                failed,
                until,
                window,
            },
        );
    }

    /// Forgets `key`: a fetch went well.
    pub fn forget(&self, key: &KeyDigest) {
        self.known.invalidate(key);
    }

    /// How the last fetch for `key` failed, as long as nobody shall ask again.
    pub fn recall(&self, key: &KeyDigest) -> Option<Failed> {
        let known = self.known.get(key)?;
        (self.clock.now() < known.until).then_some(known.failed)
    }

    /// The same for a request that waits for its answer.
    pub fn recall_shared(&self, key: &KeyDigest) -> Option<Failed> {
        self.recall(key).filter(|failed| failed.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyDigest = KeyDigest([7; 32]);

    fn failed(shared: bool) -> Failed {
        Failed {
            error: FlightError {
                kind: "connect",
                status: 502,
            },
            failure: Some(Failure::Disconnected),
            shared,
        }
    }

    #[test]
    fn each_failure_doubles_the_time_up_to_a_bound() {
        let clock = Clock::manual(Timestamp::from_secs(100));
        let failures = Failures::new(clock.clone());
        assert_eq!(failures.recall(&KEY), None);
        for seconds in [1, 2, 4, 5, 5] {
            failures.remember(KEY, failed(true));
            clock.advance(Duration::from_secs(seconds) - Duration::from_millis(1));
            assert_eq!(failures.recall_shared(&KEY), Some(failed(true)), "{seconds}");
            clock.advance(Duration::from_millis(1));
            assert_eq!(failures.recall(&KEY), None, "{seconds}");
        }
        clock.advance(MEMORY);
        failures.remember(KEY, failed(true));
        clock.advance(FIRST);
        assert_eq!(failures.recall(&KEY), None, "it began anew");
    }

    #[test]
    fn what_went_well_is_forgotten() {
        let failures = Failures::new(Clock::manual(Timestamp::from_secs(100)));
        failures.remember(KEY, failed(true));
        failures.forget(&KEY);
        assert_eq!(failures.recall(&KEY), None);
    }

    #[test]
    fn a_failure_of_one_request_alone_holds_no_other_back() {
        let failures = Failures::new(Clock::manual(Timestamp::from_secs(100)));
        failures.remember(KEY, failed(false));
        assert_eq!(failures.recall(&KEY), Some(failed(false)));
        assert_eq!(failures.recall_shared(&KEY), None);
    }
}
