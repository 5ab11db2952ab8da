//! One write per turn for HTTP/2.
//!
//! The HTTP/2 library writes and flushes after every larger frame, one system call per response. [`Coalesced`] takes
//! these writes into a buffer and lets the flushes pass; [`Outbox::poll_drain`] writes them out when the connection's
//! turn is over. When the buffer is full the library waits for the socket, so a slow reader costs no more than that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::metered::Metered;

/// Bytes taken before the socket has to take some.
const BUFFER_MAX: usize = 64 * 1024;

/// A connection that holds writes back until the end of the turn.
#[derive(Debug)]
pub struct Coalesced<IO> {
    outbox: Outbox<IO>,
    /// Read before and not passed on yet.
    first: Vec<u8>,
}

/// The other handle on the same connection; it writes out what was held back.
#[derive(Debug)]
pub struct Outbox<IO>(Arc<Mutex<Buffered<IO>>>);

/// Invariant: the lock is held only inside one poll of the connection's own task and is never contended.
#[derive(Debug)]
struct Buffered<IO> {
    io: Metered<IO>,
    bytes: Vec<u8>,
    written: usize,
    flush: bool,
}

impl<IO> Coalesced<IO> {
    /// Holds back the writes to `io`, of which `first` has been read already.
    pub fn new(io: Metered<IO>, first: Vec<u8>) -> (Self, Outbox<IO>) {
        let buffered = Buffered {
            io,
            bytes: Vec::new(),
            written: 0,
            flush: false,
        };
        let shared = Arc::new(Mutex::new(buffered));
        (
            Self {
                outbox: Outbox(Arc::clone(&shared)),
                first,
            },
            Outbox(shared),
        )
    }
}

impl<IO: AsyncWrite + Unpin> Outbox<IO> {
    /// Writes out what was held back. Pending while the socket does not take it; the task is then woken.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_drain(cx)
    }
}

impl<IO: AsyncWrite + Unpin> Buffered<IO> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.bytes.clear();
        self.written = 0;
        if self.flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.bytes.len() - self.written >= BUFFER_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if self.written > 0 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        let taken = bytes.len().min(BUFFER_MAX - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Coalesced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.outbox.0.lock().io).poll_read(cx, buf);
        }
        let count = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..count]);
        self.first.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Coalesced<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.0.lock().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.0.lock().flush = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffered = self.outbox.0.lock();
        ready!(buffered.poll_drain(cx))?;
        Pin::new(&mut buffered.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::proxy::connection::testing;

    #[tokio::test]
    async fn writes_wait_for_the_end_of_the_turn_and_a_full_buffer_for_the_socket() {
        let (client, server) = tokio::io::duplex(1024);
        let (mut coalesced, outbox) = Coalesced::new(Metered::new(server, testing::open()), Vec::new());
        let (mut client, mut cx) = (client, Context::from_waker(std::task::Waker::noop()));

        coalesced.write_all(b"one").await.unwrap();
        coalesced.flush().await.unwrap();
        coalesced.write_all(b"two").await.unwrap();
        let mut read = [0; 6];
        let mut buf = ReadBuf::new(&mut read);
        assert!(Pin::new(&mut client).poll_read(&mut cx, &mut buf).is_pending());
        assert!(outbox.poll_drain(&mut cx).is_ready());
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"onetwo");

        let large = vec![7; BUFFER_MAX];
        coalesced.write_all(&large).await.unwrap();
        assert!(Pin::new(&mut coalesced).poll_write(&mut cx, b"more").is_pending());
        let mut all = vec![0; BUFFER_MAX + 4];
        let (read, written) = tokio::join!(client.read_exact(&mut all), async {
            coalesced.write_all(b"more").await?;
            coalesced.shutdown().await
        });
        read.unwrap();
        written.unwrap();
        assert_eq!((all[0], &all[BUFFER_MAX..]), (7, b"more".as_slice()));
    }
}
