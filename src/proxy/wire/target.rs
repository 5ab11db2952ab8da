//! Request targets (RFC 9112, section 3.2).

use std::ops::Range;

use super::authority::Authority;
use super::class;
use super::malformed::Malformed;

/// Longest target, bytes.
pub(crate) const TARGET_MAX: usize = 8 * 1024;

/// What a target in absolute form says about the server.
#[derive(Clone, Debug)]
pub(super) struct Absolute {
    /// Where the authority stands in the target.
    pub(super) authority: Range<usize>,
    /// Port of the scheme.
    pub(super) default_port: u16,
}

/// Checks a target of any form. Gives the authority when it is in absolute form.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<Option<Absolute>, Malformed> {
    match target {
        [b'/', ..] => check_origin_form(target).map(|()| None),
        b"*" if method == b"OPTIONS" => Ok(None),
        _ => absolute_form(target).map(Some),
    }
}

/// Checks a target in origin form: a path from `/` on, with or without a query.
pub(crate) fn check_origin_form(target: &[u8]) -> Result<(), Malformed> {
    let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
    let query = query.get(1..).unwrap_or_default();
    if path.first() == Some(&b'/') && class::all(path, class::PATH) && class::all(query, class::QUERY) {
        Ok(())
    } else {
        Err(Malformed::Target)
    }
}

fn absolute_form(target: &[u8]) -> Result<Absolute, Malformed> {
    let (start, default_port) = if starts_with_ignoring_case(target, b"http://") {
        (7, 80)
    } else if starts_with_ignoring_case(target, b"https://") {
        (8, 443)
    } else {
        return Err(Malformed::Target);
    };
    let after = &target[start..];
    let length = memchr::memchr3(b'/', b'?', b'#', after).unwrap_or(after.len());
    let (authority, rest) = after.split_at(length);
    if Authority::parse(authority).is_none() {
        return Err(Malformed::Host);
    }
    match rest {
        [] => {}
        [b'/', ..] => check_origin_form(rest)?,
        [b'?', query @ ..] if class::all(query, class::QUERY) => {}
        _ => return Err(Malformed::Target),
    }
    Ok(Absolute {
        authority: start..start + length,
        default_port,
    })
}

fn starts_with_ignoring_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_valid_form_is_accepted() {
        for target in [
            "/",
            "/a/b?c=d&e=%20",
            "//x",
            "/v1/{id}?q=[1]",
            "http://a",
            "HTTPS://a:1/x?y",
            "http://a?q",
        ] {
            assert!(check(b"GET", target.as_bytes()).is_ok(), "{target}");
            assert!(
                target.parse::<http::Uri>().is_ok(),
                "the library refuses {target}"
            );
        }
        assert!(check(b"OPTIONS", b"*").is_ok());
    }

    #[test]
    fn other_targets_are_refused() {
        for target in [
            "",
            "*",
            "a",
            "a:80",
            "/#f",
            "/a b",
            "/\t",
            "/\u{7f}",
            "/é",
            "/a\\b",
            "/<",
            "/?\"",
            "http://a#f",
            "ftp://a/",
            "http:/a",
            "http://a/#f",
        ] {
            assert_eq!(
                check(b"GET", target.as_bytes()).err(),
                Some(Malformed::Target),
                "{target}"
            );
        }
        for target in ["http://", "http:///x", "http://u@a/", "http://a:/"] {
            assert_eq!(
                check(b"GET", target.as_bytes()).err(),
                Some(Malformed::Host),
                "{target}"
            );
        }
    }

    #[test]
    fn the_library_accepts_every_character_that_is_accepted_here() {
        for byte in 0_u8..=255 {
            for target in [vec![b'/', byte], vec![b'/', b'?', byte]] {
                if check(b"GET", &target).is_ok() {
                    assert!(http::Uri::try_from(target).is_ok(), "{byte:#x}");
                }
            }
        }
    }
}
