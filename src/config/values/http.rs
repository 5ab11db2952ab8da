//! Methods, statuses and header fields.

use http::{HeaderName, HeaderValue, Method, header};

use crate::config::scalar::{Refusal, Scalar};

/// Header fields that carry credentials. A request with one of them has a principal.
pub static CREDENTIALS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
];

/// Header fields that frame a message or belong to its connection, and `Host`: they are made from the request.
pub static FRAMING: [HeaderName; 7] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The name of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(pub String);

/// A status, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u16);

/// An inclusive range of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

impl Scalar for HeaderName {
    const NAME: &'static str = "header name";
    const EXAMPLE: &'static str = "x-user-id";

    fn parse(text: &str) -> Result<Self, Refusal> {
        Self::from_bytes(text.as_bytes()).map_err(|_| {
            Refusal::new(format!("`{}` is not a header name", text.escape_debug()))
                .hint("letters, digits and `-`, without the colon")
        })
    }
}

impl Scalar for HeaderValue {
    const NAME: &'static str = "header value";
    const EXAMPLE: &'static str = "free";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let valid = text.chars().all(|c| matches!(c, ' '..='~')) && text.trim() == text;
        match Self::from_str(text) {
            Ok(value) if valid => Ok(value),
            _ => Err(Refusal::new("not a header value")
                .hint("visible ASCII characters and spaces, no space at either end, one line")),
        }
    }
}

impl Scalar for Method {
    const NAME: &'static str = "method";
    const EXAMPLE: &'static str = "GET";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let refusal = || Refusal::new(format!("`{text}` is not a method that can be routed"));
        // Methods are case-sensitive (RFC 9110, section 9.1); a lower-case one would never match.
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(refusal().hint(format!("did you mean `{}`?", text.to_ascii_uppercase())));
        }
        match Self::from_bytes(text.as_bytes()) {
            Ok(Self::CONNECT | Self::TRACE) => {
                Err(refusal().hint("CONNECT and TRACE are refused before they reach a route"))
            }
            Ok(method) => Ok(method),
            Err(_) => Err(refusal().hint("like `GET`")),
        }
    }
}

impl Scalar for CookieName {
    const NAME: &'static str = "cookie name";
    const EXAMPLE: &'static str = "sid";

    /// A token (RFC 6265, section 4.1.1).
    fn parse(text: &str) -> Result<Self, Refusal> {
        match HeaderName::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Refusal::new(format!(
                "`{}` is not the name of a cookie",
                text.escape_debug()
            ))),
        }
    }
}

impl Scalar for Status {
    const NAME: &'static str = "status";
    const EXAMPLE: &'static str = "404";
    const TYPES: &'static [&'static str] = &["integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text.parse() {
            Ok(status) if (200..=599).contains(&status) && text.len() == 3 => Ok(Self(status)),
            _ => Err(Refusal::new(format!("`{text}` is not a final status")).hint("200 to 599")),
        }
    }
}

impl Scalar for StatusRange {
    const NAME: &'static str = "status range";
    const EXAMPLE: &'static str = "200-299";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        let refusal = || {
            Refusal::new(format!("`{text}` is not a range of statuses"))
                .hint("like `200`, `200-299` or `2xx`")
        };
        let of_class = text
            .strip_suffix("xx")
            .and_then(|class| class.parse::<u16>().ok())
            .filter(|class| (2..=5).contains(class));
        if let Some(class) = of_class {
            return Ok(Self(class * 100, class * 100 + 99));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (Status::parse(first.trim()), Status::parse(last.trim())) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self(first.0, last.0)),
            _ => Err(refusal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::tests::hint;

    #[test]
    fn parts_of_http() {
        assert_eq!(StatusRange::parse("2xx"), Ok(StatusRange(200, 299)));
        assert_eq!(StatusRange::parse("204"), Ok(StatusRange(204, 204)));
        StatusRange::parse("299-200").unwrap_err();
        assert_eq!(hint::<Method>("get"), "did you mean `GET`?");
        Method::parse("TRACE").unwrap_err();
        for text in ["a\nb", " a", "a ", "\u{e4}"] {
            <HeaderValue as Scalar>::parse(text).unwrap_err();
        }
        HeaderName::parse("x:").unwrap_err();
    }
}
