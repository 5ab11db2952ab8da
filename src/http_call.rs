//! One HTTP/1.1 request on a connection of its own: for exporters and receivers, which send little and rarely.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Deadline of one exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const LARGEST_ANSWER: usize = 64 << 10;

/// Why there is no answer. Names no URL, which may be a secret.
pub type CallError = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests, each on a new connection, each within 5 s.
#[derive(Clone)]
pub struct Caller {
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl Caller {
    /// With TLS, if it is given. The peer is verified as `tls` says.
    pub fn new(tls: Option<ClientConfig>) -> Self {
        Self {
            tls: tls.map(|tls| TlsConnector::from(Arc::new(tls))),
        }
    }

    /// Sends `request`, whose target is an absolute URL, and reads the answer, up to 64 KiB.
    ///
    /// # Errors
    /// When there is no connection, no verified peer, or no whole answer in time.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        tokio::time::timeout(TIMEOUT, self.exchange(request)).await?
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let host = request
            .uri()
            .host()
            .ok_or("the URL has no host")?
            .trim_matches(['[', ']'])
            .to_owned();
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = request.uri().port_u16().unwrap_or(default_port);
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let request = origin_form(request)?;
        match &self.tls {
            Some(tls) => {
                let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
                send(stream, request).await
            }
            None => send(stream, request).await,
        }
    }
}

/// A request to an origin server names the host in `Host`, not in the target (RFC 9112, section 3.2.1).
fn origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = request.map(Full::new);
    let authority = request.uri().authority().ok_or("the URL has no host")?;
    let host = HeaderValue::from_str(authority.as_str())?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, CallError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        #[expect(clippy::disallowed_methods, reason = "the body is bounded")]
        let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The peer may close as soon as it has answered; what it sent is still to be read.
        closed = &mut connection => {
            closed?;
            exchange.await
        }
    }
}
