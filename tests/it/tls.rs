//! TLS on both sides: one sidecar's listener is the upstream of another.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Call, ConfigText, Origin, Reply, Sidecar, eventually, within};

/// An authority that signs for `localhost`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes a new certificate and its key.
    fn sign_into(&self, directory: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    }

    /// A sidecar whose listener has a certificate of this authority.
    async fn listener(&self, origin: &Origin) -> Sidecar {
        let directory = tempfile::tempdir().unwrap();
        self.sign_into(directory.path());
        let config = ConfigText::new(origin.address())
            .listener("tls: {cert_file: \"@DIR@/tls.crt\", key_file: \"@DIR@/tls.key\"}");
        start(directory, &config).await
    }

    /// A sidecar that asks `upstream` by TLS and trusts this authority.
    async fn in_front_of(&self, upstream: SocketAddr, keys: &str) -> Sidecar {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), &self.pem).unwrap();
        let keys = format!("tls: {{sni: localhost, ca_file: \"@DIR@/ca.crt\"}}, {keys}");
        start(directory, &ConfigText::new(upstream).upstream(&keys)).await
    }

    /// The certificate that `address` shows, and the protocol that it agrees on.
    async fn handshake(&self, address: SocketAddr, alpn: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let stream = within("a TLS handshake", connector.connect(name, tcp))
            .await
            .unwrap();
        let connection = stream.get_ref().1;
        (
            connection.peer_certificates().unwrap()[0].to_vec(),
            connection.alpn_protocol().map(<[u8]>::to_vec),
        )
    }
}

async fn start(directory: TempDir, config: &ConfigText) -> Sidecar {
    let file = directory.path().join("outrigger.yaml");
    fs::create_dir(directory.path().join("state")).unwrap();
    let text = config.text().replace("@DIR@", directory.path().to_str().unwrap());
    fs::write(&file, text).unwrap();
    Sidecar::start_in(directory, &file).await
}

#[tokio::test]
async fn requests_pass_by_tls_over_both_versions_of_http() {
    let origin = Origin::start().await;
    origin.on("/a", |seen| {
        let via = seen.headers.get_all("via").iter();
        let via: Vec<_> = via.map(|hop| hop.to_str().unwrap()).collect();
        Reply::ok(via.join(", "))
    });
    let authority = Authority::new();
    let inner = authority.listener(&origin).await;
    for (keys, via) in [
        ("protocol: http1", "1.1 outrigger, 1.1 outrigger"),
        ("protocol: h2", "1.1 outrigger, 2.0 outrigger"),
        ("protocol: auto", "1.1 outrigger, 2.0 outrigger"),
    ] {
        let outer = authority.in_front_of(inner.address(), keys).await;
        for _ in 0..3 {
            let answer = outer.get("/a").await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, via), "{keys}");
        }
        let large = vec![b'x'; 3 << 20];
        origin.on("/echo", |seen| Reply::ok(seen.body));
        let echoed = outer.fetch(Call::json("/echo", large.clone())).await;
        assert!(
            echoed.body == large,
            "{keys}: {} bytes came back",
            echoed.body.len()
        );
        assert_eq!(origin.last("/echo").header("x-forwarded-proto"), "https");
    }
}

#[tokio::test]
async fn the_protocol_is_what_alpn_agrees_on() {
    let origin = Origin::start().await;
    let authority = Authority::new();
    let sidecar = authority.listener(&origin).await;
    let agreed = async |offer: &[&[u8]]| authority.handshake(sidecar.address(), offer).await.1;
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).await.unwrap(), b"h2");
    assert_eq!(agreed(&[b"http/1.1"]).await.unwrap(), b"http/1.1");
    assert_eq!(agreed(&[]).await, None);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let origin = Origin::start().await;
    let authority = Authority::new();
    let sidecar = authority.listener(&origin).await;
    let (before, _) = authority.handshake(sidecar.address(), &[]).await;
    authority.sign_into(sidecar.directory());
    eventually("the new certificate", async || {
        let (shown, _) = authority.handshake(sidecar.address(), &[]).await;
        (shown != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upstream_of_an_unknown_authority_is_not_asked() {
    let origin = Origin::start().await;
    origin.on("/a", |_| Reply::ok("secret"));
    let inner = Authority::new().listener(&origin).await;
    let outer = Authority::new()
        .in_front_of(inner.address(), "protocol: http1")
        .await;
    let answer = outer.get("/a").await;
    assert_eq!(answer.status, 502);
    assert_eq!(origin.count("/a"), 0);
}
