//! `routes`.

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::{Cx, ambiguity, route_cache, upstream, usage};
use crate::config::effective;
use crate::config::model::{Cache, HeaderRules, Matcher, PathPattern, Replay, Route, StreamRules, Upstream};
use crate::config::raw;
use crate::config::scalar::Text;
use crate::config::suggest;
use crate::config::tree::{At, Node};
use crate::config::values::NameText;

/// Resolves all routes; those with problems are left out.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    root: &At<'_>,
    raw: Option<Vec<raw::Route>>,
    upstreams: &[Arc<Upstream>],
    cache: &Cache,
) -> Vec<Route> {
    let at = root.key("routes");
    let hint = "give one, like `- {name: default, upstream: hub}`";
    let raw = cx.required_list(root, "routes", raw, hint);
    cx.unique(
        &at,
        "name",
        raw.iter()
            .map(|route| route.name.as_ref().map(|name| name.0.0.as_ref())),
    );
    let mut matchers = ambiguity::Table::default();
    let mut routes = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let route_at = at.index(index);
        if let Some(route) = route(cx, &route_at, raw, upstreams, cache) {
            if let Some(other) = matchers.insert(&route) {
                cx.problem(
                    &route_at,
                    format!("routes `{other}` and `{}` match the same requests", route.name),
                )
                .hint("make their hosts, path, methods or headers differ, or remove one");
            }
            routes.push(route);
        }
    }
    routes
}

fn route(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: raw::Route,
    upstreams: &[Arc<Upstream>],
    cache: &Cache,
) -> Option<Route> {
    let name = cx.required(at, "name", raw.name);
    let upstream_name = cx.required(at, "upstream", raw.upstream);
    if let Some(name) = &upstream_name {
        check_reference(cx, &at.key("upstream"), name);
    }
    let matcher = matcher(cx, &at.key("match"), raw.matcher.unwrap_or_default());
    let rules = match raw.cache {
        Some(rules) => route_cache::resolve(cx, &at.key("cache"), rules, cache),
        None => None,
    };
    let headers = header_rules(cx, &at.key("headers"), raw.headers.unwrap_or_default());
    let usage = usage::route(cx, &at.key("usage"), raw.usage);
    let upstream_name = upstream_name?;
    let upstream = upstreams
        .iter()
        .find(|upstream| upstream.name == upstream_name.0)?;
    let mut route = Route {
        name: name?.0,
        fingerprint: [0; 16],
        matcher: matcher?,
        upstream: Arc::clone(&upstream.name),
        timeouts: upstream::timeouts(raw.timeouts.map(Into::into), upstream.timeouts),
        cache: rules,
        stream: stream(raw.stream.unwrap_or_default()),
        headers,
        usage,
    };
    route.fingerprint = effective::fingerprint(&route);
    Some(route)
}

fn stream(raw: raw::Stream) -> StreamRules {
    StreamRules {
        replay: match raw.replay {
            None | Some(raw::Replay::Instant) => Replay::Instant,
            Some(raw::Replay::Recorded) => Replay::Recorded,
        },
        terminal: raw.terminal.map(|terminal| terminal.0),
    }
}

fn check_reference(cx: &mut Cx<'_>, at: &At<'_>, name: &NameText) {
    let upstreams = cx.tree.find(&At::ROOT.key("upstreams")).node;
    // Without any there is a problem already.
    let Some(upstreams) = upstreams.filter(|node| !node.faulty && node.has_children()) else {
        return;
    };
    if upstreams.entry(&name.0).is_some() {
        return;
    }
    let hint = suggest::hint(&name.0, upstreams.keys().collect::<Vec<_>>());
    cx.problem(at, format!("there is no upstream `{}`", name.0)).hint = hint;
}

fn matcher(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Match) -> Option<Matcher> {
    let mut paths = Vec::new();
    paths.extend(raw.path.map(|path| ("path", PathPattern::Exact(path.0.0))));
    paths.extend(
        raw.path_prefix
            .map(|path| ("path_prefix", PathPattern::Prefix(path.0.0))),
    );
    paths.extend(
        raw.path_template
            .map(|path| ("path_template", PathPattern::Template(path.0.0))),
    );
    paths.extend(
        raw.path_regex
            .map(|path| ("path_regex", PathPattern::Regex(path.0.0))),
    );
    let mut paths = paths.into_iter();
    let path = paths.next();
    for (key, _) in paths {
        let first = path.as_ref().map_or("", |(key, _)| key);
        cx.problem(&at.key(key), format!("`{first}` and `{key}` exclude each other"))
            .hint("make two routes of it");
    }
    // A route whose conditions are faulty must not be taken for one that matches everything.
    if cx.tree.find(at).node.is_some_and(Node::has_faults) {
        return None;
    }
    let path = path.map_or_else(|| PathPattern::Prefix("/".to_owned()), |(_, path)| path);
    let headers = pairs(cx, &at.key("headers"), raw.headers.unwrap_or_default().0);
    Some(Matcher {
        hosts: raw
            .hosts
            .unwrap_or_default()
            .into_iter()
            .map(|host| host.0)
            .collect(),
        path,
        methods: raw
            .methods
            .unwrap_or_default()
            .into_iter()
            .map(|method| method.0)
            .collect(),
        headers,
    })
}

fn header_rules(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::HeaderChanges) -> HeaderRules {
    let (request_set, request_remove) = changes(cx, &at.key("request"), raw.request.unwrap_or_default());
    let (response_set, response_remove) = changes(cx, &at.key("response"), raw.response.unwrap_or_default());
    HeaderRules {
        request_set,
        request_remove,
        response_set,
        response_remove,
    }
}

type Set = Vec<(HeaderName, HeaderValue)>;

fn changes(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Changes) -> (Set, Vec<HeaderName>) {
    let set_at = at.key("set");
    // Keys are looked up as they are written; only names of one case can be found again by their parsed form.
    let set = pairs(cx, &set_at, raw.set.unwrap_or_default().0);
    for (name, _) in &set {
        check_changeable(cx, &set_at, Some(name.as_str()), name);
    }
    let remove_at = at.key("remove");
    let remove: Vec<HeaderName> = raw
        .remove
        .unwrap_or_default()
        .into_iter()
        .map(|name| name.0)
        .collect();
    for (index, name) in remove.iter().enumerate() {
        check_changeable(cx, &remove_at.index(index), None, name);
        if *name == HOST {
            cx.problem(&remove_at.index(index), "a request cannot be sent without `host`");
        }
    }
    (set, remove)
}

/// Fields that belong to one connection or frame its messages (RFC 9110, section 7.6.1; RFC 9112, section 6) are
/// not a route's to change.
fn check_changeable(cx: &mut Cx<'_>, at: &At<'_>, key: Option<&str>, name: &HeaderName) {
    let fixed = [
        CONNECTION,
        CONTENT_LENGTH,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let old = ["keep-alive", "proxy-connection"];
    if !fixed.contains(name) && !old.contains(&name.as_str()) {
        return;
    }
    let written = key.and_then(|key| cx.written_key(at, key));
    let message = format!("`{name}` belongs to the connection and cannot be changed");
    match written {
        Some(key) => cx.problem(&at.key(&key), message),
        None => cx.problem(at, message),
    };
}

/// Header fields as pairs; a name that occurs again in another case is a problem.
fn pairs(cx: &mut Cx<'_>, at: &At<'_>, raw: Vec<(Text<HeaderName>, Text<HeaderValue>)>) -> Set {
    let mut pairs: Set = Vec::new();
    for (Text(name), Text(value)) in raw {
        if pairs.iter().any(|(known, _)| *known == name) {
            cx.problem(at, format!("the header `{name}` is given twice"))
                .hint("header names are the same in upper and lower case");
        }
        pairs.push((name, value));
    }
    pairs
}
