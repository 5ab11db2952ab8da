//! fill: what happens after a miss, from the side of the request that missed.

use std::sync::Arc;

use http::Method;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::fill::{Fill, Led};
use super::inbound::Inbound;
use super::interim::InterimSender;
use super::join::{Follow, follow};
use super::{below, headers, pass, serve, turn};
use crate::cache::age::Times;
use crate::cache::as_sent::key_headers;
use crate::cache::conditional;
use crate::cache::engine::Lookup;
use crate::cache::entry::Entry;
use crate::cache::flight::{Follower, Grounds, Leader, Ticket};
use crate::cache::policy::{self, RequestFacts};
use crate::cache::refresh_ahead::is_due;
use crate::cache::replication::Lease;
use crate::cache::request::{AfterMiss, Keyed, after_miss};
use crate::cache::status::Outcome;
use crate::cache::verdict::RefuseReason;
use crate::config::{Collapse, LastReaderGone, RouteCache};
use crate::control::state::{ActiveRoute, State};
use crate::telemetry::record::CacheResult;

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
    let fills = next == AfterMiss::Fill && (rules.min_uses == 1 || stale.is_some());
    // Who does not lead a flight looks below now; who does looks there for everybody aboard.
    if unasked && !fills && !matches!(next, AfterMiss::Bypass(_)) {
        if let Some(found) = below::look(exchange, rules, request, &keyed, &mut stale).await {
            return Ok(found.answer(exchange, route, request, &keyed));
        }
        unasked = false;
        next = next_step(&state, rules, request, &keyed, stale.as_ref());
    }
    match next {
        AfterMiss::Fill => {}
        AfterMiss::Pass(_) => return pass::pass(exchange, route, request).await,
        AfterMiss::Refuse => return Err(ProxyError::OnlyIfCached),
        AfterMiss::Bypass(reason) => {
            exchange.bypassed(reason);
            let answer = pass::pass(exchange, route, request).await?;
            reconsider(exchange, rules, request, &keyed, &answer);
            return Ok(answer);
        }
    }
    // What was stored once had been asked for often enough.
    if rules.min_uses > 1
        && !request.warm_up
        && stale.is_none()
        && state.cache.count_use(&keyed.key) < rules.min_uses
    {
        return pass::unstored(exchange, route, request, RefuseReason::MinUses).await;
    }
    let keyed = Arc::new(keyed);
    for _ in 0..BOARDINGS {
        let follower = match board(exchange, rules, request, &keyed) {
            Ticket::Lead(leader) => {
                exchange.on_its_own();
                // The flight before may have landed between the lookup and the boarding.
                if let Some(entry) = landed(exchange, rules, request, &keyed) {
                    leader.publish(Arc::clone(&entry), Grounds::Found(None));
                    return Ok(serve::fresh(exchange, request, &entry));
                }
                if std::mem::take(&mut unasked)
                    && let Some(found) = below::look(exchange, rules, request, &keyed, &mut stale).await
                {
                    found.publish(leader);
                    return Ok(found.answer(exchange, route, request, &keyed));
                }
                let lease = match turn::wait(exchange, rules, request, &keyed, &mut stale).await {
                    turn::Outcome::Found(found) => {
                        found.publish(leader);
                        return Ok(found.answer(exchange, route, request, &keyed));
                    }
                    turn::Outcome::Fetch(lease) => lease,
                };
                let boarding = Boarding { leader, lease };
                match lead(exchange, route, request, &keyed, stale.clone(), boarding).await? {
                    Lead::Answered(answer) => return Ok(answer),
                    Lead::Follow(follower) => follower,
                }
            }
            Ticket::Follow(follower) => {
                exchange.record.cache = CacheResult::Collapsed;
                follower
            }
        };
        match follow(exchange, rules, request, &keyed, follower).await? {
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

fn next_step(
    state: &State,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    stale: Option<&Arc<Entry>>,
) -> AfterMiss {
    let (method, asked) = (&request.head.method, request.lookup(keyed));
    after_miss(&state.cache, rules, method, &asked, stale.is_some())
}

/// Forgets that a key is uncacheable once an answer shows that it no longer is: the next request fills.
fn reconsider(exchange: &Exchange, rules: &RouteCache, request: &Inbound, keyed: &Keyed, answer: &Answer) {
    let now = exchange.worker.state.clock.now();
    let facts = RequestFacts {
        method: &request.head.method,
        headers: &request.head.headers,
        partitioned: keyed.partitioned,
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
        Lookup::Fresh(entry) => Some(entry),
        Lookup::Refresh(_) | Lookup::Miss { .. } => None,
    }
}

/// Validates `entry`, which is still fresh, without anybody waiting for it, if this request is the one to do so.
pub(crate) fn refresh_ahead(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &mut Inbound,
    keyed: &Keyed,
    entry: &Arc<Entry>,
    beta: f64,
) {
    let (now, random) = (exchange.record.started, exchange.worker.ids.uniform());
    if is_due(entry.life(), entry.fetch_time(), beta, now, random) {
        renew(exchange, route, request, keyed, entry);
    }
}

/// Validates `entry`, which is stale, without a client waiting for it; none if somebody else does, or nobody may.
pub(crate) fn refresh_behind(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &Inbound,
    keyed: &Keyed,
    entry: &Arc<Entry>,
) -> Option<JoinHandle<()>> {
    let (fill, leader) = behind(exchange, route, request, keyed, entry)?;
    let tasks = &exchange.worker.tasks;
    Some(tasks.spawn_to_end(below::fill_unless_found(fill, leader)))
}

/// The same for an entry that is still fresh.
pub(crate) fn renew(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &Inbound,
    keyed: &Keyed,
    entry: &Arc<Entry>,
) -> Option<JoinHandle<()>> {
    let (fill, leader) = behind(exchange, route, request, keyed, entry)?;
    Some(exchange.worker.tasks.spawn_to_end(fill.run(leader, None)))
}

/// A fill that validates `entry` for nobody in particular; none if it may not be, or if somebody does so already.
fn behind(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &Inbound,
    keyed: &Keyed,
    entry: &Arc<Entry>,
) -> Option<(Fill, Leader)> {
    let state = &exchange.worker.state;
    let writes = route.config.cache.as_ref().is_some_and(|rules| rules.write);
    if !writes || state.cache.hit_for_miss.recalls(keyed.key.primary()) {
        return None;
    }
    let Ticket::Lead(leader) = state.cache.board(&request.lookup(keyed), state.clock.now()) else {
        return None;
    };
    let keyed = Arc::new(Keyed {
        key: keyed.key.clone(),
        partitioned: keyed.partitioned,
        tenant: keyed.tenant,
    });
    let fill = prepare(exchange, route, request, &keyed, Some(Arc::clone(entry)), false)?;
    Some((fill, leader))
}

fn board(exchange: &Exchange, rules: &RouteCache, request: &Inbound, keyed: &Keyed) -> Ticket {
    let state = &exchange.worker.state;
    let (asked, now) = (request.lookup(keyed), state.clock.now());
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
    keyed: &Arc<Keyed>,
    stale: Option<Arc<Entry>>,
    Boarding { leader, lease }: Boarding,
) -> Result<Lead, ProxyError> {
    let rules = route.config.cache.as_ref();
    let cancel = rules.is_some_and(|rules| rules.on_last_reader_gone == LastReaderGone::Cancel);
    let follower = leader.follow();
    let Some(mut fill) = prepare(exchange, route, request, keyed, stale, cancel) else {
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
    let keyed = Arc::clone(keyed);
    exchange.worker.tasks.spawn_to_end(async move {
        let fill = fill.run(leader, Some(report));
        match lease {
            Some(lease) => turn::during(lease, &state.cache, &keyed.key, fill).await,
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
            Ok(Lead::Answered(pass::ready(
                exchange,
                *response,
                Outcome::Refused(reason),
            )))
        }
        Led::Flight => Ok(Lead::Follow(follower)),
    }
}

/// A fill for this request; none when its body cannot be sent by somebody else.
fn prepare(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &Inbound,
    keyed: &Arc<Keyed>,
    stale: Option<Arc<Entry>>,
    cancel: bool,
) -> Option<Fill> {
    let body = request.replayable()?;
    let rules = route.config.cache.as_ref()?;
    let mut fields = headers::to_upstream(
        &request.head.headers,
        &request.origin,
        request.connection.forwarded_peer(),
        request.head.version,
        &route.config.headers,
        || key_headers(Some(rules)),
    );
    let method = if request.head.method == Method::HEAD {
        Method::GET
    } else {
        request.head.method.clone()
    };
    conditional::make_unconditional(&mut fields);
    // A method other than GET is not safe to validate by: it is asked anew.
    if let Some(entry) = stale.as_ref().filter(|_| method == Method::GET) {
        conditional::make_validation(&mut fields, &entry.headers());
    }
    Some(Fill {
        worker: Arc::clone(&exchange.worker),
        route: Arc::clone(route),
        keyed: Arc::clone(keyed),
        method,
        uri: request.head.uri.clone(),
        version: request.head.version,
        asked: request.head.headers.clone(),
        headers: fields,
        body,
        kind: request.kind(),
        stale,
        cancel,
        interims: None,
        trace: exchange.record.trace,
        hash_key: pass::hash_key(route, request),
        moment: exchange.worker.state.cache.purges.moment(),
    })
}
