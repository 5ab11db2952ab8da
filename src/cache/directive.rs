//! The directives of `Cache-Control` and `Pragma` (RFC 9111, sections 5.2 and 5.4).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::list::{Quotes, is_token_octet, members};

/// The greatest number of seconds that is told from others (RFC 9111, section 1.2.2): 2^31.
const MOST_SECONDS: u64 = 1 << 31;

/// One directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directive<'a> {
    /// In the case it was sent in.
    pub(super) name: &'a [u8],
    /// What follows the equals sign.
    pub(super) argument: Argument<'a>,
}

/// The argument of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// There is none.
    Absent,
    /// A token, or the inside of a quoted string.
    Text(&'a [u8]),
    /// A number that was typed as such (structured fields).
    Seconds(Duration),
    /// Something that is neither.
    Malformed,
}

impl Argument<'_> {
    /// The argument as delta-seconds.
    pub(super) fn seconds(self) -> Option<Duration> {
        match self {
            Self::Text(text) => delta_seconds(text),
            Self::Seconds(seconds) => Some(seconds),
            Self::Absent | Self::Malformed => None,
        }
    }
}

/// Every directive of every line of `field`.
pub(super) fn directives<'a>(
    headers: &'a HeaderMap,
    field: &HeaderName,
) -> impl Iterator<Item = Directive<'a>> {
    headers
        .get_all(field)
        .into_iter()
        .flat_map(|line| members(line.as_bytes(), Quotes::Escaped))
        .map(parse)
}

/// Delta-seconds (RFC 9111, section 1.2.2): digits only; what is too large counts as 2^31.
pub(super) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    text.iter()
        .try_fold(0_u64, |sum, octet| {
            octet
                .is_ascii_digit()
                .then(|| (sum * 10 + u64::from(octet - b'0')).min(MOST_SECONDS))
        })
        .map(Duration::from_secs)
}

/// A signed number of seconds; negative ones are none.
pub(super) fn bounded_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(MOST_SECONDS))
}

/// A name, and what comes right after it. White space between them belongs to no valid directive: before an equals
/// sign it spoils the argument, before anything else a comma was forgotten and the name stands alone.
fn parse(member: &[u8]) -> Directive<'_> {
    let end = member
        .iter()
        .position(|octet| !is_token_octet(*octet))
        .unwrap_or(member.len());
    let (name, after) = member.split_at(end);
    let argument = match after {
        [b'=', b'"', inside @ .., b'"'] => Argument::Text(inside),
        [b'=', token @ ..] if !token.is_empty() && token.iter().all(|octet| is_token_octet(*octet)) => {
            Argument::Text(token)
        }
        _ if after.trim_ascii_start().starts_with(b"=") => Argument::Malformed,
        _ => Argument::Absent,
    };
    Directive { name, argument }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arguments() {
        let table: [(&str, &str, Argument<'_>); 9] = [
            ("no-store", "no-store", Argument::Absent),
            ("a=b", "a", Argument::Text(b"b")),
            ("a=\"b c\"", "a", Argument::Text(b"b c")),
            ("a=\"\"", "a", Argument::Text(b"")),
            ("a=\"", "a", Argument::Malformed),
            ("a=", "a", Argument::Malformed),
            ("a =b", "a", Argument::Malformed),
            ("a= b", "a", Argument::Malformed),
            ("a b=c", "a", Argument::Absent),
        ];
        for (text, name, argument) in table {
            let name = name.as_bytes();
            assert_eq!(parse(text.as_bytes()), Directive { name, argument }, "{text}");
        }
    }

    #[test]
    fn seconds_are_digits_and_bounded() {
        assert_eq!(delta_seconds(b"007"), Some(Duration::from_secs(7)));
        assert_eq!(
            delta_seconds(b"99999999999999999999"),
            Some(Duration::from_secs(1 << 31))
        );
        for text in ["", "-1", "+1", "1.0", " 1", "1;a"] {
            assert_eq!(delta_seconds(text.as_bytes()), None, "{text}");
        }
        assert_eq!(bounded_seconds(-5), Duration::ZERO);
        assert_eq!(bounded_seconds(i64::MAX), Duration::from_secs(1 << 31));
    }
}
