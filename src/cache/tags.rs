//! Tags of entries, by which purges select them.

use http::HeaderMap;

use crate::config::Route;

/// Longest list of tags of one entry; more are ignored.
const MAX_TAGS: usize = 128;

/// The tags of a response: those of its route, and those that its header fields carry.
pub(super) fn of(route: &Route, headers: &HeaderMap) -> Vec<String> {
    let Some(rules) = &route.cache else {
        return Vec::new();
    };
    let carried = rules
        .tag_headers
        .iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([' ', ',', '\t']))
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned);
    let mut tags: Vec<String> = rules
        .static_tags
        .iter()
        .map(|tag| tag.to_string())
        .chain(carried)
        .collect();
    tags.sort_unstable();
    tags.dedup();
    tags.truncate(MAX_TAGS);
    tags
}
