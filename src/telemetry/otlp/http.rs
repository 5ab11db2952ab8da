//! The HTTP client under OTLP over HTTP: one connection per export, which is one per second at most.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Deadline of one exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const LARGEST_ANSWER: usize = 64 << 10;

/// Sends requests to a collector.
pub(super) struct CollectorClient {
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectorClient")
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl CollectorClient {
    /// A client that uses TLS, and trusts `roots`, if roots are given.
    pub(super) fn new(roots: Option<RootCertStore>) -> Result<Self, rustls::Error> {
        let Some(roots) = roots else {
            return Ok(Self { tls: None });
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
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

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(TIMEOUT, self.exchange(request)).await?
    }
}

/// A request to an origin server names the host in `Host`, not in the target (RFC 9112, section 3.2.1).
fn origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, HttpError> {
    let mut request = request.map(Full::new);
    let authority = request.uri().authority().ok_or("the URL has no host")?;
    let host = HeaderValue::from_str(authority.as_str())?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError>
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
        // The collector may close as soon as it has answered; what it sent is still to be read.
        closed = &mut connection => {
            closed?;
            exchange.await
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tasks::Tasks;

    /// Answers one request over TLS and closes. Returns the URL and the authority to trust.
    async fn tls_collector(tasks: &Tasks) -> (Uri, RootCertStore) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks.spawn("collector", async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = vec![0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
                assert!(
                    head.contains(&format!("\r\nhost: localhost:{port}\r\n")),
                    "{head}"
                );
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (
            format!("https://localhost:{port}/v1/traces").parse().unwrap(),
            roots,
        )
    }

    #[tokio::test]
    async fn tls_is_verified() {
        let tasks = Tasks::new();
        let (uri, roots) = tls_collector(&tasks).await;
        let request = || {
            Request::post(uri.clone())
                .body(Bytes::from_static(b"spans"))
                .unwrap()
        };
        let trusting = CollectorClient::new(Some(roots)).unwrap();
        let response = trusting.send_bytes(request()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.body()[..]),
            (200, &b"ok"[..])
        );
        let doubting = CollectorClient::new(Some(RootCertStore::empty())).unwrap();
        let error = doubting.send_bytes(request()).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        tasks.cancel();
    }
}
