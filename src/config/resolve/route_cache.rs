//! `routes[].cache`.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobMatcher;
use http::{HeaderName, Method};

use super::{Cx, to_usize};
use crate::config::model::{
    Adaptive, BodyKey, Cache, Collapse, Heuristic, LastReaderGone, LowerLevel, PrincipalSource, QueryRule,
    RouteCache, Share, Ttl, VaryRules,
};
use crate::config::raw;
use crate::config::scalar::{Scalar, Text};
use crate::config::tree::At;
use crate::config::units::{Positive, Size, format_size};
use crate::config::values::Pointer;

const DEFAULT_MAX_OBJECT: u64 = 2 << 20;
const DEFAULT_MAX_BODY: u64 = 1 << 20;

/// The value that is optimal if fetches take as long as the last one (Vattani et al. 2015, section 4).
const DEFAULT_BETA: f64 = 1.0;

/// The most of a request body that is ever held back for its digest.
const LIMIT_MAX_BODY: u64 = 64 << 20;

/// Resolves the cache rules of a route. None if it is not cached.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: raw::RouteCache,
    cache: &Cache,
) -> Option<RouteCache> {
    let methods = methods(cx, at, raw.methods);
    let vary = vary(cx, &at.key("vary"), raw.vary.unwrap_or_default(), &methods);
    let share = share(cx, &at.key("share"), raw.share);
    let ttl = ttl(cx, &at.key("ttl"), raw.ttl);
    let tags = raw.tags.unwrap_or_default();
    let tag_pointers = tag_pointers(cx, &at.key("tags").key("json"), tags.json, &vary);
    let max_object = max_object(cx, &at.key("max_object"), raw.max_object, cache);
    let (read, write) = match raw.mode.map_or(raw::Mode::On, |mode| mode.0) {
        raw::Mode::On => (true, true),
        raw::Mode::ReadOnly => (true, false),
        raw::Mode::WriteOnly => (false, true),
        raw::Mode::Off => return None,
    };
    let collapse = collapse(cx, at, raw.collapse, cache);
    let default_tags = || {
        vec![
            HeaderName::from_static("surrogate-key"),
            HeaderName::from_static("cache-tag"),
        ]
    };
    Some(RouteCache {
        read,
        write,
        methods,
        ttl,
        heuristic: raw.heuristic.map(|rule| Heuristic {
            fraction: rule.fraction.map_or(0.1, |share| share.0.0),
            max: rule.max.map_or(Duration::from_secs(86_400), |max| max.0),
        }),
        stale_while_revalidate: raw.stale_while_revalidate.map(|duration| duration.0),
        stale_if_error: raw.stale_if_error.map(|duration| duration.0),
        vary,
        share,
        nondeterministic: !matches!(raw.nondeterministic, Some(raw::Nondeterministic::Bypass)),
        static_tags: tags
            .fixed
            .unwrap_or_default()
            .into_iter()
            .map(|tag| tag.0.0)
            .collect(),
        tag_headers: tags.header.map_or_else(default_tags, names),
        tag_pointers,
        collapse,
        on_last_reader_gone: match raw.on_last_reader_gone {
            None | Some(raw::LastReaderGoneWord::Cancel) => LastReaderGone::Cancel,
            Some(raw::LastReaderGoneWord::Finish) => LastReaderGone::Finish,
        },
        client_control: matches!(raw.client_control, Some(raw::ClientControl::Honour)),
        min_uses: raw
            .min_uses
            .map_or(1, |uses| u16::try_from(uses.0).unwrap_or(u16::MAX)),
        max_object,
        refresh_ahead: raw
            .refresh_ahead
            .map(|rule| rule.beta.map_or(DEFAULT_BETA, |beta| beta.0.0)),
        sensitive: raw.sensitive.unwrap_or(false),
    })
}

fn ttl(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<raw::RouteTtl>) -> Ttl {
    let adaptive = match raw {
        None => return Ttl::Origin,
        Some(raw::RouteTtl::Fixed(ttl)) => return Ttl::Fixed(ttl),
        Some(raw::RouteTtl::ByStatus(list)) => {
            let list = list.into_iter().map(|(status, ttl)| (status.0, ttl));
            return Ttl::ByStatus(list.collect::<BTreeMap<_, _>>());
        }
        Some(raw::RouteTtl::Adaptive(adaptive)) => adaptive,
    };
    let at = at.key("adaptive");
    let (min, max) = (
        cx.required(&at, "min", adaptive.min),
        cx.required(&at, "max", adaptive.max),
    );
    match (min, max) {
        (Some(Positive(min)), Some(Positive(max))) if min <= max => Ttl::Adaptive(Adaptive { min, max }),
        (Some(_), Some(_)) => {
            cx.problem(&at.key("max"), "`max` is less than `min`");
            Ttl::Origin
        }
        // Reported already.
        _ => Ttl::Origin,
    }
}

fn tag_pointers(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Option<Vec<Text<Pointer>>>,
    vary: &VaryRules,
) -> Vec<String> {
    let pointers: Vec<_> = raw.into_iter().flatten().map(|pointer| pointer.0.0).collect();
    if !pointers.is_empty() && vary.body.is_none() {
        cx.problem(at, "the request body is not part of the key")
            .hint("cache `POST` or `QUERY`, or say `vary: {body: {}}`");
    }
    pointers
}

fn names(list: Vec<Text<HeaderName>>) -> Vec<HeaderName> {
    list.into_iter().map(|name| name.0).collect()
}

fn methods(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<Vec<Text<Method>>>) -> Vec<Method> {
    let list_at = at.key("methods");
    let Some(raw) = raw else {
        return vec![Method::GET, Method::HEAD];
    };
    let known = ["GET", "HEAD", "POST", "QUERY"];
    for (index, Text(method)) in raw.iter().enumerate() {
        if !known.contains(&method.as_str()) {
            cx.problem(
                &list_at.index(index),
                format!("responses to `{method}` cannot be cached"),
            )
            .hint("one of `GET`, `HEAD`, `POST`, `QUERY`");
        }
    }
    let sound = cx.required_list(at, "methods", Some(raw), "`mode: \"off\"` switches the cache off");
    sound.into_iter().map(|method| method.0).collect()
}

fn collapse(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<Text<Collapse>>, cache: &Cache) -> Collapse {
    let collapse = raw.map_or(Collapse::Replica, |text| text.0);
    let shared = cache
        .lower
        .iter()
        .any(|level| matches!(level, LowerLevel::Redis(_)));
    if collapse == Collapse::Fleet && !shared {
        cx.problem(
            &at.key("collapse"),
            "replicas agree in a Redis level, and there is none",
        )
        .hint("add a level `redis: {name: .., url: ..}` to `cache.levels`, or write `true`");
    }
    collapse
}

fn max_object(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<Text<Positive<Size>>>, cache: &Cache) -> u64 {
    let level = cache.memory.as_ref().map_or(u64::MAX, |level| level.max_object);
    match raw {
        Some(size) if size.0.0.0 > level => {
            let level = format_size(level);
            cx.problem(
                at,
                format!("one entry cannot be larger than the level's `max_object` of {level}"),
            );
            size.0.0.0
        }
        Some(size) => size.0.0.0,
        None => DEFAULT_MAX_OBJECT.min(level),
    }
}

fn share(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<raw::ShareChoice>) -> Share {
    match raw {
        None => Share::Safe,
        Some(raw::ShareChoice::Principal) => Share::Principal,
        Some(raw::ShareChoice::All) => Share::All,
        Some(raw::ShareChoice::Tenant(tenant)) => cx
            .required(&at.key("tenant"), "header", tenant.header)
            .map_or(Share::Principal, Share::Tenant),
    }
}

fn vary(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Vary, methods: &[Method]) -> VaryRules {
    // A method whose request has content is never cached without that content in the key.
    let needs_body = methods
        .iter()
        .any(|method| *method != Method::GET && *method != Method::HEAD);
    let raw_body = raw.body.or_else(|| needs_body.then(raw::Body::default));
    VaryRules {
        principal: raw
            .principal
            .and_then(|raw| principal(cx, &at.key("principal"), raw)),
        query: query(raw.query),
        headers: names(raw.headers.unwrap_or_default()),
        body: raw_body.map(|raw| body(cx, &at.key("body"), raw)),
    }
}

fn principal(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Principal) -> Option<PrincipalSource> {
    let from = match raw {
        raw::Principal::Credentials(whether) => return whether.then_some(PrincipalSource::Credentials),
        raw::Principal::From(from) => from,
    };
    match (from.header, from.cookie) {
        (Some(name), None) => Some(PrincipalSource::Header(name.0)),
        (None, Some(name)) => Some(PrincipalSource::Cookie(name.0.0)),
        (Some(_), Some(_)) => {
            cx.problem(&at.key("cookie"), "`header` and `cookie` exclude each other");
            None
        }
        (None, None) => {
            let known = ["header", "cookie", "claim"]
                .iter()
                .any(|key| cx.is_faulty(at, key));
            if !known {
                cx.problem(at, "it is not said where the principal is found")
                    .hint("`true`, `{header: x-user-id}` or `{cookie: sid}`");
            }
            None
        }
    }
}

fn query(raw: Option<raw::Query>) -> QueryRule {
    let raw = raw.unwrap_or_default();
    let include = raw.include.map_or_else(every_name, globs);
    let exclude = raw.exclude.map_or_else(Vec::new, globs);
    let sort = raw.sort.unwrap_or(false);
    let every = include.iter().any(|glob| glob.glob().glob() == "*");
    QueryRule {
        verbatim: every && exclude.is_empty() && !sort,
        include,
        exclude,
        sort,
    }
}

fn globs(list: Vec<Text<GlobMatcher>>) -> Vec<GlobMatcher> {
    list.into_iter().map(|glob| glob.0).collect()
}

fn every_name() -> Vec<GlobMatcher> {
    GlobMatcher::parse("*").into_iter().collect()
}

fn body(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Body) -> BodyKey {
    let max = raw.max.map_or(DEFAULT_MAX_BODY, |size| size.0.0.0);
    if max > LIMIT_MAX_BODY {
        cx.problem(
            &at.key("max"),
            format!("more than {} is not held back", format_size(LIMIT_MAX_BODY)),
        );
    }
    let ignore = raw.json.unwrap_or_default().ignore.unwrap_or_default();
    BodyKey {
        ignore: ignore.into_iter().map(|pointer| pointer.0.0).collect(),
        max: to_usize(max),
    }
}
