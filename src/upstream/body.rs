//! The body of a response on its way from an endpoint.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::alarm::{Alarm, later};
use super::connection::Http1Connection;
use super::endpoint::InFlight;
use super::error::{BodyError, ErrorKind, classify};
use super::request::{BoxError, Watch};
use super::slot::Slot;

/// A response body. It ends without an error only if it is complete.
///
/// At its end the connection goes back to the pool. Dropping the body before its end closes an HTTP/1.1 connection
/// and resets an HTTP/2 stream at once. The endpoint counts the exchange until the body ends or is dropped; for
/// an upgraded connection, until it is dropped.
pub struct UpstreamBody {
    incoming: Incoming,
    carrier: Carrier,
    idle: Duration,
    total: Instant,
    /// Since when nothing has come, while somebody waits.
    waiting_since: Option<Instant>,
    watch: Option<Arc<Watch>>,
    in_flight: Option<InFlight>,
}

/// What the body travels on.
pub(super) enum Carrier {
    /// A connection of its own.
    Http1 {
        /// The connection.
        connection: Http1Connection,
        /// Where it goes back to.
        slot: Arc<Slot>,
    },
    /// A stream of a shared connection.
    Http2 {
        /// The timer of this exchange.
        alarm: Alarm,
        /// Keeps the connection from being seen as unused.
        _user: Arc<()>,
    },
    /// Nothing any more: the body has ended or failed.
    Ended,
    /// Nothing: the connection was upgraded and left to the caller.
    Upgraded,
}

/// How long the rest of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyDeadlines {
    /// Longest silence.
    pub(super) idle: Duration,
    /// When the whole exchange must have ended.
    pub(super) total: Instant,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        carrier: Carrier,
        deadlines: BodyDeadlines,
        watch: Option<Arc<Watch>>,
        in_flight: InFlight,
    ) -> Self {
        let mut body = Self {
            incoming,
            carrier,
            idle: deadlines.idle,
            total: deadlines.total,
            waiting_since: None,
            watch,
            in_flight: Some(in_flight),
        };
        if !matches!(body.carrier, Carrier::Upgraded) && body.incoming.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The body is complete: the connection may serve again.
    fn finish(&mut self) {
        if let Carrier::Http1 { connection, slot } = std::mem::replace(&mut self.carrier, Carrier::Ended) {
            slot.give_back(connection);
        }
        self.in_flight = None;
    }

    /// The body is broken: the connection is closed, or the stream reset.
    fn fail(&mut self, kind: ErrorKind, source: Option<BoxError>) -> BodyError {
        self.carrier = Carrier::Ended;
        self.in_flight = None;
        self.cancel_request();
        BodyError { kind, source }
    }

    fn cancel_request(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.cancel();
        }
    }

    /// Whether the end that hyper reports is not the end of the response: it takes RST_STREAM(NO_ERROR) for one,
    /// which it is only after END_STREAM (RFC 9113, section 8.1).
    fn truncated(&self) -> bool {
        matches!(self.carrier, Carrier::Http2 { .. }) && !self.incoming.is_end_stream()
    }

    /// Which deadline has passed while waiting, if one has; otherwise the task is woken when the next one does.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let alarm = match &mut self.carrier {
            Carrier::Http1 { connection, .. } => &mut connection.alarm,
            Carrier::Http2 { alarm, .. } => alarm,
            Carrier::Ended | Carrier::Upgraded => return Poll::Pending,
        };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let silent = later(since, self.idle);
        let kind = if silent < self.total {
            ErrorKind::IdleTimeout
        } else {
            ErrorKind::TotalTimeout
        };
        alarm.poll_due(silent.min(self.total), cx).map(|()| kind)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if matches!(this.carrier, Carrier::Ended) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting_since = None;
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let kind = match &this.watch {
                    Some(watch) if watch.failed() => ErrorKind::RequestBody,
                    _ => classify(&error),
                };
                Poll::Ready(Some(Err(this.fail(kind, Some(error.into())))))
            }
            Poll::Ready(None) if this.truncated() => {
                Poll::Ready(Some(Err(this.fail(ErrorKind::Reset, None))))
            }
            Poll::Ready(None) => {
                if !matches!(this.carrier, Carrier::Upgraded) {
                    this.finish();
                }
                Poll::Ready(None)
            }
            Poll::Pending => this
                .poll_deadline(cx)
                .map(|kind| Some(Err(this.fail(kind, None)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.carrier, Carrier::Ended) || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // A response that nobody reads to its end, or that came before the request was complete: in both cases the
        // rest of the request is not wanted either.
        self.cancel_request();
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}
