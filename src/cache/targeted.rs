//! Targeted cache control (RFC 9213): the same directives as a structured dictionary (RFC 9651).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry, Parser};

use super::control::ResponseControl;
use super::directive::{Argument, bounded_seconds};

/// Reads the targeted field `name`; none when it is absent, empty or invalid, so that the next field counts
/// (RFC 9213, section 2.1). A directive of the wrong type makes the field invalid.
pub(super) fn parse(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseControl> {
    if !headers.contains_key(name) {
        return None;
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let dictionary = Parser::parse_dictionary(&lines.join(&b", "[..])).ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut control = ResponseControl {
        targeted: true,
        ..ResponseControl::default()
    };
    for (key, entry) in &dictionary {
        let argument = match (kind(key), entry) {
            (Kind::Unknown, _) => continue,
            (_, ListEntry::InnerList(_)) => return None,
            (kind, ListEntry::Item(item)) => match (kind, &item.bare_item) {
                (Kind::Flag | Kind::Fields, BareItem::Boolean(false)) => continue,
                (Kind::Flag | Kind::Fields, BareItem::Boolean(true)) => Argument::Absent,
                (Kind::Fields, BareItem::String(text)) => Argument::Text(text.as_bytes()),
                (Kind::Seconds, BareItem::Integer(seconds)) => Argument::Seconds(bounded_seconds(*seconds)),
                _ => return None,
            },
        };
        control.apply(key.as_bytes(), argument);
    }
    Some(control)
}

/// The type a directive must have.
enum Kind {
    Flag,
    Fields,
    Seconds,
    Unknown,
}

fn kind(key: &str) -> Kind {
    match key {
        "no-store" | "public" | "must-revalidate" | "proxy-revalidate" | "must-understand" => Kind::Flag,
        "no-cache" | "private" => Kind::Fields,
        "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" => Kind::Seconds,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::CDN_CACHE_CONTROL;

    use super::*;
    use crate::cache::control::Limit;
    use crate::cache::fixture::headers;

    fn control(value: &str) -> Option<ResponseControl> {
        parse(&headers(&[("cdn-cache-control", value)]), &CDN_CACHE_CONTROL)
    }

    #[test]
    fn directives_with_their_types() {
        let read = control("foobar, max-age=60;x=1, no-cache=\"a\", private, must-revalidate=?0").unwrap();
        assert!(read.targeted && !read.must_revalidate);
        assert_eq!(read.max_age, Some(Duration::from_secs(60)));
        assert_eq!(read.private, Limit::Whole);
        assert_eq!(read.no_cache, Limit::Fields(vec![HeaderName::from_static("a")]));
        let huge = control("max-age=99999999999").unwrap();
        assert_eq!(huge.max_age, Some(Duration::from_secs(1 << 31)));
        assert_eq!(control("max-age=-1").unwrap().max_age, Some(Duration::ZERO));
    }

    #[test]
    fn several_lines_are_one_dictionary_and_the_last_of_a_key_counts() {
        let fields = headers(&[
            ("cdn-cache-control", "max-age=1"),
            ("cdn-cache-control", "no-store, max-age=2"),
        ]);
        let read = parse(&fields, &CDN_CACHE_CONTROL).unwrap();
        assert!(read.no_store);
        assert_eq!(read.max_age, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_invalid_is_ignored_as_a_whole() {
        for value in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=1.5",
            "max-age",
            "max-age=(1 2)",
            "no-store=\"x\"",
            "no-store=1",
            "max-age=1,",
        ] {
            assert_eq!(control(value), None, "{value}");
        }
        assert_eq!(parse(&HeaderMap::new(), &CDN_CACHE_CONTROL), None);
    }
}
