//! Where rules get their numbers.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::expression::{Metric, Scope};

/// A history of measurements, asked once per metric and evaluation.
pub trait Source: Send + Sync {
    /// The metric over the window from `from` to `to`: of a counter how much was added, of a level its mean. None if
    /// nothing was measured, which includes a ratio or a quantile of no requests.
    fn value(&self, metric: Metric, scope: &Scope, from: Timestamp, to: Timestamp) -> Option<f64>;

    /// The same for each window of `step` that fits between `from` and `to`, the oldest first.
    fn points(
        &self,
        metric: Metric,
        scope: &Scope,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Vec<Option<f64>> {
        let mut points = Vec::new();
        let mut begin = from;
        while begin.plus(step) <= to && !step.is_zero() {
            points.push(self.value(metric, scope, begin, begin.plus(step)));
            begin = begin.plus(step);
        }
        points
    }
}
