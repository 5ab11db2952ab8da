//! Bodies on their way through: the client's, bounded; and the response's, which carries the exchange to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::tracked::InboundBody;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

use super::connection::BoxError;
use super::continued::Continued;
use super::error::{BodyFault, ProxyError};
use super::exchange::Exchange;
use super::multipart::Pieces;
use super::replay::Replay;
use super::wire::Malformed;
use crate::cache::flight::FlightReader;
use crate::upstream::UpstreamBody;

/// A request body within the listener's bound.
pub(crate) struct ClientBody {
    inner: InboundBody,
    left: u64,
    received: Arc<AtomicU64>,
    fault: BodyFault,
}

impl ClientBody {
    /// At most `max` bytes of `inner`; counts them in `received` and tells `fault` why it ended early.
    pub(crate) fn new(inner: InboundBody, max: u64, received: Arc<AtomicU64>, fault: BodyFault) -> Self {
        Self {
            inner,
            left: max,
            received,
            fault,
        }
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.fault
                    .set(Malformed::behind(&error).map_or(ProxyError::RequestBody, ProxyError::Malformed));
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        if let Some(data) = frame.data_ref() {
            let length = data.len() as u64;
            self.received.fetch_add(length, Ordering::Relaxed);
            let Some(left) = self.left.checked_sub(length) else {
                self.fault.set(ProxyError::BodyTooLarge);
                return Poll::Ready(Some(Err("the request body is too large".into())));
            };
            self.left = left;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request body read for the cache key.
pub(crate) enum Buffered {
    /// All of it.
    Whole(Bytes),
    /// It is larger than the bound: what was read, and the rest.
    Larger(Bytes, ClientBody),
}

/// Reads `body` up to `max` bytes.
pub(crate) async fn buffer(mut body: ClientBody, max: usize) -> Result<Buffered, ProxyError> {
    if body.size_hint().lower() > max as u64 {
        return Ok(Buffered::Larger(Bytes::new(), body));
    }
    let mut first = Bytes::new();
    let mut read = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(body.fault.get().unwrap_or(ProxyError::RequestBody));
        };
        // Trailers of a request are not part of its key and are not forwarded with a buffered body.
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && read.is_empty() {
            first = data;
        } else {
            if read.is_empty() {
                read.extend_from_slice(&first);
            }
            read.extend_from_slice(&data);
        }
        if first.len().max(read.len()) > max {
            let prefix = if read.is_empty() { first } else { read.freeze() };
            return Ok(Buffered::Larger(prefix, body));
        }
    }
    Ok(Buffered::Whole(if read.is_empty() {
        first
    } else {
        read.freeze()
    }))
}

/// What was read of a body, then the rest of it.
pub(crate) struct Resumed {
    prefix: Bytes,
    rest: ClientBody,
}

impl Resumed {
    /// `prefix`, then `rest`.
    pub(crate) fn new(prefix: Bytes, rest: ClientBody) -> Self {
        Self { prefix, rest }
    }
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.prefix)))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let prefix = self.prefix.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(prefix));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(prefix));
        }
        hint
    }
}

/// Largest frame of a body in memory: the server copies each frame whole into its write buffer.
pub(super) const FRAME: usize = 64 * 1024;

/// Where the bytes of a response come from.
pub(crate) enum Source {
    /// Nowhere.
    Empty,
    /// Memory.
    Full(Bytes),
    /// The upstream, as they arrive.
    Upstream(Box<UpstreamBody>),
    /// A fill, as they arrive.
    Flight(FlightReader),
    /// A fill, as far as this client keeps up with the others, then the upstream.
    Continued(Box<Continued>),
    /// A stored event stream.
    Replay(Box<Replay>),
    /// Several parts of what is in memory.
    Pieces(Box<Pieces>),
}

/// A response body. It owns the exchange: when the last byte has been handed on, or the client has gone, the
/// exchange is recorded.
pub struct Body {
    source: Source,
    exchange: Option<Box<Exchange>>,
}

impl Body {
    /// A body from `source` that ends `exchange`.
    pub(crate) fn new(source: Source, mut exchange: Box<Exchange>) -> Self {
        if matches!(source, Source::Empty) {
            exchange.complete();
        }
        Self {
            source,
            exchange: Some(exchange),
        }
    }

    fn count(&mut self, data: &Bytes) {
        if let Some(exchange) = &mut self.exchange {
            exchange.sent(data);
        }
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.complete();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Empty => None,
            Source::Full(bytes) => {
                let data = bytes.split_to(bytes.len().min(FRAME));
                (!data.is_empty()).then(|| Ok(Frame::data(data)))
            }
            Source::Upstream(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BoxError::from))
            }
            Source::Flight(reader) => {
                ready!(Pin::new(reader).poll_frame(cx)).map(|frame| frame.map_err(BoxError::from))
            }
            Source::Continued(body) => ready!(body.poll_frame(cx, this.exchange.as_deref_mut())),
            Source::Replay(replay) => ready!(replay.poll_part(cx)).map(|part| Ok(Frame::data(part))),
            Source::Pieces(pieces) => pieces.next().map(|piece| Ok(Frame::data(piece))),
        };
        match &frame {
            None => this.finish(),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    this.count(&data);
                }
                if this.is_end_stream() {
                    this.finish();
                }
            }
            Some(Err(_)) => this.exchange = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Upstream(body) => body.is_end_stream(),
            Source::Flight(reader) => reader.is_end_stream(),
            Source::Continued(body) => body.is_end_stream(),
            Source::Replay(replay) => replay.is_over(),
            Source::Pieces(pieces) => pieces.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(body) => body.size_hint(),
            Source::Flight(reader) => reader.size_hint(),
            Source::Continued(body) => body.size_hint(),
            Source::Replay(_) => SizeHint::default(),
            Source::Pieces(pieces) => SizeHint::with_exact(pieces.left()),
        }
    }
}
