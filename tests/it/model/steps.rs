//! What may happen, and how often: the random sequences.

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

/// A route under test.
#[derive(Debug)]
pub(super) struct Rules {
    /// Its name, and the first segment of its paths.
    pub(super) name: &'static str,
    /// Its cache keys in the configuration, behind `mode`.
    pub(super) yaml: &'static str,
    pub(super) share: Share,
    /// `client_control: honour`.
    pub(super) honour: bool,
    /// Seconds that 200 and the like live, whatever the origin says.
    pub(super) ttl: Option<u64>,
    /// A tenth of the time since `Last-Modified`, and at most a day.
    pub(super) heuristic: bool,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Among principals only what is explicitly public.
    Safe,
    /// Nothing among principals.
    Principal,
    /// Everything among all.
    All,
}

const PLAIN: Rules = Rules {
    name: "safe",
    yaml: "",
    share: Share::Safe,
    honour: false,
    ttl: None,
    heuristic: false,
    stale_while_revalidate: None,
    stale_if_error: None,
};

pub(super) const ROUTES: [Rules; 6] = [
    PLAIN,
    Rules {
        name: "honour",
        yaml: ", client_control: honour",
        honour: true,
        ..PLAIN
    },
    Rules {
        name: "own",
        yaml: ", client_control: honour, share: principal",
        share: Share::Principal,
        honour: true,
        ..PLAIN
    },
    Rules {
        name: "all",
        yaml: ", client_control: honour, share: all, heuristic: {fraction: 10%, max: 24h}",
        share: Share::All,
        honour: true,
        heuristic: true,
        ..PLAIN
    },
    Rules {
        name: "ttl",
        yaml: ", ttl: 60s",
        ttl: Some(60),
        ..PLAIN
    },
    Rules {
        name: "windows",
        yaml: ", stale_while_revalidate: 20s, stale_if_error: 100s",
        stale_while_revalidate: Some(20),
        stale_if_error: Some(100),
        ..PLAIN
    },
];

/// Paths and queries under the route's segment.
pub(super) const TARGETS: [&str; 3] = ["a", "a?q=1", "b"];

/// One step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Seconds that pass before.
    pub(super) after: u64,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two dozen at a time")]
pub(super) enum Action {
    /// A request, and what the origin says if it is asked.
    Ask(Ask, Says),
    /// A purge of one target, or of all.
    Purge { target: Option<usize>, soft: bool },
}

/// A directive and its argument.
pub(super) type Directive = (&'static str, Option<u64>);

#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) target: usize,
    pub(super) authorization: Option<&'static str>,
    pub(super) cookie: Option<&'static str>,
    pub(super) language: Option<&'static str>,
    pub(super) control: Vec<Directive>,
    pub(super) pragma: bool,
    /// The client's own `If-None-Match`.
    pub(super) none_match: Option<&'static str>,
    /// The client's own `If-Modified-Since`: seconds before the sequence began.
    pub(super) since: Option<u64>,
}

/// What the origin says.
#[derive(Clone, Debug)]
pub(super) struct Says {
    /// None: it closes the connection without an answer.
    pub(super) status: Option<u16>,
    pub(super) control: Vec<Directive>,
    /// A field name behind `no-cache` or `private`.
    pub(super) limited: Option<&'static str>,
    /// Seconds from now, or something that is no date.
    pub(super) expires: Option<Result<i64, &'static str>>,
    /// Seconds by which `Date` is wrong; none: there is no `Date`.
    pub(super) skew: Option<i64>,
    pub(super) age: Option<&'static str>,
    pub(super) vary: Option<&'static str>,
    pub(super) etag: Option<&'static str>,
    /// Seconds before the sequence began at which it was last modified.
    pub(super) modified: Option<u64>,
    pub(super) cookie: bool,
    /// The target that `Location` names.
    pub(super) location: Option<usize>,
    /// Seconds that it takes.
    pub(super) delay: u64,
    /// Whether it answers 304 when it may.
    pub(super) conditional: bool,
}

pub(super) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..24)
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        3 => Just(0_u64),
        3 => 1_u64..12,
        3 => select(vec![20_u64, 30, 59, 60, 61, 100, 600]),
        1 => select(vec![86_400_u64, 10_000_000]),
    ];
    let action = prop_oneof![
        14 => (ask(), says()).prop_map(|(ask, says)| Action::Ask(ask, says)),
        1 => (of(0..TARGETS.len()), any::<bool>()).prop_map(|(target, soft)| Action::Purge { target, soft }),
    ];
    (after, action).prop_map(|(after, action)| Step { after, action })
}

fn ask() -> impl Strategy<Value = Ask> {
    let method = prop_oneof![
        20 => Just("GET"),
        3 => Just("HEAD"),
        2 => select(vec!["POST", "PUT", "DELETE"]),
    ];
    let target = prop_oneof![4 => Just(0), 1 => 1..TARGETS.len()];
    let who = (
        weighted(0.35, select(vec!["alice", "bob"])),
        weighted(0.15, select(vec!["sid=1", "sid=2"])),
    );
    let language = weighted(0.5, select(vec!["de", "en", "en, de"]));
    let conditions = (
        weighted(0.12, select(vec!["\"v1\"", "W/\"v2\"", "\"x\", \"v1\"", "*"])),
        weighted(0.08, select(vec![0_u64, 1000, 100_000])),
    );
    let control = prop_oneof![4 => Just(Vec::new()), 1 => vec(request_directive(), 1..3)];
    (
        method,
        target,
        who,
        language,
        control,
        weighted(0.03, Just(())),
        conditions,
    )
        .prop_map(
            |(method, target, (authorization, cookie), language, control, pragma, (none_match, since))| Ask {
                method,
                target,
                authorization,
                cookie,
                language,
                control,
                pragma: pragma.is_some(),
                none_match,
                since,
            },
        )
}

fn request_directive() -> impl Strategy<Value = Directive> {
    let bare = select(vec![
        "no-cache",
        "no-store",
        "only-if-cached",
        "max-stale",
        "no-transform",
    ]);
    let timed = select(vec!["max-age", "min-fresh", "max-stale", "stale-if-error"]);
    prop_oneof![
        bare.prop_map(|name| (name, None)),
        (timed, select(vec![0, 5, 30, 100])).prop_map(|(name, seconds)| (name, Some(seconds))),
    ]
}

fn response_directive() -> impl Strategy<Value = Directive> {
    let bare = select(vec![
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "immutable",
        "no-cache",
        "no-store",
        "private",
    ]);
    prop_oneof![
        8 => select(vec![0, 1, 10, 60, 600, 2_147_483_648, 4_294_967_296]).prop_map(|seconds| ("max-age", Some(seconds))),
        2 => select(vec![0, 10, 60, 600]).prop_map(|seconds| ("s-maxage", Some(seconds))),
        2 => select(vec![0, 10, 60]).prop_map(|seconds| ("stale-while-revalidate", Some(seconds))),
        2 => select(vec![0, 60, 600]).prop_map(|seconds| ("stale-if-error", Some(seconds))),
        4 => bare.prop_map(|name| (name, None)),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    let status = prop_oneof![
        20 => Just(Some(200)),
        3 => select(vec![Some(404), Some(301), Some(203), Some(201)]),
        3 => select(vec![Some(500), Some(503), None]),
    ];
    let control = prop_oneof![
        4 => Just(vec![("max-age", Some(60))]),
        1 => Just(vec![("max-age", Some(600)), ("public", None)]),
        1 => Just(Vec::new()),
        6 => vec(response_directive(), 1..4),
    ];
    let expires = weighted(
        0.15,
        prop_oneof![
            3 => select(vec![-10_i64, 0, 30, 600]).prop_map(Ok),
            1 => select(vec!["0", "soon"]).prop_map(Err),
        ],
    );
    let skew = prop_oneof![
        6 => Just(Some(0_i64)),
        1 => Just(None),
        2 => select(vec![Some(-3600), Some(-30), Some(-5), Some(5), Some(3600), Some(1_000_000_000)]),
    ];
    let age = weighted(
        0.15,
        select(vec![
            "0",
            "5",
            "59",
            "4000",
            "-7",
            "x",
            "4294967296",
            "99999999999999999999",
        ]),
    );
    let vary = weighted(
        0.3,
        select(vec!["accept-language", "Accept-Language, x-other", "*", "cookie"]),
    );
    let validators = (
        weighted(0.6, select(vec!["\"v1\"", "\"v2\"", "W/\"v2\""])),
        weighted(0.3, select(vec![0_u64, 1000, 100_000])),
    );
    let more = (
        weighted(0.1, select(vec!["private", "no-cache"])),
        weighted(0.04, Just(())),
        of(0..TARGETS.len()),
    );
    let manner = (prop_oneof![6 => Just(0_u64), 1 => 1_u64..20], any::<bool>());
    (
        status, control, expires, skew, age, vary, validators, more, manner,
    )
        .prop_map(
            |(
                status,
                control,
                expires,
                skew,
                age,
                vary,
                (etag, modified),
                (limited, cookie, location),
                (delay, conditional),
            )| Says {
                status,
                control,
                limited,
                expires,
                skew,
                age,
                vary,
                etag,
                modified,
                cookie: cookie.is_some(),
                location,
                delay,
                conditional,
            },
        )
}
