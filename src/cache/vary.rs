//! `Vary`: the request fields a response was chosen by (RFC 9111, section 4.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::entry::heap_bytes;
use super::list::{Quotes, members};
use super::number::{read_bytes, read_number, write_bytes, write_number};

/// Most nominated names that are read from a level below memory: a name takes more room in memory than there.
const MAX_READ: u64 = 1024;

/// A field value as it was sent.
type Value = Box<[u8]>;

/// The request fields that `Vary` nominates, with the values of the request that fetched the response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominated {
    /// Sorted by name; lines of one field joined; none for a field that the request did not have.
    fields: Box<[(HeaderName, Option<Value>)]>,
    /// `Content-Language`, when `Vary` nominates `Accept-Language`.
    language: Option<Value>,
}

impl Nominated {
    /// What the response nominates; none if no request can ever match it (`*`, or a name that is none).
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Option<Self> {
        let mut names = names(response)?;
        names.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
        names.dedup();
        let language = names
            .contains(&header::ACCEPT_LANGUAGE)
            .then(|| joined(response, &header::CONTENT_LANGUAGE))
            .flatten();
        let fields = names
            .into_iter()
            .map(|name| {
                let value = joined(request, &name);
                (name, value)
            })
            .collect();
        Some(Self { fields, language })
    }

    /// Whether there is no nominated field: every request matches.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The nominated names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|(name, _)| name)
    }

    /// Whether the response was chosen by the values that `request` has.
    ///
    /// Values match as bytes or after [normalisation](write_normalised). `Accept-Language` matches as well when
    /// the language the request prefers to all others is the one the response is in.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|(name, stored)| {
            let mut lines = request.get_all(name).into_iter();
            match (stored, lines.next(), lines.next()) {
                (None, None, _) => true,
                (None, Some(_), _) | (Some(_), None, _) => false,
                (Some(stored), Some(line), None) if line.as_bytes() == stored.as_ref() => true,
                (Some(stored), Some(_), _) => self.matches_normalised(name, stored, request),
            }
        })
    }

    /// Bytes on the heap, rounded up as the allocator does.
    pub fn heap_bytes(&self) -> usize {
        let bytes = |value: &Option<Box<[u8]>>| value.as_deref().map_or(0, |value| heap_bytes(value.len()));
        // A name that is not a well-known one has an allocation of its own; counting every name is simpler and errs
        // on the safe side.
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| heap_bytes(name.as_str().len()) + bytes(value));
        heap_bytes(size_of_val(&*self.fields)) + fields.sum::<usize>() + bytes(&self.language)
    }

    /// Appends everything, for the levels below memory.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_number(self.fields.len() as u64, out);
        for (name, value) in &self.fields {
            write_bytes(name.as_str().as_bytes(), out);
            write_value(value.as_deref(), out);
        }
        write_value(self.language.as_deref(), out);
    }

    /// Takes off `rest` what [`Nominated::write`] wrote; none if it did not.
    pub(super) fn read(rest: &mut &[u8]) -> Option<Self> {
        let count = read_number(rest).filter(|count| *count <= MAX_READ)?;
        let mut fields: Vec<(HeaderName, Option<Value>)> = Vec::new();
        for _ in 0..count {
            let written = read_bytes(rest)?;
            let name = HeaderName::from_bytes(written).ok()?;
            let in_order = fields
                .last()
                .is_none_or(|(last, _)| last.as_str() < name.as_str());
            if !in_order || name.as_str().as_bytes() != written {
                return None;
            }
            fields.push((name, read_value(rest)?));
        }
        Some(Self {
            fields: fields.into(),
            language: read_value(rest)?,
        })
    }

    fn matches_normalised(&self, name: &HeaderName, stored: &[u8], request: &HeaderMap) -> bool {
        let mut ours = Vec::with_capacity(stored.len());
        normalise(name, [stored].into_iter(), &mut ours);
        let mut theirs = Vec::with_capacity(stored.len());
        write_normalised(name, request, &mut theirs);
        let chosen = || match &self.language {
            Some(language) if *name == header::ACCEPT_LANGUAGE => {
                preferred(&theirs).is_some_and(|tag| tag.eq_ignore_ascii_case(language))
            }
            _ => false,
        };
        ours == theirs || chosen()
    }
}

fn write_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write_bytes(value, out);
    }
}

#[expect(
    clippy::option_option,
    reason = "the outer one tells whether it could be read, the inner one is the value"
)]
fn read_value(rest: &mut &[u8]) -> Option<Option<Value>> {
    let (mark, after) = rest.split_first()?;
    *rest = after;
    match mark {
        0 => Some(None),
        1 => Some(Some(read_bytes(rest)?.into())),
        _ => None,
    }
}

/// Fields that the proxy writes anew for every request: what they select is for one client alone, and the client's
/// own request does not tell what the origin was sent.
static OURS: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("traceparent"),
];

/// Whether the response forbids reuse by `Vary`: `*`, a member that is no field name, or a field that the proxy
/// writes itself.
pub fn is_star(response: &HeaderMap) -> bool {
    names(response).is_none_or(|names| names.iter().any(|name| OURS.contains(name)))
}

/// Appends the value of `name` to `out` in a form that equal requests share; false when the field is absent.
///
/// Lines are joined and white space around commas is dropped, as RFC 9111, section 4.1, allows. Lists of languages,
/// codings and charsets are compared without case, and without order when no member has a weight.
pub fn write_normalised(name: &HeaderName, headers: &HeaderMap, out: &mut Vec<u8>) -> bool {
    let mut lines = headers
        .get_all(name)
        .into_iter()
        .map(HeaderValue::as_bytes)
        .peekable();
    let present = lines.peek().is_some();
    normalise(name, lines, out);
    present
}

fn normalise<'a>(name: &HeaderName, lines: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let items = lines.flat_map(|line| members(line, Quotes::Escaped));
    if is_preference_list(name) {
        let mut items: Vec<Vec<u8>> = items
            .map(|item| {
                let item = item.iter().filter(|octet| !octet.is_ascii_whitespace());
                item.map(u8::to_ascii_lowercase).collect()
            })
            .collect();
        if !items.iter().any(|item| item.contains(&b';')) {
            items.sort_unstable();
            items.dedup();
        }
        join(items.iter().map(Vec::as_slice), out);
    } else {
        join(items, out);
    }
}

fn join<'a>(items: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
}

fn is_preference_list(name: &HeaderName) -> bool {
    [
        header::ACCEPT_LANGUAGE,
        header::ACCEPT_ENCODING,
        header::ACCEPT_CHARSET,
    ]
    .contains(name)
}

/// The one member of a normalised preference list with the greatest weight (RFC 9110, section 12.4.2); none when
/// several share it.
fn preferred(list: &[u8]) -> Option<&[u8]> {
    let mut best: Option<(&[u8], f32)> = None;
    let mut shared = false;
    for item in members(list, Quotes::Escaped) {
        let mut parts = item.splitn(2, |octet| *octet == b';');
        let tag = parts.next().unwrap_or_default();
        let weight = match parts.next() {
            None => 1.0,
            Some(parameter) => std::str::from_utf8(parameter)
                .ok()?
                .strip_prefix("q=")?
                .parse::<f32>()
                .ok()?,
        };
        match best {
            Some((_, most)) if weight < most => {}
            Some((_, most)) if weight == most => shared = true,
            _ => {
                best = Some((tag, weight));
                shared = false;
            }
        }
    }
    best.filter(|(_, weight)| *weight > 0.0 && !shared)
        .map(|(tag, _)| tag)
}

/// The names that `Vary` lists; none for `*` or a name that is none.
fn names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    response
        .get_all(header::VARY)
        .into_iter()
        .flat_map(|line| members(line.as_bytes(), Quotes::Escaped))
        .map(|name| {
            if name == b"*" {
                None
            } else {
                HeaderName::from_bytes(name).ok()
            }
        })
        .collect()
}

/// The lines of a field, joined by commas (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Value> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    fn matches(response: &[(&str, &str)], first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
        Nominated::of(&headers(response), &headers(first))
            .unwrap()
            .matches(&headers(second))
    }

    #[test]
    fn values_must_be_equal_and_absence_is_a_value() {
        // RFC 9111, section 4.1; the names of the public caching suite's `vary`.
        let one = [("vary", "Foo")];
        let three = [("vary", "Foo, Bar"), ("vary", "Baz")];
        assert!(matches(&one, &[("foo", "1")], &[("foo", "1"), ("other", "2")]));
        assert!(!matches(&one, &[("foo", "1")], &[("foo", "2")]));
        assert!(!matches(&one, &[], &[("foo", "1")]));
        assert!(!matches(&one, &[("foo", "1")], &[]));
        assert!(!matches(&one, &[], &[("foo", "")]));
        assert!(matches(&one, &[], &[("bar", "1")]));
        assert!(matches(
            &three,
            &[("foo", "1"), ("baz", "789")],
            &[("baz", "789"), ("foo", "1")]
        ));
        assert!(!matches(
            &three,
            &[("foo", "1"), ("bar", "abc")],
            &[("foo", "1"), ("bar", "abcde")]
        ));
        assert!(matches(&[], &[("foo", "1")], &[("foo", "2")]));
    }

    #[test]
    fn normalisation() {
        let table = [
            ("foo", "1, 2", "1,2", true),
            ("foo", "1,2", " 1, 2 ", true),
            ("foo", "1, 2", "2, 1", false),
            ("foo", "a", "A", false),
            ("foo", "\"a, b\"", "\"a,b\"", false),
            ("accept-language", "en, de", "de, en", true),
            ("accept-language", "en, de", "eN, De", true),
            ("accept-language", "en, de", " en ,   de", true),
            ("accept-language", "en, de;q=0.5", "EN,de; q=0.5", true),
            (
                "accept-language",
                "en;q=0.4, de;q=0.5",
                "de;q=0.5, en;q=0.4",
                false,
            ),
            ("accept-encoding", "gzip, br", "br,GZIP", true),
            ("accept-encoding", "gzip", "gzip, br", false),
        ];
        for (name, first, second, expected) in table {
            let found = matches(&[("vary", name)], &[(name, first)], &[(name, second)]);
            assert_eq!(found, expected, "{name}: {first} against {second}");
        }
        assert!(matches(
            &[("vary", "foo")],
            &[("foo", "1, 2")],
            &[("foo", "1"), ("foo", "2")]
        ));
        assert!(matches(
            &[("vary", "foo")],
            &[("foo", "1"), ("foo", "2")],
            &[("foo", "1,2")]
        ));
    }

    #[test]
    fn the_language_that_is_preferred_alone_selects_a_response_in_it() {
        let response = [("vary", "accept-language"), ("content-language", "de")];
        for (wanted, expected) in [
            ("fr;q=0.5, de;q=1.0", true),
            ("DE", true),
            ("de, fr", false),
            ("fr, de;q=0.9", false),
            ("de;q=0", false),
            ("de;q=x", false),
            ("de-AT", false),
        ] {
            let found = matches(
                &response,
                &[("accept-language", "en, de")],
                &[("accept-language", wanted)],
            );
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn a_star_or_an_odd_name_matches_nothing() {
        // RFC 9110, section 12.5.5; the public caching suite's `vary-parse`.
        for lines in [
            vec!["*"],
            vec!["*, *"],
            vec![", *"],
            vec!["", "*"],
            vec!["foo, *"],
            vec!["f o"],
        ] {
            let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("vary", *line)).collect();
            assert!(is_star(&headers(&fields)), "{lines:?}");
            assert_eq!(Nominated::of(&headers(&fields), &HeaderMap::new()), None);
        }
        assert!(!is_star(&headers(&[("vary", "foo, ")])));
        assert!(
            Nominated::of(&HeaderMap::new(), &HeaderMap::new())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_varies_on_fields_of_the_proxy_is_for_nobody_else() {
        for (vary, star) in [
            ("accept", false),
            ("*", true),
            ("accept, X-Real-IP", true),
            ("Forwarded", true),
        ] {
            assert_eq!(is_star(&headers(&[("vary", vary)])), star, "{vary}");
        }
    }
}
