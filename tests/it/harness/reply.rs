//! What a scripted origin answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::payload::{Payload, full};

/// An answer of a scripted origin.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Payload,
}

impl Reply {
    /// 200 with a body.
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: full(body),
        }
    }

    /// Another status, without a body.
    pub(crate) fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a valid status");
        Self {
            status,
            headers: HeaderMap::new(),
            body: full(""),
        }
    }

    /// The same with another status.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a valid status");
        self
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a valid value"),
        );
        self
    }

    /// Says how long the answer may be cached, and the like.
    pub(crate) fn cache_control(self, value: &str) -> Self {
        self.header("cache-control", value)
    }

    /// Sends this body instead.
    pub(crate) fn body(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    /// The answer as hyper wants it.
    pub(super) fn into_response(self) -> Response<Payload> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
