//! Expressions as text that means the same.

use std::fmt;
use std::time::Duration;

use super::{Arithmetic, Clear, Comparison, Condition, Expression, Number, Query};
use crate::config::units::format_duration;

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared(left, comparison, right) => write!(f, "{left} {comparison} {right}"),
            Self::Absent(query) => write!(f, "absent({query})"),
            Self::And(left, right) => write!(f, "({left}) and ({right})"),
            Self::Or(left, right) => write!(f, "({left}) or ({right})"),
            Self::Not(inner) => write!(f, "not ({inner})"),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::Metric(query) => query.fmt(f),
            Self::Anomaly(query) => write!(f, "anomaly({query})"),
            Self::Forecast { query, ahead } => write!(f, "forecast({query}, {})", format_duration(*ahead)),
            Self::BurnRate {
                name,
                objective,
                long,
                short,
            } => {
                write!(f, "burn_rate(\"{name}\"")?;
                if let Some(objective) = objective {
                    write!(f, ", {objective}")?;
                }
                write!(f, ", {}, {})", format_duration(*long), format_duration(*short))
            }
            Self::Negative(inner) => write!(f, "-({inner})"),
            Self::Calculated(left, arithmetic, right) => write!(f, "({left} {arithmetic} {right})"),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.metric, self.scope)?;
        if let Some(window) = self.window {
            write!(f, "({})", format_duration(window))?;
        }
        if self.offset > Duration::ZERO {
            write!(f, " offset {}", format_duration(self.offset))?;
        }
        Ok(())
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::By => "/",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::Unequal => "!=",
        })
    }
}

impl fmt::Display for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}
