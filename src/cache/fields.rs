//! Which header fields an entry keeps (RFC 9111, section 3.1).

use http::{HeaderMap, HeaderName, header};

use super::list::{Quotes, members};

/// Fields that belong to a connection or to a proxy, and never to an entry.
static HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether the field `name` of `response` may be stored: it is not hop-by-hop, and `Connection` does not list it.
pub fn is_storable(response: &HeaderMap, name: &HeaderName) -> bool {
    !HOP_BY_HOP.contains(name)
        && !response
            .get_all(header::CONNECTION)
            .into_iter()
            .flat_map(|line| members(line.as_bytes(), Quotes::Escaped))
            .any(|listed| listed.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// The header section that an entry keeps: what is storable, without the fields in `strip` and without `Age`, which
/// is computed anew for each use.
pub fn storable(response: &HeaderMap, strip: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(response.keys_len());
    for (name, value) in response {
        if *name != header::AGE && !strip.contains(name) && is_storable(response, name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    #[test]
    fn an_entry_keeps_what_is_neither_hop_by_hop_nor_listed_nor_stripped() {
        let response = headers(&[
            ("connection", "A, b"),
            ("connection", "close"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("c", "4"),
            ("d", "5"),
            ("age", "7"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-connection", "close"),
            ("content-type", "text/plain"),
        ]);
        let kept = storable(&response, &[HeaderName::from_static("d")]);
        assert_eq!(
            kept,
            headers(&[("c", "3"), ("c", "4"), ("content-type", "text/plain")])
        );
    }
}
