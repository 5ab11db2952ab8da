//! What holds when nothing is said, and that the schema tells it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{config, environment, route, with_route};
use crate::config::scalar::Scalar;
use crate::config::units::{Share as ShareText, Size};
use crate::config::*;

#[test]
fn defaults() {
    let config = config(&route("upstream: hub\ncache: {}"));
    assert_eq!(config.workers, 2);
    assert_eq!(config.admin.bind, "127.0.0.1:9901".parse::<SocketAddr>().unwrap());
    let memory = config.cache.memory.as_ref().unwrap();
    assert_eq!(
        (&*memory.name, memory.capacity, memory.max_object),
        ("l1", 256 << 20, 8 << 20)
    );
    assert_eq!(config.upstreams["hub"].balance, Balance::RoundRobin);
    assert_eq!(config.upstreams["hub"].active_check, None);
    let rules = config.routes[0].cache.as_ref().unwrap();
    assert!(
        rules.read
            && rules.write
            && rules.nondeterministic
            && rules.collapse == Collapse::Replica
            && !rules.client_control
            && rules.vary.query.verbatim
    );
    assert_eq!(
        (&rules.ttl, &rules.share, rules.max_object),
        (&Ttl::Origin, &Share::Safe, 2 << 20)
    );
    assert_eq!(rules.methods, [Method::GET, Method::HEAD]);
    assert!(super::config(&with_route("")).routes[0].cache.is_none());
    assert!(
        super::config(&with_route("cache: {levels: []}"))
            .cache
            .memory
            .is_none()
    );
}

/// The defaults that the schema and the reference show are those that are used.
#[test]
fn the_schema_tells_the_defaults() {
    let text = "\
listeners: [{name: http, bind: 127.0.0.1:0, limits: {}, trusted_proxies: []}]
upstreams:
  hub: {endpoints: [{address: 'hub:80'}], health: {active: {http: {path: /}}}, balance: ketama}
  plain: {endpoints: [{address: 'hub:80'}]}
cache: {levels: [memory: {}]}
routes: [{name: r, upstream: plain, cache: {vary: {query: {}, body: {json: {}}}, tags: {}, heuristic: {}}, stream: {}}]
usage: {prices: {m: {input: 1}}}
telemetry: {otlp: {endpoint: 'http://c:1', keep: {}}, access_log: {}, mask: {}, history: {}}
";
    let shown = effective(&config(text));
    let schema = schema();
    let mut compared = 0;
    compare(&schema, &schema, &shown, "", &mut compared);
    assert!(compared >= 50, "only {compared} defaults compared");
}

fn compare(root: &Value, schema: &Value, shown: &Value, path: &str, compared: &mut usize) {
    let reference = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    let definition = reference.and_then(|path| root.pointer(path)).unwrap_or(schema);
    // Depends on the machine, or is shown in a test of its own.
    let chosen = ["workers", "upstreams.*.balance", "upstreams.*.hash_on"].contains(&path);
    if let Some(default) = schema.get("default").filter(|_| !chosen) {
        *compared += 1;
        assert_eq!(normal(default), normal(shown), "{path}");
    }
    if let Some(properties) = definition["properties"].as_object() {
        for (name, property) in properties {
            if let Some(value) = shown.get(name) {
                let dot = if path.is_empty() { "" } else { "." };
                compare(root, property, value, &format!("{path}{dot}{name}"), compared);
            }
        }
    }
    for choice in definition["oneOf"].as_array().into_iter().flatten() {
        compare(root, choice, shown, path, compared);
    }
    for (index, value) in shown.as_array().into_iter().flatten().enumerate() {
        compare(
            root,
            &definition["items"],
            value,
            &format!("{path}[{index}]"),
            compared,
        );
    }
    if definition["additionalProperties"].is_object() {
        for value in shown.as_object().into_iter().flat_map(|map| map.values()) {
            compare(
                root,
                &definition["additionalProperties"],
                value,
                &format!("{path}.*"),
                compared,
            );
        }
    }
}

/// One spelling for equal quantities.
fn normal(value: &Value) -> Value {
    let Some(text) = value.as_str() else {
        return match value.as_f64() {
            Some(number) => json!(number),
            None => value.clone(),
        };
    };
    if let Ok(duration) = Duration::parse(text) {
        return json!(duration.as_secs_f64());
    }
    if let Ok(size) = Size::parse(text.trim_end_matches("/s")) {
        return json!(size.0);
    }
    ShareText::parse(text).map_or_else(|_| value.clone(), |share| json!(share.0))
}

#[test]
fn a_cached_post_is_keyed_by_its_body_without_being_told() {
    let config = config(&route("upstream: hub\ncache: {methods: [GET, POST]}"));
    let body = config.routes[0].cache.as_ref().unwrap().vary.body.clone();
    let (ignore, max) = (Vec::new(), 1 << 20);
    assert_eq!(body, Some(BodyKey { ignore, max }));
}

#[test]
fn the_default_capacity_leaves_half_of_a_small_machine() {
    let small = Environment {
        memory_bytes: 128 << 20,
        ..environment()
    };
    let loaded = crate::config::parse("t", &with_route(""), Path::new("/"), &small).unwrap();
    assert_eq!(loaded.config.cache.memory.unwrap().capacity, 64 << 20);
}
