//! TLS towards the upstream: trust, identity, ALPN.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Version;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientTls, UpstreamProtocol};
use crate::upstream::testing::{Bench, Origin, config, get, read, until};
use crate::upstream::{ErrorKind, ExchangeKind};

/// An authority, a server certificate for `hub.test` and a client certificate, as files in a directory.
struct Authority {
    directory: tempfile::TempDir,
    server: (CertificateParams, KeyPair),
    issuer: Issuer<'static, KeyPair>,
    root: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), root.pem()).unwrap();
        let client_key = KeyPair::generate().unwrap();
        let client = CertificateParams::new(vec!["sidecar".to_owned()]).unwrap();
        let client = client.signed_by(&client_key, &issuer).unwrap();
        std::fs::write(directory.path().join("client.pem"), client.pem()).unwrap();
        std::fs::write(directory.path().join("client.key"), client_key.serialize_pem()).unwrap();
        let server = CertificateParams::new(vec!["hub.test".to_owned()]).unwrap();
        Self {
            directory,
            server: (server, KeyPair::generate().unwrap()),
            issuer,
            root,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn acceptor(&self, protocols: &[&str], ask_client: bool) -> TlsAcceptor {
        let (params, key) = &self.server;
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if ask_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.root.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Speaks what ALPN chose: a canned HTTP/1.1 answer, or a hyper HTTP/2 server.
async fn origin(acceptor: TlsAcceptor) -> Origin {
    Origin::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let answer = |_| async {
                    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"h2"));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                };
                let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ended = server
                    .serve_connection(io, hyper::service::service_fn(answer))
                    .await;
                return;
            }
            let mut request = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                request.push(byte);
                if request.ends_with(b"\r\n\r\n") {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1")
                        .await
                        .unwrap();
                }
            }
        }
    })
    .await
}

fn bench(
    origin: &Origin,
    protocol: UpstreamProtocol,
    ca: &Path,
    identity: Option<(PathBuf, PathBuf)>,
) -> Bench {
    let mut config = config(&[&origin.label()]);
    config.protocol = protocol;
    config.tls = Some(ClientTls {
        sni: Some("hub.test".to_owned()),
        ca_file: Some(ca.to_owned()),
        identity,
    });
    Bench::new(config)
}

#[tokio::test]
async fn auto_follows_alpn_and_an_upgrade_insists_on_http1() {
    let authority = Authority::new();
    let both = origin(authority.acceptor(&["h2", "http/1.1"], false)).await;
    let bench_both = bench(&both, UpstreamProtocol::Auto, &authority.file("ca.pem"), None);
    let burst = (0..5).map(|_| bench_both.get());
    for body in futures_util::future::join_all(burst).await {
        assert_eq!(body.unwrap(), "h2");
    }
    assert_eq!(both.accepted(), 1);
    let upgrade = bench_both.send_as(get("/"), ExchangeKind::Upgrade).await.unwrap();
    assert_eq!(upgrade.version(), Version::HTTP_11);
    let old = origin(authority.acceptor(&[], false)).await;
    let bench_old = bench(&old, UpstreamProtocol::Auto, &authority.file("ca.pem"), None);
    assert_eq!(bench_old.get().await.unwrap(), "h1");
    assert_eq!(bench_old.get().await.unwrap(), "h1");
    assert_eq!(old.accepted(), 1);
}

#[tokio::test]
async fn h2_without_alpn_is_refused() {
    let authority = Authority::new();
    let origin = origin(authority.acceptor(&[], false)).await;
    let bench = bench(&origin, UpstreamProtocol::H2, &authority.file("ca.pem"), None);
    let error = bench.send(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.request.is_some()), (ErrorKind::Tls, true));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let origin = origin(authority.acceptor(&[], false)).await;
    let bench = bench(&origin, UpstreamProtocol::Http1, &stranger.file("ca.pem"), None);
    let error = bench.send(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.request.is_some()), (ErrorKind::Tls, true));
    until(|| bench.endpoint().open_connections() == 0).await;
}

#[tokio::test]
async fn the_identity_is_presented() {
    let authority = Authority::new();
    let origin = origin(authority.acceptor(&[], true)).await;
    let ca = authority.file("ca.pem");
    let identity = (authority.file("client.pem"), authority.file("client.key"));
    let known = bench(&origin, UpstreamProtocol::Http1, &ca, Some(identity));
    assert_eq!(read(known.send(get("/")).await.unwrap()).await.unwrap(), "h1");
    let anonymous = bench(&origin, UpstreamProtocol::Http1, &ca, None);
    assert!(anonymous.send(get("/")).await.is_err());
}
