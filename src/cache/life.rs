//! How long a stored response may be used.

use std::time::Duration;

use crate::clock::Timestamp;

/// The life of a stored response, computed once when it arrived (RFC 9111, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When the response was made, as far as `Date`, `Age` and the time of the exchange tell: the moment of
    /// reception minus the corrected initial age.
    pub generated_at: Timestamp,
    /// Freshness lifetime, counted from `generated_at`.
    pub fresh_for: Duration,
    /// Time after the end of freshness in which it is served while it is being validated (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// Time after the end of freshness in which it is served when the origin fails (RFC 5861).
    pub stale_if_error: Duration,
    /// Time after the end of freshness in which it is served when no answer comes from the origin at all (RFC 9111,
    /// section 4.2.4).
    pub stale_if_disconnected: Duration,
    /// Never served stale, not even when the origin fails.
    pub must_revalidate: bool,
    /// Validated before every use (`no-cache`).
    pub always_validate: bool,
    /// The time to live that an adaptive route gave it, from which the next one follows; none elsewhere.
    pub adapted: Option<Duration>,
}

impl Life {
    /// Fresh for so long from `made` on, and of no use after that.
    #[cfg(test)]
    pub(crate) fn fresh(made: Timestamp, fresh_for: Duration) -> Self {
        Self {
            generated_at: made,
            fresh_for,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_disconnected: Duration::ZERO,
            must_revalidate: false,
            always_validate: false,
            adapted: None,
        }
    }

    /// The life of a response made at `generated_at` that answers who waits for it, and nobody after.
    pub fn over(generated_at: Timestamp) -> Self {
        Self {
            generated_at,
            fresh_for: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_disconnected: Duration::ZERO,
            must_revalidate: true,
            always_validate: true,
            adapted: None,
        }
    }

    /// Current age (RFC 9111, section 4.2.3).
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.generated_at)
    }

    /// The end of freshness.
    pub fn fresh_until(&self) -> Timestamp {
        self.generated_at.plus(self.fresh_for)
    }

    /// Whole seconds of freshness left; negative when stale.
    pub fn ttl_seconds(&self, now: Timestamp) -> i64 {
        let until = i64::try_from(self.fresh_until().as_secs()).unwrap_or(i64::MAX);
        until.saturating_sub(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }
}
