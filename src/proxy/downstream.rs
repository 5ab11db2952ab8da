//! Serves one client connection: finds out the protocol, and hands requests to the handler.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::admission;
use super::connection::{ConnectionState, Handler, Open, Stage};
use super::tracked::{InboundBody, Tracked, Turn};
use super::wire::{Coalesced, Metered, Scanned, Scanner, Socket};
use crate::config::ListenerLimits;
use crate::tasks::Tasks;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Fields that the HTTP/1 library takes without allocating for each request.
const HTTP1_HEADERS: usize = 100;
/// Smallest bound of the HTTP/1 library's buffers, one for reading and one for writing.
const HTTP1_BUFFER: usize = 64 * 1024;
/// Bytes of request bodies that may wait for the handler: per stream, and per HTTP/2 connection.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a response that may wait for a stream's window.
const HTTP2_SEND_BUFFER: usize = 32 * 1024;
/// Streams that the client may reset before they were looked at, and that it may make us reset, before the
/// connection is given up (rapid reset, MadeYouReset).
const HTTP2_RESET_STREAMS: usize = 32;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection until it closes, is upgraded, or is ended by the sweeper.
///
/// `protocol` is what ALPN has agreed on; without it, the first bytes tell. Streams of HTTP/2 run in `tasks`.
pub async fn serve_connection<IO, H>(
    io: IO,
    open: Open,
    protocol: Option<Protocol>,
    handler: H,
    tasks: &Tasks,
) where
    IO: Socket,
    H: Handler,
{
    let state = Arc::clone(open.state());
    let serving = async {
        let mut io = Metered::new(io, open);
        let (protocol, first) = match protocol {
            Some(protocol) => (protocol, Vec::new()),
            None => detect(&mut io).await?,
        };
        match protocol {
            Protocol::Http1 => serve_http1(io, first, handler).await,
            Protocol::Http2 => serve_http2(io, first, handler, tasks).await,
        }
    };
    if let Some(Err(error)) = unless_ended(&state, serving).await {
        tracing::debug!(peer = %state.peer(), %error, "connection failed");
    }
}

/// Runs `future` until the sweeper ends the connection; None if it did.
pub(super) async fn unless_ended<F: Future>(state: &ConnectionState, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        state.wake_later(cx.waker());
        if state.ended().is_some() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Reads until it is clear whether the client speaks HTTP/2. Gives what was read.
async fn detect<IO: AsyncRead + Unpin>(io: &mut Metered<IO>) -> io::Result<(Protocol, Vec<u8>)> {
    let mut first = Vec::with_capacity(1024);
    loop {
        if first.starts_with(PREFACE) {
            return Ok((Protocol::Http2, first));
        }
        if !PREFACE.starts_with(&first) || io.read_buf(&mut first).await? == 0 {
            return Ok((Protocol::Http1, first));
        }
    }
}

async fn serve_http1<IO, H>(io: Metered<IO>, first: Vec<u8>, handler: H) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let state = Arc::clone(io.state());
    let limits = &state.listener().limits;
    let scanned = Scanned::new(io, Scanner::new(limits.into()), first);
    let service = service_fn(|request| {
        let (head, body) = taken(request);
        answer(&handler, &state, head, body)
    });
    let connection = http1_builder(limits)
        .serve_connection(TokioIo::new(scanned), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut closing = false;
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        // The library takes a request of which it has not seen the whole head for none, and would drop it.
        if closing || ended.is_ready() || !state.has_reached(Stage::Closing) || state.is_head_awaited() {
            return ended;
        }
        closing = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(cx)
    })
    .await
    .map_err(io::Error::other)
}

fn http1_builder(limits: &ListenerLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Flat writes are cheaper than vectored ones, and the sweeper keeps the deadlines (decision D4).
    builder
        .writev(false)
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER.max(limits.header_bytes));
    if limits.headers > HTTP1_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

async fn serve_http2<IO, H>(io: Metered<IO>, first: Vec<u8>, handler: H, tasks: &Tasks) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let state = Arc::clone(io.state());
    // A connection without a request is idle; the library bounds heads by size and number of frames.
    state.head_ended();
    let (coalesced, outbox) = Coalesced::new(io, first);
    let service = {
        let state = Arc::clone(&state);
        service_fn(move |request| {
            let (handler, state) = (handler.clone(), Arc::clone(&state));
            let (head, body) = taken(request);
            async move { answer(&handler, &state, head, body).await }
        })
    };
    let connection =
        http2_builder(&state.listener().limits, tasks).serve_connection(TokioIo::new(coalesced), service);
    let mut connection = pin!(connection);
    let mut draining = false;
    let ended = poll_fn(|cx| {
        if !draining && state.has_reached(Stage::Draining) {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        let ended = connection.as_mut().poll(cx);
        if let Poll::Ready(Err(error)) = outbox.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        ended.map_err(io::Error::other)
    })
    .await;
    // What the library has said last, a GOAWAY perhaps, may still be in the outbox.
    poll_fn(|cx| outbox.poll_drain(cx)).await?;
    ended
}

fn http2_builder(limits: &ListenerLimits, tasks: &Tasks) -> http2::Builder<StreamTasks> {
    let mut builder = http2::Builder::new(StreamTasks(tasks.clone()));
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(HTTP2_RESET_STREAMS)
        .max_local_error_reset_streams(HTTP2_RESET_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER);
    builder
}

/// Runs the streams of HTTP/2 connections as tasks of their worker.
#[derive(Clone)]
struct StreamTasks(Tasks);

impl<F> hyper::rt::Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // A stream ends with its connection, so nobody needs its handle.
        drop(self.0.spawn_to_end(stream));
    }
}

/// A request's head, which is large, where it stays until its end: it is handed on through many futures.
fn taken(request: Request<Incoming>) -> (Box<Parts>, Incoming) {
    let (head, body) = request.into_parts();
    (Box::new(head), body)
}

/// Has one request answered, and keeps the connection's books.
async fn answer<H: Handler>(
    handler: &H,
    state: &Arc<ConnectionState>,
    head: Box<Parts>,
    body: Incoming,
) -> Result<Response<Tracked<H::Body>>, Infallible> {
    let turn = Turn::begin(Arc::clone(state));
    let http1 = head.version < Version::HTTP_2;
    let http10 = head.version == Version::HTTP_10;
    let rejected = if http1 {
        // The scanner has looked at every byte of it.
        state.next_request()
    } else {
        admission::admit(&head, &state.listener().limits).err()
    };
    let (body, watch) = InboundBody::watch(&head.headers, body, state);
    let mut response = handler.handle(Arc::clone(state), head, body, rejected).await;
    if let Some(watch) = watch {
        watch.end();
    }
    state.interims().finish().await;
    let upgraded = http1 && response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if http1 {
        if rejected.is_some() || (state.has_reached(Stage::Draining) && !upgraded) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        state.answer_is_known(upgraded);
        // Bytes behind an upgrade request wait for this answer, and nothing else may wake their reader.
        poll_fn(|cx| {
            if state.is_answer_awaited() {
                cx.waker().wake_by_ref();
            }
            Poll::Ready(())
        })
        .await;
    } else if rejected.is_some() {
        state.advance_to(Stage::Draining);
    }
    // HTTP/1.0 has no chunks.
    let ends_connection = http10 && !response.headers().contains_key(CONTENT_LENGTH);
    Ok(response.map(|body| Tracked::new(body, turn, ends_connection)))
}

#[cfg(test)]
mod tests;
