//! Learning from traffic: which requests are asked for most, and which follow which.
//!
//! Invariant: only requests without credentials are remembered, of routes that are not `sensitive`, and of them only
//! what telemetry would show as well. Bodies are never remembered, so that no prompt gets to the disk.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::space_saving::SpaceSaving;
use super::successors::{Served, Successors};
use super::tally::Tally;
use super::{Outcome, Wanted};
use crate::cache::digest::KeyDigest;
use crate::cache::key::counted_fields;
use crate::cache::partition;
use crate::clock::Timestamp;
use crate::config::{Predict, Route, RouteCache, Warm, WarmSource};
use crate::telemetry::mask::Masking;

/// Counters for each request that is to be known, so that few of them are taken by what is asked for once.
const COUNTERS: usize = 4;
/// Bounds of the number of counters.
const MIN_COUNTERS: usize = 1_024;
const MAX_COUNTERS: usize = 20_000;
/// Parts of the sketch, each behind a lock of its own, so that workers seldom wait for each other.
const SHARDS: usize = 8;
/// Bytes of a path and query that is remembered.
const MAX_TARGET: usize = 1_024;
/// Bytes of all header fields that are remembered of a request.
const MAX_FIELDS: usize = 512;
/// Predictions that may wait to be fetched.
const PREDICTIONS: usize = 64;

/// A request that the cache has answered, or whose answer it has stored.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Its route.
    pub route: &'a Route,
    /// The route's cache rules.
    pub rules: &'a RouteCache,
    /// The key.
    pub key: &'a KeyDigest,
    /// Method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host and port.
    pub authority: &'a HeaderValue,
    /// The target.
    pub uri: &'a Uri,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client: IpAddr,
    /// When.
    pub at: Timestamp,
}

/// Learns from traffic what the configuration asks for; from nothing until it is configured.
#[derive(Debug, Default)]
pub struct Learner(ArcSwapOption<Lesson>);

/// What is being learned.
#[derive(Debug)]
struct Lesson {
    masking: Masking,
    popular: Option<Arc<Sketch>>,
    predictors: Vec<Arc<Predictor>>,
}

/// Which requests are asked for most. By cache key, which an earlier run's requests have only when they come again:
/// those are kept beside the counters.
#[derive(Debug)]
struct Sketch {
    shards: [Mutex<SpaceSaving<Arc<Wanted>>>; SHARDS],
    earlier: Mutex<Vec<(Arc<Wanted>, u64)>>,
    counters: usize,
}

/// Predicts the next request on some routes.
#[derive(Debug)]
struct Predictor {
    rule: Predict,
    successors: Mutex<Successors>,
    found: mpsc::Sender<Arc<Wanted>>,
    tally: Arc<Tally>,
}

/// Where the predictions of one entry come out.
#[derive(Debug)]
pub struct Predictions {
    /// The entry.
    pub entry: Warm,
    /// What to fetch.
    pub found: mpsc::Receiver<Arc<Wanted>>,
    /// Where the outcomes are counted.
    pub tally: Arc<Tally>,
}

impl Learner {
    /// Learns what `entries` need from now on; what was learned of popular requests is kept. The first time, it
    /// begins with those that are `remembered` from an earlier run. Predictions begin anew.
    pub fn configure(
        &self,
        entries: &[Warm],
        masking: Masking,
        remembered: &mut Option<Vec<(Arc<Wanted>, u64)>>,
    ) -> Vec<Predictions> {
        let most = entries.iter().filter_map(|entry| match &entry.source {
            WarmSource::TopKeys(number) => Some(*number),
            WarmSource::Requests(_) | WarmSource::Predict(_) => None,
        });
        let counters = most
            .max()
            .map(|most| (most * COUNTERS).clamp(MIN_COUNTERS, MAX_COUNTERS));
        let before = self.0.load_full().and_then(|lesson| lesson.popular.clone());
        let popular = counters.map(|counters| match before {
            Some(same) if same.counters == counters => same,
            Some(other) => Arc::new(Sketch::new(counters, other.top(counters))),
            None => Arc::new(Sketch::new(counters, remembered.take().unwrap_or_default())),
        });
        let (predictors, predictions): (Vec<_>, Vec<_>) = entries.iter().filter_map(predictor).unzip();
        let idle = popular.is_none() && predictors.is_empty();
        let lesson = Lesson {
            masking,
            popular,
            predictors,
        };
        self.0.store((!idle).then(|| Arc::new(lesson)));
        predictions
    }

    /// Learns from one request.
    pub fn learn(&self, used: &Use<'_>) {
        let lesson = self.0.load();
        let Some(lesson) = lesson.as_ref() else {
            return;
        };
        if !lesson.may_remember(used) {
            return;
        }
        if let Some(sketch) = &lesson.popular {
            let mut shard = sketch.shard(used.key).lock();
            shard.count(used.key, 1, || Arc::new(lesson.wanted(used)));
        }
        for predictor in &lesson.predictors {
            if predictor.rule.routes.contains(&used.route.name) {
                predictor.learn(used, &Arc::new(lesson.wanted(used)));
            }
        }
    }

    /// The `number` requests that were asked for most, the most first, with their uses.
    pub fn top(&self, number: usize) -> Vec<(Arc<Wanted>, u64)> {
        let popular = self.0.load_full().and_then(|lesson| lesson.popular.clone());
        popular.map_or_else(Vec::new, |sketch| sketch.top(number))
    }

    /// Lets what was used long ago count less.
    pub fn grow_old(&self) {
        if let Some(sketch) = self.0.load_full().and_then(|lesson| lesson.popular.clone()) {
            sketch.shards.iter().for_each(|shard| shard.lock().grow_old());
            let mut earlier = sketch.earlier.lock();
            earlier.iter_mut().for_each(|(_, uses)| *uses /= 2);
            earlier.retain(|(_, uses)| *uses > 0);
        }
    }
}

fn predictor(entry: &Warm) -> Option<(Arc<Predictor>, Predictions)> {
    let WarmSource::Predict(rule) = &entry.source else {
        return None;
    };
    let (tell, found) = mpsc::channel(PREDICTIONS);
    let tally = Arc::new(Tally::default());
    let predictor = Predictor {
        rule: rule.clone(),
        successors: Mutex::new(Successors::new(&rule.routes)),
        found: tell,
        tally: Arc::clone(&tally),
    };
    let predictions = Predictions {
        entry: entry.clone(),
        found,
        tally,
    };
    Some((Arc::new(predictor), predictions))
}

impl Lesson {
    /// Whether nothing of the request is a secret, as far as can be told: it has no credentials and no principal, and
    /// nothing that makes it different from others is masked in telemetry.
    fn may_remember(&self, used: &Use<'_>) -> bool {
        let target = used.uri.path_and_query().map_or("/", |target| target.as_str());
        let shown = |query: &str| self.masking.query(query) == query;
        !used.rules.sensitive
            && matches!(*used.method, Method::GET | Method::HEAD)
            && target.len() <= MAX_TARGET
            && partition::credentials(used.headers).next().is_none()
            && partition::sources(used.rules, used.headers).is_empty()
            && used.uri.query().is_none_or(shown)
            && counted_fields(used.rules, used.headers, false)
                .iter()
                .all(|name| !used.headers.contains_key(name) || self.masking.shows(name))
            && fields(used).map(|(_, value)| value.len()).sum::<usize>() <= MAX_FIELDS
    }

    fn wanted(&self, used: &Use<'_>) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in fields(used).filter(|(name, _)| self.masking.shows(name)) {
            headers.append(name, value.clone());
        }
        let target = used.uri.path_and_query().cloned().map(Uri::from);
        Wanted {
            method: Method::GET,
            scheme: used.scheme,
            authority: used.authority.clone(),
            target: target.unwrap_or_default(),
            headers,
            body: Bytes::new(),
        }
    }
}

/// The fields that make a response different: those in the key, and those that most responses vary on.
fn fields<'a>(used: &'a Use<'_>) -> impl Iterator<Item = (http::HeaderName, &'a HeaderValue)> {
    let mut names = vec![ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];
    for name in &used.rules.vary.headers {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.into_iter().flat_map(|name| {
        let values = used.headers.get_all(&name).into_iter();
        values.map(move |value| (name.clone(), value)).collect::<Vec<_>>()
    })
}

impl Sketch {
    fn new(counters: usize, earlier: Vec<(Arc<Wanted>, u64)>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(SpaceSaving::new(counters / SHARDS))),
            earlier: Mutex::new(earlier),
            counters,
        }
    }

    fn shard(&self, key: &KeyDigest) -> &Mutex<SpaceSaving<Arc<Wanted>>> {
        let [first, ..] = &self.shards;
        let [.., last] = key.0;
        self.shards.get(usize::from(last) % SHARDS).unwrap_or(first)
    }

    fn top(&self, number: usize) -> Vec<(Arc<Wanted>, u64)> {
        let mut all: Vec<(Arc<Wanted>, u64)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(
                shard
                    .iter()
                    .map(|counted| (Arc::clone(counted.value), counted.count)),
            );
        }
        let mut known: HashMap<_, _> = all
            .iter_mut()
            .map(|(wanted, uses)| (what(wanted), uses))
            .collect();
        let mut others = Vec::new();
        for (wanted, before) in self.earlier.lock().iter() {
            match known.get_mut(&what(wanted)) {
                Some(uses) => **uses = uses.saturating_add(*before),
                None => others.push((Arc::clone(wanted), *before)),
            }
        }
        all.extend(others);
        all.sort_by_key(|(_, uses)| Reverse(*uses));
        all.truncate(number);
        all
    }
}

/// What is asked for, whatever the variant.
fn what(wanted: &Wanted) -> (&'static str, HeaderValue, String) {
    (wanted.scheme, wanted.authority.clone(), wanted.target.to_string())
}

impl Predictor {
    fn learn(&self, used: &Use<'_>, wanted: &Arc<Wanted>) {
        let served = Served {
            route: &used.route.name,
            key: used.key,
            wanted,
            at: used.at,
        };
        let next = self
            .successors
            .lock()
            .served(used.client, served, self.rule.confidence);
        for wanted in next {
            if self.found.try_send(wanted).is_err() {
                self.tally.add(Outcome::Skipped("queue-full"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config, Environment};

    fn config(more: &str) -> Config {
        let text = format!(
            "
listeners: [{{name: http, bind: 127.0.0.1:0}}]
admin: {{state_dir: /nowhere}}
upstreams: {{hub: {{endpoints: [{{address: 'hub:80'}}]}}}}
cache: {{warm: [{{name: top, top_keys: 100}}]}}
routes: [{{name: r, upstream: hub, cache: {{vary: {{headers: [accept-language, x-plan]}}, share: principal}}}}]
{more}"
        );
        let environment = Environment {
            vars: Box::new(|_| None),
            memory_bytes: 1 << 30,
            cpus: 1,
        };
        match config::parse("test", &text, ".".as_ref(), &environment) {
            Ok(loaded) => loaded.config,
            Err(problems) => panic!("{problems}"),
        }
    }

    fn learned(
        config: &Config,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
    ) -> Vec<Arc<Wanted>> {
        let learner = Learner::default();
        let masking = Masking::new(&config.telemetry.mask);
        learner.configure(&config.warm, masking, &mut None);
        learn(&learner, config, method, target, fields);
        learner.top(10).into_iter().map(|(wanted, _)| wanted).collect()
    }

    fn learn(
        learner: &Learner,
        config: &Config,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let route = &config.routes[0];
        learner.learn(&Use {
            route,
            rules: route.cache.as_ref().unwrap(),
            key: &KeyDigest(*blake3::hash(target.as_bytes()).as_bytes()),
            method: &method.parse().unwrap(),
            scheme: "http",
            authority: &HeaderValue::from_static("hub.local"),
            uri: &target.parse().unwrap(),
            headers: &headers,
            client: IpAddr::from([192, 0, 2, 1]),
            at: Timestamp::from_secs(1),
        });
    }

    #[test]
    fn only_what_is_no_secret_is_remembered() {
        let config = config("");
        let gzip = ("accept-encoding", "gzip");
        let found = learned(
            &config,
            "HEAD",
            "/a",
            &[gzip, ("accept-language", "de"), ("x-other", "c")],
        );
        assert_eq!((found.len(), &found[0].method), (1, &Method::GET));
        assert_eq!(found[0].target, "/a");
        let names: Vec<_> = found[0].headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["accept-encoding", "accept-language"]);
        for name in config::values::CREDENTIALS.iter() {
            let name: &'static str = Box::leak(name.as_str().to_owned().into_boxed_str());
            assert!(
                learned(&config, "GET", "/a", &[(name, "canary")]).is_empty(),
                "{name}"
            );
        }
        assert!(learned(&config, "POST", "/a", &[]).is_empty());
        assert!(learned(&config, "GET", "/a?token=canary", &[]).is_empty());
        // It makes a difference, and may be anything.
        assert!(learned(&config, "GET", "/a", &[("x-plan", "canary")]).is_empty());
        assert!(learned(&config, "GET", "/a", &[("x-original-url", "/canary")]).is_empty());
        let long = format!("/{}", "x".repeat(MAX_TARGET));
        assert!(learned(&config, "GET", &long, &[]).is_empty());
        let long = "x".repeat(MAX_FIELDS + 1);
        assert!(learned(&config, "GET", "/a", &[("accept", &long)]).is_empty());
    }

    #[test]
    fn nothing_of_a_sensitive_route_is_remembered() {
        let mut config = config("");
        assert_eq!(learned(&config, "GET", "/a", &[]).len(), 1);
        let mut route = (*config.routes[0]).clone();
        route.cache.as_mut().unwrap().sensitive = true;
        config.routes[0] = Arc::new(route);
        assert!(learned(&config, "GET", "/a", &[]).is_empty());
    }

    #[test]
    fn what_telemetry_shows_of_a_query_may_be_remembered() {
        let config = config("telemetry: {mask: {query: [token]}}");
        assert_eq!(learned(&config, "GET", "/a?page=2", &[])[0].target, "/a?page=2");
        assert!(learned(&config, "GET", "/a?page=2&token=canary", &[]).is_empty());
    }

    #[test]
    fn an_earlier_run_counts_along() {
        let config = config("");
        let masking = || Masking::new(&config.telemetry.mask);
        let first = Learner::default();
        first.configure(&config.warm, masking(), &mut None);
        for (path, uses) in [("/a", 5), ("/b", 3), ("/c", 1)] {
            (0..uses).for_each(|_| learn(&first, &config, "GET", path, &[]));
        }
        let second = Learner::default();
        second.configure(&config.warm, masking(), &mut Some(first.top(2)));
        (0..4).for_each(|_| learn(&second, &config, "GET", "/b", &[]));
        let seen = |learner: &Learner| -> Vec<(String, u64)> {
            let top = learner.top(10).into_iter();
            top.map(|(wanted, uses)| (wanted.target.to_string(), uses))
                .collect()
        };
        assert_eq!(seen(&second), [("/b".to_owned(), 7), ("/a".to_owned(), 5)]);
        // A reload keeps what was learned.
        second.configure(&config.warm, masking(), &mut Some(Vec::new()));
        second.grow_old();
        assert_eq!(seen(&second), [("/b".to_owned(), 3), ("/a".to_owned(), 2)]);
        second.configure(&[], masking(), &mut None);
        assert!(second.top(10).is_empty());
    }
}
