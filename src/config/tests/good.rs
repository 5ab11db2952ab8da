//! What is accepted, and what becomes of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{BASE, config, environment, parse, route, with_route};
use crate::config::*;

/// Every section and field that is implemented, with values that are not the defaults.
const FULL: &str = r#"
version: 1
workers: 3
listeners:
  - name: http
    bind: 0.0.0.0:8080
    limits: {connections: 10, headers: 20, header_bytes: 32KiB, header_timeout: 5s, body_min_rate: 1KiB/s,
             idle_timeout: 30s, max_body: 1MiB, h2_streams: 10}
    trusted_proxies: [10.0.0.0/8, 192.168.1.1]
admin:
  bind: 127.0.0.1:9902
  allowed_hosts: [Admin.local]
  state_dir: state
  protect_metrics: true
upstreams:
  hub:
    endpoints:
      - {address: "127.0.0.1:8000", weight: 3, tier: 0}
      - {address: "[::1]:8000"}
    protocol: auto
    tls: {sni: hub.local}
    balance: ketama
    hash_on: {header: x-session-id}
    health:
      active: {http: {path: "/healthz?deep=1", status: [200-299, 304, 4xx]}, interval: 7s, timeout: 2s,
               healthy_after: 1, unhealthy_after: 5}
    timeouts: {connect: 2s, first_byte: 10s, idle: 20s, total: 1h}
    pool: {max_connections: 5, max_idle: 4, idle_timeout: 10s}
    retry: {attempts: 3, on: [connect]}
    concurrency: off
  other:
    endpoints: [{address: "other:80"}]
    health: {active: {tcp: {}}}
    balance: ketama
    hash_on: client_ip
    concurrency: {limit: off}
cache:
  levels:
    - memory: {name: near, capacity: 25%, policy: w_tinylfu, max_object: 4MiB}
  compress: {algorithm: lz4, min_size: 4KiB}
routes:
  - name: chat
    match: {hosts: ["*.Hub.local", hub], path: /v1/chat/completions, methods: [POST], headers: {X-Tier: free}}
    upstream: hub
    timeouts: {first_byte: 60s}
    cache:
      mode: "on"
      methods: [POST]
      ttl: {200: 300s, 404: 10s}
      heuristic: {fraction: 20%, max: 12h}
      stale_while_revalidate: 30s
      stale_if_error: 10m
      vary:
        principal: {header: x-user-id}
        query: {include: [a*], exclude: [utm_*], sort: true}
        headers: [accept-language]
        body: {json: {ignore: [/user, /metadata]}, max: 64KiB}
      share: {tenant: {header: x-tenant}}
      nondeterministic: bypass
      tags: {header: [x-tags], static: ["chat:1"], json: [/model]}
      collapse: false
      on_last_reader_gone: finish
      client_control: honour
      min_uses: 3
      max_object: 1MiB
      refresh_ahead: {beta: 1.5}
      sensitive: true
    stream: {replay: recorded, terminal: "event: done"}
    usage: openai
    headers: {request: {set: {x-a: "$$${PORT}"}, remove: [x-b]}, response: {set: {x-c: d}, remove: [x-powered-by]}}
  - {name: model, match: {path_template: "/v1/models/{id}/x"}, upstream: hub, cache: {ttl: 60s, share: principal}, usage: anthropic}
  - {name: rx, match: {path_regex: "/a/[0-9]+$|/b"}, upstream: hub,
     cache: {mode: read_only, share: all, ttl: {adaptive: {min: 10s, max: 1h}}},
     usage: {json: {input: /usage/in, cached_input: /usage/cached}}}
  - {name: rest, upstream: other, cache: {mode: off}}
usage: {prices: {gpt-4o: {input: 2.50, output: 10, cached_input: 1.25, cache_write: 3}, embed: {input: 0.02}}}
telemetry:
  otlp: {endpoint: "http://collector:4317", protocol: http/protobuf, sample: 0.25, keep: {errors: false, slower_than: 2s}}
  access_log: {enabled: true, format: json, sample: 50%}
  mask: {headers: [x-api-key], query: [token]}
  history: {raw: 5m, minute: 1d, hour: 30d, max_size: 64MiB}
"#;

#[test]
fn what_is_remembered_is_as_long_as_written() {
    assert_eq!(
        config(FULL).telemetry.history,
        crate::config::History {
            raw: Duration::from_secs(300),
            minute: Duration::from_secs(86_400),
            hour: Duration::from_secs(30 * 86_400),
            max_size: 64 << 20,
        }
    );
}

#[test]
fn everything_that_is_written_arrives() {
    let config = config(FULL);
    assert_eq!(config.workers, 3);
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.limits.header_bytes, listener.limits.body_min_rate),
        (32 << 10, 1024)
    );
    assert_eq!(listener.trusted_proxies.len(), 2);
    assert_eq!(config.admin.allowed_hosts, ["admin.local"]);
    assert_eq!(
        config.admin.state_dir.as_deref(),
        Some(Path::new("/nonexistent/state"))
    );
    let hub = &config.upstreams["hub"];
    assert_eq!(
        (
            hub.endpoints[0].weight,
            hub.endpoints[1].host.as_str(),
            hub.attempts
        ),
        (3, "::1", 3)
    );
    let check = hub.active_check.as_ref().unwrap();
    let status = vec![(200, 299), (304, 304), (400, 499)];
    assert_eq!(
        check.probe,
        Probe::Http {
            path: "/healthz?deep=1".to_owned(),
            status
        }
    );
    assert_eq!(
        config.upstreams["other"].balance,
        Balance::Ketama(HashOn::ClientIp)
    );
    let memory = config.cache.memory.as_ref().unwrap();
    assert_eq!(
        (memory.capacity, memory.policy),
        (1 << 30, EvictionPolicy::WTinyLfu)
    );
    let compress = Compress {
        algorithm: Compression::Lz4,
        min_size: 4 << 10,
    };
    assert_eq!(config.cache.compress, compress);
    let chat = &config.routes[0];
    let hosts = [
        HostPattern::Suffix(".hub.local".into()),
        HostPattern::Exact("hub".into()),
    ];
    assert_eq!(chat.matcher.hosts, hosts);
    assert_eq!(chat.timeouts.first_byte, Duration::from_secs(60));
    assert_eq!(chat.timeouts.connect, Duration::from_secs(2), "the upstream's");
    assert_eq!(chat.headers.request_set[0].1, "$8081");
    assert_eq!(chat.usage, Usage::Openai);
    assert_eq!(config.routes[1].usage, Usage::Anthropic);
    let pointers = UsagePointers {
        input: Some("/usage/in".to_owned()),
        output: None,
        cached_input: Some("/usage/cached".to_owned()),
        model: "/model".to_owned(),
    };
    assert_eq!(config.routes[2].usage, Usage::Json(pointers));
    let price = |input, output, cached_input, cache_write| Price {
        input,
        output,
        cached_input,
        cache_write,
    };
    assert_eq!(config.prices.of("gpt-4o"), Some(&price(2.5, 10.0, 1.25, 3.0)));
    assert_eq!(config.prices.of("embed"), Some(&price(0.02, 0.0, 0.02, 0.02)));
    assert_eq!(
        chat.stream,
        StreamRules {
            replay: Replay::Recorded,
            terminal: Some(Terminal::Event("done".to_owned())),
        }
    );
    rules_of_routes(&config.routes);
}

fn rules_of_routes(routes: &[Arc<Route>]) {
    let rules = routes[0].cache.as_ref().unwrap();
    assert_eq!(rules.share, Share::Tenant("x-tenant".parse().unwrap()));
    assert_eq!(rules.body_max(), Some(64 << 10));
    assert!(!rules.nondeterministic);
    assert_eq!(rules.tag_pointers, ["/model"]);
    assert_eq!((rules.refresh_ahead, rules.min_uses), (Some(1.5), 3));
    assert!(rules.sensitive && !routes[1].cache.as_ref().unwrap().sensitive);
    assert!(!rules.vary.query.verbatim && rules.client_control && rules.collapse == Collapse::Off);
    assert!(routes[1].cache.as_ref().unwrap().vary.query.verbatim);
    let read_only = routes[2].cache.as_ref().unwrap();
    assert!(!read_only.write);
    let (min, max) = (Duration::from_secs(10), Duration::from_secs(3600));
    assert_eq!(read_only.ttl, Ttl::Adaptive(Adaptive { min, max }));
    assert!(routes[3].cache.is_none());
}

impl RouteCache {
    fn body_max(&self) -> Option<usize> {
        self.vary.body.as_ref().map(|body| body.max)
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    for text in [FULL.to_owned(), with_route(""), route("upstream: hub\ncache: {}")] {
        let first = config(&text);
        let shown = effective(&first);
        let again = config(&format!("{shown:#}"));
        assert_eq!(effective(&again), shown);
        assert_eq!(again.hash, first.hash);
        for (a, b) in again.routes.iter().zip(&first.routes) {
            assert_eq!(a.fingerprint, b.fingerprint, "{}", a.name);
        }
    }
}

#[test]
fn compression_is_by_zstd_unless_it_is_off() {
    let algorithm = |cache: &str| config(&with_route(cache)).cache.compress.algorithm;
    assert_eq!(algorithm(""), Compression::Zstd);
    assert_eq!(algorithm("cache: {compress: {min_size: 0}}"), Compression::Zstd);
    assert_eq!(algorithm("cache: {compress: {algorithm: off}}"), Compression::Off);
}

#[test]
fn variables_stand_for_any_scalar() {
    let text = "\
listeners: [{name: http, bind: '127.0.0.1:${PORT}', limits: {headers: '${WEIGHT}'}}]
admin: {protect_metrics: '${ON}'}
upstreams: {hub: {endpoints: [{address: 'hub:80', weight: \"${WEIGHT}\"}]}}
routes: [{name: r, upstream: '${NONE:-hub}', cache: {mode: '${ON}', max_object: '${WEIGHT}'}}]
";
    let config = config(text);
    assert_eq!(config.listeners[0].bind.port(), 8081);
    assert_eq!(config.listeners[0].limits.headers, 7);
    assert!(config.admin.protect_metrics);
    assert_eq!(config.upstreams["hub"].endpoints[0].weight, 7);
    assert_eq!(config.routes[0].cache.as_ref().unwrap().max_object, 7);
}

#[test]
fn aliases_are_followed() {
    let text = with_route("telemetry: {mask: {headers: &names [x-a], query: *names}}");
    assert_eq!(config(&text).telemetry.mask.query, ["x-a"]);
}

#[test]
fn the_fingerprint_follows_what_decides_a_stored_response() {
    let fingerprint = |lines: &str| config(&route(lines)).routes[0].fingerprint;
    let base = fingerprint("upstream: hub\ncache: {}");
    for same in [
        "upstream: hub\ncache: {mode: 'on'}",
        "upstream: hub\ncache: {}\ntimeouts: {total: 5s}",
        "upstream: hub\ncache: {}\nstream: {replay: recorded}",
        "upstream: hub\ncache: {}\nheaders: {response: {set: {x-a: b}}}",
    ] {
        assert_eq!(fingerprint(same), base, "{same}");
    }
    for other in [
        "upstream: hub\ncache: {ttl: 5s}",
        "upstream: hub\ncache: {sensitive: true}",
        "upstream: hub\ncache: {vary: {headers: [accept]}}",
        "upstream: hub\ncache: {}\nmatch: {path: /x}",
        "upstream: hub\ncache: {}\nstream: {terminal: 'data: END'}",
    ] {
        assert_ne!(fingerprint(other), base, "{other}");
    }
}

#[test]
fn different_routes_may_overlap_when_something_decides() {
    let text = format!(
        "{BASE}routes:
  - {{name: a, upstream: hub, match: {{path: /x}}}}
  - {{name: b, upstream: hub, match: {{path_prefix: /x}}}}
  - {{name: c, upstream: hub, match: {{path: /x, methods: [GET]}}}}
  - {{name: d, upstream: hub, match: {{path: /x, methods: [POST]}}}}
  - {{name: e, upstream: hub, match: {{path: /x, hosts: [a]}}}}
  - {{name: f, upstream: hub, match: {{path: /x, hosts: [b]}}}}
  - {{name: g, upstream: hub, match: {{path: /x, headers: {{x-a: '1'}}}}}}
  - {{name: h, upstream: hub, match: {{path: /x, headers: {{x-a: '2'}}}}}}
  - {{name: i, upstream: hub, match: {{path_regex: /x}}}}
  - {{name: j, upstream: hub, match: {{path_regex: '/x.*'}}}}
  - {{name: k, upstream: hub}}
"
    );
    assert_eq!(config(&text).routes.len(), 11);
}

#[test]
fn a_url_is_enough() {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let quick = |url: &str| quick(url, address, address, &environment());
    let plain = quick("http://127.0.0.1:8000").unwrap().config;
    let endpoint = &plain.upstreams["default"].endpoints[0];
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 8000));
    assert_eq!(&*plain.routes[0].name, "default");
    assert!(plain.routes[0].cache.is_some() && plain.cache.memory.is_some());
    let tls = quick("https://[::1]/").unwrap().config;
    assert_eq!(
        (
            tls.upstreams["default"].endpoints[0].port,
            tls.upstreams["default"].tls.is_some()
        ),
        (443, true)
    );
    for url in ["127.0.0.1:8000", "ftp://x", "http://x/api", "http://u:p@x", ""] {
        quick(url).unwrap_err();
    }
}

#[test]
fn files_are_read_relative_to_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("ops.sha256", &format!("{}\n", "ab".repeat(32)));
    write("c.pem", "x");
    write("k.pem", "x");
    let text = with_route("admin: {tokens: [{name: ops, role: operator, sha256_file: ops.sha256}]}").replace(
        "127.0.0.1:0}",
        "127.0.0.1:0, tls: {cert_file: c.pem, key_file: k.pem}}",
    );
    write("config.yaml", &text);
    let path = dir.path().join("config.yaml");
    let loaded = load(&path, &environment()).unwrap();
    let token = &loaded.config.admin.tokens[0];
    assert_eq!((token.role, token.sha256.reveal()), (Role::Operator, &[0xab; 32]));
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.file_name().unwrap())
        .collect();
    assert_eq!(names, ["config.yaml", "c.pem", "k.pem", "ops.sha256"]);
    assert_eq!(content_digest(&loaded.files), loaded.digest);
    write("k.pem", "y");
    assert_ne!(content_digest(&loaded.files), loaded.digest);
    let shown = effective(&loaded.config);
    assert!(!shown.to_string().contains("abab"));
    let again = crate::config::parse("t", &shown.to_string(), Path::new("/"), &environment()).unwrap();
    assert_eq!(again.config.hash, loaded.config.hash);
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = config(FULL);
    assert!(restart_required(&old, &config(FULL)).is_empty());
    let changed = FULL
        .replace("workers: 3", "workers: 4")
        .replace("bind: 0.0.0.0:8080", "bind: 0.0.0.0:8081")
        .replace("127.0.0.1:9902", "127.0.0.1:9903")
        .replace("state_dir: state", "state_dir: other")
        .replace("policy: w_tinylfu", "policy: lru")
        .replace("sample: 0.25", "sample: 0.5")
        .replace("raw: 5m", "raw: 6m")
        .replace("connections: 10", "connections: 11");
    assert_eq!(
        restart_required(&old, &config(&changed)),
        [
            "workers",
            "listeners[0].bind",
            "admin.bind",
            "admin.state_dir",
            "cache.levels",
            "telemetry.otlp",
            "telemetry.history"
        ]
    );
    let mut secured = config(FULL);
    let listener = std::sync::Arc::make_mut(secured.listeners.first_mut().unwrap());
    listener.tls = Some(crate::config::model::ServerTls {
        cert_file: "c.pem".into(),
        key_file: "k.pem".into(),
        client_ca_file: None,
    });
    assert_eq!(restart_required(&old, &secured), ["listeners[0].tls"]);
    let renamed = config(&FULL.replace("- name: http", "- name: other"));
    assert_eq!(restart_required(&old, &renamed), ["listeners[0]", "listeners"]);
}

#[test]
fn every_example_is_sound() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if let Err(problems) = load(&path, &environment()) {
            panic!("{problems}");
        }
        names.push(path.file_name().unwrap().to_owned());
    }
    assert!(names.len() >= 2, "{names:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    assert!(
        load(&path, &environment())
            .unwrap_err()
            .to_string()
            .contains("cannot read the file")
    );
    std::fs::write(&path, b"a: 1\n\xff").unwrap();
    assert!(
        load(&path, &environment())
            .unwrap_err()
            .to_string()
            .contains("not UTF-8 text (line 2)")
    );
    assert!(parse("").is_err() && parse("[]").is_err() && parse("x").is_err());
}
