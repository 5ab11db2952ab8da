//! Addresses, hosts and URLs.

use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;
use ipnet::IpNet;

use crate::config::model::HostPattern;
use crate::config::scalar::{Refusal, Scalar};

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// IP address, without brackets, or host name.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A host as `Host` names it, without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostText(pub String);

/// An `http://` or `https://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlText(pub Uri);

impl Scalar for SocketAddr {
    const NAME: &'static str = "socket address";
    const EXAMPLE: &'static str = "0.0.0.0:8080";

    fn parse(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| {
            let refusal = Refusal::new(format!("`{text}` is not an address to bind"));
            match text
                .rsplit_once(':')
                .map_or(("", text), |(host, port)| (host, port))
            {
                ("" | "*", port) if port.parse::<u16>().is_ok() => {
                    refusal.hint(format!("did you mean `0.0.0.0:{port}`?"))
                }
                ("localhost", port) => refusal.hint(format!("did you mean `127.0.0.1:{port}`?")),
                _ => refusal.hint("an IP address and a port: `0.0.0.0:8080` or `[::]:8080`"),
            }
        })
    }
}

impl Scalar for Address {
    const NAME: &'static str = "address";
    const EXAMPLE: &'static str = "127.0.0.1:8000";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = || {
            let refusal = Refusal::new(format!("`{text}` is not a host and port"));
            let bare = text
                .strip_prefix("http://")
                .or_else(|| text.strip_prefix("https://"));
            match bare {
                Some(bare) => refusal.hint(format!(
                    "leave out the scheme: `{}`; `tls: {{}}` in the upstream switches TLS on",
                    bare.trim_end_matches('/')
                )),
                None => refusal.hint("`host:port`, `10.0.0.7:8000` or `[::1]:8000`"),
            }
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port: u16 = port.parse().map_err(|_| invalid())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            None if is_host_name(host) => host,
            _ => return Err(invalid()),
        };
        match port {
            0 => Err(invalid()),
            port => Ok(Self {
                host: host.to_ascii_lowercase(),
                port,
            }),
        }
    }
}

impl Scalar for HostText {
    const NAME: &'static str = "host";
    const EXAMPLE: &'static str = "hub.local";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let host = text.to_ascii_lowercase();
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(&host),
        };
        if valid {
            return Ok(Self(host));
        }
        let refusal = Refusal::new(format!("`{text}` is not a host"));
        Err(match text.split_once(':') {
            Some((host, _)) if is_host_name(host) => {
                refusal.hint(format!("without a port or a scheme: did you mean `{host}`?"))
            }
            _ => refusal.hint("a name or an address, without port: `hub.local`, `[::1]`"),
        })
    }
}

impl Scalar for HostPattern {
    const NAME: &'static str = "host pattern";
    const EXAMPLE: &'static str = "*.hub.local";

    fn parse(text: &str) -> Result<Self, Refusal> {
        if text == "*" {
            return Err(Refusal::new("`*` is every host").hint("leave `hosts` out to match every host"));
        }
        match text.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
                let host = HostText::parse(suffix.trim_start_matches('.'))?.0;
                Ok(Self::Suffix(format!(".{host}")))
            }
            _ if text.contains('*') => Err(Refusal::new(format!("`{text}` is not a host pattern"))
                .hint("a `*` stands only for the first labels: `*.hub.local`")),
            _ => HostText::parse(text).map(|host| Self::Exact(host.0)),
        }
    }
}

/// A DNS name or an IPv4 address.
fn is_host_name(host: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(valid);
    host.len() <= 253 && host.split('.').all(label)
}

impl Scalar for UrlText {
    const NAME: &'static str = "URL";
    const EXAMPLE: &'static str = "http://collector:4317";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid =
            || Refusal::new("not an `http://` or `https://` URL").hint(format!("like `{}`", Self::EXAMPLE));
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err(Refusal::new("the URL carries credentials")
                    .hint("they would show in logs; leave them out"))
            }
            Some(authority) if known && !authority.host().is_empty() => Ok(Self(uri)),
            _ => Err(invalid()),
        }
    }
}

impl Scalar for IpNet {
    const NAME: &'static str = "network";
    const EXAMPLE: &'static str = "10.0.0.0/8";

    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(address.into());
        }
        let net: Result<Self, _> = text.parse();
        net.map(|net| net.trunc()).map_err(|_| {
            Refusal::new(format!("`{text}` is not a network"))
                .hint("like `10.0.0.0/8`, `fd00::/8` or one address")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::tests::hint;

    #[test]
    fn addresses() {
        let address = |host: &str, port| Address {
            host: host.to_owned(),
            port,
        };
        assert_eq!(Address::parse("127.0.0.1:8000"), Ok(address("127.0.0.1", 8000)));
        assert_eq!(Address::parse("Hub.ai.svc:80"), Ok(address("hub.ai.svc", 80)));
        assert_eq!(Address::parse("[::1]:80"), Ok(address("::1", 80)));
        for text in [
            "hub",
            "hub:",
            ":80",
            "hub:0",
            "hub:99999",
            "::1:80",
            "a b:80",
            "u@hub:80",
            "hub:80/x",
        ] {
            Address::parse(text).unwrap_err();
        }
        assert!(hint::<Address>("http://hub:80/").contains("`hub:80`"));
        assert_eq!(hint::<SocketAddr>(":8080"), "did you mean `0.0.0.0:8080`?");
        assert_eq!(hint::<SocketAddr>("localhost:80"), "did you mean `127.0.0.1:80`?");
    }

    #[test]
    fn hosts() {
        assert_eq!(
            HostPattern::parse("*.Hub.local"),
            Ok(HostPattern::Suffix(".hub.local".into()))
        );
        assert_eq!(HostPattern::parse("hub"), Ok(HostPattern::Exact("hub".into())));
        assert_eq!(
            HostPattern::parse("[::1]"),
            Ok(HostPattern::Exact("[::1]".into()))
        );
        for text in ["", "*", "a.*.b", "*hub", "*.", "hub..local", "http://hub"] {
            HostPattern::parse(text).unwrap_err();
        }
        assert!(hint::<HostPattern>("hub:8080").contains("did you mean `hub`?"));
        UrlText::parse("http://u:p@collector").unwrap_err();
        UrlText::parse("collector:4317").unwrap_err();
        assert_eq!(IpNet::parse("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
    }
}
