//! Tables of requests, and a comparison with a model that scores every route.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::config::model::{HeaderRules, StreamRules, Timeouts, Usage};

#[derive(Clone, Debug)]
struct Given {
    hosts: Vec<&'static str>,
    path: &'static str,
    methods: Vec<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

/// `=path` is exact, `~path` a regular expression, a path with braces a template, any other a prefix.
fn given(path: &'static str) -> Given {
    Given {
        hosts: Vec::new(),
        path,
        methods: Vec::new(),
        headers: Vec::new(),
    }
}

impl Given {
    fn hosts(self, hosts: &[&'static str]) -> Self {
        Self {
            hosts: hosts.to_vec(),
            ..self
        }
    }

    fn methods(self, methods: &[&'static str]) -> Self {
        Self {
            methods: methods.to_vec(),
            ..self
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn route(&self) -> Arc<Route> {
        let second = Duration::from_secs(1);
        Arc::new(Route {
            name: "r".into(),
            fingerprint: [0; 16],
            matcher: Matcher {
                hosts: self.hosts.iter().map(|host| host_pattern(host)).collect(),
                path: path_pattern(self.path),
                methods: self
                    .methods
                    .iter()
                    .map(|method| method.parse().unwrap())
                    .collect(),
                headers: self
                    .headers
                    .iter()
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                    .collect(),
            },
            upstream: "u".into(),
            timeouts: Timeouts {
                connect: second,
                first_byte: second,
                idle: second,
                total: second,
            },
            cache: None,
            stream: StreamRules::default(),
            headers: HeaderRules::default(),
            usage: Usage::Off,
        })
    }
}

fn host_pattern(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
        None => HostPattern::Exact(text.to_owned()),
    }
}

fn path_pattern(text: &str) -> PathPattern {
    if let Some(path) = text.strip_prefix('=') {
        PathPattern::Exact(path.to_owned())
    } else if let Some(regex) = text.strip_prefix('~') {
        PathPattern::Regex(Regex::new(regex).unwrap())
    } else if text.contains('{') {
        let segments = text
            .split('/')
            .skip(1)
            .map(|segment| match segment.strip_prefix('{') {
                Some(_) => Segment::Parameter,
                None => Segment::Literal(segment.to_owned()),
            });
        PathPattern::Template(segments.collect())
    } else {
        PathPattern::Prefix(text.to_owned())
    }
}

fn header_map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

type Request = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

fn check(routes: &[Given], expectations: &[(Request, Option<usize>)]) {
    let routes: Vec<_> = routes.iter().map(Given::route).collect();
    let router = Router::build(&routes);
    for ((method, host, path, headers), expected) in expectations {
        let found = router.find(host, path, &method.parse().unwrap(), &header_map(headers));
        assert_eq!(found, *expected, "{method} {host} {path} {headers:?}");
    }
}

#[test]
fn an_exact_host_beats_the_longest_suffix_beats_any_host() {
    check(
        &[
            given("/"),
            given("/").hosts(&["*.local"]),
            given("/").hosts(&["*.hub.local"]),
            given("/").hosts(&["a.hub.local", "c.example"]),
            given("=/deep"),
        ],
        &[
            (("GET", "a.hub.local", "/", &[]), Some(3)),
            (("GET", "A.Hub.LOCAL", "/", &[]), Some(3)),
            (("GET", "c.example", "/", &[]), Some(3)),
            (("GET", "b.hub.local", "/", &[]), Some(2)),
            (("GET", "x.b.hub.local", "/", &[]), Some(2)),
            (("GET", "hub.local", "/", &[]), Some(1)),
            (("GET", ".hub.local", "/", &[]), Some(1)),
            (("GET", "other", "/", &[]), Some(0)),
            (("GET", "", "/", &[]), Some(0)),
            // The host decides before the path does.
            (("GET", "a.hub.local", "/deep", &[]), Some(3)),
            (("GET", "other", "/deep", &[]), Some(4)),
        ],
    );
}

#[test]
fn the_path_with_the_most_literal_bytes_wins() {
    check(
        &[
            given("~^/v1/.*$"),
            given("/v1/"),
            given("/v1/models/"),
            given("/v1/models/{id}"),
            given("/v1/models/x"),
            given("=/v1/models/exact"),
            given("/v1/{kind}/files"),
            given("~^/(v1|v2)/.*$"),
            given("~^/v2/only$"),
        ],
        &[
            (("GET", "h", "/v1/models/exact", &[]), Some(5)),
            (("GET", "h", "/v1/models/one", &[]), Some(3)),
            (("GET", "h", "/v1/models/a%2Fb", &[]), Some(3)),
            (("GET", "h", "/v1/models/", &[]), Some(2)),
            (("GET", "h", "/v1/models/one/two", &[]), Some(2)),
            // Twelve bytes of prefix beat eleven of template.
            (("GET", "h", "/v1/models/xyz", &[]), Some(4)),
            (("GET", "h", "/v1/batches/files", &[]), Some(6)),
            (("GET", "h", "/v1/batches/files/", &[]), Some(1)),
            (("GET", "h", "/v1//files", &[]), Some(1)),
            (("GET", "h", "/v2/only", &[]), Some(7)),
            (("GET", "h", "/V1/x", &[]), None),
            (("OPTIONS", "h", "*", &[]), None),
        ],
    );
}

#[test]
fn more_conditions_win_and_unmet_ones_are_passed_over() {
    check(
        &[
            given("=/chat"),
            given("=/chat").methods(&["POST", "PUT"]),
            given("=/chat").methods(&["POST"]).header("x-tier", "free"),
            given("=/chat").methods(&["POST"]),
            given("=/only").hosts(&["a"]).methods(&["POST"]),
            given("/on").hosts(&["a"]).methods(&["POST", "PUT"]),
            given("/").methods(&["GET", "PUT"]),
        ],
        &[
            (("GET", "h", "/chat", &[]), Some(0)),
            (("PUT", "h", "/chat", &[]), Some(1)),
            (("POST", "h", "/chat", &[]), Some(1)),
            (("POST", "h", "/chat", &[("x-tier", "paid")]), Some(1)),
            (("POST", "h", "/chat", &[("x-tier", "free")]), Some(2)),
            (
                ("POST", "h", "/chat", &[("x-tier", "paid"), ("x-tier", "free")]),
                Some(2),
            ),
            (("POST", "a", "/only", &[]), Some(4)),
            (("PUT", "a", "/only", &[]), Some(5)),
            (("GET", "a", "/only", &[]), Some(6)),
            (("DELETE", "a", "/only", &[]), None),
        ],
    );
}

#[test]
fn only_the_order_of_the_file_ranks_regular_expressions() {
    let conditional = given("~^/a").methods(&["GET"]);
    check(
        &[given("~^/"), conditional],
        &[(("GET", "h", "/a", &[]), Some(0))],
    );
}

/// Scores every route from the documented rules alone: the highest score wins, then the lowest index.
fn slow_find(routes: &[Given], host: &str, path: &str, method: &str, headers: &HeaderMap) -> Option<usize> {
    let host = host.to_lowercase();
    let score = |route: &Given| {
        let accepted = (route.methods.is_empty() || route.methods.contains(&method))
            && route
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(*name).iter().any(|v| v == value));
        let host_score = if route.hosts.is_empty() {
            Some((0, 0))
        } else {
            let one = |pattern: &&str| match pattern.strip_prefix('*') {
                Some(suffix) => host
                    .strip_suffix(suffix)
                    .filter(|rest| !rest.is_empty())
                    .map(|_| (1, suffix.len())),
                None => (*pattern == host).then_some((2, 0)),
            };
            route.hosts.iter().filter_map(one).max()
        };
        let conditions = usize::from(!route.methods.is_empty()) + route.headers.len();
        let path_score = if let Some(exact) = route.path.strip_prefix('=') {
            (exact == path).then_some((2, 0, 0, conditions))
        } else if let Some(regex) = route.path.strip_prefix('~') {
            Regex::new(regex).unwrap().is_match(path).then_some((0, 0, 0, 0))
        } else if route.path.contains('{') {
            let literal = route.path.replace("{p}", "").replace("{q}", "").len();
            let (wanted, given): (Vec<_>, Vec<_>) =
                (route.path.split('/').collect(), path.split('/').collect());
            let same = |(wanted, given): (&&str, &&str)| {
                wanted == given || (wanted.starts_with('{') && !given.is_empty())
            };
            let fits = wanted.len() == given.len() && wanted.iter().zip(&given).all(same);
            fits.then_some((1, literal, 1, conditions))
        } else {
            path.starts_with(route.path)
                .then_some((1, route.path.len(), 0, conditions))
        };
        accepted.then_some((host_score?, path_score?))
    };
    let scored = routes
        .iter()
        .enumerate()
        .filter_map(|(index, route)| Some((score(route)?, Reverse(index))));
    scored.max().map(|(_, Reverse(index))| index)
}

fn any_route() -> impl Strategy<Value = Given> {
    let hosts = ["a", "b.a", "c.b.a", "*.a", "*.b.a", "*.c.b.a"];
    let paths = [
        "=/",
        "=/x",
        "=/x/y",
        "/",
        "/x",
        "/x/",
        "/x/y",
        "/{p}",
        "/x/{p}",
        "/{p}/y",
        "/{p}/{q}",
        "/x/{p}/",
        "~^/x",
        "~y$",
        "~^/[^/]*$",
    ];
    let headers = [("x-tier", "free"), ("x-tier", "paid"), ("x-team", "red")];
    (
        prop::sample::subsequence(hosts.to_vec(), 0..3),
        prop::sample::select(paths.to_vec()),
        prop::sample::subsequence(vec!["GET", "POST", "PUT"], 0..3),
        prop::sample::subsequence(headers.to_vec(), 0..3),
    )
        .prop_map(|(hosts, path, methods, headers)| Given {
            hosts,
            path,
            methods,
            headers,
        })
}

proptest! {
    #[test]
    fn finds_what_the_slow_model_finds(
        routes in prop::collection::vec(any_route(), 0..12),
        host in prop::sample::select(vec!["a", "b.a", "B.a", "c.b.a", "d.C.b.a", ".a", "z", ""]),
        path in prop::sample::select(vec![
            "/", "/x", "/x/", "/x/y", "/x/z", "/w/y", "/x/y/", "/x//", "//y", "/x/y/z", "/w", "*", "",
        ]),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        headers in prop::sample::subsequence(
            vec![("x-tier", "free"), ("x-tier", "paid"), ("x-team", "red")], 0..=3,
        ),
    ) {
        let headers = header_map(&headers);
        let built: Vec<_> = routes.iter().map(Given::route).collect();
        let found = Router::build(&built).find(host, path, &method.parse().unwrap(), &headers);
        prop_assert_eq!(found, slow_find(&routes, host, path, method, &headers));
    }
}
