//! The digest of a request body: equal for JSON documents that mean the same (RFC 8785).

use std::fmt;

use http::HeaderValue;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::frame::write_frame;
use super::nondeterminism::Traits;

/// The greatest whole number that every JSON implementation reads exactly (RFC 8785, section 3.2.2.3): 2^53 - 1.
const GREATEST_EXACT: u64 = (1 << 53) - 1;

/// What a request body says, for the key and for the decision whether the cache takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its digest.
    pub digest: [u8; 32],
    /// What speaks against keeping the answer.
    pub traits: Traits,
}

/// Reads `body`.
///
/// JSON counts by its canonical form without the members that the JSON pointers (RFC 6901) in `ignore` name. Where
/// two documents could mean different things and still look alike - duplicate members, numbers beyond 2^53, invalid
/// UTF-8, nesting beyond 128 levels - and for every other type, the bytes and the whole content type count.
pub fn read(content_type: Option<&HeaderValue>, body: &[u8], ignore: &[String]) -> Reading {
    let content_type = content_type.map_or(&b""[..], HeaderValue::as_bytes);
    let kind = json_type(content_type);
    let document = kind.as_ref().and_then(|_| exact(body));
    // What is ignored for the key is still asked of the origin, so it is read before that is taken out.
    let traits = match &document {
        Some(document) => Traits::of(document),
        None => Traits::of_bytes(body),
    };
    let json = document.and_then(|document| canonical(document, ignore));
    let mut identity;
    match kind.zip(json) {
        Some((kind, json)) => {
            identity = Vec::with_capacity(json.len() + kind.len() + 16);
            identity.push(b'j');
            write_frame(&mut identity, kind.as_bytes());
            write_frame(&mut identity, &json);
        }
        None => {
            identity = Vec::with_capacity(body.len() + content_type.len() + 16);
            identity.push(b'b');
            write_frame(&mut identity, content_type);
            write_frame(&mut identity, body);
        }
    }
    Reading {
        digest: *blake3::hash(&identity).as_bytes(),
        traits,
    }
}

/// Whether a body of this type is JSON.
pub(super) fn is_json(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|value| json_type(value.as_bytes()).is_some())
}

/// The media type in lower case if it is JSON, with its parameters unless they say UTF-8, which JSON always is.
fn json_type(content_type: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let mut kind = essence.trim().to_ascii_lowercase();
    if kind != "application/json" && !kind.ends_with("+json") {
        return None;
    }
    let parameters = parameters.trim();
    if !parameters.is_empty() && !parameters.eq_ignore_ascii_case("charset=utf-8") {
        kind.push(';');
        kind.push_str(parameters);
    }
    Some(kind)
}

/// The document, if every reader understands it in the same way.
fn exact(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().map(|Exact(document)| document)
}

/// The canonical form of what is left of a document.
fn canonical(mut document: Value, ignore: &[String]) -> Option<Vec<u8>> {
    for pointer in ignore {
        remove(&mut document, pointer);
    }
    serde_json_canonicalizer::to_vec(&document).ok()
}

/// Removes what the JSON pointer names, if it is there. The document as a whole cannot be removed.
fn remove(document: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.swap_remove(&name);
        }
        Some(Value::Array(items)) => {
            if let Some(at) = name.parse().ok().filter(|at| *at < items.len()) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// A JSON value that every reader understands in the same way (I-JSON, RFC 7493).
struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExactVisitor)
    }
}

struct ExactVisitor;

impl<'de> Visitor<'de> for ExactVisitor {
    type Value = Exact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value that is read in one way only")
    }

    fn visit_unit<E: Error>(self) -> Result<Exact, E> {
        Ok(Exact(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Exact, E> {
        Ok(Exact(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Exact, E> {
        if value.unsigned_abs() > GREATEST_EXACT {
            return Err(E::custom("whole number beyond 2^53"));
        }
        Ok(Exact(Value::from(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Exact, E> {
        if value > GREATEST_EXACT {
            return Err(E::custom("whole number beyond 2^53"));
        }
        Ok(Exact(Value::from(value)))
    }

    /// A whole number beyond 64 bits arrives here too, so the bound is the same.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Exact, E> {
        if value.abs() > GREATEST_EXACT as f64 {
            return Err(E::custom("number beyond 2^53"));
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a number"))?;
        Ok(Exact(Value::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Exact, E> {
        Ok(Exact(Value::String(value.to_owned())))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Exact, E> {
        Ok(Exact(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Exact, A::Error> {
        let mut array = Vec::new();
        while let Some(Exact(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Exact(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Exact, A::Error> {
        let mut object = Map::new();
        while let Some((name, Exact(value))) = members.next_entry::<String, Exact>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Exact(Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical_json(body: &[u8]) -> Option<Vec<u8>> {
        canonical(exact(body)?, &[])
    }

    fn json(body: &str, ignore: &[&str]) -> [u8; 32] {
        let ignore: Vec<String> = ignore.iter().map(|pointer| (*pointer).to_owned()).collect();
        let kind = HeaderValue::from_static("application/json");
        read(Some(&kind), body.as_bytes(), &ignore).digest
    }

    fn bytes(kind: &'static str, body: &[u8]) -> [u8; 32] {
        let kind = HeaderValue::from_static(kind);
        read(Some(&kind), body, &[]).digest
    }

    #[test]
    fn canonical_forms() {
        // RFC 8785, section 3.2 and appendix B.
        let table = [
            (
                r#"{"numbers":[333333333.33333329,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
                r#"{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#,
            ),
            (
                "{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}",
                "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}",
            ),
            ("[ -0, 0.0, 1.0, 1E+2, 1 ]", "[0,0,1,100,1]"),
            (
                "[9007199254740991, -9007199254740991]",
                "[9007199254740991,-9007199254740991]",
            ),
        ];
        for (body, expected) in table {
            let found = canonical_json(body.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }

    #[test]
    fn the_digest_of_a_known_document_never_changes() {
        // A change here makes every stored body-keyed entry unreachable.
        let found = json(r#"{"b":[1,2.50],"a":"x"}"#, &[]);
        let identity = b"j\x10\0\0\0application/json\x15\0\0\0{\"a\":\"x\",\"b\":[1,2.5]}";
        assert_eq!(found, *blake3::hash(identity).as_bytes());
        let found = bytes("text/plain", b"x");
        assert_eq!(
            found,
            *blake3::hash(b"b\x0a\0\0\0text/plain\x01\0\0\0x").as_bytes()
        );
    }

    /// One case of `tests/cases/body_digests.json`.
    #[derive(serde::Deserialize)]
    struct Case {
        why: String,
        content_type: Option<String>,
        #[serde(default)]
        ignore: Vec<String>,
        body: Option<String>,
        /// In place of `body`, for what is no text.
        hex: Option<String>,
        digest: String,
    }

    /// Made by an implementation of its own: a change here makes every stored body-keyed entry unreachable.
    #[test]
    fn golden_digests() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/cases/body_digests.json")).unwrap();
        assert!(cases.len() >= 20, "{}", cases.len());
        for case in cases {
            let kind = case
                .content_type
                .map(|kind| HeaderValue::from_str(&kind).unwrap());
            let body = match (case.body, case.hex) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(digits)) => hex::decode(digits).unwrap(),
                _ => panic!("{}: one of `body` and `hex`", case.why),
            };
            let found = hex::encode(read(kind.as_ref(), &body, &case.ignore).digest);
            assert_eq!(found, case.digest, "{}", case.why);
        }
    }

    #[test]
    fn what_is_ignored_still_speaks_against_keeping() {
        let kind = HeaderValue::from_static("application/json");
        let ignore = ["/store".to_owned()];
        for body in [
            r#"{"store":true}"#,
            r#"{"store":true,"n":9007199254740993}"#,
            r#"{"store":1,"store":true}"#,
        ] {
            for kind in [Some(&kind), None] {
                assert!(
                    read(kind, body.as_bytes(), &ignore).traits.bypass(true).is_some(),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn documents_that_mean_the_same_are_one() {
        assert_eq!(
            json(r#"{"a":1,"b":[1,2]}"#, &[]),
            json(" {\"b\": [1, 2.0], \"a\": 1e0}\n", &[])
        );
        assert_ne!(json("[1,2]", &[]), json("[2,1]", &[]));
        assert_ne!(json(r#"{"a":null}"#, &[]), json("{}", &[]));
        assert_ne!(json(r#"{"a":"1"}"#, &[]), json(r#"{"a":1}"#, &[]));
    }

    #[test]
    fn ignored_pointers() {
        let ignore = ["/user", "/a~1b/c~0d", "/list/1", "/missing/x", "", "nonsense"];
        let full = r#"{"user":"u","a/b":{"c~d":1,"e":2},"list":[1,2,3],"kept":true}"#;
        let rest = r#"{"a/b":{"e":2},"list":[1,3],"kept":true}"#;
        assert_eq!(json(full, &ignore), json(rest, &[]));
        assert_ne!(json(full, &[]), json(rest, &[]));
        assert_eq!(json("[1]", &["/5", "/x"]), json("[1]", &[]));
    }

    #[test]
    fn what_has_two_readings_counts_by_its_bytes() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for body in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":1}}"#,
            "9007199254740992",
            "-9007199254740992",
            "123456789012345678901234567890",
            "1e300",
            r#""\ud800""#,
            "{",
            "1 2",
            "",
            &deep,
        ] {
            assert_eq!(canonical_json(body.as_bytes()), None, "{body}");
            assert_ne!(json(body, &[]), json(&format!("{body} "), &[]), "{body}");
            assert_eq!(json(body, &[]), json(body, &["/a"]), "{body}");
        }
        assert_eq!(canonical_json(b"\"\xff\""), None);
    }

    #[test]
    fn content_types() {
        let body = br#"{"b":1,"a":2}"#;
        let sorted = br#"{"a":2,"b":1}"#;
        let plain = bytes("application/json", body);
        assert_eq!(plain, bytes("Application/JSON; charset=UTF-8", sorted));
        assert_ne!(plain, bytes("application/vnd.x+json", sorted));
        assert_eq!(
            bytes("application/vnd.x+json", body),
            bytes("application/vnd.x+json", sorted)
        );
        assert_ne!(
            bytes("application/ld+json; profile=a", body),
            bytes("application/ld+json; profile=b", body)
        );
        assert_ne!(bytes("text/plain", body), bytes("text/plain", sorted));
        assert_ne!(bytes("text/plain", body), bytes("text/html", body));
        assert_ne!(read(None, body, &[]).digest, plain);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-1_000_000_i64..1_000_000).prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same document with the members of every object the other way round.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .rev()
                    .map(|(name, value)| (name.clone(), reversed(value)))
                    .collect(),
            ),
            Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn the_order_of_members_and_white_space_do_not_count(value in value()) {
            let compact = json(&value.to_string(), &[]);
            let pretty = json(&serde_json::to_string_pretty(&reversed(&value)).unwrap(), &[]);
            prop_assert_eq!(compact, pretty);
        }

        #[test]
        fn different_documents_have_different_digests(left in value(), right in value()) {
            let same = json(&left.to_string(), &[]) == json(&right.to_string(), &[]);
            prop_assert_eq!(same, left == right);
        }

        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = bytes("application/json", &body);
        }
    }
}
