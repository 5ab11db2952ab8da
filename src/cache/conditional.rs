//! Conditional requests: the client's, and our own (RFC 9111, section 4.3; RFC 9110, section 13).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::date::{self, DateField};
use super::fields::is_storable;
use super::list::{Quotes, members};
use crate::clock::Timestamp;

/// Fields that make a request conditional or partial.
static CONDITIONS: [HeaderName; 6] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// Those that are about a range.
static RANGED: [HeaderName; 2] = [header::IF_RANGE, header::RANGE];

/// How a stored response answers a request with preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionalAnswer {
    /// With the response.
    Full,
    /// With 304: the client has it already.
    NotModified,
}

/// Evaluates the preconditions of a GET or HEAD against a stored response that arrived at `received` (RFC 9111,
/// section 4.3.2). Only a 200 can become a 304 (RFC 9110, section 13.2.1).
pub fn evaluate(
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    received: Timestamp,
) -> ConditionalAnswer {
    let unchanged = status == StatusCode::OK
        && if request.contains_key(header::IF_NONE_MATCH) {
            none_match_fails(request, stored.get(header::ETAG))
        } else {
            not_modified_since(request, stored, received)
        };
    if unchanged {
        ConditionalAnswer::NotModified
    } else {
        ConditionalAnswer::Full
    }
}

/// Whether a response can be validated by a conditional request.
pub fn can_validate(stored: &HeaderMap) -> bool {
    stored.contains_key(header::ETAG) || stored.contains_key(header::LAST_MODIFIED)
}

/// Turns the client's request into one that fetches the whole response for the cache: its own conditions and range
/// are taken off; they are answered from the entry.
pub fn make_unconditional(request: &mut HeaderMap) {
    for name in &CONDITIONS {
        request.remove(name);
    }
}

/// Turns the client's request into one that fetches the same range for the cache.
pub fn make_ranged(request: &mut HeaderMap) {
    for name in CONDITIONS.iter().filter(|name| !RANGED.contains(name)) {
        request.remove(name);
    }
}

/// Whether the request has a condition beside one on its range.
pub fn is_conditional(request: &HeaderMap) -> bool {
    let mut conditions = CONDITIONS.iter().filter(|name| !RANGED.contains(name));
    conditions.any(|name| request.contains_key(name))
}

/// What the answer to HEAD says about a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSays {
    /// It is still the same.
    Same,
    /// It is another one now.
    Changed,
    /// Nothing: it has no validator, and nothing that differs.
    Nothing,
}

/// Compares a 200 to HEAD with the stored response to GET (RFC 9111, section 4.3.5): whatever it has of `ETag`,
/// `Last-Modified` and `Content-Length` must be equal. The standard lets a response without any of them confirm what is
/// stored, too; here it takes a validator.
pub fn head_says(stored: &HeaderMap, body_len: usize, head: &HeaderMap) -> HeadSays {
    let tag = head.get(header::ETAG);
    let modified = head.get(header::LAST_MODIFIED);
    let length = head.get(header::CONTENT_LENGTH);
    let differs = tag.is_some_and(|tag| stored.get(header::ETAG) != Some(tag))
        || modified.is_some_and(|modified| stored.get(header::LAST_MODIFIED) != Some(modified))
        || length.is_some_and(|length| length.as_bytes() != body_len.to_string().as_bytes());
    if differs {
        HeadSays::Changed
    } else if tag.is_some() || modified.is_some() {
        HeadSays::Same
    } else {
        HeadSays::Nothing
    }
}

/// Turns the client's GET or HEAD into one that validates `stored` (RFC 9111, section 4.3.1). Without a validator
/// the request is just unconditional.
pub fn make_validation(request: &mut HeaderMap, stored: &HeaderMap) {
    make_unconditional(request);
    if let Some(etag) = stored.get(header::ETAG) {
        request.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.get(header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// The header section of an entry after a 304 (RFC 9111, sections 3.2 and 4.3.4): each field of the 304 replaces the
/// stored one. Left as stored are the fields that describe the stored content. `Age` and `Date` are of the 304 alone,
/// since the entry's age begins anew. A cookie is never stored.
pub fn merge_not_modified(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    merged.remove(header::AGE);
    merged.remove(header::DATE);
    for name in fresh.keys().filter(|name| is_updatable(fresh, name)) {
        merged.remove(name);
        for value in fresh.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged
}

fn is_updatable(fresh: &HeaderMap, name: &HeaderName) -> bool {
    let describes_content = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::SET_COOKIE,
    ];
    is_storable(fresh, name) && !describes_content.contains(name)
}

/// Whether one of the listed entity tags is the stored one (weak comparison, RFC 9110, section 8.8.3.2), or `*`.
fn none_match_fails(request: &HeaderMap, stored: Option<&HeaderValue>) -> bool {
    let stored = stored.map(|etag| opaque(etag.as_bytes()));
    request
        .get_all(header::IF_NONE_MATCH)
        .into_iter()
        .flat_map(|line| members(line.as_bytes(), Quotes::Literal))
        .any(|listed| listed == b"*" || Some(opaque(listed)) == stored)
}

/// The tag without its mark of weakness.
fn opaque(etag: &[u8]) -> &[u8] {
    let etag = etag.trim_ascii();
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// RFC 9110, section 13.1.3; without `Last-Modified`, `Date` or the time of reception stands in (RFC 9111, section
/// 4.3.2). A date that is none is ignored.
fn not_modified_since(request: &HeaderMap, stored: &HeaderMap, received: Timestamp) -> bool {
    let Some(since) = DateField::of(request, &header::IF_MODIFIED_SINCE).valid() else {
        return false;
    };
    let modified = stored
        .get(header::LAST_MODIFIED)
        .or_else(|| stored.get(header::DATE))
        .and_then(|value| date::parse(value.as_bytes()))
        .unwrap_or(received);
    modified.as_secs() <= since.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    const RECEIVED: Timestamp = Timestamp::from_secs(1_600_000_000);
    const EARLIER: &str = "Sun, 13 Sep 2020 11:00:00 GMT";
    const AT: &str = "Sun, 13 Sep 2020 12:00:00 GMT";
    const LATER: &str = "Sun, 13 Sep 2020 12:26:40 GMT";

    fn answer(request: &[(&str, &str)], stored: &[(&str, &str)]) -> bool {
        let answer = evaluate(&headers(request), StatusCode::OK, &headers(stored), RECEIVED);
        answer == ConditionalAnswer::NotModified
    }

    #[test]
    fn entity_tags_compare_weakly() {
        // RFC 9110, sections 8.8.3.2 and 13.1.2.
        let table = [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"a\", \"b\", \"c\"", "\"b\"", true),
            ("\"x\", \"c\"", "\"c\"", true),
            ("\"a,b\"", "\"a,b\"", true),
            ("\"a\\\", \"b\"", "\"b\"", true),
            ("*", "\"a\"", true),
            ("a", "a", true),
            ("a", "\"a\"", false),
            ("", "\"a\"", false),
        ];
        for (wanted, stored, expected) in table {
            let found = answer(&[("if-none-match", wanted)], &[("etag", stored)]);
            assert_eq!(found, expected, "{wanted} against {stored}");
        }
        assert!(answer(&[("if-none-match", "*")], &[]));
        assert!(!answer(&[("if-none-match", "\"a\"")], &[]));
        assert!(answer(
            &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")],
            &[("etag", "\"a\"")]
        ));
        assert!(!answer(&[], &[("etag", "\"a\"")]));
    }

    #[test]
    fn modification_dates() {
        // RFC 9110, section 13.1.3; RFC 9111, section 4.3.2.
        let since = |date| [("if-modified-since", date)];
        for (date, expected) in [(EARLIER, false), (AT, true), (LATER, true), ("foo", false)] {
            assert_eq!(answer(&since(date), &[("last-modified", AT)]), expected, "{date}");
            assert_eq!(answer(&since(date), &[("date", AT)]), expected, "{date}");
        }
        assert!(answer(
            &since("Sunday, 13-Sep-20 12:00:00 GMT"),
            &[("last-modified", AT)]
        ));
        assert!(answer(&since(LATER), &[]));
        assert!(!answer(&since(AT), &[]));
    }

    #[test]
    fn if_none_match_takes_precedence() {
        let stored = [("etag", "\"a\""), ("last-modified", AT)];
        assert!(answer(
            &[("if-none-match", "\"a\""), ("if-modified-since", EARLIER)],
            &stored
        ));
        assert!(!answer(
            &[("if-none-match", "\"b\""), ("if-modified-since", LATER)],
            &stored
        ));
    }

    #[test]
    fn only_a_200_becomes_a_304() {
        let request = headers(&[("if-none-match", "*")]);
        let found = evaluate(
            &request,
            StatusCode::NOT_FOUND,
            &headers(&[("etag", "\"a\"")]),
            RECEIVED,
        );
        assert_eq!(found, ConditionalAnswer::Full);
    }

    #[test]
    fn a_validation_carries_the_stored_validators_only() {
        let stored = headers(&[("etag", "W/\"a\""), ("last-modified", AT)]);
        let mut request = headers(&[
            ("if-none-match", "\"client\""),
            ("if-match", "\"client\""),
            ("if-range", "\"client\""),
            ("range", "bytes=0-1"),
            ("accept", "*/*"),
        ]);
        make_validation(&mut request, &stored);
        assert_eq!(
            request,
            headers(&[
                ("accept", "*/*"),
                ("if-none-match", "W/\"a\""),
                ("if-modified-since", AT)
            ])
        );
        assert!(can_validate(&stored) && !can_validate(&HeaderMap::new()));
        make_unconditional(&mut request);
        assert_eq!(request, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn a_request_for_a_range_keeps_it_and_what_it_hangs_on() {
        let mut request = headers(&[
            ("range", "bytes=0-1"),
            ("if-range", "\"a\""),
            ("if-none-match", "\"b\""),
        ]);
        assert!(is_conditional(&request));
        make_ranged(&mut request);
        assert_eq!(request, headers(&[("range", "bytes=0-1"), ("if-range", "\"a\"")]));
        assert!(!is_conditional(&request));
    }

    #[test]
    fn what_a_head_says() {
        // RFC 9111, section 4.3.5.
        let stored = headers(&[("etag", "\"a\""), ("last-modified", AT)]);
        let table: [(&[(&str, &str)], HeadSays); 9] = [
            (&[("etag", "\"a\"")], HeadSays::Same),
            (&[("etag", "W/\"a\"")], HeadSays::Changed),
            (&[("last-modified", AT)], HeadSays::Same),
            (&[("etag", "\"a\""), ("content-length", "5")], HeadSays::Same),
            (&[("etag", "\"b\"")], HeadSays::Changed),
            (&[("etag", "\"a\""), ("last-modified", LATER)], HeadSays::Changed),
            (&[("etag", "\"a\""), ("content-length", "6")], HeadSays::Changed),
            (&[("content-length", "6")], HeadSays::Changed),
            (&[("content-length", "5")], HeadSays::Nothing),
        ];
        for (head, expected) in table {
            assert_eq!(head_says(&stored, 5, &headers(head)), expected, "{head:?}");
        }
        let bare = headers(&[]);
        assert_eq!(
            head_says(&bare, 5, &headers(&[("etag", "\"a\"")])),
            HeadSays::Changed
        );
        assert_eq!(head_says(&bare, 5, &bare), HeadSays::Nothing);
    }

    #[test]
    fn a_304_updates_fields_but_not_the_description_of_the_content() {
        // RFC 9111, section 3.2.
        let stored = headers(&[
            ("date", EARLIER),
            ("age", "30"),
            ("etag", "\"a\""),
            ("content-length", "36"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("kept", "1"),
            ("many", "1"),
            ("many", "2"),
        ]);
        let fresh = headers(&[
            ("date", LATER),
            ("etag", "\"b\""),
            ("content-length", "10"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/html"),
            ("many", "3"),
            ("many", "4"),
            ("set-cookie", "a=b"),
            ("connection", "hop"),
            ("hop", "1"),
            ("keep-alive", "timeout=5"),
        ]);
        let expected = headers(&[
            ("date", LATER),
            ("etag", "\"b\""),
            ("content-length", "36"),
            ("content-encoding", "gzip"),
            ("content-type", "text/html"),
            ("kept", "1"),
            ("many", "3"),
            ("many", "4"),
        ]);
        assert_eq!(merge_not_modified(&stored, &fresh), expected);
    }
}
