//! Values for the tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::{
    Collapse, HeaderRules, LastReaderGone, Matcher, PathPattern, QueryRule, Route, RouteCache, Share,
    StreamRules, Timeouts, Ttl, Usage, VaryRules,
};

/// Header fields in order; a name may repeat.
pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// Cache rules as they are when a route says nothing but `mode: on`.
pub(super) fn rules() -> RouteCache {
    RouteCache {
        read: true,
        write: true,
        methods: vec![Method::GET, Method::HEAD],
        ttl: Ttl::Origin,
        heuristic: None,
        stale_while_revalidate: None,
        stale_if_error: None,
        vary: VaryRules {
            principal: None,
            query: QueryRule {
                include: Vec::new(),
                exclude: Vec::new(),
                sort: false,
                verbatim: true,
            },
            headers: Vec::new(),
            body: None,
        },
        share: Share::Safe,
        nondeterministic: true,
        static_tags: Vec::new(),
        tag_headers: Vec::new(),
        tag_pointers: Vec::new(),
        collapse: Collapse::Replica,
        on_last_reader_gone: LastReaderGone::Cancel,
        client_control: false,
        min_uses: 1,
        max_object: 1 << 20,
        refresh_ahead: None,
        sensitive: false,
    }
}

/// A route for every path with these rules.
pub(super) fn route(rules: RouteCache) -> Route {
    let second = Duration::from_secs(1);
    Route {
        name: Arc::from("models"),
        fingerprint: [7; 16],
        matcher: Matcher {
            hosts: Vec::new(),
            path: PathPattern::Prefix("/".to_owned()),
            methods: Vec::new(),
            headers: Vec::new(),
        },
        upstream: Arc::from("hub"),
        timeouts: Timeouts {
            connect: second,
            first_byte: second,
            idle: second,
            total: second,
        },
        cache: Some(rules),
        stream: StreamRules::default(),
        headers: HeaderRules::default(),
        usage: Usage::Off,
    }
}
