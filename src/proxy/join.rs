//! join: a request that waits for another's fill, and answers from it.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::body::Source;
use super::continued::Continued;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::serve;
use crate::cache::conditional::{self, ConditionalAnswer};
use crate::cache::engine::Lookup;
use crate::cache::entry::Entry;
use crate::cache::flight::{Boarded, Follower, Grounds, Head};
use crate::cache::request::{Keyed, control};
use crate::cache::status::Outcome;
use crate::cache::verdict::BypassReason;
use crate::config::{Route, RouteCache, Usage};
use crate::telemetry::record::{CacheResult, LevelId};

/// Longest wait for another request's fill to get its response head; then the request fetches on its own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of following one.
pub(super) enum Follow {
    /// The answer.
    Answered(Answer),
    /// The flight is of no use to this request: look for another.
    Again,
    /// No flight will be: fetch alone.
    Alone(BypassReason),
}

/// Waits for the flight and answers from it.
pub(super) async fn follow(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
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
        Boarded::Entry(entry, Grounds::Found(level)) => found(exchange, rules, request, keyed, entry, level),
        Boarded::Entry(entry, Grounds::Confirmed(status)) => {
            Follow::Answered(serve::revalidated(exchange, request, &entry, status))
        }
        Boarded::Entry(entry, Grounds::OriginFailed(failure)) => {
            Follow::Answered(serve::stale_if_error(exchange, request, &entry, failure))
        }
        Boarded::Streaming(head) if !head.nominated.matches(&request.head.headers) => Follow::Again,
        Boarded::Streaming(head) => Follow::Answered(from_flight(exchange, request, &head, follower)),
    })
}

/// The leader found `entry` somewhere: what it may do for the leader it need not do for this request.
fn found(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    entry: Arc<Entry>,
    level: Option<LevelId>,
) -> Follow {
    let (cache, now) = (&exchange.worker.state.cache, exchange.worker.state.clock.now());
    let digest = cache.home(&keyed.key, &entry);
    let lookup = cache.use_of(entry, &digest, &control(rules, &request.head.headers), now);
    exchange.record.level = level.or(exchange.record.level);
    match lookup {
        Lookup::Fresh(entry) => Follow::Answered(serve::fresh(exchange, request, &entry)),
        Lookup::Refresh(entry) => {
            Follow::Answered(serve::stale(exchange, request, &entry, "stale-while-revalidate"))
        }
        Lookup::Part(_) | Lookup::Miss { .. } => Follow::Again,
    }
}

/// How long this request waits for another's fill. Where tokens are counted, an answer takes long because it is thought
/// about, and is paid for by each who asks: there the wait ends with the fill's own.
pub(super) fn patience(route: Option<&Route>) -> Duration {
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
    let source = match Continued::new(exchange, request, head, follower.into_reader()) {
        Ok(body) => Source::Continued(body),
        Err(reader) => Source::Flight(reader),
    };
    Answer::new(head.status, headers, source).cache_status(value)
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
