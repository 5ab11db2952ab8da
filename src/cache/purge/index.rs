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
/// Two numbers tell what an entry has seen. The *position* is a place in the order that all replicas share. The
/// *version* counts what this process has put into effect, in its own order: a purge that is made here is in effect
/// before it has a position.
///
/// Invariant: entries older than the floor count as purged, so forgetting a record can purge too much but never
/// revives an entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// What has a position, oldest first: versions grow and positions never fall.
    records: VecDeque<Record>,
    /// Bytes of text in all selectors of `records`.
    text: usize,
    version: u64,
    floor: u64,
    floor_version: u64,
    keys: HashMap<KeyDigest, Last, DigestHash>,
    urls: HashMap<Box<str>, Last>,
    tags: HashMap<Box<str>, Last>,
    routes: HashMap<Box<str>, Last>,
    tenants: HashMap<[u8; 32], Last>,
    all: Last,
    /// Prefixes and globs, oldest first.
    patterns: VecDeque<Record>,
}

/// Versions of the last hard and the last soft purge of something; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    hard: u64,
    soft: u64,
}

impl Last {
    fn note(&mut self, mode: Mode, version: u64) {
        match mode {
            Mode::Hard => self.hard = self.hard.max(version),
            Mode::Soft => self.soft = self.soft.max(version),
        }
    }

    fn since(self, version: u64) -> Purged {
        if self.hard > version {
            Purged::Hard
        } else if self.soft > version {
            Purged::Soft
        } else {
            Purged::No
        }
    }
}

/// No entry that was filled here has seen less.
pub(super) const FIRST_VERSION: u64 = 1;

impl Index {
    /// An index that counts everything below position `floor` as purged.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            version: FIRST_VERSION,
            floor,
            ..Self::default()
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The records that have a position, oldest first.
    pub(super) fn records(&self) -> &VecDeque<Record> {
        &self.records
    }

    /// Bytes of text in all their selectors.
    pub(super) fn text(&self) -> usize {
        self.text
    }

    /// Adds a record, whose position is not smaller than those of all before it. Gives it a version.
    pub(super) fn insert(&mut self, record: &mut Record) {
        self.put_in_effect(record);
        self.text += record.selector.text_len();
        self.records.push_back(record.clone());
    }

    /// Puts a record without a position into effect. Gives it a version.
    pub(super) fn put_in_effect(&mut self, record: &mut Record) {
        self.version += 1;
        record.version = self.version;
        self.note(record);
    }

    fn note(&mut self, record: &Record) {
        let Record { version, mode, .. } = *record;
        match &record.selector {
            Selector::Key(digest) => self.keys.entry(*digest).or_default().note(mode, version),
            Selector::Url(url) => {
                self.urls
                    .entry(canonical_url(url).into())
                    .or_default()
                    .note(mode, version);
            }
            Selector::Tag(tag) => self
                .tags
                .entry(tag.as_str().into())
                .or_default()
                .note(mode, version),
            Selector::Route(route) => {
                self.routes
                    .entry(route.as_str().into())
                    .or_default()
                    .note(mode, version);
            }
            Selector::Tenant(tenant) => self.tenants.entry(*tenant).or_default().note(mode, version),
            Selector::All => self.all.note(mode, version),
            Selector::Prefix(_) | Selector::Glob(_) => self.patterns.push_back(record.clone()),
        }
    }

    /// Forgets the oldest record; the floor rises to it.
    pub(super) fn forget_oldest(&mut self) {
        let Some(record) = self.records.pop_front() else {
            return;
        };
        self.text -= record.selector.text_len();
        self.floor = self.floor.max(record.position);
        self.floor_version = self.floor_version.max(record.version);
        let floor = self.floor_version;
        match &record.selector {
            Selector::Key(digest) => forget(&mut self.keys, digest, floor),
            Selector::Url(url) => forget(&mut self.urls, canonical_url(url).as_str(), floor),
            Selector::Tag(tag) => forget(&mut self.tags, tag.as_str(), floor),
            Selector::Route(route) => forget(&mut self.routes, route.as_str(), floor),
            Selector::Tenant(tenant) => forget(&mut self.tenants, tenant, floor),
            Selector::All => {}
            Selector::Prefix(_) | Selector::Glob(_) => {
                while self
                    .patterns
                    .front()
                    .is_some_and(|pattern| pattern.version <= floor)
                {
                    self.patterns.pop_front();
                }
            }
        }
    }

    /// Counts everything below position `floor` as purged, and everything that this process has so far, for it is not
    /// known what was purged. Then no record is of use but those without a position, which are given again.
    pub(super) fn start_over<'a>(&mut self, floor: u64, held: impl Iterator<Item = &'a Record>) {
        let version = self.version + 1;
        *self = Self {
            version,
            floor,
            floor_version: version,
            ..Self::default()
        };
        for record in held {
            self.note(record);
        }
    }

    /// Moves the floor for entries of other processes alone.
    pub(super) fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    /// The version that an entry from elsewhere has seen if it has seen the order up to `position`; none if it is
    /// older than the floor.
    pub(super) fn seen_at(&self, position: u64) -> Option<u64> {
        if position < self.floor {
            return None;
        }
        let unseen = self.records.partition_point(|record| record.position <= position);
        let before = self.records.get(unseen).map(|record| record.version - 1);
        Some(before.unwrap_or(self.version))
    }

    /// What the records after version `since` say of an entry.
    pub(super) fn check(&self, facts: &Facts<'_>, since: u64) -> Purged {
        if since < self.floor_version {
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
        let unchecked = self.patterns.partition_point(|record| record.version <= since);
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

/// Removes what has not been purged after version `floor`.
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
    use super::super::Id;
    use super::*;
    use crate::clock::Timestamp;

    fn record(position: u64, selector: Selector, mode: Mode) -> Record {
        Record {
            id: Id([0; 16]),
            version: 0,
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
            index.insert(&mut record(1, miss, Mode::Hard));
            assert_eq!(check(&index, 0), Purged::No, "{index:?}");
            index.insert(&mut record(2, hit.clone(), Mode::Soft));
            assert_eq!(check(&index, 1), Purged::Soft, "{index:?}");
            index.insert(&mut record(3, hit, Mode::Hard));
            assert_eq!(check(&index, 2), Purged::Hard, "{index:?}");
            assert_eq!(check(&index, 3), Purged::No, "{index:?}");
        }
    }

    #[test]
    fn a_later_soft_purge_does_not_hide_a_hard_one() {
        for selector in selectors(true) {
            let mut index = Index::default();
            index.insert(&mut record(1, selector.clone(), Mode::Hard));
            index.insert(&mut record(2, selector, Mode::Soft));
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
        index.insert(&mut record(1, Selector::Tenant([5; 32]), Mode::Hard));
        index.insert(&mut record(2, Selector::All, Mode::Soft));
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
            index.insert(&mut record(position, selector, Mode::Soft));
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
            index.insert(&mut record(position, Selector::Tag("t1".into()), Mode::Hard));
        }
        index.forget_oldest();
        assert_eq!((check(&index, 1), check(&index, 2)), (Purged::Hard, Purged::No));
    }
}
