//! Shapes that a later version brings to life; today each is refused where it is used.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{Refusal, Scalar, Text, Whole};
use crate::config::units::{Positive, Share};
use crate::config::values::Plain;

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
