//! Warm-up: a request without a client takes the steps of a client's, so that what it stores is what a client would
//! find; and what clients ask for is learned from.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use http::header::USER_AGENT;
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::body::Source;
use super::connection::ConnectionState;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::worker::Worker;
use super::{fetch, handler, refresh};
use crate::cache::digest::KeyDigest;
use crate::cache::engine::Lookup;
use crate::cache::entry::Entry;
use crate::cache::request::{AfterMiss, Keyed, after_miss, wants_upgrade};
use crate::cache::status::LastValue;
use crate::cache::verdict::BypassReason;
use crate::cache::warm::learner::Use;
use crate::cache::warm::{Outcome, Wanted, Warmer};
use crate::clock::{CoarseClock, Timestamp};
use crate::config::RouteCache;
use crate::control::state::{ActiveRoute, State};
use crate::tasks::Tasks;
use crate::telemetry::record::CacheResult;
use crate::telemetry::trace::IdSource;
use crate::upstream::WorkerPool;

/// How the origin can tell a warm-up.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("outrigger/", env!("CARGO_PKG_VERSION"), " (warm-up)"));

/// Where requests without a client seem to come from.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A worker without listeners, on the runtime that it is made in: warming up takes nothing from the threads of clients.
pub struct WarmUps {
    worker: Arc<Worker>,
}

impl WarmUps {
    /// Its connections and fills are tasks in `tasks`. Must be called inside the control runtime.
    pub fn new(state: &Arc<State>, tasks: &Tasks) -> Self {
        let worker = Worker {
            pool: WorkerPool::new(tasks, state.clock.clone()),
            tasks: tasks.clone(),
            ids: IdSource::new(),
            cache_status: LastValue::default(),
            state: Arc::clone(state),
        };
        Self {
            worker: Arc::new(worker),
        }
    }
}

#[async_trait]
impl Warmer for WarmUps {
    async fn warm(&self, wanted: &Wanted, needed: Duration) -> Outcome {
        let state = &self.worker.state;
        let Some(listener) = state.snapshot.load().config.listeners.first().cloned() else {
            return Outcome::Skipped("no-listener");
        };
        let clock = CoarseClock::new(&state.clock);
        let connection = Arc::new(ConnectionState::new(NOWHERE, listener, clock));
        let mut request = Inbound::warm_up(&connection, wanted);
        request.head.headers.entry(USER_AGENT).or_insert(AGENT);
        let mut exchange = Exchange::begin(&self.worker, &request);
        let outcome = match warm(&mut exchange, &mut request, needed).await {
            Ok(outcome) => outcome,
            Err(error) => {
                exchange.failed(&error);
                match error {
                    ProxyError::NoRoute => Outcome::Skipped(error.kind()),
                    error => Outcome::Failed(error.kind()),
                }
            }
        };
        exchange.complete();
        outcome
    }
}

/// The steps of a client's request, but for the answer.
async fn warm(
    exchange: &mut Exchange,
    request: &mut Inbound,
    needed: Duration,
) -> Result<Outcome, ProxyError> {
    let route = handler::route(exchange, request)?;
    if wants_upgrade(&request.head.headers) {
        exchange.bypassed(BypassReason::Upgrade);
        return Ok(Outcome::Skipped(BypassReason::Upgrade.as_str()));
    }
    let (rules, keyed) = match request.key(exchange, &route).await? {
        Ok(found) => found,
        Err(reason) => {
            exchange.bypassed(reason);
            return Ok(Outcome::Skipped(reason.as_str()));
        }
    };
    let state = &exchange.worker.state;
    // Not as a use: nobody has asked for it.
    match state
        .cache
        .would_answer_from(rules, &request.lookup(&keyed), exchange.record.started)
    {
        Lookup::Fresh(entry) if lasts(&entry, exchange.record.started, needed) => {
            exchange.record.cache = CacheResult::Hit;
            exchange.record.reason = "fresh";
            Ok(Outcome::Fresh)
        }
        Lookup::Fresh(entry) => {
            let filling = refresh::renew(exchange, &route, request, &keyed, &entry);
            Ok(refreshed(exchange, rules, request, &keyed, &entry, filling).await)
        }
        Lookup::Refresh(entry) => {
            let filling = refresh::refresh_behind(exchange, &route, request, &keyed, &entry);
            Ok(refreshed(exchange, rules, request, &keyed, &entry, filling).await)
        }
        // A warm-up asks for the whole.
        Lookup::Part(_) => Ok(Outcome::Skipped("range")),
        Lookup::Miss { reason, stale } => {
            exchange.missed(reason);
            let cache = &exchange.worker.state.cache;
            match after_miss(cache, rules, &request.lookup(&keyed), stale.is_some()) {
                AfterMiss::Fill(_) => {}
                AfterMiss::BackOff(failed) => return Ok(Outcome::Failed(failed.error.kind)),
                AfterMiss::Pass(reason) => return Ok(Outcome::Skipped(reason.as_str())),
                AfterMiss::Bypass(reason) => return Ok(Outcome::Skipped(reason.as_str())),
                AfterMiss::Refuse => return Ok(Outcome::Skipped("only-if-cached")),
            }
            let answer = Box::pin(fetch::fetch(exchange, &route, request, keyed, stale)).await?;
            Ok(read(exchange, answer).await)
        }
    }
}

/// Whether an entry stays fresh for so long.
fn lasts(entry: &Entry, now: Timestamp, needed: Duration) -> bool {
    entry.life().fresh_until() >= now.plus(needed)
}

/// Waits until an entry that is there but will not last has been validated.
async fn refreshed(
    exchange: &mut Exchange,
    rules: &RouteCache,
    request: &Inbound,
    keyed: &Keyed,
    entry: &Arc<Entry>,
    filling: Option<JoinHandle<()>>,
) -> Outcome {
    exchange.record.cache = CacheResult::Stale;
    exchange.record.reason = "refresh";
    let Some(filling) = filling else {
        // Somebody else does, or it may not be stored any more.
        return Outcome::Fresh;
    };
    if filling.await.is_err() {
        return Outcome::Failed("internal");
    }
    let state = &exchange.worker.state;
    match state
        .cache
        .would_answer_from(rules, &request.lookup(keyed), state.clock.now())
    {
        Lookup::Fresh(now) if !Arc::ptr_eq(&now, entry) => {
            exchange.record.cache = CacheResult::Revalidated;
            exchange.record.stored = true;
            Outcome::Fetched
        }
        _ => Outcome::Failed("not-refreshed"),
    }
}

/// Reads an answer to its end, as a client would, so that its fill is not given up; one that is not stored is let go.
async fn read(exchange: &mut Exchange, answer: Answer) -> Outcome {
    exchange.record.status = answer.status.as_u16();
    let failed = answer.status.is_server_error();
    match answer.source {
        Source::Flight(mut reader) => {
            while let Some(frame) = reader.frame().await {
                match frame {
                    Ok(frame) => {
                        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
                        exchange.record.bytes_out += length as u64;
                    }
                    Err(error) => return Outcome::Failed(error.kind),
                }
            }
            match exchange.record.cache {
                CacheResult::Collapsed => Outcome::Fresh,
                _ => Outcome::Fetched,
            }
        }
        Source::Empty | Source::Full(_) | Source::Replay(_) | Source::Pieces(_) => {
            match exchange.record.cache {
                CacheResult::Hit | CacheResult::Collapsed => Outcome::Fresh,
                CacheResult::Revalidated => Outcome::Fetched,
                _ => Outcome::Failed(exchange.record.reason),
            }
        }
        Source::Upstream(_) if failed => Outcome::Failed("status"),
        Source::Upstream(_) | Source::Continued(_) => Outcome::Skipped(exchange.record.reason),
    }
}

/// Learns from a client's request that the cache has answered or whose answer is being stored.
pub(super) fn learn(
    exchange: &Exchange,
    route: &ActiveRoute,
    rules: &RouteCache,
    request: &Inbound,
    key: &KeyDigest,
) {
    exchange.worker.state.learner.learn(&Use {
        route: &route.config,
        rules,
        key,
        method: &request.head.method,
        scheme: request.origin.scheme,
        authority: &request.authority,
        uri: &request.head.uri,
        headers: &request.head.headers,
        client: request.origin.client.ip(),
        at: exchange.record.started,
    });
}
