//! What the sweeper judges a connection by.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::sweep::Overdue;
use crate::clock::Timestamp;
use crate::config::ListenerLimits;

/// The meters of one connection. Moments are microseconds of the coarse clock, 0 for none.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Since when a head is awaited: the start of the connection, or the first byte of a later head.
    pub(super) head_since: AtomicU64,
    /// The last byte in either direction.
    pub(super) active_at: AtomicU64,
    /// Since when the socket takes no bytes.
    pub(super) blocked_since: AtomicU64,
    /// Request bodies under watch.
    pub(super) bodies: AtomicUsize,
    /// Those whose reader waits for the client.
    pub(super) bodies_awaited: AtomicUsize,
    /// Bytes received since there are bodies under watch.
    pub(super) body_received: AtomicU64,
    /// Microseconds spent waiting for them.
    pub(super) body_waited: AtomicU64,
    /// Requests for which it is our turn: the handler is at work, or its body has nothing to send yet.
    pub(super) working: AtomicUsize,
}

impl Progress {
    /// What the connection has to be ended for at `now`, `elapsed` after the last look.
    pub(super) fn overdue(
        &self,
        limits: &ListenerLimits,
        now: Timestamp,
        elapsed: Duration,
    ) -> Option<Overdue> {
        let since = |moment: &AtomicU64| match moment.load(Relaxed) {
            0 => None,
            moment => Some(now.since(Timestamp::from_micros(moment))),
        };
        let quiet = since(&self.active_at).unwrap_or_default();
        let working = self.working.load(Relaxed) > 0;
        if since(&self.blocked_since).is_some_and(|blocked| blocked >= limits.idle_timeout) {
            return Some(Overdue::SlowReader);
        }
        if self.bodies_awaited.load(Relaxed) > 0 {
            let waited = self.body_waited.fetch_add(micros(elapsed), Relaxed) + micros(elapsed);
            if self.body_too_slow(limits.body_min_rate, waited) || quiet >= limits.idle_timeout {
                return Some(Overdue::SlowBody);
            }
        }
        match since(&self.head_since) {
            // The client cannot be late with a request while it waits for the answer to the one before.
            _ if working => None,
            Some(waited) if waited >= limits.header_timeout => Some(Overdue::SlowHead),
            Some(_) => None,
            None if quiet >= limits.idle_timeout => Some(Overdue::Idle),
            None => None,
        }
    }

    fn body_too_slow(&self, rate: u64, waited: u64) -> bool {
        /// Time in which a body need not keep up its rate, microseconds.
        const GRACE: u64 = 5_000_000;
        let due = u128::from(rate) * u128::from(waited) / 1_000_000;
        waited >= GRACE && u128::from(self.body_received.load(Relaxed)) < due
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
