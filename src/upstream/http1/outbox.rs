//! The request on its way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request};
use http_body::Body;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::upstream::connect::{Failure, Transport};
use crate::upstream::error::ErrorKind;
use crate::upstream::request::RequestBody;

/// Data up to this length is copied behind the head, so that both leave in one write.
const COPIED: usize = 16 * 1024;
/// Capacity that is kept for the next request.
const KEPT: usize = 16 * 1024;
/// Fields that mean something else, or nothing, behind a body.
const NEVER_TRAILERS: [HeaderName; 6] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TRAILER,
    TRANSFER_ENCODING,
];

/// What is to be sent, and the body from which more comes.
pub(super) struct Outbox {
    /// Encoded bytes, of which `sent` were sent; they go before `data`.
    encoded: Vec<u8>,
    sent: usize,
    /// Data too large to be copied.
    data: Bytes,
    /// Whether nothing but a head is encoded.
    head_alone: bool,
    /// Whether nothing waits in the layer below, which may be TLS.
    flushed: bool,
    body: Option<Outgoing>,
    moved: Option<Instant>,
}

/// A request body.
struct Outgoing {
    body: RequestBody,
    framing: Framing,
}

enum Framing {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks, then those of these trailers that come.
    Chunked(Vec<HeaderName>),
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            encoded: Vec::new(),
            sent: 0,
            data: Bytes::new(),
            head_alone: false,
            flushed: true,
            body: None,
            moved: None,
        }
    }
}

impl Outbox {
    /// Takes the next request, and header fields that go behind its own.
    ///
    /// # Errors
    /// When its length is malformed.
    pub(super) fn put(
        &mut self,
        request: Box<Request<RequestBody>>,
        encoded: [&[u8]; 2],
    ) -> Result<(), Failure> {
        self.encoded.clear();
        self.encoded.shrink_to(KEPT);
        self.sent = 0;
        self.data = Bytes::new();
        self.body = None;
        self.moved = None;
        self.head_alone = true;
        self.encode_head(&request);
        for fields in encoded {
            self.encoded.extend_from_slice(fields);
        }
        let declared = declared_length(request.headers())?;
        let length = declared.or(request.body().size_hint().exact());
        if request.body().is_end_stream() {
            // A body that lacks what was declared must not leave the endpoint waiting for it.
            if declared.is_some_and(|length| length > 0) {
                return Err(Failure::new(
                    ErrorKind::RequestBody,
                    "the request body is missing",
                ));
            }
        } else {
            let framing = match length {
                Some(length) => Framing::Length(length),
                None => Framing::Chunked(announced(request.headers())),
            };
            match (&framing, declared) {
                (Framing::Chunked(_), _) => self.field(TRANSFER_ENCODING.as_str(), b"chunked"),
                (Framing::Length(length), None) => {
                    let mut digits = itoa::Buffer::new();
                    self.field(CONTENT_LENGTH.as_str(), digits.format(*length).as_bytes());
                }
                (Framing::Length(_), Some(_)) => {}
            }
            self.moved = Some(Instant::now());
            let body = request.into_body();
            self.body = Some(Outgoing { body, framing });
        }
        self.encoded.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Whether everything was sent.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.sent == self.encoded.len() && self.data.is_empty() && self.flushed
    }

    /// When the last part of the body was taken; none without a body.
    pub(super) fn moved(&self) -> Option<Instant> {
        self.moved
    }

    /// Sends on what there is. Ready when everything was sent.
    pub(super) fn poll_send(
        &mut self,
        io: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            // The first part of the body that is there already goes with the head.
            if !std::mem::take(&mut self.head_alone) {
                ready!(self.poll_flush(io, cx))?;
            }
            match self.poll_more(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return self.poll_flush(io, cx),
                Poll::Pending => {
                    ready!(self.poll_flush(io, cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes a part of the body, to be called when all before it was sent. Ready with whether there may be more.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        let Some(outgoing) = &mut self.body else {
            return Poll::Ready(Ok(false));
        };
        let frame = match ready!(Pin::new(&mut outgoing.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Err(Failure::new(ErrorKind::RequestBody, error))),
            None => return Poll::Ready(self.encode_end(None).map(|()| false)),
        };
        self.moved = Some(Instant::now());
        let ended = outgoing.body.is_end_stream();
        match frame.into_data() {
            Ok(data) => self.encode_data(data)?,
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                return Poll::Ready(self.encode_end(trailers).map(|()| false));
            }
        }
        if ended {
            self.encode_end(None)?;
        }
        Poll::Ready(Ok(!ended))
    }

    /// Sends what is encoded.
    fn poll_flush(&mut self, io: &mut Transport, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let lost = |error| Failure::new(ErrorKind::Reset, error);
        while self.sent < self.encoded.len() {
            self.flushed = false;
            self.sent +=
                ready!(Pin::new(&mut *io).poll_write(cx, &self.encoded[self.sent..])).map_err(lost)?;
        }
        self.encoded.clear();
        self.sent = 0;
        while !self.data.is_empty() {
            self.flushed = false;
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.data)).map_err(lost)?;
            self.data.advance(written);
        }
        if !self.flushed {
            ready!(Pin::new(io).poll_flush(cx)).map_err(lost)?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn encode_head(&mut self, request: &Request<RequestBody>) {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        self.encoded
            .extend_from_slice(request.method().as_str().as_bytes());
        self.encoded.push(b' ');
        self.encoded.extend_from_slice(target.as_bytes());
        self.encoded.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in request.headers() {
            // The framing is ours to tell.
            if *name != TRANSFER_ENCODING {
                self.field(name.as_str(), value.as_bytes());
            }
        }
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        self.encoded.extend_from_slice(name.as_bytes());
        self.encoded.extend_from_slice(b": ");
        self.encoded.extend_from_slice(value);
        self.encoded.extend_from_slice(b"\r\n");
    }

    fn encode_data(&mut self, data: Bytes) -> Result<(), Failure> {
        match self.body.as_mut().map(|outgoing| &mut outgoing.framing) {
            Some(Framing::Length(left)) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| Failure::new(ErrorKind::RequestBody, "the request body is too long"))?;
                if data.len() > COPIED {
                    self.data = data;
                } else {
                    self.encoded.extend_from_slice(&data);
                }
            }
            // An empty chunk would be the last.
            Some(Framing::Chunked(_)) if !data.is_empty() => {
                let size = format!("{:x}\r\n", data.len());
                for part in [size.as_bytes(), &data, b"\r\n"] {
                    self.encoded.extend_from_slice(part);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The body has ended.
    fn encode_end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Failure> {
        match self.body.take().map(|outgoing| outgoing.framing) {
            Some(Framing::Length(left)) if left > 0 => {
                return Err(Failure::new(
                    ErrorKind::RequestBody,
                    "the request body is too short",
                ));
            }
            Some(Framing::Chunked(announced)) => {
                self.encoded.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().flatten() {
                    if announced.contains(name) {
                        self.field(name.as_str(), value.as_bytes());
                    }
                }
                self.encoded.extend_from_slice(b"\r\n");
            }
            // There is no place for trailers behind a body of declared length (RFC 9112, section 7.1.2).
            _ => {}
        }
        Ok(())
    }
}

/// The length that the head declares. The scanner of client connections has seen to it that there is one value.
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|digits| digits.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| Failure::new(ErrorKind::Protocol, "a malformed Content-Length"))
}

/// The trailers that a request announces, except those that would be taken for something else (RFC 9110, section
/// 6.5.1).
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| !NEVER_TRAILERS.contains(name))
        .collect()
}
