//! What can go wrong between us and an upstream, under names that metrics, spans and logs show.

use std::fmt;

use http::Request;

use super::request::{BoxError, RequestBody};
use crate::client_tls::ClientTlsError;

/// The kind of failure of one exchange with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The TCP connection was refused or is impossible.
    Connect,
    /// The connection (TCP, TLS and HTTP/2 preface) took too long.
    ConnectTimeout,
    /// The TLS handshake failed, or the endpoint does not speak the wanted protocol over TLS.
    Tls,
    /// All connections the endpoint may have were busy for the whole connect deadline.
    PoolExhausted,
    /// The request was sent and no response head came in time.
    FirstByteTimeout,
    /// No byte of the response body came for too long.
    IdleTimeout,
    /// The whole exchange took too long.
    TotalTimeout,
    /// The endpoint closed the connection or reset the stream before the response was complete.
    Reset,
    /// The endpoint sent what is not HTTP, or the request cannot be expressed in its protocol.
    Protocol,
    /// The body of our client's request failed while it was sent on.
    RequestBody,
    /// No endpoint is enabled.
    NoEndpoint,
}

impl ErrorKind {
    /// Every value, for tables of metric handles.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::PoolExhausted,
        Self::FirstByteTimeout,
        Self::IdleTimeout,
        Self::TotalTimeout,
        Self::Reset,
        Self::Protocol,
        Self::RequestBody,
        Self::NoEndpoint,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect-timeout",
            Self::Tls => "tls",
            Self::PoolExhausted => "pool-exhausted",
            Self::FirstByteTimeout => "first-byte-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::TotalTimeout => "total-timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::RequestBody => "request-body",
            Self::NoEndpoint => "no-endpoint",
        }
    }

    /// Whether a deadline passed: 504 rather than 502 (RFC 9110, sections 15.6.3 and 15.6.5).
    pub const fn is_timeout(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[error("{kind}{}", reason(source))]
pub struct SendError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Whether the connection had carried an exchange before. A reset on such a connection often means that the
    /// endpoint closed it as idle at the same moment, so an idempotent request may be repeated at once (RFC 9112,
    /// section 9.3.1).
    pub reused: bool,
    /// The request, given back when nothing of it was sent: it may go to another endpoint whatever its method.
    pub request: Option<Box<Request<RequestBody>>>,
    /// The cause, when there is one.
    pub source: Option<BoxError>,
}

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
#[error("{kind}{}", reason(source))]
pub struct BodyError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The cause, when there is one.
    pub source: Option<BoxError>,
}

fn reason(source: &Option<BoxError>) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = match source {
        Some(source) => Some(source.as_ref()),
        None => None,
    };
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why a cluster cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// TLS towards the upstream cannot be set up.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

/// Names the failure of an exchange that hyper reports.
pub(super) fn classify(error: &hyper::Error) -> ErrorKind {
    if error.is_body_write_aborted() {
        return ErrorKind::RequestBody;
    }
    if error.is_parse() || error.is_user() {
        return ErrorKind::Protocol;
    }
    // Bad chunk framing arrives as an I/O error with one of these kinds; a closed connection with others.
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => ErrorKind::Protocol,
                _ => ErrorKind::Reset,
            };
        }
        cause = inner.source();
    }
    ErrorKind::Reset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_timeouts_are_known() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        assert!(
            ErrorKind::ALL
                .iter()
                .all(|kind| kind.is_timeout() == kind.as_str().ends_with("timeout"))
        );
    }

    #[test]
    fn the_message_tells_the_whole_chain() {
        let error = BodyError {
            kind: ErrorKind::Reset,
            source: Some("peer went away".into()),
        };
        assert_eq!(error.to_string(), "reset: peer went away");
    }
}
