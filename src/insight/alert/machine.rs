//! The states of one alert: a pure function of the state before, the moment, and what the rule says.
//!
//! ```text
//! inactive --holds--> pending --holds for `for`--> firing --over for `keep_firing_for`--> resolved --> inactive
//!                        |                           ^ |                                     |
//!                        +--fails--> inactive        +-+ over for less                       +--holds--> pending
//! ```
//!
//! A rule that says nothing is unhealthy and stays in its state: silence is no recovery.
//!
//! Invariant: time counts only between evaluations that said something, and of each gap at most two intervals. So a
//! clock that jumps, a machine that slept or a process that was down does not make anything fire or resolve.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evaluate::Unhealthy;
use crate::clock::Timestamp;
use crate::config::expression::Clear;

/// Between evaluations.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// How long a resolved alert is shown as such.
const SHOWN: Duration = Duration::from_secs(15 * 60);

/// Where an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is wrong.
    #[default]
    Inactive,
    /// The condition holds, not yet for long enough.
    Pending,
    /// It has held for long enough.
    Firing,
    /// It fired until recently.
    Resolved,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Pending, Self::Firing, Self::Resolved];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// When a rule fires and when it is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How long the condition must hold.
    pub hold: Duration,
    /// When it is over; none: when the condition no longer holds.
    pub clear: Option<Clear>,
    /// How long it must be over.
    pub keep_firing_for: Duration,
}

/// What a rule said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    /// Whether it holds, and the value.
    Judged {
        /// Whether it holds.
        holds: bool,
        /// The value.
        value: f64,
    },
    /// Nothing.
    Nothing(Unhealthy),
}

/// The state of one alert. Times in microseconds since the epoch when stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Where it is.
    pub phase: Phase,
    /// When it came there.
    pub since: u64,
    /// When the condition began to hold, of an alert that is not inactive.
    pub started: u64,
    /// The last value.
    pub value: Option<f64>,
    /// Why the rule says nothing.
    pub unhealthy: Option<Unhealthy>,
    /// Time that counts for the next phase.
    counted: Duration,
    /// Whether a firing alert is over, so that `counted` counts.
    over: bool,
    /// The last evaluation.
    at: Option<u64>,
}

impl Standing {
    /// The state after `said` at `now`. That the phase has changed is seen by comparing.
    pub fn after(mut self, policy: &Policy, now: Timestamp, said: Said) -> Self {
        let gap = self
            .at
            .map_or(Duration::ZERO, |at| now.since(Timestamp::from_micros(at)))
            .min(2 * INTERVAL);
        self.at = Some(now.as_micros());
        let (holds, value) = match said {
            Said::Nothing(unhealthy) => {
                self.unhealthy = Some(unhealthy);
                return self;
            }
            // What passed while the rule said nothing does not count.
            Said::Judged { holds, value } => (holds, value),
        };
        let gap = if self.unhealthy.take().is_some() {
            Duration::ZERO
        } else {
            gap
        };
        self.value = Some(value);
        match self.phase {
            Phase::Inactive | Phase::Resolved if holds => {
                self.started = now.as_micros();
                self.enter(
                    if policy.hold.is_zero() {
                        Phase::Firing
                    } else {
                        Phase::Pending
                    },
                    now,
                );
            }
            Phase::Inactive => {}
            Phase::Resolved => {
                self.counted += gap;
                if self.counted >= SHOWN {
                    self.enter(Phase::Inactive, now);
                }
            }
            Phase::Pending if holds => {
                self.counted += gap;
                if self.counted >= policy.hold {
                    self.enter(Phase::Firing, now);
                }
            }
            Phase::Pending => self.enter(Phase::Inactive, now),
            Phase::Firing => {
                let over = match policy.clear {
                    Some(Clear(comparison, bound)) => comparison.holds(value, bound),
                    None => !holds,
                };
                self.counted = if over && self.over {
                    self.counted + gap
                } else {
                    Duration::ZERO
                };
                self.over = over;
                if over && self.counted >= policy.keep_firing_for {
                    self.enter(Phase::Resolved, now);
                }
            }
        }
        self
    }

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.since = now.as_micros();
        self.counted = Duration::ZERO;
        self.over = false;
    }
}
