//! What a listener refuses before anything else looks at it, as far as a request that is asked about can be that.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::config::{Config, ListenerLimits};
use crate::proxy::wire::{Scanner, Stop, WireLimits};

/// The name of the reason by which bodies are refused.
const BODY_TOO_LARGE: &str = "body-too-large";

/// The most that any listener lets through.
pub(super) struct Admission {
    wire: WireLimits,
    max_body: u64,
}

impl Admission {
    /// That of the listeners of `config`.
    pub(super) fn of(config: &Config) -> Self {
        let limits = || config.listeners.iter().map(|listener| &listener.limits);
        let most = |limit: fn(&ListenerLimits) -> usize| limits().map(limit).max().unwrap_or_default();
        Self {
            wire: WireLimits {
                head_bytes: most(|limits| limits.header_bytes),
                headers: most(|limits| limits.headers),
            },
            max_body: limits().map(|limits| limits.max_body).max().unwrap_or_default(),
        }
    }

    /// Why the request is refused, by the name that the client, metrics and spans are told; none if it is not. It is
    /// checked as the bytes that HTTP/1.1 makes of it. Neither method nor target may have control characters.
    pub(super) fn refuses(
        &self,
        method: &str,
        target: &str,
        fields: &HeaderMap,
        body: &[u8],
    ) -> Option<&'static str> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for (name, value) in fields {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let framed = fields.contains_key(CONTENT_LENGTH) || fields.contains_key(TRANSFER_ENCODING);
        if !framed && !body.is_empty() {
            head.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
        }
        head.extend(b"\r\n");
        if let Stop::Malformed(reason) = Scanner::new(self.wire).scan(&head).stop {
            return Some(reason.as_str());
        }
        let declared = fields.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let declared = declared.and_then(|length| length.trim().parse().ok());
        (declared.unwrap_or(body.len() as u64) > self.max_body).then_some(BODY_TOO_LARGE)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_is_refused_is_refused_by_its_name_on_the_wire() {
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let admission = Admission {
            wire: WireLimits {
                head_bytes: 9_000,
                headers: 3,
            },
            max_body: 10,
        };
        let (long, large) = (format!("/{}", "a".repeat(8192)), "x".repeat(9_000));
        let table: [(&str, &str, Fields<'_>, &str, Option<&str>); 24] = [
            ("GET", "/a?b={c}", &[], "", None),
            ("POST", "/", &[], "0123456789", None),
            (
                "POST",
                "/",
                &[("transfer-encoding", "chunked")],
                "0123456789",
                None,
            ),
            ("POST", "/", &[], "0123456789a", Some("body-too-large")),
            (
                "POST",
                "/",
                &[("content-length", "11")],
                "",
                Some("body-too-large"),
            ),
            ("CONNECT", "/", &[], "", Some("method-refused")),
            ("TRACE", "/", &[], "", Some("method-refused")),
            ("G T", "/", &[], "", Some("target")),
            ("GET", "/a#b", &[], "", Some("target")),
            ("GET", "/a b", &[], "", Some("target")),
            ("GET", "/a\\b", &[], "", Some("target")),
            ("GET", "/é", &[], "", Some("target")),
            ("GET", "/?\"", &[], "", Some("target")),
            ("GET", &long, &[], "", Some("target-too-long")),
            ("GET", "/", &[("host", "b")], "", Some("host-repeated")),
            ("GET", "/", &[("x-a", "1"), ("x-b", "2")], "", None),
            (
                "GET",
                "/",
                &[("x-a", "1"), ("x-a", "2"), ("x-b", "")],
                "",
                Some("too-many-headers"),
            ),
            ("GET", "/", &[("x-a", &large)], "", Some("head-too-large")),
            (
                "GET",
                "/",
                &[("content-length", "+1")],
                "",
                Some("content-length"),
            ),
            (
                "GET",
                "/",
                &[("content-length", "1, 1")],
                "",
                Some("content-length-repeated"),
            ),
            (
                "GET",
                "/",
                &[("content-length", "1"), ("content-length", "1")],
                "",
                Some("content-length-repeated"),
            ),
            (
                "GET",
                "/",
                &[("transfer-encoding", "gzip")],
                "",
                Some("transfer-encoding"),
            ),
            (
                "GET",
                "/",
                &[("content-length", "1"), ("transfer-encoding", "chunked")],
                "",
                Some("length-and-encoding"),
            ),
            (
                "GET",
                "/",
                &[("content-length", "99999999999999999999")],
                "",
                Some("content-length"),
            ),
        ];
        let fields = |host: Option<&str>, fields: Fields<'_>| -> HeaderMap {
            let mut map = HeaderMap::new();
            let host = host.map(|host| ("host", host));
            for (name, value) in host.into_iter().chain(fields.iter().copied()) {
                map.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            map
        };
        for (method, target, given, body, expected) in table {
            let found = admission.refuses(method, target, &fields(Some("a"), given), body.as_bytes());
            assert_eq!(found, expected, "{method} {target} {given:?} {body}");
        }
        let hosts = [
            (None, "host-missing"),
            (Some(""), "host"),
            (Some("a b"), "host"),
            (Some("a:99999"), "host"),
        ];
        for (host, expected) in hosts {
            let found = admission.refuses("GET", "/", &fields(host, &[]), b"");
            assert_eq!(found, Some(expected), "{host:?}");
        }
    }
}
