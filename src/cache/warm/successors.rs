//! Which request follows which: a first-order Markov chain per route, in bounded memory.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::Wanted;
use super::space_saving::SpaceSaving;
use crate::cache::digest::KeyDigest;
use crate::clock::Timestamp;
use crate::config::Name;

/// Requests of one route whose successors are known; beyond, the least used one makes room.
const KEYS: usize = 1_024;
/// Successors of one request; beyond, the rarest makes room.
const NEXT: usize = 4;
/// Clients whose last request is known; beyond, one takes another's place.
const CLIENTS: usize = 4_096;
/// A request after a longer pause does not follow the one before.
const PAUSE: Duration = Duration::from_secs(60);
/// Uses before a request's successors are trusted.
const TRUSTED: u32 = 8;
/// Uses after which counts are halved, so that new habits are learned.
const OLD: u32 = 256;

/// What is known of the order of requests.
#[derive(Debug)]
pub struct Successors {
    /// By the route of the first request.
    routes: BTreeMap<Name, SpaceSaving<Node>>,
    /// By the hash of the client.
    last: Vec<Option<Last>>,
    hash: RandomState,
}

/// One request of the chain.
#[derive(Debug, Default)]
struct Node {
    uses: u32,
    next: Vec<Next>,
}

#[derive(Debug)]
struct Next {
    key: KeyDigest,
    count: u32,
    wanted: Arc<Wanted>,
}

/// A client's last request.
#[derive(Clone, Debug)]
struct Last {
    client: u64,
    route: Name,
    key: KeyDigest,
    at: Timestamp,
}

/// A request that was served.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Its route.
    pub route: &'a Name,
    /// Its key.
    pub key: &'a KeyDigest,
    /// How to ask for it.
    pub wanted: &'a Arc<Wanted>,
    /// When.
    pub at: Timestamp,
}

impl Successors {
    /// Nothing is known of the requests of `routes`.
    pub fn new(routes: &[Name]) -> Self {
        let table = |route: &Name| (Arc::clone(route), SpaceSaving::new(KEYS));
        Self {
            routes: routes.iter().map(table).collect(),
            last: vec![None; CLIENTS],
            hash: RandomState::default(),
        }
    }

    /// Learns from a request of `client`, and tells what probably comes next: what followed after a share of at least
    /// `confidence` of its uses.
    pub fn served(&mut self, client: impl Hash, served: Served<'_>, confidence: f64) -> Vec<Arc<Wanted>> {
        let client = self.hash.hash_one(client);
        let at = usize::try_from(client % CLIENTS as u64).unwrap_or(0);
        let now = Last {
            client,
            route: Arc::clone(served.route),
            key: *served.key,
            at: served.at,
        };
        let before = self.last.get_mut(at).and_then(|last| last.replace(now));
        if let Some(before) = before
            && before.client == client
            && before.key != *served.key
            && served.at.since(before.at) <= PAUSE
            && let Some(node) = self
                .routes
                .get_mut(&before.route)
                .and_then(|route| route.get_mut(&before.key))
        {
            node.followed(served);
        }
        let table = self.routes.get_mut(served.route);
        let node = table.and_then(|table| table.count(served.key, 1, Node::default));
        node.map_or_else(Vec::new, |node| node.used(confidence))
    }
}

impl Node {
    fn followed(&mut self, by: Served<'_>) {
        if let Some(next) = self.next.iter_mut().find(|next| next.key == *by.key) {
            next.count = next.count.saturating_add(1);
            return;
        }
        let next = Next {
            key: *by.key,
            count: 1,
            wanted: Arc::clone(by.wanted),
        };
        let full = self.next.len() >= NEXT;
        match self.next.iter_mut().min_by_key(|next| next.count) {
            // The rarest one grows rarer with each stranger, and makes room in the end.
            Some(rarest) if full => {
                rarest.count -= 1;
                if rarest.count == 0 {
                    *rarest = next;
                }
            }
            _ => self.next.push(next),
        }
    }

    fn used(&mut self, confidence: f64) -> Vec<Arc<Wanted>> {
        let uses = f64::from(self.uses);
        let sure = |next: &&Next| f64::from(next.count) >= confidence * uses;
        let predicted = match self.uses {
            uses if uses < TRUSTED => Vec::new(),
            _ => self
                .next
                .iter()
                .filter(sure)
                .map(|next| Arc::clone(&next.wanted))
                .collect(),
        };
        self.uses += 1;
        if self.uses >= OLD {
            self.uses /= 2;
            self.next.iter_mut().for_each(|next| next.count /= 2);
            self.next.retain(|next| next.count > 0);
        }
        predicted
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    struct Chain {
        successors: Successors,
        route: Name,
        now: Timestamp,
    }

    impl Chain {
        fn new() -> Self {
            let route: Name = "r".into();
            Self {
                successors: Successors::new(std::slice::from_ref(&route)),
                route,
                now: Timestamp::from_secs(1_000),
            }
        }

        fn ask(&mut self, client: u32, path: &str) -> Vec<String> {
            let wanted = Arc::new(Wanted {
                method: Method::GET,
                scheme: "http",
                authority: "hub".parse().unwrap(),
                target: path.parse().unwrap(),
                headers: HeaderMap::new(),
                body: bytes::Bytes::new(),
            });
            let served = Served {
                route: &self.route,
                key: &KeyDigest(*blake3::hash(path.as_bytes()).as_bytes()),
                wanted: &wanted,
                at: self.now,
            };
            let found = self.successors.served(client, served, 0.5);
            found.iter().map(|wanted| wanted.target.to_string()).collect()
        }
    }

    #[test]
    fn what_often_follows_is_predicted_once_it_was_seen_often() {
        let mut chain = Chain::new();
        for client in 0..TRUSTED {
            assert!(chain.ask(client, "/a").is_empty());
            chain.ask(client, "/b");
        }
        assert_eq!(chain.ask(99, "/a"), ["/b"]);
        // It follows less and less often.
        for client in 100..100 + TRUSTED {
            chain.ask(client, "/a");
        }
        assert!(chain.ask(200, "/a").is_empty());
    }

    #[test]
    fn others_requests_and_late_ones_do_not_follow() {
        let mut chain = Chain::new();
        for _ in 0..2 * TRUSTED {
            chain.ask(1, "/a");
            chain.ask(2, "/b");
            chain.now = chain.now.plus(PAUSE + Duration::from_secs(1));
            chain.ask(1, "/c");
            chain.now = chain.now.plus(PAUSE + Duration::from_secs(1));
        }
        assert!(chain.ask(3, "/a").is_empty());
    }

    #[test]
    fn the_tables_are_bounded_and_habits_change() {
        let mut chain = Chain::new();
        for number in 0..3 * KEYS {
            chain.ask(1, &format!("/{number}"));
            chain.ask(1, "/hub");
        }
        let table = &chain.successors.routes["r"];
        assert!(table.iter().count() <= KEYS);
        assert!(table.iter().all(|counted| counted.value.next.len() <= NEXT));
        for client in 0..4 * OLD {
            chain.ask(client, "/hub");
            chain.ask(client, "/new");
        }
        assert_eq!(chain.ask(9, "/hub"), ["/new"]);
    }
}
