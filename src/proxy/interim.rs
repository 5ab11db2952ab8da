//! Interim responses (1xx) on their way from an upstream to an HTTP/1.1 client (RFC 9110, section 15.2).
//!
//! The HTTP library cannot send them, so they go around it: the upstream's exchange queues their heads with the
//! client's connection, and the adapter between the library and the socket ([`super::wire`]) writes them.
//!
//! Invariant: an interim response is written after the last byte of the response before it and before the first of
//! its own request's final response. The adapter begins one only when the library has written all it has, and the
//! final response is held back until the queue is empty.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, StatusCode, Version};
use parking_lot::Mutex;

use super::connection::ConnectionState;
use super::headers;
use crate::config::{HeaderRules, Route};

/// Interim responses of one request that are sent on; any more are dropped.
const COUNT_MAX: usize = 8;
/// Bytes of them in all.
const BYTES_MAX: usize = 16 * 1024;

/// Where the interim responses of one request go.
#[derive(Clone, Debug)]
pub(crate) struct InterimSender {
    connection: Arc<ConnectionState>,
    /// The request's number on its connection.
    request: u64,
    route: Arc<Route>,
}

impl InterimSender {
    /// For the request that the handler of `connection` is at; `version` is its version, `route` its route. None if
    /// it is HTTP/1.0, whose clients do not know interim responses, or HTTP/2, where the library has no way for them.
    pub(super) fn open(
        connection: &Arc<ConnectionState>,
        version: Version,
        route: &Arc<Route>,
    ) -> Option<Self> {
        (version == Version::HTTP_11).then(|| {
            let request = connection.begun();
            connection.interims().open(request);
            Self {
                connection: Arc::clone(connection),
                request,
                route: Arc::clone(route),
            }
        })
    }

    /// Sends on an interim response of the upstream's.
    pub(super) fn send(&self, status: StatusCode, version: Version, fields: &HeaderMap) {
        // The library answers `Expect` on its own, and 101 is final (RFC 9110, section 15.2).
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let head = || head(status, version, fields.clone(), &self.route.headers);
        if self.connection.interims().offer(self.request, head) {
            self.connection.wake();
        }
    }
}

/// The head as the client gets it.
fn head(status: StatusCode, version: Version, mut fields: HeaderMap, rules: &HeaderRules) -> Bytes {
    headers::from_upstream(&mut fields, version);
    // There is no body that these could be about (RFC 9110, section 8.6).
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRAILER);
    // A field that the route sets on the final response must not be announced with the upstream's value.
    let set = rules.response_set.iter().map(|(name, _)| name);
    for name in set.chain(&rules.response_remove) {
        fields.remove(name);
    }
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in &fields {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    head.extend_from_slice(b"\r\n\r\n");
    head.into()
}

/// The interim responses of a connection that are not written yet.
#[derive(Debug, Default)]
pub(super) struct InterimQueue {
    /// Whether the present request may have any. Only the connection's own task looks and sets it.
    open: AtomicBool,
    /// Whether the adapter has something to write, or has not finished it.
    pending: AtomicBool,
    queue: Mutex<Queue>,
    written: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose they are; none once its final response is there.
    request: Option<u64>,
    heads: VecDeque<Bytes>,
    /// Heads and bytes that came for this request.
    count: usize,
    bytes: usize,
}

impl InterimQueue {
    /// Takes heads for `request` from now on. To be called by the request's handler.
    pub(super) fn open(&self, request: u64) {
        let mut queue = self.queue.lock();
        if queue.request != Some(request) {
            (queue.request, queue.count, queue.bytes) = (Some(request), 0, 0);
        }
        self.open.store(true, Ordering::Relaxed);
    }

    /// Queues a head for `request`, unless its final response is there already or it had its share. True if it was
    /// queued; then the connection's task has to be woken.
    pub(super) fn offer(&self, request: u64, head: impl FnOnce() -> Bytes) -> bool {
        let mut queue = self.queue.lock();
        if queue.request != Some(request) || queue.count >= COUNT_MAX {
            return false;
        }
        queue.count += 1;
        let head = head();
        if queue.bytes + head.len() > BYTES_MAX {
            return false;
        }
        queue.bytes += head.len();
        queue.heads.push_back(head);
        self.pending.store(true, Ordering::Release);
        true
    }

    /// The next to be written, for the adapter, which asks when it has written the one before.
    pub(super) fn next(&self) -> Option<Bytes> {
        if !self.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.queue.lock();
        let next = queue.heads.pop_front();
        if next.is_none() {
            self.pending.store(false, Ordering::Release);
            drop(queue);
            self.written.wake();
        }
        next
    }

    /// The final response is there: takes no more, and waits until the last is written.
    pub(super) async fn finish(&self) {
        if !self.open.load(Ordering::Relaxed) {
            return;
        }
        self.open.store(false, Ordering::Relaxed);
        self.queue.lock().request = None;
        poll_fn(|cx| {
            self.written.register(cx.waker());
            if self.pending.load(Ordering::Acquire) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::header::{CONNECTION, LINK, SERVER, TRANSFER_ENCODING};
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn offer(queue: &InterimQueue, request: u64, bytes: usize) -> bool {
        queue.offer(request, || vec![b'x'; bytes].into())
    }

    #[test]
    fn the_head_has_nothing_of_the_hop_nor_of_a_body() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            (LINK, "</a.css>"),
            (LINK, "</b.css>"),
            (CONNECTION, "close, x-hop"),
            (HeaderName::from_static("x-hop"), "1"),
            (TRANSFER_ENCODING, "chunked"),
            (CONTENT_LENGTH, "5"),
            (TRAILER, "x"),
            (SERVER, "secret"),
            (HeaderName::from_static("x-set"), "theirs"),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let rules = HeaderRules {
            response_set: vec![(HeaderName::from_static("x-set"), HeaderValue::from_static("ours"))],
            response_remove: vec![SERVER],
            ..HeaderRules::default()
        };
        let head = head(StatusCode::EARLY_HINTS, Version::HTTP_11, fields, &rules);
        assert_eq!(
            head,
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\nvia: 1.1 outrigger\r\n\r\n"
        );
        let unknown = StatusCode::from_u16(199).unwrap();
        let head = super::head(unknown, Version::HTTP_11, HeaderMap::new(), &rules);
        assert_eq!(head, "HTTP/1.1 199 \r\nvia: 1.1 outrigger\r\n\r\n");
    }

    #[test]
    fn each_request_has_its_bounds() {
        let queue = InterimQueue::default();
        queue.open(1);
        for number in 0..20 {
            assert_eq!(offer(&queue, 1, 10), number < COUNT_MAX, "{number}");
        }
        queue.open(1);
        assert!(
            !offer(&queue, 1, 10),
            "the bounds are not reset by a second attempt"
        );
        while queue.next().is_some() {}
        queue.open(2);
        assert!(!offer(&queue, 2, BYTES_MAX + 1));
        assert!(offer(&queue, 2, BYTES_MAX));
        assert!(!offer(&queue, 2, 1));
    }

    #[test]
    fn nothing_comes_after_the_final_response() {
        let queue = InterimQueue::default();
        assert!(!offer(&queue, 1, 1), "nobody asked");
        queue.open(1);
        queue.finish().now_or_never().unwrap();
        assert!(!offer(&queue, 1, 1));
        queue.open(2);
        assert!(!offer(&queue, 1, 1), "late, and the next request has begun");
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn the_final_response_waits_until_all_is_written() {
        let queue = InterimQueue::default();
        queue.open(1);
        assert!(offer(&queue, 1, 1));
        let mut finish = Box::pin(queue.finish());
        assert_eq!(finish.as_mut().now_or_never(), None);
        assert!(queue.next().is_some());
        assert_eq!(finish.as_mut().now_or_never(), None, "it is being written");
        assert_eq!(queue.next(), None);
        assert_eq!(finish.now_or_never(), Some(()));
    }
}
