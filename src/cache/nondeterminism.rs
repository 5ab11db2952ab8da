//! Requests to a model whose answers are not to be kept: those that change or continue something that the provider
//! keeps, and, where the route says so, those that are meant to be answered differently each time.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::verdict::BypassReason;

/// What counts of a request's body, a JSON object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// `store: true`: the provider keeps the answer, under an id of its own.
    stores: bool,
    /// `previous_response_id`: the answer continues another that the provider keeps.
    continues: bool,
    /// `conversation`: the answer becomes part of a conversation that the provider keeps.
    converses: bool,
    /// `temperature` above 0: the answer is meant to be another each time.
    varies: bool,
}

impl Traits {
    /// Those of a body that has been read.
    pub fn of(document: &Value) -> Self {
        let mut traits = Self::default();
        for (name, value) in document.as_object().into_iter().flatten() {
            traits.note(name, value);
        }
        traits
    }

    /// Those of a body that has no canonical form, such as one with a member that occurs twice: each occurrence
    /// counts, for nobody knows which the origin takes. None of what is no JSON.
    pub fn of_bytes(body: &[u8]) -> Self {
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Self::default();
        }
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Why the request takes no part in the cache. `nondeterministic` says that one whose answer is meant to vary may.
    pub fn bypass(self, nondeterministic: bool) -> Option<BypassReason> {
        let reasons = [
            (self.stores, BypassReason::Store),
            (self.continues, BypassReason::PreviousResponse),
            (self.converses, BypassReason::Conversation),
            (self.varies && !nondeterministic, BypassReason::Temperature),
        ];
        reasons
            .into_iter()
            .find_map(|(holds, reason)| holds.then_some(reason))
    }

    fn note(&mut self, name: &str, value: &Value) {
        match name {
            "store" => self.stores |= *value == Value::Bool(true),
            "previous_response_id" => self.continues |= !value.is_null(),
            "conversation" => self.converses |= !value.is_null(),
            "temperature" => self.varies |= value.as_f64().is_some_and(|temperature| temperature > 0.0),
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Traits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TraitsVisitor)
    }
}

struct TraitsVisitor;

impl<'de> Visitor<'de> for TraitsVisitor {
    type Value = Traits;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Traits, A::Error> {
        let mut traits = Traits::default();
        while let Some(name) = members.next_key::<String>()? {
            if matches!(
                name.as_str(),
                "store" | "previous_response_id" | "conversation" | "temperature"
            ) {
                traits.note(&name, &members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(traits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reasons(body: &str, allow: Option<&str>, bypass: Option<&str>) {
        let document = serde_json::from_str(body).unwrap();
        for traits in [Traits::of(&document), Traits::of_bytes(body.as_bytes())] {
            let name = |nondeterministic| traits.bypass(nondeterministic).map(BypassReason::as_str);
            assert_eq!((name(true), name(false)), (allow, bypass), "{body}");
        }
    }

    #[test]
    fn what_the_provider_keeps_is_not_cached() {
        for (body, reason) in [
            (r#"{"store":true}"#, "store"),
            (r#"{"previous_response_id":"resp_1"}"#, "previous-response"),
            (r#"{"conversation":{"id":"c"}}"#, "conversation"),
            (r#"{"temperature":0.7,"store":true}"#, "store"),
        ] {
            reasons(body, Some(reason), Some(reason));
        }
    }

    #[test]
    fn a_temperature_counts_where_the_route_says_so() {
        for body in [
            r#"{"temperature":0.7}"#,
            r#"{"temperature":2}"#,
            r#"{"temperature":1e-9}"#,
        ] {
            reasons(body, None, Some("temperature"));
        }
    }

    #[test]
    fn everything_else_is_cached() {
        for body in [
            "{}",
            r#"{"store":false,"previous_response_id":null,"conversation":null,"temperature":0}"#,
            r#"{"store":"true","temperature":"hot"}"#,
            r#"{"temperature":-0.0,"metadata":{"store":true}}"#,
            r#"[{"store":true}]"#,
            "true",
        ] {
            reasons(body, None, None);
        }
    }

    #[test]
    fn of_a_member_that_occurs_twice_each_counts() {
        let bypass = |body: &str| Traits::of_bytes(body.as_bytes()).bypass(true);
        assert_eq!(
            bypass(r#"{"store":true,"store":false}"#),
            Some(BypassReason::Store)
        );
        assert_eq!(
            bypass(r#"{"store":false,"store":true}"#),
            Some(BypassReason::Store)
        );
        for nothing in ["", "{", r#"{"store":true"#, "\u{0}", r#" "store" "#] {
            assert_eq!(bypass(nothing), None, "{nothing}");
        }
    }
}
