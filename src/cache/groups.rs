//! Cache groups (RFC 9875): responses of one origin that are invalidated together.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry, Parser};

/// The groups a stored response belongs to.
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The groups that the answer to an unsafe request makes invalid.
const INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Groups read from one field; 32 must be supported (RFC 9875, section 2), and nobody needs more to be read.
const MOST: usize = 128;

/// The groups that this answer to an unsafe request invalidates (RFC 9875, section 3).
pub fn invalidated(response: &HeaderMap) -> Vec<String> {
    read(response.get_all(INVALIDATION).iter().map(|line| line.as_bytes()))
}

/// The groups that the lines of `Cache-Groups` name. Members that are not strings are left out; parameters mean nothing
/// yet; a field that is no structured list names none.
pub(super) fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let lines: Vec<&[u8]> = lines.collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let Ok(list) = Parser::parse_list(&lines.join(&b", "[..])) else {
        return Vec::new();
    };
    let names = list.into_iter().filter_map(|member| match member {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(name) => Some(name.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    names.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lines: &[&str]) -> Vec<String> {
        read(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn lists_of_strings() {
        // RFC 9875, section 2; RFC 9651, section 3.1.
        assert_eq!(groups(&[]), [""; 0]);
        assert_eq!(groups(&["\"scripts\""]), ["scripts"]);
        assert_eq!(groups(&["\"a, b\" , \"c\";x=1", "\"A\""]), ["a, b", "c", "A"]);
        assert_eq!(groups(&["\"a\", token, 1, (\"b\"), \"c\""]), ["a", "c"]);
        for malformed in ["\"a", "\"a\",", "a b", ""] {
            assert!(groups(&[malformed]).is_empty(), "{malformed}");
        }
        let many = vec!["\"0123456789012345678901234567890123456789\""; 32].join(",");
        assert_eq!(groups(&[&many]).len(), 32);
    }
}
