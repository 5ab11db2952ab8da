//! The socket with its meters: every byte in or out is noted in the connection's state, where the sweeper looks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::proxy::connection::{ConnectionState, Open};

/// What clients are connected by.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close a reset.
    fn reset_on_close(&self);
}

impl Socket for TcpStream {
    fn reset_on_close(&self) {
        // Fails only on a socket that is closed already.
        drop(SockRef::from(self).set_linger(Some(Duration::ZERO)));
    }
}

impl Socket for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {
    fn reset_on_close(&self) {}
}

/// A client's byte stream (inside TLS, if there is TLS).
///
/// It lives as long as anyone uses the socket, upgraded connections included, and with it the connection's place
/// among the open ones.
#[derive(Debug)]
pub struct Metered<IO> {
    io: IO,
    open: Open,
    reset_on_close: fn(&IO),
}

impl<IO: Socket> Metered<IO> {
    /// Meters `io`, the socket of the connection that is `open`.
    pub fn new(io: IO, open: Open) -> Self {
        Self {
            io,
            open,
            reset_on_close: IO::reset_on_close,
        }
    }
}

/// A response that only the end of the connection delimits must not end cleanly before it is complete.
impl<IO> Drop for Metered<IO> {
    fn drop(&mut self) {
        if self.state().owes_end() {
            (self.reset_on_close)(&self.io);
        }
    }
}

impl<IO> Metered<IO> {
    /// The connection.
    pub fn state(&self) -> &Arc<ConnectionState> {
        self.open.state()
    }

    /// An upgraded connection has no task of ours that could be ended; its reads and writes fail instead.
    fn pending<T>(&self, cx: &Context<'_>) -> Poll<io::Result<T>> {
        if self.state().is_upgraded() {
            self.state().wake_later(cx.waker());
            if self.state().ended().is_some() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.state().received(buf.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.pending(cx),
            failed => failed,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Ready(Ok(written)) => {
                self.state().sent(written);
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                self.state().write_blocked();
                self.pending(cx)
            }
            failed => failed,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
