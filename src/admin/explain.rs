//! What would happen to a request, and why. The steps are those of the data plane; nothing is counted, fetched or kept.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;

use super::Context;
use super::asked::{Asked, Reading, Request};
use super::entries::Stored;
use super::explanation::{ExplainedKey, Explanation, Store, Variant};
use super::problem::Problem;
use super::refusal::Admission;
use crate::cache::digest::KeyDigest;
use crate::cache::engine::{self, Lookup};
use crate::cache::entry::Entry;
use crate::cache::failures::Failed;
use crate::cache::key::{Key, KeyParts};
use crate::cache::query;
use crate::cache::request::{self, AfterMiss, Keyed};
use crate::cache::reuse::Failure;
use crate::cache::status::{CacheStatus, ForwardReason, Forwarded, Outcome};
use crate::cache::verdict::{BypassReason, MissReason};
use crate::clock::Timestamp;
use crate::config::RouteCache;
use crate::control::state::{ActiveRoute, Snapshot};
use crate::telemetry::mask::Masking;

/// Tells what would happen to a request and why. Nothing is sent, counted or changed.
#[utoipa::path(post, path = "/api/v1/performance/cache/explain", tag = "cache", request_body = Asked,
    responses((status = 200, body = Explanation), (status = 400, body = Problem)))]
pub(super) async fn explain(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Explanation>, Problem> {
    let snapshot = context.state.snapshot.load_full();
    let reading = Request::read(&headers, body, &Admission::of(&snapshot.config))?;
    let subject = Subject {
        context: &context,
        snapshot: &snapshot,
        masking: context.state.telemetry.masking(),
        now: context.state.clock.now(),
    };
    Ok(Json(match reading {
        Reading::Admitted(mut request) => subject.explain(&mut request).await,
        Reading::Refused { method, url, reason } => {
            Explanation::refused(&method, subject.masking.target(&url), reason)
        }
    }))
}

/// What is the same for every step.
struct Subject<'a> {
    context: &'a Context,
    snapshot: &'a Snapshot,
    masking: Masking,
    now: Timestamp,
}

/// The verdict and what it rests on.
struct Verdict {
    name: &'static str,
    reasons: Vec<&'static str>,
    status: Option<CacheStatus>,
    /// Why the answer would not be stored; none if it would.
    unstored: Option<&'static str>,
    selected: Option<Arc<Entry>>,
    level: Option<String>,
}

impl Verdict {
    fn forwarded(name: &'static str, reasons: Vec<&'static str>, reason: ForwardReason) -> Self {
        let status = CacheStatus::Forwarded(Forwarded {
            reason,
            status: None,
            outcome: Outcome::Passed,
            collapsed: false,
        });
        Self {
            name,
            reasons,
            status: Some(status),
            unstored: None,
            selected: None,
            level: None,
        }
    }

    fn bypass(reason: BypassReason) -> Self {
        Self {
            unstored: Some(reason.as_str()),
            ..Self::forwarded("bypass", vec![reason.as_str()], ForwardReason::Bypass(reason))
        }
    }

    fn refused(reasons: Vec<&'static str>) -> Self {
        Self {
            name: "refused",
            unstored: reasons.last().copied(),
            reasons,
            status: None,
            selected: None,
            level: None,
        }
    }
}

impl Subject<'_> {
    async fn explain(&self, request: &mut Request) -> Explanation {
        let path = request.uri.path();
        let target = query::join(request.authority(), path, request.uri.query());
        let url = format!("{}://{target}", request.scheme);
        let mut explanation = Explanation::refused(&request.method, self.masking.target(&url), "no-route");
        let found = self
            .snapshot
            .route_of(request.authority(), path, &request.method, &request.headers);
        let Some(route) = found else {
            return explanation;
        };
        explanation.route = Some(route.config.name.to_string());
        explanation.upstream = Some(route.config.upstream.to_string());
        let verdict = match self.key(request, route) {
            Err(reason) => Verdict::bypass(reason),
            Ok((rules, keyed, body)) => {
                let verdict = self.judge(request, rules, &keyed).await;
                explanation.key = ExplainedKey::of(request, rules, &keyed, body, &self.masking);
                explanation.stored = self.stored(&keyed, &verdict);
                verdict
            }
        };
        explanation.verdict = verdict.name;
        explanation.level = verdict.level;
        explanation.reasons = verdict.reasons;
        explanation.cache_status = verdict
            .status
            .and_then(|status| status.to_value().to_str().map(str::to_owned).ok());
        let rules = route.config.cache.as_ref();
        explanation.store = rules.map(|rules| {
            let level = self.snapshot.config.cache.memory.as_ref();
            let tiers = &self.context.state.cache.tiers;
            Store::of(rules, level, tiers, verdict.unstored)
        });
        explanation
    }

    /// The steps up to the key, in the order of `proxy/handler.rs` and `proxy/inbound.rs`.
    fn key<'r>(
        &self,
        request: &mut Request,
        route: &'r ActiveRoute,
    ) -> Result<(&'r RouteCache, Keyed, Option<[u8; 32]>), BypassReason> {
        if request::wants_upgrade(&request.headers) {
            return Err(BypassReason::Upgrade);
        }
        let has_level = self.context.state.cache.memory.is_some();
        let rules = request::admit(
            &route.config,
            has_level,
            &request.method,
            &mut request.headers,
            request.trusted,
        )?;
        let body = match &rules.vary.body {
            _ if request.body.is_empty() => None,
            None => return Err(BypassReason::BodyNotKeyed),
            Some(rule) if request.body.len() > rule.max => return Err(BypassReason::BodyTooLarge),
            Some(rule) => Some(request::body_digest(
                rules,
                rule,
                &request.headers,
                &request.body,
            )?),
        };
        let parts = KeyParts {
            route: &route.config,
            method: &request.method,
            scheme: request.scheme,
            authority: &request::canonical_authority(request.authority(), request.scheme),
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
            body,
        };
        let keyed = request::identify(rules, &parts)?;
        Ok((rules, keyed, body))
    }

    /// The lookup and what follows a miss.
    async fn judge(&self, request: &Request, rules: &RouteCache, keyed: &Keyed) -> Verdict {
        let cache = &self.context.state.cache;
        let asked = engine::Request {
            key: &keyed.key,
            method: &request.method,
            headers: &request.headers,
        };
        let (lookup, level) = self.look(rules, &asked).await;
        let hit = |name, reason, unstored, entry: Arc<Entry>| Verdict {
            name,
            reasons: vec![reason],
            status: Some(CacheStatus::Hit {
                ttl: entry.life().ttl_seconds(self.now),
            }),
            unstored,
            selected: Some(entry),
            level: level.clone(),
        };
        let (reason, stale) = match lookup {
            Lookup::Fresh(entry) | Lookup::Part(entry) => return hit("hit", "fresh", Some("fresh"), entry),
            Lookup::Refresh(entry) => {
                let unstored = match request::after_miss(cache, rules, &asked, true) {
                    AfterMiss::Pass(reason) => Some(reason.as_str()),
                    AfterMiss::Bypass(reason) => Some(reason.as_str()),
                    AfterMiss::BackOff(failed) => Some(failed.error.kind),
                    AfterMiss::Fill(_) | AfterMiss::Refuse => None,
                };
                return hit("stale", "stale-while-revalidate", unstored, entry);
            }
            Lookup::Miss { reason, stale } => (reason, stale),
        };
        let missed = || Verdict::forwarded("miss", vec![reason.as_str()], ForwardReason::Miss(reason));
        let verdict = match request::after_miss(cache, rules, &asked, stale.is_some()) {
            AfterMiss::Fill(_) => missed(),
            AfterMiss::Pass(why) => Verdict {
                unstored: Some(why.as_str()),
                ..missed()
            },
            AfterMiss::Bypass(why) => Verdict {
                reasons: vec![reason.as_str(), why.as_str()],
                ..Verdict::bypass(why)
            },
            AfterMiss::BackOff(failed) => {
                self.spared(request, rules, reason.as_str(), stale.as_ref(), failed)
            }
            AfterMiss::Refuse => Verdict::refused(vec![reason.as_str(), "only-if-cached"]),
        };
        Verdict {
            level: level.filter(|_| stale.is_some()),
            selected: stale,
            ..verdict
        }
    }

    /// Looks in memory, and where that cannot answer in the levels below; with the name of the level that has what is
    /// found.
    async fn look(&self, rules: &RouteCache, asked: &engine::Request<'_>) -> (Lookup, Option<String>) {
        let cache = &self.context.state.cache;
        let memory = self.snapshot.config.cache.memory.as_ref();
        let memory = memory.map(|level| level.name.to_string());
        let lookup = cache.would_answer_from(rules, asked, self.now);
        let Lookup::Miss { stale, .. } = &lookup else {
            return (lookup, memory);
        };
        let next = request::after_miss(cache, rules, asked, stale.is_some());
        if matches!(next, AfterMiss::Bypass(_)) {
            return (lookup, memory);
        }
        match cache.peek_below(rules, asked).await {
            Some(below)
                if !matches!(
                    below.lookup,
                    Lookup::Miss {
                        reason: MissReason::Uri,
                        ..
                    }
                ) =>
            {
                let level = cache.tiers.name_of(below.level).map(str::to_owned);
                (below.lookup, level)
            }
            _ => (lookup, memory),
        }
    }

    /// What a request gets that is spared a fetch which has just failed for others.
    fn spared(
        &self,
        request: &Request,
        rules: &RouteCache,
        missed: &'static str,
        stale: Option<&Arc<Entry>>,
        failed: Failed,
    ) -> Verdict {
        let cache = &self.context.state.cache;
        let control = request::control(rules, &request.headers);
        let stands_in = |failure: &Failure| {
            stale.is_some_and(|entry| cache.may_stand_in(entry, &control, *failure, self.now))
        };
        match failed.failure.filter(stands_in) {
            Some(failure) => Verdict {
                name: "stale",
                ..Verdict::refused(vec![missed, failure.as_str()])
            },
            None => Verdict::refused(vec![missed, failed.error.kind]),
        }
    }

    /// Every variant under the key: the request's own, those that are for everyone, then stored parts; of the levels
    /// below memory the one that decides.
    fn stored(&self, keyed: &Keyed, verdict: &Verdict) -> Vec<Variant> {
        let cache = &self.context.state.cache;
        let (Some(memory), Some(level)) = (&cache.memory, &self.snapshot.config.cache.memory) else {
            return Vec::new();
        };
        let under = |key: &Key, digest: &KeyDigest, public: bool| {
            let slot = memory.peek(digest);
            let variants = slot.iter().flat_map(|slot| slot.variants());
            let mine =
                variants.filter(|entry| entry.full_key() == key.full(public) && (!public || entry.public()));
            mine.map(|entry| Variant {
                selected: verdict
                    .selected
                    .as_ref()
                    .is_some_and(|selected| Arc::ptr_eq(selected, entry)),
                stored: Stored::of(cache, &level.name, digest, entry, &self.masking, self.now),
            })
            .collect::<Vec<_>>()
        };
        let key = &keyed.key;
        let mut found = under(key, key.primary(), false);
        let public = key.public().into_iter();
        found.extend(public.flat_map(|digest| under(key, digest, true)));
        if let Some((key, _)) = cache.equivalent(key) {
            found.extend(under(&key, key.primary(), false));
            let public = key.public().into_iter();
            found.extend(public.flat_map(|digest| under(&key, digest, true)));
        }
        let part = key.of_part();
        found.extend(under(&part, part.primary(), false));
        if let (Some(entry), Some(level)) = (&verdict.selected, &verdict.level)
            && !found.iter().any(|variant| variant.selected)
        {
            let digest = cache.home(key, entry);
            found.push(Variant {
                selected: true,
                stored: Stored::of(cache, level, &digest, entry, &self.masking, self.now),
            });
        }
        found
    }
}
