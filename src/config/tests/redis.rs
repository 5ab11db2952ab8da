//! Redis levels: what they say, and what is refused.

use std::path::Path;
use std::time::Duration;

use super::{config, environment, refused, with_route};
use crate::config::*;

/// A configuration with a Redis level of this content, which begins in line 5, column 41.
fn with_redis(content: &str) -> String {
    with_route(&format!(
        "cache: {{levels: [{{memory: {{}}}}, {{redis: {{{content}}}}}]}}"
    ))
}

fn level(config: &Config) -> &RedisLevel {
    match config.cache.lower.as_slice() {
        [LowerLevel::Redis(level)] => level,
        other => panic!("{other:?}"),
    }
}

fn server(host: &str, port: u16) -> RedisServer {
    RedisServer {
        host: host.to_owned(),
        port,
    }
}

#[test]
fn a_url_is_enough() {
    let config = config(&with_redis("url: 'redis://redis'"));
    let expected = RedisLevel {
        name: "redis".into(),
        servers: vec![server("redis", 6379)],
        database: 0,
        mode: RedisMode::Single,
        prefix: "outrigger".to_owned(),
        timeout: Duration::from_millis(25),
        credentials: RedisCredentials::default(),
        tls: None,
        max_ttl: Duration::from_secs(86_400),
    };
    assert_eq!(*level(&config), expected);
}

#[test]
fn every_field_counts_and_reads_back_from_what_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["password", "other", "ca"] {
        std::fs::write(directory.path().join(name), "hunter2\n").unwrap();
    }
    let text = with_redis(
        "name: fleet, url: 'redis://a,b:5/0', mode: sentinel, sentinel: {master: m, username: u, password_file: other},
         prefix: hub, timeout: 30ms, username: outrigger, password_file: password, tls: {ca_file: ca}, max_ttl: 2h",
    );
    let parse = |text: &str| super::super::parse("test.yaml", text, directory.path(), &environment());
    let loaded = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let file = |name: &str| Some(directory.path().join(name));
    let expected = RedisLevel {
        name: "fleet".into(),
        servers: vec![server("a", 26_379), server("b", 5)],
        database: 0,
        mode: RedisMode::Sentinel {
            master: "m".to_owned(),
            credentials: RedisCredentials {
                username: Some("u".to_owned()),
                password_file: file("other"),
            },
        },
        prefix: "hub".to_owned(),
        timeout: Duration::from_millis(30),
        credentials: RedisCredentials {
            username: Some("outrigger".to_owned()),
            password_file: file("password"),
        },
        tls: Some(ClientTls {
            sni: None,
            ca_file: file("ca"),
            identity: None,
        }),
        max_ttl: Duration::from_secs(7200),
    };
    assert_eq!(*level(&loaded.config), expected);
    let shown = to_yaml(&effective(&loaded.config)).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    let again = parse(&shown).unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
    assert_eq!(*level(&again.config), expected);
    assert_eq!(again.config.hash, loaded.config.hash);
    assert!(
        loaded
            .files
            .iter()
            .any(|path| path.as_path() == Path::new(&directory.path().join("password")))
    );
}

#[test]
fn rediss_is_redis_with_tls() {
    let tls = Some(ClientTls {
        sni: None,
        ca_file: None,
        identity: None,
    });
    for content in [
        "url: 'rediss://r'",
        "url: 'redis://r', tls: {}",
        "url: 'rediss://r', tls: {}",
    ] {
        assert_eq!(level(&config(&with_redis(content))).tls, tls, "{content}");
    }
}

/// What is wrong, and how it is told: "column field: message | hint".
const WRONG: &[(&str, &[&str])] = &[
    ("name: r", &["33 url: `url` is missing"]),
    (
        "url: 'redis://a,b'",
        &["46 url: `mode: single` has one server | `mode: sentinel` or `mode: cluster` take several"],
    ),
    (
        "url: 'redis://a/3', mode: cluster",
        &["46 url: a cluster has only the database 0"],
    ),
    (
        "url: 'redis://a', mode: sentinel",
        &[
            "33 sentinel: `sentinel` is missing | the name of the primary, like `sentinel: {master: mymaster}`",
        ],
    ),
    (
        "url: 'redis://a', mode: sentinel, sentinel: {}",
        &["75 sentinel.master: `master` is missing"],
    ),
    (
        "url: 'redis://a', sentinel: {master: m}",
        &["59 sentinel: `sentinel` has no effect without `mode: sentinel`"],
    ),
    (
        "url: 'redis://a', username: u",
        &["33 password_file: `password_file` is missing"],
    ),
    (
        "url: 'redis://a', password_file: p",
        &["74 password_file: cannot read /nonexistent/p: No such file or directory (os error 2)"],
    ),
    (
        "url: 'redis://me:${SECRET}@a'",
        &[
            "46 url: the URL carries credentials | they would show in logs; `username` and `password_file` say who we are",
        ],
    ),
    (
        "url: 'redis://a', prefix: '{x}'",
        &[
            "67 prefix: `{x}` is not a key prefix | up to 64 visible ASCII characters without braces, brackets, quotes, \
             `*`, `?`, `^` and `\\`",
        ],
    ),
    (
        "url: 'redis://a', encrypt: {keyring_file: k}",
        &["83 encrypt.keyring_file: cannot read /nonexistent/k: No such file or directory (os error 2)"],
    ),
];

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    for (content, problems) in WRONG {
        let expected: Vec<String> = problems
            .iter()
            .map(|problem| format!("5:{}", problem.replacen(' ', " cache.levels[1].redis.", 1)))
            .collect();
        refused(&with_redis(content), &expected);
    }
}
