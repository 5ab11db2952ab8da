//! Where a request came from: what its forwarding fields say, and the ones it is sent on with.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderName, VIA};
use http::{HeaderMap, HeaderValue, Version};
use ipnet::IpNet;
use parking_lot::Mutex;

use super::headers::via;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields that [`add`] may add.
pub(super) const ADDED: usize = 5;

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

/// Whether [`add`] makes the field anew even if the peer is trusted.
pub(super) fn is_replaced(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-real-ip")
}

/// A peer, and what the requests it sends are told to have come from: made once per connection.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    elements: OnceLock<Elements>,
    /// Those made last: nearly all requests of a connection are for one host.
    encoded: Mutex<Option<Encoded>>,
}

/// The forwarding fields and `Via` as HTTP/1.1 writes them, and what they depend on besides the peer.
#[derive(Debug)]
struct Encoded {
    host: HeaderValue,
    scheme: &'static str,
    version: Version,
    fields: Bytes,
}

#[derive(Debug)]
struct Elements {
    /// The address alone.
    address: Option<HeaderValue>,
    /// An element of `Forwarded` (RFC 7239, section 4).
    http: Option<HeaderValue>,
    https: Option<HeaderValue>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            elements: OnceLock::new(),
            encoded: Mutex::new(None),
        }
    }

    /// What [`add`] adds to a request for `host`, and `Via`, as HTTP/1.1 writes them. None for a trusted peer, whose
    /// own fields count, and for a request without a host.
    pub(super) fn encoded(&self, origin: &Origin, host: &HeaderValue, version: Version) -> Option<Bytes> {
        if origin.trusted || host.is_empty() {
            return None;
        }
        let mut last = self.encoded.lock();
        if let Some(last) = &*last
            && last.host == *host
            && last.scheme == origin.scheme
            && last.version == version
        {
            return Some(last.fields.clone());
        }
        let mut map = HeaderMap::from_iter([(HOST, host.clone())]);
        add(&mut map, &HeaderMap::new(), origin, self);
        map.remove(HOST);
        map.append(VIA, via(version));
        let mut fields = Vec::new();
        for (name, value) in &map {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                fields.extend_from_slice(part);
            }
        }
        let fields = Bytes::from(fields);
        *last = Some(Encoded {
            host: host.clone(),
            scheme: origin.scheme,
            version,
            fields: fields.clone(),
        });
        Some(fields)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn elements(&self) -> &Elements {
        self.elements.get_or_init(|| {
            let ip = self.address.ip().to_canonical();
            let element = |scheme| match ip {
                IpAddr::V4(ip) => HeaderValue::try_from(format!("for={ip};proto={scheme}")).ok(),
                IpAddr::V6(ip) => HeaderValue::try_from(format!("for=\"[{ip}]\";proto={scheme}")).ok(),
            };
            Elements {
                address: HeaderValue::try_from(ip.to_string()).ok(),
                http: element("http"),
                https: element("https"),
            }
        })
    }
}

/// Adds the forwarding fields to `fields`, which go to the upstream; `asked` are those that the client sent.
pub(super) fn add(fields: &mut HeaderMap, asked: &HeaderMap, origin: &Origin, peer: &Peer) {
    let elements = peer.elements();
    if let Some(chain) = chain(asked, origin, elements) {
        fields.insert(X_FORWARDED_FOR, chain);
    }
    fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    if let Some(host) = fields.get(HOST).cloned() {
        fields.entry(X_FORWARDED_HOST).or_insert(host);
    }
    let client = if origin.client == peer.address {
        elements.address.clone()
    } else {
        HeaderValue::try_from(origin.client.ip().to_canonical().to_string()).ok()
    };
    if let Some(client) = client {
        fields.insert(X_REAL_IP, client);
    }
    let element = match origin.scheme {
        "https" => &elements.https,
        _ => &elements.http,
    };
    if let Some(element) = element {
        fields.append(FORWARDED, element.clone());
    }
}

/// `X-Forwarded-For`: what a trusted peer says, then the peer.
fn chain(asked: &HeaderMap, origin: &Origin, elements: &Elements) -> Option<HeaderValue> {
    let own = elements.address.as_ref()?;
    if !origin.trusted || !asked.contains_key(X_FORWARDED_FOR) {
        return Some(own.clone());
    }
    let said = asked.get_all(X_FORWARDED_FOR).iter();
    let parts: Vec<&str> = said.chain([own]).filter_map(|part| part.to_str().ok()).collect();
    HeaderValue::try_from(parts.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers as map;

    fn peer() -> SocketAddr {
        "10.1.2.3:4000".parse().unwrap()
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

    #[test]
    fn the_chain_of_a_trusted_peer_goes_on_with_the_peer() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let asked = map(&[
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-proto", "https"),
        ]);
        let origin = Origin::of(peer(), false, &trusted, &asked);
        let mut fields = map(&[("host", "hub"), ("forwarded", "for=2.2.2.2")]);
        add(&mut fields, &asked, &origin, &Peer::new(peer()));
        assert_eq!(fields["x-forwarded-for"], "2.2.2.2, 10.9.9.9, 10.1.2.3");
        assert_eq!(fields["x-real-ip"], "2.2.2.2");
        assert_eq!(fields["x-forwarded-proto"], "https");
        let forwarded: Vec<_> = fields.get_all("forwarded").iter().collect();
        assert_eq!(forwarded, ["for=2.2.2.2", "for=10.1.2.3;proto=https"]);
    }

    #[test]
    fn the_encoded_fields_are_those_that_are_added() {
        let peer = Peer::new(peer());
        let of = |tls, trusted: &[IpNet]| Origin::of(peer.address(), tls, trusted, &HeaderMap::new());
        let hosts = ["hub", "hub", "other:8080"].map(HeaderValue::from_static);
        for (host, tls, version) in [
            (&hosts[0], false, Version::HTTP_11),
            (&hosts[1], false, Version::HTTP_11),
            (&hosts[1], true, Version::HTTP_11),
            (&hosts[1], true, Version::HTTP_2),
            (&hosts[2], false, Version::HTTP_10),
            (&hosts[0], false, Version::HTTP_11),
        ] {
            let origin = of(tls, &[]);
            let mut added = HeaderMap::from_iter([(HOST, host.clone())]);
            add(&mut added, &HeaderMap::new(), &origin, &peer);
            added.append(VIA, via(version));
            let mut expected: Vec<String> = added
                .iter()
                .filter(|(name, _)| *name != HOST)
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            let encoded = peer.encoded(&origin, host, version).unwrap();
            let mut found: Vec<_> = std::str::from_utf8(&encoded)
                .unwrap()
                .split_terminator("\r\n")
                .collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{host:?} {tls} {version:?}");
        }
        let trusted = of(false, &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(peer.encoded(&trusted, &hosts[0], Version::HTTP_11), None);
        let nowhere = HeaderValue::from_static("");
        assert_eq!(peer.encoded(&of(false, &[]), &nowhere, Version::HTTP_11), None);
    }

    #[test]
    fn an_address_of_ip_version_6_is_bracketed() {
        let peer = Peer::new("[2001:db8::1]:4000".parse().unwrap());
        let origin = Origin::of(peer.address(), false, &[], &HeaderMap::new());
        let mut fields = HeaderMap::new();
        add(&mut fields, &HeaderMap::new(), &origin, &peer);
        assert_eq!(fields["forwarded"], "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(fields["x-forwarded-for"], "2001:db8::1");
    }
}
