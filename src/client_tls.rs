//! The client side of TLS as the configuration describes it: whom we trust and who we say we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::config::ClientTls;

/// Why TLS towards a server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A PEM file cannot be read or parsed.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Pem {
        /// What was wanted from the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls_pki_types::pem::Error,
    },
    /// A PEM file holds none of what is wanted.
    #[error("no {what} in {}", path.display())]
    Empty {
        /// What was wanted from the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system has no usable root certificates.
    #[error("the system has no root certificates; name a ca_file")]
    NoSystemRoots,
    /// rustls refuses the material.
    #[error("client side of TLS: {0}")]
    Refused(#[from] rustls::Error),
    /// The server name is neither a DNS name nor an IP address.
    #[error("`{0}` is not a valid TLS server name")]
    ServerName(String),
}

/// The settings that `config` describes, without a protocol offer (ALPN). Reads its files.
pub fn load(config: &ClientTls) -> Result<ClientConfig, ClientTlsError> {
    let roots = match &config.ca_file {
        Some(path) => file_roots(path)?,
        None => system_roots()?,
    };
    // The provider is named, not taken from the process, so that no global has to be installed first.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((chain, key)) = &config.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(chain, "certificate chain")?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| ClientTlsError::Pem {
        what: "private key",
        path: key.clone(),
        source,
    })?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

/// The name that the certificate of `host` must have.
pub fn server_name(host: &str) -> Result<ServerName<'static>, ClientTlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| ClientTlsError::ServerName(host.to_owned()))
}

fn file_roots(path: &Path) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "certificate authority")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    // System stores often hold a few entries that webpki refuses; the others are what counts.
    let loaded = rustls_native_certs::load_native_certs();
    let (added, _ignored) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(ClientTlsError::NoSystemRoots);
    }
    Ok(roots)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let pem = |source| ClientTlsError::Pem {
        what,
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(pem)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        return Err(ClientTlsError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(ca: &Path) -> Result<ClientConfig, ClientTlsError> {
        load(&ClientTls {
            sni: None,
            ca_file: Some(ca.to_owned()),
            identity: None,
        })
    }

    #[test]
    fn a_missing_or_empty_authority_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let missing = load_with(&path).err().unwrap().to_string();
        assert!(missing.contains("ca.pem"), "{missing}");
        std::fs::write(&path, "nothing here\n").unwrap();
        let empty = load_with(&path).err().unwrap().to_string();
        assert!(empty.starts_with("no certificate authority in"), "{empty}");
    }
}
