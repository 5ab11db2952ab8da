//! Fills: how one is made from the request that causes it, and those that nobody waits for.

use std::sync::Arc;

use http::Method;
use tokio::task::JoinHandle;

use super::exchange::Exchange;
use super::fill::Fill;
use super::inbound::Inbound;
use super::{below, headers, pass};
use crate::cache::as_sent::key_headers;
use crate::cache::conditional;
use crate::cache::digest::KeyDigest;
use crate::cache::entry::Entry;
use crate::cache::flight::{Leader, Ticket};
use crate::cache::refresh_ahead::is_due;
use crate::cache::request::{Errand, Keyed};
use crate::control::state::ActiveRoute;

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
    let key = keyed.key.primary();
    if !writes || state.cache.hit_for_miss.recalls(key) || state.cache.failures.recall(key).is_some() {
        return None;
    }
    let Ticket::Lead(leader) = state.cache.board(&request.lookup(keyed), state.clock.now()) else {
        return None;
    };
    let keyed = Arc::new(Keyed {
        key: keyed.key.clone(),
        partitioned: keyed.partitioned,
        tenant: keyed.tenant,
        principal: keyed.principal,
    });
    let task = Task {
        keyed: &keyed,
        errand: Errand::Whole,
        flight: *keyed.key.primary(),
        stale: Some(Arc::clone(entry)),
    };
    let fill = prepare(exchange, route, request, task, false)?;
    Some((fill, leader))
}

/// What a fill is for.
pub(crate) struct Task<'a> {
    /// The response.
    pub(crate) keyed: &'a Arc<Keyed>,
    /// What is fetched of it.
    pub(crate) errand: Errand,
    /// The key that requests on the same errand share.
    pub(crate) flight: KeyDigest,
    /// What is validated.
    pub(crate) stale: Option<Arc<Entry>>,
}

/// A fill for this request; none when its body cannot be sent by somebody else.
pub(crate) fn prepare(
    exchange: &Exchange,
    route: &Arc<ActiveRoute>,
    request: &Inbound,
    task: Task<'_>,
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
    let asked = &request.head.method;
    let method = match task.errand {
        // A refresh behind the back of a HEAD.
        Errand::Whole if *asked == Method::HEAD => Method::GET,
        _ => asked.clone(),
    };
    match (task.errand, &task.stale) {
        (Errand::Part, _) => conditional::make_ranged(&mut fields),
        // A method other than GET and HEAD is not safe to validate by: it is asked anew.
        (_, Some(entry)) if matches!(method, Method::GET | Method::HEAD) => {
            conditional::make_validation(&mut fields, &entry.headers());
        }
        _ => conditional::make_unconditional(&mut fields),
    }
    Some(Fill {
        worker: Arc::clone(&exchange.worker),
        route: Arc::clone(route),
        keyed: Arc::clone(task.keyed),
        errand: task.errand,
        flight: task.flight,
        method,
        uri: request.head.uri.clone(),
        version: request.head.version,
        asked: request.head.headers.clone(),
        headers: fields,
        body,
        kind: request.kind(),
        stale: task.stale,
        cancel,
        interims: None,
        trace: exchange.record.trace,
        hash_key: pass::hash_key(route, request),
        moment: exchange.worker.state.cache.purges.moment(),
    })
}
