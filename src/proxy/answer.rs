//! The step from a decision to the response that leaves.

use bytes::Bytes;
use http::header::CACHE_STATUS;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::{Body, Source};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::headers;
use crate::cache::status::Outcome;
use crate::config::Usage;

/// A response before the last touches.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Header fields, without hop-by-hop ones.
    pub(crate) headers: HeaderMap,
    /// Where the body comes from.
    pub(crate) source: Source,
    /// What the cache did, for `Cache-Status`.
    pub(crate) cache_status: Option<HeaderValue>,
    /// Extensions that must reach the server (a protocol upgrade).
    pub(crate) extensions: http::Extensions,
}

impl Answer {
    /// A response with these parts.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, source: Source) -> Self {
        Self {
            status,
            headers,
            source,
            cache_status: None,
            extensions: http::Extensions::new(),
        }
    }

    /// The same with a `Cache-Status`.
    pub(crate) fn cache_status(mut self, value: Option<HeaderValue>) -> Self {
        self.cache_status = value;
        self
    }

    /// The response to an error made here.
    pub(crate) fn failure(exchange: &mut Exchange, error: &ProxyError) -> Self {
        exchange.failed(error);
        let openai = exchange
            .route
            .as_ref()
            .is_some_and(|route| route.config.usage == Usage::Openai);
        let (head, body) = error.response(&exchange.record.trace, openai).into_parts();
        let answer = Self::new(head.status, head.headers, Source::Full(body));
        answer.cache_status(exchange.forwarded(None, Outcome::Passed))
    }
}

/// Sends the answer on its way; from here the body owns the exchange.
pub(crate) fn respond(mut exchange: Box<Exchange>, answer: Answer) -> Response<Body> {
    let Answer {
        status,
        headers: mut fields,
        source,
        cache_status,
        extensions,
    } = answer;
    // As the upstream describes it, before the route's own changes.
    if let Source::Upstream(_) = &source {
        exchange.observe(status, &fields);
    }
    if let Some(route) = &exchange.route {
        let rules = &route.config.headers;
        headers::apply(&mut fields, &rules.response_set, &rules.response_remove);
    }
    if let Some(value) = cache_status {
        fields.append(CACHE_STATUS, value);
    }
    let source = if exchange.record.method == http::Method::HEAD {
        Source::Empty
    } else {
        source
    };
    if exchange.record.first_byte.is_none() {
        exchange.record.first_byte = Some(exchange.worker.state.clock.now());
    }
    exchange.record.status = status.as_u16();
    let mut response = Response::new(Body::new(source, exchange));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    *response.extensions_mut() = extensions;
    response
}

/// A body that is in memory already.
pub(crate) fn in_memory(bytes: Bytes) -> Source {
    if bytes.is_empty() {
        Source::Empty
    } else {
        Source::Full(bytes)
    }
}
