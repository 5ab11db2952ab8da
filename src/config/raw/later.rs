//! Shapes that a later version brings to life; today each is refused where it is used.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Later, Map, Refusal, Scalar, Text, Whole};
use crate::config::units::{Positive, Share};
use crate::config::values::{NameText, Plain, UrlText};

/// A second request when the first is slow.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// A quantile of the latency, or a duration.
    pub after: Option<Text<Plain>>,
    /// Hedges as a share of requests.
    pub max: Option<Text<Share>>,
}

/// Ejection of endpoints by what traffic shows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row.
    pub consecutive_failures: Option<Whole<1, 1000>>,
    /// Time of the first ejection; it doubles.
    pub base_ejection: Option<Text<Positive<Duration>>>,
    /// Endpoints that may be ejected at once.
    pub max_ejected: Option<Text<Share>>,
}

/// A limit of requests in flight.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyQueue {
    /// `off`, a number, or `adaptive`; only `off` for now.
    pub limit: Option<Text<ConcurrencyLimit>>,
    /// Not available yet: where `adaptive` begins.
    pub initial: Option<Whole<1, 100_000>>,
    /// Not available yet: the most that `adaptive` allows.
    pub max: Option<Whole<1, 100_000>>,
    /// Not available yet: who waits, and how long.
    pub queue: Option<Queue>,
}

/// A limit of requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// None.
    Off,
    /// By latency.
    Adaptive,
    /// Fixed.
    Fixed(u32),
}

impl Scalar for ConcurrencyLimit {
    const NAME: &'static str = "limit";
    const EXAMPLE: &'static str = "off";
    const TYPES: &'static [&'static str] = &["string", "integer", "boolean"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        match (text, text.parse()) {
            ("off", _) => Ok(Self::Off),
            ("adaptive", _) => Ok(Self::Adaptive),
            (_, Ok(number)) if number > 0 => Ok(Self::Fixed(number)),
            _ => Err(Refusal::new(format!("`{text}` is not a limit")).hint("`off`, `adaptive` or a number")),
        }
    }
}

/// Who waits for a slot.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Requests.
    pub length: Option<Whole<0, 1_000_000>>,
    /// Time.
    pub max_wait: Option<Text<Duration>>,
}

/// Alert rules and who is told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Who is told.
    pub receivers: Option<Later<Vec<Receiver>>>,
    /// What is watched.
    pub rules: Option<Later<Vec<AlertRule>>>,
    /// Objectives.
    pub slos: Option<Later<Vec<Objective>>>,
}

/// Who is told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Name in rules.
    pub name: Option<Text<NameText>>,
    /// A webhook.
    pub webhook: Option<Webhook>,
    /// Alertmanager.
    pub alertmanager: Option<Webhook>,
    /// Slack.
    pub slack: Option<Webhook>,
}

/// Where a notification goes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// URL.
    pub url: Option<Text<UrlText>>,
    /// File with the URL.
    pub url_file: Option<Text<PathBuf>>,
    /// File with the key of the signature.
    pub secret_file: Option<Text<PathBuf>>,
    /// Allows `http://`.
    pub insecure: Option<bool>,
}

/// One alert rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// Name.
    pub name: Option<Text<NameText>>,
    /// Severity.
    pub severity: Option<Text<Plain>>,
    /// Condition.
    pub expr: Option<Text<Plain>>,
    /// Time for which it must hold.
    pub r#for: Option<Text<Duration>>,
    /// When it is over.
    pub clear: Option<Text<Plain>>,
    /// Time for which it fires on.
    pub keep_firing_for: Option<Text<Duration>>,
    /// Who is told.
    pub receivers: Option<Vec<Text<NameText>>>,
}

/// A service level objective.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Name.
    pub name: Option<Text<NameText>>,
    /// Route.
    pub route: Option<Text<NameText>>,
    /// Share of good answers.
    pub availability: Option<Text<Share>>,
    /// Latency by quantile.
    pub latency: Option<Map<String, Text<Duration>>>,
}
