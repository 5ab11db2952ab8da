//! Which route a request belongs to: the most specific one whose conditions the request meets.
//!
//! Specificity is compared in this order:
//! 1. the host: an exact one, then the longest suffix, then a route for any host;
//! 2. the path: an exact one, then the prefix or template with the most literal bytes (a template beats a prefix with
//!    as many), then a regular expression;
//! 3. how many conditions on method and headers the route has (regular expressions skip this step);
//! 4. the order of the file.
//!
//! A route whose host and path fit but whose method or headers do not is passed over for the next one, even if that
//! has a less specific host: `POST` may have an exact path while a prefix takes every other method.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use foldhash::HashMap;
use http::{HeaderMap, Method};

use crate::config::model::{HostPattern, Matcher, PathPattern, Route, Segment};

/// The routes of one configuration, arranged for lookup.
#[derive(Debug)]
pub struct Router {
    /// By lower-case host.
    exact_hosts: HashMap<String, PathTable>,
    /// By suffix, the longest first. Different suffixes of one length cannot fit the same host.
    host_suffixes: Vec<(String, PathTable)>,
    any_host: PathTable,
}

impl Router {
    /// Arranges `routes`; the answers of [`Router::find`] are indexes into this slice.
    pub fn build(routes: &[Arc<Route>]) -> Self {
        let mut exact_hosts: HashMap<String, PathTable> = HashMap::default();
        let mut suffixes: HashMap<String, PathTable> = HashMap::default();
        let mut any_host = PathTable::default();
        for (index, route) in routes.iter().enumerate() {
            if route.matcher.hosts.is_empty() {
                any_host.add(index, route);
            }
            for host in &route.matcher.hosts {
                let table = match host {
                    HostPattern::Exact(host) => exact_hosts.entry(host.clone()).or_default(),
                    HostPattern::Suffix(suffix) => suffixes.entry(suffix.clone()).or_default(),
                };
                table.add(index, route);
            }
        }
        let tables = exact_hosts.values_mut().chain(suffixes.values_mut());
        tables.chain([&mut any_host]).for_each(PathTable::sort);
        let mut host_suffixes: Vec<_> = suffixes.into_iter().collect();
        host_suffixes.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        Self {
            exact_hosts,
            host_suffixes,
            any_host,
        }
    }

    /// Whether any route asks for a host; if none does, [`Router::find`] may be given an empty one.
    pub fn asks_for_hosts(&self) -> bool {
        !(self.exact_hosts.is_empty() && self.host_suffixes.is_empty())
    }

    /// The index of the route that `host` (without port, in any case), the raw `path` (without query), `method` and
    /// `headers` belong to; none if no route wants them.
    ///
    /// Allocates only if `host` has upper-case letters (hosts are case-insensitive: RFC 9110, section 4.2.3).
    pub fn find(&self, host: &str, path: &str, method: &Method, headers: &HeaderMap) -> Option<usize> {
        let host = lower_case(host);
        let suffix_tables = self
            .host_suffixes
            .iter()
            .filter(|(suffix, _)| is_below(&host, suffix))
            .map(|(_, table)| table);
        self.exact_hosts
            .get(host.as_ref())
            .into_iter()
            .chain(suffix_tables)
            .chain([&self.any_host])
            .find_map(|table| table.find(path, method, headers))
    }
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct PathTable {
    /// By path; the most specific candidate first.
    exact: HashMap<String, Vec<Candidate>>,
    /// Every other pattern; the most specific first.
    patterns: Vec<(PathPattern, Candidate)>,
}

impl PathTable {
    fn add(&mut self, index: usize, route: &Arc<Route>) {
        let candidate = Candidate {
            index,
            route: Arc::clone(route),
        };
        match &route.matcher.path {
            PathPattern::Exact(path) => self.exact.entry(path.clone()).or_default().push(candidate),
            pattern => self.patterns.push((pattern.clone(), candidate)),
        }
    }

    fn sort(&mut self) {
        for candidates in self.exact.values_mut() {
            candidates.sort_by_key(Candidate::rank);
        }
        self.patterns.sort_by_key(|(pattern, candidate)| match pattern {
            PathPattern::Regex(_) => (true, Reverse(0), false, (Reverse(0), candidate.index)),
            pattern => {
                let is_prefix = matches!(pattern, PathPattern::Prefix(_));
                (
                    false,
                    Reverse(literal_length(pattern)),
                    is_prefix,
                    candidate.rank(),
                )
            }
        });
    }

    fn find(&self, path: &str, method: &Method, headers: &HeaderMap) -> Option<usize> {
        let exact = self.exact.get(path).into_iter().flatten();
        let patterns = self
            .patterns
            .iter()
            .filter(|(pattern, _)| pattern.fits(path))
            .map(|(_, candidate)| candidate);
        exact
            .chain(patterns)
            .find(|candidate| candidate.accepts(method, headers))
            .map(|candidate| candidate.index)
    }
}

/// A route under one of its host patterns.
#[derive(Debug)]
struct Candidate {
    index: usize,
    route: Arc<Route>,
}

impl Candidate {
    /// Order among candidates with equally specific paths.
    fn rank(&self) -> (Reverse<usize>, usize) {
        let Matcher { methods, headers, .. } = &self.route.matcher;
        (
            Reverse(usize::from(!methods.is_empty()) + headers.len()),
            self.index,
        )
    }

    /// Whether the request meets the conditions beyond host and path. Of a repeated field one value must be right.
    fn accepts(&self, method: &Method, headers: &HeaderMap) -> bool {
        let matcher = &self.route.matcher;
        (matcher.methods.is_empty() || matcher.methods.contains(method))
            && matcher
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(name).iter().any(|given| given == value))
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `.hub.local` is the suffix of the hosts below `hub.local`, not of one with an empty label before it.
fn is_below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() && host.ends_with(suffix)
}

/// Bytes of the pattern that a path must repeat, the `/` before each segment of a template included.
fn literal_length(pattern: &PathPattern) -> usize {
    match pattern {
        PathPattern::Exact(text) | PathPattern::Prefix(text) => text.len(),
        PathPattern::Template(segments) => segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => 1 + text.len(),
                Segment::Parameter => 1,
            })
            .sum(),
        PathPattern::Regex(_) => 0,
    }
}

#[cfg(test)]
mod tests;
