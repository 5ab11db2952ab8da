//! `host[:port]`, as in `Host` and in an absolute target.

use std::net::Ipv6Addr;

use super::class;

/// Longest name that DNS can carry.
const HOST_MAX: usize = 255;

/// A checked `host[:port]`.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// Name or address, IPv6 in brackets; as written.
    host: &'a [u8],
    /// Port, when given.
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`: a name, an IPv4 address or a bracketed IPv6 address; no user information, no empty port
    /// (RFC 3986, section 3.2, kept to what names in use look like). None when it is anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (host, rest) = match bytes.strip_prefix(b"[") {
            Some(inside) => {
                let close = memchr::memchr(b']', inside)?;
                let address = std::str::from_utf8(&inside[..close]).ok()?;
                address.parse::<Ipv6Addr>().ok()?;
                bytes.split_at(close + 2)
            }
            None => {
                let (name, rest) =
                    bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len()));
                let starts_well =
                    name.first().is_some_and(u8::is_ascii_alphanumeric) || name.starts_with(b"_");
                if !starts_well || name.len() > HOST_MAX || !class::all(name, class::HOST) {
                    return None;
                }
                (name, rest)
            }
        };
        let port = match rest.split_first() {
            None => None,
            Some((b':', digits)) => Some(port(digits)?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same server for a URL whose scheme has `default_port`.
    pub fn same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_use_are_accepted() {
        for host in [
            "a",
            "a.b:80",
            "hub_1.svc",
            "_dmarc.x",
            "127.0.0.1:8080",
            "[::1]",
            "[fe80::1]:443",
            "a.example.",
        ] {
            assert!(Authority::parse(host.as_bytes()).is_some(), "{host}");
        }
    }

    #[test]
    fn odd_hosts_are_refused() {
        for host in [
            "", ":80", "a:", "a:b", "a:99999", "a:+1", "a b", "a,b", "u@a", "a/b", "[::1", "[x]", "[::1]x",
            "é", ".",
        ] {
            assert!(Authority::parse(host.as_bytes()).is_none(), "{host}");
        }
    }

    #[test]
    fn authorities_are_compared_without_case_and_with_the_default_port() {
        let (a, b) = (
            Authority::parse(b"Hub.local").unwrap(),
            Authority::parse(b"hub.LOCAL:80").unwrap(),
        );
        assert!(a.same(&b, 80));
        assert!(!a.same(&b, 443));
        assert!(!a.same(&Authority::parse(b"hub.local2").unwrap(), 80));
    }
}
