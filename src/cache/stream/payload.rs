//! What counts of the JSON in an event, read without building it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The types of events that decide something: the values of `type`, which are the names of the events as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any other, or none.
    #[default]
    Other,
    /// `error`: in-band in every API.
    Error,
    /// `message_stop`: the end, in Anthropic's API.
    MessageStop,
    /// `response.completed`: the end, in OpenAI's responses API.
    Completed,
    /// `response.failed`: its end with an error.
    Failed,
    /// `response.incomplete`: its end before the answer was whole.
    Incomplete,
}

impl Kind {
    /// The kind of this name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"error" => Self::Error,
            b"message_stop" => Self::MessageStop,
            b"response.completed" => Self::Completed,
            b"response.failed" => Self::Failed,
            b"response.incomplete" => Self::Incomplete,
            _ => Self::Other,
        }
    }
}

/// What counts of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Its `type`.
    pub kind: Kind,
    /// It has an `error` that is not null.
    pub error: bool,
}

impl Payload {
    /// Reads the data of an event; nothing counts of what is no JSON object.
    pub fn of(data: &[u8]) -> Self {
        if data.trim_ascii_start().first() != Some(&b'{') {
            return Self::default();
        }
        serde_json::from_slice(data).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PayloadVisitor)
    }
}

/// The members that are looked at.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    Type,
    Error,
    #[serde(other)]
    Other,
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    /// Of members that occur twice, an error counts wherever it stands.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Payload, A::Error> {
        let mut payload = Payload::default();
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Type => payload.kind = members.next_value::<KindText>()?.0,
                Member::Error => payload.error |= members.next_value::<Option<IgnoredAny>>()?.is_some(),
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(payload)
    }
}

/// A `type`, whatever it is.
struct KindText(Kind);

impl<'de> Deserialize<'de> for KindText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|value| match value {
            serde_json::Value::String(text) => Self(Kind::of(text.as_bytes())),
            _ => Self(Kind::Other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_error_of_an_object_count() {
        let of = |text: &str| {
            let payload = Payload::of(text.as_bytes());
            (payload.kind, payload.error)
        };
        assert_eq!(of(r#"{"type":"message_stop"}"#), (Kind::MessageStop, false));
        assert_eq!(of(r#" {"x":[1,{"error":1}],"error":null}"#), (Kind::Other, false));
        assert_eq!(of(r#"{"error":{"message":"no"}}"#), (Kind::Other, true));
        assert_eq!(of(r#"{"error":false}"#), (Kind::Other, true));
        assert_eq!(of(r#"{"error":1,"error":null}"#), (Kind::Other, true));
        assert_eq!(of(r#"{"type":7,"error":"x"}"#), (Kind::Other, true));
        for nothing in [
            "",
            "[DONE]",
            "7",
            "{",
            r#"[{"error":1}]"#,
            r#"{"type":"error"} x"#,
            "{\"error\":\"\u{0}",
        ] {
            assert_eq!(of(nothing), (Kind::Other, false), "{nothing}");
        }
    }
}
