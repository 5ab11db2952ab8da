//! `Cache-Control` and its targeted forms (RFC 9111, section 5.2; RFC 5861; RFC 9213).

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

use super::directive::{Argument, directives};
use super::targeted;

/// The targeted fields that this cache obeys, the most specific first (RFC 9213, section 2.2).
static TARGETED: [HeaderName; 2] = [
    HeaderName::from_static("outrigger-cache-control"),
    header::CDN_CACHE_CONTROL,
];

/// What the origin lets a shared cache do with a response.
///
/// `immutable` and `no-transform` are not here: a fresh response is never validated on our own account, and none
/// is ever transformed. `Pragma` in a response has no meaning (RFC 9111, section 5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// A targeted field applied: `Cache-Control` and `Expires` do not count (RFC 9213, section 2.2).
    pub targeted: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `private`, for the whole response or for named fields.
    pub private: Limit,
    /// `no-cache`, for the whole response or for named fields.
    pub no_cache: Limit,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`; the smallest if there are several, zero if one is not a number.
    pub max_age: Option<Duration>,
    /// `s-maxage`; as `max_age`.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate`; as `max_age`.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error`; as `max_age`.
    pub stale_if_error: Option<Duration>,
}

/// How far a directive that can name fields reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// It was not given.
    #[default]
    Absent,
    /// It covers these fields only.
    Fields(Vec<HeaderName>),
    /// It covers the response.
    Whole,
}

impl ResponseControl {
    /// Reads the most specific valid field of a response.
    pub fn of(headers: &HeaderMap) -> Self {
        if let Some(control) = TARGETED.iter().find_map(|name| targeted::parse(headers, name)) {
            return control;
        }
        let mut control = Self::default();
        for directive in directives(headers, &header::CACHE_CONTROL) {
            control.apply(directive.name, directive.argument);
        }
        control
    }

    /// Takes one directive in. Whoever forbids wins over whoever allows, the shorter time over the longer
    /// (RFC 9111, section 4.2.1); a time that is not a number is no time at all.
    pub(super) fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        match known(name) {
            Some("no-store") => self.no_store = true,
            Some("private") => self.private.extend(argument),
            Some("no-cache") => self.no_cache.extend(argument),
            Some("public") => self.public |= argument == Argument::Absent,
            Some("must-revalidate") => self.must_revalidate = true,
            Some("proxy-revalidate") => self.proxy_revalidate = true,
            Some("must-understand") => self.must_understand = true,
            Some("max-age") => shorten(&mut self.max_age, argument),
            Some("s-maxage") => shorten(&mut self.s_maxage, argument),
            Some("stale-while-revalidate") => shorten(&mut self.stale_while_revalidate, argument),
            Some("stale-if-error") => shorten(&mut self.stale_if_error, argument),
            _ => {}
        }
    }

    /// Fields that `private` or `no-cache` name: they are left out of an entry, the rest may be kept.
    pub fn named_fields(&self) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for limit in [&self.private, &self.no_cache] {
            if let Limit::Fields(fields) = limit {
                names.extend_from_slice(fields);
            }
        }
        names
    }
}

impl Limit {
    /// Widens the limit. An argument that is no list of field names covers the response.
    fn extend(&mut self, argument: Argument<'_>) {
        let names = match argument {
            Argument::Text(text) => text
                .split(|octet| *octet == b',')
                .map(<[u8]>::trim_ascii)
                .filter(|name| !name.is_empty())
                .map(|name| HeaderName::from_bytes(name).ok())
                .collect::<Option<Vec<_>>>()
                .filter(|names| !names.is_empty()),
            Argument::Absent | Argument::Seconds(_) | Argument::Malformed => None,
        };
        let Some(names) = names else {
            *self = Self::Whole;
            return;
        };
        match self {
            Self::Absent => *self = Self::Fields(names),
            Self::Fields(known) => known.extend(names),
            Self::Whole => {}
        }
    }
}

/// What a client asks of a shared cache. The default asks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// `no-cache`, or `Pragma: no-cache` without any `Cache-Control`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`: the greatest age it takes.
    pub max_age: Option<Duration>,
    /// `min-fresh`: the freshness that must be left.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: how long past its freshness it takes a response; [`Duration::MAX`] without a number.
    pub max_stale: Option<Duration>,
    /// `stale-if-error` (RFC 5861, section 4).
    pub stale_if_error: Option<Duration>,
}

impl RequestControl {
    /// Reads a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            // RFC 9111, section 5.4.
            control.no_cache = directives(headers, &header::PRAGMA)
                .any(|pragma| pragma.name.eq_ignore_ascii_case(b"no-cache"));
            return control;
        }
        for directive in directives(headers, &header::CACHE_CONTROL) {
            control.apply(directive.name, directive.argument);
        }
        control
    }

    fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        match known(name) {
            Some("no-cache") => self.no_cache = true,
            Some("no-store") => self.no_store = true,
            Some("only-if-cached") => self.only_if_cached = true,
            Some("max-age") => shorten(&mut self.max_age, argument),
            Some("min-fresh") => {
                let wanted = argument.seconds().unwrap_or_default();
                self.min_fresh = Some(self.min_fresh.unwrap_or_default().max(wanted));
            }
            Some("max-stale") if argument == Argument::Absent => {
                self.max_stale.get_or_insert(Duration::MAX);
            }
            Some("max-stale") => shorten(&mut self.max_stale, argument),
            Some("stale-if-error") => shorten(&mut self.stale_if_error, argument),
            _ => {}
        }
    }
}

/// The directive's name in lower case, if it is one that means something here.
fn known(name: &[u8]) -> Option<&'static str> {
    const KNOWN: [&str; 14] = [
        "max-age",
        "s-maxage",
        "no-cache",
        "no-store",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "stale-while-revalidate",
        "stale-if-error",
        "min-fresh",
        "max-stale",
        "only-if-cached",
    ];
    KNOWN
        .into_iter()
        .find(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

fn shorten(time: &mut Option<Duration>, argument: Argument<'_>) {
    let given = argument.seconds().unwrap_or_default();
    *time = Some(time.map_or(given, |known| known.min(given)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    fn response(value: &str) -> ResponseControl {
        ResponseControl::of(&headers(&[("cache-control", value)]))
    }

    fn seconds(value: u64) -> Option<Duration> {
        Some(Duration::from_secs(value))
    }

    #[test]
    fn times_of_a_response() {
        // RFC 9111, sections 1.2.2, 4.2.1 and 5.2; the names of the public caching suite's `cc-parse`.
        let table = [
            ("max-age=3600", seconds(3600)),
            ("MaX-aGe=3600", seconds(3600)),
            ("foobar, max-age=3600", seconds(3600)),
            ("max-age=003600", seconds(3600)),
            ("max-age=\"3600\"", seconds(3600)),
            ("max-age=2147483649", seconds(1 << 31)),
            ("max-age=99999999999999999999999999", seconds(1 << 31)),
            ("max-age=1800, max-age=1", seconds(1)),
            ("max-age=1, max-age=1800", seconds(1)),
            ("extension=\"max-age=3600\", max-age=1", seconds(1)),
            ("max-age=1, extension=\"max-age=3600\"", seconds(1)),
            ("max-age=-3600", seconds(0)),
            ("max-age='3600'", seconds(0)),
            ("max-age =3600", seconds(0)),
            ("max-age= 3600", seconds(0)),
            ("max-age=3600.0", seconds(0)),
            ("max-age=3600a", seconds(0)),
            ("max-age=a3600", seconds(0)),
            ("max-age", seconds(0)),
            ("max-age=", seconds(0)),
            ("no-store", None),
        ];
        for (value, expected) in table {
            assert_eq!(response(value).max_age, expected, "{value}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let control = ResponseControl::of(&headers(&[
            ("cache-control", "max-age=3600"),
            ("cache-control", "s-maxage=1, stale-if-error=9"),
            (
                "cache-control",
                "stale-while-revalidate=8, must-revalidate, proxy-revalidate, public, must-understand",
            ),
        ]));
        assert_eq!(control.max_age, seconds(3600));
        assert_eq!(control.s_maxage, seconds(1));
        assert_eq!(control.stale_if_error, seconds(9));
        assert_eq!(control.stale_while_revalidate, seconds(8));
        assert!(control.must_revalidate && control.proxy_revalidate);
        assert!(control.public && control.must_understand);
    }

    #[test]
    fn limits_of_private_and_no_cache() {
        // RFC 9111, sections 5.2.2.4 and 5.2.2.7.
        let name = HeaderName::from_static;
        let table = [
            ("private", Limit::Whole),
            ("PRIVATE", Limit::Whole),
            ("private=\"a, B\"", Limit::Fields(vec![name("a"), name("b")])),
            ("private=a", Limit::Fields(vec![name("a")])),
            (
                "private=\"a\", private=\"b\"",
                Limit::Fields(vec![name("a"), name("b")]),
            ),
            ("private=\"a\", private", Limit::Whole),
            ("private, private=\"a\"", Limit::Whole),
            ("private=\"\"", Limit::Whole),
            ("private=\"a b\"", Limit::Whole),
            ("private =\"a\"", Limit::Whole),
            ("max-age=1", Limit::Absent),
        ];
        for (value, expected) in table {
            assert_eq!(response(value).private, expected, "{value}");
        }
        let control = response("no-cache=\"a\", private=\"b\"");
        assert_eq!(control.named_fields(), [name("b"), name("a")]);
    }

    #[test]
    fn a_missing_comma_or_an_open_quote_does_not_hide_no_store() {
        for value in [
            "No-StOrE",
            "no-store max-age=60",
            "a=\"b, no-store",
            "no-store=\"x\"",
        ] {
            assert!(response(value).no_store, "{value}");
        }
        assert!(!response("public=1").public);
    }

    #[test]
    fn the_most_specific_targeted_field_wins() {
        // RFC 9213, section 2.2.
        let control = ResponseControl::of(&headers(&[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=10"),
            ("outrigger-cache-control", "max-age=20"),
        ]));
        assert!(control.targeted && !control.no_store);
        assert_eq!(control.max_age, seconds(20));
        let control = ResponseControl::of(&headers(&[
            ("cache-control", "no-store"),
            ("cdn-cache-control", "max-age=10, &&&&&"),
        ]));
        assert!(!control.targeted && control.no_store);
        assert_eq!(control.max_age, None);
    }

    #[test]
    fn requests() {
        // RFC 9111, section 5.2.1.
        let request = |value| RequestControl::of(&headers(&[("cache-control", value)]));
        assert_eq!(RequestControl::of(&HeaderMap::new()), RequestControl::default());
        assert!(request("No-Cache").no_cache && request("no-store").no_store);
        assert!(request("only-if-cached").only_if_cached);
        assert_eq!(request("max-age=5").max_age, seconds(5));
        assert_eq!(request("max-age=x").max_age, seconds(0));
        assert_eq!(request("min-fresh=5, min-fresh=9").min_fresh, seconds(9));
        assert_eq!(request("max-stale").max_stale, Some(Duration::MAX));
        assert_eq!(request("max-stale, max-stale=7").max_stale, seconds(7));
        assert_eq!(request("max-stale=x").max_stale, seconds(0));
        assert_eq!(request("stale-if-error=7").stale_if_error, seconds(7));
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        // RFC 9111, section 5.4.
        let pragma = |fields: &[(&str, &str)]| RequestControl::of(&headers(fields)).no_cache;
        assert!(pragma(&[("pragma", "No-Cache")]));
        assert!(!pragma(&[("pragma", "foo")]));
        assert!(!pragma(&[("pragma", "no-cache"), ("cache-control", "max-age=9")]));
        assert_eq!(
            ResponseControl::of(&headers(&[("pragma", "no-cache")])),
            ResponseControl::default()
        );
    }
}
