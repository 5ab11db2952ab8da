//! What an expression says now.

use std::time::Duration;

use super::robust::{Line, deviation, median};
use super::source::Source;
use crate::clock::Timestamp;
use crate::config::Objective;
use crate::config::expression::{
    Arithmetic, Comparison, Condition, DEFAULT_WINDOW, Metric, Number, Query, Scope,
};

/// Why an expression says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unhealthy {
    /// Nothing was measured, or too little to tell.
    NoData,
    /// The calculation gives no number, such as a division by zero.
    NotANumber,
}

/// What an expression says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Whether it holds.
    pub holds: bool,
    /// The left side of the comparison that decided.
    pub value: f64,
}

/// Evaluates expressions at one moment.
pub struct Evaluation<'a> {
    /// Measurements.
    pub source: &'a dyn Source,
    /// What `burn_rate` can name.
    pub objectives: &'a [Objective],
    /// The moment.
    pub now: Timestamp,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Windows of `anomaly` that must agree, one after the other.
const WINDOWS: u32 = 3;
/// Length of one of them, unless the query says it: together they make less than the two minutes in which an anomaly
/// should be found.
const ANOMALY_WINDOW: Duration = Duration::from_secs(30);
/// Days whose same time of day is compared with.
const DAYS: u32 = 7;
/// How far around the same time of day.
const AROUND: Duration = Duration::from_secs(15 * 60);
/// Days that are needed for that; with fewer, the last hour is compared with.
const ENOUGH_DAYS: usize = 3;
/// Values of a day that are needed for it to count.
const ENOUGH_OF_A_DAY: usize = 10;
/// What is compared with when there are too few days.
const RECENTLY: Duration = Duration::from_secs(60 * 60);
/// Values of it that are needed.
const ENOUGH_RECENTLY: usize = 20;

/// Points of the window that a forecast is drawn through, and how many of them are needed.
const FORECAST_POINTS: u32 = 60;
const ENOUGH_TO_FORECAST: usize = 10;

impl Evaluation<'_> {
    /// Whether `condition` holds. What is unknown does not matter where the rest decides.
    ///
    /// # Errors
    /// Why that is unknown.
    pub fn judge(&self, condition: &Condition) -> Result<Judgement, Unhealthy> {
        match condition {
            Condition::Compared(left, comparison, right) => {
                let (value, right) = (self.number(left)?, self.number(right)?);
                Ok(Judgement {
                    holds: Comparison::holds(*comparison, value, right),
                    value,
                })
            }
            Condition::Absent(query) => {
                let absent = self.query(query, DEFAULT_WINDOW).is_err();
                Ok(Judgement {
                    holds: absent,
                    value: f64::from(u8::from(absent)),
                })
            }
            Condition::And(left, right) => either(self.judge(left), self.judge(right), false),
            Condition::Or(left, right) => either(self.judge(left), self.judge(right), true),
            Condition::Not(inner) => {
                let inner = self.judge(inner)?;
                Ok(Judgement {
                    holds: !inner.holds,
                    ..inner
                })
            }
        }
    }

    fn number(&self, number: &Number) -> Result<f64, Unhealthy> {
        let value = match number {
            Number::Constant(value) => *value,
            Number::Metric(query) => self.query(query, DEFAULT_WINDOW)?,
            Number::Anomaly(query) => self.anomaly(query)?,
            Number::Forecast { query, ahead } => self.forecast(query, *ahead)?,
            Number::BurnRate {
                name,
                objective,
                long,
                short,
            } => self.burn_rate(name, *objective, [*long, *short])?,
            Number::Negative(inner) => -self.number(inner)?,
            Number::Calculated(left, arithmetic, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                match arithmetic {
                    Arithmetic::Plus => left + right,
                    Arithmetic::Minus => left - right,
                    Arithmetic::Times => left * right,
                    Arithmetic::By => left / right,
                }
            }
        };
        value.is_finite().then_some(value).ok_or(Unhealthy::NotANumber)
    }

    fn query(&self, query: &Query, window: Duration) -> Result<f64, Unhealthy> {
        let to = self.now.minus(query.offset);
        let from = to.minus(query.window.unwrap_or(window));
        let value = self.source.value(query.metric, &query.scope, from, to);
        value.filter(|value| value.is_finite()).ok_or(Unhealthy::NoData)
    }

    /// How far the metric is from what it is at the same time of other days, or was in the last hour: the least of
    /// three windows, in robust standard deviations, and 0 if they are not all on one side.
    fn anomaly(&self, query: &Query) -> Result<f64, Unhealthy> {
        let window = query.window.unwrap_or(ANOMALY_WINDOW);
        let now = self.now.minus(query.offset);
        let usual = self.usual(query, now, window).ok_or(Unhealthy::NoData)?;
        let mut least = f64::INFINITY;
        let mut side = 0.0;
        for index in 0..WINDOWS {
            let to = now.minus(window * index);
            let value = self
                .source
                .value(query.metric, &query.scope, to.minus(window), to);
            let value = value.filter(|value| value.is_finite()).ok_or(Unhealthy::NoData)?;
            let middle = -(window * index + window / 2).as_secs_f64();
            let score = (value - usual.line.at(middle)) / usual.deviation;
            if score * side < 0.0 {
                return Ok(0.0);
            }
            side = score;
            least = least.min(score.abs());
        }
        Ok(least)
    }

    fn usual(&self, query: &Query, now: Timestamp, window: Duration) -> Option<Usual> {
        // The history is kept by the minute, so that shorter windows are compared with minutes.
        let step = window.max(MINUTE);
        let ratio = step.as_secs_f64() / window.as_secs_f64();
        let scale = if query.metric.is_amount() {
            1.0 / ratio
        } else {
            1.0
        };
        // A mean over a longer time deviates less, by the root of how much longer it is.
        let spread = ratio.sqrt();
        let points = |from: Timestamp, to: Timestamp| {
            let points = self.source.points(query.metric, &query.scope, from, to, step);
            points.into_iter().enumerate().filter_map(move |(index, value)| {
                let value = value.filter(|value| value.is_finite())?;
                let middle = from.plus(step * u32::try_from(index).ok()? + step / 2);
                Some((-now.since(middle).as_secs_f64(), value * scale))
            })
        };
        let mut same_time = Vec::new();
        let mut days = 0;
        for day in 1..=DAYS {
            let then = now.minus(DAY * day);
            let before = same_time.len();
            same_time.extend(points(then.minus(AROUND), then.plus(AROUND)).map(|(_, value)| value));
            days += usize::from(same_time.len() - before >= ENOUGH_OF_A_DAY);
        }
        let (line, rests) = if days >= ENOUGH_DAYS {
            let at_zero = median(&mut same_time)?;
            let rests = same_time.iter().map(|value| value - at_zero).collect();
            (Line { at_zero, slope: 0.0 }, rests)
        } else {
            // What is judged is not compared with itself.
            let to = now.minus(window * WINDOWS);
            let recent: Vec<(f64, f64)> = points(to.minus(RECENTLY.max(step * 60)), to).collect();
            if recent.len() < ENOUGH_RECENTLY {
                return None;
            }
            let line = Line::through(&recent)?;
            let rests: Vec<f64> = recent.iter().map(|(x, y)| y - line.at(*x)).collect();
            (line, rests)
        };
        let deviation = deviation(&rests, 0.0)? * spread;
        Some(Usual {
            line,
            deviation: deviation.max(query.metric.grain()),
        })
    }

    fn forecast(&self, query: &Query, ahead: Duration) -> Result<f64, Unhealthy> {
        let window = query.window.unwrap_or_else(|| ahead.clamp(AROUND, DAY));
        let now = self.now.minus(query.offset);
        let step = (window / FORECAST_POINTS).max(Duration::from_secs(1));
        let from = now.minus(window);
        let points = self.source.points(query.metric, &query.scope, from, now, step);
        let points: Vec<(f64, f64)> = (0_u32..)
            .zip(points)
            .filter_map(|(index, value)| {
                let middle = from.plus(step * index + step / 2);
                Some((
                    -now.since(middle).as_secs_f64(),
                    value.filter(|value| value.is_finite())?,
                ))
            })
            .collect();
        if points.len() < ENOUGH_TO_FORECAST {
            return Err(Unhealthy::NoData);
        }
        let line = Line::through(&points).ok_or(Unhealthy::NoData)?;
        Ok(line.at(ahead.as_secs_f64()))
    }

    /// Multi-window burn rate: B. Beyer et al., "The Site Reliability Workbook" (2018), chapter 5: the long window tells
    /// that it matters, the short one that it goes on.
    fn burn_rate(
        &self,
        name: &str,
        objective: Option<f64>,
        windows: [Duration; 2],
    ) -> Result<f64, Unhealthy> {
        let known = self.objectives.iter().find(|known| *known.name == *name);
        let scope = match known.map(|known| &known.route) {
            Some(Some(route)) => Scope::Route(route.to_string()),
            Some(None) => Scope::All,
            None => Scope::Route(name.to_owned()),
        };
        let promised = objective.or(known.and_then(|known| known.availability));
        let budget = 1.0 - promised.ok_or(Unhealthy::NoData)?;
        let mut least = f64::INFINITY;
        for window in windows {
            let from = self.now.minus(window);
            let errors = self.source.value(Metric::ErrorRatio, &scope, from, self.now);
            least = least.min(errors.ok_or(Unhealthy::NoData)? / budget);
        }
        Ok(least)
    }
}

/// What a metric usually is: at seconds from now, and how far from it.
struct Usual {
    line: Line,
    deviation: f64,
}

/// `and`, for which `decides` is false, and `or`, for which it is true: one side that is `decides` is enough.
fn either(
    left: Result<Judgement, Unhealthy>,
    right: Result<Judgement, Unhealthy>,
    decides: bool,
) -> Result<Judgement, Unhealthy> {
    match (left, right) {
        (Ok(left), _) if left.holds == decides => Ok(left),
        (_, Ok(right)) if right.holds == decides => Ok(right),
        (Ok(left), Ok(_)) => Ok(left),
        (Err(unhealthy), _) | (_, Err(unhealthy)) => Err(unhealthy),
    }
}
