//! What a call asked for, as the log may keep it: without what may be a secret, and of bounded size.
//!
//! What is shown is listed; everything else that is text is left out.

use std::str::FromStr;

use axum::http::HeaderName;
use serde_json::{Map, Value};

use crate::cache::partition::tenant_digest;
use crate::telemetry::mask::{Masking, REDACTED};

/// Fields whose text says what is done and to what.
const SHOWN: [&str; 18] = [
    "all",
    "clear",
    "comment",
    "ends_at",
    "expr",
    "for",
    "host",
    "keys",
    "level",
    "method",
    "mode",
    "name",
    "route",
    "scheme",
    "severity",
    "starts_at",
    "tags",
    "window",
];
/// Fields with a URL or a part of one, whose query is masked as in logs.
const TARGETS: [&str; 5] = ["path", "pattern", "prefix", "url", "urls"];
/// Longest text that is shown, bytes.
const MAX_TEXT: usize = 256;
/// Most elements of a list or an object.
const MAX_ELEMENTS: usize = 32;
/// Deepest nesting.
const MAX_DEPTH: usize = 4;
/// Most values in all.
const MAX_VALUES: usize = 128;

/// Longest description, bytes of JSON.
const MAX_BYTES: usize = 32 * 1024;
/// Longest text of a description that would be longer.
const MAX_SHORT: usize = 64;

/// Describes the query and the body of a call; apart when there are both, so that neither can pass for the other.
pub(super) fn describe(query: Option<&str>, body: &[u8], masking: &Masking) -> Option<Value> {
    let mut of_query = Map::new();
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        of_query.insert(name.to_owned(), Value::String(value.into_owned()));
    }
    let mut of_body = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        _ if body.is_empty() => Map::new(),
        _ => Map::from_iter([("body_bytes".to_owned(), Value::from(body.len()))]),
    };
    // What says nothing takes no place.
    of_body.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => true,
    });
    let mut left = MAX_VALUES;
    let mut show = |fields: &Map<String, Value>| {
        let shown = Shower { masking }.object(fields, 0, &mut left);
        bounded(shown, fields.len())
    };
    match (of_query.is_empty(), of_body.is_empty()) {
        (true, true) => None,
        (false, true) => Some(show(&of_query)),
        (true, false) => Some(show(&of_body)),
        (false, false) => Some(serde_json::json!({"query": show(&of_query), "body": show(&of_body)})),
    }
}

/// Of a description that is too long, what is short.
fn bounded(shown: Value, fields: usize) -> Value {
    if shown.to_string().len() <= MAX_BYTES {
        return shown;
    }
    let Value::Object(mut shown) = shown else {
        return Value::Null;
    };
    shown.retain(|name, value| name.len() <= MAX_SHORT && value.to_string().len() <= MAX_SHORT);
    shown.insert(
        "left_out".to_owned(),
        Value::from(fields.saturating_sub(shown.len())),
    );
    Value::Object(shown)
}

struct Shower<'a> {
    masking: &'a Masking,
}

impl Shower<'_> {
    fn object(&self, fields: &Map<String, Value>, depth: usize, left: &mut usize) -> Value {
        let mut shown = Map::new();
        for (name, value) in fields.iter().take(MAX_ELEMENTS) {
            let value = match name.as_str() {
                "headers" => self.headers(value),
                _ => self.value(name, value, depth + 1, left),
            };
            shown.insert(cut(name), value);
        }
        if fields.len() > MAX_ELEMENTS {
            shown.insert("left_out".to_owned(), Value::from(fields.len() - MAX_ELEMENTS));
        }
        Value::Object(shown)
    }

    fn value(&self, name: &str, value: &Value, depth: usize, left: &mut usize) -> Value {
        let Some(fewer) = left.checked_sub(1).filter(|_| depth <= MAX_DEPTH) else {
            return Value::from(REDACTED);
        };
        *left = fewer;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
            Value::String(text) => Value::String(self.text(name, text)),
            Value::Array(list) => {
                let shown = list.iter().take(MAX_ELEMENTS);
                let mut shown: Vec<Value> = shown
                    .map(|value| self.value(name, value, depth + 1, left))
                    .collect();
                if list.len() > MAX_ELEMENTS {
                    shown.push(Value::String(format!("{} more", list.len() - MAX_ELEMENTS)));
                }
                Value::Array(shown)
            }
            Value::Object(fields) => self.object(fields, depth, left),
        }
    }

    fn text(&self, name: &str, text: &str) -> String {
        if TARGETS.contains(&name) {
            cut(&self.masking.target(text))
        } else if SHOWN.contains(&name) {
            cut(text)
        } else if name == "tenant" {
            // Enough to tell one tenant from another, and to find what is known.
            format!("blake3:{}", hex::encode(tenant_digest(text.as_bytes())))
        } else {
            REDACTED.to_owned()
        }
    }

    /// Names of header fields, and the values that steer the protocol only.
    fn headers(&self, value: &Value) -> Value {
        let Value::Object(fields) = value else {
            return Value::from(REDACTED);
        };
        let shown = fields.iter().take(MAX_ELEMENTS).map(|(name, value)| {
            let plain = HeaderName::from_str(name).is_ok_and(|name| self.masking.shows(&name));
            let value = match value {
                Value::String(value) if plain => cut(value),
                _ => REDACTED.to_owned(),
            };
            (cut(name), Value::String(value))
        });
        Value::Object(shown.collect())
    }
}

/// The beginning of a text.
pub(super) fn cut(text: &str) -> String {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= MAX_TEXT;
    let beginning: String = text
        .char_indices()
        .take_while(fits)
        .map(|(_, letter)| letter)
        .collect();
    if beginning.len() < text.len() {
        beginning + "…"
    } else {
        beginning
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::model::Mask;

    fn described(query: Option<&str>, body: &Value) -> Value {
        let masking = Masking::new(&Mask {
            headers: Vec::new(),
            query: vec!["*".to_owned()],
        });
        describe(query, body.to_string().as_bytes(), &masking).unwrap()
    }

    #[test]
    fn what_is_done_is_shown_and_what_may_be_secret_is_not() {
        let body = json!({
            "urls": ["http://hub.local/a?token=canary"], "mode": "soft", "wait_ms": 5, "tags": [], "tenant": "canary",
            "requests": [{"path": "/b?key=canary", "body": "canary", "headers": {"Accept": "x/y", "x-key": "canary"}}],
            "unheard_of": {"deep": "canary"}, "canary_less": ["canary"],
        });
        let shown = described(Some("pattern=api_*&secret=canary"), &body);
        let mut expected = body.clone();
        expected["urls"] = json!(["http://hub.local/a?token=REDACTED"]);
        expected["requests"][0] = json!({"path": "/b?key=REDACTED", "body": "REDACTED", "headers": {"Accept": "x/y", "x-key": "REDACTED"}});
        expected["unheard_of"]["deep"] = json!("REDACTED");
        expected["canary_less"] = json!(["REDACTED"]);
        expected["tenant"] = json!(format!("blake3:{}", hex::encode(tenant_digest(b"canary"))));
        expected.as_object_mut().unwrap().remove("tags");
        let query = json!({"pattern": "api_*", "secret": "REDACTED"});
        assert_eq!(shown, json!({"query": query, "body": expected}));
    }

    #[test]
    fn however_much_is_asked_for_little_is_kept() {
        let many: Vec<String> = (0..1_000).map(|n| format!("{n}{}", "x".repeat(8_000))).collect();
        let mut deep = json!("x");
        for _ in 0..100 {
            deep = json!({"name": deep, "tags": [1, 2, 3]});
        }
        let shown = described(
            None,
            &json!({"urls": many, "keys": many, "tags": many, "requests": vec![deep; 200]}),
        );
        assert_eq!(shown["urls"][32], "968 more");
        let noise = "\u{1}".repeat(256);
        let noisy: Map<String, Value> = (0..32).map(|n| (format!("{n}{noise}"), json!(n))).collect();
        let shown_noise = described(
            None,
            &json!({"all": true, "keys": vec![noise; 32], "requests": vec![noisy; 32]}),
        );
        assert_eq!(shown_noise, json!({"all": true, "left_out": 2}));
        for shown in [shown, shown_noise] {
            assert!(
                shown.to_string().len() <= MAX_BYTES,
                "{}",
                shown.to_string().len()
            );
        }
    }
}
