//! Invalidation by unsafe methods (RFC 9111, section 4.4; RFC 9875), without an index of what is stored.
//!
//! A fixed table holds, per bucket of target URIs, the moment of the last invalidation. An entry whose fill began
//! before that moment is not used again. Two URIs that share a bucket invalidate each other: too much may be
//! fetched again, never too little, and memory is constant whatever clients send.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::marks::Marks;
use crate::clock::Timestamp;

const BUCKETS: usize = 16_384;
/// The number of the mark of any group, behind those of the buckets.
const GROUP: usize = BUCKETS;
/// The number of the mark of everything.
const EVERYTHING: usize = BUCKETS + 1;

/// When the entries of a target URI were last invalidated.
#[derive(Debug)]
pub struct Invalidations {
    buckets: Box<[AtomicU64]>,
    any: AtomicBool,
    /// The last time that any group was invalidated; 0 for never.
    group: AtomicU64,
    /// Everything that was filled before counts as invalidated: nothing is known of that time.
    everything: AtomicU64,
    /// Where marks outlive the process, when a level does.
    marks: Option<Marks>,
}

impl Default for Invalidations {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            any: AtomicBool::new(false),
            group: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            marks: None,
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
        let (marks, found) = Marks::open(dir, EVERYTHING + 1, now)?;
        let kept = Self {
            marks: Some(marks),
            ..Self::default()
        };
        for (number, mark) in found.into_iter().enumerate() {
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

    fn raise(&self, number: usize, now: Timestamp) {
        let Some(place) = self.place(number) else { return };
        place.fetch_max(now.as_micros(), Ordering::AcqRel);
        self.any.store(true, Ordering::Release);
        if let Some(marks) = &self.marks {
            marks.write(number, || place.load(Ordering::Acquire));
        }
    }

    fn place(&self, number: usize) -> Option<&AtomicU64> {
        match number {
            GROUP => Some(&self.group),
            EVERYTHING => Some(&self.everything),
            bucket => self.buckets.get(bucket),
        }
    }

    /// Invalidates everything stored for the origin `authority` in `group`, up to `now` (RFC 9875, section 3).
    pub fn mark_group(&self, authority: &str, group: &str, now: Timestamp) {
        self.mark(&group_mark(authority, group), now);
        self.raise(GROUP, now);
    }

    /// Whether a fill that began at `began` may have been invalidated since by a group.
    pub fn any_group_since(&self, began: Timestamp) -> bool {
        let last = self.group.load(Ordering::Acquire);
        last > 0 && last >= began.as_micros()
    }

    /// Whether `group` of the origin `authority` has been invalidated since `began`.
    pub fn covers_group(&self, authority: &str, group: &str, began: Timestamp) -> bool {
        self.covers(&group_mark(authority, group), began)
    }

    /// Whether a fill of this target that began at `began` has been invalidated since.
    pub fn covers(&self, target: &str, began: Timestamp) -> bool {
        let covers = |mark: &AtomicU64| mark.load(Ordering::Acquire) >= began.as_micros();
        covers(&self.everything)
            || (self.any.load(Ordering::Acquire) && self.buckets.get(index(target)).is_some_and(covers))
    }
}

/// A name that no target has: a target begins with its authority and a slash.
fn group_mark(authority: &str, group: &str) -> String {
    format!("{authority} {group}")
}

fn index(target: &str) -> usize {
    let digest = blake3::hash(target.as_bytes());
    let bytes = digest.as_bytes();
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_that_began_before_is_covered_and_one_after_is_not() {
        let table = Invalidations::default();
        let at = Timestamp::from_secs(100);
        assert!(!table.covers("hub/a", Timestamp::from_secs(1)));
        table.mark("hub/a", at);
        assert!(table.covers("hub/a", Timestamp::from_secs(99)));
        assert!(table.covers("hub/a", at));
        assert!(!table.covers("hub/a", Timestamp::from_secs(101)));
        assert!(!table.covers("hub/b", Timestamp::from_secs(99)));
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = Timestamp::from_secs;
        // Without a file nothing from before is believed.
        let first = Invalidations::kept_in(dir.path(), at(50)).unwrap();
        assert!(first.covers("hub/a", at(50)) && !first.covers("hub/a", at(51)));
        first.mark("hub/a", at(100));
        first.mark_group("hub", "g", at(200));
        drop(first);
        let second = Invalidations::kept_in(dir.path(), at(300)).unwrap();
        assert!(second.covers("hub/a", at(100)) && !second.covers("hub/a", at(101)));
        assert!(!second.covers("hub/b", at(51)));
        assert!(second.any_group_since(at(200)) && second.covers_group("hub", "g", at(200)));
        assert!(!second.any_group_since(at(201)));
    }

    #[test]
    fn a_group_is_of_one_origin() {
        let table = Invalidations::default();
        let (before, at) = (Timestamp::from_secs(99), Timestamp::from_secs(100));
        assert!(!table.any_group_since(before));
        table.mark("hub/a", at);
        assert!(!table.any_group_since(before));
        table.mark_group("hub", "a", at);
        assert!(table.any_group_since(at) && !table.any_group_since(Timestamp::from_secs(101)));
        assert!(table.covers_group("hub", "a", before));
        assert!(!table.covers_group("hub", "b", before));
        assert!(!table.covers_group("other", "a", before));
        assert!(!table.covers_group("hub", "a", Timestamp::from_secs(101)));
    }
}
