//! The language of alert rules: what a rule watches, and when it holds.
//!
//! ```text
//! error_ratio{route=chat} > 0.05
//! latency(p99, 5m, route="chat") > 800ms and rate(route="chat") > 1
//! rate() < 0.5 * rate() offset 1d
//! anomaly(latency_p95{route=chat}) > 3
//! forecast(memory_bytes, 1h) > 900MiB
//! burn_rate(chat, 99.9%) > 14.4
//! absent(requests{route=chat}, 15m)
//! ```

mod grammar;
mod metric;
mod print;
mod query;
mod reader;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use metric::{Metric, Quantile, Scope};

use crate::config::scalar::{Refusal, Scalar};

/// The window of a metric that names none.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Bytes of an expression as it is written.
pub(super) const MAX_BYTES: usize = 1024;
/// Parts that stand inside each other.
const MAX_DEPTH: usize = 32;

/// A metric of a scope, over a window that ends now or some time ago.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What is measured.
    pub metric: Metric,
    /// Of what.
    pub scope: Scope,
    /// Over how long; none: the default of where the query stands.
    pub window: Option<Duration>,
    /// How long ago the window ended.
    pub offset: Duration,
}

/// A part of an expression that is a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// As written: durations in seconds, sizes in bytes, percents as shares.
    Constant(f64),
    /// A metric.
    Metric(Query),
    /// How far a metric is from what it is at other times, in robust standard deviations.
    Anomaly(Query),
    /// What a metric will be in some time if it goes on as in its window.
    Forecast {
        /// What is foreseen.
        query: Query,
        /// In how long.
        ahead: Duration,
    },
    /// How many times faster than allowed errors use up an error budget: the least of two windows.
    BurnRate {
        /// An objective of `alerts.slos`, or a route.
        name: String,
        /// Share of good answers that is promised; none: the one of the objective.
        objective: Option<f64>,
        /// The long window, which tells that it matters.
        long: Duration,
        /// The short window, which tells that it goes on.
        short: Duration,
    },
    /// The number with the other sign.
    Negative(Box<Number>),
    /// Two numbers and what is made of them.
    Calculated(Box<Number>, Arithmetic, Box<Number>),
}

/// What is made of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    By,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl Comparison {
    /// Whether it holds between two numbers.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
            // Numbers of an expression are measured or written; who asks for equality means exactly that.
            Self::Equal => left.total_cmp(&right).is_eq(),
            Self::Unequal => !left.total_cmp(&right).is_eq(),
        }
    }
}

/// A part of an expression that holds or does not.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Two numbers compared.
    Compared(Number, Comparison, Number),
    /// Nothing was measured.
    Absent(Query),
    /// Both hold.
    And(Box<Condition>, Box<Condition>),
    /// One of them holds.
    Or(Box<Condition>, Box<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
}

impl Condition {
    /// Calls `visit` for every query in it.
    pub fn queries<'a>(&'a self, visit: &mut dyn FnMut(&'a Query)) {
        match self {
            Self::Compared(left, _, right) => {
                left.queries(visit);
                right.queries(visit);
            }
            Self::Absent(query) => visit(query),
            Self::And(left, right) | Self::Or(left, right) => {
                left.queries(visit);
                right.queries(visit);
            }
            Self::Not(inner) => inner.queries(visit),
        }
    }

    /// Calls `visit` for every number in it, the outer before the inner.
    pub fn numbers<'a>(&'a self, visit: &mut dyn FnMut(&'a Number)) {
        match self {
            Self::Compared(left, _, right) => {
                left.numbers(visit);
                right.numbers(visit);
            }
            Self::Absent(_) => {}
            Self::And(left, right) | Self::Or(left, right) => {
                left.numbers(visit);
                right.numbers(visit);
            }
            Self::Not(inner) => inner.numbers(visit),
        }
    }
}

impl Number {
    fn queries<'a>(&'a self, visit: &mut dyn FnMut(&'a Query)) {
        self.numbers(&mut |number| match number {
            Self::Metric(query) | Self::Anomaly(query) | Self::Forecast { query, .. } => visit(query),
            _ => {}
        });
    }

    fn numbers<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        visit(self);
        match self {
            Self::Negative(inner) => inner.numbers(visit),
            Self::Calculated(left, _, right) => {
                left.numbers(visit);
                right.numbers(visit);
            }
            Self::Constant(_)
            | Self::Metric(_)
            | Self::Anomaly(_)
            | Self::Forecast { .. }
            | Self::BurnRate { .. } => {}
        }
    }
}

/// The condition of a rule. Two are equal if they mean the same.
#[derive(Clone, Debug)]
pub struct Expression {
    written: String,
    /// What it means.
    pub condition: Condition,
}

impl Expression {
    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// What it watches: its metrics with their scopes, in order, each once. Rules with equal subjects are about the
    /// same thing, and the most severe one of them speaks.
    pub fn subject(&self) -> String {
        let mut parts = Vec::new();
        self.condition
            .queries(&mut |query| parts.push(format!("{}{}", query.metric, query.scope)));
        self.condition.numbers(&mut |number| {
            if let Number::BurnRate { name, .. } = number {
                parts.push(format!("burn_rate({name})"));
            }
        });
        parts.sort();
        parts.dedup();
        parts.join(" ")
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.condition == other.condition
    }
}

impl Scalar for Expression {
    const NAME: &'static str = "expression";
    const EXAMPLE: &'static str = "error_ratio{route=chat} > 0.05";

    fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(Self {
            written: text.to_owned(),
            condition: grammar::condition(text)?,
        })
    }
}

/// When a firing alert is over: a comparison of the rule's value, `< 0.01`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clear(pub Comparison, pub f64);

impl Scalar for Clear {
    const NAME: &'static str = "comparison";
    const EXAMPLE: &'static str = "< 0.01";

    fn parse(text: &str) -> Result<Self, Refusal> {
        grammar::clear(text)
    }
}
