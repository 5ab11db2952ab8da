//! The HTTP client under OTLP over HTTP: one connection per export, which is one per second at most.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use rustls::{ClientConfig, RootCertStore};

use crate::http_call::Caller;

/// Sends requests to a collector.
#[derive(Debug)]
pub(super) struct CollectorClient(Caller);

impl CollectorClient {
    /// A client that uses TLS, and trusts `roots`, if roots are given.
    pub(super) fn new(roots: Option<RootCertStore>) -> Result<Self, rustls::Error> {
        let Some(roots) = roots else {
            return Ok(Self(Caller::new(None)));
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Caller::new(Some(config))))
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.0.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
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
