//! Routes between which nothing decides.

use std::collections::HashMap;

use http::Method;

use crate::config::effective;
use crate::config::model::{HostPattern, Matcher, Name, Route};

/// The matchers seen so far, by path.
#[derive(Default)]
pub(super) struct Table(HashMap<String, Vec<(Name, Matcher)>>);

impl Table {
    /// Adds a route. Returns the name of one that was there before and matches a same request equally well: a
    /// host pattern in common, the same path pattern but for names of parameters, a method in common, the same
    /// header conditions. Different regular expressions are ordered by the file.
    pub(super) fn insert(&mut self, route: &Route) -> Option<Name> {
        let group = self
            .0
            .entry(effective::path(&route.matcher.path).to_string())
            .or_default();
        let other = group
            .iter()
            .find(|(_, other)| overlap(other, &route.matcher))
            .map(|(name, _)| name.clone());
        group.push((route.name.clone(), route.matcher.clone()));
        other
    }
}

fn overlap(a: &Matcher, b: &Matcher) -> bool {
    hosts_overlap(&a.hosts, &b.hosts) && methods_overlap(&a.methods, &b.methods) && same_headers(a, b)
}

/// Any host is less specific than a given one, so that decides.
fn hosts_overlap(a: &[HostPattern], b: &[HostPattern]) -> bool {
    (a.is_empty() && b.is_empty()) || a.iter().any(|host| b.contains(host))
}

/// Any method is less specific than a given one, so that decides.
fn methods_overlap(a: &[Method], b: &[Method]) -> bool {
    (a.is_empty() && b.is_empty()) || a.iter().any(|method| b.contains(method))
}

fn same_headers(a: &Matcher, b: &Matcher) -> bool {
    a.headers.len() == b.headers.len() && a.headers.iter().all(|header| b.headers.contains(header))
}
