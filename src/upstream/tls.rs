//! The client side of TLS towards one upstream: which protocols we offer, and which name we expect.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::connect::Offer;
use crate::client_tls::{self, ClientTlsError};
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
    pub(super) fn load(config: &ClientTls) -> Result<Self, ClientTlsError> {
        let name = config.sni.as_deref().map(client_tls::server_name).transpose()?;
        let base = client_tls::load(config)?;
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
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, ClientTlsError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => client_tls::server_name(host),
        }
    }
}

/// `base` with these protocols; the session cache is shared with `base`.
fn offering(base: &ClientConfig, protocols: &[&[u8]]) -> TlsConnector {
    let mut config = base.clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}
