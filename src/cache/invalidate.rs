//! What a successful unsafe request makes invalid (RFC 9111, section 4.4).

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

/// Whether the answer to `method` makes what is stored for its target invalid: the method is not known to be safe,
/// and the answer is no error.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let safe = method.is_safe() || method.as_str() == "QUERY";
    !safe && (status.is_success() || status.is_redirection())
}

/// The other targets that such an answer makes invalid: `Location` and `Content-Location`, as path and query. Only
/// those of the same origin count, so that nobody clears what belongs to another; `path` is the request's own.
pub fn related_targets(scheme: &str, authority: &str, path: &str, response: &HeaderMap) -> Vec<String> {
    let fields: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
    fields
        .iter()
        .filter_map(|name| response.get(name)?.to_str().ok())
        .filter_map(|reference| resolve(scheme, authority, path, reference.trim()))
        .collect()
}

/// Resolves a reference (RFC 3986, section 5.2) as far as to its path and query; dot segments stay as they are, as in
/// the key. None for an empty reference and for another origin.
fn resolve(scheme: &str, authority: &str, path: &str, reference: &str) -> Option<String> {
    let reference = reference
        .split('#')
        .next()
        .filter(|reference| !reference.is_empty())?;
    if let Some((prefix, after)) = reference.split_once("//")
        && (prefix.is_empty() || prefix.ends_with(':'))
    {
        let same_scheme = prefix.is_empty() || prefix.trim_end_matches(':').eq_ignore_ascii_case(scheme);
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (host, target) = after.split_at(end);
        let default_port = if scheme.eq_ignore_ascii_case("https") {
            ":443"
        } else {
            ":80"
        };
        let host = host.strip_suffix(default_port).unwrap_or(host);
        let rooted = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        return (same_scheme && host.eq_ignore_ascii_case(authority)).then_some(rooted);
    }
    if reference.starts_with('/') {
        return Some(reference.to_owned());
    }
    if reference.starts_with('?') {
        return Some(format!("{path}{reference}"));
    }
    let first_segment = reference.split(['/', '?']).next().unwrap_or_default();
    if first_segment.contains(':') {
        return None;
    }
    let (folder, _) = path.rsplit_once('/')?;
    Some(format!("{folder}/{reference}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    #[test]
    fn unsafe_methods_that_succeed() {
        let unknown = Method::from_bytes(b"M-SEARCH").unwrap();
        let query = Method::from_bytes(b"QUERY").unwrap();
        for method in [
            &Method::POST,
            &Method::PUT,
            &Method::PATCH,
            &Method::DELETE,
            &unknown,
        ] {
            assert!(invalidates(method, StatusCode::OK) && invalidates(method, StatusCode::SEE_OTHER));
            assert!(!invalidates(method, StatusCode::NOT_FOUND));
            assert!(!invalidates(method, StatusCode::INTERNAL_SERVER_ERROR));
        }
        for method in [&Method::GET, &Method::HEAD, &Method::OPTIONS, &query] {
            assert!(!invalidates(method, StatusCode::OK), "{method}");
        }
    }

    #[test]
    fn targets_of_the_same_origin() {
        let table = [
            ("/a?b=1#c", Some("/a?b=1")),
            ("c", Some("/v1/c")),
            ("c/d?e=/f", Some("/v1/c/d?e=/f")),
            ("?e=1", Some("/v1/models?e=1")),
            ("http://Hub.local/a", Some("/a")),
            ("http://hub.local:80/a", Some("/a")),
            ("http://hub.local?e", Some("/?e")),
            ("//hub.local/a", Some("/a")),
            ("https://hub.local/a", None),
            ("http://other.local/a", None),
            ("http://hub.local:81/a", None),
            ("mailto:x", None),
            ("", None),
            ("#c", None),
        ];
        for (reference, expected) in table {
            let found = related_targets(
                "http",
                "hub.local",
                "/v1/models",
                &headers(&[("location", reference)]),
            );
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{reference}");
        }
        let both = headers(&[("location", "/a"), ("content-location", "/b")]);
        assert_eq!(related_targets("http", "hub.local", "/", &both), ["/a", "/b"]);
    }
}
