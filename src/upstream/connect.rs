//! Opening a connection: TCP, then TLS if the upstream wants it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, OpenPermit};
use super::error::{ClusterError, ErrorKind};
use super::request::{BoxError, ExchangeKind};
use super::tls::TlsClient;
use crate::config::{self, UpstreamProtocol};

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time without an acknowledgement of sent bytes after which the connection is given up. It is what ends an HTTP/2
/// connection to a vanished host: pings are not used, because gRPC servers close connections that ping.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Opens connections to the endpoints of one upstream.
pub(super) struct Connector {
    protocol: UpstreamProtocol,
    tls: Option<TlsClient>,
}

/// The protocols offered on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The endpoint chooses by ALPN.
    Either,
}

/// The protocol of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why no exchange could begin.
#[derive(Debug)]
pub(super) struct Failure {
    /// What went wrong.
    pub(super) kind: ErrorKind,
    /// The cause, when there is one.
    pub(super) source: Option<BoxError>,
}

impl Failure {
    /// A failure with a cause.
    pub(super) fn new(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl Connector {
    /// Reads the TLS files of `config`.
    pub(super) fn load(config: &config::Upstream) -> Result<Self, ClusterError> {
        let tls = config.tls.as_ref().map(TlsClient::load).transpose()?;
        if let Some(tls) = &tls {
            for endpoint in &config.endpoints {
                tls.name(endpoint.host.trim_matches(['[', ']']))?;
            }
        }
        Ok(Self {
            protocol: config.protocol,
            tls,
        })
    }

    /// The scheme of requests.
    pub(super) fn scheme(&self) -> Scheme {
        if self.tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// What to offer for an exchange. None when the upstream's protocol cannot carry it.
    pub(super) fn offer(&self, kind: ExchangeKind) -> Option<Offer> {
        match (self.protocol, kind) {
            (UpstreamProtocol::H2, ExchangeKind::Upgrade) => None,
            (UpstreamProtocol::H2, _) => Some(Offer::Http2),
            (UpstreamProtocol::Http1, _) | (UpstreamProtocol::Auto, ExchangeKind::Upgrade) => {
                Some(Offer::Http1)
            }
            (UpstreamProtocol::Auto, _) if self.tls.is_some() => Some(Offer::Either),
            (UpstreamProtocol::Auto, ExchangeKind::Grpc) => Some(Offer::Http2),
            (UpstreamProtocol::Auto, ExchangeKind::Ordinary) => Some(Offer::Http1),
        }
    }

    /// Connects to the endpoint. Sets no deadline: the caller's covers the wait for the permit as well.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        offer: Offer,
        permit: Option<OpenPermit>,
    ) -> Result<(Transport, Spoken), Failure> {
        let tcp = TcpStream::connect(endpoint.address())
            .await
            .map_err(|error| Failure::new(ErrorKind::Connect, error))?;
        tune(&tcp).map_err(|error| Failure::new(ErrorKind::Connect, error))?;
        let Some(tls) = &self.tls else {
            let spoken = match offer {
                Offer::Http1 | Offer::Either => Spoken::Http1,
                Offer::Http2 => Spoken::Http2,
            };
            return Ok((Transport::new(Stream::Tcp(tcp), permit), spoken));
        };
        let name = tls
            .name(&endpoint.configured().host)
            .map_err(|error| Failure::new(ErrorKind::Tls, error))?;
        let stream = tls
            .connector(offer)
            .connect(name, tcp)
            .await
            .map_err(|error| Failure::new(ErrorKind::Tls, error))?;
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Spoken::Http2,
            // An endpoint without ALPN speaks HTTP/1.1 (RFC 9113, section 3.2: h2 needs ALPN).
            _ if offer == Offer::Http2 => {
                return Err(Failure::new(
                    ErrorKind::Tls,
                    "the endpoint does not offer h2 by ALPN",
                ));
            }
            _ => Spoken::Http1,
        };
        Ok((Transport::new(Stream::Tls(Box::new(stream)), permit), spoken))
    }
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

/// An open connection with its place in the endpoint's limit.
///
/// A peer may answer and close before it has read the whole request; the reset that follows would make the next
/// write fail, and the answer in our receive buffer would never be looked at. So what is written after a reset is
/// thrown away, and the reader finds the answer, or the reset.
#[derive(Debug)]
pub(super) struct Transport {
    stream: Stream,
    reset: bool,
    _permit: Option<OpenPermit>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn new(stream: Stream, permit: Option<OpenPermit>) -> Self {
        Self {
            stream,
            reset: false,
            _permit: permit,
        }
    }

    /// Whether the peer has reset the connection, as far as a write has shown.
    pub(super) fn is_reset(&self) -> bool {
        self.reset
    }

    fn written(&mut self, outcome: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(error)) if is_reset(&error) => {
                self.reset = true;
                Poll::Ready(Ok(length))
            }
            outcome => outcome,
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        // The kernel reports a reset once; after the write that was told of it, it looks like a clean end.
        match outcome {
            Poll::Ready(Ok(())) if self.reset && buffer.filled().len() == before => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            outcome => outcome,
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.written(outcome, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.written(outcome, length)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.written(outcome.map_ok(|()| 0), 0).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing;

    #[test]
    fn the_offer_follows_protocol_and_exchange() {
        let offer = |protocol, kind| {
            let mut config = testing::config(&["127.0.0.1:1"]);
            config.protocol = protocol;
            Connector::load(&config).unwrap().offer(kind)
        };
        use ExchangeKind::{Grpc, Ordinary, Upgrade};
        assert_eq!(offer(UpstreamProtocol::Http1, Grpc), Some(Offer::Http1));
        assert_eq!(offer(UpstreamProtocol::H2, Ordinary), Some(Offer::Http2));
        assert_eq!(offer(UpstreamProtocol::H2, Upgrade), None);
        assert_eq!(offer(UpstreamProtocol::Auto, Ordinary), Some(Offer::Http1));
        assert_eq!(offer(UpstreamProtocol::Auto, Grpc), Some(Offer::Http2));
        assert_eq!(offer(UpstreamProtocol::Auto, Upgrade), Some(Offer::Http1));
    }
}
