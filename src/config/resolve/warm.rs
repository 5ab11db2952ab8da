//! `cache.warm`.

use http::{HeaderName, HeaderValue, Method};

use super::Cx;
use crate::config::model::{Admin, HostPattern, Name, Route};
use crate::config::raw;
use crate::config::scalar::Text;
use crate::config::suggest;
use crate::config::tree::At;
use crate::config::values::{CREDENTIALS, FRAMING};
use crate::config::warm::{Pace, Predict, Warm, WarmRequest, WarmSource};

/// Most entries.
const MAX_ENTRIES: usize = 64;
/// Most requests of one entry.
const MAX_REQUESTS: usize = 1_000;

/// Resolves all entries; those with problems are left out.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Vec<raw::Warm>,
    routes: &[Route],
    admin: &Admin,
) -> Vec<Warm> {
    let names = raw
        .iter()
        .map(|warm| warm.name.as_ref().map(|name| name.0.0.as_ref()));
    cx.unique(at, "name", names);
    if raw.len() > MAX_ENTRIES {
        cx.problem(at, format!("more than {MAX_ENTRIES} entries"));
    }
    raw.into_iter()
        .enumerate()
        .filter_map(|(index, warm)| entry(cx, &at.index(index), warm, routes, admin))
        .collect()
}

fn entry(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Warm, routes: &[Route], admin: &Admin) -> Option<Warm> {
    let name = cx.required(at, "name", raw.name);
    let pace = Pace {
        parallel: raw
            .parallel
            .map_or(Pace::default().parallel, |number| super::to_usize(number.0)),
        busy: raw.busy.map_or(Pace::default().busy, |share| share.0.0),
        timeout: super::duration(raw.timeout, Pace::default().timeout),
    };
    let at_start = matches!(raw.at, Some(raw::WarmAt::Start));
    let given = [
        ("requests", raw.requests.is_some()),
        ("top_keys", raw.top_keys.is_some()),
        ("predict", raw.predict.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
    let Some(first) = given.next() else {
        let known = ["requests", "top_keys", "predict"];
        if !known.iter().any(|key| cx.is_faulty(at, key)) {
            cx.problem(at, "one of `requests`, `top_keys` and `predict` is missing");
        }
        return None;
    };
    for key in given {
        cx.problem(&at.key(key), format!("`{first}` and `{key}` exclude each other"))
            .hint("make two entries of it");
    }
    let source = if let Some(requests) = raw.requests {
        WarmSource::Requests(self::requests(cx, &at.key("requests"), requests, routes)?)
    } else if let Some(number) = raw.top_keys {
        if at_start && admin.state_dir.is_none() {
            cx.problem(
                &at.key("top_keys"),
                "the last run is not remembered without `admin.state_dir`",
            );
        }
        WarmSource::TopKeys(super::to_usize(number.0))
    } else {
        let triggers = [("at", raw.at.is_some()), ("schedule", raw.schedule.is_some())];
        for (key, _) in triggers.into_iter().filter(|(_, given)| *given) {
            cx.problem(&at.key(key), format!("`predict` and `{key}` exclude each other"));
        }
        WarmSource::Predict(predict(cx, &at.key("predict"), raw.predict?, routes)?)
    };
    Some(Warm {
        name: name?.0,
        source,
        at_start,
        schedule: raw.schedule.map(|schedule| schedule.0),
        pace,
    })
}

fn predict(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Predict, routes: &[Route]) -> Option<Predict> {
    let names = cx.required_list(at, "routes", raw.routes, "names of routes");
    let names: Vec<Name> = names.into_iter().map(|name| name.0.0).collect();
    let list = at.key("routes");
    for (index, name) in names.iter().enumerate() {
        let caching = routes.iter().filter(|route| route.cache.is_some());
        if !routes.is_empty() && !caching.clone().any(|route| route.name == *name) {
            let hint = suggest::hint(name, caching.map(|route| &*route.name));
            cx.problem(&list.index(index), format!("no route `{name}` is cached"))
                .hint = hint;
        }
    }
    let confidence = raw.confidence.map_or(0.3, |share| share.0.0);
    if confidence <= 0.0 {
        cx.problem(&at.key("confidence"), "the share must be more than zero");
    }
    (!names.is_empty()).then_some(Predict {
        routes: names,
        confidence,
    })
}

fn requests(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Vec<raw::WarmRequest>,
    routes: &[Route],
) -> Option<Vec<WarmRequest>> {
    if raw.is_empty() {
        if !cx.was_emptied(at) {
            cx.problem(at, "`requests` is empty")
                .hint("give one, like `- {path: /v1/models}`");
        }
        return None;
    }
    if raw.len() > MAX_REQUESTS {
        cx.problem(at, format!("more than {MAX_REQUESTS} requests"))
            .hint("make several entries of it");
    }
    let requests = raw
        .into_iter()
        .enumerate()
        .filter_map(|(index, raw)| request(cx, &at.index(index), raw, routes));
    Some(requests.collect())
}

fn request(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::WarmRequest, routes: &[Route]) -> Option<WarmRequest> {
    let target = cx.required(at, "path", raw.path)?.0;
    let host = raw.host.map(|host| host.0.0);
    let valid = |host: &String| {
        let authority = host.parse::<http::uri::Authority>();
        authority.is_ok_and(|authority| !authority.as_str().contains('@'))
    };
    if let Some(host) = host.as_ref().filter(|host| !valid(host)) {
        cx.problem(&at.key("host"), format!("`{host}` is not a host"))
            .hint("like `hub.local` or `hub.local:8080`");
        return None;
    }
    let request = WarmRequest {
        method: raw.method.map_or(Method::GET, |method| method.0),
        host,
        scheme: raw.scheme.map(|scheme| match scheme {
            raw::SchemeWord::Http => "http",
            raw::SchemeWord::Https => "https",
        }),
        target,
        headers: headers(cx, &at.key("headers"), raw.headers.unwrap_or_default().0),
        body: raw.body.map_or_else(String::new, |body| body.0.0),
    };
    if request.method == Method::HEAD {
        cx.problem(&at.key("method"), "an answer to HEAD is not stored")
            .hint("GET answers both");
    } else if !routes.is_empty() && !routes.iter().any(|route| caches(route, &request)) {
        cx.problem(
            &at.key("path"),
            format!("no route caches {} {}", request.method, request.target),
        );
    }
    Some(request)
}

/// Whether the request could be one that the route takes and caches.
fn caches(route: &Route, request: &WarmRequest) -> bool {
    let Some(rules) = route.cache.as_ref().filter(|rules| rules.write) else {
        return false;
    };
    let path = request.target.split('?').next().unwrap_or_default();
    let matcher = &route.matcher;
    let asked = request.host.as_deref().map(|host| {
        let end = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
        host[..end.unwrap_or(host.len())].to_ascii_lowercase()
    });
    let fits_host = |pattern: &HostPattern| match (pattern, &asked) {
        (HostPattern::Exact(host), Some(asked)) => host == asked,
        (HostPattern::Suffix(suffix), Some(asked)) => asked.len() > suffix.len() && asked.ends_with(suffix),
        (HostPattern::Exact(_), None) => true,
        (HostPattern::Suffix(_), None) => false,
    };
    rules.methods.contains(&request.method)
        && (matcher.methods.is_empty() || matcher.methods.contains(&request.method))
        && (matcher.hosts.is_empty() || matcher.hosts.iter().any(fits_host))
        && matcher
            .headers
            .iter()
            .all(|wanted| request.headers.contains(wanted))
        && matcher.path.fits(path)
        && (request.body.is_empty() || rules.vary.body.is_some())
}

/// Header fields; those that frame the message or carry credentials are problems.
fn headers(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    raw: Vec<(Text<HeaderName>, Text<HeaderValue>)>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut pairs = Vec::new();
    for (Text(name), Text(value)) in raw {
        let message = if FRAMING.contains(&name) {
            format!("`{name}` is made from the request")
        } else if CREDENTIALS.contains(&name) {
            format!("`{name}` carries credentials, which do not belong here")
        } else {
            pairs.push((name, value));
            continue;
        };
        match cx.written_key(at, name.as_str()) {
            Some(key) => cx.problem(&at.key(&key), message),
            None => cx.problem(at, message),
        };
    }
    pairs
}
