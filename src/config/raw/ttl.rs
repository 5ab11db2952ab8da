//! `routes[].cache.ttl`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::config::scalar::{Refusal, Scalar, Text};
use crate::config::units::Positive;
use crate::config::values::Status;

/// How long a response is fresh.
#[derive(Clone, Debug)]
pub enum RouteTtl {
    /// So long.
    Fixed(Duration),
    /// By status.
    ByStatus(Vec<(Status, Duration)>),
    /// By how often the answer changes.
    Adaptive(Adaptive),
}

/// A life that follows how often the answer changes, for statuses 200, 203, 204, 300, 301 and 308; others follow the
/// origin. It begins at `min`, grows by half when a validation or a new fetch finds the same body, and halves when it
/// finds another. What is purged hard or has made room begins at `min` again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// Shortest life, and the first one.
    #[schemars(extend("x-required" = true))]
    pub min: Option<Text<Positive<Duration>>>,
    /// Longest life.
    #[schemars(extend("x-required" = true))]
    pub max: Option<Text<Positive<Duration>>>,
}

impl<'de> Deserialize<'de> for RouteTtl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RouteTtlVisitor)
    }
}

/// The keys of a `ttl` map.
enum TtlKey {
    Status(Status),
    Adaptive,
}

impl Scalar for TtlKey {
    const NAME: &'static str = "status";
    const EXAMPLE: &'static str = "200";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "adaptive" => Ok(Self::Adaptive),
            // Nothing would come of it: see `cache::policy`.
            "206" | "304" => Err(Refusal::new(format!(
                "a response with status {text} is never stored"
            ))),
            text => Status::parse(text).map(Self::Status),
        }
    }
}

struct RouteTtlVisitor;

impl<'de> Visitor<'de> for RouteTtlVisitor {
    type Value = RouteTtl;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration like `300s`, or a map of statuses")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RouteTtl, E> {
        Duration::parse(text).map(RouteTtl::Fixed).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<RouteTtl, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RouteTtl, A::Error> {
        let (mut by_status, mut adaptive) = (Vec::new(), None);
        while let Some(Text(key)) = map.next_key::<Text<TtlKey>>()? {
            match key {
                TtlKey::Status(status) => by_status.push((status, map.next_value::<Text<Duration>>()?.0)),
                TtlKey::Adaptive => adaptive = Some(map.next_value::<Adaptive>()?),
            }
        }
        match adaptive {
            None => Ok(RouteTtl::ByStatus(by_status)),
            Some(adaptive) if by_status.is_empty() => Ok(RouteTtl::Adaptive(adaptive)),
            Some(_) => Err(A::Error::custom(
                "`adaptive` and lives by status exclude each other",
            )),
        }
    }
}

impl JsonSchema for RouteTtl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RouteTtl".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<Text<Duration>>();
        json_schema!({"anyOf": [duration.clone(), {
            "type": "object",
            "patternProperties": {"^[2-5][0-9][0-9]$": duration},
            "additionalProperties": false,
        }, {
            "type": "object",
            "properties": {"adaptive": generator.subschema_for::<Adaptive>()},
            "required": ["adaptive"],
            "additionalProperties": false,
        }]})
    }
}
