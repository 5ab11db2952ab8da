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
/// Lines are joined and white space around commas is dropped, as RFC 9111, section 4.1, allows. Lists of languages and
/// charsets count by what they set before what, without case; lists of codings by what they accept.
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
    if !is_preference_list(name) {
        return join(items, out);
    }
    let plain = |item: &[u8]| -> Vec<u8> {
        let item = item.iter().filter(|octet| !octet.is_ascii_whitespace());
        item.map(u8::to_ascii_lowercase).collect()
    };
    let items: Vec<Vec<u8>> = items.map(plain).collect();
    let list: Option<Vec<Preference<'_>>> = items.iter().map(|item| Preference::of(item)).collect();
    match list {
        Some(list) if *name == header::ACCEPT_ENCODING => write_codings(list, out),
        Some(list) => write_ranked(list, out),
        // A weight that is none: nobody knows what the origin makes of it.
        None => join(items.iter().map(Vec::as_slice), out),
    }
}

/// A member of a preference list (RFC 9110, section 12.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference<'a> {
    /// The weight in thousandths, counted down from the highest.
    rank: u16,
    name: &'a [u8],
}

impl<'a> Preference<'a> {
    /// Reads a member in lower case and without white space; none if its weight is none, or it has other parameters.
    fn of(item: &'a [u8]) -> Option<Self> {
        let (name, weight) = match item.iter().position(|octet| *octet == b';') {
            None => (item, 1000),
            Some(at) => (&item[..at], thousandths(&item[at + 1..])?),
        };
        Some(Self {
            rank: 1000 - weight,
            name,
        })
    }

    /// Whether it says what is not wanted.
    fn refuses(&self) -> bool {
        self.rank == 1000
    }
}

/// `q=0.5` in thousandths.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let number = parameter.strip_prefix(b"q=")?;
    let (whole, fraction) = match number {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut weight = u16::from(whole.checked_sub(b'0').filter(|digit| *digit <= 1)?);
    for place in 0..3 {
        let digit = fraction.get(place).unwrap_or(&b'0').checked_sub(b'0')?;
        weight = weight * 10 + u16::from(digit).min(10);
    }
    (weight <= 1000).then_some(weight)
}

/// The languages or charsets by rank: their weights count only as far as they set one before another. What is listed
/// with the weight 0 stays, for it is more than not being listed.
fn write_ranked(mut list: Vec<Preference<'_>>, out: &mut Vec<u8>) {
    list.sort_unstable();
    list.dedup_by_key(|preference| preference.name);
    let mut before: Option<Preference<'_>> = None;
    for preference in list {
        match before {
            Some(before) if preference.refuses() && !before.refuses() => out.push(b'!'),
            Some(before) if before.rank < preference.rank => out.push(b'>'),
            Some(_) => out.push(b','),
            None if preference.refuses() => out.push(b'!'),
            None => {}
        }
        out.extend_from_slice(preference.name);
        before = Some(preference);
    }
}

/// The codings that are accepted, whatever their order and weights: any of them will do. `identity` is accepted unless
/// it is refused (RFC 9110, section 12.5.3).
fn write_codings(list: Vec<Preference<'_>>, out: &mut Vec<u8>) {
    let any = list.iter().any(|preference| preference.name == b"*");
    let mut codings: Vec<(bool, &[u8])> = list
        .iter()
        .map(|preference| {
            let name = match preference.name {
                b"x-gzip" => &b"gzip"[..],
                b"x-compress" => b"compress",
                name => name,
            };
            (preference.refuses(), name)
        })
        // What is not listed is not accepted, except that all is under a star.
        .filter(|(refused, name)| {
            if *name == b"identity" {
                *refused
            } else {
                !*refused || any || *name == b"*"
            }
        })
        .collect();
    codings.sort_unstable();
    codings.dedup();
    for (at, (refused, name)) in codings.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if refused {
            out.push(b'!');
        }
        out.extend_from_slice(name);
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

/// The one member of a normalised preference list that stands before all others; none when several do.
fn preferred(list: &[u8]) -> Option<&[u8]> {
    let first = list.split(|octet| b">!".contains(octet)).next()?;
    (!first.is_empty() && !first.contains(&b',')).then_some(first)
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
                true,
            ),
            ("accept-language", "en-US,en;q=0.9", "en-US,en;q=0.8", true),
            ("accept-language", "en, de;q=0.5", "de, en;q=0.5", false),
            ("accept-language", "en, de;q=0.5", "en, de", false),
            ("accept-language", "en, de;q=0", "en", false),
            ("accept-language", "en, de;q=0", "en, de;q=0.1", false),
            ("accept-language", "en;q=0", "en", false),
            ("accept-language", "en;q=0.9", "en;q=0.1", true),
            ("accept-language", "en;q=x", "en", false),
            ("accept-charset", "utf-8, *;q=0.1", "UTF-8,*;q=0.2", true),
            ("accept-encoding", "gzip, br", "br,GZIP", true),
            ("accept-encoding", "gzip", "gzip, br", false),
            ("accept-encoding", "gzip;q=0.5, br", "br;q=0.8, x-gzip", true),
            ("accept-encoding", "gzip, identity", "gzip", true),
            ("accept-encoding", "gzip, br;q=0", "gzip", true),
            ("accept-encoding", "gzip, *;q=0", "gzip", false),
            ("accept-encoding", "*, br;q=0", "*", false),
            ("accept-encoding", "gzip, identity;q=0", "gzip", false),
            ("accept-encoding", "identity", "", true),
            ("accept-encoding", "gzip;q=2", "gzip", false),
            ("accept-encoding", "gzip;q=0.0001", "gzip", false),
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
