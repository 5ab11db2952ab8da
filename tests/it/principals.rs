//! No byte of one principal reaches another: random principals, paths and header mixes through the real binary.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use crate::harness::{Call, ConfigText, Connection, Origin, Reply, Sidecar};

/// Fields that say who asks.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "x-access-token",
    "x-user-id",
];

/// One route per way to tell principals apart; none shares what the origin does not call public.
const ROUTES: &str = r#"
- {name: safe, match: {path_prefix: /safe/}, upstream: hub, cache: {mode: "on"}}
- {name: ttl, match: {path_prefix: /ttl/}, upstream: hub, cache: {mode: "on", ttl: 60s}}
- {name: own, match: {path_prefix: /own/}, upstream: hub, cache: {mode: "on", ttl: 60s, share: principal}}
- {name: header, match: {path_prefix: /header/}, upstream: hub, cache: {mode: "on", ttl: 60s, vary: {principal: {header: x-user-id}}}}
- {name: cookie, match: {path_prefix: /cookie/}, upstream: hub, cache: {mode: "on", ttl: 60s, vary: {principal: {cookie: sid}}}}
"#;

/// A request: where, with which of the credentials, and what else.
#[derive(Clone, Debug)]
struct Asks {
    method: &'static str,
    route: &'static str,
    path: &'static str,
    who: BTreeMap<usize, &'static str>,
    /// What the origin is to say about caching.
    control: &'static str,
    /// More fields.
    more: Vec<(&'static str, &'static str)>,
}

fn asks() -> impl Strategy<Value = Asks> {
    let route = select(vec!["safe", "ttl", "own", "header", "cookie"]);
    let path = select(vec!["a", "a?q=1", "b/a", "a%2Fb"]);
    let who = btree_map(
        0..CREDENTIALS.len(),
        select(vec!["a", "b", "sid=a", "sid=b; x=1"]),
        0..3,
    );
    let control = select(vec![
        "max-age=60",
        "max-age=0",
        "no-cache",
        "private",
        "no-store",
        "",
    ]);
    let more = select(vec![
        ("accept-language", "de"),
        ("accept", "text/html"),
        ("cache-control", "max-stale"),
        ("if-none-match", "*"),
        ("range", "bytes=0-"),
        ("connection", "authorization, cookie, x-api-key, x-user-id"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x_user_id", "a"),
    ]);
    let method = prop_oneof![8 => Just("GET"), 1 => Just("HEAD")];
    (method, route, path, who, control, vec(more, 0..2)).prop_map(
        |(method, route, path, who, control, more)| Asks {
            method,
            route,
            path,
            who,
            control,
            more,
        },
    )
}

impl Asks {
    fn call(&self) -> Call {
        let target = format!("/{}/{}", self.route, self.path);
        let mut call = Call::new(self.method, &target).header("x-control", self.control);
        for (field, value) in &self.who {
            call = call.header(CREDENTIALS[*field], value);
        }
        for (name, value) in &self.more {
            call = call.header(name, value);
        }
        call
    }

    /// Whether an answer made for `seen`, as the origin tells it, may be given to this request.
    fn may_have(&self, seen: &str) -> bool {
        let told: BTreeMap<&str, &str> = seen.lines().filter_map(|line| line.split_once(": ")).collect();
        let value = |field: &str| {
            let at = CREDENTIALS.iter().position(|name| *name == field);
            at.and_then(|at| self.who.get(&at).copied())
        };
        let all = || {
            CREDENTIALS[..7]
                .iter()
                .all(|name| told.get(name).copied() == value(name))
        };
        let sid = |cookie: Option<&str>| {
            let sid = cookie.and_then(|cookie| cookie.split("; ").find_map(|pair| pair.strip_prefix("sid=")));
            sid.map(str::to_owned)
        };
        match self.route {
            // Where a source is named it counts alone; where a request lacks it, its credentials do.
            "header" if value("x-user-id").is_some() => told.get("x-user-id").copied() == value("x-user-id"),
            "header" => all() && !told.contains_key("x-user-id"),
            "cookie" => match sid(value("cookie")) {
                Some(own) => sid(told.get("cookie").copied()) == Some(own),
                None => all(),
            },
            _ => all(),
        }
    }
}

#[test]
fn no_byte_of_one_principal_reaches_another() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_origin, sidecar, connection) = runtime.block_on(async {
        let origin = Origin::start().await;
        origin.on("*", |seen| {
            let told: Vec<String> = CREDENTIALS
                .iter()
                .filter(|name| seen.headers.contains_key(**name))
                .map(|name| format!("{name}: {}", seen.header(name)))
                .collect();
            let told = told.join("\n");
            let etag = format!("\"{}\"", hex::encode(&told));
            if seen.header("if-none-match") == etag {
                return Reply::status(304)
                    .header("etag", &etag)
                    .cache_control(seen.header("x-control"));
            }
            Reply::ok(told)
                .header("etag", &etag)
                .cache_control(seen.header("x-control"))
        });
        let sidecar = Sidecar::start(&ConfigText::new(origin.address()).routes(ROUTES)).await;
        let connection = Connection::open(sidecar.address()).await.unwrap();
        (origin, sidecar, connection)
    });
    let connection = std::cell::RefCell::new(connection);
    let hits = std::cell::Cell::new(0);
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/principals.txt");
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..ProptestConfig::with_cases(60)
    });
    let outcome = runner.run(&vec(asks(), 1..24), |sequence| {
        for asks in sequence {
            let answer = runtime.block_on(connection.borrow_mut().fetch(asks.call()));
            let answer = answer.map_err(TestCaseError::fail)?;
            // What identifies the answer is in its entity tag as well, which a 304 has too.
            let tag = hex::decode(answer.header("etag").trim_matches('"')).unwrap_or_default();
            let seen = String::from_utf8(tag).unwrap();
            prop_assert!(
                asks.may_have(&seen),
                "{asks:?} was given what is of\n{seen}\n{answer:?}"
            );
            if asks.method == "GET" && answer.status == 200 {
                prop_assert_eq!(answer.text(), seen);
            }
            hits.set(hits.get() + usize::from(answer.cache_says("hit")));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(
        hits.get() > 20,
        "a cache that stores nothing keeps everybody apart: {} hits",
        hits.get()
    );
    drop(sidecar);
}
