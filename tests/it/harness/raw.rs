//! A client that sends exact bytes and looks at exact bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wait::within;

/// A raw connection to a listener.
pub(crate) struct Raw(TcpStream);

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Status.
    pub(crate) status: u16,
    /// The lines after the status line, without their ends.
    pub(crate) fields: Vec<String>,
}

impl Head {
    /// A header's value; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        let of_name = |field: &&String| {
            field
                .split(':')
                .next()
                .is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        let field = self.fields.iter().find(of_name);
        field
            .and_then(|field| field.split_once(':'))
            .map_or("", |(_, value)| value.trim())
    }
}

impl Raw {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address))
            .await
            .expect("the listener accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Self(stream)
    }

    /// Sends bytes. A peer that has already hung up is no error: its answer is what counts.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(within("room in the socket", self.0.write_all(bytes.as_ref())).await);
    }

    /// Reads the head of the next answer, informational ones included.
    pub(crate) async fn head(&mut self) -> Head {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match within("the head of an answer", self.0.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(error) => panic!("{error} in the head {:?}", String::from_utf8_lossy(&head)),
            }
        }
        let head = String::from_utf8(head).expect("a readable head");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        Head {
            status: status.expect("a status line"),
            fields: lines.map(str::to_owned).collect(),
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("bytes of the body", self.0.read_exact(&mut bytes))
            .await
            .expect("so many bytes");
        bytes
    }

    /// Reads until the peer closes; a reset counts as closed.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        drop(within("the end of the connection", self.0.read_to_end(&mut bytes)).await);
        bytes
    }
}
