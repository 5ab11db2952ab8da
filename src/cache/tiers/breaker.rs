//! The breaker before a level: after failures in a row nobody asks it until it has answered a probe.
//!
//! An open breaker costs one load and waits for nothing. Probes are sent by the level's watchman, so that no request
//! has to be the one that finds out.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Failures in a row that open it.
pub(super) const FAILURES: u32 = 5;

/// Shortest rest between two probes of an open breaker.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// Longest.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Counts failures in a row. It begins open: a level is used once it has answered for the first time.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    failures: AtomicU32,
    opened: Notify,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            open: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            opened: Notify::new(),
        }
    }

    /// Whether the level may be asked.
    pub(super) fn allows(&self) -> bool {
        !self.open.load(Ordering::Acquire)
    }

    /// A call ended well.
    pub(super) fn succeeded(&self) {
        // Nearly always zero already: a store would take the line from the other threads.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A call failed; true if that opened it.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Ordering::AcqRel) + 1 >= FAILURES && self.open()
    }

    /// Opens it at once; true if it was closed.
    pub(super) fn open(&self) -> bool {
        let opened = !self.open.swap(true, Ordering::AcqRel);
        if opened {
            self.opened.notify_one();
        }
        opened
    }

    /// A probe was answered: closes it; true if it was open.
    pub(super) fn close(&self) -> bool {
        self.failures.store(0, Ordering::Relaxed);
        self.open.swap(false, Ordering::AcqRel)
    }

    /// Waits until it is opened; resolves at once if that has happened since the last wait.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }
}

/// How long a level rests before the next probe. `random` is above 0 and at most 1, evenly spread, so that replicas do
/// not return to a level that has just recovered all at once.
pub(super) fn rest(random: f64) -> Duration {
    SHORTEST_REST + (LONGEST_REST - SHORTEST_REST).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_only_a_probe_closes_it() {
        let breaker = Breaker::new();
        assert!(!breaker.allows() && breaker.close() && breaker.allows());
        for _ in 0..3 {
            (1..FAILURES).for_each(|_| assert!(!breaker.failed()));
            breaker.succeeded();
        }
        (1..FAILURES).for_each(|_| assert!(!breaker.failed()));
        assert!(breaker.allows() && breaker.failed() && !breaker.allows());
        assert!(!breaker.failed(), "it tells of the change once");
        // A call that began before.
        breaker.succeeded();
        assert!(!breaker.allows());
        assert!(breaker.close() && !breaker.close() && breaker.allows());
    }

    #[tokio::test]
    async fn whoever_waits_learns_of_the_opening() {
        let breaker = Breaker::new();
        breaker.close();
        breaker.open();
        breaker.opened().await;
    }

    #[test]
    fn rests_are_spread_over_one_to_five_seconds() {
        assert_eq!(rest(0.0), SHORTEST_REST);
        assert_eq!(rest(0.5), Duration::from_secs(3));
        assert_eq!(rest(1.0), LONGEST_REST);
        assert_eq!(rest(f64::NAN.clamp(0.0, 1.0).max(0.0)), SHORTEST_REST);
    }
}
