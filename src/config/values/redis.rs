//! Where Redis servers are, and what their keys begin with.

use super::{Address, HostText};
use crate::config::scalar::{Refusal, Scalar};

/// Longest prefix, in bytes.
const MAX_PREFIX: usize = 64;

/// `redis://host:port/database`, perhaps with several hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether the scheme is `rediss`.
    pub tls: bool,
    /// Host, without brackets, and port; at least one.
    pub servers: Vec<(String, Option<u16>)>,
    /// Number of the database.
    pub database: Option<u16>,
}

/// What keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixText(pub String);

impl Scalar for RedisUrl {
    const NAME: &'static str = "Redis URL";
    const EXAMPLE: &'static str = "redis://redis:6379/0";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = |hint: &str| Refusal::new("not a Redis URL").hint(hint);
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(invalid("like `redis://redis:6379/0`, or `rediss://` for TLS")),
        };
        if rest.contains('@') {
            return Err(Refusal::new("the URL carries credentials")
                .hint("they would show in logs; `username` and `password_file` say who we are"));
        }
        if rest.contains(['?', '#']) {
            return Err(invalid("without parameters: each has a field of its own"));
        }
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => None,
            number => Some(
                number
                    .parse()
                    .map_err(|_| invalid("behind the slash stands the number of a database: `/0`"))?,
            ),
        };
        let servers: Option<Vec<_>> = hosts.split(',').map(server).collect();
        match servers {
            Some(servers) => Ok(Self {
                tls,
                servers,
                database,
            }),
            None => Err(invalid(
                "`host:port`, or several with commas: `redis://a:26379,b:26379`",
            )),
        }
    }
}

fn server(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = Address::parse(text) {
        return Some((address.host, Some(address.port)));
    }
    let host = HostText::parse(text).ok()?.0;
    Some((host.trim_matches(['[', ']']).to_owned(), None))
}

impl Scalar for PrefixText {
    const NAME: &'static str = "key prefix";
    const EXAMPLE: &'static str = "hub";

    fn parse(text: &str) -> Result<Self, Refusal> {
        // Braces would put all keys of a cluster on one node; the other marks mean something in the pattern of an ACL.
        let valid = |c: char| c.is_ascii_graphic() && !"{}*?[]\\^\"'`".contains(c);
        if !text.is_empty() && text.len() <= MAX_PREFIX && text.chars().all(valid) {
            return Ok(Self(text.to_owned()));
        }
        Err(
            Refusal::new(format!("`{}` is not a key prefix", text.escape_debug())).hint(
                "up to 64 visible ASCII characters without braces, brackets, quotes, `*`, `?`, `^` and `\\`",
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::tests::hint;

    #[test]
    fn urls() {
        let url = |tls, servers: &[(&str, Option<u16>)], database| RedisUrl {
            tls,
            servers: servers
                .iter()
                .map(|(host, port)| ((*host).to_owned(), *port))
                .collect(),
            database,
        };
        for (text, expected) in [
            (
                "redis://Redis:6379/0",
                url(false, &[("redis", Some(6379))], Some(0)),
            ),
            ("rediss://redis", url(true, &[("redis", None)], None)),
            ("redis://redis/", url(false, &[("redis", None)], None)),
            (
                "redis://a:26379,b,[::1]:1",
                url(false, &[("a", Some(26379)), ("b", None), ("::1", Some(1))], None),
            ),
        ] {
            assert_eq!(RedisUrl::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "redis",
            "http://redis:6379",
            "redis://",
            "redis://a,,b",
            "redis://a:0",
            "redis://a/x",
            "redis://a/70000",
            "redis://a?protocol=3",
            "redis://a b",
        ] {
            assert!(!hint::<RedisUrl>(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let refusal = RedisUrl::parse("redis://me:hunter2@host:1/0").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"), "{refusal:?}");
    }

    #[test]
    fn prefixes() {
        for text in ["hub", "team/hub:v2", "a-b_c.d"] {
            assert_eq!(PrefixText::parse(text), Ok(PrefixText(text.to_owned())));
        }
        for text in ["", "{hub}", "hub*", "a b", "h\u{fc}b", "a\nb"] {
            assert!(!hint::<PrefixText>(text).is_empty(), "{text:?}");
        }
    }
}
