//! The records of the purge log in memory, indexed so that most are found without a search.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use super::super::digest::KeyDigest;
use super::super::digest_hash::DigestHash;
use super::selector::{Facts, Selector, canonical_url};
use super::{Mode, Purged, Record};

/// All records after the floor.
///
/// Invariant: entries older than the floor count as purged, so forgetting a record can purge too much but never
/// revives an entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: VecDeque<Record>,
    /// Bytes of text in all selectors.
    text: usize,
    floor: u64,
    keys: HashMap<KeyDigest, Last, DigestHash>,
    urls: HashMap<Box<str>, Last>,
    tags: HashMap<Box<str>, Last>,
    routes: HashMap<Box<str>, Last>,
    tenants: HashMap<[u8; 32], Last>,
    all: Last,
    /// Prefixes and globs, oldest first.
    patterns: VecDeque<Record>,
}

/// Positions of the last hard and the last soft purge of something; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    hard: u64,
    soft: u64,
}

impl Last {
    fn note(&mut self, mode: Mode, position: u64) {
        match mode {
            Mode::Hard => self.hard = self.hard.max(position),
            Mode::Soft => self.soft = self.soft.max(position),
        }
    }

    fn since(self, position: u64) -> Purged {
        if self.hard > position {
            Purged::Hard
        } else if self.soft > position {
            Purged::Soft
        } else {
            Purged::No
        }
    }
}

impl Index {
    /// An index that counts everything up to `floor` as purged.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            floor,
            ..Self::default()
        }
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The records, oldest first.
    pub(super) fn records(&self) -> &VecDeque<Record> {
        &self.records
    }

    /// Bytes of text in all selectors.
    pub(super) fn text(&self) -> usize {
        self.text
    }

    /// Adds a record, whose position is larger than those of all before it.
    pub(super) fn insert(&mut self, record: Record) {
        let Record { position, mode, .. } = record;
        self.text += record.selector.text_len();
        match &record.selector {
            Selector::Key(digest) => self.keys.entry(*digest).or_default().note(mode, position),
            Selector::Url(url) => {
                self.urls
                    .entry(canonical_url(url).into())
                    .or_default()
                    .note(mode, position);
            }
            Selector::Tag(tag) => self
                .tags
                .entry(tag.as_str().into())
                .or_default()
                .note(mode, position),
            Selector::Route(route) => {
                self.routes
                    .entry(route.as_str().into())
                    .or_default()
                    .note(mode, position);
            }
            Selector::Tenant(tenant) => self.tenants.entry(*tenant).or_default().note(mode, position),
            Selector::All => self.all.note(mode, position),
            Selector::Prefix(_) | Selector::Glob(_) => self.patterns.push_back(record.clone()),
        }
        self.records.push_back(record);
    }

    /// Forgets the oldest record; the floor rises to it.
    pub(super) fn forget_oldest(&mut self) {
        let Some(record) = self.records.pop_front() else {
            return;
        };
        self.text -= record.selector.text_len();
        self.floor = record.position;
        match &record.selector {
            Selector::Key(digest) => forget(&mut self.keys, digest, self.floor),
            Selector::Url(url) => forget(&mut self.urls, canonical_url(url).as_str(), self.floor),
            Selector::Tag(tag) => forget(&mut self.tags, tag.as_str(), self.floor),
            Selector::Route(route) => forget(&mut self.routes, route.as_str(), self.floor),
            Selector::Tenant(tenant) => forget(&mut self.tenants, tenant, self.floor),
            Selector::All => {}
            Selector::Prefix(_) | Selector::Glob(_) => {
                self.patterns.pop_front();
            }
        }
    }

    /// What the records after `since` say of an entry.
    pub(super) fn check(&self, facts: &Facts<'_>, since: u64) -> Purged {
        if since < self.floor {
            return Purged::Hard;
        }
        let found = |last: Option<&Last>| last.map_or(Purged::No, |last| last.since(since));
        let mut purged = self
            .all
            .since(since)
            .max(found(self.keys.get(facts.digest)))
            .max(found(self.urls.get(facts.target())))
            .max(found(self.routes.get(facts.route)))
            .max(found(facts.tenant.and_then(|tenant| self.tenants.get(tenant))));
        if !self.tags.is_empty() {
            purged = facts
                .tags
                .clone()
                .fold(purged, |purged, tag| purged.max(found(self.tags.get(tag))));
        }
        let unchecked = self.patterns.partition_point(|record| record.position <= since);
        for record in self.patterns.iter().skip(unchecked) {
            if purged == Purged::Hard {
                break;
            }
            if record.mode.purged() > purged && record.selector.matches(facts) {
                purged = record.mode.purged();
            }
        }
        purged
    }
}

/// Removes what has not been purged after `floor`.
fn forget<K, Q, S>(map: &mut HashMap<K, Last, S>, key: &Q, floor: u64)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
    S: BuildHasher,
{
    if map.get(key).is_some_and(|last| last.since(floor) == Purged::No) {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::sample;
    use super::*;
    use crate::clock::Timestamp;

    fn record(position: u64, selector: Selector, mode: Mode) -> Record {
        Record {
            position,
            at: Timestamp::default(),
            selector,
            mode,
        }
    }

    fn check(index: &Index, since: u64) -> Purged {
        let entry = sample::entry("a:GET h/p?q", &["t1", "t2"], since);
        index.check(&Facts::of(&entry, &KeyDigest([1; 32])), since)
    }

    /// One selector of each kind, of which all or none selects the entry of `check`.
    fn selectors(hit: bool) -> Vec<Selector> {
        let n = if hit { "" } else { "x" };
        vec![
            Selector::Key(KeyDigest([if hit { 1 } else { 2 }; 32])),
            Selector::Url(format!("h/p?q{n}")),
            Selector::Tag(format!("t2{n}")),
            Selector::Route(format!("a{n}")),
            Selector::Prefix(format!("h/p{n}")),
            Selector::Glob(format!("a:{n}*")),
        ]
    }

    #[test]
    fn every_kind_purges_what_it_selects_and_only_what_is_older() {
        for (hit, miss) in selectors(true).into_iter().zip(selectors(false)) {
            let mut index = Index::default();
            index.insert(record(1, miss, Mode::Hard));
            assert_eq!(check(&index, 0), Purged::No, "{index:?}");
            index.insert(record(2, hit.clone(), Mode::Soft));
            assert_eq!(check(&index, 1), Purged::Soft, "{index:?}");
            index.insert(record(3, hit, Mode::Hard));
            assert_eq!(check(&index, 2), Purged::Hard, "{index:?}");
            assert_eq!(check(&index, 3), Purged::No, "{index:?}");
        }
    }

    #[test]
    fn a_later_soft_purge_does_not_hide_a_hard_one() {
        for selector in selectors(true) {
            let mut index = Index::default();
            index.insert(record(1, selector.clone(), Mode::Hard));
            index.insert(record(2, selector, Mode::Soft));
            assert_eq!((check(&index, 0), check(&index, 1)), (Purged::Hard, Purged::Soft));
        }
    }

    #[test]
    fn tenants_and_all_are_found() {
        let entry = sample::entry("a:GET h/", &[], 0);
        let digest = KeyDigest([1; 32]);
        let facts = Facts {
            tenant: Some(&[5; 32]),
            ..Facts::of(&entry, &digest)
        };
        let mut index = Index::default();
        index.insert(record(1, Selector::Tenant([5; 32]), Mode::Hard));
        index.insert(record(2, Selector::All, Mode::Soft));
        assert_eq!(
            (index.check(&facts, 0), index.check(&facts, 1)),
            (Purged::Hard, Purged::Soft)
        );
        assert_eq!(check(&index, 0), Purged::Soft, "the entry without a tenant");
    }

    #[test]
    fn what_is_forgotten_counts_as_purged_and_takes_no_memory() {
        let mut index = Index::default();
        let count = selectors(true).len() as u64;
        for (position, selector) in (1..).zip(selectors(false)) {
            index.insert(record(position, selector, Mode::Soft));
        }
        for expected in 1..=count {
            assert_eq!(check(&index, index.floor()), Purged::No);
            index.forget_oldest();
            assert_eq!(index.floor(), expected);
            assert_eq!(check(&index, expected - 1), Purged::Hard);
        }
        assert_eq!(index.text(), 0);
        assert!(index.keys.is_empty() && index.urls.is_empty() && index.tags.is_empty());
        assert!(index.routes.is_empty() && index.tenants.is_empty() && index.patterns.is_empty());
    }

    #[test]
    fn forgetting_an_old_record_keeps_a_newer_one_of_the_same_thing() {
        let mut index = Index::default();
        for position in [1, 2] {
            index.insert(record(position, Selector::Tag("t1".into()), Mode::Hard));
        }
        index.forget_oldest();
        assert_eq!((check(&index, 1), check(&index, 2)), (Purged::Hard, Purged::No));
    }
}
