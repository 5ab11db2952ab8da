//! The request as the origin will see it, as far as that decides about caching.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE,
    FORWARDED, HOST, RANGE, VIA,
};
use http::{HeaderMap, HeaderName};

use super::partition::is_credential;
use crate::config::{PrincipalSource, RouteCache, Share};

/// Names that `Connection` may not remove: who asks, for whom, how it got here, and what decides about caching.
const NEVER_NOMINATED: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    FORWARDED,
    HOST,
    ACCEPT_ENCODING,
    RANGE,
    VIA,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// Forwarding fields that change what an origin answers.
static DECIDING: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
];

/// Makes what the cache is asked about into what the origin will see: without what `Connection` takes away, and
/// without forwarding fields that a stranger made up, which is anybody but a `trusted` peer.
///
/// `protected` are the names that the route's cache key depends on.
pub(crate) fn as_upstream_sees(
    headers: &mut HeaderMap,
    trusted: bool,
    protected: impl FnOnce() -> Vec<HeaderName>,
) {
    remove_nominated(headers, protected);
    if !trusted {
        for name in &DECIDING {
            headers.remove(name);
        }
    }
}

/// Removes the fields that `Connection` names.
pub(crate) fn remove_nominated(headers: &mut HeaderMap, protected: impl FnOnce() -> Vec<HeaderName>) {
    for name in nominated(headers, protected) {
        headers.remove(name);
    }
}

/// The fields that `Connection` names, except what decides about identity, tenancy, tracing or caching.
pub(crate) fn nominated(headers: &HeaderMap, protected: impl FnOnce() -> Vec<HeaderName>) -> Vec<HeaderName> {
    let mut named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // What nearly all messages name; these two are removed anyway, and need no allocation.
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(may_be_nominated)
        .collect();
    if !named.is_empty() {
        let protected = protected();
        named.retain(|name| !protected.contains(name));
    }
    named
}

fn may_be_nominated(name: &HeaderName) -> bool {
    let text = name.as_str();
    !NEVER_NOMINATED.contains(name)
        && !is_forwarding(text)
        && !is_credential(name)
        && !matches!(text, "x-user-id" | "x-tenant" | "x-tenant-id")
}

/// Whether a field says how a request was forwarded: it is rebuilt, or believed if the peer is trusted.
pub(crate) fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-") || matches!(name, "x-real-ip" | "forwarded")
}

/// The header names on which the key of a route depends; `Connection` may not remove them.
pub(crate) fn key_headers(rules: Option<&RouteCache>) -> Vec<HeaderName> {
    let Some(rules) = rules else { return Vec::new() };
    let mut names = rules.vary.headers.clone();
    if let Some(PrincipalSource::Header(name)) = &rules.vary.principal {
        names.push(name.clone());
    }
    if let Share::Tenant(name) = &rules.share {
        names.push(name.clone());
    }
    names
}
