//! What the errors of redis-rs mean for us.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::cache::level::LevelError;
use crate::config::RedisServer;

/// Bytes of a server's words that are shown.
const MAX_WORDS: usize = 200;

/// A failed command, and what follows from it besides.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the caller is told.
    pub(super) error: LevelError,
    /// What else is to be done.
    pub(super) then: Then,
}

/// What follows from a failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The server is no longer the one to ask, or no longer knows us: look for it anew and log in again.
    Renew,
    /// Another node serves the key.
    Moved(Redirect),
    /// Another node serves the key this once, if asked with `ASKING`.
    Ask(Redirect),
}

/// Where a cluster's node sends us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// None: the host that was asked.
    host: Option<String>,
    port: u16,
}

impl Redirect {
    /// The node meant, when `asked` was asked.
    pub(super) fn from(self, asked: &RedisServer) -> RedisServer {
        RedisServer {
            host: self.host.unwrap_or_else(|| asked.host.clone()),
            port: self.port,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let then = match error.code() {
            Some("MOVED") => redirect(&error).map_or(Then::Nothing, Then::Moved),
            Some("ASK") => redirect(&error).map_or(Then::Nothing, Then::Ask),
            // READONLY and NOREPLICAS come from a primary that is none any more; the others from a changed password.
            Some("READONLY" | "MASTERDOWN" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS") => Then::Renew,
            _ => Then::Nothing,
        };
        Self {
            error: level_error(&error),
            then,
        }
    }
}

impl From<LevelError> for Failure {
    fn from(error: LevelError) -> Self {
        Self {
            error,
            then: Then::Nothing,
        }
    }
}

/// What a caller is told about `error`.
pub(super) fn level_error(error: &RedisError) -> LevelError {
    match (error.code(), error.kind()) {
        (Some(code), _) => LevelError::Refused(words(code, error.detail())),
        (None, ErrorKind::Io | ErrorKind::Parse) => LevelError::Unreachable(shown(&error.to_string())),
        (None, ErrorKind::Server(ServerErrorKind::ResponseError)) | (None, _) => {
            LevelError::Refused(shown(&error.to_string()))
        }
    }
}

/// A server's error line, like `OOM command not allowed ...`.
fn words(code: &str, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => shown(&format!("{code} {detail}")),
        None => shown(code),
    }
}

/// `text` as it may be shown: one line, not long, and without the arguments that a server repeats when it does not know a
/// command, because those of a login hold the password.
fn shown(text: &str) -> String {
    let text = text.split(", with args").next().unwrap_or_default();
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if shown.len() > MAX_WORDS {
        let end = (0..=MAX_WORDS).rev().find(|at| shown.is_char_boundary(*at));
        shown.truncate(end.unwrap_or(0));
    }
    shown
}

/// The node that `MOVED 3999 host:port` names; the host is empty when it is the one that was asked, and an IPv6 address
/// has no brackets.
fn redirect(error: &RedisError) -> Option<Redirect> {
    let (address, _slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    Some(Redirect {
        host: (!host.is_empty()).then(|| host.to_owned()),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error that redis-rs makes of a server's line.
    fn from_line(line: &str) -> Failure {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Failure::from(value.extract_error().unwrap_err())
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "LOADING Redis is loading the dataset in memory",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "NOPERM User hub has no permissions to run the 'keys' command",
            "CLUSTERDOWN Hash slot not served",
        ] {
            let failure = from_line(line);
            assert_eq!(failure.error, LevelError::Refused(line.to_owned()));
            assert_eq!(failure.then, Then::Nothing, "{line}");
        }
    }

    #[test]
    fn a_server_that_is_no_longer_the_one_to_ask_is_looked_for_anew() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOREPLICAS Not enough good replicas to write.",
        ] {
            assert_eq!(from_line(line).then, Then::Renew, "{line}");
        }
    }

    #[test]
    fn redirects_name_a_node() {
        let asked = RedisServer {
            host: "asked".to_owned(),
            port: 1,
        };
        let node = |line| match from_line(line).then {
            Then::Moved(to) | Then::Ask(to) => to.from(&asked),
            other => panic!("{line}: {other:?}"),
        };
        let server = |host: &str, port| RedisServer {
            host: host.to_owned(),
            port,
        };
        assert_eq!(node("MOVED 3999 10.0.0.1:6381"), server("10.0.0.1", 6381));
        assert_eq!(node("ASK 3999 fe80::1:6381"), server("fe80::1", 6381));
        assert_eq!(node("MOVED 3999 :6381"), server("asked", 6381));
        assert_eq!(from_line("MOVED 3999 nonsense").then, Then::Nothing);
    }

    #[test]
    fn a_login_that_is_repeated_in_an_error_is_cut_off() {
        let failure =
            from_line("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'secret'");
        let LevelError::Refused(words) = failure.error else {
            panic!("{failure:?}");
        };
        assert!(words.starts_with("ERR unknown command"), "{words}");
        assert!(!words.contains("secret"), "{words}");
        assert!(shown(&"ä".repeat(1000)).len() <= MAX_WORDS);
    }
}
