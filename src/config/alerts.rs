//! Alert rules, objectives and receivers, resolved.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expression::{Clear, Expression, Quantile};
use super::model::{ClientTls, Name};
use super::secret::Secret;

/// What is watched, and who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// Who is told.
    pub receivers: Vec<Arc<Receiver>>,
    /// Rules of the file.
    pub rules: Vec<AlertRule>,
    /// Objectives.
    pub objectives: Vec<Objective>,
    /// Whether the built-in rules are in force.
    pub builtin: bool,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            receivers: Vec::new(),
            rules: Vec::new(),
            objectives: Vec::new(),
            builtin: true,
        }
    }
}

/// How bad something is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look in working hours.
    #[default]
    Warning,
    /// Somebody should act today.
    Error,
    /// Somebody should act now.
    Critical,
}

impl Severity {
    /// All, the least first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Name.
    pub name: Name,
    /// How bad it is.
    pub severity: Severity,
    /// When it holds.
    pub expr: Expression,
    /// How long it must hold.
    pub hold: Duration,
    /// When it is over; none: when it no longer holds.
    pub clear: Option<Clear>,
    /// How long it must be over.
    pub keep_firing_for: Duration,
    /// Who is told; none: all receivers.
    pub receivers: Option<Vec<Name>>,
    /// What to tell people; none: the expression.
    pub summary: Option<String>,
}

/// What is promised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Name.
    pub name: Name,
    /// Route; none: all traffic.
    pub route: Option<Name>,
    /// Share of good answers, between 0 and 1.
    pub availability: Option<f64>,
    /// Bounds of latency quantiles.
    pub latency: Vec<(Quantile, Duration)>,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Name.
    pub name: Name,
    /// In which form.
    pub form: Form,
    /// Where.
    pub url: ReceiverUrl,
    /// TLS; none over `http://`.
    pub tls: Option<ClientTls>,
    /// Whether `http://` was allowed.
    pub insecure: bool,
}

/// The form of what is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// JSON, signed with a key.
    Webhook(Option<Signing>),
    /// Alertmanager, API v2.
    Alertmanager,
    /// Slack.
    Slack,
}

/// The key of a signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Signing {
    /// The key.
    pub key: Secret<Vec<u8>>,
    /// Where it was read.
    pub file: PathBuf,
}

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverUrl {
    /// The URL.
    pub url: Secret<Uri>,
    /// Where it was read, if it is a secret.
    pub file: Option<PathBuf>,
}
