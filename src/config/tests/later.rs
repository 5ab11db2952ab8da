//! What a later version brings is refused where it stands, never accepted and ignored.

use super::{refused, route, upstream, with_route};

#[test]
fn what_a_later_version_brings_is_refused_where_it_stands() {
    for (line, place) in LATER_IN_A_ROUTE {
        let text = route(&format!("{line}\nupstream: hub"));
        refused(&text, &not_available(place, "routes[0]."));
    }
    for (content, place) in LATER_IN_AN_UPSTREAM {
        refused(&upstream(content), &not_available(place, "upstreams.hub."));
    }
    for (line, place) in LATER_AT_THE_TOP {
        refused(&with_route(line), &not_available(place, ""));
    }
}

#[test]
fn the_shape_of_what_comes_later_is_checked_too() {
    refused(
        &upstream("ENDPOINT, hedge: {max: lots}"),
        &[
            "2:38 upstreams.hub.hedge: not available yet",
            "2:51 upstreams.hub.hedge.max: `lots` is not a share | like `20%` or `0.2`",
        ],
    );
}

/// "6:5 cache.ttl" in full.
fn not_available(place: &str, parent: &str) -> [String; 1] {
    let (position, path) = place.split_once(' ').unwrap();
    [format!("{position} {parent}{path}: not available yet")]
}

/// Lines of a route, and where it is refused.
const LATER_IN_A_ROUTE: &[(&str, &str)] = &[
    (
        "cache: {vary: {principal: {claim: sub}}}",
        "6:39 cache.vary.principal.claim",
    ),
    ("priority: batch", "6:15 priority"),
    (
        "rate_limit: {per: principal, rate: 20/s, burst: 40}",
        "6:5 rate_limit",
    ),
];

/// Contents of an upstream, and where it is refused.
const LATER_IN_AN_UPSTREAM: &[(&str, &str)] = &[
    ("endpoints: [{dns: hub.svc}]", "2:27 endpoints[0].dns"),
    ("endpoints: [{address: a:1, tier: 1}]", "2:42 endpoints[0].tier"),
    ("ENDPOINT, balance: p2c_ewma", "2:47 balance"),
    ("ENDPOINT, balance: least_request", "2:47 balance"),
    ("ENDPOINT, hedge: {after: p95, max: 5%}", "2:38 hedge"),
    (
        "ENDPOINT, health: {outlier: {max_ejected: 50%}}",
        "2:47 health.outlier",
    ),
    ("ENDPOINT, health: {slow_start: 10s}", "2:59 health.slow_start"),
    ("ENDPOINT, retry: {on: [connect, reset]}", "2:60 retry.on[1]"),
    ("ENDPOINT, retry: {on: ['502']}", "2:51 retry.on[0]"),
    ("ENDPOINT, retry: {budget: 20%}", "2:54 retry.budget"),
    (
        "ENDPOINT, retry: {per_try_timeout: 1s}",
        "2:63 retry.per_try_timeout",
    ),
    ("ENDPOINT, concurrency: {limit: adaptive}", "2:38 concurrency"),
    ("ENDPOINT, concurrency: {limit: 64}", "2:38 concurrency"),
];

/// Lines that stand in line 5, and where it is refused.
const LATER_AT_THE_TOP: &[(&str, &str)] = &[
    ("telemetry: {mask: {json: [/x]}}", "5:20 telemetry.mask.json"),
    (
        "telemetry: {access_log: {format: logfmt}}",
        "5:34 telemetry.access_log.format",
    ),
    (
        "alerts: {receivers: [{name: ops, webhook: {url: 'https://x'}}]}",
        "5:1 alerts",
    ),
    (
        "alerts: {rules: [{name: x, expr: rate > 1, for: 1m}]}",
        "5:1 alerts",
    ),
    ("alerts: {slos: [{name: x, availability: 99.9%}]}", "5:1 alerts"),
    ("alerts: {}", "5:1 alerts"),
];
