//! `cache.warm`.

use super::{config, refused, with_route};
use crate::config::{Pace, WarmSource, effective, to_yaml};

/// A configuration with a cached route, `state_dir`, and these entries, which begin in line 6, column 10.
fn warm(entries: &str) -> String {
    format!(
        "\
listeners: [{{name: http, bind: 127.0.0.1:0}}]
upstreams: {{hub: {{endpoints: [{{address: 'hub:80'}}]}}}}
admin: {{state_dir: /x}}
routes: [{{name: r, match: {{hosts: [hub.local], path_prefix: /v1/}}, upstream: hub, cache: {{}}}}, {{name: off, upstream: hub}}]
cache:
  warm: [{entries}]
"
    )
}

#[test]
fn entries_have_defaults_and_read_back_as_they_are() {
    let text = warm(
        "{name: top, at: start, top_keys: 500}, \
         {name: models, at: start, schedule: '*/10 * * * *', timeout: 1m, busy: 20%, parallel: 4, requests: [\
           {path: '/v1/models?a=b'}, {method: GET, path: /v1/x, host: 'hub.local:81', scheme: https, headers: {Accept: a/b}}]}, \
         {name: next, predict: {routes: [r]}}",
    );
    let loaded = config(&text);
    let [top, models, next] = &loaded.warm[..] else {
        panic!("{:?}", loaded.warm);
    };
    assert_eq!(
        (&top.source, top.at_start, top.pace),
        (&WarmSource::TopKeys(500), true, Pace::default())
    );
    assert_eq!(models.schedule.as_ref().unwrap().written(), "*/10 * * * *");
    assert_eq!((models.pace.parallel, models.pace.timeout.as_secs()), (4, 60));
    let WarmSource::Requests(requests) = &models.source else {
        panic!()
    };
    assert_eq!(
        (requests[0].method.as_str(), &*requests[0].target),
        ("GET", "/v1/models?a=b")
    );
    assert_eq!(
        (requests[0].host.as_deref(), requests[1].scheme),
        (None, Some("https"))
    );
    let WarmSource::Predict(predict) = &next.source else {
        panic!()
    };
    assert!((predict.confidence - 0.3).abs() < f64::EPSILON);
    let again = config(&to_yaml(&effective(&loaded)).unwrap());
    assert_eq!(again.warm, loaded.warm);
    assert_eq!(again.hash, loaded.hash);
}

#[test]
fn what_makes_no_sense_is_told_where_it_stands() {
    let mut wrong = Vec::new();
    for (entries, expected) in WRONG {
        let text = warm(entries);
        let problems = match super::parse(&text) {
            Ok(_) => panic!("accepted: {entries}"),
            Err(problems) => problems,
        };
        let shown: Vec<String> = problems
            .0
            .iter()
            .map(|problem| {
                let hint = problem.hint.as_ref().map(|hint| format!(" | {hint}"));
                format!(
                    "{}:{} {}: {}{}",
                    problem.line,
                    problem.column,
                    problem.path,
                    problem.message,
                    hint.unwrap_or_default()
                )
            })
            .collect();
        if !(shown.len() == 1 && shown[0].starts_with(expected)) {
            wrong.push(format!("{entries}: {shown:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_last_run_is_remembered_only_with_a_place_for_it() {
    refused(
        &with_route("cache: {warm: [{name: top, at: start, top_keys: 500}]}"),
        &["5:49 cache.warm[0].top_keys: the last run is not remembered without `admin.state_dir`"],
    );
    config(&with_route(
        "cache: {warm: [{name: top, schedule: '@hourly', top_keys: 500}]}",
    ));
}

/// Entries, and the beginning of the one problem that they have.
const WRONG: &[(&str, &str)] = &[
    ("{top_keys: 1}", "6:10 cache.warm[0].name: `name` is missing"),
    (
        "{name: a}",
        "6:10 cache.warm[0]: one of `requests`, `top_keys` and `predict` is missing",
    ),
    (
        "{name: a, top_keys: 1, predict: {routes: [r]}}",
        "6:33 cache.warm[0].predict: `top_keys` and `predict` exclude each other | make two entries of it",
    ),
    (
        "{name: a, at: noon, top_keys: 1}",
        "6:24 cache.warm[0].at: unknown value `noon` | one of `start`",
    ),
    (
        "{name: a, schedule: '99 * * * *', top_keys: 1}",
        "6:30 cache.warm[0].schedule: ",
    ),
    (
        "{name: a, top_keys: 1, often: 2}",
        "6:33 cache.warm[0].often: unknown key `often`",
    ),
    (
        "{name: a, requests: []}",
        "6:20 cache.warm[0].requests: `requests` is empty",
    ),
    (
        "{name: a, requests: [{path: /v2}]}",
        "6:38 cache.warm[0].requests[0].path: no route caches GET /v2",
    ),
    (
        "{name: a, requests: [{path: /v1/a, host: other}]}",
        "6:38 cache.warm[0].requests[0].path: no route caches GET /v1/a",
    ),
    (
        "{name: a, requests: [{path: /v1/a, method: POST, body: x}]}",
        "6:38 cache.warm[0].requests[0].path: no route caches POST /v1/a",
    ),
    (
        "{name: a, requests: [{path: /v1/a, method: HEAD}]}",
        "6:53 cache.warm[0].requests[0].method: an answer to HEAD is not stored",
    ),
    (
        "{name: a, requests: [{path: /v1/a, host: 'a@b'}]}",
        "6:51 cache.warm[0].requests[0].host: `a@b` is not a host",
    ),
    (
        "{name: a, requests: [{path: /v1/a, headers: {X-Api-Key: x}}]}",
        "6:66 cache.warm[0].requests[0].headers.X-Api-Key: `x-api-key` carries credentials",
    ),
    (
        "{name: a, requests: [{path: /v1/a, headers: {host: x}}]}",
        "6:61 cache.warm[0].requests[0].headers.host: `host` is made from the request",
    ),
    (
        "{name: a, predict: {routes: [off]}}",
        "6:39 cache.warm[0].predict.routes[0]: no route `off` is cached",
    ),
    (
        "{name: a, at: start, predict: {routes: [r]}}",
        "6:24 cache.warm[0].at: `predict` and `at` exclude each other",
    ),
    (
        "{name: a, predict: {routes: [r], confidence: 0}}",
        "6:55 cache.warm[0].predict.confidence: the share must be more than zero",
    ),
    (
        "{name: a, top_keys: 1}, {name: a, top_keys: 2}",
        "6:41 cache.warm[1].name: `a` is already used by cache.warm[0]",
    ),
];
