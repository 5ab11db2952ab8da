//! HTTP dates (RFC 9110, section 5.6.7).

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::clock::Timestamp;

/// Longest text that can be a date: `Wednesday, 06-Nov-94 08:49:37 GMT` has 33 octets.
const LONGEST: usize = 40;

const WEEKDAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// The last second of the year 9999, which is as far as the format goes.
const LAST_SECOND: u64 = 253_402_300_799;

/// A field that should hold one date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateField {
    /// There is no such field.
    Absent,
    /// It is not a date, or several lines contradict each other.
    Invalid,
    /// The date.
    At(Timestamp),
}

impl DateField {
    /// Reads the field `name` of `headers`.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut lines = headers.get_all(name).into_iter();
        let Some(first) = lines.next() else {
            return Self::Absent;
        };
        if lines.any(|other| other != first) {
            return Self::Invalid;
        }
        parse(first.as_bytes()).map_or(Self::Invalid, Self::At)
    }

    /// The date, if there is a valid one.
    pub fn valid(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// Reads a date in any of the three formats that recipients must accept. Names of days, months and the zone are
/// taken in any case; everything else is strict, because a date that is not understood counts as passed.
pub fn parse(value: &[u8]) -> Option<Timestamp> {
    let mut buffer = [0_u8; LONGEST];
    let text = buffer.get_mut(..value.len())?;
    text.copy_from_slice(value);
    for word in text.chunk_by_mut(|left, right| left.is_ascii_alphabetic() == right.is_ascii_alphabetic()) {
        if word.eq_ignore_ascii_case(b"GMT") {
            word.make_ascii_uppercase();
        } else {
            word.make_ascii_lowercase();
            if let Some(first) = word.first_mut() {
                first.make_ascii_uppercase();
            }
        }
    }
    read(text).map(Timestamp::from_system_time)
}

/// Parses a date in proper case. `httpdate` refuses a weekday that does not belong to the date, which nothing asks
/// of a recipient; so any weekday of the short form will do.
fn read(text: &mut [u8]) -> Option<SystemTime> {
    let parse = |text: &[u8]| httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok();
    if let Some(date) = parse(text) {
        return Some(date);
    }
    if !WEEKDAYS.iter().any(|day| text.starts_with(*day)) {
        return None;
    }
    WEEKDAYS.iter().find_map(|day| {
        text.first_chunk_mut::<3>()?.copy_from_slice(*day);
        parse(text)
    })
}

/// `at` as a field value, in whole seconds.
pub fn format(at: Timestamp) -> HeaderValue {
    let at = Timestamp::from_secs(at.as_secs().min(LAST_SECOND));
    HeaderValue::try_from(httpdate::fmt_http_date(at.to_system_time()))
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Adds the `Date` that a recipient with a clock must add when the origin left it out (RFC 9110, section 6.6.1).
pub fn ensure_date(headers: &mut HeaderMap, received: Timestamp) {
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, format(received));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER_1994: u64 = 784_111_777;

    #[test]
    fn the_three_formats_and_any_case() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 NOV 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gMT",
            "Thu, 06 Nov 1994 08:49:37 GMT",
            "Thu Nov  6 08:49:37 1994",
        ] {
            assert_eq!(
                parse(text.as_bytes()),
                Some(Timestamp::from_secs(NOVEMBER_1994)),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Wednesday, 06-Nov-94 08:49:37 GMT and then some more text",
            "Sun, 06 Nov 1994 08:49:37 GM\u{fc}",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn several_lines_must_agree() {
        let mut headers = HeaderMap::new();
        assert_eq!(DateField::of(&headers, &header::EXPIRES), DateField::Absent);
        headers.append(header::EXPIRES, format(Timestamp::from_secs(5)));
        headers.append(header::EXPIRES, format(Timestamp::from_secs(5)));
        assert_eq!(
            DateField::of(&headers, &header::EXPIRES),
            DateField::At(Timestamp::from_secs(5))
        );
        headers.append(header::EXPIRES, format(Timestamp::from_secs(6)));
        assert_eq!(DateField::of(&headers, &header::EXPIRES), DateField::Invalid);
    }

    #[test]
    fn a_written_date_reads_back_and_the_far_future_is_bounded() {
        assert_eq!(
            format(Timestamp::from_secs(NOVEMBER_1994)),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(
            format(Timestamp::from_micros(u64::MAX)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    #[test]
    fn a_missing_date_is_added_and_a_present_one_kept() {
        let mut headers = HeaderMap::new();
        ensure_date(&mut headers, Timestamp::from_secs(NOVEMBER_1994));
        ensure_date(&mut headers, Timestamp::from_secs(0));
        assert_eq!(headers[header::DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
