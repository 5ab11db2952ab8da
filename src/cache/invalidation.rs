//! Invalidation by unsafe methods (RFC 9111, section 4.4; RFC 9875), without an index of what is stored.
//!
//! A fixed table holds, per bucket of target URIs, the last invalidation. An entry whose fill began before that is not
//! used again. Two URIs that share a bucket invalidate each other: too much may be fetched again, never too little, and
//! memory is constant whatever clients send.
//!
//! An invalidation by this process is known by its time, and compared with the time at which a fill began here. One by
//! another replica is known by its position in the shared order, and compared with the position that the fill had seen.
//! What this process has marked and not published yet counts for every entry that was filled elsewhere.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::flight::Beginning;
use super::marks::Marks;
use crate::clock::Timestamp;

/// Buckets of target URIs.
pub const BUCKETS: u16 = 16_384;

/// The bucket that is marked with any group.
const ANY_GROUP: u16 = BUCKETS;

/// The number of the mark of everything, behind those of the buckets.
const EVERYTHING: u16 = BUCKETS + 1;

/// When the entries of a target URI were last invalidated.
#[derive(Debug)]
pub struct Invalidations {
    buckets: Box<[Bucket]>,
    any: AtomicBool,
    /// Everything that was filled before counts as invalidated: nothing is known of that time.
    everything: AtomicU64,
    /// Where marks outlive the process, when a level does.
    marks: Option<Marks>,
    /// Marks up to this time, in microseconds, are of an earlier run.
    kept_until: u64,
    outbox: Option<Outbox>,
}

/// The last invalidation of one bucket; 0 for never.
#[derive(Debug, Default)]
struct Bucket {
    /// By this process: its time, in microseconds.
    here: AtomicU64,
    /// By any replica: its position.
    shared: AtomicU64,
}

/// The buckets that other replicas have to be told of, one bit for each: bounded whatever happens.
#[derive(Debug)]
struct Outbox {
    unsent: Bits,
    /// On their way.
    sending: Bits,
    /// Something is unsent.
    filled: AtomicBool,
    wake: Notify,
}

#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Default for Invalidations {
    fn default() -> Self {
        Self {
            buckets: (0..=BUCKETS).map(|_| Bucket::default()).collect(),
            any: AtomicBool::new(false),
            everything: AtomicU64::new(0),
            marks: None,
            kept_until: 0,
            outbox: None,
        }
    }
}

impl Invalidations {
    /// A table whose marks outlive the process in a file in `dir`, with those that are there. What is not known of the
    /// time before counts as invalidated at `now`.
    ///
    /// # Errors
    /// When there can be no file.
    pub fn kept_in(dir: &Path, now: Timestamp) -> std::io::Result<Self> {
        let (marks, found) = Marks::open(dir, usize::from(EVERYTHING) + 1, now)?;
        let kept = Self {
            marks: Some(marks),
            kept_until: now.as_micros(),
            ..Self::default()
        };
        for (number, mark) in (0..).zip(found) {
            if let Some(place) = kept.place(number) {
                place.store(mark, Ordering::Release);
            }
            if mark > 0 && number != EVERYTHING {
                kept.any.store(true, Ordering::Release);
            }
        }
        Ok(kept)
    }

    /// A table that is forgotten with the process. Everything that was filled before `now`, by whomever, counts as
    /// invalidated.
    pub fn since(now: Timestamp) -> Self {
        let table = Self::default();
        table.everything.store(now.as_micros(), Ordering::Release);
        table
    }

    /// This table, whose marks have to reach other replicas from now on.
    pub fn replicated(self) -> Self {
        Self {
            outbox: Some(Outbox {
                unsent: Bits::new(),
                sending: Bits::new(),
                filled: AtomicBool::new(false),
                wake: Notify::new(),
            }),
            ..self
        }
    }

    /// The last call: the marks are on the disk, if that is where they are kept.
    pub fn close(&self) {
        if let Some(marks) = &self.marks {
            marks.close();
        }
    }

    /// Invalidates everything stored for `target`, as [labels](super::key::Key::label) have it
    /// (`host/path?query`), up to `now`.
    pub fn mark(&self, target: &str, now: Timestamp) {
        self.raise(index(target), now);
    }

    /// Invalidates everything stored for the origin `authority` in `group`, up to `now` (RFC 9875, section 3).
    pub fn mark_group(&self, authority: &str, group: &str, now: Timestamp) {
        self.mark(&group_mark(authority, group), now);
        self.raise(ANY_GROUP, now);
    }

    fn raise(&self, number: u16, now: Timestamp) {
        let Some(place) = self.place(number) else { return };
        // Before the time, so that nobody sees an entry from elsewhere that neither of them covers.
        if let Some(outbox) = &self.outbox {
            outbox.unsent.set(number);
        }
        place.fetch_max(now.as_micros(), Ordering::AcqRel);
        self.any.store(true, Ordering::Release);
        if let Some(marks) = &self.marks {
            marks.write(usize::from(number), || place.load(Ordering::Acquire));
        }
        if let Some(outbox) = &self.outbox
            && !outbox.filled.swap(true, Ordering::AcqRel)
        {
            outbox.wake.notify_one();
        }
    }

    fn place(&self, number: u16) -> Option<&AtomicU64> {
        match number {
            EVERYTHING => Some(&self.everything),
            bucket => self.buckets.get(usize::from(bucket)).map(|bucket| &bucket.here),
        }
    }

    /// Whether a fill that began so may have been invalidated since by a group.
    pub fn any_group_since(&self, began: Beginning) -> bool {
        self.any.load(Ordering::Acquire) && self.bucket_covers(ANY_GROUP, began)
    }

    /// Whether `group` of the origin `authority` has been invalidated since `began`.
    pub fn covers_group(&self, authority: &str, group: &str, began: Beginning) -> bool {
        self.covers(&group_mark(authority, group), began)
    }

    /// Whether a fill of this target that began so has been invalidated since.
    pub fn covers(&self, target: &str, began: Beginning) -> bool {
        self.everything.load(Ordering::Acquire) >= began.at.as_micros()
            || (self.any.load(Ordering::Acquire) && self.bucket_covers(index(target), began))
    }

    fn bucket_covers(&self, index: u16, began: Beginning) -> bool {
        let Some(bucket) = self.buckets.get(usize::from(index)) else {
            return false;
        };
        let here = bucket.here.load(Ordering::Acquire);
        let by_time = here > 0 && here >= began.at.as_micros();
        let Some(outbox) = &self.outbox else {
            return by_time;
        };
        // Before the position: a bit goes only when the position is there. The time is that of another clock, or of an
        // earlier run of this process on this one.
        let here = if began.moment.is_own() {
            by_time
        } else {
            outbox.holds(index) || (by_time && here <= self.kept_until)
        };
        here || bucket.shared.load(Ordering::Acquire) > began.moment.position()
    }

    /// Waits until something is there to be published; for ever without replicas.
    pub async fn filled(&self) {
        match &self.outbox {
            Some(outbox) => outbox.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes at most `limit` buckets to be published; [`Invalidations::published`] or [`Invalidations::unpublished`] tells
    /// what became of them.
    pub fn take(&self, limit: usize) -> Vec<u16> {
        let Some(outbox) = &self.outbox else {
            return Vec::new();
        };
        if !outbox.filled.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let taken: Vec<u16> = outbox.unsent.iter().take(limit).collect();
        for bucket in &taken {
            outbox.sending.set(*bucket);
            outbox.unsent.clear(*bucket);
        }
        if taken.len() == limit {
            outbox.filled.store(true, Ordering::Release);
        }
        taken
    }

    /// Whether something is there to be taken.
    pub fn has_unpublished(&self) -> bool {
        self.outbox
            .as_ref()
            .is_some_and(|outbox| outbox.filled.load(Ordering::Acquire))
    }

    /// These buckets, taken before, have got this position.
    pub fn published(&self, buckets: &[u16], position: u64) {
        for bucket in buckets {
            self.apply(*bucket, position);
            if let Some(outbox) = &self.outbox {
                outbox.sending.clear(*bucket);
            }
        }
    }

    /// These buckets, taken before, may not have got a position.
    pub fn unpublished(&self, buckets: &[u16]) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| !buckets.is_empty()) else {
            return;
        };
        for bucket in buckets {
            outbox.unsent.set(*bucket);
            outbox.sending.clear(*bucket);
        }
        outbox.filled.store(true, Ordering::Release);
    }

    /// Invalidates everything in `bucket` that had not seen `position`.
    pub fn apply(&self, bucket: u16, position: u64) {
        if let Some(bucket) = self.buckets.get(usize::from(bucket)) {
            bucket.shared.fetch_max(position, Ordering::AcqRel);
            self.any.store(true, Ordering::Release);
        }
    }
}

impl Outbox {
    fn holds(&self, bucket: u16) -> bool {
        // In this order: a bit is set in the other set before it goes from one.
        self.unsent.has(bucket) || self.sending.has(bucket) || self.unsent.has(bucket)
    }
}

impl Bits {
    fn new() -> Self {
        Self((0..=BUCKETS / 64).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, bit: u16) -> Option<(&AtomicU64, u64)> {
        let word = self.0.get(usize::from(bit / 64))?;
        Some((word, 1 << (bit % 64)))
    }

    fn set(&self, bit: u16) {
        if let Some((word, mask)) = self.word(bit) {
            word.fetch_or(mask, Ordering::AcqRel);
        }
    }

    fn clear(&self, bit: u16) {
        if let Some((word, mask)) = self.word(bit) {
            word.fetch_and(!mask, Ordering::AcqRel);
        }
    }

    fn has(&self, bit: u16) -> bool {
        self.word(bit)
            .is_some_and(|(word, mask)| word.load(Ordering::Acquire) & mask != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        (0..=BUCKETS).filter(|bit| self.has(*bit))
    }
}

/// A name that no target has: a target begins with its authority and a slash.
fn group_mark(authority: &str, group: &str) -> String {
    format!("{authority} {group}")
}

/// The bucket of a target.
pub(super) fn index(target: &str) -> u16 {
    let digest = blake3::hash(target.as_bytes());
    let bytes = digest.as_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]]) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::super::purge::Moment;
    use super::*;

    /// A fill of this process that began after so many seconds, or one of another that had seen `position`.
    fn own(secs: u64) -> Beginning {
        Beginning {
            at: Timestamp::from_secs(secs),
            moment: Moment::here(0, 1),
        }
    }

    fn foreign(position: u64) -> Beginning {
        Beginning {
            at: Timestamp::from_secs(1_000_000),
            moment: Moment::elsewhere(position),
        }
    }

    #[test]
    fn a_fill_that_began_before_is_covered_and_one_after_is_not() {
        let table = Invalidations::default();
        let at = Timestamp::from_secs(100);
        assert!(!table.covers("hub/a", own(1)));
        table.mark("hub/a", at);
        assert!(table.covers("hub/a", own(99)));
        assert!(table.covers("hub/a", own(100)));
        assert!(!table.covers("hub/a", own(101)));
        assert!(!table.covers("hub/b", own(99)));
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = Timestamp::from_secs;
        // Without a file nothing from before is believed.
        let first = Invalidations::kept_in(dir.path(), at(50)).unwrap();
        assert!(first.covers("hub/a", own(50)) && !first.covers("hub/a", own(51)));
        first.mark("hub/a", at(100));
        first.mark_group("hub", "g", at(200));
        drop(first);
        let second = Invalidations::kept_in(dir.path(), at(300)).unwrap().replicated();
        let kept = |secs| Beginning {
            at: Timestamp::from_secs(secs),
            moment: Moment::elsewhere(0),
        };
        for began in [own as fn(u64) -> Beginning, kept] {
            assert!(second.covers("hub/a", began(100)) && !second.covers("hub/a", began(101)));
            assert!(!second.covers("hub/b", began(51)));
            assert!(second.any_group_since(began(200)) && second.covers_group("hub", "g", began(200)));
            assert!(!second.any_group_since(began(201)));
        }
        assert!(second.take(10).is_empty(), "others were told by the earlier run");
    }

    #[test]
    fn a_group_is_of_one_origin() {
        let table = Invalidations::default();
        let (before, at) = (own(99), Timestamp::from_secs(100));
        assert!(!table.any_group_since(before));
        table.mark("hub/a", at);
        assert!(!table.any_group_since(before));
        table.mark_group("hub", "a", at);
        assert!(table.any_group_since(own(100)) && !table.any_group_since(own(101)));
        assert!(table.covers_group("hub", "a", before));
        assert!(!table.covers_group("hub", "b", before));
        assert!(!table.covers_group("other", "a", before));
        assert!(!table.covers_group("hub", "a", own(101)));
    }

    #[test]
    fn what_is_not_published_counts_for_every_entry_from_elsewhere() {
        let table = Invalidations::default().replicated();
        assert!(!table.covers("hub/a", foreign(7)) && table.take(10).is_empty());
        table.mark("hub/a", Timestamp::from_secs(100));
        table.mark("hub/b", Timestamp::from_secs(100));
        assert!(table.covers("hub/a", foreign(u64::MAX)), "unsent");
        assert!(!table.covers("hub/a", own(101)), "an own fill that began later");
        let taken = table.take(10);
        assert_eq!(taken.len(), 2);
        assert!(table.covers("hub/a", foreign(u64::MAX)), "on its way");
        table.unpublished(&taken);
        assert!(
            table.has_unpublished() && table.covers("hub/a", foreign(u64::MAX)),
            "lost"
        );
        let taken = table.take(10);
        table.published(&taken, 50);
        assert!(table.covers("hub/a", foreign(49)) && !table.covers("hub/a", foreign(50)));
        assert!(!table.has_unpublished());
    }

    #[test]
    fn a_mark_while_its_bucket_is_on_its_way_is_published_again() {
        let table = Invalidations::default().replicated();
        table.mark("hub/a", Timestamp::from_secs(100));
        let taken = table.take(10);
        table.mark("hub/a", Timestamp::from_secs(101));
        table.published(&taken, 50);
        assert!(table.covers("hub/a", foreign(50)));
        assert_eq!(table.take(10), taken);
    }

    #[test]
    fn however_much_is_marked_the_outbox_is_bounded_and_emptied_in_parts() {
        let table = Invalidations::default().replicated();
        for n in 0..200_000 {
            table.mark(&format!("hub/{n}"), Timestamp::from_secs(1));
        }
        let mut taken = Vec::new();
        loop {
            let part = table.take(1_000);
            assert!(part.len() <= 1_000);
            if part.is_empty() {
                break;
            }
            taken.extend(part);
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..BUCKETS).collect::<Vec<_>>());
    }

    #[test]
    fn what_another_replica_invalidated_is_covered_by_its_position() {
        let table = Invalidations::default().replicated();
        table.apply(index("hub/a"), 50);
        let seen = |position| Beginning {
            at: Timestamp::from_secs(1_000_000),
            moment: Moment::here(position, 1),
        };
        assert!(table.covers("hub/a", seen(49)) && !table.covers("hub/a", seen(50)));
        assert!(table.covers("hub/a", foreign(49)));
        assert!(table.take(10).is_empty(), "it is not published again");
    }
}
