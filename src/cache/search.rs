//! `No-Vary-Search`: the parameters of a query that make no difference to a response (the HTTP
//! working group's specification of that name).
//!
//! What comes with a rule is kept under a key in which the query is as the rule leaves it. Rules are remembered by host
//! and path, so that a request with another query finds it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, Parser};

use super::digest::KeyDigest;
use super::digest_hash::DigestHash;
use super::frame::write_frame;
use super::query;
use crate::clock::Timestamp;

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// Hosts and paths whose rule is remembered.
const TARGETS: u64 = 16_384;
/// Most names that a rule may have; one with more is ignored.
const MOST: usize = 128;

/// Which parameters make a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRule {
    /// The order of parameters counts.
    in_order: bool,
    /// The names below are the only ones that count; otherwise the only ones that do not.
    only: bool,
    names: BTreeSet<String>,
}

impl SearchRule {
    /// The rule of a response; none if it has none, an invalid one, or one by which everything counts.
    pub fn of(response: &HeaderMap) -> Option<Self> {
        if !response.contains_key(&NO_VARY_SEARCH) {
            return None;
        }
        let lines: Vec<&[u8]> = response
            .get_all(&NO_VARY_SEARCH)
            .iter()
            .map(|line| line.as_bytes())
            .collect();
        let dictionary = Parser::parse_dictionary(&lines.join(&b", "[..])).ok()?;
        let rule = Self::read(&dictionary)?;
        let everything_counts = rule.in_order && !rule.only && rule.names.is_empty();
        (!everything_counts && rule.names.len() <= MOST).then_some(rule)
    }

    fn read(dictionary: &Dictionary) -> Option<Self> {
        let mut rule = Self {
            in_order: true,
            only: false,
            names: BTreeSet::new(),
        };
        // An unknown member may narrow what the others say.
        if dictionary
            .keys()
            .any(|key| !["key-order", "params", "except"].contains(&key.as_str()))
        {
            return None;
        }
        if let Some(entry) = dictionary.get("key-order") {
            rule.in_order = !boolean(entry)?;
        }
        match dictionary.get("params") {
            Some(ListEntry::InnerList(list)) => rule.names = names(list)?,
            Some(entry) => rule.only = boolean(entry)?,
            None => {}
        }
        match dictionary.get("except") {
            Some(ListEntry::InnerList(list)) if rule.only => rule.names = names(list)?,
            Some(_) => return None,
            None => {}
        }
        Some(rule)
    }

    /// The parameters that count, spelled as they came.
    pub fn normalised(&self, query: &str) -> String {
        let mut counted: Vec<(String, &str)> = query
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| (query::decoded(query::name_of(parameter)).into_owned(), parameter))
            .filter(|(name, _)| self.names.contains(name) == self.only)
            .collect();
        if !self.in_order {
            counted.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let counted: Vec<&str> = counted.into_iter().map(|(_, parameter)| parameter).collect();
        counted.join("&")
    }

    /// As bytes for keys.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = vec![u8::from(self.in_order), u8::from(self.only)];
        for name in &self.names {
            write_frame(&mut bytes, name.as_bytes());
        }
        write_frame(out, &bytes);
    }
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    match entry {
        ListEntry::Item(Item {
            bare_item: BareItem::Boolean(value),
            ..
        }) => Some(*value),
        _ => None,
    }
}

fn names(list: &InnerList) -> Option<BTreeSet<String>> {
    let name = |item: &Item| match &item.bare_item {
        BareItem::String(name) => Some(query::decoded(name.as_str()).into_owned()),
        _ => None,
    };
    list.items.iter().map(name).collect()
}

/// The rules by host and path, bounded in number.
#[derive(Debug)]
pub struct SearchRules {
    known: Cache<KeyDigest, Arc<Known>, DigestHash>,
    /// Whether there ever was one: where there is none, lookups pay nothing.
    any: AtomicBool,
}

/// A rule that is in force.
#[derive(Debug)]
pub struct Known {
    /// The rule.
    pub rule: SearchRule,
    /// Since when. What was stored before that may have missed a purge, which needs the rule to find it.
    pub since: Timestamp,
}

impl Default for SearchRules {
    fn default() -> Self {
        let known = Cache::builder()
            .max_capacity(TARGETS)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(DigestHash);
        Self {
            known,
            any: AtomicBool::new(false),
        }
    }
}

impl SearchRules {
    /// Remembers the rule of a response whose fetch began at `began`; `target` is `host/path`.
    pub fn learn(&self, target: &str, rule: SearchRule, began: Timestamp) {
        let key = digest(target);
        if self.known.get(&key).is_some_and(|known| known.rule == rule) {
            return;
        }
        let known = Known { rule, since: began };
        self.known.insert(key, Arc::new(known));
        self.any.store(true, Ordering::Release);
    }

    /// Whether there ever was one.
    pub fn is_used(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The rule for `host/path`; what follows a question mark does not matter.
    pub fn of(&self, target: &str) -> Option<Arc<Known>> {
        self.is_used().then(|| self.known.get(&digest(target)))?
    }

    /// `forms` of the query of `host/path`, and those that a rule leaves of them, as keys and labels have them.
    pub fn with_forms(&self, target: &str, mut forms: Vec<Option<String>>) -> Vec<Option<String>> {
        if let Some(known) = self.of(target) {
            for at in 0..forms.len() {
                let form = known.rule.normalised(forms[at].as_deref().unwrap_or_default());
                let form = Some(form).filter(|form| !form.is_empty());
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
        forms
    }
}

fn digest(target: &str) -> KeyDigest {
    let path = target.split('?').next().unwrap_or_default();
    KeyDigest(*blake3::hash(path.as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::headers;

    fn rule(value: &str) -> Option<SearchRule> {
        SearchRule::of(&headers(&[("no-vary-search", value)]))
    }

    #[test]
    fn what_counts_of_a_query() {
        let table = [
            ("key-order", "b=1&a=2&b=0", "a=2&b=1&b=0"),
            ("params", "b=1&a=2", ""),
            ("params, except=(\"a\")", "b=1&a=2&c", "a=2"),
            (
                "params=(\"utm_source\" \"x y\")",
                "utm_source=1&a=2&x+y=3&x%20y=4",
                "a=2",
            ),
            ("params=(\"%61\")", "a=1&%61=2&b=%61", "b=%61"),
            ("params=(\"b\"), key-order", "c=1&b=2&&a=3", "a=3&c=1"),
            ("params, except=()", "a=1", ""),
            ("params;x=1, except=(\"a\";y);z", "a=1&b", "a=1"),
            ("key-order, key-order=?1", "b&a", "a&b"),
        ];
        for (value, query, expected) in table {
            assert_eq!(
                rule(value).unwrap().normalised(query),
                expected,
                "{value}: {query}"
            );
        }
    }

    #[test]
    fn what_is_invalid_or_says_nothing_is_ignored() {
        for value in [
            "",
            "key-order=?0",
            "params=?0",
            "params=()",
            "key-order=1",
            "key-order=(\"a\")",
            "params=\"a\"",
            "params=(a)",
            "params=(\"a\" 1)",
            "except=(\"a\")",
            "params=?0, except=(\"a\")",
            "params=(\"b\"), except=(\"a\")",
            "params, except",
            "params, except=\"a\"",
            "params, except=(a)",
            "params, unknown",
            "params,",
            "\"params\"",
        ] {
            assert_eq!(rule(value), None, "{value}");
        }
        assert_eq!(SearchRule::of(&HeaderMap::new()), None);
        let many: Vec<String> = (0..=MOST).map(|n| format!("\"{n}\"")).collect();
        assert_eq!(rule(&format!("params=({})", many.join(" "))), None);
    }

    #[test]
    fn several_lines_are_one_dictionary() {
        let lines = headers(&[("no-vary-search", "params"), ("no-vary-search", "except=(\"a\")")]);
        assert_eq!(SearchRule::of(&lines).unwrap().normalised("a=1&b=2"), "a=1");
    }

    #[test]
    fn rules_are_remembered_by_host_and_path_from_when_they_came() {
        let rules = SearchRules::default();
        assert!(rules.of("h/a").is_none());
        let (one, other) = (rule("key-order").unwrap(), rule("params").unwrap());
        rules.learn("h/a?x=1", one.clone(), Timestamp::from_secs(1));
        rules.learn("h/a?x=2", one.clone(), Timestamp::from_secs(2));
        assert_eq!(rules.of("h/a").unwrap().since, Timestamp::from_secs(1));
        assert!(rules.of("h/b").is_none() && rules.of("i/a").is_none());
        let forms = rules.with_forms("h/a", vec![Some("b&a".to_owned()), None]);
        assert_eq!(forms, [Some("b&a".to_owned()), None, Some("a&b".to_owned())]);
        rules.learn("h/a", other.clone(), Timestamp::from_secs(3));
        let known = rules.of("h/a?y").unwrap();
        assert_eq!((&known.rule, known.since), (&other, Timestamp::from_secs(3)));
    }
}
