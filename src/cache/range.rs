//! Byte ranges: what a request asks for, which part a response holds, and how stored content answers (RFC 9110, section
//! 14; RFC 9111, sections 3.3 and 3.4).

use std::ops::Range;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::date;

/// Most ranges of one request that are answered apart; who asks for more gets the whole.
const MOST: usize = 32;

/// Ranges with no more octets between them are answered as one: a part of its own costs about as much.
const GAP: u64 = 128;

/// How stored content answers a request with `Range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// With all of it: there is no range, or it does not apply.
    Full,
    /// With 206: one part as it is, several as `multipart/byteranges`.
    Parts {
        /// The octets of each part, none of them empty, in the order in which they were asked for.
        spans: Vec<Range<u64>>,
        /// Length of the whole content.
        total: u64,
    },
    /// With 416: nothing of it lies in the ranges.
    Unsatisfiable {
        /// Length of the whole content.
        total: u64,
    },
}

/// Which part of some content a response holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its octets; not empty.
    pub span: Range<u64>,
    /// Length of the whole content.
    pub total: u64,
}

impl Part {
    /// What a 206 with one part says about it; none if it has several, does not know the length of the whole, or
    /// contradicts itself (RFC 9110, section 14.4).
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(header::CONTENT_RANGE).into_iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let (unit, range) = line.to_str().ok()?.trim().split_once(' ')?;
        let (span, total) = range.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let digits = |text: &str| position(text).filter(|number| *number < u64::MAX);
        let (first, last, total) = (digits(first)?, digits(last)?, digits(total)?);
        let sound = unit.eq_ignore_ascii_case("bytes") && first <= last && last < total;
        sound.then_some(Self {
            span: first..last + 1,
            total,
        })
    }

    /// Octets of the part.
    pub fn length(&self) -> u64 {
        self.span.end - self.span.start
    }

    /// Whether it is all of the content.
    pub fn is_whole(&self) -> bool {
        self.length() == self.total
    }

    /// Both parts together, if nothing is missing between them.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let touches = self.span.start <= other.span.end && other.span.start <= self.span.end;
        (touches && self.total == other.total).then(|| Self {
            span: self.span.start.min(other.span.start)..self.span.end.max(other.span.end),
            total: self.total,
        })
    }

    /// Its `Content-Range`.
    pub fn content_range(&self) -> HeaderValue {
        content_range(&self.span, self.total)
    }

    /// The spans that this part, stored with the fields `stored`, gives as the answer to `request`; none if it does
    /// not hold all that is asked for.
    pub fn answers(&self, request: &HeaderMap, stored: &HeaderMap) -> Option<Vec<Range<u64>>> {
        match answer(request, StatusCode::OK, stored, self.total) {
            RangeAnswer::Parts { spans, .. } => {
                let holds = |span: &Range<u64>| self.span.start <= span.start && span.end <= self.span.end;
                spans.iter().all(holds).then_some(spans)
            }
            RangeAnswer::Full | RangeAnswer::Unsatisfiable { .. } => None,
        }
    }
}

/// The `Content-Range` of `span` (RFC 9110, section 14.4).
pub fn content_range(span: &Range<u64>, total: u64) -> HeaderValue {
    let last = span.end.saturating_sub(1);
    value(format!("bytes {}-{last}/{total}", span.start))
}

/// The `Content-Range` of a 416.
pub fn unsatisfied(total: u64) -> HeaderValue {
    value(format!("bytes */{total}"))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes */*"))
}

/// What a GET gets of a stored response with `total` octets of content.
///
/// A range that is malformed counts as absent, and so do more than 32 of them, which a server may always do (RFC 9110,
/// section 14.2). Ranges that overlap or nearly touch become one (section 15.3.7.2), so that no answer is much longer
/// than the content. `If-Range` needs the very same strong validator.
pub fn answer(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, total: u64) -> RangeAnswer {
    if status != StatusCode::OK {
        return RangeAnswer::Full;
    }
    let Some(ranges) = ranges(request).filter(|_| if_range_holds(request, stored)) else {
        return RangeAnswer::Full;
    };
    let satisfiable: Vec<_> = ranges.iter().filter_map(|range| range.within(total)).collect();
    if satisfiable.is_empty() {
        return RangeAnswer::Unsatisfiable { total };
    }
    RangeAnswer::Parts {
        spans: coalesced(satisfiable),
        total,
    }
}

/// Whether the request asks for exactly one range.
pub fn is_single(request: &HeaderMap) -> bool {
    ranges(request).is_some_and(|ranges| ranges.len() == 1)
}

/// Whether two responses of one target hold the same octets: both have the same strong entity tag (RFC 9111, section
/// 3.4). A date of modification is not trusted with that.
pub fn same_content(one: &HeaderMap, other: &HeaderMap) -> bool {
    let tag = one.get(header::ETAG);
    tag.is_some_and(|tag| tag.as_bytes().starts_with(b"\"") && other.get(header::ETAG) == Some(tag))
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
    fn parse(spec: &str) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Suffix(position(last)?)),
            (first, "") => Some(Self::From(position(first)?, None)),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// RFC 9110, section 14.1.2; none if it cannot be satisfied.
    fn within(self, total: u64) -> Option<Range<u64>> {
        let (start, end) = match self {
            Self::From(first, last) => (
                first,
                last.map_or(total, |last| last.saturating_add(1).min(total)),
            ),
            Self::Suffix(length) => (total.saturating_sub(length), total),
        };
        (start < end).then_some(start..end)
    }
}

/// The ranges that a request asks for.
fn ranges(request: &HeaderMap) -> Option<Vec<ByteRange>> {
    let mut lines = request.get_all(header::RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, set) = line.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::with_capacity(1);
    // Empty members do not count (RFC 9110, section 5.6.1.2).
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        if ranges.len() == MOST {
            return None;
        }
        ranges.push(ByteRange::parse(spec)?);
    }
    (!ranges.is_empty()).then_some(ranges)
}

/// The same octets in no more parts than needed, each at the place of the first range that is in it.
fn coalesced(spans: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut by_start: Vec<(usize, Range<u64>)> = spans.into_iter().enumerate().collect();
    by_start.sort_by_key(|(_, span)| span.start);
    let mut parts: Vec<(usize, Range<u64>)> = Vec::with_capacity(by_start.len());
    for (place, span) in by_start {
        match parts.last_mut() {
            Some((first, part)) if span.start <= part.end.saturating_add(GAP) => {
                part.end = part.end.max(span.end);
                *first = (*first).min(place);
            }
            _ => parts.push((place, span)),
        }
    }
    parts.sort_by_key(|(place, _)| *place);
    parts.into_iter().map(|(_, part)| part).collect()
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
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is what is meant"
)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    const MODIFIED: &str = "Sun, 13 Sep 2020 12:00:00 GMT";
    const MADE: &str = "Sun, 13 Sep 2020 12:00:01 GMT";

    fn part(start: u64, end: u64, total: u64) -> RangeAnswer {
        RangeAnswer::Parts {
            spans: vec![start..end],
            total,
        }
    }

    #[test]
    fn ranges_of_eleven_octets() {
        // RFC 9110, sections 14.1.1 and 14.1.2.
        let (total, full) = (11, || RangeAnswer::Full);
        let unsatisfiable = || RangeAnswer::Unsatisfiable { total };
        let table = [
            ("bytes=0-1", part(0, 2, total)),
            ("bytes=1-", part(1, 11, total)),
            ("bytes=-1", part(10, 11, total)),
            ("bytes=-99", part(0, 11, total)),
            ("bytes=5-99999999999999999999", part(5, 11, total)),
            ("Bytes= 0-0 ", part(0, 1, total)),
            ("bytes=11-", unsatisfiable()),
            ("bytes=99999999999999999999-", unsatisfiable()),
            ("bytes=-0", unsatisfiable()),
            ("bytes=2-1", full()),
            ("bytes=0-1,3-4", part(0, 5, total)),
            (" bytes=,0-1, ,", part(0, 2, total)),
            ("bytes=,0-1, ,", part(0, 2, total)),
            ("bytes=20-,-1", part(10, 11, total)),
            ("bytes=20-,30-", unsatisfiable()),
            ("bytes=0-1,x", full()),
            ("bytes=,", full()),
            ("bytes=-", full()),
            ("bytes=", full()),
            ("bytes=a-b", full()),
            ("bytes=+1-2", full()),
            ("bytes=1", full()),
            ("bytes", full()),
            ("items=0-1", full()),
        ];
        for (range, expected) in table {
            let request = headers(&[("range", range)]);
            let found = answer(&request, StatusCode::OK, &HeaderMap::new(), total);
            assert_eq!(found, expected, "{range}");
        }
        let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(answer(&twice, StatusCode::OK, &HeaderMap::new(), total), full());
        let first = headers(&[("range", "bytes=0-0")]);
        assert_eq!(
            answer(&first, StatusCode::NOT_FOUND, &HeaderMap::new(), total),
            full()
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
    fn content_ranges() {
        assert_eq!(content_range(&(0..2), 11), "bytes 0-1/11");
        assert_eq!(unsatisfied(11), "bytes */11");
    }

    fn spans(range: &str) -> Vec<Range<u64>> {
        match answer(
            &headers(&[("range", range)]),
            StatusCode::OK,
            &HeaderMap::new(),
            10_000,
        ) {
            RangeAnswer::Parts { spans, .. } => spans,
            other => panic!("{range}: {other:?}"),
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_become_one_where_they_touch() {
        // RFC 9110, section 15.3.7.2.
        assert_eq!(spans("bytes=5000-5099,0-99"), [5000..5100, 0..100]);
        assert_eq!(spans("bytes=5000-,0-99,0-9,-10"), [5000..10_000, 0..100]);
        assert_eq!(spans("bytes=0-99,228-299"), [0..300], "the gap is too small");
        assert_eq!(spans("bytes=0-99,229-299"), [0..100, 229..300]);
        assert_eq!(spans("bytes=0-,0-,0-,0-"), [0..10_000]);
        assert_eq!(spans("bytes=9000-,20000-,0-0"), [9000..10_000, 0..1]);
    }

    #[test]
    fn too_many_ranges_are_none() {
        let many = |count: u64| {
            let list: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 200, n * 200)).collect();
            headers(&[("range", &format!("bytes={}", list.join(",")))])
        };
        let answer = |count| answer(&many(count), StatusCode::OK, &HeaderMap::new(), 10_000);
        assert!(matches!(answer(32), RangeAnswer::Parts { spans, .. } if spans.len() == 32));
        assert_eq!(answer(33), RangeAnswer::Full);
    }

    fn of(content_range: &str) -> Option<Part> {
        Part::of(&headers(&[("content-range", content_range)]))
    }

    #[test]
    fn the_part_that_a_response_holds() {
        assert_eq!(
            of("bytes 2-5/10"),
            Some(Part {
                span: 2..6,
                total: 10
            })
        );
        assert!(of("bytes 0-9/10").unwrap().is_whole());
        for odd in [
            "bytes 2-5/*",
            "bytes */10",
            "bytes 5-2/10",
            "bytes 2-10/10",
            "items 2-5/10",
            "bytes 2-5",
            "bytes 99999999999999999999-99999999999999999999/99999999999999999999",
            "bytes=2-5/10",
            "",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
        let twice = headers(&[("content-range", "bytes 0-1/2"), ("content-range", "bytes 0-1/2")]);
        assert_eq!(Part::of(&twice), None);
    }

    #[test]
    fn parts_join_where_nothing_is_missing() {
        let part = |text: &str| of(&format!("bytes {text}")).unwrap();
        let joined = |one: &str, other: &str| part(one).joined(&part(other));
        assert_eq!(joined("0-4/10", "5-9/10"), Some(part("0-9/10")));
        assert_eq!(joined("5-9/10", "0-4/10"), Some(part("0-9/10")));
        assert_eq!(joined("0-6/10", "3-4/10"), Some(part("0-6/10")));
        assert_eq!(joined("0-3/10", "5-9/10"), None);
        assert_eq!(joined("0-4/10", "5-9/11"), None);
    }

    #[test]
    fn a_part_answers_what_it_holds_and_nothing_else() {
        let held = of("bytes 10-19/100").unwrap();
        let stored = headers(&[("etag", "\"a\"")]);
        let answers = |fields: &[(&str, &str)]| held.answers(&headers(fields), &stored);
        assert_eq!(answers(&[("range", "bytes=10-19")]), Some(vec![10..20]));
        assert_eq!(answers(&[("range", "bytes=12-12,15-16")]), Some(vec![12..17]));
        for missing in [
            "bytes=9-12",
            "bytes=12-20",
            "bytes=10-",
            "bytes=-90",
            "bytes=100-",
        ] {
            assert_eq!(answers(&[("range", missing)]), None, "{missing}");
        }
        assert_eq!(answers(&[]), None, "all of it was asked for");
        assert_eq!(answers(&[("range", "bytes=10-19"), ("if-range", "\"b\"")]), None);
        let whole_suffix = of("bytes 90-99/100").unwrap();
        let suffix = headers(&[("range", "bytes=-5")]);
        assert_eq!(whole_suffix.answers(&suffix, &stored), Some(vec![95..100]));
    }

    #[test]
    fn only_a_strong_tag_proves_the_same_content() {
        for (one, other, expected) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
        ] {
            let (one, other) = (headers(&[("etag", one)]), headers(&[("etag", other)]));
            assert_eq!(same_content(&one, &other), expected);
        }
        let dated = headers(&[("last-modified", MODIFIED)]);
        assert!(!same_content(&dated, &dated));
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
