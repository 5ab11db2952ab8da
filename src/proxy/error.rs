//! The one table from errors to responses.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::wire::Malformed;
use crate::cache::flight::FlightError;
use crate::telemetry::record::TraceContext;
use crate::upstream::ErrorKind;

/// On which side a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client's.
    Downstream,
    /// The origin's.
    Upstream,
    /// Ours.
    Internal,
}

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// The request breaks the protocol.
    Malformed(Malformed),
    /// The request body is larger than the listener allows.
    BodyTooLarge,
    /// The request body broke off or is malformed.
    RequestBody,
    /// No route matches.
    NoRoute,
    /// The exchange with the upstream failed.
    Upstream(ErrorKind),
    /// The fill that this request waited for failed.
    Fill(FlightError),
    /// `only-if-cached`, and nothing usable is stored.
    OnlyIfCached,
}

impl ProxyError {
    /// Stable name: the end of the problem's `type`, the label of metrics and spans.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason.as_str(),
            Self::BodyTooLarge => "body-too-large",
            Self::RequestBody => "request-body",
            Self::NoRoute => "no-route",
            Self::Upstream(kind) => kind.as_str(),
            Self::Fill(error) => error.kind,
            Self::OnlyIfCached => "only-if-cached",
        }
    }

    /// The status that tells the client.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(reason) => reason.status(),
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestBody => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Upstream(kind) => upstream_status(*kind),
            Self::Fill(error) => StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_GATEWAY),
            Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// On which side it failed.
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Malformed(_)
            | Self::BodyTooLarge
            | Self::RequestBody
            | Self::NoRoute
            | Self::OnlyIfCached => Side::Downstream,
            Self::Upstream(ErrorKind::PoolExhausted) => Side::Internal,
            Self::Upstream(_) | Self::Fill(_) => Side::Upstream,
        }
    }

    /// What a person should read.
    fn title(&self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason.title(),
            Self::BodyTooLarge => "The request body is larger than this listener accepts",
            Self::RequestBody => "The request body ended early or is malformed",
            Self::NoRoute => "No route matches this request",
            Self::Upstream(kind) => upstream_title(*kind),
            Self::Fill(_) => "The upstream failed while this response was being fetched",
            Self::OnlyIfCached => "The request asked for a stored response only, and there is none",
        }
    }

    /// Whether the client's connection must close: its framing cannot be trusted any more, or the rest of the
    /// body would have to be read first.
    fn closes(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::BodyTooLarge | Self::RequestBody)
    }

    /// The response: OpenAI's error shape for routes that speak it, RFC 9457 otherwise.
    pub(crate) fn response(&self, trace: &TraceContext, openai: bool) -> Response<Bytes> {
        let status = self.status();
        let body = if openai {
            self.openai(trace)
        } else {
            self.problem(trace)
        };
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let media_type = if openai {
            "application/json"
        } else {
            "application/problem+json"
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.side() != Side::Downstream {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, trace: &TraceContext) -> serde_json::Value {
        serde_json::json!({
            "type": format!("urn:outrigger:problem:{}", self.kind()),
            "title": self.title(),
            "status": self.status().as_u16(),
            "trace_id": hex::encode(trace.trace_id),
        })
    }

    fn openai(&self, trace: &TraceContext) -> serde_json::Value {
        let kind = if self.side() == Side::Downstream {
            "invalid_request_error"
        } else {
            "server_error"
        };
        serde_json::json!({
            "error": {
                "message": self.title(),
                "type": kind,
                "param": null,
                "code": self.kind(),
                "trace_id": hex::encode(trace.trace_id),
            }
        })
    }
}

fn upstream_status(kind: ErrorKind) -> StatusCode {
    match kind {
        timeout if timeout.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::NoEndpoint | ErrorKind::PoolExhausted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::RequestBody => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn upstream_title(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Connect => "The upstream could not be reached",
        ErrorKind::ConnectTimeout => "The upstream did not accept a connection in time",
        ErrorKind::Tls => "TLS with the upstream failed",
        ErrorKind::PoolExhausted => "All connections to the upstream are in use",
        ErrorKind::FirstByteTimeout => "The upstream did not begin its answer in time",
        ErrorKind::TotalTimeout => "The upstream did not finish in time",
        ErrorKind::NoEndpoint => "The upstream has no endpoint",
        ErrorKind::RequestBody => "The request body ended early or is malformed",
        _ => "The upstream broke off the exchange",
    }
}

impl From<ErrorKind> for ProxyError {
    fn from(kind: ErrorKind) -> Self {
        Self::Upstream(kind)
    }
}

/// Shared by a request body and whoever waits for its upstream: why the body failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyFault(Arc<parking_lot::Mutex<Option<ProxyError>>>);

impl BodyFault {
    /// Remembers the first fault.
    pub(crate) fn set(&self, error: ProxyError) {
        self.0.lock().get_or_insert(error);
    }

    /// The fault, if there was one.
    pub(crate) fn get(&self) -> Option<ProxyError> {
        self.0.lock().clone()
    }
}
