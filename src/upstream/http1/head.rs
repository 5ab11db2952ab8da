//! Response heads, and the framing that they announce.

use bytes::Bytes;
use http::{HeaderName, Method, Response, StatusCode, Version};

use super::fields::{self, Names};

/// Header fields of one response.
const MAX_FIELDS: usize = 100;
/// What a head begins with, up to the minor version.
const VERSION: &[u8] = b"HTTP/1.";

const MALFORMED: &str = "a malformed response head";

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
    pub(super) fn parse(bytes: &Bytes, names: &mut Names) -> Result<Option<Self>, &'static str> {
        // Empty lines before it are what some endpoints write behind a body.
        let start = bytes.iter().take_while(|octet| b"\r\n".contains(octet)).count();
        let Some((line, from)) = fields::line(bytes, start) else {
            let begun = bytes.get(start..).unwrap_or_default();
            return match begun.iter().zip(VERSION).all(|(read, wanted)| read == wanted) {
                true => Ok(None),
                false => Err(MALFORMED),
            };
        };
        let (version, status) = status_line(line).ok_or(MALFORMED)?;
        let mut terms = Terms::default();
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        let parsed = fields::parse(bytes, from, MAX_FIELDS, names, |name, value| {
            terms.take(name, value).map(|for_client| for_client || upgraded)
        })?;
        let Some((headers, length)) = parsed else {
            return Ok(None);
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        Ok(Some(Self {
            response,
            terms,
            length,
        }))
    }
}

/// Version and status (RFC 9112, section 4); the reason phrase means nothing.
fn status_line(line: &[u8]) -> Option<(Version, StatusCode)> {
    let (version, rest) = line.strip_prefix(VERSION)?.split_first()?;
    let version = match version {
        b'0' => Version::HTTP_10,
        b'1' => Version::HTTP_11,
        _ => return None,
    };
    let (status, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let is_text = |octet: &u8| *octet == b'\t' || (*octet >= b' ' && *octet != 0x7f);
    if !matches!(reason, [] | [b' ', ..]) || !reason.iter().all(is_text) {
        return None;
    }
    Some((version, StatusCode::from_bytes(status).ok()?))
}

impl Terms {
    /// Notes what a field says. Gives whether it is for the client, too.
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, &'static str> {
        match name.as_str() {
            "content-length" => self.content_length(value)?,
            "connection" => return Ok(self.connection(value)),
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("a transfer coding other than chunked");
                }
                self.chunked = true;
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
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
