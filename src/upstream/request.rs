//! The request on its way to an endpoint: its body under watch, and the form each protocol version wants.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{COOKIE, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Any error that may cross threads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request that is sent on.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// What the exchange needs from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Nothing special.
    Ordinary,
    /// `Upgrade`: only HTTP/1.1 can do it (RFC 9110, section 7.8).
    Upgrade,
    /// gRPC that arrived by HTTP/2: HTTP/2 where the upstream's protocol is `auto`.
    Grpc,
}

/// The request body as hyper pulls it, watched when there is one.
pub(super) struct SentBody {
    inner: RequestBody,
    watch: Option<Arc<Watch>>,
}

/// What the exchange knows about its request body, and its way to stop it.
#[derive(Debug)]
pub(super) struct Watch {
    failed: AtomicBool,
    cancelled: AtomicBool,
    waker: AtomicWaker,
    moved: Mutex<Instant>,
}

impl Watch {
    fn new() -> Self {
        Self {
            failed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            moved: Mutex::new(Instant::now()),
        }
    }

    /// Whether the body ended with an error of our client's.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// When the last part of the body was taken.
    pub(super) fn moved(&self) -> Instant {
        *self.moved.lock()
    }

    /// Ends the body with an error, so that an HTTP/2 stream whose response nobody reads is reset although our
    /// client is still sending.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Puts the body under watch; an empty body needs none.
pub(super) fn watched(request: Request<RequestBody>) -> (Request<SentBody>, Option<Arc<Watch>>) {
    let watch = (!request.body().is_end_stream()).then(|| Arc::new(Watch::new()));
    let kept = watch.clone();
    (request.map(|inner| SentBody { inner, watch }), kept)
}

/// The request as its sender gave it, but for the form of its target (which [`prepare_http1`] and
/// [`prepare_http2`] turn into one another).
pub(super) fn unwatched(request: Request<SentBody>) -> Request<RequestBody> {
    request.map(|body| body.inner)
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(watch) = &this.watch else {
            return Pin::new(&mut this.inner).poll_frame(cx);
        };
        watch.waker.register(cx.waker());
        if watch.cancelled.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err("the response is no longer wanted".into())));
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => watch.failed.store(true, Ordering::Release),
            Poll::Ready(_) => *watch.moved.lock() = Instant::now(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Gives the request the form of HTTP/1.1: origin-form target and a `Host` (RFC 9112, section 3.2). A request of
/// HTTP/1.0 may have named no host; it gets `endpoint`.
pub(super) fn prepare_http1<B>(request: &mut Request<B>, endpoint: &str) {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        let origin_form = match request.uri().path_and_query() {
            Some(target) => Uri::from(target.clone()),
            None => Uri::from_static("/"),
        };
        *request.uri_mut() = origin_form;
    }
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(endpoint)
    {
        request.headers_mut().insert(HOST, host);
    }
    join_cookies(request);
}

/// Gives the request the form of HTTP/2: scheme and authority in the target, no `Host` (RFC 9113, section 8.3.1).
/// The authority is the `Host`, or the target's own, or `endpoint`. Fails when that is not a valid authority.
pub(super) fn prepare_http2<B>(
    request: &mut Request<B>,
    scheme: &Scheme,
    endpoint: &str,
) -> Result<(), BoxError> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let authority = match (&host, request.uri().authority()) {
        (Some(host), _) => Authority::try_from(host.as_bytes())?,
        (None, Some(authority)) => authority.clone(),
        (None, None) => Authority::try_from(endpoint)?,
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority);
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(())
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 wants one field (RFC 9113, section 8.2.3).
fn join_cookies<B>(request: &mut Request<B>) {
    let mut crumbs = request.headers().get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in request.headers().get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(cookie) = HeaderValue::from_bytes(&joined) {
        request.headers_mut().insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_turn_into_one_another() {
        let mut request = Request::builder()
            .uri("/a?b=c")
            .header("host", "hub.local:8080")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        prepare_http2(&mut request, &Scheme::HTTP, "10.0.0.1:80").unwrap();
        assert_eq!(request.uri(), "http://hub.local:8080/a?b=c");
        assert!(!request.headers().contains_key(HOST));
        assert_eq!(request.version(), Version::HTTP_2);
        prepare_http1(&mut request, "10.0.0.1:80");
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()[HOST], "hub.local:8080");
        assert_eq!(request.headers()[COOKIE], "a=1; b=2");
        assert_eq!(request.version(), Version::HTTP_11);
    }

    #[test]
    fn the_endpoint_is_the_host_of_last_resort_and_options_star_survives() {
        let mut request = Request::builder().method("OPTIONS").uri("*").body(()).unwrap();
        prepare_http2(&mut request, &Scheme::HTTPS, "10.0.0.1:80").unwrap();
        assert_eq!(request.uri().authority().unwrap(), "10.0.0.1:80");
        assert_eq!(request.uri().path(), "*");
        let mut bad = Request::builder()
            .uri("/")
            .header("host", "a b")
            .body(())
            .unwrap();
        assert!(prepare_http2(&mut bad, &Scheme::HTTP, "x").is_err());
        let mut old = Request::builder()
            .version(Version::HTTP_10)
            .uri("/")
            .body(())
            .unwrap();
        prepare_http1(&mut old, "10.0.0.1:80");
        assert_eq!(old.headers()[HOST], "10.0.0.1:80");
    }
}
