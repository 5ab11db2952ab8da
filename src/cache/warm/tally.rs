//! What became of the requests of a warm-up, counted.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Outcome;

/// Counts outcomes; reasons are names from closed lists, so that there are few.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// The counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fetched or validated, and stored.
    pub fetched: u64,
    /// There already.
    pub fresh: u64,
    /// Not stored.
    pub skipped: u64,
    /// Not to be had.
    pub failed: u64,
    /// Why, of those skipped and failed.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one.
    pub fn add(&self, outcome: Outcome) {
        let mut counts = self.0.lock();
        let reason = match outcome {
            Outcome::Fetched => {
                counts.fetched += 1;
                return;
            }
            Outcome::Fresh => {
                counts.fresh += 1;
                return;
            }
            Outcome::Skipped(reason) => {
                counts.skipped += 1;
                reason
            }
            Outcome::Failed(reason) => {
                counts.failed += 1;
                reason
            }
        };
        *counts.reasons.entry(reason).or_default() += 1;
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

impl Counts {
    /// Requests that are through.
    pub fn all(&self) -> u64 {
        self.fetched + self.fresh + self.skipped + self.failed
    }
}
