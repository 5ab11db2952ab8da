//! The cache key: length-framed parts, digested with BLAKE3.
//!
//! Two requests have equal keys if and only if every part is equal, because each part is framed by its length. An
//! entry keeps the framed bytes and compares them, so that two keys with one digest are a miss, not a mix-up.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header};

use super::digest::KeyDigest;
use super::frame::{length, read_frame, write_frame, write_optional};
pub use super::partition::Partition;
use super::search::SearchRule;
use super::{query, vary};
use crate::config::{Route, RouteCache};

/// Version of the layout below: another version never finds an entry of this one.
const VERSION: u8 = 1;

/// Version and fingerprint, which have a fixed length.
const PREFIX: usize = 1 + 16;

/// What makes two requests different, before the principal.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The route.
    pub route: &'a Route,
    /// The method; GET and HEAD are one class.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port: lower case, without a default port.
    pub authority: &'a str,
    /// The path, byte for byte: what the origin makes of dot segments and percent-encodings is its own affair.
    pub path: &'a str,
    /// The query without the question mark.
    pub query: Option<&'a str>,
    /// The request's header fields.
    pub headers: &'a HeaderMap,
    /// Digest of the body where the route says that it counts.
    pub body: Option<[u8; 32]>,
}

/// The key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The shared part, then the partition.
    bytes: Vec<u8>,
    /// Length of the shared part.
    shared: usize,
    primary: KeyDigest,
    public: Option<KeyDigest>,
}

impl Key {
    /// Builds the key. `partition` and `also_public` are what [`partition`](super::partition::partition) says.
    pub fn build(parts: &KeyParts<'_>, partition: Partition, also_public: bool) -> Self {
        let mut bytes = Vec::with_capacity(192 + parts.path.len() + parts.query.map_or(0, str::len));
        write_shared(parts, &mut bytes);
        let shared = bytes.len();
        let Some((kind, whose)) = kind_and_digest(&partition) else {
            let (primary, public) = (digest(&bytes), None);
            return Self {
                bytes,
                shared,
                primary,
                public,
            };
        };
        let public = also_public.then(|| digest(&bytes));
        bytes.push(kind);
        let primary = match &public {
            // What has been digested once is not digested again.
            Some(public) => digest_of(whose, &with_kind(public, kind)),
            None => digest_of(whose, &bytes),
        };
        bytes.extend_from_slice(whose);
        Self {
            bytes,
            shared,
            primary,
            public,
        }
    }

    /// Where the request's own entries live.
    pub fn primary(&self) -> &KeyDigest {
        &self.primary
    }

    /// The key without the partition, when there is one and the route lets its principals share: what lives there
    /// answered a request without credentials, or is explicitly public (RFC 9111, section 3.5).
    pub fn public(&self) -> Option<&KeyDigest> {
        self.public.as_ref()
    }

    /// The bytes behind the digest: of [`Key::public`] if `public`, else of [`Key::primary`].
    pub fn full(&self, public: bool) -> &[u8] {
        let length = if public { self.shared } else { self.bytes.len() };
        &self.bytes[..length]
    }

    /// The digest under which what has these [full bytes](Key::full) is kept, if they are this key's.
    pub fn home(&self, full: &[u8]) -> Option<&KeyDigest> {
        if full == self.full(false) {
            return Some(&self.primary);
        }
        self.public.as_ref().filter(|_| full == self.full(true))
    }

    /// Where the part of the response is kept that a request for a range fetched: under a key of its own, so that no
    /// lookup can take it for the response.
    pub fn of_part(&self) -> Self {
        self.with_suffix(&[SUFFIX_PART])
    }

    /// The key that requests share which fetch the same range.
    pub fn of_range(&self, headers: &HeaderMap) -> Self {
        let mut suffix = vec![SUFFIX_RANGE];
        for name in [header::RANGE, header::IF_RANGE] {
            write_frame(
                &mut suffix,
                headers.get(name).map_or(&[], |value| value.as_bytes()),
            );
        }
        self.with_suffix(&suffix)
    }

    /// The key that requests share which ask for the head alone.
    pub fn of_head(&self) -> Self {
        self.with_suffix(&[SUFFIX_HEAD])
    }

    /// Where a response with this rule for queries is kept: the key with the query as the rule leaves it.
    pub fn under(&self, rule: &SearchRule) -> Option<Self> {
        let mut rest = self.bytes.get(PREFIX..)?;
        for _ in ["route", "method", "scheme", "authority", "path"] {
            read_frame(&mut rest)?;
        }
        let query_at = self.bytes.len() - rest.len();
        let (tag, mut after) = rest.split_first()?;
        let query = match *tag {
            QUERY => std::str::from_utf8(read_frame(&mut after)?).ok()?,
            _ => "",
        };
        let rest_at = self.bytes.len() - after.len();
        let mut bytes = self.bytes[..query_at].to_vec();
        bytes.push(QUERY_BY_RULE);
        write_frame(&mut bytes, rule.normalised(query).as_bytes());
        rule.write(&mut bytes);
        let shared = bytes.len() + self.shared.checked_sub(rest_at)?;
        bytes.extend_from_slice(&self.bytes[rest_at..]);
        Some(Self {
            primary: digest(&bytes),
            public: self.public.map(|_| digest(&bytes[..shared])),
            shared,
            bytes,
        })
    }

    fn with_suffix(&self, suffix: &[u8]) -> Self {
        let bytes = [&self.bytes, suffix].concat();
        Self {
            primary: digest(&bytes),
            public: None,
            shared: self.shared,
            bytes,
        }
    }

    /// `route:METHOD host/path?query`, for people and for purges by glob. HEAD is told as GET, and the query holds
    /// what counts of it.
    pub fn label(&self) -> String {
        label(&self.bytes).unwrap_or_default()
    }
}

/// The parts of a key that people can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable<'a> {
    /// The route's name.
    pub route: Cow<'a, str>,
    /// The method; HEAD is told as GET.
    pub method: Cow<'a, str>,
    /// `http` or `https`.
    pub scheme: Cow<'a, str>,
    /// Host and port.
    pub authority: Cow<'a, str>,
    /// The path.
    pub path: Cow<'a, str>,
    /// What counts of the query.
    pub query: Option<Cow<'a, str>>,
}

/// The readable parts of the key that has these [full bytes](Key::full); none if they are not a key's.
pub fn readable(full: &[u8]) -> Option<Readable<'_>> {
    let mut rest = full.get(PREFIX..)?;
    let mut text = || read_frame(&mut rest).map(String::from_utf8_lossy);
    let (route, method, scheme, authority, path) = (text()?, text()?, text()?, text()?, text()?);
    let (tag, mut after) = rest.split_first()?;
    let query = match *tag {
        QUERY => Some(String::from_utf8_lossy(read_frame(&mut after)?)),
        QUERY_BY_RULE => {
            Some(String::from_utf8_lossy(read_frame(&mut after)?)).filter(|query| !query.is_empty())
        }
        _ => None,
    };
    Some(Readable {
        route,
        method,
        scheme,
        authority,
        path,
        query,
    })
}

/// The [label](Key::label) of the key that has these [full bytes](Key::full); none if they are not a key's.
pub fn label(full: &[u8]) -> Option<String> {
    let Readable {
        route,
        method,
        authority,
        path,
        query,
        ..
    } = readable(full)?;
    let mut label = format!("{route}:{method} {authority}{path}");
    if let Some(query) = query {
        label.push('?');
        label.push_str(&query);
    }
    Some(label)
}

/// The request fields that are part of the key: those that the route names, those by which a request claims another
/// target, and the coding of a body that counts.
pub fn counted_fields(rules: &RouteCache, headers: &HeaderMap, with_body: bool) -> Vec<HeaderName> {
    let mut names = rules.vary.headers.clone();
    let overrides = headers.keys().filter(|name| is_override(name.as_str()));
    names.extend(overrides.cloned());
    names.extend(with_body.then_some(header::CONTENT_ENCODING));
    names
}

/// Everything but the partition. The order is read back by [`label`].
fn write_shared(parts: &KeyParts<'_>, out: &mut Vec<u8>) {
    let rules = parts.route.cache.as_ref().map(|cache| &cache.vary);
    out.push(VERSION);
    out.extend_from_slice(&parts.route.fingerprint);
    write_frame(out, parts.route.name.as_bytes());
    let method = if *parts.method == Method::HEAD {
        &Method::GET
    } else {
        parts.method
    };
    write_frame(out, method.as_str().as_bytes());
    write_frame(out, parts.scheme.as_bytes());
    write_frame(out, parts.authority.as_bytes());
    write_frame(out, parts.path.as_bytes());
    write_optional(out, |out| match (parts.query, rules) {
        (Some(query), Some(rules)) => query::write_normalised(&rules.query, query, out),
        (Some(query), None) => {
            out.extend_from_slice(query.as_bytes());
            true
        }
        (None, _) => false,
    });
    let names = rules.map_or(&[][..], |rules| &rules.headers);
    out.extend_from_slice(&length(names.len()));
    for name in names {
        write_optional(out, |out| vary::write_normalised(name, parts.headers, out));
    }
    write_overrides(parts.headers, out);
    write_optional(out, |out| {
        out.extend_from_slice(parts.body.as_ref().map_or(&[], |digest| &digest[..]));
        parts.body.is_some()
    });
    // The same octets in another coding are another body.
    if parts.body.is_some() {
        write_optional(out, |out| {
            vary::write_normalised(&header::CONTENT_ENCODING, parts.headers, out)
        });
    }
}

/// Fields by which frameworks let a request claim another method or target, or a trusted peer another base for links.
/// An origin that believes them answers something else, so they are always part of the key. So is `Last-Event-ID`, by
/// which a client of an event stream asks for the rest of it.
fn write_overrides(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        let name = name.as_str();
        if is_override(name) {
            out.push(1);
            write_frame(out, name.as_bytes());
            write_frame(out, value.as_bytes());
        }
    }
    out.push(0);
}

fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-url"
            | "x-rewrite-url"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "last-event-id"
    )
}

/// The partition as the key holds it.
fn kind_and_digest(partition: &Partition) -> Option<(u8, &[u8; 32])> {
    match partition {
        Partition::None => None,
        Partition::Principal(digest) => Some((PRINCIPAL, digest)),
        Partition::Tenant(digest) => Some((TENANT, digest)),
    }
}

/// What stands in front of a query: it is as the route leaves it, or as a rule of the response does.
const QUERY: u8 = 1;
const QUERY_BY_RULE: u8 = 2;

/// What may stand behind the shared part: all different, so that no key is another's beginning and then something.
const PRINCIPAL: u8 = 1;
const TENANT: u8 = 2;
const SUFFIX_PART: u8 = 3;
const SUFFIX_RANGE: u8 = 4;
const SUFFIX_HEAD: u8 = 5;

/// The digest of a key's full bytes.
fn digest(bytes: &[u8]) -> KeyDigest {
    KeyDigest(*blake3::hash(bytes).as_bytes())
}

fn with_kind(digest: &KeyDigest, kind: u8) -> [u8; 33] {
    let mut bytes = [kind; 33];
    bytes[..32].copy_from_slice(&digest.0);
    bytes
}

/// The digest in one partition. A digest is as good a key of the hash as any, and costs no block of its input.
fn digest_of(whose: &[u8; 32], bytes: &[u8]) -> KeyDigest {
    KeyDigest(*blake3::keyed_hash(whose, bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::fixture::{headers, route, rules};

    fn parts<'a>(route: &'a Route, method: &'a Method, headers: &'a HeaderMap) -> KeyParts<'a> {
        KeyParts {
            route,
            method,
            scheme: "http",
            authority: "hub.local",
            path: "/v1/models",
            query: Some("a=1"),
            headers,
            body: None,
        }
    }

    #[test]
    fn a_partition_moves_the_primary_key_only() {
        let (route, none) = (route(rules()), HeaderMap::new());
        let parts = parts(&route, &Method::GET, &none);
        let anonymous = Key::build(&parts, Partition::None, true);
        let principal = Key::build(&parts, Partition::Principal([1; 32]), true);
        assert_eq!(anonymous.public(), None);
        assert_eq!(principal.public(), Some(anonymous.primary()));
        assert_eq!(principal.full(true), anonymous.full(false));
        assert_ne!(principal.primary(), anonymous.primary());
        assert_ne!(principal.full(false), principal.full(true));
        assert_eq!(
            Key::build(&parts, Partition::Principal([1; 32]), false).public(),
            None
        );
        for also_public in [false, true] {
            let key = |partition| *Key::build(&parts, partition, also_public).primary();
            let principal = key(Partition::Principal([1; 32]));
            assert_ne!(principal, key(Partition::Tenant([1; 32])));
            assert_ne!(principal, key(Partition::Principal([2; 32])));
        }
    }

    #[test]
    fn parts_ranges_and_heads_have_keys_of_their_own() {
        let (route, none) = (route(rules()), HeaderMap::new());
        let parts = parts(&route, &Method::GET, &none);
        for partition in [Partition::None, Partition::Principal([1; 32])] {
            let key = Key::build(&parts, partition, true);
            let range = |text: &str, condition: &str| {
                key.of_range(&headers(&[("range", text), ("if-range", condition)]))
            };
            let all = [
                key.clone(),
                key.of_part(),
                key.of_head(),
                range("bytes=0-1", "\"a\""),
                range("bytes=0-2", "\"a\""),
                range("bytes=0-1", "\"b\""),
            ];
            for (at, one) in all.iter().enumerate() {
                assert_eq!(one.label(), key.label());
                for other in &all[at + 1..] {
                    assert_ne!(one.primary(), other.primary());
                    assert_ne!(one.full(false), other.full(false));
                }
            }
            assert_eq!(key.of_part().public(), None, "a part is for whom it was fetched");
        }
    }

    #[test]
    fn under_a_rule_equivalent_queries_have_one_key() {
        let (route, none) = (route(rules()), HeaderMap::new());
        let rule = |text: &str| SearchRule::of(&headers(&[("no-vary-search", text)])).unwrap();
        let key = |query, principal: u8| {
            let parts = KeyParts {
                query,
                ..parts(&route, &Method::GET, &none)
            };
            Key::build(&parts, Partition::Principal([principal; 32]), true)
        };
        let utm = rule("params=(\"utm\")");
        let under = |query, principal| key(query, principal).under(&utm).unwrap();
        assert_eq!(under(Some("a=1&utm=2"), 1), under(Some("utm=3&a=1"), 1));
        assert_eq!(under(Some("utm=3"), 1), under(None, 1));
        assert_ne!(under(Some("a=1"), 1).primary(), under(Some("a=2"), 1).primary());
        assert_ne!(under(Some("a=1"), 1).primary(), key(Some("a=1"), 1).primary());
        assert_ne!(under(Some("a=1"), 1).primary(), under(Some("a=1"), 2).primary());
        assert_eq!(under(Some("a=1"), 1).public(), under(Some("a=1"), 2).public());
        let other = key(Some("a=1"), 1).under(&rule("key-order")).unwrap();
        assert_ne!(under(Some("a=1"), 1).primary(), other.primary());
        assert!(under(Some("a=1&utm=2"), 1).label().ends_with("/v1/models?a=1"));
        assert!(under(Some("utm=2"), 1).label().ends_with("/v1/models"));
    }

    #[test]
    fn get_and_head_share_a_key_and_every_other_part_counts() {
        let (route, none) = (route(rules()), HeaderMap::new());
        let base = parts(&route, &Method::GET, &none);
        let key = |parts: &KeyParts<'_>| *Key::build(parts, Partition::None, false).primary();
        let head = KeyParts {
            method: &Method::HEAD,
            ..base
        };
        assert_eq!(key(&base), key(&head));
        let mut other_route = route.clone();
        other_route.fingerprint = [8; 16];
        let overridden = headers(&[("x-http-method-override", "DELETE")]);
        let others = [
            KeyParts {
                method: &Method::POST,
                ..base
            },
            KeyParts {
                scheme: "https",
                ..base
            },
            KeyParts {
                authority: "hub.local:81",
                ..base
            },
            KeyParts {
                path: "/v1/models/",
                ..base
            },
            KeyParts {
                path: "/v1/%6dodels",
                ..base
            },
            KeyParts { query: None, ..base },
            KeyParts {
                query: Some(""),
                ..base
            },
            KeyParts {
                query: Some("a=1&b"),
                ..base
            },
            KeyParts {
                route: &other_route,
                ..base
            },
            KeyParts {
                headers: &overridden,
                ..base
            },
            KeyParts {
                body: Some([0; 32]),
                ..base
            },
        ];
        let mut seen = vec![key(&base)];
        for parts in &others {
            let found = key(parts);
            assert!(!seen.contains(&found), "{parts:?}");
            seen.push(found);
        }
    }

    #[test]
    fn selected_headers_count_after_normalisation() {
        let mut rules = rules();
        rules.vary.headers = vec![header::ACCEPT_LANGUAGE, HeaderName::from_static("x-tier")];
        let route = route(rules);
        let key = |fields: &[(&str, &str)]| {
            let headers = headers(fields);
            *Key::build(&parts(&route, &Method::GET, &headers), Partition::None, false).primary()
        };
        assert_eq!(
            key(&[("accept-language", "en, de")]),
            key(&[("accept-language", "DE,en")])
        );
        assert_eq!(key(&[("accept", "a")]), key(&[]));
        assert_ne!(key(&[("x-tier", "")]), key(&[]));
        assert_ne!(key(&[("x-tier", "de")]), key(&[("accept-language", "de")]));
    }

    #[test]
    fn the_coding_of_a_keyed_body_counts() {
        let route = route(rules());
        let (plain, coded) = (HeaderMap::new(), headers(&[("content-encoding", "gzip")]));
        let key = |headers, body| {
            let base = parts(&route, &Method::POST, headers);
            *Key::build(&KeyParts { body, ..base }, Partition::None, false).primary()
        };
        assert_ne!(key(&plain, Some([0; 32])), key(&coded, Some([0; 32])));
        assert_eq!(key(&plain, None), key(&coded, None));
    }

    #[test]
    fn labels() {
        let (route, none) = (route(rules()), HeaderMap::new());
        let base = parts(&route, &Method::HEAD, &none);
        let key = Key::build(&base, Partition::Principal([1; 32]), true);
        assert_eq!(key.label(), "models:GET hub.local/v1/models?a=1");
        assert_eq!(
            label(key.full(true)).as_deref(),
            Some("models:GET hub.local/v1/models?a=1")
        );
        let bare = Key::build(&KeyParts { query: None, ..base }, Partition::None, true);
        assert_eq!(bare.label(), "models:GET hub.local/v1/models");
        for cut in 0..60 {
            assert_eq!(label(&key.full(true)[..cut]), None, "{cut}");
        }
    }

    type Sample = (
        String,
        String,
        String,
        Option<String>,
        Option<String>,
        Option<u8>,
        Option<u8>,
    );

    fn sample() -> impl Strategy<Value = Sample> {
        (
            "GET|POST|QUERY",
            "a{0,2}",
            "/[ab]{0,2}",
            proptest::option::of("[ab?]{0,2}"),
            proptest::option::of("[ab]{0,2}"),
            proptest::option::of(0_u8..2),
            proptest::option::of(0_u8..2),
        )
    }

    fn key_of(route: &Route, sample: &Sample) -> Key {
        let (method, authority, path, query, tier, body, principal) = sample;
        let fields: Vec<(&str, &str)> = tier.iter().map(|tier| ("x-tier", tier.as_str())).collect();
        let parts = KeyParts {
            route,
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            scheme: "http",
            authority,
            path,
            query: query.as_deref(),
            headers: &headers(&fields),
            body: body.map(|byte| [byte; 32]),
        };
        let partition = principal.map_or(Partition::None, |byte| Partition::Principal([byte; 32]));
        Key::build(&parts, partition, true)
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_when_all_parts_are(left in sample(), right in sample()) {
            let mut rules = rules();
            rules.vary.headers = vec![HeaderName::from_static("x-tier")];
            let route = route(rules);
            let (first, second) = (key_of(&route, &left), key_of(&route, &right));
            prop_assert_eq!(first.full(false) == second.full(false), left == right);
            prop_assert_eq!(first.primary() == second.primary(), left == right);
        }

        #[test]
        fn any_bytes_have_a_label_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = label(&bytes);
        }
    }
}
