//! Routes, and their fingerprints.

use std::time::Duration;

use serde_json::{Value, json};

use super::{duration, headers, list, put, size, text, timeouts, words};
use crate::config::model::*;
use crate::config::values::whole_pattern;

/// Digest of what decides which response a stored entry of this route is, and by which name it is purged.
/// Deadlines and header changes are not part of it: they apply whenever a request is served.
pub(in crate::config) fn fingerprint(route: &Route) -> [u8; 16] {
    let parts = json!({
        "name": text(&route.name),
        "match": matcher(&route.matcher),
        "upstream": text(&route.upstream),
        "cache": route_cache(route.cache.as_ref()),
        "terminal": route.stream.terminal.as_ref().map(terminal),
    });
    let mut fingerprint = [0; 16];
    let mut reader = blake3::Hasher::new()
        .update(parts.to_string().as_bytes())
        .finalize_xof();
    reader.fill(&mut fingerprint);
    fingerprint
}

/// A path pattern as its key and value; names of parameters, which have no meaning, are lost.
pub(in crate::config) fn path(pattern: &PathPattern) -> Value {
    match pattern {
        PathPattern::Exact(path) => json!({"path": text(path)}),
        PathPattern::Prefix(path) => json!({"path_prefix": text(path)}),
        PathPattern::Template(segments) => json!({"path_template": text(&template(segments))}),
        PathPattern::Regex(regex) => json!({"path_regex": text(whole_pattern(regex))}),
    }
}

fn template(segments: &[Segment]) -> String {
    let mut path = String::new();
    for (index, segment) in segments.iter().enumerate() {
        path.push('/');
        match segment {
            Segment::Literal(literal) => path.push_str(literal),
            Segment::Parameter => path.push_str(&format!("{{p{index}}}")),
        }
    }
    path
}

/// One route.
pub(super) fn route(route: &Route) -> Value {
    let rules = &route.headers;
    json!({
        "name": text(&route.name),
        "match": matcher(&route.matcher),
        "upstream": text(&route.upstream),
        "timeouts": timeouts(&route.timeouts),
        "cache": route_cache(route.cache.as_ref()),
        "stream": stream(&route.stream),
        "usage": usage(&route.usage),
        "headers": {
            "request": {"set": headers(&rules.request_set), "remove": words(&rules.request_remove)},
            "response": {"set": headers(&rules.response_set), "remove": words(&rules.response_remove)},
        },
    })
}

fn usage(usage: &Usage) -> Value {
    let pointers = match usage {
        Usage::Off => return json!("off"),
        Usage::Openai => return json!("openai"),
        Usage::Anthropic => return json!("anthropic"),
        Usage::Json(pointers) => pointers,
    };
    let mut shown = json!({"model": text(&pointers.model)});
    put(&mut shown, "input", pointers.input.as_deref().map(text));
    put(&mut shown, "output", pointers.output.as_deref().map(text));
    put(
        &mut shown,
        "cached_input",
        pointers.cached_input.as_deref().map(text),
    );
    json!({"json": shown})
}

fn stream(rules: &StreamRules) -> Value {
    let mut shown = json!({
        "replay": match rules.replay {
            Replay::Instant => "instant",
            Replay::Recorded => "recorded",
        },
    });
    put(&mut shown, "terminal", rules.terminal.as_ref().map(terminal));
    shown
}

fn terminal(terminal: &Terminal) -> Value {
    match terminal {
        Terminal::Data(value) => text(&format!("data: {value}")),
        Terminal::Event(value) => text(&format!("event: {value}")),
    }
}

fn matcher(matcher: &Matcher) -> Value {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(host) => text(host),
        HostPattern::Suffix(suffix) => text(&format!("*{suffix}")),
    };
    let mut shown = path(&matcher.path);
    put(&mut shown, "hosts", Some(list(&matcher.hosts, host)));
    put(&mut shown, "methods", Some(words(&matcher.methods)));
    put(&mut shown, "headers", Some(headers(&matcher.headers)));
    shown
}

fn route_cache(rules: Option<&RouteCache>) -> Value {
    let Some(rules) = rules else {
        return json!({"mode": "off"});
    };
    let mode = match (rules.read, rules.write) {
        (true, true) => "on",
        (true, false) => "read_only",
        (false, true) => "write_only",
        (false, false) => "off",
    };
    let mut shown = json!({
        "mode": mode,
        "methods": words(&rules.methods),
        "vary": vary(&rules.vary),
        "tags": {
            "header": words(&rules.tag_headers),
            "static": words(&rules.static_tags),
            "json": words(&rules.tag_pointers),
        },
        "nondeterministic": if rules.nondeterministic { "allow" } else { "bypass" },
        "collapse": match rules.collapse {
            Collapse::Off => json!(false),
            Collapse::Replica => json!(true),
            Collapse::Fleet => json!("fleet"),
        },
        "on_last_reader_gone": match rules.on_last_reader_gone {
            LastReaderGone::Cancel => "cancel",
            LastReaderGone::Finish => "finish",
        },
        "client_control": if rules.client_control { "honour" } else { "ignore" },
        "min_uses": rules.min_uses,
        "max_object": size(rules.max_object),
        "sensitive": rules.sensitive,
    });
    let ttl = match &rules.ttl {
        Ttl::Origin => None,
        Ttl::Fixed(ttl) => Some(duration(*ttl)),
        Ttl::ByStatus(list) => {
            let entry = |(status, ttl): (&u16, &Duration)| (status.to_string(), duration(*ttl));
            Some(Value::Object(list.iter().map(entry).collect()))
        }
        Ttl::Adaptive(Adaptive { min, max }) => {
            Some(json!({"adaptive": {"min": duration(*min), "max": duration(*max)}}))
        }
    };
    let share = match &rules.share {
        Share::Safe => None,
        Share::Principal => Some(json!("principal")),
        Share::All => Some(json!("all")),
        Share::Tenant(name) => Some(json!({"tenant": {"header": name.as_str()}})),
    };
    let heuristic = rules
        .heuristic
        .map(|rule| json!({"fraction": rule.fraction, "max": duration(rule.max)}));
    let refresh_ahead = rules.refresh_ahead.map(|beta| json!({"beta": beta}));
    put(&mut shown, "ttl", ttl);
    put(&mut shown, "refresh_ahead", refresh_ahead);
    put(&mut shown, "heuristic", heuristic);
    put(
        &mut shown,
        "stale_while_revalidate",
        rules.stale_while_revalidate.map(duration),
    );
    put(&mut shown, "stale_if_error", rules.stale_if_error.map(duration));
    put(&mut shown, "share", share);
    shown
}

fn vary(vary: &VaryRules) -> Value {
    let globs = |globs: &[globset::GlobMatcher]| list(globs, |glob| text(glob.glob().glob()));
    let mut shown = json!({
        "query": {
            "include": globs(&vary.query.include),
            "exclude": globs(&vary.query.exclude),
            "sort": vary.query.sort,
        },
        "headers": words(&vary.headers),
    });
    let principal = vary.principal.as_ref().map(|source| match source {
        PrincipalSource::Credentials => json!(true),
        PrincipalSource::Header(name) => json!({"header": name.as_str()}),
        PrincipalSource::Cookie(name) => json!({"cookie": text(name)}),
    });
    let body = vary
        .body
        .as_ref()
        .map(|body| json!({"json": {"ignore": words(&body.ignore)}, "max": size(body.max as u64)}));
    put(&mut shown, "principal", principal);
    put(&mut shown, "body", body);
    shown
}
