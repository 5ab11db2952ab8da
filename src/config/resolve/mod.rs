//! Raw types to [`Config`]: fills in defaults, checks what concerns several values, collects every problem.

mod alerts;
mod ambiguity;
mod cache;
mod context;
mod levels;
mod purge;
mod redis;
mod route;
mod route_cache;
mod telemetry;
mod upstream;
mod usage;
mod warm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::alerts::Alerts;
use super::effective;
use super::model::{Admin, Cache, Config, Listener, ListenerLimits, Role, Route, ServerTls, Token, Upstream};
use super::raw;
use super::scalar::Text;
use super::secret::Secret;
use super::tree::At;
use super::units::Positive;

pub(super) use context::{Cx, Finding};

/// Resolves a file. None if a problem was found.
pub(super) fn resolve(cx: &mut Cx<'_>, raw: raw::File) -> Option<Config> {
    let root = At::ROOT;
    if let Some(version) = raw.version.filter(|version| *version != 1) {
        cx.problem(
            &root.key("version"),
            format!("version {version} of the format is not known"),
        )
        .hint("this build reads version 1");
    }
    let workers = match raw.workers {
        None | Some(Text(raw::Workers::Auto)) => cx.env.cpus,
        Some(Text(raw::Workers::Exactly(workers))) => workers,
    };
    let listeners = listeners(cx, &root, raw.listeners);
    let admin = admin(cx, &root.key("admin"), raw.admin.unwrap_or_default());
    let mut raw_cache = raw.cache;
    let raw_warm = raw_cache.as_mut().and_then(|cache| cache.warm.take());
    let raw_purge = raw_cache.as_mut().and_then(|cache| cache.purge.take());
    let before = cx.found.len();
    let cache = cache::resolve(cx, &root.key("cache"), raw_cache);
    // Whether a level has the name is only known when all levels are.
    let lower = (cx.found.len() == before).then_some(cache.lower.as_slice());
    let replicas = purge::resolve(cx, &root.key("cache").key("purge"), raw_purge, lower);
    let upstreams = upstream::resolve(cx, &root, raw.upstreams);
    let routes = route::resolve(cx, &root, raw.routes, &upstreams, &cache);
    let warm = warm::resolve(
        cx,
        &root.key("cache").key("warm"),
        raw_warm.unwrap_or_default(),
        &routes,
        &admin,
    );
    let prices = usage::prices(cx, &root.key("usage"), raw.usage.unwrap_or_default());
    let telemetry = telemetry::resolve(cx, &root.key("telemetry"), raw.telemetry.unwrap_or_default());
    let alerts = alerts(cx, &root, raw.alerts, &cache, &upstreams, &routes);
    check_addresses(cx, &root, &listeners, &admin);
    let mut config = Config {
        workers: workers.max(1),
        listeners: listeners.into_iter().map(Arc::new).collect(),
        admin,
        upstreams: upstreams
            .into_iter()
            .map(|upstream| (Arc::clone(&upstream.name), upstream))
            .collect::<BTreeMap<_, _>>(),
        cache,
        warm: warm.into(),
        replicas,
        routes: routes.into_iter().map(Arc::new).collect(),
        prices,
        telemetry: telemetry?,
        alerts: Arc::new(alerts),
        hash: Arc::from(""),
    };
    config.hash = effective::hash(&config);
    (cx.found.is_empty() && cx.elsewhere.is_empty()).then_some(config)
}

fn alerts(
    cx: &mut Cx<'_>,
    root: &At<'_>,
    raw: Option<raw::Alerts>,
    cache: &Cache,
    upstreams: &[Arc<Upstream>],
    routes: &[Route],
) -> Alerts {
    let Some(raw) = raw else {
        return Alerts::default();
    };
    let at = root.key("alerts");
    let memory = cache.memory.iter().map(|level| &*level.name);
    let known = alerts::Known {
        routes: routes.iter().map(|route| &*route.name).collect(),
        upstreams: upstreams.iter().map(|upstream| &*upstream.name).collect(),
        levels: memory
            .chain(cache.lower.iter().map(|level| &**level.name()))
            .collect(),
    };
    // Checked already, and in force when there is a history to hold it against.
    cx.later(&at);
    alerts::resolve(cx, &at, raw, &known)
}

fn listeners(cx: &mut Cx<'_>, root: &At<'_>, raw: Option<Vec<raw::Listener>>) -> Vec<Listener> {
    let at = root.key("listeners");
    let raw = cx.required_list(
        root,
        "listeners",
        raw,
        "give one, like `- {name: http, bind: 127.0.0.1:8080}`",
    );
    cx.unique(
        &at,
        "name",
        raw.iter()
            .map(|listener| listener.name.as_ref().map(|name| name.0.0.as_ref())),
    );
    raw.into_iter()
        .enumerate()
        .filter_map(|(index, listener)| self::listener(cx, &at.index(index), listener))
        .collect()
}

fn listener(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Listener) -> Option<Listener> {
    let name = cx.required(at, "name", raw.name);
    let bind = cx.required(at, "bind", raw.bind);
    let tls = match raw.tls {
        Some(tls) => Some(server_tls(cx, &at.key("tls"), tls)?),
        None => None,
    };
    let trusted = raw.trusted_proxies.unwrap_or_default();
    Some(Listener {
        name: name?.0,
        bind: bind?,
        tls,
        limits: limits(cx, &at.key("limits"), raw.limits.unwrap_or_default()),
        trusted_proxies: trusted.into_iter().map(|net| net.0).collect(),
    })
}

fn server_tls(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::ServerTls) -> Option<ServerTls> {
    let cert_file = cx.required(at, "cert_file", raw.cert_file);
    let key_file = cx.required(at, "key_file", raw.key_file);
    let cert_file = cert_file.map(|path| cx.readable(&at.key("cert_file"), &path));
    let key_file = key_file.map(|path| cx.readable(&at.key("key_file"), &path));
    let client_ca_file = raw
        .client_ca_file
        .map(|path| cx.readable(&at.key("client_ca_file"), &path.0));
    Some(ServerTls {
        cert_file: cert_file?,
        key_file: key_file?,
        client_ca_file,
    })
}

fn limits(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Limits) -> ListenerLimits {
    let header_bytes = raw.header_bytes.map_or(64 << 10, |size| size.0.0);
    if !(1 << 10..=16 << 20).contains(&header_bytes) {
        cx.problem(&at.key("header_bytes"), "a request head has 1KiB to 16MiB");
    }
    ListenerLimits {
        connections: raw.connections.map_or(10_000, |number| to_usize(number.0)),
        headers: raw.headers.map_or(100, |number| to_usize(number.0)),
        header_bytes: to_usize(header_bytes),
        header_timeout: duration(raw.header_timeout, Duration::from_secs(10)),
        body_min_rate: raw.body_min_rate.map_or(500, |rate| rate.0.0),
        idle_timeout: duration(raw.idle_timeout, Duration::from_secs(75)),
        max_body: raw.max_body.map_or(64 << 20, |size| size.0.0),
        h2_streams: raw
            .h2_streams
            .map_or(100, |number| u32::try_from(number.0).unwrap_or(u32::MAX)),
    }
}

fn admin(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Admin) -> Admin {
    let tokens_at = at.key("tokens");
    let tokens = raw.tokens.unwrap_or_default();
    cx.unique(
        &tokens_at,
        "name",
        tokens
            .iter()
            .map(|token| token.name.as_ref().map(|name| name.0.0.as_ref())),
    );
    let tokens = tokens
        .into_iter()
        .enumerate()
        .filter_map(|(index, token)| self::token(cx, &tokens_at.index(index), token))
        .collect();
    let local = || ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
    let hosts = raw
        .allowed_hosts
        .map(|hosts| hosts.into_iter().map(|host| host.0.0).collect());
    Admin {
        bind: raw.bind.map_or(([127, 0, 0, 1], 9901).into(), |bind| bind.0),
        tokens,
        allowed_hosts: hosts.unwrap_or_else(local),
        state_dir: raw.state_dir.map(|dir| cx.absolute(&dir.0)),
        protect_metrics: raw.protect_metrics.unwrap_or(false),
    }
}

fn token(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Token) -> Option<Token> {
    let name = cx.required(at, "name", raw.name);
    let role: Option<Role> = cx.required_word(at, "role", raw.role).map(Into::into);
    let file = cx.required(at, "sha256_file", raw.sha256_file)?;
    let file_at = at.key("sha256_file");
    let content = cx.read(&file_at, &file);
    let mut sha256 = [0; 32];
    if let Some(content) = content
        && hex::decode_to_slice(content.trim_ascii(), &mut sha256).is_err()
    {
        // The content may be the token itself: it is not shown.
        cx.problem(&file_at, "the file does not hold 64 hexadecimal digits")
            .hint("write it by `printf %s \"$TOKEN\" | sha256sum | cut -c1-64`");
    }
    Some(Token {
        name: name?.0,
        role: role?,
        sha256: Secret::new(sha256),
        sha256_file: cx.absolute(&file),
    })
}

/// Two listeners cannot have one address.
fn check_addresses(cx: &mut Cx<'_>, root: &At<'_>, listeners: &[Listener], admin: &Admin) {
    let list = root.key("listeners");
    for (index, listener) in listeners.iter().enumerate() {
        if listener.bind.port() == 0 {
            continue;
        }
        let earlier = listeners
            .iter()
            .take(index)
            .find(|other| other.bind == listener.bind);
        let taken_by = match earlier {
            Some(other) => format!("listener `{}`", other.name),
            None if admin.bind == listener.bind => "the admin listener".to_owned(),
            None => continue,
        };
        cx.problem(
            &list.index(index).key("bind"),
            format!("{taken_by} has the address {}", listener.bind),
        );
    }
}

fn duration(raw: Option<Text<Positive<Duration>>>, default: Duration) -> Duration {
    raw.map_or(default, |duration| duration.0.0)
}

fn duration_or_zero(raw: Option<Text<Duration>>) -> Duration {
    raw.map_or(Duration::ZERO, |duration| duration.0)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
