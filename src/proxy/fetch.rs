//! fill: what happens after a miss, from the side of the request that missed.

use std::sync::Arc;

use http::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::Answer;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::fill::Led;
use super::inbound::Inbound;
use super::interim::InterimSender;
use super::join::{Follow, follow, patience};
use super::refresh::{Task, prepare};
use super::{below, pass, serve, turn};
use crate::cache;
use crate::cache::age::Times;
use crate::cache::conditional::{self, ConditionalAnswer};
use crate::cache::engine::Lookup;
use crate::cache::entry::Entry;
use crate::cache::failures::Failed;
use crate::cache::flight::{Follower, Grounds, Leader, Ticket};
use crate::cache::key::Key;
use crate::cache::policy::{self, RequestFacts};
use crate::cache::replication::Lease;
use crate::cache::request::{self, AfterMiss, Errand, Keyed, after_miss};
use crate::cache::status::Outcome;
use crate::cache::verdict::RefuseReason;
use crate::config::{Collapse, LastReaderGone, RouteCache};
use crate::control::state::{ActiveRoute, State};
use crate::telemetry::record::CacheResult;
use crate::upstream::UpstreamBody;

/// How often a request takes part in a flight that is lost before it fetches on its own.
const BOARDINGS: usize = 3;

/// Gets the response for a request that nothing stored can answer.
pub(crate) async fn fetch(
    exchange: &mut Exchange,
    route: &Arc<ActiveRoute>,
    request: &mut Inbound,
    keyed: Keyed,
    mut stale: Option<Arc<Entry>>,
) -> Result<Answer, ProxyError> {
    let Some(rules) = &route.config.cache else {
        return pass::pass(exchange, route, request).await;
    };
    let state = Arc::clone(&exchange.worker.state);
    let mut unasked = state.cache.has_levels_below();
    let mut next = next_step(&state, rules, request, &keyed, stale.as_ref());
    let leads = matches!(next, AfterMiss::Fill(Errand::Whole)) && (rules.min_uses == 1 || stale.is_some());
    // Who does not lead a flight looks below now; who does looks there for everybody aboard.
    if unasked && !leads && !matches!(next, AfterMiss::Bypass(_)) {
        if let Some(found) = below::look(exchange, rules, request, &keyed, &mut stale).await {
            return Ok(found.answer(exchange, route, request, &keyed));
        }
        unasked = false;
        next = next_step(&state, rules, request, &keyed, stale.as_ref());
    }
    let errand = match next {
        AfterMiss::Fill(errand) => errand,
        AfterMiss::Pass(_) => return pass::pass(exchange, route, request).await,
        AfterMiss::Refuse => return Err(ProxyError::OnlyIfCached),
        AfterMiss::BackOff(failed) => return spared(exchange, rules, request, stale.as_ref(), failed),
        AfterMiss::Bypass(reason) => {
            exchange.bypassed(reason);
            let answer = pass::pass(exchange, route, request).await?;
            reconsider(exchange, rules, request, &keyed, &answer);
            return Ok(answer);
        }
    };
    // What was stored once had been asked for often enough.
    if rules.min_uses > 1
        && !request.warm_up
        && stale.is_none()
        && state.cache.count_use(&keyed.key) < rules.min_uses
    {
        return pass::unstored(exchange, route, request, RefuseReason::MinUses).await;
    }
    let wanted = Wanted {
        key: errand.key(&keyed.key, &request.head.headers).into_owned(),
        keyed: Arc::new(keyed),
        errand,
        stale,
        unasked,
    };
    fly(exchange, route, rules, request, wanted).await
}

/// What a request fetches.
struct Wanted {
    keyed: Arc<Keyed>,
    errand: Errand,
    /// The key that requests on the same errand share.
    key: Key,
    /// What is validated.
    stale: Option<Arc<Entry>>,
    /// Whether the levels below memory have not been asked.
    unasked: bool,
}

/// Fetches with whoever wants the same, or alone when that is of no use.
async fn fly(
    exchange: &mut Exchange,
    route: &Arc<ActiveRoute>,
    rules: &RouteCache,
    request: &mut Inbound,
    mut wanted: Wanted,
) -> Result<Answer, ProxyError> {
    let deadline = Instant::now() + patience(Some(&route.config));
    for _ in 0..BOARDINGS {
        let follower = match board(exchange, rules, request, &wanted.key) {
            Ticket::Lead(leader) => {
                exchange.on_its_own();
                match take_lead(exchange, route, rules, request, &mut wanted, leader).await? {
                    Lead::Answered(answer) => return Ok(answer),
                    Lead::Follow(follower) => follower,
                }
            }
            Ticket::Follow(follower) => {
                exchange.record.cache = CacheResult::Collapsed;
                follower
            }
        };
        match follow(exchange, rules, request, &wanted.keyed, follower, deadline).await? {
            Follow::Answered(answer) => return Ok(answer),
            Follow::Again => {}
            Follow::Alone(reason) => {
                exchange.bypassed(reason);
                break;
            }
        }
    }
    exchange.on_its_own();
    pass::pass(exchange, route, request).await
}

/// Looks for all aboard where that is cheaper than a fetch, then fetches for them.
async fn take_lead(
    exchange: &mut Exchange,
    route: &Arc<ActiveRoute>,
    rules: &RouteCache,
    request: &mut Inbound,
    wanted: &mut Wanted,
    leader: Leader,
) -> Result<Lead, ProxyError> {
    let Wanted {
        keyed,
        errand,
        key,
        stale,
        unasked,
    } = wanted;
    // The flight before may have landed between the lookup and the boarding.
    if let Some(entry) = landed(exchange, rules, request, keyed) {
        leader.publish(Arc::clone(&entry), Grounds::Found(None));
        return Ok(Lead::Answered(serve::fresh(exchange, request, &entry)));
    }
    if std::mem::take(unasked)
        && let Some(found) = below::look(exchange, rules, request, keyed, stale).await
    {
        found.publish(leader);
        return Ok(Lead::Answered(found.answer(exchange, route, request, keyed)));
    }
    // So may it have crashed.
    let failures = &exchange.worker.state.cache.failures;
    if let Some(failed) = failures.recall_shared(key.primary()) {
        leader.fail(failed.error);
        return spared(exchange, rules, request, stale.as_ref(), failed).map(Lead::Answered);
    }
    let lease = match turn::wait(exchange, rules, request, keyed, stale).await {
        turn::Outcome::Found(found) => {
            found.publish(leader);
            return Ok(Lead::Answered(found.answer(exchange, route, request, keyed)));
        }
        turn::Outcome::Fetch(lease) => lease,
    };
    let task = Task {
        keyed,
        errand: *errand,
        flight: *key.primary(),
        stale: stale.clone(),
    };
    lead(exchange, route, request, task, Boarding { leader, lease }).await
}

fn next_step(
    state: &State,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    stale: Option<&Arc<Entry>>,
) -> AfterMiss {
    after_miss(&state.cache, rules, &request.lookup(keyed), stale.is_some())
}

/// The answer to a request that is spared a fetch which has just failed for others: a stale entry, or that failure.
fn spared(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    stale: Option<&Arc<Entry>>,
    failed: Failed,
) -> Result<Answer, ProxyError> {
    exchange.record.cache = CacheResult::Collapsed;
    let state = &exchange.worker.state;
    let control = request::control(rules, &request.head.headers);
    let now = state.clock.now();
    if let (Some(entry), Some(failure)) = (stale, failed.failure)
        && state.cache.may_stand_in(entry, &control, failure, now)
    {
        return Ok(serve::stale_if_error(exchange, request, entry, failure));
    }
    Err(ProxyError::Fill(failed.error))
}

/// Forgets that a key is uncacheable once an answer shows that it no longer is: the next request fills.
fn reconsider(exchange: &Exchange, rules: &RouteCache, request: &Inbound, keyed: &Keyed, answer: &Answer) {
    let now = exchange.worker.state.clock.now();
    let facts = RequestFacts {
        method: &request.head.method,
        headers: &request.head.headers,
        partitioned: keyed.partitioned,
        for_part: false,
    };
    let times = Times {
        requested: exchange.record.started,
        received: now,
    };
    if policy::may_store(rules, &facts, answer.status, &answer.headers, times).is_ok() {
        let hit_for_miss = &exchange.worker.state.cache.hit_for_miss;
        hit_for_miss.forget(keyed.key.primary());
    }
}

/// What whoever fetches has in hand.
struct Boarding {
    /// For the requests of this replica.
    leader: Leader,
    /// For those of the others.
    lease: Option<Lease>,
}

/// What became of leading a flight.
enum Lead {
    /// The answer did not come through the flight.
    Answered(Answer),
    /// It comes through the flight.
    Follow(Follower),
}

fn landed(exchange: &Exchange, rules: &RouteCache, request: &Inbound, keyed: &Keyed) -> Option<Arc<Entry>> {
    let state = &exchange.worker.state;
    match state
        .cache
        .answer_from(rules, &request.lookup(keyed), state.clock.now())
    {
        Lookup::Fresh(entry) | Lookup::Part(entry) => Some(entry),
        Lookup::Refresh(_) | Lookup::Miss { .. } => None,
    }
}

fn board(exchange: &Exchange, rules: &RouteCache, request: &Inbound, key: &Key) -> Ticket {
    let state = &exchange.worker.state;
    let asked = cache::engine::Request {
        key,
        method: &request.head.method,
        headers: &request.head.headers,
    };
    let now = state.clock.now();
    if rules.collapse != Collapse::Off {
        state.cache.board(&asked, now)
    } else {
        Ticket::Lead(state.cache.fly_alone(&asked, now))
    }
}

/// Starts the fill and waits until it is known how the answer comes.
async fn lead(
    exchange: &mut Exchange,
    route: &Arc<ActiveRoute>,
    request: &mut Inbound,
    task: Task<'_>,
    Boarding { leader, lease }: Boarding,
) -> Result<Lead, ProxyError> {
    let rules = route.config.cache.as_ref();
    let cancel = rules.is_some_and(|rules| rules.on_last_reader_gone == LastReaderGone::Cancel);
    let follower = leader.follow();
    let keyed = Arc::clone(task.keyed);
    let Some(mut fill) = prepare(exchange, route, request, task, cancel) else {
        // The body streams: it can be sent only once, and by this request itself.
        leader.decline();
        if let Some(lease) = lease {
            exchange.worker.tasks.spawn_to_end(lease.give_back());
        }
        return pass::pass(exchange, route, request).await.map(Lead::Answered);
    };
    fill.interims = InterimSender::open(&request.connection, request.head.version, &route.config);
    let (report, led) = oneshot::channel();
    let state = Arc::clone(&exchange.worker.state);
    exchange.worker.tasks.spawn_to_end(async move {
        let fill = fill.run(leader, Some(report));
        match lease {
            Some(lease) => Box::pin(turn::during(lease, &state.cache, &keyed.key, fill)).await,
            None => fill.await,
        }
    });
    let Ok(report) = led.await else {
        return Ok(Lead::Follow(follower));
    };
    exchange.record.attempts.extend(report.attempts);
    match report.outcome {
        Led::Through(response, reason) => {
            exchange.refused(reason);
            Ok(Lead::Answered(let_through(exchange, request, *response, reason)))
        }
        Led::Flight => Ok(Lead::Follow(follower)),
    }
}

/// An answer that is for this request alone. What it asked for the cache was not bound to its own preconditions.
fn let_through(
    exchange: &Exchange,
    request: &Inbound,
    response: Response<UpstreamBody>,
    reason: RefuseReason,
) -> Answer {
    let answer = pass::ready(exchange, response, Outcome::Refused(reason));
    let now = exchange.worker.state.clock.now();
    let asked = &request.head.headers;
    match conditional::evaluate(asked, answer.status, &answer.headers, now) {
        ConditionalAnswer::Full => answer,
        ConditionalAnswer::NotModified => {
            serve::not_modified(answer.headers).cache_status(answer.cache_status)
        }
    }
}
