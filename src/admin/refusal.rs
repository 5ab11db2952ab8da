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

    type Fields<'a> = &'a [(&'static str, &'a str)];

    /// Why at most three fields, 9000 bytes of head and ten of body are refused.
    fn refuses(method: &str, target: &str, fields: Fields<'_>, body: &str) -> Option<&'static str> {
        let admission = Admission {
            wire: WireLimits {
                head_bytes: 9_000,
                headers: 3,
            },
            max_body: 10,
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        admission.refuses(method, target, &map, body.as_bytes())
    }

    #[test]
    fn heads_are_refused_by_their_names_on_the_wire() {
        const HOST: (&str, &str) = ("host", "a");
        let (long, large) = (format!("/{}", "a".repeat(8192)), "x".repeat(9_000));
        let table: [(&str, &str, Fields<'_>, Option<&str>); 17] = [
            ("GET", "/a?b={c}", &[HOST], None),
            ("GET", "/", &[HOST, ("x-a", "1"), ("x-b", "2")], None),
            ("CONNECT", "/", &[HOST], Some("method-refused")),
            ("TRACE", "/", &[HOST], Some("method-refused")),
            ("GET", "/a#b", &[HOST], Some("target")),
            ("GET", "/a b", &[HOST], Some("target")),
            ("GET", "/a\\b", &[HOST], Some("target")),
            ("GET", "/é", &[HOST], Some("target")),
            ("GET", "/?\"", &[HOST], Some("target")),
            ("GET", &long, &[HOST], Some("target-too-long")),
            ("GET", "/", &[], Some("host-missing")),
            ("GET", "/", &[("host", "")], Some("host")),
            ("GET", "/", &[("host", "a b")], Some("host")),
            ("GET", "/", &[("host", "a:99999")], Some("host")),
            ("GET", "/", &[HOST, HOST], Some("host-repeated")),
            ("GET", "/", &[HOST, ("x-a", &large)], Some("head-too-large")),
            (
                "GET",
                "/",
                &[HOST, ("x-a", "1"), ("x-a", "2"), ("x-b", "")],
                Some("too-many-headers"),
            ),
        ];
        for (method, target, fields, expected) in table {
            assert_eq!(
                refuses(method, target, fields, ""),
                expected,
                "{method} {target} {fields:?}"
            );
        }
    }

    #[test]
    fn bodies_are_refused_by_what_their_heads_say() {
        const LENGTH: &str = "content-length";
        const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
        let table: [(Fields<'_>, &str, Option<&str>); 10] = [
            (&[], "0123456789", None),
            (&[CHUNKED], "0123456789", None),
            (&[], "0123456789a", Some("body-too-large")),
            (&[(LENGTH, "11")], "", Some("body-too-large")),
            (&[(LENGTH, "+1")], "", Some("content-length")),
            (&[(LENGTH, "99999999999999999999")], "", Some("content-length")),
            (&[(LENGTH, "1, 1")], "", Some("content-length-repeated")),
            (
                &[(LENGTH, "1"), (LENGTH, "1")],
                "",
                Some("content-length-repeated"),
            ),
            (&[("transfer-encoding", "gzip")], "", Some("transfer-encoding")),
            (&[(LENGTH, "1"), CHUNKED], "", Some("length-and-encoding")),
        ];
        for (fields, body, expected) in table {
            let fields = [&[("host", "a")], fields].concat();
            assert_eq!(refuses("POST", "/", &fields, body), expected, "{fields:?} {body}");
        }
    }
}
