//! The only source of time.
//!
//! Invariant: no other module reads a system clock, so that policy is a pure function of `now` and tests can
//! move time by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in microseconds since the Unix epoch.
///
/// The wall clock is read once, at start; afterwards time advances with the monotonic clock. A step of the
/// system clock therefore neither makes cached responses fresh again nor expires them all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A moment `secs` seconds after the Unix epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved forward by `by`; stops at the largest representable moment.
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// This moment moved back by `by`; stops at the epoch.
    pub fn minus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// The same moment as the standard library's wall-clock type, for formatting.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// The moment of `time`; the epoch for anything before it.
    pub fn from_system_time(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Tells the time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        wall_at_start: Timestamp,
        started: std::time::Instant,
    },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system clocks"
    )]
    pub fn system() -> Self {
        Self(Source::System {
            wall_at_start: Timestamp::from_system_time(SystemTime::now()),
            started: std::time::Instant::now(),
        })
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now.0))))
    }

    /// The current moment.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System {
                wall_at_start,
                started,
            } => wall_at_start.plus(started.elapsed()),
            Source::Manual(micros) => Timestamp(micros.load(Ordering::Acquire)),
        }
    }

    /// The moment as the runtime's timers have it. A manual clock's moments are all now.
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        match &self.0 {
            Source::System {
                wall_at_start,
                started,
            } => tokio::time::Instant::from_std(*started + at.since(*wall_at_start)),
            Source::Manual(_) => tokio::time::Instant::now(),
        }
    }

    /// Moves a manual clock forward; a system clock moves by itself and ignores the call.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(micros) = &self.0 {
            micros.fetch_add(
                u64::try_from(by.as_micros()).unwrap_or(u64::MAX),
                Ordering::AcqRel,
            );
        }
    }
}

/// The time of the last tick of somebody who ticks. Reading it costs one load; clones show the same tick.
#[derive(Clone, Debug)]
pub struct CoarseClock(Arc<AtomicU64>);

impl CoarseClock {
    /// Stands at the current time of `clock`.
    pub fn new(clock: &Clock) -> Self {
        Self(Arc::new(AtomicU64::new(clock.now().as_micros())))
    }

    /// The time of the last tick.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Ticks: moves to `now`, and gives the time passed.
    pub fn advance(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_micros(
            self.0.swap(now.as_micros(), Ordering::Relaxed),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_with_its_clones() {
        let clock = Clock::manual(Timestamp::from_secs(100));
        let other = clock.clone();
        clock.advance(Duration::from_secs(5));
        assert_eq!(other.now(), Timestamp::from_secs(105));
        assert_eq!(other.now().since(Timestamp::from_secs(200)), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first > Timestamp::from_secs(1_600_000_000));
    }
}
