//! What a cache hit costs, step by step: route, key, lookup, policy; and what a level below memory and the
//! history add to it.
//!
//! `cargo bench --bench hot_path` runs all of it, `cargo bench --bench hot_path -- lookup` one group. The figures are
//! for comparing one change with another on one machine; nothing here passes or fails by time.

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has nothing to measure"
)]

#[path = "hot_path/history.rs"]
mod history;
#[path = "hot_path/purges.rs"]
mod purges;
#[path = "hot_path/sealing.rs"]
mod sealing;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use outrigger::cache::canonical;
use outrigger::cache::control::RequestControl;
use outrigger::cache::entry::{Entry, NewEntry, Notes};
use outrigger::cache::key::{Key, KeyParts};
use outrigger::cache::life::Life;
use outrigger::cache::memory::Memory;
use outrigger::cache::partition::partition;
use outrigger::cache::policy::{self, RequestFacts, Times};
use outrigger::cache::purge::Moment;
use outrigger::cache::reuse;
use outrigger::cache::slot::Selected;
use outrigger::clock::Timestamp;
use outrigger::config::{self, Environment, EvictionPolicy, MemoryLevel, Route, RouteCache};
use outrigger::route::Router;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Entries that the memory level holds.
const ENTRIES: usize = 100_000;
/// Walks over all entries in an order without locality; has no factor in common with `ENTRIES`.
const STRIDE: usize = 7_919;
/// Bytes of a response body.
const BODY: usize = 1024;
/// Bytes of a request with a conversation.
const CHAT: usize = 4096;
/// 13 September 2020, 12:26:40 GMT.
const NOW: Timestamp = Timestamp::from_secs(1_600_000_000);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routing(&mut criterion);
    key(&mut criterion);
    lookup(&mut criterion);
    decisions(&mut criterion);
    hit(&mut criterion);
    purges::purges(&mut criterion);
    sealing::sealing(&mut criterion);
    history::history(&mut criterion);
    criterion.final_summary();
}

/// Finding a route in a small and in a large table.
fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    let headers = request_headers();
    for services in [3, 100] {
        let router = Router::build(&routes(services));
        for (kind, path) in [
            ("exact", "/service1/status"),
            ("prefix", "/service1/files/reports/2020/september.pdf"),
            ("template", "/service1/models/large/versions"),
            ("none but the last", "/somewhere/else"),
        ] {
            let find = || router.find(black_box("hub.local"), black_box(path), &Method::GET, &headers);
            assert!(find().is_some(), "{path} has a route");
            group.bench_function(format!("{kind} of {services} services"), |bencher| {
                bencher.iter(find)
            });
        }
    }
    group.finish();
}

/// Building a key: for everyone, for one principal, for one who is also given what is public, and with a JSON body.
fn key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let (shared, own, safe, chat) = (route("shared"), route("own"), route("safe"), route("chat"));
    let headers = request_headers();
    group.bench_function("shared", |bencher| {
        bencher.iter(|| key_of(&shared, &headers, "/models/7"))
    });
    group.bench_function("per principal", |bencher| {
        bencher.iter(|| key_of(&own, &headers, "/models/7"))
    });
    group.bench_function("per principal or public", |bencher| {
        bencher.iter(|| key_of(&safe, &headers, "/models/7"))
    });

    let ignore = &rules(&chat)
        .vary
        .body
        .as_ref()
        .expect("the route keys on the body")
        .ignore;
    let json = HeaderValue::from_static("application/json");
    let body = chat_body();
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("digest of a JSON body", |bencher| {
        bencher.iter(|| canonical::read(Some(&json), black_box(&body), ignore).digest);
    });
    group.finish();
}

/// Finding an entry of a full memory level by its key.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    let route = route("shared");
    let keys = keys(&route);
    for (name, policy) in [
        ("clock_pro", EvictionPolicy::ClockPro),
        ("w_tinylfu", EvictionPolicy::WTinyLfu),
        ("lru", EvictionPolicy::Lru),
    ] {
        let memory = filled(policy, &keys, Moment::default());
        let mut turn = Turn::default();
        group.bench_function(name, |bencher| bencher.iter(|| find(&memory, &keys[turn.next()])));
    }
    group.finish();
}

/// Whether an entry may be used, and whether a response may be stored.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    let control = RequestControl::default();
    group.bench_function("may use", |bencher| {
        bencher.iter(|| reuse::may_use(black_box(&LIFE), &control, black_box(NOW)));
    });

    let route = route("own");
    let (asked, answered) = (request_headers(), response_headers());
    let facts = RequestFacts {
        method: &Method::GET,
        headers: &asked,
        partitioned: true,
        for_part: false,
    };
    let times = Times {
        requested: NOW,
        received: NOW,
    };
    let may_store = || policy::may_store(rules(&route), &facts, StatusCode::OK, black_box(&answered), times);
    assert!(may_store().is_ok(), "the response may be stored");
    group.bench_function("may store", |bencher| bencher.iter(may_store));
    group.finish();
}

/// All steps of a hit but those of HTTP itself.
fn hit(criterion: &mut Criterion) {
    let router = Router::build(&routes(3));
    let route = route("shared");
    let memory = filled(EvictionPolicy::ClockPro, &keys(&route), Moment::default());
    let headers = request_headers();
    let control = RequestControl::default();
    let paths: Vec<String> = (0..ENTRIES).map(path).collect();
    let mut turn = Turn::default();
    criterion.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let path = &paths[turn.next()];
            let index = router.find("hub.local", path, &Method::GET, &headers);
            let entry = find(&memory, &key_of(&route, &headers, path));
            let usable = reuse::may_use(entry.life(), &control, NOW);
            (index, usable, entry.headers(), entry.body())
        });
    });
}

/// Indices of all entries, again and again, without locality.
#[derive(Default)]
struct Turn(usize);

impl Turn {
    fn next(&mut self) -> usize {
        self.0 = (self.0 + STRIDE) % ENTRIES;
        self.0
    }
}

fn find(memory: &Memory, key: &Key) -> Arc<Entry> {
    let slot = memory
        .get(black_box(key.primary()))
        .expect("the level holds every key");
    match slot.select(key.full(false), |_| true) {
        Selected::Found(entry) => entry,
        other => unreachable!("every slot has one entry for everyone, not {other:?}"),
    }
}

fn key_of(route: &Route, headers: &HeaderMap, path: &str) -> Key {
    let (partition, also_public) =
        partition(rules(route), black_box(headers)).expect("the route needs no tenant");
    let parts = KeyParts {
        route,
        method: &Method::GET,
        scheme: "http",
        authority: "hub.local:8080",
        path: black_box(path),
        query: Some("limit=20&order=asc"),
        headers,
        body: None,
    };
    Key::build(&parts, partition, also_public)
}

fn path(n: usize) -> String {
    format!("/models/{n}")
}

fn keys(route: &Route) -> Vec<Key> {
    let headers = request_headers();
    (0..ENTRIES).map(|n| key_of(route, &headers, &path(n))).collect()
}

/// A level that holds an entry for each key, filled at this moment of the purge log, with room to spare.
fn filled(policy: EvictionPolicy, keys: &[Key], moment: Moment) -> Memory {
    let memory = Memory::new(&MemoryLevel {
        name: "l1".into(),
        capacity: 1 << 30,
        policy,
        max_object: 1 << 20,
    });
    for key in keys {
        let kept = memory.put(key.primary(), entry(key, moment));
        assert!(kept.is_some(), "the level has room");
    }
    memory
}

/// An entry for everyone under this key.
fn entry(key: &Key, moment: Moment) -> Arc<Entry> {
    Entry::build(NewEntry {
        full_key: key.full(false),
        label: &key.label(),
        route: "shared".into(),
        tenant: None,
        tags: &[],
        nominated: Default::default(),
        status: StatusCode::OK,
        headers: &response_headers(),
        notes: Notes::default(),
        body: &[Bytes::from(vec![b'x'; BODY])],
        life: LIFE,
        moment,
        public: false,
        sensitive: false,
        stored_at: NOW,
        fetch_time: Duration::ZERO,
    })
}

const LIFE: Life = Life {
    generated_at: NOW,
    fresh_for: Duration::from_secs(60),
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::ZERO,
    stale_if_disconnected: Duration::ZERO,
    must_revalidate: false,
    always_validate: false,
    adapted: None,
};

fn request_headers() -> HeaderMap {
    headers(&[
        (ACCEPT, "application/json"),
        (AUTHORIZATION, "Bearer 0123456789abcdef0123456789abcdef"),
        (USER_AGENT, "hub-client/1.0"),
    ])
}

fn response_headers() -> HeaderMap {
    headers(&[
        (CACHE_CONTROL, "max-age=60"),
        (CONTENT_TYPE, "application/json"),
        (DATE, "Sun, 13 Sep 2020 12:26:40 GMT"),
        (ETAG, "\"5f5e0e00\""),
    ])
}

fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
        .collect()
}

/// A conversation of 4 KiB.
fn chat_body() -> Vec<u8> {
    let with_last = |last: usize| {
        let messages: Vec<_> = (0..24)
            .map(|n| format!("{n}: {}", "words and words ".repeat(8)))
            .chain(["x".repeat(last)])
            .map(|content| serde_json::json!({"role": "user", "content": content}))
            .collect();
        serde_json::json!({"user": "u-1", "model": "large", "temperature": 0.0, "messages": messages})
            .to_string()
            .into_bytes()
    };
    let body = with_last(CHAT.saturating_sub(with_last(0).len()));
    assert_eq!(body.len(), CHAT, "the conversation fits into the body");
    body
}

/// The parts of a configuration that no benchmark is about.
const FRAME: &str = r#"
version: 1
listeners:
  - {name: http, bind: "127.0.0.1:8080"}
admin: {bind: "127.0.0.1:9901"}
upstreams:
  hub: {endpoints: [{address: "127.0.0.1:8000"}]}
cache:
  levels:
    - memory: {name: l1, capacity: 256MiB}
routes:
"#;

/// The route called `name`: `shared`, `own`, `safe` or `chat`.
fn route(name: &str) -> Arc<Route> {
    const ROUTES: &str = r#"
  - name: shared
    match: {path_prefix: /models/}
    upstream: hub
    cache: {mode: "on", share: all}
  - name: own
    match: {path_prefix: /own/}
    upstream: hub
    cache: {mode: "on", vary: {principal: true}, share: principal}
  - name: safe
    match: {path_prefix: /safe/}
    upstream: hub
    cache: {mode: "on"}
  - name: chat
    match: {path: /v1/chat/completions, methods: [POST]}
    upstream: hub
    cache: {mode: "on", methods: [POST], ttl: 5m, vary: {body: {json: {ignore: [/user]}}}}
"#;
    let mut routes = resolved(ROUTES).into_iter();
    routes
        .find(|route| *route.name == *name)
        .expect("the route is in the list")
}

/// Three routes for each service, one of each kind of path, and one for the rest.
fn routes(services: usize) -> Vec<Arc<Route>> {
    let mut yaml = String::new();
    for n in 0..services {
        for (kind, path) in [
            ("status", format!("path: /service{n}/status")),
            ("files", format!("path_prefix: /service{n}/files/")),
            (
                "models",
                format!("path_template: \"/service{n}/models/{{id}}/versions\""),
            ),
        ] {
            writeln!(yaml, "  - {{name: {kind}{n}, match: {{{path}}}, upstream: hub}}")
                .expect("a string takes everything");
        }
    }
    yaml.push_str("  - {name: rest, match: {path_prefix: /}, upstream: hub}\n");
    resolved(&yaml)
}

fn resolved(routes: &str) -> Vec<Arc<Route>> {
    let yaml = format!("{FRAME}{routes}");
    let loaded = config::parse("hot_path", &yaml, Path::new("."), &Environment::system());
    loaded
        .map_err(|problems| problems.to_string())
        .expect("the configuration is valid")
        .config
        .routes
}

fn rules(route: &Route) -> &RouteCache {
    route.cache.as_ref().expect("the route is cached")
}
