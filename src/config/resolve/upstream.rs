//! `upstreams`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Cx, duration, to_usize};
use crate::config::model::{
    ActiveCheck, Balance, ClientTls, Endpoint, HashOn, PoolLimits, Probe, Timeouts, Upstream,
    UpstreamProtocol,
};
use crate::config::raw;
use crate::config::scalar::{Map, Text};
use crate::config::tree::At;
use crate::config::values::NameText;

/// Deadlines when neither upstream nor route says otherwise.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    first_byte: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    total: Duration::from_secs(300),
};

/// Resolves all upstreams; those with problems are left out.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    root: &At<'_>,
    raw: Option<Map<Text<NameText>, raw::Upstream>>,
) -> Vec<Arc<Upstream>> {
    let at = root.key("upstreams");
    let raw = raw.map(|map| map.0);
    let hint = "give one, like `hub: {endpoints: [{address: \"127.0.0.1:8000\"}]}`";
    let raw = cx.required_list(root, "upstreams", raw, hint);
    raw.into_iter()
        .filter_map(|(name, upstream)| self::upstream(cx, &at.key(&name.0.0), &name.0, upstream))
        .map(Arc::new)
        .collect()
}

/// The deadlines of `raw` over those of `base`.
pub(super) fn timeouts(raw: Option<raw::Timeouts>, base: Timeouts) -> Timeouts {
    let raw = raw.unwrap_or_default();
    Timeouts {
        connect: duration(raw.connect, base.connect),
        first_byte: duration(raw.first_byte, base.first_byte),
        idle: duration(raw.idle, base.idle),
        total: duration(raw.total, base.total),
    }
}

fn upstream(cx: &mut Cx<'_>, at: &At<'_>, name: &NameText, raw: raw::Upstream) -> Option<Upstream> {
    let endpoints = endpoints(cx, at, raw.endpoints);
    let tls = raw.tls.map(|tls| client_tls(cx, &at.key("tls"), tls));
    let balance = balance(cx, at, raw.balance, raw.hash_on);
    let active_check = match raw.health.and_then(|health| health.active) {
        Some(check) => Some(active_check(cx, &at.key("health").key("active"), check)?),
        None => None,
    };
    let attempts = attempts(cx, &at.key("retry"), raw.retry.unwrap_or_default());
    let off = Some(Text(raw::ConcurrencyLimit::Off));
    if let Some(raw::Concurrency::Limit(limit)) = raw.concurrency
        && limit.limit != off
    {
        cx.later(&at.key("concurrency"));
    }
    let pool = raw.pool.unwrap_or_default();
    Some(Upstream {
        name: Arc::clone(&name.0),
        endpoints,
        protocol: match raw.protocol {
            None | Some(raw::ProtocolWord::Http1) => UpstreamProtocol::Http1,
            Some(raw::ProtocolWord::H2) => UpstreamProtocol::H2,
            Some(raw::ProtocolWord::Auto) => UpstreamProtocol::Auto,
        },
        tls,
        balance,
        active_check,
        timeouts: timeouts(raw.timeouts, TIMEOUTS),
        pool: PoolLimits {
            max_connections: pool.max_connections.map_or(256, |number| to_usize(number.0)),
            max_idle: pool.max_idle.map_or(64, |number| to_usize(number.0)),
            idle_timeout: duration(pool.idle_timeout, Duration::from_secs(60)),
        },
        attempts,
    })
}

fn endpoints(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<Vec<raw::Endpoint>>) -> Vec<Endpoint> {
    let hint = "give one, like `- {address: \"127.0.0.1:8000\"}`";
    let raw = cx.required_list(at, "endpoints", raw, hint);
    let list = at.key("endpoints");
    let written = |endpoint: &raw::Endpoint| {
        endpoint
            .address
            .as_ref()
            .map(|address| format!("{}:{}", address.0.host, address.0.port))
    };
    let addresses: Vec<Option<String>> = raw.iter().map(written).collect();
    cx.unique(&list, "address", addresses.iter().map(Option::as_deref));
    raw.into_iter()
        .enumerate()
        .filter_map(|(index, endpoint)| self::endpoint(cx, &list.index(index), endpoint))
        .collect()
}

fn endpoint(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Endpoint) -> Option<Endpoint> {
    if raw.tier.is_some_and(|tier| tier.0 != 0) {
        cx.later(&at.key("tier"));
    }
    if raw.address.is_none() && cx.is_faulty(at, "dns") {
        return None;
    }
    let address = cx.required(at, "address", raw.address)?;
    Some(Endpoint {
        host: address.host,
        port: address.port,
        weight: raw
            .weight
            .map_or(1, |weight| u16::try_from(weight.0).unwrap_or(u16::MAX)),
    })
}

/// TLS towards servers.
pub(super) fn client_tls(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::ClientTls) -> ClientTls {
    let mut file =
        |key: &str, path: Option<Text<PathBuf>>| path.map(|path| cx.readable(&at.key(key), &path.0));
    let ca_file = file("ca_file", raw.ca_file);
    let cert_file = file("cert_file", raw.cert_file);
    let key_file = file("key_file", raw.key_file);
    let identity = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some((cert_file, key_file)),
        (Some(_), None) => {
            cx.required_word::<()>(at, "key_file", None);
            None
        }
        (None, Some(_)) => {
            cx.required_word::<()>(at, "cert_file", None);
            None
        }
        (None, None) => None,
    };
    ClientTls {
        sni: raw.sni.map(|host| host.0.0),
        ca_file,
        identity,
    }
}

fn balance(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    word: Option<raw::BalanceWord>,
    hash_on: Option<raw::HashOnChoice>,
) -> Balance {
    match word {
        Some(raw::BalanceWord::Ketama) => {}
        Some(raw::BalanceWord::LeastRequest | raw::BalanceWord::P2cEwma) => {
            cx.later(&at.key("balance"));
            return Balance::RoundRobin;
        }
        None if cx.is_faulty(at, "balance") => return Balance::RoundRobin,
        None | Some(raw::BalanceWord::RoundRobin) => {
            if hash_on.is_some() {
                cx.problem(
                    &at.key("hash_on"),
                    "`hash_on` has no effect without `balance: ketama`",
                );
            }
            return Balance::RoundRobin;
        }
    }
    Balance::Ketama(match hash_on {
        None | Some(raw::HashOnChoice::Key) => HashOn::Key,
        Some(raw::HashOnChoice::ClientIp) => HashOn::ClientIp,
        Some(raw::HashOnChoice::Header(name)) => HashOn::Header(name.0),
        Some(raw::HashOnChoice::Cookie(name)) => HashOn::Cookie(name.0.0),
    })
}

fn active_check(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::ActiveCheck) -> Option<ActiveCheck> {
    let probe = match (raw.http, raw.tcp) {
        (Some(http), None) => {
            let http_at = at.key("http");
            let path = cx.required(&http_at, "path", http.path)?;
            let good = |status: Vec<Text<_>>| status.into_iter().map(status_range).collect();
            let status: Vec<(u16, u16)> = http.status.map_or_else(|| vec![(200, 299)], good);
            let status_at = http_at.key("status");
            if status.is_empty() && !cx.was_emptied(&status_at) {
                cx.problem(&status_at, "`status` is empty: no answer would be good");
            }
            Probe::Http { path: path.0, status }
        }
        (None, Some(raw::TcpProbe {})) => Probe::Tcp,
        (Some(_), Some(_)) => {
            cx.problem(&at.key("tcp"), "`http` and `tcp` exclude each other");
            return None;
        }
        (None, None) => {
            let known = ["http", "tcp", "grpc"].iter().any(|key| cx.is_faulty(at, key));
            if !known {
                cx.problem(at, "the check does not say what to ask")
                    .hint("give `http: {path: /healthz}` or `tcp: {}`");
            }
            return None;
        }
    };
    let interval = duration(raw.interval, Duration::from_secs(5));
    Some(ActiveCheck {
        probe,
        interval,
        timeout: duration(raw.timeout, Duration::from_secs(1)),
        healthy_after: raw.healthy_after.map_or(2, |number| to_usize(number.0)),
        unhealthy_after: raw.unhealthy_after.map_or(3, |number| to_usize(number.0)),
    })
}

fn status_range(range: Text<crate::config::values::StatusRange>) -> (u16, u16) {
    (range.0.0, range.0.1)
}

fn attempts(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Retry) -> u32 {
    let on_at = at.key("on");
    let on = raw.on.unwrap_or_else(|| vec![raw::RetryOn::Connect]);
    for (index, on) in on.iter().enumerate() {
        if *on != raw::RetryOn::Connect {
            cx.later(&on_at.index(index));
        }
    }
    if on.is_empty() && !cx.was_emptied(&on_at) {
        cx.problem(&on_at, "`on` is empty")
            .hint("`attempts: 1` switches retries off");
    }
    raw.attempts
        .map_or(2, |number| u32::try_from(number.0).unwrap_or(u32::MAX))
}
