//! TLS towards clients, with certificates that can be exchanged while connections are open.
//!
//! New handshakes use the configuration installed last; open connections keep theirs. Resumption state belongs to a
//! configuration, so no session outlives the authorities that admitted it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::model::ServerTls;

/// Why certificate files cannot be used. No message repeats what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// A file is not PEM (RFC 7468).
    #[error("{} is not valid PEM: {cause}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// The first violation.
        cause: &'static str,
    },
    /// A file for certificates has none.
    #[error("{} holds no certificate", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// A file for a private key has none.
    #[error("{} holds no private key", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// Certificate or key is unusable, or they do not belong together.
    #[error("{} with key {}: {cause}", cert_file.display(), key_file.display())]
    Identity {
        /// The chain.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// What is wrong with them.
        cause: rustls::Error,
    },
    /// A client authority is not a certificate that can be trusted.
    #[error("client authority in {}: {cause}", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: rustls::Error,
    },
    /// The client authorities give no verifier.
    #[error("client authorities in {}: {cause}", file.display())]
    Verifier {
        /// The file.
        file: PathBuf,
        /// What is wrong with them.
        cause: VerifierBuilderError,
    },
    /// The cryptographic provider lacks a cipher suite for TLS 1.2 or 1.3.
    #[error("TLS 1.2 and 1.3 are not available: {0}")]
    Versions(rustls::Error),
}

/// The TLS side of one listener.
pub struct ReloadingTls {
    files: ServerTls,
    current: ArcSwap<ServerConfig>,
}

impl ReloadingTls {
    /// Reads the files of `config`; blocks for as long as the file system does.
    pub fn load(config: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self {
            files: config.clone(),
            current: ArcSwap::new(read(config)?),
        })
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Makes the next handshake.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.config())
    }

    /// Reads the files again; nothing takes effect before [`ReloadingTls::install`].
    pub fn stage(&self) -> Result<Arc<ServerConfig>, TlsError> {
        read(&self.files)
    }

    /// Makes `staged` what the next handshake uses.
    pub fn install(&self, staged: Arc<ServerConfig>) {
        self.current.store(staged);
    }
}

/// Files only: a configuration's own description is long and says nothing that they do not.
impl fmt::Debug for ReloadingTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ReloadingTls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read(files: &ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(TlsError::Versions)?;
    let builder = match &files.client_ca_file {
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities(file)?, provider)
                .build()
                .map_err(|cause| TlsError::Verifier {
                    file: file.clone(),
                    cause,
                })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates(&files.cert_file)?, private_key(&files.key_file)?)
        .map_err(|cause| TlsError::Identity {
            cert_file: files.cert_file.clone(),
            key_file: files.key_file.clone(),
            cause,
        })?;
    // RFC 7301: the server's order decides.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|cause| TlsError::Authority {
            file: file.to_owned(),
            cause,
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read_file(file)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem {
            file: file.to_owned(),
            cause: violation(&error),
        })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            file: file.to_owned(),
        });
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read_file(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            file: file.to_owned(),
        },
        error => TlsError::Pem {
            file: file.to_owned(),
            cause: violation(&error),
        },
    })
}

/// The parser's own words quote the line, and a key whose line breaks were lost is one line.
fn violation(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line",
        pem::Error::IllegalSectionStart { .. } => "the first line of a section is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        _ => "it cannot be parsed",
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|cause| TlsError::Read {
        file: file.to_owned(),
        cause,
    })
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A self-signed certificate for `localhost` in `directory`.
    pub(in crate::proxy) fn certificate(directory: &Path) -> ServerTls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = ServerTls {
            cert_file: directory.join("tls.crt"),
            key_file: directory.join("tls.key"),
            client_ca_file: None,
        };
        fs::write(&files.cert_file, made.cert.pem()).unwrap();
        fs::write(&files.key_file, made.signing_key.serialize_pem()).unwrap();
        files
    }
}

#[cfg(test)]
mod tests;
