//! The spine: the life of a request, one call per step.
//!
//! ```text
//! accept -> parse -> admit -> route -> identify -> key -> lookup -+-> serve (hit)
//!                                                                 +-> join  (a flight exists)
//!                                                                 +-> fill  (lead a flight)
//!                                                                 +-> pass
//! respond -> record
//! ```
//!
//! Invariant: a request leaves through `respond` exactly once, or is dropped with its connection; either way its
//! exchange is recorded exactly once.

use std::sync::Arc;

use super::tracked::InboundBody;
use http::Response;
use http::request::Parts;

use super::answer::{Answer, respond};
use super::connection::{ConnectionState, Handler};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::wire::Malformed;
use super::worker::Worker;
use super::{body, fetch, pass, refresh, serve, upgrade, warm};
use crate::cache::engine::Lookup;
use crate::cache::partition::{Partition, counted_as};
use crate::cache::request::{Keyed, wants_upgrade};
use crate::cache::verdict::BypassReason;
use crate::config::RouteCache;
use crate::control::state::ActiveRoute;
use crate::telemetry::Event;

/// Handles the requests of one worker's connections.
#[derive(Clone)]
pub struct Proxy {
    worker: Arc<Worker>,
}

impl Proxy {
    /// A handler on `worker`.
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }
}

impl Handler for Proxy {
    type Body = body::Body;

    async fn handle(
        &self,
        connection: Arc<ConnectionState>,
        head: Box<Parts>,
        body: InboundBody,
        rejected: Option<Malformed>,
    ) -> Response<body::Body> {
        let mut inbound = Inbound::new(&connection, head, body);
        let mut exchange = Exchange::begin(&self.worker, &inbound);
        let answer = match answer(&mut exchange, &mut inbound, rejected).await {
            Ok(answer) => answer,
            Err(error) => Answer::failure(&mut exchange, &error),
        };
        respond(exchange, answer)
    }
}

/// The steps before the answer is on its way.
///
/// What asks the upstream is boxed: its future is large, and without the boxes it would be part of the future of every
/// hit, which the server moves before it runs.
async fn answer(
    exchange: &mut Exchange,
    request: &mut Inbound,
    rejected: Option<Malformed>,
) -> Result<Answer, ProxyError> {
    admit(exchange, request, rejected)?;
    let route = route(exchange, request)?;
    if wants_upgrade(&request.head.headers) {
        exchange.bypassed(BypassReason::Upgrade);
        return Box::pin(upgrade::tunnel(exchange, &route, request)).await;
    }
    let (rules, keyed) = match request.key(exchange, &route).await? {
        Ok(found) => {
            exchange.record.principal = found.1.principal;
            found
        }
        Err(reason) => {
            exchange.record.principal = counted_as(Partition::None, &request.head.headers);
            exchange.bypassed(reason);
            return Box::pin(pass::pass(exchange, &route, request)).await;
        }
    };
    match lookup(exchange, rules, request, &keyed) {
        Lookup::Fresh(entry) => {
            warm::learn(exchange, &route, rules, request, keyed.key.primary());
            if let Some(beta) = rules.refresh_ahead {
                refresh::refresh_ahead(exchange, &route, request, &keyed, &entry, beta);
            }
            Ok(serve::fresh(exchange, request, &entry))
        }
        Lookup::Part(entry) => Ok(serve::fresh(exchange, request, &entry)),
        Lookup::Refresh(entry) => {
            warm::learn(exchange, &route, rules, request, keyed.key.primary());
            refresh::refresh_behind(exchange, &route, request, &keyed, &entry);
            Ok(serve::stale(exchange, request, &entry, "stale-while-revalidate"))
        }
        Lookup::Miss { reason, stale } => {
            exchange.missed(reason);
            let key = *keyed.key.primary();
            let answer = Box::pin(fetch::fetch(exchange, &route, request, keyed, stale)).await?;
            if exchange.record.stored {
                warm::learn(exchange, &route, rules, request, &key);
            }
            Ok(answer)
        }
    }
}

/// Refuses what is malformed or too large, before anything else looks at it.
fn admit(exchange: &Exchange, request: &Inbound, rejected: Option<Malformed>) -> Result<(), ProxyError> {
    match rejected {
        Some(reason) => Err(ProxyError::Malformed(reason)),
        None if request.declared_length() > request.max_body() => Err(ProxyError::BodyTooLarge),
        None => Ok(()),
    }
    .inspect_err(|error| {
        exchange
            .worker
            .state
            .telemetry
            .emit(Event::RequestRefused { reason: error.kind() })
    })
}

/// Finds the route.
pub(super) fn route(exchange: &mut Exchange, request: &Inbound) -> Result<Arc<ActiveRoute>, ProxyError> {
    let head = &request.head;
    let authority = request.authority.to_str().unwrap_or_default();
    let route = exchange
        .snapshot
        .route_of(authority, head.uri.path(), &head.method, &head.headers)
        .ok_or(ProxyError::NoRoute)?;
    exchange.route = Some(Arc::clone(route));
    Ok(Arc::clone(route))
}

/// Asks the levels.
fn lookup(exchange: &mut Exchange, rules: &RouteCache, request: &Inbound, keyed: &Keyed) -> Lookup {
    exchange.record.level = exchange.worker.state.first_level;
    let state = &exchange.worker.state;
    state
        .cache
        .answer_from(rules, &request.lookup(keyed), exchange.record.started)
}
