//! Building blocks of the raw types: values that are parsed, and so checked, where they are read.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// What a feature answers that the types already know and the product does not have.
pub(super) const NOT_AVAILABLE: &str = "not available yet";

/// The key under which the schema marks what is [`NOT_AVAILABLE`].
pub(super) const SCHEMA_NOT_AVAILABLE: &str = "x-not-available-yet";

/// Why a text is not a value of some type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    /// The message, and the hint on a line of its own: the form in which `decode` takes them apart again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

/// A type whose values are written as one scalar.
pub trait Scalar: Sized {
    /// What it is, for messages and for the reference: "duration".
    const NAME: &'static str;
    /// A value as it is written.
    const EXAMPLE: &'static str;
    /// The JSON Schema types that a value may have.
    const TYPES: &'static [&'static str] = &["string"];
    /// Whether [`Scalar::parse`] is asked about numbers, too: to read them, or to say what is missing.
    const NUMBERS: bool = false;

    /// Reads a value.
    fn parse(text: &str) -> Result<Self, Refusal>;
}

/// A [`Scalar`], read from YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<'de, T: Scalar> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData)).map(Text)
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Scalar> TextVisitor<T> {
    fn number<E: Error>(number: &impl ToString) -> Result<T, E> {
        if !T::NUMBERS {
            let message = format!("expected text ({}), found a number", T::NAME);
            return Err(E::custom(Refusal::new(message).hint("put it in quotes")));
        }
        T::parse(&number.to_string()).map_err(E::custom)
    }
}

impl<T: Scalar> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {} like `{}`", T::NAME, T::EXAMPLE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        if T::TYPES.contains(&"boolean") {
            return T::parse(if value { "on" } else { "off" }).map_err(E::custom);
        }
        Err(E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Self::number(&number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Self::number(&number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Self::number(&number)
    }
}

impl<T: Scalar> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let types = match T::TYPES {
            [one] => serde_json::json!(one),
            several => serde_json::json!(several),
        };
        json_schema!({"type": types, "x-type": T::NAME, "examples": [T::EXAMPLE]})
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(WholeVisitor::<MIN, MAX>)
    }
}

struct WholeVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        if (MIN..=MAX).contains(&number) {
            return Ok(Whole(number));
        }
        Err(E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "whole number".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// A map with free keys, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FreeMapVisitor(PhantomData))
    }
}

struct FreeMapVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for FreeMapVisitor<K, V> {
    type Value = Map<K, V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Map(entries))
    }
}

impl<K, V: JsonSchema> JsonSchema for Map<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("map of {}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": generator.subschema_for::<V>()})
    }
}

/// A part of the contract that a later version brings: its shape is checked, then it is refused, so that nothing
/// is ever accepted and ignored. There is no value of this type.
#[derive(Clone, Debug)]
pub enum Later<T> {
    /// Cannot be made.
    Never(Infallible, PhantomData<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Later<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer)?;
        Err(D::Error::custom(NOT_AVAILABLE))
    }
}

impl<T: JsonSchema> JsonSchema for Later<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert(SCHEMA_NOT_AVAILABLE.to_owned(), true.into());
        schema
    }
}
