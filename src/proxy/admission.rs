//! What HTTP/2 requests are refused for, by the same names as HTTP/1's.
//!
//! HTTP/1 requests are checked on their bytes, by [`super::wire`]. The HTTP/2 library has seen to framing and to
//! connection-specific fields (RFC 9113, section 8.2.2) by itself; what is left is what the request says.

use http::Method;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;

use super::wire::{Authority, Malformed, TARGET_MAX, check_origin_form};
use crate::config::ListenerLimits;

/// Whether the request of `head`, which came by HTTP/2, may be looked at further.
///
/// # Errors
/// The reason why it may not.
pub fn admit(head: &Parts, limits: &ListenerLimits) -> Result<(), Malformed> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Malformed::MethodRefused);
    }
    if head.headers.len() > limits.headers {
        return Err(Malformed::TooManyHeaders);
    }
    target(head, limits)?;
    authority(head)?;
    content_length(head)
}

fn target(head: &Parts, limits: &ListenerLimits) -> Result<(), Malformed> {
    let default_port = head.uri.scheme_str().and_then(default_port);
    let target = head
        .uri
        .path_and_query()
        .map(|target| target.as_str())
        .ok_or(Malformed::Target)?;
    if target.len() > TARGET_MAX.min(limits.header_bytes) {
        return Err(Malformed::TargetTooLong);
    }
    match default_port {
        None => Err(Malformed::Target),
        Some(_) if target == "*" && head.method == Method::OPTIONS => Ok(()),
        Some(_) => check_origin_form(target.as_bytes()),
    }
}

/// `:authority`, `Host`, or both, if they are the same (RFC 9113, section 8.3.1).
fn authority(head: &Parts) -> Result<(), Malformed> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::HostRepeated);
    }
    let parse = |bytes| Authority::parse(bytes).ok_or(Malformed::Host);
    let named = head
        .uri
        .authority()
        .map(|authority| parse(authority.as_str().as_bytes()))
        .transpose()?;
    let host = host.map(|host| parse(host.as_bytes())).transpose()?;
    match (named, host) {
        (None, None) => Err(Malformed::HostMissing),
        (Some(named), Some(host)) => {
            let default_port = head.uri.scheme_str().and_then(default_port).unwrap_or(80);
            if named.same(&host, default_port) {
                Ok(())
            } else {
                Err(Malformed::HostMismatch)
            }
        }
        _ => Ok(()),
    }
}

fn content_length(head: &Parts) -> Result<(), Malformed> {
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    if lengths.next().is_some() {
        return Err(Malformed::ContentLengthRepeated);
    }
    let digits = length.as_bytes();
    // 19 digits fit into 64 bits whatever they are.
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    Ok(())
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::connection::testing;

    fn verdict(
        build: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Result<(), Malformed> {
        let request = build(http::Request::builder().uri("http://hub/x?y"))
            .body(())
            .unwrap();
        let mut limits = testing::listener().limits;
        limits.headers = 3;
        admit(&request.into_parts().0, &limits)
    }

    #[test]
    fn good_requests_are_admitted() {
        assert_eq!(verdict(|request| request), Ok(()));
        assert_eq!(
            verdict(|request| request.header("host", "HUB:80").header("content-length", "5")),
            Ok(())
        );
        assert_eq!(
            verdict(|request| request.header("x_y", "underscores are dropped later")),
            Ok(())
        );
    }

    #[test]
    fn bad_requests_are_refused_by_name() {
        let refused = [
            (verdict(|r| r.method("CONNECT")), Malformed::MethodRefused),
            (verdict(|r| r.method("TRACE")), Malformed::MethodRefused),
            (
                verdict(|r| r.header("a", "").header("a", "").header("a", "").header("a", "")),
                Malformed::TooManyHeaders,
            ),
            (verdict(|r| r.uri("/x")), Malformed::Target),
            (verdict(|r| r.uri("ftp://hub/x")), Malformed::Target),
            (verdict(|r| r.uri("http://hub/a\\b")), Malformed::Target),
            (
                verdict(|r| r.uri(format!("http://hub/{}", "x".repeat(TARGET_MAX)))),
                Malformed::TargetTooLong,
            ),
            (verdict(|r| r.uri("http://u@hub/")), Malformed::Host),
            (verdict(|r| r.header("host", "other")), Malformed::HostMismatch),
            (
                verdict(|r| r.header("host", "hub").header("host", "hub")),
                Malformed::HostRepeated,
            ),
            (
                verdict(|r| r.header("content-length", "+5")),
                Malformed::ContentLength,
            ),
            (
                verdict(|r| r.header("content-length", "5").header("content-length", "5")),
                Malformed::ContentLengthRepeated,
            ),
        ];
        for (found, expected) in refused {
            assert_eq!(found, Err(expected));
        }
    }
}
