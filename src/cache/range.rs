//! Byte ranges answered from a full entry (RFC 9110, section 14; RFC 9111, section 3.3).

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::date;

/// How a stored response answers a request with `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// With all of it: there is no range, or it does not apply.
    Full,
    /// With 206 and the octets from `start` up to, not including, `end`.
    Part {
        /// First octet.
        start: u64,
        /// One past the last octet; greater than `start`.
        end: u64,
        /// Length of the whole content.
        total: u64,
    },
    /// With 416: nothing of it lies in the range.
    Unsatisfiable {
        /// Length of the whole content.
        total: u64,
    },
}

impl RangeAnswer {
    /// The `Content-Range` of the answer (RFC 9110, section 14.4); none for [`RangeAnswer::Full`].
    pub fn content_range(self) -> Option<HeaderValue> {
        let text = match self {
            Self::Full => return None,
            Self::Part { start, end, total } => format!("bytes {start}-{}/{total}", end.saturating_sub(1)),
            Self::Unsatisfiable { total } => format!("bytes */{total}"),
        };
        HeaderValue::try_from(text).ok()
    }
}

/// What a GET gets of a stored response with `total` octets of content.
///
/// Several ranges are answered with the whole, which a server may always do (RFC 9110, section 14.2); a range that
/// is malformed counts as absent. `If-Range` needs the very same strong validator.
pub fn answer(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, total: u64) -> RangeAnswer {
    if status != StatusCode::OK {
        return RangeAnswer::Full;
    }
    match single_range(request) {
        Some(range) if if_range_holds(request, stored) => range.within(total),
        _ => RangeAnswer::Full,
    }
}

/// Whether the request asks for a range in a unit that only the origin understands.
pub fn is_foreign(request: &HeaderMap) -> bool {
    request.get(header::RANGE).is_some_and(|value| {
        let unit = value
            .as_bytes()
            .split(|octet| *octet == b'=')
            .next()
            .unwrap_or_default();
        !unit.trim_ascii().eq_ignore_ascii_case(b"bytes")
    })
}

/// One range-spec (RFC 9110, section 14.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRange {
    /// From the first position to the last, both included, or to the end.
    From(u64, Option<u64>),
    /// The last so many octets.
    Suffix(u64),
}

impl ByteRange {
    /// RFC 9110, section 14.1.2.
    fn within(self, total: u64) -> RangeAnswer {
        let (start, end) = match self {
            Self::From(first, last) => (
                first,
                last.map_or(total, |last| last.saturating_add(1).min(total)),
            ),
            Self::Suffix(length) => (total.saturating_sub(length), total),
        };
        if start < end {
            RangeAnswer::Part { start, end, total }
        } else {
            RangeAnswer::Unsatisfiable { total }
        }
    }
}

/// The range of a request that asks for exactly one.
fn single_range(request: &HeaderMap) -> Option<ByteRange> {
    let mut lines = request.get_all(header::RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, spec) = line.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(ByteRange::Suffix(position(last)?)),
        (first, "") => Some(ByteRange::From(position(first)?, None)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(ByteRange::From(first, Some(last)))
        }
    }
}

/// A number of octets; what is too large counts as the largest.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// RFC 9110, section 13.1.5: a strong entity tag, or a `Last-Modified` that was a second or more before `Date`.
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(wanted) = request.get(header::IF_RANGE) else {
        return true;
    };
    if wanted.as_bytes().starts_with(b"\"") {
        return stored.get(header::ETAG) == Some(wanted);
    }
    let stored_date = |name| date::parse(stored.get(name)?.as_bytes());
    match (stored_date(header::LAST_MODIFIED), stored_date(header::DATE)) {
        (Some(modified), Some(made)) => modified < made && stored.get(header::LAST_MODIFIED) == Some(wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    const MODIFIED: &str = "Sun, 13 Sep 2020 12:00:00 GMT";
    const MADE: &str = "Sun, 13 Sep 2020 12:00:01 GMT";

    fn part(start: u64, end: u64, total: u64) -> RangeAnswer {
        RangeAnswer::Part { start, end, total }
    }

    #[test]
    fn ranges_of_eleven_octets() {
        // RFC 9110, sections 14.1.1 and 14.1.2.
        let (total, full) = (11, RangeAnswer::Full);
        let unsatisfiable = RangeAnswer::Unsatisfiable { total };
        let table = [
            ("bytes=0-1", part(0, 2, total)),
            ("bytes=1-", part(1, 11, total)),
            ("bytes=-1", part(10, 11, total)),
            ("bytes=-99", part(0, 11, total)),
            ("bytes=5-99999999999999999999", part(5, 11, total)),
            ("Bytes= 0-0 ", part(0, 1, total)),
            ("bytes=11-", unsatisfiable),
            ("bytes=99999999999999999999-", unsatisfiable),
            ("bytes=-0", unsatisfiable),
            ("bytes=2-1", full),
            ("bytes=0-1,3-4", full),
            ("bytes=-", full),
            ("bytes=", full),
            ("bytes=a-b", full),
            ("bytes=+1-2", full),
            ("bytes=1", full),
            ("bytes", full),
            ("items=0-1", full),
        ];
        for (range, expected) in table {
            let request = headers(&[("range", range)]);
            let found = answer(&request, StatusCode::OK, &HeaderMap::new(), total);
            assert_eq!(found, expected, "{range}");
        }
        let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(answer(&twice, StatusCode::OK, &HeaderMap::new(), total), full);
        let first = headers(&[("range", "bytes=0-0")]);
        assert_eq!(
            answer(&first, StatusCode::NOT_FOUND, &HeaderMap::new(), total),
            full
        );
        assert_eq!(
            answer(&first, StatusCode::OK, &HeaderMap::new(), 0),
            RangeAnswer::Unsatisfiable { total: 0 }
        );
    }

    #[test]
    fn if_range_compares_strongly() {
        let table = [
            ("\"a\"", "\"a\"", MADE, true),
            ("\"a\"", "\"b\"", MADE, false),
            ("W/\"a\"", "W/\"a\"", MADE, false),
            (MODIFIED, "\"a\"", MADE, true),
            (MODIFIED, "\"a\"", MODIFIED, false),
            (MADE, "\"a\"", MADE, false),
        ];
        for (wanted, etag, made, expected) in table {
            let request = headers(&[("range", "bytes=0-0"), ("if-range", wanted)]);
            let stored = headers(&[("etag", etag), ("last-modified", MODIFIED), ("date", made)]);
            let found = answer(&request, StatusCode::OK, &stored, 5) == part(0, 1, 5);
            assert_eq!(found, expected, "{wanted}");
        }
    }

    #[test]
    fn content_range() {
        assert_eq!(part(0, 2, 11).content_range().unwrap(), "bytes 0-1/11");
        assert_eq!(
            RangeAnswer::Unsatisfiable { total: 11 }.content_range().unwrap(),
            "bytes */11"
        );
        assert_eq!(RangeAnswer::Full.content_range(), None);
    }

    #[test]
    fn units_that_are_foreign() {
        for (range, expected) in [
            ("bytes=0-1", false),
            ("BYTES =0-1", false),
            ("items=0-1", true),
            ("x", true),
        ] {
            assert_eq!(is_foreign(&headers(&[("range", range)])), expected, "{range}");
        }
    }
}
