//! Tests of alerts over made-up measurements.

mod day;
mod delivery;
mod incident;
mod values;

use std::sync::Arc;
use std::time::Duration;

use super::source::Source;
use crate::clock::Timestamp;
use crate::config::expression::{Clear, Expression, Metric, Scope};
use crate::config::scalar::Scalar;
use crate::config::{AlertRule, Alerts, Severity};

/// When tests begin, in seconds since the epoch.
const BEGIN: u64 = 1_700_000_000;

/// A moment so many seconds after the begin.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(BEGIN + seconds)
}

/// Measures a function of the metric and of the seconds since the begin; the value of a window is the mean of its seconds.
struct Script<F>(F);

impl<F: Fn(Metric, i64) -> Option<f64> + Send + Sync> Source for Script<F> {
    fn value(&self, metric: Metric, _scope: &Scope, from: Timestamp, to: Timestamp) -> Option<f64> {
        let seconds =
            |time: Timestamp| i64::try_from(time.as_secs()).unwrap() - i64::try_from(BEGIN).unwrap();
        let (from, to) = (seconds(from), seconds(to));
        // Long windows are sampled.
        let step = usize::try_from((to - from) / 120).unwrap().max(1);
        let values: Vec<f64> = (from..to)
            .step_by(step)
            .filter_map(|second| (self.0)(metric, second))
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

fn rule(name: &str, expr: &str) -> AlertRule {
    AlertRule {
        name: name.into(),
        severity: Severity::Warning,
        expr: Expression::parse(expr).unwrap(),
        hold: Duration::ZERO,
        clear: None,
        keep_firing_for: Duration::ZERO,
        receivers: None,
        summary: None,
    }
}

fn clear(text: &str) -> Option<Clear> {
    Some(Clear::parse(text).unwrap())
}

fn config(rules: Vec<AlertRule>) -> Alerts {
    Alerts {
        rules,
        builtin: false,
        ..Alerts::default()
    }
}

/// The configuration with a receiver of this form and URL.
fn with_receiver(config: Alerts, form: crate::config::alerts::Form, url: &str) -> Arc<Alerts> {
    let receiver = crate::config::alerts::Receiver {
        name: "ops".into(),
        form,
        url: crate::config::alerts::ReceiverUrl {
            url: crate::config::secret::Secret::new(url.parse().unwrap()),
            file: None,
        },
        tls: None,
        insecure: true,
    };
    Arc::new(Alerts {
        receivers: vec![Arc::new(receiver)],
        ..config
    })
}
