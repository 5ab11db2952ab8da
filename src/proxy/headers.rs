//! Header fields on their way through: hop-by-hop ones end here, forwarding ones are rebuilt.
//!
//! Each message is looked through once: searching it for every name that is handled here would cost more than the rest
//! of its way.

use http::header::{HeaderName, TE, TRAILER, VIA};
use http::{HeaderMap, HeaderValue, Version};

use super::forwarding::{self, Origin, Peer};
use crate::cache::as_sent::{is_forwarding, nominated, remove_nominated};
use crate::config::HeaderRules;

/// Fields that the sidecar adds to a request: forwarding ones, `Via`, `traceparent`, and one for a validation.
const ADDED: usize = forwarding::ADDED + 3;

/// What is to be done with a field on its way to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It goes through unless `Connection` names it.
    EndToEnd,
    /// It ends here.
    HopByHop,
    /// `TE`: only `trailers` goes through.
    Te,
    /// It says how the request came here.
    Forwarding,
}

impl Kind {
    fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "te" => Self::Te,
            // For the nearest hop only, and what the library answers itself.
            "proxy-authorization" | "expect" => Self::HopByHop,
            name if is_hop_by_hop(name) => Self::HopByHop,
            // Each attempt has its own.
            "traceparent" => Self::HopByHop,
            name if is_forwarding(name) => Self::Forwarding,
            // Gateways that turn `-` into `_` cannot tell the two apart: `x_user_id` could pass for `x-user-id`.
            name if name.contains('_') => Self::HopByHop,
            _ => Self::EndToEnd,
        }
    }
}

/// Whether a field concerns only one connection (RFC 9110, section 7.6.1), `TE` aside.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
    )
}

/// The client's header fields as the upstream gets them.
///
/// `protected` are the names that the route's cache key depends on.
pub(crate) fn to_upstream(
    asked: &HeaderMap,
    origin: &Origin,
    peer: &Peer,
    version: Version,
    rules: &HeaderRules,
    protected: impl FnOnce() -> Vec<HeaderName>,
) -> HeaderMap {
    let mut fields = HeaderMap::try_with_capacity(asked.len() + ADDED).unwrap_or_default();
    each_passed_on(asked, origin, protected, |name, value| {
        fields.append(name.clone(), value.clone());
    });
    forwarding::add(&mut fields, asked, origin, peer);
    fields.append(VIA, via(version));
    apply(&mut fields, &rules.request_set, &rules.request_remove);
    fields
}

/// Calls `pass` for what goes through of the client's header fields, in order.
pub(super) fn each_passed_on(
    asked: &HeaderMap,
    origin: &Origin,
    protected: impl FnOnce() -> Vec<HeaderName>,
    mut pass: impl FnMut(&HeaderName, &HeaderValue),
) {
    let nominated = nominated(asked, protected);
    let mut trailers = false;
    for (name, value) in asked {
        let goes_through = match Kind::of(name) {
            Kind::EndToEnd => !nominated.contains(name),
            Kind::Forwarding => origin.trusted && !forwarding::is_replaced(name.as_str()),
            Kind::HopByHop => false,
            Kind::Te => {
                trailers |= lists(value, "trailers");
                false
            }
        };
        if goes_through {
            pass(name, value);
        }
    }
    if trailers {
        pass(&TE, &HeaderValue::from_static("trailers"));
    }
}

/// Makes the upstream's header fields into those for the client and the cache.
pub(crate) fn from_upstream(headers: &mut HeaderMap, version: Version) {
    let hop_by_hop = |name: &&HeaderName| is_hop_by_hop(name.as_str()) || **name == TE;
    if headers.keys().any(|name| hop_by_hop(&name)) {
        remove_nominated(headers, || vec![TRAILER]);
        while let Some(name) = headers.keys().find(hop_by_hop).cloned() {
            headers.remove(name);
        }
    }
    headers.append(VIA, via(version));
}

/// Whether `value` is a list that has `item`.
fn lists(value: &HeaderValue, item: &str) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|found| found.trim().eq_ignore_ascii_case(item))
    })
}

/// Applies a route's own changes.
pub(crate) fn apply(headers: &mut HeaderMap, set: &[(HeaderName, HeaderValue)], remove: &[HeaderName]) {
    for name in remove {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.insert(name.clone(), value.clone());
    }
}

/// Our member of `Via` for a message that came by `version` (RFC 9110, section 7.6.3).
pub(super) fn via(version: Version) -> HeaderValue {
    // Checked once, not for each message.
    static HTTP_10: HeaderValue = HeaderValue::from_static("1.0 outrigger");
    static HTTP_11: HeaderValue = HeaderValue::from_static("1.1 outrigger");
    static HTTP_2: HeaderValue = HeaderValue::from_static("2.0 outrigger");
    match version {
        Version::HTTP_10 => HTTP_10.clone(),
        Version::HTTP_2 => HTTP_2.clone(),
        _ => HTTP_11.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers as map;

    /// What an upstream gets of `asked` from a stranger.
    fn sent(asked: &HeaderMap, protected: &[HeaderName]) -> HeaderMap {
        let peer = Peer::new("10.1.2.3:4000".parse().unwrap());
        let origin = Origin::of(peer.address(), false, &[], asked);
        let rules = HeaderRules::default();
        to_upstream(asked, &origin, &peer, Version::HTTP_11, &rules, || {
            protected.to_vec()
        })
    }

    #[test]
    fn connection_removes_what_it_names_but_not_identity() {
        let asked = map(&[
            (
                "connection",
                "close, x-debug, authorization, x-forwarded-for, tracestate, x-org",
            ),
            ("x-debug", "1"),
            ("authorization", "Bearer a"),
            ("traceparent", "00-x"),
            ("tracestate", "a=b"),
            ("x-org", "acme"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic a"),
        ]);
        let headers = sent(&asked, &[HeaderName::from_static("x-org")]);
        for gone in [
            "x-debug",
            "keep-alive",
            "connection",
            "expect",
            "proxy-authorization",
            // Each attempt brings its own.
            "traceparent",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["authorization"], "Bearer a");
        assert_eq!(headers["tracestate"], "a=b");
        assert_eq!(headers["x-org"], "acme");
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn forwarding_fields_of_strangers_are_rebuilt() {
        let headers = sent(
            &map(&[
                ("host", "hub"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-prefix", "/evil"),
                ("forwarded", "for=6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("x_user_id", "root"),
            ]),
            &[],
        );
        assert_eq!(headers["x-forwarded-for"], "10.1.2.3");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "hub");
        assert_eq!(headers["x-real-ip"], "10.1.2.3");
        assert_eq!(headers["forwarded"], "for=10.1.2.3;proto=http");
        assert!(!headers.contains_key("x-forwarded-prefix"));
        assert!(!headers.contains_key("x_user_id"));
        assert_eq!(headers["via"], "1.1 outrigger");
    }

    #[test]
    fn a_field_with_several_values_keeps_them_in_order() {
        let headers = sent(
            &map(&[("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2")]),
            &[],
        );
        let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn a_response_loses_what_is_for_its_hop() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-hop, trailer"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("x-hop", "1"),
            ("trailer", "x-sum"),
            ("etag", "a"),
        ]);
        from_upstream(&mut headers, Version::HTTP_11);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["etag", "trailer", "via"]);
    }
}
