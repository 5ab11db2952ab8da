//! Whether an endpoint is healthy: what its checks said, and how many of them in a row it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::config::ActiveCheck;

/// The health of one endpoint. It begins as healthy, and the first check decides at once, because nothing but that
/// guess speaks against it. Reading it is one relaxed load.
#[derive(Debug)]
pub(super) struct Health {
    healthy: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the checks have seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Bad checks in a row.
    pub(super) failures: usize,
    /// Why the last bad check was bad.
    pub(super) last_error: Option<Arc<str>>,
    successes: usize,
    checked: bool,
}

/// A check that changed the health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Enough good checks in a row.
    BecameHealthy,
    /// Enough bad checks in a row, the last one for this reason.
    BecameUnhealthy(Arc<str>),
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            healthy: AtomicBool::new(true),
            seen: Mutex::default(),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Takes over the outcome of one check (the error is the reason in words), by the thresholds of `check`.
    pub(super) fn record(&self, outcome: Result<(), Arc<str>>, check: &ActiveCheck) -> Option<Change> {
        let mut seen = self.seen.lock();
        let first = !std::mem::replace(&mut seen.checked, true);
        match outcome {
            Ok(()) => {
                seen.failures = 0;
                seen.successes = seen.successes.saturating_add(1);
                let enough = first || seen.successes >= check.healthy_after;
                let changes = enough && !self.healthy.swap(true, Ordering::Relaxed);
                changes.then_some(Change::BecameHealthy)
            }
            Err(reason) => {
                seen.successes = 0;
                seen.failures = seen.failures.saturating_add(1);
                seen.last_error = Some(Arc::clone(&reason));
                let enough = first || seen.failures >= check.unhealthy_after;
                let changes = enough && self.healthy.swap(false, Ordering::Relaxed);
                changes.then_some(Change::BecameUnhealthy(reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Probe;

    /// Two good checks make healthy, three bad ones unhealthy.
    fn check() -> ActiveCheck {
        ActiveCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }

    fn good(health: &Health) -> Option<Change> {
        health.record(Ok(()), &check())
    }

    fn bad(health: &Health, reason: &str) -> Option<Change> {
        health.record(Err(reason.into()), &check())
    }

    fn unhealthy(reason: &str) -> Option<Change> {
        Some(Change::BecameUnhealthy(reason.into()))
    }

    #[test]
    fn the_first_check_decides_at_once() {
        let health = Health::new();
        assert!(health.is_healthy());
        assert_eq!(bad(&health, "refused"), unhealthy("refused"));
        assert!(!health.is_healthy());
        let health = Health::new();
        assert_eq!((good(&health), bad(&health, "refused")), (None, None));
        assert!(health.is_healthy());
    }

    #[test]
    fn thresholds_count_checks_in_a_row_and_each_change_is_told_once() {
        let health = Health::new();
        good(&health);
        assert_eq!((bad(&health, "1"), bad(&health, "2")), (None, None));
        assert_eq!((good(&health), health.seen().failures), (None, 0));
        assert_eq!((bad(&health, "3"), bad(&health, "4")), (None, None));
        assert_eq!(bad(&health, "5"), unhealthy("5"));
        assert_eq!(bad(&health, "6"), None);
        assert_eq!(health.seen().failures, 4);
        assert_eq!(
            (good(&health), bad(&health, "7"), good(&health)),
            (None, None, None)
        );
        assert!(!health.is_healthy());
        assert_eq!(good(&health), Some(Change::BecameHealthy));
        assert_eq!(good(&health), None);
        assert!(health.is_healthy());
        assert_eq!(health.seen().last_error.as_deref(), Some("7"));
    }
}
