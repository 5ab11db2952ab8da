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
use super::connect::Failure;
use super::endpoint::InFlight;
use super::error::{BodyError, ErrorKind, classify};
use super::http1::{Driven, Http1Connection, Upgraded};
use super::request::Watch;
use super::slot::Slot;

/// A response body. It ends without an error only if it is complete.
///
/// At its end the connection goes back to the pool. Dropping the body before its end closes an HTTP/1.1 connection
/// and resets an HTTP/2 stream at once. The endpoint counts the exchange until the body ends or is dropped; for
/// an upgraded connection, until it is dropped.
pub struct UpstreamBody {
    carrier: Carrier,
    idle: Duration,
    total: Instant,
    /// Since when nothing has come, while somebody waits.
    waiting_since: Option<Instant>,
    in_flight: Option<InFlight>,
}

/// What the body travels on.
pub(super) enum Carrier {
    /// A connection of its own.
    Http1 {
        /// The connection.
        connection: Box<Http1Connection>,
        /// Where it goes back to.
        slot: Arc<Slot>,
    },
    /// A connection of its own on which the request is still being sent.
    Driven {
        /// The rest of the exchange.
        driven: Driven,
        /// The timer of this exchange.
        alarm: Alarm,
    },
    /// A stream of a shared connection.
    Http2(Box<Http2Stream>),
    /// Nothing any more: the body has ended or failed.
    Ended,
    /// A connection that was upgraded.
    Upgraded(Upgraded),
}

/// A stream of a shared connection.
pub(super) struct Http2Stream {
    /// The body as the library gives it.
    pub(super) incoming: Incoming,
    /// The timer of this exchange.
    pub(super) alarm: Alarm,
    /// Keeps the connection from being seen as unused.
    pub(super) _user: Arc<()>,
    /// The request body, if it had one.
    pub(super) watch: Option<Arc<Watch>>,
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
    pub(super) fn new(carrier: Carrier, deadlines: BodyDeadlines, in_flight: InFlight) -> Self {
        let mut body = Self {
            carrier,
            idle: deadlines.idle,
            total: deadlines.total,
            waiting_since: None,
            in_flight: Some(in_flight),
        };
        if !matches!(body.carrier, Carrier::Upgraded(_)) && body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The connection, after a 101 to a request for an upgrade. It can be taken once; the endpoint counts the exchange
    /// until the body is dropped.
    pub fn take_upgraded(&mut self) -> Option<Upgraded> {
        match std::mem::replace(&mut self.carrier, Carrier::Ended) {
            Carrier::Upgraded(connection) => Some(connection),
            other => {
                self.carrier = other;
                None
            }
        }
    }

    /// The body is complete: the connection may serve again.
    fn finish(&mut self) {
        if let Carrier::Http1 { connection, slot } = std::mem::replace(&mut self.carrier, Carrier::Ended) {
            slot.give_back(connection);
        }
        self.in_flight = None;
    }

    /// The body is broken: the connection is closed, or the stream reset.
    fn fail(&mut self, failure: Failure) -> BodyError {
        self.cancel_request();
        self.carrier = Carrier::Ended;
        self.in_flight = None;
        BodyError {
            kind: failure.kind,
            source: failure.source,
        }
    }

    /// Ends the request body of a stream: the library would go on sending it. A connection of one's own just closes.
    fn cancel_request(&mut self) {
        if let Carrier::Http2(stream) = &mut self.carrier
            && let Some(watch) = stream.watch.take()
        {
            watch.cancel();
        }
    }

    /// Which deadline has passed while waiting, if one has; otherwise the task is woken when the next one does.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let alarm = match &mut self.carrier {
            Carrier::Http1 { connection, .. } => &mut connection.alarm,
            Carrier::Driven { alarm, .. } => alarm,
            Carrier::Http2(stream) => &mut stream.alarm,
            Carrier::Ended | Carrier::Upgraded(_) => return Poll::Pending,
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

impl Http2Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.incoming)
            .poll_frame(cx)
            .map(|frame| match frame {
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(error)) => {
                    let kind = match &self.watch {
                        Some(watch) if watch.failed() => ErrorKind::RequestBody,
                        _ => classify(&error),
                    };
                    Some(Err(Failure::new(kind, error)))
                }
                // hyper takes RST_STREAM(NO_ERROR) for an end, which it is only after END_STREAM (RFC 9113, section 8.1).
                None if !self.incoming.is_end_stream() => Some(Err(ErrorKind::Reset.into())),
                None => None,
            })
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
        let frame = match &mut this.carrier {
            Carrier::Http1 { connection, .. } => connection.poll_frame(cx),
            Carrier::Driven { driven, .. } => driven.poll_frame(cx),
            Carrier::Http2(stream) => stream.poll_frame(cx),
            Carrier::Ended | Carrier::Upgraded(_) => return Poll::Ready(None),
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting_since = None;
                if this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(failure))) => Poll::Ready(Some(Err(this.fail(failure)))),
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => this
                .poll_deadline(cx)
                .map(|kind| Some(Err(this.fail(kind.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.carrier {
            Carrier::Http1 { connection, .. } => connection.is_end_stream(),
            Carrier::Driven { .. } => false,
            Carrier::Http2(stream) => stream.incoming.is_end_stream(),
            Carrier::Ended | Carrier::Upgraded(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.carrier {
            Carrier::Http1 { connection, .. } => connection.size_hint(),
            Carrier::Driven { .. } => SizeHint::default(),
            Carrier::Http2(stream) => stream.incoming.size_hint(),
            Carrier::Ended | Carrier::Upgraded(_) => SizeHint::with_exact(0),
        }
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
