//! Whose turn it is in an exchange, told by its bodies.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::ConnectionState;

/// Whose turn it is: ours while the handler works or has nothing to send yet, the client's while bytes wait for it.
/// A connection on which nothing is our turn may be ended when it stays quiet.
#[derive(Debug)]
pub(super) struct Turn {
    state: Arc<ConnectionState>,
    ours: bool,
}

impl Turn {
    /// A request has come in.
    pub(super) fn begin(state: Arc<ConnectionState>) -> Self {
        state.work_begins();
        Self { state, ours: true }
    }

    /// Passes the turn.
    pub(super) fn is_ours(&mut self, ours: bool) {
        if ours != self.ours {
            self.ours = ours;
            if ours {
                self.state.work_begins()
            } else {
                self.state.work_ends()
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.is_ours(false);
    }
}

/// A response body that passes the turn.
#[derive(Debug)]
pub(super) struct Tracked<B> {
    body: B,
    turn: Turn,
    /// Only the end of the connection tells the client where the body ends (RFC 9112, section 6.3).
    ends_connection: bool,
}

impl<B: Body> Tracked<B> {
    /// `body`; it is our turn until it has something for the client. With `ends_connection` nothing but the end of
    /// the connection tells the client where it ends.
    pub(super) fn new(body: B, turn: Turn, ends_connection: bool) -> Self {
        turn.state.owe_end(ends_connection && !body.is_end_stream());
        Self {
            body,
            turn,
            ends_connection,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.turn.is_ours(frame.is_pending());
        if self.ends_connection {
            let complete = match &frame {
                Poll::Ready(None) => true,
                Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
                Poll::Ready(Some(Err(_))) | Poll::Pending => false,
            };
            self.turn.state.owe_end(!complete);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body. While its reader waits for it, the client has to keep up the listener's lowest rate.
#[derive(Debug)]
pub struct InboundBody {
    body: Incoming,
    watch: Option<Arc<BodyWatch>>,
}

impl InboundBody {
    /// Puts `body` under watch, which came with `fields`. Not watched are requests without a body, and gRPC: its streams
    /// stay open and silent for as long as both sides like.
    pub(super) fn watch(
        fields: &HeaderMap,
        body: Incoming,
        state: &Arc<ConnectionState>,
    ) -> (Self, Option<Arc<BodyWatch>>) {
        let grpc = || {
            let media_type = fields.get(CONTENT_TYPE);
            media_type.is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/grpc"))
        };
        let watched = !body.is_end_stream() && !grpc();
        let watch = watched.then(|| Arc::new(BodyWatch::begin(Arc::clone(state))));
        (
            Self {
                body,
                watch: watch.clone(),
            },
            watch,
        )
    }
}

impl Body for InboundBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(watch) = &self.watch {
            watch.waits(frame.is_pending());
            if let Poll::Ready(Some(Ok(frame))) = &frame {
                watch.received(frame.data_ref().map_or(0, Bytes::len));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for InboundBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.end();
        }
    }
}

/// The watch over one request body. It ends with the body, or when the answer begins: from then on both sides may
/// take their time, as in any two-way stream.
#[derive(Debug)]
pub(super) struct BodyWatch {
    state: Arc<ConnectionState>,
    waits: AtomicBool,
    over: AtomicBool,
}

impl BodyWatch {
    fn begin(state: Arc<ConnectionState>) -> Self {
        state.body_begins();
        Self {
            state,
            waits: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn waits(&self, waits: bool) {
        if !self.over.load(Relaxed) && self.waits.swap(waits, Relaxed) != waits {
            self.state.body_awaited(waits);
        }
    }

    fn received(&self, bytes: usize) {
        if !self.over.load(Relaxed) {
            self.state.body_received(bytes);
        }
    }

    /// Ends the watch.
    pub(super) fn end(&self) {
        self.waits(false);
        if !self.over.swap(true, Relaxed) {
            self.state.body_ends();
        }
    }
}
