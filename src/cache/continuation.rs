//! A body from where one of its readers has come to, fetched anew (RFC 9110, sections 13.1.5 and 14).
//!
//! Only a strong entity tag proves that two responses hold the same octets (RFC 9110, section 8.8.3); without one nothing
//! is continued.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::range::{Part, same_content};
use super::{conditional, stream};

/// What the answer to a request for the rest of a body brings of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Octets at its beginning that the reader has already.
    pub skip: u64,
    /// Octets after those, if known.
    pub left: Option<u64>,
}

/// Whether the body of the response with `status` and the header fields `response` can be continued for `request`: a
/// range applies to GET alone (RFC 9110, section 14.2), and who asked for one gets no other.
pub fn can_continue(method: &Method, request: &HeaderMap, status: StatusCode, response: &HeaderMap) -> bool {
    *method == Method::GET
        && !request.contains_key(header::RANGE)
        && status == StatusCode::OK
        && same_content(response, response)
        && !stream::is_event_stream(response)
}

/// Turns a request into one for what comes after the first `from` octets of the response with the fields `response`, or
/// for all of it if it is another one now.
pub fn make_continuation(request: &mut HeaderMap, response: &HeaderMap, from: u64) {
    conditional::make_unconditional(request);
    if let Some(tag) = response.get(header::ETAG)
        && let Ok(range) = HeaderValue::try_from(format!("bytes={from}-"))
    {
        request.insert(header::IF_RANGE, tag.clone());
        request.insert(header::RANGE, range);
    }
}

/// What the answer with `status` and the fields `answer`, and with a body of `length` octets if that is known, brings
/// after the first `from` octets of the response with the fields `response`; none if it is not certain to bring all of
/// that.
pub fn rest(
    response: &HeaderMap,
    from: u64,
    status: StatusCode,
    answer: &HeaderMap,
    length: Option<u64>,
) -> Option<Rest> {
    if !same_content(response, answer) {
        return None;
    }
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let part = Part::of(answer)?;
            let is_rest = part.span.start == from && part.span.end == part.total;
            let fits = length.is_none_or(|length| length == part.length());
            (is_rest && fits).then(|| Rest {
                skip: 0,
                left: Some(part.length()),
            })
        }
        StatusCode::OK => {
            let left = match length {
                // None if it is shorter than what the reader has.
                Some(length) => Some(length.checked_sub(from)?),
                None => None,
            };
            Some(Rest { skip: from, left })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    const TAGGED: (&str, &str) = ("etag", "\"a\"");

    #[test]
    fn what_can_be_continued() {
        let table: [(Method, Fields<'_>, u16, Fields<'_>, bool); 8] = [
            (Method::GET, &[], 200, &[TAGGED], true),
            (Method::GET, &[("if-none-match", "\"b\"")], 200, &[TAGGED], true),
            (Method::GET, &[], 200, &[], false),
            (Method::GET, &[], 200, &[("etag", "W/\"a\"")], false),
            (Method::GET, &[], 404, &[TAGGED], false),
            (Method::POST, &[], 200, &[TAGGED], false),
            (Method::GET, &[("range", "bytes=0-1")], 200, &[TAGGED], false),
            (
                Method::GET,
                &[],
                200,
                &[TAGGED, ("content-type", "text/event-stream")],
                false,
            ),
        ];
        for (method, request, status, response, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            let found = can_continue(&method, &headers(request), status, &headers(response));
            assert_eq!(found, expected, "{method} {request:?} {status} {response:?}");
        }
    }

    #[test]
    fn the_rest_is_asked_for_under_the_condition_that_it_is_of_the_same_content() {
        let mut request = headers(&[
            ("accept", "*/*"),
            ("if-none-match", "\"client\""),
            ("if-match", "\"client\""),
        ]);
        make_continuation(&mut request, &headers(&[TAGGED]), 17);
        let expected = headers(&[("accept", "*/*"), ("if-range", "\"a\""), ("range", "bytes=17-")]);
        assert_eq!(request, expected);
    }

    #[test]
    fn what_an_answer_brings() {
        const OTHER: (&str, &str) = ("etag", "\"b\"");
        const WEAK: (&str, &str) = ("etag", "W/\"a\"");
        let part = |range| ("content-range", range);
        let rest_of = |skip, left| Some(Rest { skip, left });
        // Status, fields and length of the answer; what it brings after the fourth octet.
        let table: [(u16, Fields<'_>, Option<u64>, Option<Rest>); 15] = [
            (206, &[TAGGED, part("bytes 4-9/10")], Some(6), rest_of(0, Some(6))),
            (206, &[TAGGED, part("bytes 4-9/10")], None, rest_of(0, Some(6))),
            (206, &[TAGGED, part("bytes 5-9/10")], Some(5), None),
            (206, &[TAGGED, part("bytes 3-9/10")], Some(7), None),
            (206, &[TAGGED, part("bytes 4-8/10")], Some(5), None),
            (206, &[TAGGED, part("bytes 4-9/10")], Some(5), None),
            (206, &[TAGGED, part("bytes 4-9/*")], Some(6), None),
            (206, &[TAGGED], Some(6), None),
            (206, &[OTHER, part("bytes 4-9/10")], Some(6), None),
            (206, &[part("bytes 4-9/10")], Some(6), None),
            (200, &[TAGGED], Some(10), rest_of(4, Some(6))),
            (200, &[TAGGED], None, rest_of(4, None)),
            (200, &[TAGGED], Some(3), None),
            (200, &[WEAK], Some(10), None),
            (416, &[TAGGED, part("bytes */10")], Some(0), None),
        ];
        for (status, answer, length, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            let found = rest(&headers(&[TAGGED]), 4, status, &headers(answer), length);
            assert_eq!(found, expected, "{status} {answer:?} {length:?}");
        }
        let weak = headers(&[WEAK]);
        assert_eq!(rest(&weak, 4, StatusCode::OK, &weak, Some(10)), None);
    }
}
