//! A request that somebody asks about: read from JSON, with bounds and with problems that repeat no value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::refusal::Admission;

/// Longest URL, bytes.
const MAX_URL: usize = 8 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 100;
/// Bytes of all header fields together.
const MAX_FIELD_BYTES: usize = 64 * 1024;
/// Bytes of the body.
const MAX_BODY: usize = 1024 * 1024;

/// A request to explain. It is neither sent nor stored.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// Its method; GET when absent.
    method: Option<String>,
    /// Its absolute URL, `http://` or `https://`.
    url: Option<String>,
    /// Instead of `url`: host and port,
    host: Option<String>,
    /// and path with query, as of an `http://` URL.
    path: Option<String>,
    /// Its header fields; a field with several values has a list of them.
    headers: BTreeMap<String, Values>,
    /// Its body, at most 1 MiB.
    body: Option<String>,
    /// Whether it comes from a peer in `trusted_proxies`, whose `X-Forwarded-*` is believed.
    trusted: bool,
}

/// The value of a header field, or its values.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Values {
    One(String),
    Many(Vec<String>),
}

/// What was asked about.
pub(super) enum Reading {
    /// A request that a listener lets through.
    Admitted(Box<Request>),
    /// One that every listener refuses.
    Refused {
        /// Its method.
        method: Method,
        /// Its URL, up to a fragment.
        url: String,
        /// The name of the reason.
        reason: &'static str,
    },
}

/// The request, as a client would send it.
pub(super) struct Request {
    /// Method.
    pub(super) method: Method,
    /// Absolute, with scheme and authority.
    pub(super) uri: Uri,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Header fields, `Host` among them.
    pub(super) headers: HeaderMap,
    /// Body; empty without one.
    pub(super) body: Vec<u8>,
    /// Whether a trusted peer sends it.
    pub(super) trusted: bool,
}

impl Request {
    /// Reads the body of a call. What cannot be read may be a secret in the wrong place, so that problems tell where
    /// it is and not what it is.
    pub(super) fn read(
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
        admission: &Admission,
    ) -> Result<Reading, Problem> {
        let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| {
            let essence = value.as_bytes().split(|octet| *octet == b';').next();
            essence
                .unwrap_or_default()
                .trim_ascii()
                .eq_ignore_ascii_case(b"application/json")
        });
        if !is_json {
            let title = "The body makes no sense";
            return Err(
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-body", title)
                    .detail("send `Content-Type: application/json`"),
            );
        }
        let body = body.map_err(|rejection| {
            Problem::new(rejection.status(), "bad-body", "The body makes no sense")
                .detail("it cannot be read, or is larger than 2 MiB")
        })?;
        let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
            Problem::bad_request(format!(
                "line {}, column {}: not a request to explain: a JSON object with method, url (or host and path), \
                 headers (name to value or list of values), body (text) and trusted (boolean)",
                error.line(),
                error.column()
            ))
        })?;
        Self::of(asked, admission)
    }

    fn of(asked: Asked, admission: &Admission) -> Result<Reading, Problem> {
        let method = match &asked.method {
            None => Method::GET,
            Some(method) => Method::from_bytes(method.as_bytes())
                .map_err(|_| Problem::bad_request("`method` is not the name of a method"))?,
        };
        let text = url(&asked)?;
        let url = Url::split(&text).ok_or_else(no_url)?;
        let mut headers = fields(&asked.headers)?;
        if let Ok(host) = HeaderValue::from_str(url.authority) {
            headers.entry(HOST).or_insert(host);
        }
        let body = asked.body.unwrap_or_default().into_bytes();
        if body.len() > MAX_BODY {
            return Err(Problem::bad_request("`body` is longer than 1 MiB"));
        }
        if let Some(reason) = admission.refuses(method.as_str(), &url.target, &headers, &body) {
            let target = url.target.split('#').next().unwrap_or_default();
            return Ok(Reading::Refused {
                method,
                url: format!("{}://{}{target}", url.scheme, url.authority),
                reason,
            });
        }
        let uri = format!("{}://{}{}", url.scheme, url.authority, url.target);
        if !body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Ok(Reading::Admitted(Box::new(Self {
            method,
            uri: uri.parse().map_err(|_| no_url())?,
            scheme: url.scheme,
            headers,
            body,
            trusted: asked.trusted,
        })))
    }

    /// Host and port as asked for.
    pub(super) fn authority(&self) -> &str {
        let host = self.headers.get(HOST);
        host.and_then(|host| host.to_str().ok()).unwrap_or_default()
    }
}

/// The URL that is asked about.
fn url(asked: &Asked) -> Result<String, Problem> {
    let text = match (&asked.url, &asked.host, &asked.path) {
        // No client sends the fragment of a URL.
        (Some(url), None, None) => url.split('#').next().unwrap_or_default().to_owned(),
        (None, Some(host), Some(path)) if path.starts_with('/') => format!("http://{host}{path}"),
        _ => {
            return Err(Problem::bad_request(
                "give either `url`, or `host` and a `path` that begins with `/`",
            ));
        }
    };
    if text.len() > MAX_URL {
        return Err(Problem::bad_request("the URL is longer than 8192 bytes"));
    }
    Ok(text)
}

fn no_url() -> Problem {
    Problem::bad_request("the URL is not an absolute http:// or https:// URL with a host and no user name")
}

/// A URL in the parts that a client sends.
struct Url<'a> {
    scheme: &'static str,
    authority: &'a str,
    /// From the path on.
    target: Cow<'a, str>,
}

impl<'a> Url<'a> {
    /// The parts of an absolute URL with a host. None for others, and with a user name, which is no part of the request
    /// that a client sends, or control characters, which would end a line of it.
    fn split(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = ["http", "https"]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known))?;
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') || text.chars().any(char::is_control) {
            return None;
        }
        let target = if target.starts_with('/') {
            Cow::Borrowed(target)
        } else {
            Cow::Owned(format!("/{target}"))
        };
        Some(Self {
            scheme,
            authority,
            target,
        })
    }
}

/// Header fields, within bounds.
pub(super) fn fields(asked: &BTreeMap<String, Values>) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    let (mut count, mut bytes) = (0, 0);
    for (position, (name, values)) in asked.iter().enumerate() {
        let bad = |what: &str| Problem::bad_request(format!("`headers`: {what}"));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            bad(&format!(
                "in alphabetical order, number {} is not the name of a field",
                position + 1
            ))
        })?;
        let values = match values {
            Values::One(value) => std::slice::from_ref(value),
            Values::Many(values) => values,
        };
        for value in values {
            count += 1;
            bytes += name.len() + value.len();
            if count > MAX_FIELDS || bytes > MAX_FIELD_BYTES {
                return Err(bad("at most 100 values and 64 KiB"));
            }
            let value = HeaderValue::from_str(value).map_err(|_| {
                bad(&format!(
                    "a value of `{field}` has characters that no value may have"
                ))
            })?;
            headers.append(field.clone(), value);
        }
    }
    Ok(headers)
}
