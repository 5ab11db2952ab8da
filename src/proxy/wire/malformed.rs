//! What is wrong with a request, by name.

use std::fmt;
use std::io;

use http::StatusCode;

/// Why a request was refused before anything looked at its meaning. The connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The method is not a token.
    Method,
    /// CONNECT and TRACE have no place here.
    MethodRefused,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The target is neither a path nor a valid `http` or `https` URL, or has a fragment, space or control
    /// character (RFC 9112, section 3.2).
    Target,
    /// The target is too long.
    TargetTooLong,
    /// A carriage return that no line feed follows.
    BareCr,
    /// A line feed without a carriage return.
    BareLf,
    /// A field name is empty, not a token, or has no colon.
    HeaderName,
    /// Whitespace between a field name and its colon (RFC 9112, section 5.1).
    SpaceBeforeColon,
    /// A folded field, or whitespace before the first one (RFC 9112, section 5.2).
    ObsFold,
    /// A field value with a control character.
    HeaderValue,
    /// The head has too many bytes.
    HeadTooLarge,
    /// The head has too many fields.
    TooManyHeaders,
    /// No `Host` (RFC 9112, section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host`, or the authority of the target, is not `host[:port]`.
    Host,
    /// `Host` names another authority than the target.
    HostMismatch,
    /// `Content-Length` is not a decimal number within bounds.
    ContentLength,
    /// More than one `Content-Length`, or a list of them.
    ContentLengthRepeated,
    /// `Transfer-Encoding` is anything but one `chunked`, or appears in HTTP/1.0.
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` together (RFC 9112, section 6.1).
    LengthAndEncoding,
    /// A chunk size is not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// A chunk extension is not made of tokens, or extensions take too many bytes.
    ChunkExtension,
    /// A chunk is not followed by CR LF.
    ChunkEnd,
    /// The trailer section is too large or carries framing or routing fields.
    Trailer,
}

impl Malformed {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestLine => "request-line",
            Self::Method => "method",
            Self::MethodRefused => "method-refused",
            Self::Version => "version",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::BareCr => "bare-cr",
            Self::BareLf => "bare-lf",
            Self::HeaderName => "header-name",
            Self::SpaceBeforeColon => "space-before-colon",
            Self::ObsFold => "obs-fold",
            Self::HeaderValue => "header-value",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyHeaders => "too-many-headers",
            Self::HostMissing => "host-missing",
            Self::HostRepeated => "host-repeated",
            Self::Host => "host",
            Self::HostMismatch => "host-mismatch",
            Self::ContentLength => "content-length",
            Self::ContentLengthRepeated => "content-length-repeated",
            Self::TransferEncoding => "transfer-encoding",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailer => "trailer",
        }
    }

    /// The status that tells the client.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What a person should read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::RequestLine => "The request line is malformed",
            Self::Method => "The method is malformed",
            Self::MethodRefused => "CONNECT and TRACE are not served",
            Self::Version => "This HTTP version is not supported",
            Self::Target => "The request target is malformed",
            Self::TargetTooLong => "The request target is too long",
            Self::BareCr => "A carriage return without a line feed",
            Self::BareLf => "A line feed without a carriage return",
            Self::HeaderName => "A header name is malformed",
            Self::SpaceBeforeColon => "Whitespace before the colon of a header",
            Self::ObsFold => "Folded headers are not accepted",
            Self::HeaderValue => "A header value has a control character",
            Self::HeadTooLarge => "The request head is too large",
            Self::TooManyHeaders => "The request has too many headers",
            Self::HostMissing => "The Host header is missing",
            Self::HostRepeated => "More than one Host header",
            Self::Host => "The host is malformed",
            Self::HostMismatch => "Host and request target name different authorities",
            Self::ContentLength => "Content-Length is malformed",
            Self::ContentLengthRepeated => "More than one Content-Length",
            Self::TransferEncoding => "Transfer-Encoding is anything but chunked",
            Self::LengthAndEncoding => "Content-Length together with Transfer-Encoding",
            Self::ChunkSize => "A chunk size is malformed",
            Self::ChunkExtension => "A chunk extension is malformed or too long",
            Self::ChunkEnd => "A chunk does not end where its size says",
            Self::Trailer => "The trailer section is malformed or too large",
        }
    }

    /// The reason inside an error of a request body, if a malformed request is behind it.
    pub fn behind(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(reason) = error.downcast_ref::<Self>() {
                return Some(*reason);
            }
            let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(reason) = inside.and_then(|inside| inside.downcast_ref::<Self>()) {
                return Some(*reason);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(reason: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_behind_an_io_error() {
        let error = io::Error::from(Malformed::ChunkSize);
        assert_eq!(Malformed::behind(&error), Some(Malformed::ChunkSize));
        assert_eq!(Malformed::behind(&io::Error::from(io::ErrorKind::TimedOut)), None);
    }
}
