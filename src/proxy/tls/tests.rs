//! Handshakes in memory with certificates made for the test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConnection, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use super::*;

/// A directory with an authority and a server certificate signed by it.
struct Fixture {
    directory: TempDir,
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Fixture {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let fixture = Self {
            directory: TempDir::new().unwrap(),
            authority: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        };
        fs::write(fixture.file("ca.pem"), certificate.pem()).unwrap();
        fixture.renew();
        fixture
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> ServerTls {
        ServerTls {
            cert_file: self.file("cert.pem"),
            key_file: self.file("key.pem"),
            client_ca_file: None,
        }
    }

    fn files_with_client_authority(&self) -> ServerTls {
        ServerTls {
            client_ca_file: Some(self.file("ca.pem")),
            ..self.files()
        }
    }

    fn sign(&self) -> CertifiedKey<KeyPair> {
        let signing_key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["hub.local".to_owned()]).unwrap();
        let cert = params.signed_by(&signing_key, &self.issuer).unwrap();
        CertifiedKey { cert, signing_key }
    }

    /// Writes a new server certificate and key, and returns the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let signed = self.sign();
        fs::write(self.file("cert.pem"), signed.cert.pem()).unwrap();
        fs::write(self.file("key.pem"), signed.signing_key.serialize_pem()).unwrap();
        signed.cert.der().clone()
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        identity: Option<&CertifiedKey<KeyPair>>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![identity.cert.der().clone()], key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }
}

/// Both ends after a handshake in memory, or the server's or client's complaint.
fn handshake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let name = ServerName::try_from("hub.local").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        deliver(&bytes, |unread| server.read_tls(unread))?;
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        deliver(&bytes, |unread| client.read_tls(unread))?;
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((server, client))
}

fn deliver(
    mut bytes: &[u8],
    mut read_tls: impl FnMut(&mut dyn io::Read) -> io::Result<usize>,
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        read_tls(&mut bytes).map_err(|error| rustls::Error::General(error.to_string()))?;
    }
    Ok(())
}

fn certificate_served(fixture: &Fixture, tls: &ReloadingTls) -> CertificateDer<'static> {
    let (_, client) = handshake(tls.config(), fixture.client(&version::TLS13, None)).unwrap();
    client.peer_certificates().unwrap()[0].clone()
}

#[test]
fn speaks_both_versions_and_prefers_http2() {
    let fixture = Fixture::new();
    let tls = ReloadingTls::load(&fixture.files()).unwrap();
    for (version, expected) in [
        (&version::TLS12, ProtocolVersion::TLSv1_2),
        (&version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for (offered, chosen) in [(vec!["http/1.1", "h2"], "h2"), (vec!["http/1.1"], "http/1.1")] {
            let mut client = fixture.client(version, None);
            client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (server, _) = handshake(tls.config(), client).unwrap();
            assert_eq!(server.protocol_version(), Some(expected));
            assert_eq!(server.alpn_protocol(), Some(chosen.as_bytes()));
        }
    }
}

#[test]
fn a_new_certificate_takes_effect_when_installed() {
    let fixture = Fixture::new();
    let first = fixture.renew();
    let tls = ReloadingTls::load(&fixture.files()).unwrap();
    let second = fixture.renew();
    let staged = tls.stage().unwrap();
    assert_eq!(certificate_served(&fixture, &tls), first);
    tls.install(staged);
    assert_eq!(certificate_served(&fixture, &tls), second);
}

#[test]
fn a_broken_file_is_named_and_the_old_certificate_stays() {
    let fixture = Fixture::new();
    let first = fixture.renew();
    let tls = ReloadingTls::load(&fixture.files()).unwrap();
    let half = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    for (name, content, expected) in [
        ("cert.pem", half, "cert.pem is not valid PEM"),
        ("cert.pem", "", "cert.pem holds no certificate"),
        ("key.pem", "", "key.pem holds no private key"),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----\n",
            "key.pem is not valid PEM",
        ),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "key.pem: ",
        ),
    ] {
        let good = fs::read(fixture.file(name)).unwrap();
        fs::write(fixture.file(name), content).unwrap();
        let message = tls.stage().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        fs::write(fixture.file(name), good).unwrap();
    }
    fs::remove_file(fixture.file("key.pem")).unwrap();
    let message = tls.stage().unwrap_err().to_string();
    assert!(
        message.starts_with("cannot read ") && message.contains("key.pem"),
        "{message}"
    );
    assert_eq!(certificate_served(&fixture, &tls), first);
}

#[test]
fn a_malformed_key_is_not_repeated_in_the_message() {
    let fixture = Fixture::new();
    let one_line = fs::read_to_string(fixture.file("key.pem"))
        .unwrap()
        .replace('\n', " ");
    fs::write(fixture.file("key.pem"), &one_line).unwrap();
    let error = ReloadingTls::load(&fixture.files()).unwrap_err();
    assert!(matches!(error, TlsError::Pem { .. }), "{error}");
    assert!(format!("{error:?}").len() < one_line.len(), "{error:?}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let fixture = Fixture::new();
    fs::write(
        fixture.file("key.pem"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let error = ReloadingTls::load(&fixture.files()).unwrap_err();
    let mismatch = rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch);
    assert!(matches!(error, TlsError::Identity { cause, .. } if cause == mismatch));
}

#[test]
fn a_client_authority_demands_a_certificate_of_it() {
    let fixture = Fixture::new();
    let tls = ReloadingTls::load(&fixture.files_with_client_authority()).unwrap();
    let own = fixture.sign();
    let foreign = Fixture::new().sign();
    for version in [&version::TLS12, &version::TLS13] {
        let attempt = |identity| handshake(tls.config(), fixture.client(version, identity));
        assert!(attempt(Some(&own)).is_ok());
        assert_eq!(attempt(None).unwrap_err(), rustls::Error::NoCertificatesPresented);
        assert!(matches!(
            attempt(Some(&foreign)),
            Err(rustls::Error::InvalidCertificate(_))
        ));
    }
}

#[test]
fn a_broken_client_authority_is_named() {
    let fixture = Fixture::new();
    for (content, expected) in [
        ("", "ca.pem holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "client authority in ",
        ),
    ] {
        fs::write(fixture.file("ca.pem"), content).unwrap();
        let error = ReloadingTls::load(&fixture.files_with_client_authority()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(expected) && message.contains("ca.pem"),
            "{message}"
        );
    }
}
