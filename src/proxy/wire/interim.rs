//! Writes interim responses between the messages that the HTTP/1 library writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::metered::Metered;

/// The interim response that is being written.
///
/// The library flushes only when it has written all it has: the whole response before, if there was one, or its own
/// `100 Continue`. That is the moment to begin an interim response. It may write in the meantime, so what was begun
/// is finished first.
#[derive(Debug, Default)]
pub(super) struct InterimWriter {
    rest: Bytes,
}

impl InterimWriter {
    /// To be called before the library's bytes are written: finishes the interim response that was begun.
    pub(super) fn poll_finish<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Metered<IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.rest.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// To be called when the library flushes: writes all interim responses that wait.
    pub(super) fn poll_all<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut Metered<IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_finish(io, cx))?;
            match io.state().interims().next() {
                Some(head) => self.rest = head,
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::proxy::connection::testing;
    use crate::proxy::wire::{Scanned, Scanner};

    /// A connection whose socket takes `room` bytes, at its first request, and the client's end.
    fn connection(room: usize) -> (Scanned<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(room);
        let open = testing::open();
        open.state().interims().open(1);
        let scanner = Scanner::new((&open.state().listener().limits).into());
        (
            Scanned::new(Metered::new(ours, open), scanner, Vec::new()),
            theirs,
        )
    }

    fn offer(connection: &Scanned<DuplexStream>, head: &'static str) {
        assert!(connection.state().interims().offer(1, || head.into()));
    }

    async fn read(client: &mut DuplexStream, count: usize) -> String {
        let mut bytes = vec![0; count];
        client.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_flush_writes_all_that_wait_behind_what_was_written() {
        let (mut connection, mut client) = connection(64);
        offer(&connection, "hint 1;");
        connection.write_all(b"answer;").await.unwrap();
        assert_eq!(read(&mut client, 7).await, "answer;");
        offer(&connection, "hint 2;");
        connection.flush().await.unwrap();
        assert_eq!(read(&mut client, 14).await, "hint 1;hint 2;");
        connection.state().interims().finish().now_or_never().unwrap();
        assert_eq!(connection.state().bytes_out(), 21);
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_before_anything_else_and_nothing_new_begun() {
        let (mut connection, mut client) = connection(4);
        offer(&connection, "hint 1;");
        offer(&connection, "hint 2;");
        assert!(connection.flush().now_or_never().is_none());
        assert_eq!(read(&mut client, 4).await, "hint");
        assert_eq!(connection.write(b"100;").now_or_never().unwrap().unwrap(), 1);
        assert_eq!(read(&mut client, 4).await, " 1;1");
        assert!(connection.state().interims().finish().now_or_never().is_none());
        connection.write_all(b"00;").await.unwrap();
        let (flushed, all) = tokio::join!(connection.flush(), read(&mut client, 10));
        flushed.unwrap();
        assert_eq!(all, "00;hint 2;");
        connection.state().interims().finish().now_or_never().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_an_error() {
        let (mut connection, client) = connection(4);
        offer(&connection, "hint 1;");
        drop(client);
        connection.flush().await.unwrap_err();
    }
}
