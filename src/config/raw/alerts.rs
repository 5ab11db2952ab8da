//! `alerts`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::alerts::Severity;
use crate::config::expression::{Clear, Expression};
use crate::config::scalar::{Map, Text};
use crate::config::units::{Positive, Share};
use crate::config::values::{NameText, Plain, UrlText};

/// Alert rules and who is told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Who is told.
    #[schemars(extend("default" = []))]
    pub receivers: Option<Vec<Receiver>>,
    /// What is watched besides what the built-in rules watch. A rule with the name of a built-in one replaces it.
    #[schemars(extend("default" = []))]
    pub rules: Option<Vec<AlertRule>>,
    /// What is promised. Each promise has rules of its own: how fast its error budget is used up, and whether a
    /// quantile of the latency is above its bound.
    #[schemars(extend("default" = []))]
    pub slos: Option<Vec<Objective>>,
    /// Whether the built-in rules are in force.
    #[schemars(extend("default" = true))]
    pub builtin: Option<bool>,
}

/// Who is told: a name, and one of `webhook`, `alertmanager` and `slack`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Name in rules.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// A webhook: JSON, signed if there is a `secret_file`.
    pub webhook: Option<Webhook>,
    /// Prometheus Alertmanager, by its API v2.
    pub alertmanager: Option<Alertmanager>,
    /// An incoming webhook of Slack, or of what understands the same.
    pub slack: Option<Slack>,
}

/// A webhook.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// URL. One of `url` and `url_file` is required.
    pub url: Option<Text<UrlText>>,
    /// File with the URL, if that is a secret.
    pub url_file: Option<Text<PathBuf>>,
    /// File with the key of the signature: `Outrigger-Signature: t=UNIX_SECONDS,v1=HEX`, where HEX is the
    /// HMAC-SHA256 of `t`, a point and the body. Absent: not signed.
    pub secret_file: Option<Text<PathBuf>>,
    /// PEM file with the authorities to trust; absent: those of the system.
    pub ca_file: Option<Text<PathBuf>>,
    /// Allows `http://`, over which everybody on the way can read and change what is told.
    #[schemars(extend("default" = false))]
    pub insecure: Option<bool>,
}

/// Alertmanager.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// URL before `/api/v2/alerts`. One of `url` and `url_file` is required.
    pub url: Option<Text<UrlText>>,
    /// File with the URL, if that is a secret.
    pub url_file: Option<Text<PathBuf>>,
    /// PEM file with the authorities to trust; absent: those of the system.
    pub ca_file: Option<Text<PathBuf>>,
}

/// An incoming webhook of Slack.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// URL. One of `url` and `url_file` is required; the URL of Slack is a secret.
    pub url: Option<Text<UrlText>>,
    /// File with the URL.
    pub url_file: Option<Text<PathBuf>>,
    /// PEM file with the authorities to trust; absent: those of the system.
    pub ca_file: Option<Text<PathBuf>>,
    /// Allows `http://`.
    #[schemars(extend("default" = false))]
    pub insecure: Option<bool>,
}

/// One alert rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRule {
    /// Name.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// How bad it is. Of the rules that watch the same metrics of the same scope, the most severe one that fires is
    /// told and the others are not.
    #[schemars(extend("default" = "WARNING"))]
    pub severity: Option<Severity>,
    /// Condition: see "Alert rules" for the language.
    #[schemars(extend("x-required" = true))]
    pub expr: Option<Text<Expression>>,
    /// Time for which it must hold.
    #[schemars(extend("default" = "0s"))]
    pub r#for: Option<Text<Duration>>,
    /// When it is over: a comparison of the left side of `expr`. Absent: when `expr` no longer holds.
    pub clear: Option<Text<Clear>>,
    /// Time for which it must be over until the alert is resolved, so that one that comes and goes is told once.
    #[schemars(extend("default" = "1m"))]
    pub keep_firing_for: Option<Text<Duration>>,
    /// Names of the receivers; absent: all.
    pub receivers: Option<Vec<Text<NameText>>>,
    /// What to tell people. Absent: the expression.
    pub summary: Option<Text<Plain>>,
}

/// A service level objective.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Name, for `burn_rate`.
    #[schemars(extend("x-required" = true))]
    pub name: Option<Text<NameText>>,
    /// Route; absent: all traffic.
    pub route: Option<Text<NameText>>,
    /// Share of requests that do not fail by our or the upstream's fault: `99.9%`.
    pub availability: Option<Text<Share>>,
    /// Bounds of quantiles of the latency: `{p95: 800ms}`.
    pub latency: Option<Map<String, Text<Positive<Duration>>>>,
}
