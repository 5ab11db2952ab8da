//! A request to send, and what came back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use serde_json::Value;

use super::payload::{Payload, full};

/// A request to send.
#[derive(Debug)]
pub(crate) struct Call {
    /// Method.
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// Header fields; `Host` is added when the test does not name one.
    pub(super) headers: HeaderMap,
    /// Body.
    pub(super) body: Payload,
}

impl Call {
    /// A request without a body.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.parse().expect("a valid method"),
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: full(""),
        }
    }

    /// `GET target`.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with a JSON body.
    pub(crate) fn json(target: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", target)
            .header("content-type", "application/json")
            .body(full(body))
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a valid value"),
        );
        self
    }

    /// Sets a header field, whatever it was before.
    pub(crate) fn replace(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a valid value"),
        );
        self
    }

    /// By another method.
    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.parse().expect("a valid method");
        self
    }

    /// With these credentials.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sends this body.
    pub(crate) fn body(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    /// Sends this text without saying that it is JSON.
    pub(crate) fn text(self, body: impl Into<Bytes>) -> Self {
        self.body(full(body))
    }

    /// The request as hyper wants it, for `authority`.
    pub(super) fn into_request(self, authority: &str, version: Version) -> Request<Payload> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        let uri = if version == Version::HTTP_2 {
            // HTTP/2 carries the authority in a pseudo-header, which hyper takes from the URI.
            let named = request.headers_mut().remove(http::header::HOST);
            let authority = named
                .as_ref()
                .map_or(authority, |host| host.to_str().expect("a readable host"));
            format!("http://{authority}{}", self.target)
        } else {
            let host = HeaderValue::from_str(authority).expect("a valid authority");
            request.headers_mut().entry(http::header::HOST).or_insert(host);
            self.target
        };
        *request.uri_mut() = uri.parse().expect("a valid target");
        request
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
    /// Trailer fields.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// A header's value; empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a readable header"))
    }

    /// Whether `Cache-Status` has this item among its parameters: `hit`, `fwd=uri-miss`, `stored`.
    pub(crate) fn cache_says(&self, item: &str) -> bool {
        self.header("cache-status")
            .split(';')
            .any(|part| part.trim() == item)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a readable body")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self:?}"),
        }
    }
}
