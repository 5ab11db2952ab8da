//! The rules that are in force unless the configuration says otherwise. Each is in a table of the README.

use std::time::Duration;

use crate::config::expression::{Clear, Expression};
use crate::config::scalar::Scalar;
use crate::config::{AlertRule, Severity};

/// Name, severity, expression, `for`, `clear`, and what it tells.
type Row = (
    &'static str,
    Severity,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// All of them. A share of failed requests counts only with more than a request in ten seconds.
const ROWS: &[Row] = &[
    (
        "HighErrorRatio",
        Severity::Error,
        "error_ratio(5m) > 5% and rate(5m) > 0.1",
        "1m",
        "",
        "more than 5 % of the requests fail",
    ),
    (
        "VeryHighErrorRatio",
        Severity::Critical,
        "error_ratio(1m) > 25% and rate(1m) > 0.1",
        "1m",
        "",
        "more than a quarter of the requests fail",
    ),
    (
        "UnusualLatency",
        Severity::Warning,
        "anomaly(latency_p95) > 6 and rate(5m) > 1",
        "1m",
        "",
        "the 95th percentile of the latency is far from what it usually is",
    ),
    (
        "UnusualTraffic",
        Severity::Info,
        "anomaly(rate) > 8",
        "1m",
        "",
        "there are far more or fewer requests than usual",
    ),
    (
        "HitRatioDropped",
        Severity::Warning,
        "hit_ratio(5m) < 0.5 * hit_ratio(1h) offset 10m and rate(5m) > 1",
        "5m",
        "",
        "the cache answers less than half of what it did",
    ),
    (
        "EndpointsDown",
        Severity::Error,
        "healthy_ratio(1m) < 0.5",
        "1m",
        "> 0.6",
        "more than half of the endpoints are down",
    ),
    (
        "LevelDown",
        Severity::Warning,
        "level_up(1m) < 0.5",
        "1m",
        "> 0.9",
        "a cache level below memory does not answer, or takes no writes",
    ),
    (
        "MemoryWillRunOut",
        Severity::Warning,
        "forecast(memory_ratio, 1h) > 95%",
        "10m",
        "",
        "memory in use will reach its limit within the hour if it goes on growing",
    ),
    (
        "ReloadFailed",
        Severity::Warning,
        "failed_reloads(10m) > 0",
        "0s",
        "",
        "a changed configuration was refused; the old one is in force",
    ),
    (
        "BadTokens",
        Severity::Error,
        "bad_tokens(5m) > 20",
        "0s",
        "< 5",
        "somebody tries tokens at the admin API",
    ),
    (
        "PurgeBurst",
        Severity::Warning,
        "purges(5m) > 100 and purges(5m) > 10 * purges(5m) offset 1h",
        "0s",
        "",
        "the cache is purged far more often than an hour ago",
    ),
    (
        "MalformedRequests",
        Severity::Warning,
        "malformed_ratio(5m) > 5% and malformed(5m) > 50",
        "0s",
        "",
        "many requests are malformed: a scan, or an attempt at request smuggling",
    ),
    (
        "IntegrityFailure",
        Severity::Critical,
        "integrity_failures(5m) > 0",
        "0s",
        "",
        "a cache level gave back what was not stored: damaged, or changed by somebody",
    ),
    (
        "KeyExplosion",
        Severity::Error,
        "new_keys(5m) > 1000 and new_keys(5m) > 0.9 * requests(5m) and anomaly(new_keys) > 8",
        "1m",
        "",
        "nearly every request has a key of its own, far more than usual: the cache is being washed out",
    ),
];

/// How long a condition must be over: an episode that comes and goes within it is told once.
const KEEP: Duration = Duration::from_secs(5 * 60);

/// The built-in rules.
pub fn rules() -> Vec<AlertRule> {
    let rule = |row: &Row| {
        let (name, severity, expr, hold, clear, summary) = *row;
        // Written above, so they read; a test holds them.
        Some(AlertRule {
            name: name.into(),
            severity,
            expr: Expression::parse(expr).ok()?,
            hold: <Duration as Scalar>::parse(hold).ok()?,
            clear: Clear::parse(clear).ok(),
            keep_firing_for: KEEP,
            receivers: None,
            summary: Some(summary.to_owned()),
        })
    };
    ROWS.iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_rule_and_documented() {
        let rules = rules();
        assert_eq!(rules.len(), ROWS.len());
        let readme = include_str!("../../../README.md");
        for (rule, (name, severity, expr, .., clear, _)) in rules.iter().zip(ROWS) {
            assert_eq!(rule.clear.is_some(), !clear.is_empty(), "{name}");
            let row = format!("| `{name}` | {severity} | `{expr}` |");
            assert!(readme.contains(&row), "not in the README: {row}");
        }
    }
}
