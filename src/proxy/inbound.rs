//! A request as it came in, and the step from it to its cache key.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Version};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::body::{Buffered, ClientBody, Resumed, buffer};
use super::connection::ConnectionState;
use super::error::{BodyFault, ProxyError};
use super::exchange::Exchange;
use super::forward::Payload;
use super::forwarding::Origin;
use super::tracked::InboundBody;
use crate::cache::engine::Request as CacheRequest;
use crate::cache::key::KeyParts;
use crate::cache::request::{self, Keyed};
use crate::cache::verdict::BypassReason;
use crate::cache::warm::Wanted;
use crate::config::RouteCache;
use crate::control::state::ActiveRoute;
use crate::upstream::ExchangeKind;

/// A request as it came in.
pub(crate) struct Inbound {
    /// Its head, with `Host` always present when the request named a host.
    pub(crate) head: Box<Parts>,
    /// Its body, as far as nobody has taken it.
    body: Pending,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// Host and port as asked for.
    pub(crate) authority: HeaderValue,
    /// Why the body failed, once it has; none before it is read.
    fault: Option<BodyFault>,
    /// The connection.
    pub(crate) connection: Arc<ConnectionState>,
    /// Whether there is no client: it warms the cache up.
    pub(crate) warm_up: bool,
}

enum Pending {
    None,
    Stream(InboundBody),
    Whole(Bytes),
    Started(Bytes, ClientBody),
}

impl Inbound {
    /// Takes a request apart.
    pub(crate) fn new(connection: &Arc<ConnectionState>, mut head: Box<Parts>, body: InboundBody) -> Self {
        // HTTP/2 carries the host in `:authority`; routes, keys and upstreams read it from `Host`.
        if let Some(authority) = head.uri.authority()
            && let Ok(value) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, value);
        }
        let listener = connection.listener();
        let origin = Origin::of(
            connection.peer(),
            connection.is_tls(),
            &listener.trusted_proxies,
            &head.headers,
        );
        let authority = head
            .headers
            .get(HOST)
            .cloned()
            .unwrap_or(HeaderValue::from_static(""));
        let body = if body.is_end_stream() {
            Pending::None
        } else {
            Pending::Stream(body)
        };
        Self {
            head,
            body,
            origin,
            authority,
            fault: None,
            connection: Arc::clone(connection),
            warm_up: false,
        }
    }

    /// A request that nobody sent, as it would have come in over `connection`.
    pub(crate) fn warm_up(connection: &Arc<ConnectionState>, wanted: &Wanted) -> Self {
        let mut head = Box::new(Request::new(()).into_parts().0);
        head.method = wanted.method.clone();
        head.uri = wanted.target.clone();
        head.headers = wanted.headers.clone();
        head.headers.insert(HOST, wanted.authority.clone());
        let body = if wanted.body.is_empty() {
            Pending::None
        } else {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(wanted.body.len()));
            Pending::Whole(wanted.body.clone())
        };
        Self {
            head,
            body,
            origin: Origin {
                client: connection.peer(),
                scheme: wanted.scheme,
                trusted: false,
            },
            authority: wanted.authority.clone(),
            fault: None,
            connection: Arc::clone(connection),
            warm_up: true,
        }
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    /// The request as the cache looks it up.
    pub(crate) fn lookup<'a>(&'a self, keyed: &'a Keyed) -> CacheRequest<'a> {
        CacheRequest {
            key: &keyed.key,
            method: &self.head.method,
            headers: &self.head.headers,
        }
    }

    /// The authority as keys have it.
    pub(crate) fn canonical_authority(&self) -> Cow<'_, str> {
        request::canonical_authority(self.authority.to_str().unwrap_or_default(), self.origin.scheme)
    }

    /// The length that the head declares; 0 when it declares none.
    pub(crate) fn declared_length(&self) -> u64 {
        let value = self
            .head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// What the exchange needs from its upstream connection.
    pub(crate) fn kind(&self) -> ExchangeKind {
        let content_type = self.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let grpc = content_type.is_some_and(|value| value.starts_with(b"application/grpc"));
        if grpc && self.head.version == Version::HTTP_2 {
            ExchangeKind::Grpc
        } else {
            ExchangeKind::Ordinary
        }
    }

    /// The listener's bound for bodies.
    pub(crate) fn max_body(&self) -> u64 {
        self.connection.listener().limits.max_body
    }

    /// Whether the body can be sent again: there is none, or all of it is in memory.
    pub(crate) fn replayable(&self) -> Option<Bytes> {
        match &self.body {
            Pending::None => Some(Bytes::new()),
            Pending::Whole(bytes) => Some(bytes.clone()),
            Pending::Stream(_) | Pending::Started(..) => None,
        }
    }

    /// The body for the upstream. It can be taken once.
    pub(crate) fn take_body(&mut self, exchange: &mut Exchange) -> Payload {
        match std::mem::replace(&mut self.body, Pending::None) {
            Pending::None => Payload::Whole(Bytes::new()),
            Pending::Whole(bytes) => Payload::Whole(bytes),
            Pending::Stream(incoming) => Payload::Stream(self.bounded(exchange, incoming).boxed_unsync()),
            Pending::Started(prefix, rest) => Payload::Stream(Resumed::new(prefix, rest).boxed_unsync()),
        }
    }

    /// The key, or the reason why this request has none. Reads the body where the route's key holds it.
    pub(crate) async fn key<'r>(
        &mut self,
        exchange: &mut Exchange,
        route: &'r ActiveRoute,
    ) -> Result<Result<(&'r RouteCache, Keyed), BypassReason>, ProxyError> {
        let has_level = exchange.worker.state.cache.memory.is_some();
        let head = &mut self.head;
        let admitted = request::admit(
            &route.config,
            has_level,
            &head.method,
            &mut head.headers,
            self.origin.trusted,
        );
        let rules = match admitted {
            Ok(rules) => rules,
            Err(reason) => return Ok(Err(reason)),
        };
        let body = match self.body_digest(exchange, rules).await? {
            Ok(digest) => digest,
            Err(reason) => return Ok(Err(reason)),
        };
        let parts = KeyParts {
            route: &route.config,
            method: &self.head.method,
            scheme: self.origin.scheme,
            authority: &self.canonical_authority(),
            path: self.head.uri.path(),
            query: self.head.uri.query(),
            headers: &self.head.headers,
            body,
        };
        Ok(request::identify(rules, &parts).map(|keyed| (rules, keyed)))
    }

    async fn body_digest(
        &mut self,
        exchange: &mut Exchange,
        rules: &RouteCache,
    ) -> Result<Result<Option<[u8; 32]>, BypassReason>, ProxyError> {
        let incoming = match std::mem::replace(&mut self.body, Pending::None) {
            Pending::Stream(incoming) => incoming,
            // As a warm-up brings it.
            Pending::Whole(bytes) => {
                let digest = match &rules.vary.body {
                    None => Err(BypassReason::BodyNotKeyed),
                    Some(rule) if bytes.len() > rule.max => Err(BypassReason::BodyTooLarge),
                    Some(rule) => request::body_digest(rules, rule, &self.head.headers, &bytes),
                };
                self.body = Pending::Whole(bytes);
                return Ok(digest.map(Some));
            }
            other => {
                self.body = other;
                return Ok(Ok(None));
            }
        };
        let Some(rule) = &rules.vary.body else {
            // A body that is not part of the key must not decide the answer.
            self.body = Pending::Stream(incoming);
            return Ok(Err(BypassReason::BodyNotKeyed));
        };
        let body = self.bounded(exchange, incoming);
        match Box::pin(buffer(body, rule.max)).await? {
            Buffered::Whole(bytes) => {
                let digest = request::body_digest(rules, rule, &self.head.headers, &bytes);
                self.body = Pending::Whole(bytes);
                Ok(digest.map(Some))
            }
            Buffered::Larger(prefix, rest) => {
                self.body = Pending::Started(prefix, rest);
                Ok(Err(BypassReason::BodyTooLarge))
            }
        }
    }

    /// Why the body failed, if it did.
    pub(crate) fn fault(&self) -> Option<ProxyError> {
        self.fault.as_ref().and_then(BodyFault::get)
    }

    fn bounded(&mut self, exchange: &mut Exchange, incoming: InboundBody) -> ClientBody {
        let fault = self.fault.get_or_insert_default().clone();
        let received: &Arc<AtomicU64> = exchange.received.get_or_insert_default();
        ClientBody::new(incoming, self.max_body(), Arc::clone(received), fault)
    }
}
