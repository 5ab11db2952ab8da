//! `cache.levels[].redis`.

use std::path::PathBuf;
use std::time::Duration;

use super::upstream::client_tls;
use super::{Cx, duration};
use crate::config::model::{ClientTls, RedisCredentials, RedisLevel, RedisMode, RedisServer};
use crate::config::raw;
use crate::config::scalar::Text;
use crate::config::tree::At;
use crate::config::values::{Plain, RedisUrl};

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(25);
const DEFAULT_MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Port of a server, and of a node of a cluster.
const SERVER_PORT: u16 = 6379;
/// Port of a sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// Resolves a level; none if it says too little.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Redis) -> Option<RedisLevel> {
    let credentials = credentials(cx, at, raw.username, raw.password_file);
    let tls = raw.tls.map(|tls| client_tls(cx, &at.key("tls"), tls));
    let mode = mode(cx, at, raw.mode.unwrap_or_default(), raw.sentinel);
    let url = cx.required(at, "url", raw.url);
    let (mode, url) = (mode?, url?);
    check(cx, &at.key("url"), &mode, &url);
    let port = match mode {
        RedisMode::Sentinel { .. } => SENTINEL_PORT,
        RedisMode::Single | RedisMode::Cluster => SERVER_PORT,
    };
    Some(RedisLevel {
        name: raw.name.map_or_else(|| "redis".into(), |name| name.0.0),
        servers: url
            .servers
            .into_iter()
            .map(|(host, given)| RedisServer {
                host,
                port: given.unwrap_or(port),
            })
            .collect(),
        database: url.database.unwrap_or(0),
        mode,
        prefix: raw
            .prefix
            .map_or_else(|| "outrigger".to_owned(), |prefix| prefix.0.0),
        timeout: duration(raw.timeout, DEFAULT_TIMEOUT),
        credentials,
        tls: tls.or_else(|| url.tls.then(system_tls)),
        max_ttl: duration(raw.max_ttl, DEFAULT_MAX_TTL),
    })
}

/// What `rediss://` alone says.
fn system_tls() -> ClientTls {
    ClientTls {
        sni: None,
        ca_file: None,
        identity: None,
    }
}

fn mode(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    word: raw::RedisModeWord,
    sentinel: Option<raw::RedisSentinel>,
) -> Option<RedisMode> {
    let sentinel_at = at.key("sentinel");
    if sentinel.is_some() && !matches!(word, raw::RedisModeWord::Sentinel) && !cx.is_faulty(at, "mode") {
        cx.problem(&sentinel_at, "`sentinel` has no effect without `mode: sentinel`");
    }
    match word {
        raw::RedisModeWord::Single => Some(RedisMode::Single),
        raw::RedisModeWord::Cluster => Some(RedisMode::Cluster),
        raw::RedisModeWord::Sentinel => {
            let Some(sentinel) = sentinel else {
                if !cx.is_faulty(at, "sentinel") {
                    cx.problem(&sentinel_at, "`sentinel` is missing")
                        .hint("the name of the primary, like `sentinel: {master: mymaster}`");
                }
                return None;
            };
            let credentials = credentials(cx, &sentinel_at, sentinel.username, sentinel.password_file);
            let master = cx.required(&sentinel_at, "master", sentinel.master)?;
            Some(RedisMode::Sentinel {
                master: master.0,
                credentials,
            })
        }
    }
}

/// What the URL must be like in a mode.
fn check(cx: &mut Cx<'_>, at: &At<'_>, mode: &RedisMode, url: &RedisUrl) {
    match mode {
        RedisMode::Single if url.servers.len() > 1 => {
            cx.problem(at, "`mode: single` has one server")
                .hint("`mode: sentinel` or `mode: cluster` take several");
        }
        RedisMode::Cluster if url.database.is_some_and(|number| number != 0) => {
            cx.problem(at, "a cluster has only the database 0");
        }
        _ => {}
    }
}

fn credentials(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    username: Option<Text<Plain>>,
    password_file: Option<Text<PathBuf>>,
) -> RedisCredentials {
    let password_file = password_file.map(|path| cx.readable(&at.key("password_file"), &path.0));
    if username.is_some() && password_file.is_none() {
        cx.required_word::<()>(at, "password_file", None);
    }
    RedisCredentials {
        username: username.map(|name| name.0.0),
        password_file,
    }
}
