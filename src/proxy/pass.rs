//! pass: forwards a request that the cache takes no part in, and streams both bodies.

use http::{HeaderMap, Request, Response};

use super::answer::Answer;
use super::body::Source;
use super::encoded::encode;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::{Outgoing, forward};
use super::headers;
use super::inbound::Inbound;
use super::interim::InterimSender;
use crate::cache::as_sent::key_headers;
use crate::cache::status::Outcome;
use crate::cache::verdict::RefuseReason;
use crate::cache::{groups, invalidate, query};
use crate::config::{QueryRule, Route};
use crate::control::state::ActiveRoute;
use crate::upstream::{ErrorKind, RequestBody, UpstreamBody};

/// Forwards the request and answers with what comes back.
pub(crate) async fn pass(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    request: &mut Inbound,
) -> Result<Answer, ProxyError> {
    ask(exchange, route, request, Outcome::Passed).await
}

/// Forwards a request that was looked up, and whose answer will not be stored, whatever it is.
pub(crate) async fn unstored(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    request: &mut Inbound,
    reason: RefuseReason,
) -> Result<Answer, ProxyError> {
    exchange.refused(reason);
    ask(exchange, route, request, Outcome::Refused(reason)).await
}

async fn ask(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    request: &mut Inbound,
    outcome: Outcome,
) -> Result<Answer, ProxyError> {
    let payload = request.take_body(exchange);
    let request = &*request;
    let interims = InterimSender::open(&request.connection, request.head.version, &route.config);
    let encoded = encode(route, request, &exchange.record.trace);
    let outgoing = Outgoing {
        make: &|body| match &encoded {
            Some(encoded) => with_fields(request, encoded.framing.clone(), body),
            None => outgoing(route, request, body),
        },
        encoded: encoded.as_ref().map_or(&[], |encoded| &encoded.lines),
        payload,
        kind: request.kind(),
        interims: interims.as_ref(),
    };
    let response = send(exchange, route, request, outgoing).await?;
    // What is left is done at once.
    exchange.record.first_byte = exchange.record.attempts.last().and_then(|last| last.first_byte);
    invalidate(exchange, route, request, &response);
    Ok(through(exchange, response, outcome))
}

/// The request for the upstream.
pub(crate) fn outgoing(
    route: &ActiveRoute,
    request: &Inbound,
    body: RequestBody,
) -> Box<Request<RequestBody>> {
    let fields = headers::to_upstream(
        &request.head.headers,
        &request.origin,
        request.connection.forwarded_peer(),
        request.head.version,
        &route.config.headers,
        || key_headers(route.config.cache.as_ref()),
    );
    with_fields(request, fields, body)
}

fn with_fields(request: &Inbound, fields: HeaderMap, body: RequestBody) -> Box<Request<RequestBody>> {
    let mut outgoing = Box::new(Request::new(body));
    *outgoing.method_mut() = request.head.method.clone();
    *outgoing.uri_mut() = request.head.uri.clone();
    *outgoing.version_mut() = request.head.version;
    *outgoing.headers_mut() = fields;
    outgoing
}

/// Sends `outgoing`; a failure of the client's own body is told from one of the upstream.
pub(crate) async fn send(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    request: &Inbound,
    outgoing: Outgoing<'_>,
) -> Result<Response<UpstreamBody>, ProxyError> {
    let hash_key = hash_key(route, request);
    let Exchange { worker, record, .. } = exchange;
    let result = forward(
        worker,
        route,
        &record.trace,
        &hash_key,
        outgoing,
        &mut record.attempts,
    )
    .await;
    result.map_err(|error| match request.fault() {
        Some(fault) => fault,
        None if error == ProxyError::Upstream(ErrorKind::RequestBody) => ProxyError::RequestBody,
        None => error,
    })
}

/// What consistent hashing hashes for this request; empty for selectors that hash nothing.
pub(crate) fn hash_key(route: &ActiveRoute, request: &Inbound) -> Vec<u8> {
    use crate::config::{Balance, HashOn};
    let Balance::Ketama(on) = &route.cluster.config().balance else {
        return Vec::new();
    };
    let headers = &request.head.headers;
    let value = match on {
        HashOn::Key => None,
        HashOn::Header(name) => headers.get(name).map(|value| value.as_bytes().to_vec()),
        HashOn::Cookie(name) => crate::cache::partition::cookie(headers, name).map(<[u8]>::to_vec),
        HashOn::ClientIp => Some(request.origin.client.ip().to_string().into_bytes()),
    };
    value.unwrap_or_else(|| format!("{} {}", request.head.method, request.head.uri).into_bytes())
}

/// The upstream's response as the client's.
pub(crate) fn through(exchange: &Exchange, response: Response<UpstreamBody>, outcome: Outcome) -> Answer {
    let (mut head, body) = response.into_parts();
    headers::from_upstream(&mut head.headers, head.version);
    ready(exchange, Response::from_parts(head, body), outcome)
}

/// A response whose header fields are the client's already.
pub(crate) fn ready(exchange: &Exchange, response: Response<UpstreamBody>, outcome: Outcome) -> Answer {
    let (head, body) = response.into_parts();
    let status = exchange.forwarded(Some(head.status), outcome);
    Answer::new(head.status, head.headers, Source::Upstream(Box::new(body))).cache_status(status)
}

/// Invalidates what is stored for the target of a successful unsafe request (RFC 9111, section 4.4), and in the groups
/// that its answer names (RFC 9875, section 3).
///
/// A method by which the route is cached only asks: a POST that could not be answered from the cache, because its
/// body is too large perhaps, has not changed what others were answered.
pub(crate) fn invalidate<B>(
    exchange: &Exchange,
    route: &ActiveRoute,
    request: &Inbound,
    response: &Response<B>,
) {
    let method = &request.head.method;
    let asks = route
        .config
        .cache
        .as_ref()
        .is_some_and(|rules| rules.methods.contains(method));
    if asks || !invalidate::invalidates(method, response.status()) {
        return;
    }
    let state = &exchange.worker.state;
    let authority = request.canonical_authority();
    let now = state.clock.now();
    let path = request.head.uri.path();
    let mut targets =
        invalidate::related_targets(request.origin.scheme, &authority, path, response.headers());
    targets.push(request.target().to_owned());
    let rules = || {
        exchange
            .snapshot
            .routes
            .iter()
            .filter_map(|route| query_rule(&route.config))
    };
    for group in groups::invalidated(response.headers()) {
        state.cache.invalidations.mark_group(&authority, &group, now);
    }
    for target in targets {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let named = query::join(&authority, path, None);
        let forms = query::forms(query, rules());
        for form in state.cache.searches.with_forms(&named, forms) {
            let mark = query::join(&authority, path, form.as_deref());
            state.cache.invalidations.mark(&mark, now);
        }
    }
}

fn query_rule(route: &Route) -> Option<&QueryRule> {
    route.cache.as_ref().map(|rules| &rules.vary.query)
}
