//! The scanner between the socket and the HTTP/1 library.
//!
//! How a refusal is answered in its turn: when request number k is malformed, the library is given a small valid
//! request in its place, and the connection's state says that request k is refused and why. The library hands it to
//! the service after the answers before it, and the service answers 400.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::interim::InterimWriter;
use super::malformed::Malformed;
use super::metered::Metered;
use super::scanner::{Scan, Scanner, Stop};
use crate::proxy::connection::ConnectionState;

/// What stands in for a malformed request.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: malformed.invalid\r\nconnection: close\r\n\r\n";
/// Bytes read at once while a head is incomplete.
const READ_CHUNK: usize = 4096;
/// Bytes kept while it is unknown whether they are HTTP/1.
const AWAIT_MAX: usize = 16 * 1024;
/// How long, and for how many bytes, the rest of a refused request is read and thrown away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX: usize = 256 * 1024;

/// A connection whose reader sees well-formed HTTP/1 requests only.
#[derive(Debug)]
pub struct Scanned<IO> {
    io: Metered<IO>,
    scanner: Scanner,
    /// Bytes read and not passed on.
    held: Vec<u8>,
    /// How many of them, from the first, may be passed on.
    ready: usize,
    /// Whether the others have been looked at.
    looked: bool,
    phase: Phase,
    linger: Option<Linger>,
    interims: InterimWriter,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Scanning,
    AwaitAnswer,
    PassThrough,
    /// The stand-in is the last thing the reader gets; the answer to it closes the connection.
    Refused,
    /// A request body broke the framing.
    Broken(Malformed),
}

#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<IO> Scanned<IO> {
    /// Scans `io`, of which `first` has been read already.
    pub fn new(io: Metered<IO>, scanner: Scanner, first: Vec<u8>) -> Self {
        Self {
            io,
            scanner,
            held: first,
            ready: 0,
            looked: false,
            phase: Phase::Scanning,
            linger: None,
            interims: InterimWriter::default(),
        }
    }

    pub(super) fn state(&self) -> &ConnectionState {
        self.io.state()
    }

    /// Passes on what may be passed on.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.ready -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// Looks at everything held.
    fn rescan(&mut self) {
        self.looked = true;
        let scan = self.scanner.scan(&self.held);
        self.ready = self.conclude(&scan);
        if matches!(self.phase, Phase::Refused | Phase::Broken(_)) {
            self.held.truncate(self.ready);
        }
        self.note(&scan);
        self.stand_in();
    }

    /// Decides how to go on. Gives the number of bytes that may be passed on.
    fn conclude(&mut self, scan: &Scan) -> usize {
        match (scan.stop, scan.head_at) {
            (Stop::NeedMore, _) => {}
            (Stop::AwaitAnswer, _) => self.phase = Phase::AwaitAnswer,
            (Stop::Malformed(reason), Some(head_at)) => {
                self.state().refuse(scan.request, reason);
                self.phase = Phase::Refused;
                return head_at;
            }
            (Stop::Malformed(reason), None) => self.phase = Phase::Broken(reason),
        }
        scan.release
    }

    /// Tells the sweeper whether the client owes the rest of a head.
    fn note(&self, scan: &Scan) {
        let state = self.state();
        if scan.head_at.is_some() {
            state.head_ended();
        }
        if matches!(self.phase, Phase::Scanning) && self.held.len() > self.ready {
            state.head_begun();
        }
    }

    fn stand_in(&mut self) {
        if matches!(self.phase, Phase::Refused) {
            self.held.extend_from_slice(STAND_IN);
            self.ready = self.held.len();
        }
    }

    /// Whether the client may still be sending what nobody will read.
    fn unread(&self) -> bool {
        !matches!(self.phase, Phase::Scanning | Phase::PassThrough)
            || self.scanner.in_body()
            || !self.held.is_empty()
    }
}

impl<IO: AsyncRead + Unpin> Scanned<IO> {
    /// Reads into the reader's own buffer and keeps back what is not ready. This is the way of nearly all bytes.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(Read::End));
        }
        let scan = self.scanner.scan(read);
        let release = self.conclude(&scan);
        if matches!(self.phase, Phase::Scanning | Phase::AwaitAnswer) {
            self.held.extend_from_slice(&read[release..]);
            self.looked = true;
        }
        self.note(&scan);
        self.stand_in();
        buf.set_filled(before + release);
        Poll::Ready(Ok(if release > 0 { Read::Given } else { Read::Held }))
    }

    /// Reads behind what is held.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let before = self.held.len();
        self.held.resize(before + READ_CHUNK, 0);
        let mut buf = ReadBuf::new(&mut self.held[before..]);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        let read = buf.filled().len();
        self.held.truncate(before + read);
        ready!(result)?;
        self.looked = false;
        Poll::Ready(Ok(if read == 0 { Read::End } else { Read::Held }))
    }

    fn poll_scanning(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        if self.held.is_empty() {
            self.poll_direct(cx, buf)
        } else if self.looked {
            self.poll_more(cx)
        } else {
            self.rescan();
            Poll::Ready(Ok(Read::Held))
        }
    }

    fn poll_await(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        self.state().await_answer(false);
        if self.state().is_upgraded() {
            self.phase = Phase::PassThrough;
        } else if self.state().has_answered(self.scanner.requests()) {
            self.scanner.resume();
            self.phase = Phase::Scanning;
            self.looked = false;
        } else {
            self.state().await_answer(true);
            return if self.held.len() < AWAIT_MAX {
                self.poll_more(cx)
            } else {
                Poll::Pending
            };
        }
        Poll::Ready(Ok(Read::Held))
    }

    /// Reads the rest of a refused request, so that the answer is not lost to a reset (RFC 9112, section 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            until: Box::pin(tokio::time::sleep(LINGER)),
            left: LINGER_MAX,
        });
        let mut scratch = [0; READ_CHUNK];
        while linger.left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buf.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How a step of reading went.
enum Read {
    /// The reader has bytes.
    Given,
    /// Something changed here; look again.
    Held,
    /// The client sends no more.
    End,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Scanned<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.ready > 0 {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            let step = match this.phase {
                Phase::Scanning => this.poll_scanning(cx, buf),
                Phase::AwaitAnswer => this.poll_await(cx),
                Phase::PassThrough if this.held.is_empty() => {
                    return Pin::new(&mut this.io).poll_read(cx, buf);
                }
                Phase::PassThrough => {
                    this.ready = this.held.len();
                    continue;
                }
                Phase::Refused => return Poll::Pending,
                Phase::Broken(reason) => return Poll::Ready(Err(reason.into())),
            };
            match step {
                Poll::Ready(Ok(Read::Held)) => {}
                Poll::Ready(Ok(Read::Given | Read::End)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Scanned<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.interims.poll_finish(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.interims.poll_all(&mut this.io, cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        if self.unread() {
            self.poll_linger(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
