//! The tags of an entry, by which it can be purged.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;

use super::canonical::is_json;
use super::groups;
use crate::config::RouteCache;

/// Most tags of one entry.
const MAX_TAGS: usize = 128;
/// Bytes of the longest tag.
const MAX_TAG: usize = 1024;

/// The tags of a response to a request with these header fields and this body: those of the route first, then those
/// that the request's JSON body names, then those that the response carries. What is too long, too much, or has
/// control characters, which no purge can name, is left out.
pub(super) fn tags_of(
    rules: &RouteCache,
    response: &HeaderMap,
    request: &HeaderMap,
    request_body: &[u8],
) -> Vec<String> {
    let mut tags = Tags(Vec::new());
    for tag in &rules.static_tags {
        tags.add(tag);
    }
    if !rules.tag_pointers.is_empty() && is_json(request.get(header::CONTENT_TYPE)) {
        // A member that is there twice counts as most origins take it: the last one.
        let document: Value = serde_json::from_slice(request_body).unwrap_or_default();
        for pointer in &rules.tag_pointers {
            match document.pointer(pointer) {
                Some(Value::Array(items)) => items.iter().for_each(|item| tags.add_value(item)),
                Some(value) => tags.add_value(value),
                None => {}
            }
        }
    }
    for name in &rules.tag_headers {
        tags.add_carried(name, response);
    }
    tags.0
}

/// Tags so far.
struct Tags(Vec<String>);

impl Tags {
    fn add(&mut self, tag: &str) {
        let sound = !tag.is_empty() && tag.len() <= MAX_TAG && !tag.chars().any(char::is_control);
        if sound && self.0.len() < MAX_TAGS && !self.0.iter().any(|known| known == tag) {
            self.0.push(tag.to_owned());
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add(text),
            Value::Number(_) | Value::Bool(_) => self.add(&value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {}
        }
    }

    /// Adds what the field `name` carries, by the conventions of that field.
    fn add_carried(&mut self, name: &HeaderName, response: &HeaderMap) {
        let lines = response.get_all(name).iter();
        if *name == groups::CACHE_GROUPS {
            for group in groups::read(lines.map(HeaderValue::as_bytes)) {
                self.add(&group);
            }
            return;
        }
        let separators: &[char] = match name.as_str() {
            "surrogate-key" => &[' ', '\t'],
            "cache-tag" | "edge-cache-tag" => &[','],
            _ => &[' ', '\t', ','],
        };
        for line in lines.filter_map(|line| line.to_str().ok()) {
            line.split(separators).for_each(|tag| self.add(tag.trim()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{headers, rules};

    fn carried(fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut rules = rules();
        rules.tag_headers = fields
            .iter()
            .map(|(name, _)| HeaderName::from_static(name))
            .collect();
        tags_of(&rules, &headers(fields), &HeaderMap::new(), b"")
    }

    #[test]
    fn each_field_has_its_separators() {
        assert_eq!(carried(&[("surrogate-key", " a  b,c\td ")]), ["a", "b,c", "d"]);
        assert_eq!(carried(&[("cache-tag", "a b, c,,d ")]), ["a b", "c", "d"]);
        assert_eq!(carried(&[("edge-cache-tag", "a,b")]), ["a", "b"]);
        assert_eq!(carried(&[("x-tags", "a b,c, d")]), ["a", "b", "c", "d"]);
        assert_eq!(
            carried(&[("cache-groups", "\"a, b\";x=1, \"c\", token")]),
            ["a, b", "c"]
        );
        assert_eq!(
            carried(&[("surrogate-key", "a b"), ("cache-tag", "b, c")]),
            ["a", "b", "c"]
        );
    }

    fn named(pointers: &[&str], content_type: &str, body: &str) -> Vec<String> {
        let mut rules = rules();
        rules.tag_pointers = pointers.iter().map(|pointer| (*pointer).to_owned()).collect();
        let request = headers(&[("content-type", content_type)]);
        tags_of(&rules, &HeaderMap::new(), &request, body.as_bytes())
    }

    #[test]
    fn values_of_the_request_body() {
        let body = r#"{"model":"gpt 4,o","n":2,"on":true,"list":["a",1,null,["x"],{}],"deep":{"a/b":"c"},"no":null}"#;
        let json = |pointers: &[&str]| named(pointers, "application/json; charset=utf-8", body);
        assert_eq!(json(&["/model"]), ["gpt 4,o"]);
        assert_eq!(json(&["/n", "/on", "/deep/a~1b"]), ["2", "true", "c"]);
        assert_eq!(json(&["/list", "/list/0"]), ["a", "1"]);
        assert!(json(&["/no", "/deep", "/missing", "/model/x"]).is_empty());
        assert!(named(&["/model"], "text/plain", body).is_empty());
        assert!(named(&["/model"], "application/json", "{\"model\": ").is_empty());
        assert_eq!(
            named(
                &["/m"],
                "application/vnd.x+json",
                r#"{"m":"a","big":18446744073709551616}"#
            ),
            ["a"]
        );
    }

    #[test]
    fn tags_are_bounded_in_number_and_length_and_the_routes_own_come_first() {
        let long = "x".repeat(MAX_TAG + 1);
        let many: Vec<String> = (0..500).map(|n| format!("\"{n}\"")).collect();
        let body = format!(
            r#"{{"long":"{long}","control":"a\u0000","empty":"","many":[{}]}}"#,
            many.join(",")
        );
        let mut rules = rules();
        rules.static_tags = vec!["own".into()];
        rules.tag_pointers = ["/long", "/control", "/empty", "/many"].map(str::to_owned).into();
        rules.tag_headers = vec![HeaderName::from_static("x-tags")];
        let request = headers(&[("content-type", "application/json")]);
        let tags = tags_of(&rules, &headers(&[("x-tags", "late")]), &request, body.as_bytes());
        assert_eq!(tags.len(), MAX_TAGS);
        assert_eq!(tags[..3], ["own", "0", "1"]);
        assert_eq!(
            named(
                &["/t"],
                "application/json",
                &format!(r#"{{"t":"{}"}}"#, &long[1..])
            )
            .len(),
            1
        );
    }
}
