//! The ordered purge log.
//!
//! Every purge is a record with a position. An entry carries the position at which its fill began and may be used
//! while no later record selects it; a fill that began before a purge is therefore never used after it.
//!
//! Invariant: positions only grow, across restarts too. A position is the time in microseconds, or one more than the
//! last if that is larger. A log that begins anew (no directory, no file, a corrupt file) counts everything before its
//! beginning as purged.

mod file;
mod index;
mod selector;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use self::file::LogFile;
use self::index::Index;
pub(super) use self::selector::target_of;
pub use self::selector::{Facts, Selector, canonical_url};
use super::digest::KeyDigest;
use super::entry::Entry;
use crate::clock::{Clock, Timestamp};

/// Bytes of text in one selector.
pub const MAX_SELECTOR: usize = 8 * 1024;

/// When there are more records than this, the oldest become a purge of everything older.
pub const MAX_RECORDS: usize = 100_000;

/// The same for the bytes of text in all selectors together.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// What becomes of the selected entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are never used again.
    Hard,
    /// They are stale: used again when the origin confirms them, or as stale entries are.
    Soft,
}

impl Mode {
    fn purged(self) -> Purged {
        match self {
            Self::Hard => Purged::Hard,
            Self::Soft => Purged::Soft,
        }
    }
}

/// What the log says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purged {
    /// No purge selects it.
    No,
    /// Treat it as stale.
    Soft,
    /// Do not use it.
    Hard,
}

impl Purged {
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Soft => 1,
            Self::Hard => 2,
        }
    }

    pub(super) const fn from_rank(rank: u8) -> Self {
        match rank {
            0 => Self::No,
            1 => Self::Soft,
            _ => Self::Hard,
        }
    }
}

/// One purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order.
    pub position: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Which entries.
    pub selector: Selector,
    /// What becomes of them.
    pub mode: Mode,
}

/// The log of this process.
pub struct PurgeLog {
    /// Position of the last record in the index. Stored after the record, under the index's lock.
    position: AtomicU64,
    index: RwLock<Index>,
    /// Locked before the index.
    file: Option<Mutex<LogFile>>,
    clock: Clock,
    retention: Duration,
}

impl PurgeLog {
    /// Opens the log in `state_dir`, which is created if need be; without a directory it lives in memory alone.
    ///
    /// `retention` is the longest life of an entry: older records are dropped. The second value tells what went
    /// wrong: a corrupt file was set aside, or the directory cannot be used and the log lives in memory.
    pub fn open(state_dir: Option<&Path>, clock: Clock, retention: Duration) -> (Self, Option<String>) {
        let now = clock.now();
        let Some(dir) = state_dir else {
            return (
                Self::new(Index::new(now.as_micros()), 0, None, clock, retention),
                None,
            );
        };
        match LogFile::open(dir, now) {
            Ok(opened) => {
                let mut index = Index::new(opened.floor);
                for record in opened.records {
                    index.insert(record);
                }
                let log = Self::new(index, opened.position, Some(opened.file), clock, retention);
                (log, opened.warning)
            }
            Err(error) => {
                let warning = format!(
                    "the purge log in {} cannot be used and is kept in memory: {error}",
                    dir.display()
                );
                (
                    Self::new(Index::new(now.as_micros()), 0, None, clock, retention),
                    Some(warning),
                )
            }
        }
    }

    fn new(index: Index, position: u64, file: Option<LogFile>, clock: Clock, retention: Duration) -> Self {
        let position = position.max(index.floor()).max(clock.now().as_micros());
        Self {
            position: AtomicU64::new(position),
            index: RwLock::new(index),
            file: file.map(Mutex::new),
            clock,
            retention,
        }
    }

    /// Position of the last purge.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Whether acknowledged purges survive a restart.
    pub fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Purges what any of `selectors` selects, writes that to the disk, and returns the position.
    ///
    /// Blocks on the disk. In effect for all readers when it returns, also with an error of the disk; such an error
    /// means that a restart would forget the purge.
    ///
    /// # Errors
    /// `InvalidInput`, and nothing is in effect, if a selector is longer than [`MAX_SELECTOR`]; the disk's error
    /// otherwise.
    pub fn append(&self, selectors: Vec<Selector>, mode: Mode) -> io::Result<u64> {
        if selectors
            .iter()
            .any(|selector| selector.text_len() > MAX_SELECTOR)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the selector is too long",
            ));
        }
        let Some(file) = &self.file else {
            return Ok(self.insert(selectors, mode).0);
        };
        // Held until the records are on the disk, so that the file has them in order.
        let mut file = file.lock();
        let (position, records) = self.insert(selectors, mode);
        let live = self.index.read().records().len();
        if file.wants_rewrite(live) {
            let (floor, kept) = {
                let index = self.index.read();
                (index.floor(), index.records().iter().cloned().collect::<Vec<_>>())
            };
            file.rewrite(floor, position, &kept)?;
        } else {
            file.append(&records)?;
        }
        Ok(position)
    }

    /// Purges what `selector` selects without writing it to the disk; a restart forgets it. Never blocks on the
    /// disk: for invalidation by unsafe methods (RFC 9111, section 4.4) in the data plane.
    pub fn append_volatile(&self, selector: Selector, mode: Mode) -> u64 {
        self.insert(vec![selector], mode).0
    }

    /// What the records after `since` say of an entry with these facts.
    pub fn check(&self, facts: &Facts<'_>, since: u64) -> Purged {
        self.index.read().check(facts, since)
    }

    /// What the log says of an entry that is kept under `digest`. As long as nothing was purged since the last
    /// call for this entry, this is two loads.
    pub fn is_purged(&self, entry: &Entry, digest: &KeyDigest) -> Purged {
        let checked = entry.checked();
        if checked == self.position() {
            return entry.mark();
        }
        let index = self.index.read();
        let position = self.position();
        let purged = index.check(&Facts::of(entry, digest), checked);
        drop(index);
        entry.note(purged, position)
    }

    /// The last `limit` records, newest first.
    pub fn recent(&self, limit: usize) -> Vec<Record> {
        self.index
            .read()
            .records()
            .iter()
            .rev()
            .take(limit)
            .cloned()
            .collect()
    }

    /// Gives the selectors their positions and puts them into effect. Returns the last position and the records.
    fn insert(&self, selectors: Vec<Selector>, mode: Mode) -> (u64, Vec<Record>) {
        let at = self.clock.now();
        let mut index = self.index.write();
        let mut position = self.position();
        let mut records = Vec::with_capacity(selectors.len());
        for selector in selectors {
            position = at.as_micros().max(position.saturating_add(1));
            let record = Record {
                position,
                at,
                selector,
                mode,
            };
            index.insert(record.clone());
            records.push(record);
        }
        self.trim(&mut index, at);
        self.position.store(position, Ordering::Release);
        (position, records)
    }

    fn trim(&self, index: &mut Index, now: Timestamp) {
        let oldest = now.minus(self.retention);
        while index.records().len() > MAX_RECORDS
            || index.text() > MAX_TEXT
            || index.records().front().is_some_and(|record| record.at < oldest)
        {
            index.forget_oldest();
        }
    }
}

impl fmt::Debug for PurgeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeLog")
            .field("position", &self.position)
            .field("durable", &self.is_durable())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
