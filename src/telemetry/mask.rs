//! Masking: what a client sent is described in logs, spans and admin answers without the values that may be secret.

use std::borrow::Cow;

use globset::{Glob, GlobSet, GlobSetBuilder};
use http::header::{self, HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::config::model::Mask;

/// What stands in place of a masked value.
pub const REDACTED: &str = "REDACTED";

/// Longest part of a path or query that is described, bytes; the queues of log and spans are bounded by it.
const LONGEST: usize = 2048;

/// Header fields whose values steer the protocol and identify nobody. The values of all others are masked: a list of
/// what is secret would never be complete.
const PLAIN_HEADERS: [HeaderName; 24] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_RANGES,
    header::AGE,
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPIRES,
    header::HOST,
    header::IF_MODIFIED_SINCE,
    header::LAST_MODIFIED,
    header::PRAGMA,
    header::RANGE,
    header::RETRY_AFTER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
];

/// The masking rules in the form in which they are applied.
#[derive(Clone, Debug)]
pub struct Masking {
    headers: Vec<HeaderName>,
    query: QueryNames,
}

#[derive(Clone, Debug)]
enum QueryNames {
    /// Every parameter is masked.
    All,
    /// Parameters whose name matches are masked.
    Matching(GlobSet),
}

impl Masking {
    /// Prepares `mask`. A glob that cannot be read masks everything.
    pub fn new(mask: &Mask) -> Self {
        Self {
            headers: mask.headers.clone(),
            query: QueryNames::new(&mask.query),
        }
    }

    /// A query (without `?`) with names kept and values masked, cut to a reasonable length.
    ///
    /// A parameter without `=` is masked whole if its text matches: it may as well be a value.
    pub fn query(&self, query: &str) -> String {
        let query = shortened(query);
        let mut masked = String::with_capacity(query.len());
        for (index, parameter) in query.split('&').enumerate() {
            if index > 0 {
                masked.push('&');
            }
            match parameter.split_once('=') {
                Some((name, _value)) if self.query.masks(name) => masked.extend([name, "=", REDACTED]),
                None if !parameter.is_empty() && self.query.masks(parameter) => masked.push_str(REDACTED),
                _ => masked.push_str(parameter),
            }
        }
        masked
    }

    /// A URL, a target or the label of an entry, with its query masked and each part cut to a reasonable length.
    pub fn target(&self, text: &str) -> String {
        match text.split_once('?') {
            Some((before, query)) => format!("{}?{}", shortened(before), self.query(query)),
            None => shortened(text).to_owned(),
        }
    }

    /// Whether the values of a header field are shown.
    pub fn shows(&self, name: &HeaderName) -> bool {
        PLAIN_HEADERS.contains(name) && !self.headers.contains(name)
    }

    /// Header fields in order, with the values masked that may be secret: all but those that only steer the protocol
    /// and are not listed in `telemetry.mask.headers`.
    pub fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| {
                let value = if self.shows(name) {
                    String::from_utf8_lossy(value.as_bytes())
                } else {
                    REDACTED.into()
                };
                (name.as_str().to_owned(), value.into_owned())
            })
            .collect()
    }
}

impl QueryNames {
    fn new(globs: &[String]) -> Self {
        if globs.iter().any(|glob| glob == "*") {
            return Self::All;
        }
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let Ok(glob) = Glob::new(glob) else {
                return Self::All;
            };
            set.add(glob);
        }
        set.build().map_or(Self::All, Self::Matching)
    }

    fn masks(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(globs) => {
                // As the application will read the name: `+` is a space, %XX an octet.
                let spaced: Cow<'_, str> = if name.contains('+') {
                    name.replace('+', " ").into()
                } else {
                    name.into()
                };
                globs.is_match(&*percent_decode_str(&spaced).decode_utf8_lossy())
            }
        }
    }
}

/// The beginning of `text`, at most 2 KiB, cut between characters.
pub fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masking(query: &[&str]) -> Masking {
        Masking::new(&Mask {
            headers: vec![header::HOST],
            query: query.iter().map(|glob| (*glob).to_owned()).collect(),
        })
    }

    #[test]
    fn values_go_and_names_stay() {
        let all = masking(&["*"]);
        assert_eq!(
            all.query("a=1&b=&c&&d=x=y"),
            "a=REDACTED&b=REDACTED&REDACTED&&d=REDACTED"
        );
        assert_eq!(all.query(""), "");
        let some = masking(&["*token*", "user id"]);
        assert_eq!(
            some.query("page=2&to%6ben=s&access_token=t&user+id=7"),
            "page=2&to%6ben=REDACTED&access_token=REDACTED&user+id=REDACTED"
        );
        assert_eq!(masking(&[]).query("a=1"), "a=1");
        assert_eq!(
            all.target("api:GET hub/a?b=1?2&c"),
            "api:GET hub/a?b=REDACTED&REDACTED"
        );
        assert_eq!(all.target("hub/a"), "hub/a");
        assert_eq!(masking(&["a{"]).query("b=1"), "b=REDACTED", "fails closed");
    }

    #[test]
    fn unknown_header_fields_are_masked() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::AUTHORIZATION, "Bearer canary"),
            (header::COOKIE, "sid=canary"),
            (HeaderName::from_static("x-anything"), "canary"),
            (header::HOST, "canary"),
            (header::ACCEPT, "text/html"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let described = masking(&["*"]).headers(&headers);
        assert_eq!(described.len(), 5);
        assert!(described.contains(&("accept".into(), "text/html".into())));
        assert!(!format!("{described:?}").contains("canary"));
    }

    #[test]
    fn long_targets_are_cut_between_characters() {
        let long = "é".repeat(LONGEST);
        assert_eq!(shortened(&long).len(), LONGEST);
        assert_eq!(shortened(&format!("a{long}")).len(), LONGEST - 1);
    }
}
