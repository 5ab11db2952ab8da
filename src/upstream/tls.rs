//! The client side of TLS: whom we trust, who we say we are, and which protocols we offer.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::connect::Offer;
use super::error::ClusterError;
use crate::config::ClientTls;

/// Ready-made TLS settings of one upstream, one per ALPN offer.
pub(super) struct TlsClient {
    http1: TlsConnector,
    http2: TlsConnector,
    either: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl TlsClient {
    /// Reads the files of `config`.
    pub(super) fn load(config: &ClientTls) -> Result<Self, ClusterError> {
        let name = config.sni.as_deref().map(server_name).transpose()?;
        let roots = match &config.ca_file {
            Some(path) => file_roots(path)?,
            None => system_roots()?,
        };
        // The provider is named, not taken from the process, so that no global has to be installed first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let base = match &config.identity {
            Some((chain, key)) => {
                let chain = certificates(chain, "certificate chain")?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|source| ClusterError::Pem {
                    what: "private key",
                    path: key.clone(),
                    source,
                })?;
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            http1: offering(&base, &[b"http/1.1"]),
            http2: offering(&base, &[b"h2"]),
            either: offering(&base, &[b"h2", b"http/1.1"]),
            name,
        })
    }

    /// The settings that offer `offer`.
    pub(super) fn connector(&self, offer: Offer) -> &TlsConnector {
        match offer {
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Either => &self.either,
        }
    }

    /// The name the endpoint's certificate must have.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, ClusterError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => server_name(host),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, ClusterError> {
    ServerName::try_from(host.to_owned()).map_err(|_| ClusterError::ServerName(host.to_owned()))
}

/// `base` with these protocols; the session cache is shared with `base`.
fn offering(base: &ClientConfig, protocols: &[&[u8]]) -> TlsConnector {
    let mut config = base.clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn file_roots(path: &Path) -> Result<RootCertStore, ClusterError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "certificate authority")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ClusterError> {
    let mut roots = RootCertStore::empty();
    // System stores often hold a few entries that webpki refuses; the others are what counts.
    let loaded = rustls_native_certs::load_native_certs();
    let (added, _ignored) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(ClusterError::NoSystemRoots);
    }
    Ok(roots)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let pem = |source| ClusterError::Pem {
        what,
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        return Err(ClusterError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(ca: &Path) -> Result<TlsClient, ClusterError> {
        TlsClient::load(&ClientTls {
            sni: None,
            ca_file: Some(ca.to_owned()),
            identity: None,
        })
    }

    #[test]
    fn a_missing_or_empty_authority_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let missing = load(&path).err().unwrap().to_string();
        assert!(missing.contains("ca.pem"), "{missing}");
        std::fs::write(&path, "nothing here\n").unwrap();
        let empty = load(&path).err().unwrap().to_string();
        assert!(empty.starts_with("no certificate authority in"), "{empty}");
    }
}
