//! Counts at the JSON pointers of a route, found without building the document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::{Counts, Document};
use crate::config::UsagePointers;

/// What stands at the pointers.
pub(super) fn read(pointers: &UsagePointers, json: &[u8]) -> Document {
    let count = |pointer: &Option<String>| match find(pointer.as_deref()?, json)? {
        Leaf::Count(count) => Some(count),
        Leaf::Text(_) => None,
    };
    let model = match find(&pointers.model, json) {
        Some(Leaf::Text(text)) => Some(text),
        _ => None,
    };
    Document {
        model,
        counts: Counts {
            input: count(&pointers.input),
            output: count(&pointers.output),
            cached: count(&pointers.cached_input),
            written: None,
        },
    }
}

/// A value that says something.
enum Leaf {
    Count(u64),
    Text(String),
}

/// The value at a JSON pointer (RFC 6901).
fn find(pointer: &str, json: &[u8]) -> Option<Leaf> {
    let path: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|token| token.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut document = serde_json::Deserializer::from_slice(json);
    At(&path).deserialize(&mut document).ok().flatten()
}

/// Goes down this path.
#[derive(Clone, Copy)]
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Leaf>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Leaf>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At<'_> {
    fn here(self, leaf: impl FnOnce() -> Leaf) -> Option<Leaf> {
        self.0.is_empty().then(leaf)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Leaf>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Leaf>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<Option<Leaf>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _negative: i64) -> Result<Option<Leaf>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Option<Leaf>, E> {
        Ok(self.here(|| Leaf::Count(count)))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is whole, and between 0 and 2^53"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<Leaf>, E> {
        let is_count = number.fract() == 0.0 && (0.0..9e15).contains(&number);
        Ok(self.here(|| Leaf::Count(number as u64)).filter(|_| is_count))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Leaf>, E> {
        Ok(self.here(|| Leaf::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Leaf>, A::Error> {
        let step = self.0.split_first();
        let mut wanted = step.and_then(|(token, rest)| Some((token.parse::<usize>().ok()?, rest)));
        let mut found = None;
        let mut index = 0;
        loop {
            match wanted.take_if(|(at, _)| *at == index) {
                Some((_, rest)) => match items.next_element_seed(At(rest))? {
                    Some(leaf) => found = leaf,
                    None => return Ok(found),
                },
                None if items.next_element::<IgnoredAny>()?.is_none() => return Ok(found),
                None => {}
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Leaf>, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            match self.0.split_first() {
                Some((token, rest)) if *token == name => found = members.next_value_seed(At(rest))?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}
