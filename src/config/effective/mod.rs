//! A [`Config`] in the shape of its YAML, with every default filled in.
//!
//! Secrets are absent: only the files that hold them are named. Read back, it gives an equal configuration; the
//! hash of a configuration and the fingerprint of a route are digests of it.

mod alerts;
mod redis;
mod route;
mod warm;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::interpolate::escape;
use super::model::*;
use super::prices::{Price, Prices};
use super::units::{format_duration, format_size};

pub(super) use route::{fingerprint, path};

/// The whole configuration.
pub fn effective(config: &Config) -> Value {
    let upstreams = config
        .upstreams
        .iter()
        .map(|(name, upstream)| (name.to_string(), self::upstream(upstream)));
    let mut shown = json!({
        "version": 1,
        "workers": config.workers,
        "listeners": list(&config.listeners, |listener| self::listener(listener)),
        "admin": admin(&config.admin),
        "upstreams": Value::Object(upstreams.collect()),
        "cache": {
            "levels": levels(&config.cache),
            "compress": compress(config.cache.compress),
            "warm": list(&config.warm, warm::warm),
        },
        "routes": list(&config.routes, |route| route::route(route)),
        "usage": {"prices": prices(&config.prices)},
        "telemetry": telemetry(&config.telemetry),
    });
    put(&mut shown, "alerts", alerts::alerts(&config.alerts));
    if let Some(cache) = shown.get_mut("cache") {
        put(cache, "purge", config.replicas.as_ref().map(replicas));
    }
    shown
}

/// First 16 hex digits of the digest of the effective configuration.
pub(super) fn hash(config: &Config) -> Arc<str> {
    let digest = blake3::hash(effective(config).to_string().as_bytes());
    digest.to_hex().chars().take(16).collect::<String>().into()
}

/// A text that reads back as itself.
fn text(text: &str) -> Value {
    Value::String(escape(text))
}

fn file(path: &Path) -> Value {
    text(&path.to_string_lossy())
}

fn duration(duration: Duration) -> Value {
    Value::String(format_duration(duration))
}

fn size(bytes: u64) -> Value {
    Value::String(format_size(bytes))
}

fn count(number: usize) -> Value {
    Value::from(number)
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(show).collect())
}

fn words<T: AsRef<str>>(items: &[T]) -> Value {
    list(items, |item| text(item.as_ref()))
}

fn headers(pairs: &[(HeaderName, HeaderValue)]) -> Value {
    let pair = |(name, value): &(HeaderName, HeaderValue)| {
        (name.to_string(), text(value.to_str().unwrap_or_default()))
    };
    Value::Object(pairs.iter().map(pair).collect())
}

/// Adds `key` where there is a value; what is absent has no other spelling.
fn put(object: &mut Value, key: &str, value: Option<Value>) {
    if let (Value::Object(object), Some(value)) = (object, value) {
        object.insert(key.to_owned(), value);
    }
}

fn listener(listener: &Listener) -> Value {
    let limits = &listener.limits;
    let mut shown = json!({
        "name": text(&listener.name),
        "bind": listener.bind.to_string(),
        "limits": {
            "connections": count(limits.connections),
            "headers": count(limits.headers),
            "header_bytes": size(limits.header_bytes as u64),
            "header_timeout": duration(limits.header_timeout),
            "body_min_rate": format!("{}/s", format_size(limits.body_min_rate)),
            "idle_timeout": duration(limits.idle_timeout),
            "max_body": size(limits.max_body),
            "h2_streams": limits.h2_streams,
        },
        "trusted_proxies": list(&listener.trusted_proxies, |net| Value::String(net.to_string())),
    });
    put(&mut shown, "tls", listener.tls.as_ref().map(server_tls));
    shown
}

fn server_tls(tls: &ServerTls) -> Value {
    let mut shown = json!({"cert_file": file(&tls.cert_file), "key_file": file(&tls.key_file)});
    put(
        &mut shown,
        "client_ca_file",
        tls.client_ca_file.as_deref().map(file),
    );
    shown
}

fn admin(admin: &Admin) -> Value {
    let token = |token: &Token| {
        let role = match token.role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        };
        json!({"name": text(&token.name), "role": role, "sha256_file": file(&token.sha256_file)})
    };
    let mut shown = json!({
        "bind": admin.bind.to_string(),
        "tokens": list(&admin.tokens, token),
        "allowed_hosts": words(&admin.allowed_hosts),
        "protect_metrics": admin.protect_metrics,
    });
    put(&mut shown, "state_dir", admin.state_dir.as_deref().map(file));
    shown
}

fn upstream(upstream: &Upstream) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        let host = match endpoint.host.contains(':') {
            true => format!("[{}]", endpoint.host),
            false => endpoint.host.clone(),
        };
        json!({"address": format!("{host}:{}", endpoint.port), "weight": endpoint.weight, "tier": 0})
    };
    let protocol = match upstream.protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::H2 => "h2",
        UpstreamProtocol::Auto => "auto",
    };
    let (balance, hash_on) = match &upstream.balance {
        Balance::RoundRobin => ("round_robin", None),
        Balance::Ketama(hash_on) => ("ketama", Some(self::hash_on(hash_on))),
    };
    let mut shown = json!({
        "endpoints": list(&upstream.endpoints, endpoint),
        "protocol": protocol,
        "balance": balance,
        "health": {},
        "timeouts": timeouts(&upstream.timeouts),
        "pool": {
            "max_connections": count(upstream.pool.max_connections),
            "max_idle": count(upstream.pool.max_idle),
            "idle_timeout": duration(upstream.pool.idle_timeout),
        },
        "retry": {"attempts": upstream.attempts, "on": ["connect"]},
        "concurrency": "off",
    });
    put(&mut shown, "hash_on", hash_on);
    put(&mut shown, "tls", upstream.tls.as_ref().map(client_tls));
    if let Some(check) = &upstream.active_check {
        put(&mut shown, "health", Some(json!({"active": active_check(check)})));
    }
    shown
}

fn hash_on(hash_on: &HashOn) -> Value {
    match hash_on {
        HashOn::Key => json!("key"),
        HashOn::ClientIp => json!("client_ip"),
        HashOn::Header(name) => json!({"header": name.as_str()}),
        HashOn::Cookie(name) => json!({"cookie": text(name)}),
    }
}

fn client_tls(tls: &ClientTls) -> Value {
    let mut shown = Value::Object(Map::new());
    put(&mut shown, "sni", tls.sni.as_deref().map(text));
    put(&mut shown, "ca_file", tls.ca_file.as_deref().map(file));
    if let Some((cert_file, key_file)) = &tls.identity {
        put(&mut shown, "cert_file", Some(file(cert_file)));
        put(&mut shown, "key_file", Some(file(key_file)));
    }
    shown
}

fn active_check(check: &ActiveCheck) -> Value {
    let mut shown = json!({
        "interval": duration(check.interval),
        "timeout": duration(check.timeout),
        "healthy_after": count(check.healthy_after),
        "unhealthy_after": count(check.unhealthy_after),
    });
    match &check.probe {
        Probe::Http { path, status } => {
            let status = list(status, |(first, last)| json!(format!("{first}-{last}")));
            put(
                &mut shown,
                "http",
                Some(json!({"path": text(path), "status": status})),
            );
        }
        Probe::Tcp => put(&mut shown, "tcp", Some(json!({}))),
    }
    shown
}

fn timeouts(timeouts: &Timeouts) -> Value {
    json!({
        "connect": duration(timeouts.connect),
        "first_byte": duration(timeouts.first_byte),
        "idle": duration(timeouts.idle),
        "total": duration(timeouts.total),
    })
}

fn levels(cache: &Cache) -> Value {
    let lower = cache.lower.iter().map(|level| match level {
        LowerLevel::Disk(level) => disk(cache, level),
        LowerLevel::Redis(level) => redis::level(cache, level),
    });
    Value::Array(cache.memory.iter().map(memory).chain(lower).collect())
}

fn disk(cache: &Cache, level: &DiskLevel) -> Value {
    let mut shown = json!({
        "name": text(&level.name),
        "path": file(&level.path),
        "capacity": size(level.capacity),
    });
    put(&mut shown, "encrypt", encrypt(cache, &level.name));
    json!({"disk": shown})
}

/// How the level of this name encrypts.
fn encrypt(cache: &Cache, name: &Name) -> Option<Value> {
    let keyring = cache.keyrings.get(name)?;
    Some(json!({"keyring_file": file(&keyring.file)}))
}

fn memory(level: &MemoryLevel) -> Value {
    let policy = match level.policy {
        EvictionPolicy::ClockPro => "clock_pro",
        EvictionPolicy::WTinyLfu => "w_tinylfu",
        EvictionPolicy::Lru => "lru",
    };
    json!({"memory": {
        "name": text(&level.name),
        "capacity": size(level.capacity),
        "policy": policy,
        "max_object": size(level.max_object),
    }})
}

fn compress(compress: Compress) -> Value {
    let algorithm = match compress.algorithm {
        Compression::Off => "off",
        Compression::Zstd => "zstd",
        Compression::Lz4 => "lz4",
    };
    json!({"algorithm": algorithm, "min_size": size(compress.min_size)})
}

fn replicas(replicas: &Replicas) -> Value {
    json!({
        "replicas_via": text(&replicas.via),
        "l1_cap_when_unreachable": duration(replicas.cap),
    })
}

fn prices(prices: &Prices) -> Value {
    let price = |(model, price): (&String, &Price)| {
        let shown = json!({
            "input": price.input,
            "output": price.output,
            "cached_input": price.cached_input,
            "cache_write": price.cache_write,
        });
        (model.clone(), shown)
    };
    Value::Object(prices.0.iter().map(price).collect())
}

fn telemetry(telemetry: &Telemetry) -> Value {
    let mut shown = json!({
        "access_log": {
            "enabled": telemetry.access_log.enabled,
            "format": "json",
            "sample": telemetry.access_log.sample,
        },
        "mask": {"headers": words(&telemetry.mask.headers), "query": words(&telemetry.mask.query)},
        "history": {
            "raw": duration(telemetry.history.raw),
            "minute": duration(telemetry.history.minute),
            "hour": duration(telemetry.history.hour),
            "max_size": size(telemetry.history.max_size),
        },
    });
    put(&mut shown, "otlp", telemetry.otlp.as_ref().map(otlp));
    shown
}

fn otlp(otlp: &Otlp) -> Value {
    let mut keep = json!({"errors": otlp.keep_errors});
    put(&mut keep, "slower_than", otlp.keep_slower_than.map(duration));
    let mut metrics = json!({"enabled": otlp.metrics.is_some()});
    put(&mut metrics, "interval", otlp.metrics.map(duration));
    json!({
        "endpoint": text(&otlp.endpoint),
        "protocol": match otlp.protocol {
            OtlpProtocol::Grpc => "grpc",
            OtlpProtocol::HttpProtobuf => "http/protobuf",
        },
        "sample": otlp.sample,
        "keep": keep,
        "metrics": metrics,
        "genai": otlp.genai,
    })
}
