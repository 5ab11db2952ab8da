//! join and fill: what happens after a miss, from the side of the request that missed.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::body::Source;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::fill::Led;
use super::inbound::Inbound;
use super::interim::InterimSender;
use super::refresh::{Task, prepare};
use super::{pass, serve};
use crate::cache;
use crate::cache::age::Times;
use crate::cache::conditional::{self, ConditionalAnswer};
use crate::cache::engine::Lookup;
use crate::cache::entry::Entry;
use crate::cache::failures::Failed;
use crate::cache::flight::{Boarded, Follower, Grounds, Head, Leader, Ticket};
use crate::cache::key::Key;
use crate::cache::policy::{self, RequestFacts};
use crate::cache::request::{self, AfterMiss, Keyed, after_miss};
use crate::cache::status::Outcome;
use crate::cache::verdict::{BypassReason, RefuseReason};
use crate::config::{LastReaderGone, Route, RouteCache, Usage};
use crate::control::state::ActiveRoute;
use crate::telemetry::record::CacheResult;
use crate::upstream::UpstreamBody;

/// Longest wait for another request's fill to get its response head; then the request fetches on its own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request takes part in a flight that is lost before it fetches on its own.
const BOARDINGS: usize = 3;

/// Gets the response for a request that nothing stored can answer.
pub(crate) async fn fetch(
    exchange: &mut Exchange,
    route: &Arc<ActiveRoute>,
    request: &mut Inbound,
    keyed: Keyed,
    stale: Option<Arc<Entry>>,
) -> Result<Answer, ProxyError> {
    let Some(rules) = &route.config.cache else {
        return pass::pass(exchange, route, request).await;
    };
    let errand = match after_miss(
        &exchange.worker.state.cache,
        rules,
        &request.lookup(&keyed),
        stale.is_some(),
    ) {
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
        && stale.is_none()
        && exchange.worker.state.cache.count_use(&keyed.key) < rules.min_uses
    {
        return pass::unstored(exchange, route, request, RefuseReason::MinUses).await;
    }
    let keyed = Arc::new(keyed);
    let key = errand.key(&keyed.key, &request.head.headers).into_owned();
    let deadline = Instant::now() + patience(Some(&route.config));
    for _ in 0..BOARDINGS {
        let follower = match board(exchange, rules, request, &key) {
            Ticket::Lead(leader) => {
                exchange.on_its_own();
                // The flight before may have landed between the lookup and the boarding.
                if let Some(entry) = landed(exchange, rules, request, &keyed) {
                    leader.publish(Arc::clone(&entry), Grounds::Stored);
                    return Ok(serve::fresh(exchange, request, &entry));
                }
                // So may it have crashed.
                let failures = &exchange.worker.state.cache.failures;
                if let Some(failed) = failures.recall_shared(key.primary()) {
                    leader.fail(failed.error);
                    return spared(exchange, rules, request, stale.as_ref(), failed);
                }
                let task = Task {
                    keyed: &keyed,
                    errand,
                    flight: *key.primary(),
                    stale: stale.clone(),
                };
                match lead(exchange, route, request, task, leader).await? {
                    Lead::Answered(answer) => return Ok(answer),
                    Lead::Follow(follower) => follower,
                }
            }
            Ticket::Follow(follower) => {
                exchange.record.cache = CacheResult::Collapsed;
                follower
            }
        };
        match follow(exchange, request, follower, deadline).await? {
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

/// What became of leading a flight.
enum Lead {
    /// The answer did not come through the flight.
    Answered(Answer),
    /// It comes through the flight.
    Follow(Follower),
}

/// What became of following one.
enum Follow {
    /// The answer.
    Answered(Answer),
    /// The flight is of no use to this request: look for another.
    Again,
    /// No flight will be: fetch alone.
    Alone(BypassReason),
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
    if rules.collapse {
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
    leader: Leader,
) -> Result<Lead, ProxyError> {
    let rules = route.config.cache.as_ref();
    let cancel = rules.is_some_and(|rules| rules.on_last_reader_gone == LastReaderGone::Cancel);
    let follower = leader.follow();
    let Some(mut fill) = prepare(exchange, route, request, task, cancel) else {
        // The body streams: it can be sent only once, and by this request itself.
        leader.decline();
        return pass::pass(exchange, route, request).await.map(Lead::Answered);
    };
    fill.interims = InterimSender::open(&request.connection, request.head.version, &route.config);
    let (report, led) = oneshot::channel();
    exchange.worker.tasks.spawn_to_end(fill.run(leader, Some(report)));
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

/// Waits for the flight and answers from it.
async fn follow(
    exchange: &mut Exchange,
    request: &Inbound,
    mut follower: Follower,
    deadline: Instant,
) -> Result<Follow, ProxyError> {
    let boarded = match exchange.record.cache {
        CacheResult::Collapsed => match timeout_at(deadline, follower.boarded()).await {
            Ok(boarded) => boarded,
            Err(_elapsed) => return Ok(Follow::Alone(BypassReason::LockTimeout)),
        },
        // The leader's own client waits as long as the upstream may take.
        _ => follower.boarded().await,
    };
    Ok(match boarded {
        Boarded::Declined => Follow::Alone(BypassReason::HitForMiss),
        Boarded::Lost => Follow::Again,
        Boarded::Failed(error) => return Err(ProxyError::Fill(error)),
        // The leader's request had other values of the headers that the response varies on.
        Boarded::Entry(entry, _) if !entry.nominated().matches(&request.head.headers) => Follow::Again,
        Boarded::Entry(entry, grounds) => Follow::Answered(match grounds {
            Grounds::Confirmed(status) => serve::revalidated(exchange, request, &entry, status),
            Grounds::OriginFailed(failure) => serve::stale_if_error(exchange, request, &entry, failure),
            Grounds::Stored => serve::fresh(exchange, request, &entry),
        }),
        Boarded::Streaming(head) if !head.nominated.matches(&request.head.headers) => Follow::Again,
        Boarded::Streaming(head) => Follow::Answered(from_flight(exchange, request, &head, follower)),
    })
}

/// How long this request waits for another's fill. Where tokens are counted, an answer takes long because it is thought
/// about, and is paid for by each who asks: there the wait ends with the fill's own.
fn patience(route: Option<&Route>) -> Duration {
    let counts = route.filter(|route| route.usage != Usage::Off);
    counts.map_or(LOCK_TIMEOUT, |route| LOCK_TIMEOUT.max(route.timeouts.first_byte))
}

fn from_flight(exchange: &mut Exchange, request: &Inbound, head: &Arc<Head>, follower: Follower) -> Answer {
    exchange.aboard(head);
    let value = exchange.forwarded(Some(head.status), Outcome::Stored);
    let headers = head.headers.clone();
    let now = exchange.worker.state.clock.now();
    let answer = conditional::evaluate(&request.head.headers, head.status, &headers, now);
    if answer == ConditionalAnswer::NotModified {
        see_through(exchange, follower);
        return serve::not_modified(headers).cache_status(value);
    }
    Answer::new(head.status, headers, Source::Flight(follower.into_reader())).cache_status(value)
}

/// Stays aboard in place of a client that needs no body, as long as the response may still be stored: the client has
/// not gone, so the fill must not be cancelled as if it had.
fn see_through(exchange: &Exchange, follower: Follower) {
    let rules = exchange
        .route
        .as_ref()
        .and_then(|route| route.config.cache.as_ref());
    let mut left = rules.map_or(0, |rules| rules.max_object);
    let mut reader = follower.into_reader();
    exchange.worker.tasks.spawn_to_end(async move {
        while let Some(Ok(frame)) = reader.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            match left.checked_sub(length as u64) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    #[test]
    fn where_tokens_are_counted_a_fill_is_waited_for_as_long_as_it_may_take() {
        let text = "
listeners: [{name: http, bind: 127.0.0.1:0}]
upstreams: {hub: {endpoints: [{address: 'hub:80'}], timeouts: {first_byte: 90s}}}
routes:
  - {name: plain, match: {path: /a}, upstream: hub}
  - {name: chat, match: {path: /b}, upstream: hub, usage: openai}
  - {name: quick, match: {path: /c}, upstream: hub, usage: openai, timeouts: {first_byte: 1s}}
";
        let environment = Environment {
            vars: Box::new(|_| None),
            memory_bytes: 1 << 30,
            cpus: 1,
        };
        let loaded = config::parse("test", text, ".".as_ref(), &environment).unwrap();
        let found: Vec<u64> = loaded
            .config
            .routes
            .iter()
            .map(|route| patience(Some(route)).as_secs())
            .collect();
        assert_eq!(found, [5, 90, 5]);
        assert_eq!(patience(None), LOCK_TIMEOUT);
    }
}
