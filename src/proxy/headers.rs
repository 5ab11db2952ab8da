//! Header fields on their way through: hop-by-hop ones end here, forwarding ones are rebuilt.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Version};
use ipnet::IpNet;

use crate::cache::partition::is_credential;
use crate::config::HeaderRules;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

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

/// Where a request came from and how.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The client's address: the peer's, or what a trusted peer says.
    pub(crate) client: SocketAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Whether the peer is trusted.
    pub(crate) trusted: bool,
}

impl Origin {
    /// Judges the peer.
    pub(crate) fn of(peer: SocketAddr, tls: bool, trusted_proxies: &[IpNet], headers: &HeaderMap) -> Self {
        let ip = peer.ip().to_canonical();
        let own = if tls { "https" } else { "http" };
        if !trusted_proxies.iter().any(|net| net.contains(&ip)) {
            return Self {
                client: peer,
                scheme: own,
                trusted: false,
            };
        }
        let scheme = match last_of(headers, &X_FORWARDED_PROTO) {
            Some("https") => "https",
            Some("http") => "http",
            _ => own,
        };
        let client = client_behind(trusted_proxies, headers).map_or(peer, |ip| {
            if ip == peer.ip() {
                peer
            } else {
                SocketAddr::new(ip, 0)
            }
        });
        Self {
            client,
            scheme,
            trusted: true,
        }
    }
}

/// The rightmost address of `X-Forwarded-For` that is not itself a trusted proxy; what lies left of it could be
/// made up by the client.
fn client_behind(trusted: &[IpNet], headers: &HeaderMap) -> Option<IpAddr> {
    let mut found = None;
    let lines: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    for part in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let ip = parse_ip(part.trim())?;
        found = Some(ip);
        if !trusted.iter().any(|net| net.contains(&ip)) {
            break;
        }
    }
    found
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(ip.to_canonical())
}

fn last_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers
        .get_all(name)
        .iter()
        .next_back()?
        .to_str()
        .ok()?
        .rsplit(',')
        .next()
        .map(str::trim)
}

/// Removes what concerns only one connection (RFC 9110, section 7.6.1): fixed names, and those that `Connection`
/// names, except what decides about identity, tenancy, tracing or caching.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap, protected: &[HeaderName]) {
    remove_nominated(headers, protected);
    headers.remove(CONNECTION);
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    let trailers = headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|item| item.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the fields that `Connection` names, with the same exceptions, and leaves `Connection` itself.
pub(crate) fn remove_nominated(headers: &mut HeaderMap, protected: &[HeaderName]) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| may_be_nominated(name) && !protected.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
}

/// Makes what the cache is asked about into what the origin will see: without what `Connection` takes away, and
/// without forwarding fields that a stranger made up.
pub(crate) fn as_upstream_sees(
    headers: &mut HeaderMap,
    origin: &Origin,
    protected: impl FnOnce() -> Vec<HeaderName>,
) {
    if headers.contains_key(CONNECTION) {
        remove_nominated(headers, &protected());
    }
    if !origin.trusted {
        for name in [X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX] {
            headers.remove(name);
        }
    }
}

fn may_be_nominated(name: &HeaderName) -> bool {
    let text = name.as_str();
    !NEVER_NOMINATED.contains(name)
        && !text.starts_with("x-forwarded-")
        && !is_credential(name)
        && !matches!(text, "x-real-ip" | "x-user-id" | "x-tenant" | "x-tenant-id")
}

/// Makes the client's header fields into those for the upstream.
///
/// `protected` are the names that the route's cache key depends on.
pub(crate) fn to_upstream(
    headers: &mut HeaderMap,
    origin: &Origin,
    peer: SocketAddr,
    version: Version,
    rules: &HeaderRules,
    protected: &[HeaderName],
) {
    remove_hop_by_hop(headers, protected);
    headers.remove(PROXY_AUTHORIZATION);
    headers.remove(EXPECT);
    remove_underscored(headers);
    forwarding(headers, origin, peer);
    headers.append(VIA, via(version));
    apply(headers, &rules.request_set, &rules.request_remove);
}

/// Gateways that turn `-` into `_` cannot tell the two apart, so that `x_user_id` could pass for `x-user-id`.
fn remove_underscored(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().contains('_')) {
        let names: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().contains('_'))
            .cloned()
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
}

fn forwarding(headers: &mut HeaderMap, origin: &Origin, peer: SocketAddr) {
    let ip = peer.ip().to_canonical();
    let host = headers.get(HOST).cloned();
    if !origin.trusted {
        for name in [
            X_FORWARDED_FOR,
            X_FORWARDED_HOST,
            X_FORWARDED_PROTO,
            X_FORWARDED_PORT,
            X_REAL_IP,
            FORWARDED,
        ] {
            headers.remove(name);
        }
        let others: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-forwarded-"))
            .cloned()
            .collect();
        for name in others {
            headers.remove(name);
        }
    }
    let mut chain = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(", ");
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(&ip.to_string());
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
    if let Ok(value) = HeaderValue::from_str(&origin.client.ip().to_canonical().to_string()) {
        headers.insert(X_REAL_IP, value);
    }
    let element = match ip {
        IpAddr::V4(ip) => format!("for={ip};proto={}", origin.scheme),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={}", origin.scheme),
    };
    if let Ok(value) = HeaderValue::from_str(&element) {
        headers.append(FORWARDED, value);
    }
}

/// Makes the upstream's header fields into those for the client and the cache.
pub(crate) fn from_upstream(headers: &mut HeaderMap, version: Version) {
    remove_hop_by_hop(headers, &[TRAILER]);
    headers.remove(TE);
    headers.append(VIA, via(version));
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

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 outrigger",
        Version::HTTP_2 => "2.0 outrigger",
        _ => "1.1 outrigger",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn peer() -> SocketAddr {
        "10.1.2.3:4000".parse().unwrap()
    }

    #[test]
    fn connection_removes_what_it_names_but_not_identity() {
        let mut headers = map(&[
            (
                "connection",
                "close, x-debug, authorization, x-forwarded-for, traceparent, x-org",
            ),
            ("x-debug", "1"),
            ("authorization", "Bearer a"),
            ("traceparent", "00-x"),
            ("x-org", "acme"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
        ]);
        remove_hop_by_hop(&mut headers, &[HeaderName::from_static("x-org")]);
        assert!(!headers.contains_key("x-debug"));
        assert!(!headers.contains_key("keep-alive"));
        assert!(!headers.contains_key("connection"));
        assert_eq!(headers["authorization"], "Bearer a");
        assert_eq!(headers["traceparent"], "00-x");
        assert_eq!(headers["x-org"], "acme");
        assert_eq!(headers["te"], "trailers");
    }

    #[test]
    fn forwarding_fields_of_strangers_are_rebuilt() {
        let mut headers = map(&[
            ("host", "hub"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "for=6.6.6.6"),
            ("x_user_id", "root"),
        ]);
        let origin = Origin::of(peer(), false, &[], &headers);
        to_upstream(
            &mut headers,
            &origin,
            peer(),
            Version::HTTP_11,
            &HeaderRules::default(),
            &[],
        );
        assert_eq!(headers["x-forwarded-for"], "10.1.2.3");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "hub");
        assert_eq!(headers["forwarded"], "for=10.1.2.3;proto=http");
        assert!(!headers.contains_key("x-forwarded-prefix"));
        assert!(!headers.contains_key("x_user_id"));
        assert_eq!(headers["via"], "1.1 outrigger");
    }

    #[test]
    fn a_trusted_peer_is_believed_up_to_the_first_stranger() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let headers = map(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.9.9.9"),
            ("x-forwarded-proto", "https"),
        ]);
        let origin = Origin::of(peer(), false, &trusted, &headers);
        assert_eq!(origin.client.ip().to_string(), "2.2.2.2");
        assert_eq!(origin.scheme, "https");
    }

    #[test]
    fn a_malformed_chain_falls_back_to_the_peer() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let headers = map(&[("x-forwarded-for", "unknown")]);
        assert_eq!(Origin::of(peer(), true, &trusted, &headers).client, peer());
    }
}
