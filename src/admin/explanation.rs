//! An explanation, and its parts that need no lookup: the key, and the rules for storing.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::Request;
use super::entries::Stored;
use crate::cache::key;
use crate::cache::partition::{Partition, partition, sources};
use crate::cache::policy::life_by_route;
use crate::cache::request::Keyed;
use crate::cache::tiers::Tiers;
use crate::cache::vary;
use crate::config::{MemoryLevel, RouteCache, Share, Ttl};
use crate::telemetry::mask::{Masking, REDACTED};

/// What would happen to a request, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// Its method.
    pub(super) method: String,
    /// Its URL, the query masked as in logs.
    pub(super) url: String,
    /// The route that it belongs to; none if no route wants it.
    pub(super) route: Option<String>,
    /// The upstream that would be asked.
    pub(super) upstream: Option<String>,
    /// `hit`, `stale` (a hit while somebody validates), `miss`, `bypass`, or `refused` (an error from here).
    pub(super) verdict: &'static str,
    /// Why, by the names of metrics and `Cache-Status`, the deciding one last.
    pub(super) reasons: Vec<&'static str>,
    /// The level that has what decides; none where nothing stored does.
    pub(super) level: Option<String>,
    /// The beginning of our member of `Cache-Status`; what the origin answers would follow.
    pub(super) cache_status: Option<String>,
    /// Its key; none where it needs none or has none.
    pub(super) key: Option<ExplainedKey>,
    /// What is stored under the key, with every variant.
    pub(super) stored: Vec<Variant>,
    /// What becomes of the origin's answer; none on a route that is not cached.
    pub(super) store: Option<Store>,
}

/// A stored response under the key.
#[derive(Serialize, ToSchema)]
pub(super) struct Variant {
    /// Whether it is the one that decides.
    pub(super) selected: bool,
    #[serde(flatten)]
    pub(super) stored: Stored,
}

/// The parts of a key. Values that may be secret are masked.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplainedKey {
    /// Digest of the whole key as hex.
    digest: String,
    /// Digest of the key without the partition, where what is for everyone is found; none without one.
    public_digest: Option<String>,
    /// `http` or `https`.
    scheme: String,
    /// Host and port.
    authority: String,
    /// Method; HEAD is keyed as GET.
    method: String,
    /// Path.
    path: String,
    /// What counts of the query.
    query: Option<String>,
    /// Header fields that count, with the value that counts; none for a field that the request does not have.
    headers: Vec<CountedField>,
    /// Who may see the entry.
    partition: ExplainedPartition,
    /// Digest of what counts of the body as hex; none where the body does not count.
    body: Option<String>,
}

/// A header field in the key.
#[derive(Serialize, ToSchema)]
struct CountedField {
    name: String,
    value: Option<String>,
}

/// What keeps principals apart.
#[derive(Serialize, ToSchema)]
struct ExplainedPartition {
    /// `none`, `principal`, `anonymous` (nobody's own, where each principal has its own) or `tenant`.
    kind: &'static str,
    /// What it is made from: names of header fields, and `cookie NAME`.
    from: Vec<String>,
}

/// What becomes of the origin's answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Store {
    /// Whether it would be stored, if its own header fields allow.
    would: bool,
    /// Why not.
    reason: Option<&'static str>,
    /// The same for the levels below memory, in their order.
    below: Vec<Below>,
    /// Who decides how long a 200 is fresh: `route` or `origin`.
    life_by: &'static str,
    /// Freshness of a 200 by the route, seconds; where it adapts, the shortest.
    fresh_for: Option<u64>,
    /// The longest freshness where it adapts, seconds.
    fresh_for_at_most: Option<u64>,
    /// Freshness by status, seconds, where the route lists statuses.
    by_status: BTreeMap<u16, u64>,
    /// Seconds that the route sets in place of the origin's; none where the origin decides.
    stale_while_revalidate: Option<u64>,
    /// The same for `stale-if-error`.
    stale_if_error: Option<u64>,
    /// Whether the route lets freshness be guessed from `Last-Modified`.
    heuristic: bool,
    /// From which request for the key on an answer is stored.
    min_uses: u16,
    /// Largest body that is stored, bytes.
    max_object: u64,
    /// Methods that are cached.
    methods: Vec<String>,
    /// `safe`, `principal`, `all` or `tenant`.
    share: &'static str,
}

/// What becomes of the origin's answer in a level below memory.
#[derive(Serialize, ToSchema)]
struct Below {
    /// Its name.
    level: String,
    /// Whether it would be kept there, too.
    would: bool,
    /// Why not: `no-key` (the route is sensitive and the level does not encrypt), `resting` (the level is out of use), or
    /// what keeps the answer out of memory.
    reason: Option<&'static str>,
}

impl Explanation {
    /// What is told of a request that no route sees; `url` is masked.
    pub(super) fn refused(method: &Method, url: String, reason: &'static str) -> Self {
        Self {
            method: method.to_string(),
            url,
            route: None,
            upstream: None,
            verdict: "refused",
            reasons: vec![reason],
            level: None,
            cache_status: None,
            key: None,
            stored: Vec::new(),
            store: None,
        }
    }
}

impl ExplainedKey {
    /// The parts of the key of `request`.
    pub(super) fn of(
        request: &Request,
        rules: &RouteCache,
        keyed: &Keyed,
        body: Option<[u8; 32]>,
        masking: &Masking,
    ) -> Option<Self> {
        let key = &keyed.key;
        let parts = key::readable(key.full(false))?;
        let (partition, _) = partition(rules, &request.headers).ok()?;
        let kind = match partition {
            Partition::None => "none",
            Partition::ANONYMOUS => "anonymous",
            Partition::Principal(_) => "principal",
            Partition::Tenant(_) => "tenant",
        };
        Some(Self {
            digest: hex::encode(key.primary().0),
            public_digest: key.public().map(|digest| hex::encode(digest.0)),
            scheme: parts.scheme.into_owned(),
            authority: parts.authority.into_owned(),
            method: parts.method.into_owned(),
            path: parts.path.into_owned(),
            query: parts.query.map(|query| masking.query(&query)),
            headers: counted(request, rules, body.is_some(), masking),
            partition: ExplainedPartition {
                kind,
                from: sources(rules, &request.headers),
            },
            body: body.map(hex::encode),
        })
    }
}

impl Store {
    /// What the rules of a route say, and why an answer would not be stored.
    pub(super) fn of(
        rules: &RouteCache,
        level: Option<&MemoryLevel>,
        tiers: &Tiers,
        unstored: Option<&'static str>,
    ) -> Self {
        let by_status = match &rules.ttl {
            Ttl::ByStatus(by_status) => by_status
                .iter()
                .map(|(status, ttl)| (*status, ttl.as_secs()))
                .collect(),
            Ttl::Origin | Ttl::Fixed(_) | Ttl::Adaptive(_) => BTreeMap::new(),
        };
        let fresh_for_at_most = match &rules.ttl {
            Ttl::Adaptive(bounds) => Some(bounds.max.as_secs()),
            Ttl::Origin | Ttl::Fixed(_) | Ttl::ByStatus(_) => None,
        };
        let below = tiers.refusals(rules.sensitive).map(|(level, refusal)| {
            let reason = refusal.or(unstored);
            Below {
                level: level.to_owned(),
                would: reason.is_none(),
                reason,
            }
        });
        let fresh_for = life_by_route(rules, StatusCode::OK);
        Self {
            would: unstored.is_none(),
            reason: unstored,
            below: below.collect(),
            life_by: if fresh_for.is_some() { "route" } else { "origin" },
            fresh_for: fresh_for.map(|life| life.as_secs()),
            fresh_for_at_most,
            by_status,
            stale_while_revalidate: rules.stale_while_revalidate.map(|window| window.as_secs()),
            stale_if_error: rules.stale_if_error.map(|window| window.as_secs()),
            heuristic: rules.heuristic.is_some(),
            min_uses: rules.min_uses,
            max_object: level.map_or(0, |level| level.max_object.min(rules.max_object)),
            methods: rules.methods.iter().map(Method::to_string).collect(),
            share: match rules.share {
                Share::Safe => "safe",
                Share::Principal => "principal",
                Share::All => "all",
                Share::Tenant(_) => "tenant",
            },
        }
    }
}

fn counted(request: &Request, rules: &RouteCache, with_body: bool, masking: &Masking) -> Vec<CountedField> {
    let describe = |name| {
        let mut value = Vec::new();
        let present = vary::write_normalised(&name, &request.headers, &mut value);
        let masked = || {
            let value = HeaderValue::from_bytes(&value).ok()?;
            let one = HeaderMap::from_iter([(name.clone(), value)]);
            masking.headers(&one).pop().map(|(_, value)| value)
        };
        CountedField {
            value: present.then(|| masked().unwrap_or_else(|| REDACTED.to_owned())),
            name: name.as_str().to_owned(),
        }
    };
    key::counted_fields(rules, &request.headers, with_body)
        .into_iter()
        .map(describe)
        .collect()
}
