//! What a purge selects, and the facts of an entry that it is compared with.

use std::str::Chars;

use serde::{Deserialize, Serialize};

use super::super::digest::KeyDigest;
use super::super::entry::{Entry, Tags};

/// Which entries a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// The entries under this digest.
    #[serde(with = "hex_digest")]
    Key(KeyDigest),
    /// The entries of this URL, for any method: `http(s)://host/path?query`, or the same without the scheme.
    Url(String),
    /// The entries whose `host/path?query` begins so; whose path does, if it begins with `/`.
    Prefix(String),
    /// The entries whose label matches: `*` is any run of characters, `/` included, and `?` any one character. A
    /// pattern that begins with `/` is compared with path and query alone.
    Glob(String),
    /// The entries with this tag.
    Tag(String),
    /// The entries of this route.
    Route(String),
    /// The entries of this tenant.
    #[serde(with = "hex_bytes")]
    Tenant([u8; 32]),
    /// Every entry.
    All,
}

/// What is known of an entry that purges are compared with.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Digest of its key.
    pub digest: &'a KeyDigest,
    /// `route:METHOD host/path?query`.
    pub label: &'a str,
    /// Its tags.
    pub tags: Tags<'a>,
    /// The route that filled it.
    pub route: &'a str,
    /// The tenant it belongs to.
    pub tenant: Option<&'a [u8; 32]>,
}

impl<'a> Facts<'a> {
    /// The facts of `entry`, which is kept under `digest`.
    pub fn of(entry: &'a Entry, digest: &'a KeyDigest) -> Self {
        Self {
            digest,
            label: entry.label(),
            tags: entry.tags(),
            route: entry.route(),
            tenant: entry.tenant(),
        }
    }

    /// `host/path?query`: what follows the method.
    pub(super) fn target(&self) -> &'a str {
        target_of(self.label)
    }

    /// `/path?query`.
    pub(super) fn path(&self) -> &'a str {
        let target = self.target();
        target
            .find('/')
            .and_then(|at| target.get(at..))
            .unwrap_or_default()
    }
}

impl Selector {
    /// What begins with `prefix`: `/path`, `host/path`, or a URL, whose scheme and default port go and whose host
    /// counts in lower case, as in labels.
    pub fn prefix(prefix: &str) -> Self {
        if prefix.starts_with('/') {
            return Self::Prefix(prefix.to_owned());
        }
        let (rest, default_port) = without_scheme(prefix);
        Self::Prefix(
            match rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len())) {
                Some((authority, path)) if !path.is_empty() => {
                    let host = authority.strip_suffix(default_port).unwrap_or(authority);
                    format!("{}{path}", host.to_ascii_lowercase())
                }
                _ => rest.to_ascii_lowercase(),
            },
        )
    }

    /// Whether an entry with these facts is selected.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Key(digest) => digest == facts.digest,
            Self::Url(url) => canonical_url(url) == facts.target(),
            Self::Prefix(prefix) => {
                let text = if prefix.starts_with('/') {
                    facts.path()
                } else {
                    facts.target()
                };
                text.starts_with(prefix.as_str())
            }
            Self::Glob(pattern) => {
                let text = if pattern.starts_with('/') {
                    facts.path()
                } else {
                    facts.label
                };
                glob_matches(pattern, text)
            }
            Self::Tag(tag) => facts.tags.clone().any(|of_entry| of_entry == tag),
            Self::Route(route) => route == facts.route,
            Self::Tenant(tenant) => Some(tenant) == facts.tenant,
            Self::All => true,
        }
    }

    /// The stable name of its kind; the `scope` of metrics.
    pub const fn scope(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Url(_) => "url",
            Self::Prefix(_) => "prefix",
            Self::Glob(_) => "pattern",
            Self::Tag(_) => "tag",
            Self::Route(_) => "route",
            Self::Tenant(_) => "tenant",
            Self::All => "all",
        }
    }

    /// Bytes of its text.
    pub(super) fn text_len(&self) -> usize {
        match self {
            Self::Url(text) | Self::Prefix(text) | Self::Glob(text) | Self::Tag(text) | Self::Route(text) => {
                text.len()
            }
            Self::Key(_) | Self::Tenant(_) => 32,
            Self::All => 0,
        }
    }
}

/// `host/path?query` of a label: what follows the method.
pub(in crate::cache) fn target_of(label: &str) -> &str {
    label.rsplit_once(' ').map_or(label, |(_, target)| target)
}

/// `host/path?query` of a URL as labels have it: without scheme, default port and fragment, host in lower case, at
/// least `/` as its path (RFC 3986, section 6.2).
pub fn canonical_url(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let (rest, default_port) = without_scheme(url);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = match authority.strip_suffix(default_port) {
        Some(host) => host.to_ascii_lowercase(),
        None => authority.to_ascii_lowercase(),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{host}{slash}{path}")
}

/// The URL without its scheme, and the scheme's default port.
fn without_scheme(url: &str) -> (&str, &'static str) {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, ":80"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (rest, ":443"),
        _ => (url, ""),
    }
}

/// Compares in at most pattern times text steps: after a mismatch only the last `*` takes one character more, as
/// what earlier ones took can always stay as short as it is.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut after_star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let before = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = before;
                after_star = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            (None, None) => return true,
            _ => {
                let Some((rest_of_pattern, taken_up_to)) = &mut after_star else {
                    return false;
                };
                if taken_up_to.next().is_none() {
                    return false;
                }
                (pattern, text) = (rest_of_pattern.clone(), taken_up_to.clone());
            }
        }
    }
}

/// A digest as hexadecimal text.
mod hex_digest {
    use super::{KeyDigest, hex_bytes};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &KeyDigest, serializer: S) -> Result<S::Ok, S::Error> {
        hex_bytes::serialize(&digest.0, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyDigest, D::Error> {
        hex_bytes::deserialize(deserializer).map(KeyDigest)
    }
}

/// Bytes as hexadecimal text.
pub(super) mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::sample;
    use super::*;

    const LABEL: &str = "api_users:GET hub.local/v1/users?page=2";

    fn selects(selector: Selector) -> bool {
        let entry = sample::entry(LABEL, &["user", "list"], 0);
        selector.matches(&Facts::of(&entry, &KeyDigest([1; 32])))
    }

    #[test]
    fn a_glob_spans_the_whole_label() {
        for pattern in [
            "api_*",
            "*",
            LABEL,
            "api_users:*",
            "*page=2",
            "*users*users*",
            "*/v1/*",
            "api_users:??? *",
            "**api**",
            "/v1/*",
            "/v1/users?page=2",
        ] {
            assert!(selects(Selector::Glob(pattern.into())), "{pattern}");
        }
        for pattern in [
            "api",
            "*_",
            "",
            "users*",
            "hub.local*",
            "*page=",
            "/v2/*",
            "?",
            "api_users:?? *",
            "*x*",
        ] {
            assert!(!selects(Selector::Glob(pattern.into())), "{pattern}");
        }
    }

    #[test]
    fn a_question_mark_is_one_character_not_one_byte() {
        assert!(glob_matches("caf?", "café") && !glob_matches("caf??", "café"));
    }

    #[test]
    fn a_hostile_pattern_does_not_explode() {
        for pattern in ["*a".repeat(200) + "b", format!("*{}b", "a".repeat(200))] {
            assert!(!glob_matches(&pattern, &"a".repeat(5_000)));
        }
    }

    #[test]
    fn a_url_is_compared_in_its_canonical_form() {
        for url in [
            "hub.local/v1/users?page=2",
            "http://hub.local/v1/users?page=2",
            "HTTPS://HUB.local:443/v1/users?page=2#top",
            "http://hub.local:80/v1/users?page=2",
        ] {
            assert!(selects(Selector::Url(url.into())), "{url}");
        }
        for url in [
            "hub.local/v1/users",
            "http://hub.local:443/v1/users?page=2",
            "/v1/users?page=2",
            "",
        ] {
            assert!(!selects(Selector::Url(url.into())), "{url}");
        }
        assert_eq!(canonical_url("http://hub"), "hub/");
        assert_eq!(canonical_url("http://hub?q"), "hub/?q");
    }

    #[test]
    fn a_prefix_is_of_the_target_or_of_the_path() {
        assert!(
            selects(Selector::Prefix("hub.local/v1".into())) && selects(Selector::Prefix("/v1/us".into()))
        );
        assert!(!selects(Selector::Prefix("v1".into())) && !selects(Selector::Prefix("/users".into())));
    }

    #[test]
    fn the_rest_is_compared_for_equality() {
        assert!(selects(Selector::Tag("list".into())) && !selects(Selector::Tag("lis".into())));
        assert!(selects(Selector::Route("api_users".into())) && !selects(Selector::Route("api".into())));
        assert!(selects(Selector::Key(KeyDigest([1; 32]))) && !selects(Selector::Key(KeyDigest([2; 32]))));
        assert!(!selects(Selector::Tenant([0; 32])), "the entry has no tenant");
        assert!(selects(Selector::All));
    }

    #[test]
    fn selectors_survive_their_text_form() {
        let selectors = [
            Selector::Key(KeyDigest([7; 32])),
            Selector::Url("hub/\n\"".into()),
            Selector::Tenant([9; 32]),
            Selector::All,
        ];
        for selector in selectors {
            let text = serde_json::to_string(&selector).unwrap();
            assert_eq!(
                serde_json::from_str::<Selector>(&text).unwrap(),
                selector,
                "{text}"
            );
        }
    }
}
