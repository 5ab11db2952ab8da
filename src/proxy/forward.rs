//! balance -> connect -> forward: gets one answer from an upstream, on another endpoint if the first cannot be
//! reached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt, Empty, Full};

use super::error::ProxyError;
use super::interim::InterimSender;
use super::worker::Worker;
use crate::clock::Timestamp;
use crate::control::state::ActiveRoute;
use crate::telemetry::record::{Attempt, TraceContext};
use crate::upstream::{Cluster, Endpoint, ErrorKind, ExchangeKind, Manner, RequestBody, UpstreamBody};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request for an upstream.
pub(crate) struct Outgoing<'a> {
    /// Makes the request around its body, for each time that it is sent.
    pub(crate) make: &'a (dyn Fn(RequestBody) -> Box<Request<RequestBody>> + Sync),
    /// Its header fields as HTTP/1.1 writes them, for a cluster that [speaks it](Cluster::is_http1); empty when they are
    /// in the head.
    pub(crate) encoded: &'a [u8],
    /// Its body.
    pub(crate) payload: Payload,
    /// What the exchange needs from its connection.
    pub(crate) kind: ExchangeKind,
    /// Where interim responses go.
    pub(crate) interims: Option<&'a InterimSender>,
}

/// The body of a request for an upstream.
pub(crate) enum Payload {
    /// In memory: it can be sent again.
    Whole(Bytes),
    /// As it comes from the client.
    Stream(RequestBody),
}

/// Sends a request to an endpoint of the route's upstream and waits for the response head.
///
/// A request of which nothing was sent goes to another endpoint, as often as the upstream allows. One that was
/// sent on a connection which the endpoint closed at the same moment is repeated once, if it is idempotent and its
/// body is in memory (RFC 9112, section 9.3.1). Every try is added to `attempts`.
pub(crate) async fn forward(
    worker: &Worker,
    route: &ActiveRoute,
    trace: &TraceContext,
    hash_key: &[u8],
    outgoing: Outgoing<'_>,
    attempts: &mut Vec<Attempt>,
) -> Result<Response<UpstreamBody>, ProxyError> {
    let Outgoing {
        make,
        encoded,
        payload,
        kind,
        interims,
    } = outgoing;
    let tell = |status, version, fields: &HeaderMap| {
        if let Some(interims) = interims {
            interims.send(status, version, fields);
        }
    };
    let cluster = &route.cluster;
    let clock = &worker.state.clock;
    let is_http1 = cluster.is_http1(kind);
    let begun = clock.now();
    let limit = usize::try_from(cluster.config().attempts).unwrap_or(usize::MAX);
    let whole = match &payload {
        Payload::Whole(bytes) => Some(bytes.clone()),
        Payload::Stream(_) => None,
    };
    let mut request = request(make, trace, payload);
    // Sending twice must not do something twice.
    let mut spare = whole.filter(|_| request.method().is_idempotent());
    let mut tried = Vec::new();
    let mut failed = None;
    let mut started = begun;
    loop {
        let mut found = cluster.select(hash_key, &tried);
        if found.is_none() && !cluster.is_resolved() {
            found = await_names(cluster, hash_key, route.config.timeouts.connect).await;
            started = clock.now();
        }
        let Some(endpoint) = found else {
            // When each was tried, the failure of the last says more than that none is left.
            return Err(failed.unwrap_or(ErrorKind::NoEndpoint).into());
        };
        let mut timeouts = route.config.timeouts;
        timeouts.total = timeouts.total.saturating_sub(started.since(begun));
        let span_id = worker.ids.span_id();
        let line = traceparent(&mut request, trace, span_id, is_http1);
        let manner = Manner {
            timeouts: &timeouts,
            started: clock.instant(started),
            kind,
            on_interim: Some(&tell),
            encoded,
            encoded_for_try: line.as_ref().map_or(&[], |line| line),
        };
        let result = worker.pool.send(cluster, &endpoint, request, manner).await;
        let now = clock.now();
        let mut attempt = attempt(cluster, &endpoint, span_id, started, now);
        match result {
            Ok(response) => {
                attempt.first_byte = Some(now);
                attempt.status = Some(response.status().as_u16());
                attempts.push(attempt);
                return Ok(response);
            }
            Err(error) => {
                attempt.error = Some(error.kind.as_str());
                attempts.push(attempt);
                failed = Some(error.kind);
                let closed_as_idle = error.kind == ErrorKind::Reset && error.reused;
                request = match (error.request, spare.take()) {
                    (Some(unsent), kept) if tried.len() + 1 < limit => {
                        spare = kept;
                        tried.push(endpoint);
                        unsent
                    }
                    (None, Some(again)) if closed_as_idle => {
                        self::request(make, trace, Payload::Whole(again))
                    }
                    _ => return Err(error.kind.into()),
                };
                started = now;
            }
        }
    }
}

/// Tells the upstream the span: in a line that goes behind the head where that can be done, for the way through a header
/// map costs three times as much.
fn traceparent(
    request: &mut Request<RequestBody>,
    trace: &TraceContext,
    span_id: [u8; 8],
    is_http1: bool,
) -> Option<[u8; 70]> {
    if is_http1 {
        return Some(trace.traceparent_line(span_id));
    }
    let value = trace.traceparent(span_id);
    request.headers_mut().insert(TRACEPARENT, value);
    None
}

/// A try that has neither succeeded nor failed.
fn attempt(
    cluster: &Cluster,
    endpoint: &Endpoint,
    span_id: [u8; 8],
    started: Timestamp,
    ended: Timestamp,
) -> Attempt {
    Attempt {
        upstream: Arc::clone(&cluster.config().name),
        endpoint: Arc::clone(endpoint.label()),
        span_id,
        started,
        first_byte: None,
        ended,
        status: None,
        error: None,
    }
}

/// An endpoint of a cluster whose names were never resolved, right after the start or a reload; they are waited for
/// at most `patience`.
async fn await_names(cluster: &Cluster, hash_key: &[u8], patience: Duration) -> Option<Arc<Endpoint>> {
    tokio::time::timeout(patience, cluster.first_resolved())
        .await
        .ok()?;
    cluster.select(hash_key, &[])
}

/// The request as it is sent, but for the span that it is sent in.
fn request(
    make: &(dyn Fn(RequestBody) -> Box<Request<RequestBody>> + Sync),
    trace: &TraceContext,
    payload: Payload,
) -> Box<Request<RequestBody>> {
    let mut request = make(match payload {
        Payload::Whole(bytes) => full(bytes),
        Payload::Stream(body) => body,
    });
    if trace.parent_id.is_none() {
        // A state without a valid parent belongs to no trace (W3C Trace Context, section 3.3).
        request.headers_mut().remove(TRACESTATE);
    }
    request
}

/// A body in memory.
fn full(bytes: Bytes) -> RequestBody {
    if bytes.is_empty() {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    }
}
