//! A Redis level.

use serde_json::{Value, json};

use super::{client_tls, duration, encrypt, file, put, text};
use crate::config::model::{Cache, RedisCredentials, RedisLevel, RedisMode, RedisServer};

/// A Redis level in the shape of its YAML.
pub(super) fn level(cache: &Cache, level: &RedisLevel) -> Value {
    let mut shown = json!({
        "name": text(&level.name),
        "url": text(&url(level)),
        "prefix": text(&level.prefix),
        "timeout": duration(level.timeout),
        "max_ttl": duration(level.max_ttl),
    });
    let (mode, sentinel) = match &level.mode {
        RedisMode::Single => ("single", None),
        RedisMode::Cluster => ("cluster", None),
        RedisMode::Sentinel { master, credentials } => {
            let mut sentinel = json!({"master": text(master)});
            login(&mut sentinel, credentials);
            ("sentinel", Some(sentinel))
        }
    };
    put(&mut shown, "mode", Some(json!(mode)));
    put(&mut shown, "sentinel", sentinel);
    login(&mut shown, &level.credentials);
    put(&mut shown, "tls", level.tls.as_ref().map(client_tls));
    put(&mut shown, "encrypt", encrypt(cache, &level.name));
    json!({"redis": shown})
}

fn login(shown: &mut Value, credentials: &RedisCredentials) {
    put(shown, "username", credentials.username.as_deref().map(text));
    put(
        shown,
        "password_file",
        credentials.password_file.as_deref().map(file),
    );
}

/// The URL with every port; TLS is shown where it is configured.
fn url(level: &RedisLevel) -> String {
    let server = |server: &RedisServer| match server.host.contains(':') {
        true => format!("[{}]:{}", server.host, server.port),
        false => format!("{}:{}", server.host, server.port),
    };
    let servers: Vec<String> = level.servers.iter().map(server).collect();
    format!("redis://{}/{}", servers.join(","), level.database)
}
