//! Comma-separated field values (RFC 9110, section 5.6.1).

/// What a backslash inside double quotes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// It escapes the next octet: quoted-string (RFC 9110, section 5.6.4).
    Escaped,
    /// Nothing: entity-tag (RFC 9110, section 8.8.3).
    Literal,
}

/// The members of one field line: trimmed, empty ones left out, commas inside quotes not counted.
///
/// A quote that is never closed is an ordinary character, so that it cannot hide the directives behind it.
pub(super) fn members(line: &[u8], quotes: Quotes) -> Members<'_> {
    Members { rest: line, quotes }
}

/// Iterator of [`members`].
pub(super) struct Members<'a> {
    rest: &'a [u8],
    quotes: Quotes,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (member, after) = self.rest.split_at(member_end(self.rest, self.quotes));
            self.rest = after.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Position of the first comma outside quotes, or the length.
fn member_end(bytes: &[u8], quotes: Quotes) -> usize {
    let mut at = 0;
    while let Some(octet) = bytes.get(at) {
        match octet {
            b',' => return at,
            b'"' => at += quoted_length(&bytes[at..], quotes).unwrap_or(1),
            _ => at += 1,
        }
    }
    at
}

/// Length of the quoted text that `bytes` begins with, both quotes included; none when it is not closed.
fn quoted_length(bytes: &[u8], quotes: Quotes) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if quotes == Quotes::Escaped => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether `octet` may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str, quotes: Quotes) -> Vec<String> {
        members(line.as_bytes(), quotes)
            .map(|member| String::from_utf8_lossy(member).into_owned())
            .collect()
    }

    #[test]
    fn splits_trims_and_drops_empty_members() {
        assert_eq!(split(" a ,, b,\tc ,", Quotes::Escaped), ["a", "b", "c"]);
        assert!(split(" , ", Quotes::Escaped).is_empty());
    }

    #[test]
    fn commas_in_quotes_do_not_split() {
        assert_eq!(split(r#"a="x, y", b"#, Quotes::Escaped), [r#"a="x, y""#, "b"]);
        assert_eq!(split(r#"a="x\", y", b"#, Quotes::Escaped), [r#"a="x\", y""#, "b"]);
        assert_eq!(split(r#""a\", "b""#, Quotes::Literal), [r#""a\""#, r#""b""#]);
    }

    #[test]
    fn an_open_quote_hides_nothing() {
        assert_eq!(
            split(r#"a="x, no-store"#, Quotes::Escaped),
            [r#"a="x"#, "no-store"]
        );
        assert_eq!(split("a=\"x\\", Quotes::Escaped), ["a=\"x\\"]);
    }
}
