//! The grammar of expressions, one function per rule.
//!
//! ```text
//! condition  = both { "or" both }
//! both       = single { "and" single }
//! single     = "not" single | "absent" "(" query ")" | "(" condition ")" | sum comparison sum
//! sum        = product { ("+" | "-") product }
//! product    = factor { ("*" | "/") factor }
//! factor     = "-" factor | number | "(" sum ")" | "anomaly" "(" query ")" | "forecast" "(" query "," duration ")"
//!            | "burn_rate" "(" name [ "," objective ] [ "," long [ "," short ] ] ")" | query
//! query      = metric [ "{" scope "}" ] [ "(" { quantile | duration | scope | "window" "=" duration } ")" ]
//!              [ "offset" duration ]
//! scope      = ("route" | "upstream" | "level") "=" name
//! ```

use std::time::Duration;

use super::query::{bounded, duration, query};
use super::reader::{Literal, Reader};
use super::{Arithmetic, Clear, Comparison, Condition, MAX_BYTES, MAX_DEPTH, Number, Query};
use crate::config::scalar::Refusal;

/// The long and the short window of `burn_rate`.
const BURN_WINDOWS: (Duration, Duration) = (Duration::from_secs(60 * 60), Duration::from_secs(5 * 60));

/// Reads a condition.
pub(super) fn condition(text: &str) -> Result<Condition, Refusal> {
    let mut parser = Parser::new(text)?;
    match parser.either()? {
        _ if !parser.reader.is_done() => Err(parser.reader.expected("`and`, `or` or the end")),
        Part::Condition(condition) => Ok(condition),
        Part::Number(_) => Err(parser.not_compared()),
    }
}

/// Reads the condition of the end: a comparison whose left side is the rule's value.
pub(super) fn clear(text: &str) -> Result<Clear, Refusal> {
    let mut parser = Parser::new(text)?;
    let hint = "a comparison with a number, like `< 0.01`";
    let Some(comparison) = parser.comparison() else {
        return Err(parser.reader.expected("a comparison").hint(hint));
    };
    let negative = parser.reader.symbol("-");
    let number = parser.reader.literal()?.number();
    if !parser.reader.is_done() {
        return Err(parser.reader.expected("the end").hint(hint));
    }
    Ok(Clear(comparison, if negative { -number } else { number }))
}

/// What a parenthesis may hold.
enum Part {
    Number(Number),
    Condition(Condition),
}

struct Parser<'t> {
    reader: Reader<'t>,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Result<Self, Refusal> {
        if text.len() > MAX_BYTES {
            return Err(Refusal::new(format!(
                "the expression has more than {MAX_BYTES} bytes"
            )));
        }
        Ok(Self {
            reader: Reader::new(text),
            depth: 0,
        })
    }

    fn not_compared(&mut self) -> Refusal {
        self.reader
            .refuse("a number alone neither holds nor fails")
            .hint("compare it: `error_ratio() > 0.05`")
    }

    /// Runs `rule` one level deeper.
    fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.depth == MAX_DEPTH {
            return Err(self
                .reader
                .refuse(format!("more than {MAX_DEPTH} parts inside each other")));
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    fn either(&mut self) -> Result<Part, Refusal> {
        self.joined("or", Self::both, Condition::Or)
    }

    fn both(&mut self) -> Result<Part, Refusal> {
        self.joined("and", Self::single, Condition::And)
    }

    fn joined(
        &mut self,
        word: &str,
        mut rule: impl FnMut(&mut Self) -> Result<Part, Refusal>,
        join: impl Fn(Box<Condition>, Box<Condition>) -> Condition,
    ) -> Result<Part, Refusal> {
        let mut left = rule(self)?;
        // The result leans to the left, one level per word: these count as depth for whoever walks it.
        let mut words = 0;
        while self.reader.word(word) {
            words += 1;
            if words > MAX_DEPTH {
                return Err(self
                    .reader
                    .refuse(format!("more than {MAX_DEPTH} times `{word}`")));
            }
            let (Part::Condition(first), Part::Condition(second)) = (left, rule(self)?) else {
                return Err(self.not_compared());
            };
            left = Part::Condition(join(Box::new(first), Box::new(second)));
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Part, Refusal> {
        if self.reader.word("not") {
            return match self.deeper(Self::single)? {
                Part::Condition(inner) => Ok(Part::Condition(Condition::Not(Box::new(inner)))),
                Part::Number(_) => Err(self.not_compared()),
            };
        }
        let left = match self.sum()? {
            Part::Number(left) => left,
            condition @ Part::Condition(_) => return Ok(condition),
        };
        let Some(comparison) = self.comparison() else {
            return Ok(Part::Number(left));
        };
        match self.sum()? {
            Part::Number(right) => Ok(Part::Condition(Condition::Compared(left, comparison, right))),
            Part::Condition(_) => Err(self.reader.refuse("a condition cannot be compared")),
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let comparisons = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            (">", Comparison::Above),
            ("<", Comparison::Below),
        ];
        let found = comparisons
            .into_iter()
            .find(|(symbol, _)| self.reader.symbol(symbol));
        found.map(|(_, comparison)| comparison)
    }

    fn sum(&mut self) -> Result<Part, Refusal> {
        let operators = [("+", Arithmetic::Plus), ("-", Arithmetic::Minus)];
        self.calculated(&operators, Self::product)
    }

    fn product(&mut self) -> Result<Part, Refusal> {
        let operators = [("*", Arithmetic::Times), ("/", Arithmetic::By)];
        self.calculated(&operators, Self::factor)
    }

    fn calculated(
        &mut self,
        operators: &[(&str, Arithmetic)],
        mut rule: impl FnMut(&mut Self) -> Result<Part, Refusal>,
    ) -> Result<Part, Refusal> {
        let mut left = rule(self)?;
        let mut times = 0;
        loop {
            let Some((_, arithmetic)) = operators.iter().find(|(symbol, _)| self.reader.symbol(symbol))
            else {
                return Ok(left);
            };
            times += 1;
            if times > MAX_DEPTH {
                return Err(self
                    .reader
                    .refuse(format!("more than {MAX_DEPTH} calculations in a row")));
            }
            let (Part::Number(first), Part::Number(second)) = (left, rule(self)?) else {
                return Err(self.reader.refuse("a condition is no number to calculate with"));
            };
            left = Part::Number(Number::Calculated(Box::new(first), *arithmetic, Box::new(second)));
        }
    }

    fn factor(&mut self) -> Result<Part, Refusal> {
        if self.reader.symbol("-") {
            return match self.deeper(Self::factor)? {
                Part::Number(inner) => Ok(Part::Number(Number::Negative(Box::new(inner)))),
                Part::Condition(_) => Err(self.reader.refuse("a condition has no sign")),
            };
        }
        if self.reader.symbol("(") {
            let inner = self.deeper(Self::either)?;
            self.reader.need(")")?;
            return Ok(inner);
        }
        if self.reader.is_number() {
            let literal = self.reader.literal()?;
            return Ok(Part::Number(Number::Constant(literal.number())));
        }
        if self.reader.word("absent") {
            return Ok(Part::Condition(Condition::Absent(self.in_brackets()?)));
        }
        if self.reader.word("anomaly") {
            return Ok(Part::Number(Number::Anomaly(self.in_brackets()?)));
        }
        if self.reader.word("forecast") {
            self.reader.need("(")?;
            let query = query(&mut self.reader)?;
            self.reader.need(",")?;
            let ahead = duration(&mut self.reader)?;
            self.reader.need(")")?;
            return Ok(Part::Number(Number::Forecast { query, ahead }));
        }
        if self.reader.word("burn_rate") {
            return self.burn_rate().map(Part::Number);
        }
        query(&mut self.reader).map(|query| Part::Number(Number::Metric(query)))
    }

    /// `(query)`, or `(query, window)`.
    fn in_brackets(&mut self) -> Result<Query, Refusal> {
        self.reader.need("(")?;
        let mut query = query(&mut self.reader)?;
        if self.reader.symbol(",") {
            query.window = Some(duration(&mut self.reader)?);
        }
        self.reader.need(")")?;
        Ok(query)
    }

    fn burn_rate(&mut self) -> Result<Number, Refusal> {
        self.reader.need("(")?;
        let name = self.reader.name()?;
        let mut objective = None;
        let mut windows = Vec::new();
        while self.reader.symbol(",") {
            let place = self.reader.place();
            match self.reader.literal()? {
                Literal::Plain(share) if objective.is_none() && windows.is_empty() => {
                    if !(share > 0.0 && share < 1.0) {
                        return Err(self
                            .reader
                            .refuse_at(place, "an objective is between 0 and 100 %")
                            .hint("like `99.9%`"));
                    }
                    objective = Some(share);
                }
                Literal::Time(window) if windows.len() < 2 => {
                    windows.push(bounded(&self.reader, place, window)?)
                }
                _ => {
                    return Err(self
                        .reader
                        .refuse_at(place, "not an argument of `burn_rate`")
                        .hint(
                            "`burn_rate(name, 99.9%, 1h, 5m)`: the objective, the long and the short window",
                        ));
                }
            }
        }
        let end = self.reader.place();
        self.reader.need(")")?;
        let (long, short) = match windows.as_slice() {
            [] => BURN_WINDOWS,
            // The workbook of the method has the short window at a twelfth of the long one.
            [long] => (*long, (*long / 12).max(Duration::from_secs(1))),
            [long, short, ..] => (*long, *short),
        };
        if short >= long {
            return Err(self
                .reader
                .refuse_at(end, "the second window must be the shorter one"));
        }
        Ok(Number::BurnRate {
            name,
            objective,
            long,
            short,
        })
    }
}
