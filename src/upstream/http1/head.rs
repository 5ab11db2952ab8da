//! Response heads, and the framing that they announce.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};

/// Header fields of one response.
const MAX_FIELDS: usize = 100;
/// Room in a response's header map for the fields that it gets on its way to the client.
const SPARE_FIELDS: usize = 6;

/// A complete head.
pub(super) struct Head {
    /// The response without its body. Values are slices of what was read; what concerns this connection alone is left
    /// out, unless the connection is upgraded.
    pub(super) response: Response<()>,
    /// What it says about the connection and the body.
    pub(super) terms: Terms,
    /// Bytes of the head.
    pub(super) length: usize,
}

/// What a head says about the connection and the body, gathered while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

/// How long a response body is (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection is closed.
    UntilClose,
}

impl Head {
    /// Parses the head at the beginning of `bytes`. None while it is incomplete.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &Bytes) -> Result<Option<Self>, &'static str> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut fields,
        ) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err("too many header fields"),
            Err(_) => return Err("a malformed response head"),
        };
        let mut response = Response::new(());
        *response.status_mut() = parsed
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or("an impossible status")?;
        *response.version_mut() = match parsed.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        let mut terms = Terms::default();
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = map(bytes, parsed.headers, |field| {
            terms.take(field).map(|for_client| for_client || upgraded)
        })?;
        Ok(Some(Self {
            response,
            terms,
            length,
        }))
    }
}

impl Terms {
    /// Notes what a field says. Gives whether it is for the client, too.
    fn take(&mut self, field: &httparse::Header<'_>) -> Result<bool, &'static str> {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) => {
                self.content_length(field.value)?;
                Ok(true)
            }
            17 if field.name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()) => {
                if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("a transfer coding other than chunked");
                }
                self.chunked = true;
                Ok(false)
            }
            10 if field.name.eq_ignore_ascii_case(CONNECTION.as_str()) => Ok(self.connection(field.value)),
            _ => Ok(true),
        }
    }

    /// The same value several times is one (RFC 9110, section 8.6).
    fn content_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for item in value.split(|octet| *octet == b',') {
            let length = decimal(item.trim_ascii()).ok_or("a malformed Content-Length")?;
            if self.length.is_some_and(|before| before != length) {
                return Err("different values of Content-Length");
            }
            self.length = Some(length);
        }
        Ok(())
    }

    /// Gives whether the options name other fields, which are then to be removed as well.
    fn connection(&mut self, value: &[u8]) -> bool {
        let mut names_others = false;
        for option in value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                names_others = true;
            }
        }
        names_others
    }

    /// Whether the endpoint leaves the connection open after a response of `version` (RFC 9112, section 9.3).
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        match version {
            Version::HTTP_10 => self.keep_alive && !self.close,
            _ => !self.close,
        }
    }
}

/// The parsed fields that `keep` keeps. Values are slices of `bytes`.
pub(super) fn map(
    bytes: &Bytes,
    fields: &[httparse::Header<'_>],
    mut keep: impl FnMut(&httparse::Header<'_>) -> Result<bool, &'static str>,
) -> Result<HeaderMap, &'static str> {
    const MALFORMED: &str = "a malformed header field";
    let mut headers =
        HeaderMap::try_with_capacity(fields.len() + SPARE_FIELDS).map_err(|_| "too many header fields")?;
    for field in fields {
        if keep(field)? {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MALFORMED)?;
            let value =
                HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| MALFORMED)?;
            headers.try_append(name, value).map_err(|_| MALFORMED)?;
        }
    }
    Ok(headers)
}

impl Framing {
    /// The framing of the final `response` to a request with `method`.
    ///
    /// # Errors
    /// When the length is ambiguous.
    pub(super) fn of(response: &Response<()>, terms: &Terms, method: &Method) -> Result<Self, &'static str> {
        let status = response.status();
        if terms.chunked && (terms.length.is_some() || response.version() == Version::HTTP_10) {
            return Err("Transfer-Encoding with Content-Length, or in HTTP/1.0");
        }
        let without_body = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match terms.length {
            _ if without_body => Self::Length(0),
            _ if terms.chunked => Self::Chunked,
            Some(length) => Self::Length(length),
            None => Self::UntilClose,
        })
    }
}

/// A number of digits alone; `str::parse` would take a sign as well.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
