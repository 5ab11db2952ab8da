//! HTTP/1.1 towards an endpoint: one exchange at a time on one connection, driven by whoever waits for it.
//!
//! ```text
//! begin -> poll_head (writes the request, reads heads) -> poll_frame until the end -> is_reusable
//!                                                     \-> into_driven   the answer came before the request's end
//!                                                     \-> into_upgraded 101
//! ```
//!
//! There is no task per connection. A driver of its own, as the HTTP library's client has, costs every exchange two
//! wake-ups and three channels: half of what a request that passes through costs besides the kernel's part.
//!
//! Invariant: a body that ends without an error is complete as its framing says (RFC 9112, section 6.3).

mod chunked;
mod driven;
mod fields;
mod head;
mod outbox;
#[cfg(test)]
mod tests;
mod upgraded;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use self::chunked::{Chunked, Piece};
pub(super) use self::driven::Driven;
use self::fields::Names;
use self::head::{Framing, Head};
use self::outbox::Outbox;
pub use self::upgraded::Upgraded;
use super::alarm::Alarm;
use super::connect::{Failure, Transport};
use super::error::ErrorKind;
use super::request::RequestBody;

/// Bytes of one response head; more is a protocol error.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a read buffer: as many as this at first, twice as many after a read that filled its room, half as many
/// after one that filled little of it.
const READ_MIN: usize = 8 * 1024;
const READ_MAX: usize = 128 * 1024;
/// A buffer is read into until less than this part of it is left. What was read is not copied, and keeps its whole buffer
/// alive: a buffer for each event of a stream would cost its waiters many times what the events are long.
const READ_LEFT: usize = 4;

/// What is told the interim responses (1xx but 101) of an exchange: status, version and header fields.
pub type OnInterim<'a> = &'a (dyn Fn(StatusCode, Version, &HeaderMap) + Sync);

/// An HTTP/1.1 connection. Dropping it closes the socket at once, whatever is under way on it; that is how an exchange
/// nobody wants any more is cancelled.
pub(super) struct Http1Connection {
    io: Transport,
    /// The timer of all its exchanges.
    pub(super) alarm: Alarm,
    /// Whether it has carried an exchange before.
    pub(super) reused: bool,
    outbox: Outbox,
    /// Where reads go.
    buffer: BytesMut,
    next_read: usize,
    /// What was read and not used yet.
    unread: Bytes,
    names: Names,
    method: Method,
    body: Incoming,
    keep_alive: bool,
}

/// What is left of a response body.
enum Incoming {
    /// Nothing.
    Ended,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes until the endpoint closes.
    UntilClose,
}

impl Http1Connection {
    /// HTTP/1.1 on an open connection.
    pub(super) fn new(io: Transport) -> Self {
        Self {
            io,
            alarm: Alarm::new(Instant::now()),
            reused: false,
            outbox: Outbox::default(),
            buffer: BytesMut::new(),
            next_read: READ_MIN,
            unread: Bytes::new(),
            names: Names::default(),
            method: Method::GET,
            body: Incoming::Ended,
            keep_alive: true,
        }
    }

    /// Takes a request, whose target is in origin form, and more header fields, encoded. Nothing is sent yet.
    ///
    /// # Errors
    /// When the request cannot be expressed.
    pub(super) fn begin(
        &mut self,
        request: Box<Request<RequestBody>>,
        encoded: [&[u8]; 2],
    ) -> Result<(), Failure> {
        self.method.clone_from(request.method());
        self.outbox.put(request, encoded)
    }

    /// Sends the request on and waits for the final response head.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        on_interim: Option<OnInterim<'_>>,
    ) -> Poll<Result<Response<()>, Failure>> {
        // An answer may come before the request is complete.
        let _sent = self.poll_upload(cx)?;
        loop {
            if let Some(head) = self.parse_head()? {
                match self.take_head(head, on_interim)? {
                    Some(response) => return Poll::Ready(Ok(response)),
                    None => continue,
                }
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Failure::new(
                    ErrorKind::Reset,
                    io::Error::from(io::ErrorKind::UnexpectedEof),
                )));
            }
        }
    }

    /// The next frame of the response body; none after its end.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            match self.take_frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if matches!(self.body, Incoming::Ended) => return Poll::Ready(None),
                Ok(None) => {}
                Err(failure) => return Poll::Ready(Some(Err(failure))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if matches!(self.body, Incoming::UntilClose) => {
                    self.body = Incoming::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    let truncated = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Some(Err(Failure::new(ErrorKind::Reset, truncated))));
                }
                Ok(_) => {}
                Err(failure) => return Poll::Ready(Some(Err(failure))),
            }
        }
    }

    /// Whether the response body has ended.
    pub(super) fn is_end_stream(&self) -> bool {
        matches!(self.body, Incoming::Ended)
    }

    /// What is known of the length of the rest of the response body.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.body {
            Incoming::Ended => SizeHint::with_exact(0),
            Incoming::Length(left) => SizeHint::with_exact(left),
            Incoming::Chunked(_) | Incoming::UntilClose => SizeHint::default(),
        }
    }

    /// Whether a part of the request is still to be sent.
    pub(super) fn is_uploading(&self) -> bool {
        !self.outbox.is_done()
    }

    /// When the last part of the request body was taken; none when it had none.
    pub(super) fn moved(&self) -> Option<Instant> {
        self.outbox.moved()
    }

    /// Sends on what there is of the request. Ready when all of it is sent.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.outbox.poll_send(&mut self.io, cx)
    }

    /// Whether another request may be sent: the exchange is complete, and neither side wants to close.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.is_end_stream()
            && self.unread.is_empty()
            && !self.is_uploading()
            && !self.io.is_reset()
    }

    /// To be called when the connection becomes idle: gives back the memory that a large body took.
    pub(super) fn rest(&mut self) {
        self.reused = true;
        if self.next_read > READ_MIN {
            self.next_read = READ_MIN;
            self.buffer = BytesMut::new();
        }
    }

    /// Whether an idle connection is still open. An endpoint that says anything unasked (408 before it closes,
    /// perhaps) has no request of ours to answer.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut unasked = [0];
        let mut buffer = ReadBuf::new(&mut unasked);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.io)
            .poll_read(&mut cx, &mut buffer)
            .is_pending()
    }

    /// The connection after a 101, with what was read behind that.
    pub(super) fn into_upgraded(self) -> Upgraded {
        Upgraded::new(self.io, self.unread)
    }

    /// Reads behind what is unread. Gives the number of bytes; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Failure>> {
        if self.buffer.capacity() < self.next_read / READ_LEFT {
            self.buffer.reserve(self.next_read);
        }
        let room = self.buffer.capacity();
        let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer))
            .map_err(|error| Failure::new(ErrorKind::Reset, error))?;
        if read == room {
            self.next_read = (self.next_read * 2).min(READ_MAX);
        } else if read < self.next_read / 8 {
            self.next_read = (self.next_read / 2).max(READ_MIN);
        }
        let new = self.buffer.split().freeze();
        self.unread = if self.unread.is_empty() {
            new
        } else {
            // Only a head that came in pieces: bodies leave nothing behind.
            [&self.unread[..], &new[..]].concat().into()
        };
        Poll::Ready(Ok(read))
    }

    fn parse_head(&mut self) -> Result<Option<Head>, Failure> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        let head = Head::parse(&self.unread, &mut self.names)
            .map_err(|reason| Failure::new(ErrorKind::Protocol, reason))?;
        if head.is_none() && self.unread.len() >= MAX_HEAD_BYTES {
            return Err(Failure::new(
                ErrorKind::Protocol,
                "the response head is too large",
            ));
        }
        Ok(head)
    }

    /// Takes a parsed head. None if it was an interim one.
    fn take_head(
        &mut self,
        head: Head,
        on_interim: Option<OnInterim<'_>>,
    ) -> Result<Option<Response<()>>, Failure> {
        drop(self.unread.split_to(head.length));
        let response = head.response;
        let status = response.status();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            if let Some(on_interim) = on_interim {
                on_interim(status, response.version(), response.headers());
            }
            return Ok(None);
        }
        self.keep_alive = head.terms.keeps_alive(response.version());
        self.body = match Framing::of(&response, &head.terms, &self.method)
            .map_err(|reason| Failure::new(ErrorKind::Protocol, reason))?
        {
            Framing::Length(0) => Incoming::Ended,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked(Chunked::default()),
            Framing::UntilClose => {
                self.keep_alive = false;
                Incoming::UntilClose
            }
        };
        Ok(Some(response))
    }

    /// A frame from what was read already.
    fn take_frame(&mut self) -> Result<Option<Frame<Bytes>>, Failure> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        match &mut self.body {
            Incoming::Ended => Ok(None),
            Incoming::Length(left) => {
                let length =
                    usize::try_from(*left).map_or(self.unread.len(), |left| left.min(self.unread.len()));
                *left -= length as u64;
                if *left == 0 {
                    self.body = Incoming::Ended;
                }
                Ok(Some(Frame::data(self.unread.split_to(length))))
            }
            Incoming::Chunked(chunked) => match chunked.next(&mut self.unread) {
                Ok(Some(Piece::Data(data))) => Ok(Some(Frame::data(data))),
                Ok(Some(Piece::End(trailers))) => {
                    self.body = Incoming::Ended;
                    Ok(trailers.map(Frame::trailers))
                }
                Ok(None) => Ok(None),
                Err(reason) => Err(Failure::new(ErrorKind::Protocol, reason)),
            },
            Incoming::UntilClose => Ok(Some(Frame::data(std::mem::take(&mut self.unread)))),
        }
    }
}
