//! What alerts must remember: over a restart, if there is a state directory.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::machine::{Phase, Standing};
use crate::clock::Timestamp;
use crate::config::Severity;

/// Changes that are remembered; the oldest are forgotten first.
pub const MAX_HISTORY: usize = 500;
/// Silences that are kept, those that are over included.
pub const MAX_SILENCES: usize = 200;
/// Notices that wait for one receiver; more push out the oldest.
pub const MAX_WAITING: usize = 256;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// Alerts, by the rule's name.
    pub alerts: BTreeMap<String, Alert>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Changes, the oldest first.
    pub history: VecDeque<Change>,
    /// Notices that were not delivered yet, by receiver.
    pub waiting: BTreeMap<String, VecDeque<Notice>>,
    /// Number of the next notice.
    pub next: u64,
}

/// One alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The condition that it is about: with another one it begins anew.
    pub condition: String,
    /// Its state.
    pub standing: Standing,
    /// Who has been told that it fires, and not yet that it is over.
    pub told: Vec<String>,
    /// What was told.
    pub notice: Option<Notice>,
    /// Who has taken it over.
    pub acknowledged: Option<Acknowledgement>,
}

/// That somebody has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When, in seconds since the epoch.
    pub at: u64,
    /// What they say.
    pub comment: String,
}

/// A time in which some alerts are not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Silence {
    /// Identifier.
    pub id: String,
    /// Labels that an alert must have, such as `alertname`, `severity`, `route`.
    pub labels: BTreeMap<String, String>,
    /// Begin, in seconds since the epoch.
    pub starts_at: u64,
    /// End, in seconds since the epoch.
    pub ends_at: u64,
    /// Who.
    pub author: String,
    /// Why.
    pub comment: String,
}

impl Silence {
    /// Whether it holds back an alert with these labels now.
    pub fn holds_back(&self, labels: &BTreeMap<String, String>, now: Timestamp) -> bool {
        (self.starts_at..self.ends_at).contains(&now.as_secs())
            && self
                .labels
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// A change of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// The alert's identifier.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// How bad it is.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// What it became.
    pub state: Phase,
    /// When, in seconds since the epoch.
    pub at: u64,
    /// The value then.
    pub value: Option<f64>,
}

/// What a receiver is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number; a later one has a larger one.
    pub number: u64,
    /// The alert's identifier: the same when it fires and when it is resolved.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it fires or is resolved.
    pub state: Phase,
    /// When the condition began to hold, in microseconds since the epoch.
    pub started_at: u64,
    /// When it was resolved, in microseconds since the epoch.
    pub ended_at: Option<u64>,
    /// The value.
    pub value: Option<f64>,
    /// Names that tell alerts apart.
    pub labels: BTreeMap<String, String>,
    /// What to tell people.
    pub summary: String,
}

impl Book {
    /// Remembers a change.
    pub fn remember(&mut self, change: Change) {
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(change);
    }

    /// Puts a notice into the queue of `receiver`. Returns whether another one was pushed out for it.
    pub fn queue(&mut self, receiver: &str, notice: Notice) -> bool {
        let waiting = self.waiting.entry(receiver.to_owned()).or_default();
        let is_full = waiting.len() >= MAX_WAITING;
        if is_full {
            waiting.pop_front();
        }
        waiting.push_back(notice);
        is_full
    }
}

/// The identifier of what a rule tells from a moment on: 16 hex digits.
pub fn id(rule: &str, started: u64) -> String {
    let digest = blake3::hash(format!("{started} {rule}").as_bytes());
    digest.to_hex().chars().take(16).collect()
}
