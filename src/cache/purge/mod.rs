//! The ordered purge log.
//!
//! Every purge is a record with a position. An entry carries the position at which its fill began and may be used
//! while no later record selects it; a fill that began before a purge is therefore never used after it.
//!
//! Without replicas a position is the time in microseconds, or one more than the last if that is larger. A log that
//! begins anew (no directory, no file, a corrupt file) counts everything before its beginning as purged. With replicas
//! the positions are given by what they share (`shared.rs`, `../replication/`), and a purge is in effect here before it
//! has one.
//!
//! Invariant: positions only grow, across restarts too.
//!
//! Invariant: whatever an entry has not provably seen counts against it. An entry that was filled here has seen what was
//! in effect here; one from elsewhere has seen what has a position up to its own, and nothing that has none yet.

mod file;
mod index;
mod record;
mod selector;
mod shared;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};

use self::file::{Head, LogFile};
use self::index::{FIRST_VERSION, Index};
pub use self::record::{Id, Mode, Moment, Purged, Record};
pub(super) use self::selector::target_of;
pub use self::selector::{Facts, Selector, canonical_url};
use self::shared::Shared;
pub use self::shared::{Anchor, Batch, Shipped, Standing};
use super::digest::KeyDigest;
use super::entry::Entry;
use crate::clock::{Clock, Timestamp};

/// Bytes of text in one selector.
pub const MAX_SELECTOR: usize = 8 * 1024;

/// When there are more records than this, the oldest become a purge of everything older.
pub const MAX_RECORDS: usize = 100_000;

/// The same for the bytes of text in all selectors together.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest life of an entry: older records are dropped.
    pub retention: Duration,
    /// Set when replicas share the log: how long an entry may be used when it is not known what they have purged.
    pub replicas: Option<Duration>,
}

impl Rules {
    /// The rules of a log that is kept by one process alone.
    pub const fn alone(retention: Duration) -> Self {
        Self {
            retention,
            replicas: None,
        }
    }
}

/// The log of this process.
pub struct PurgeLog {
    /// Version of the last record in effect. Stored after everything else, under the state's lock.
    version: AtomicU64,
    /// Everything up to here has been applied.
    position: AtomicU64,
    /// Until then, in microseconds, what replicas have purged is known well enough.
    trusted_until: AtomicU64,
    state: RwLock<State>,
    /// Locked before the state.
    file: Option<Mutex<LogFile>>,
    clock: Clock,
    rules: Rules,
}

/// What the lock protects.
struct State {
    index: Index,
    /// Present when replicas share the log.
    shared: Option<Shared>,
}

impl PurgeLog {
    /// Opens the log in `state_dir`, which is created if need be; without a directory it lives in memory alone.
    ///
    /// The second value tells what went wrong: a corrupt file was set aside, or the directory cannot be used and the
    /// log lives in memory.
    pub fn open(state_dir: Option<&Path>, clock: Clock, rules: Rules) -> (Self, Option<String>) {
        let now = clock.now();
        let (opened, warning) =
            match state_dir.map(|dir| (dir, LogFile::open(dir, now, rules.replicas.is_some()))) {
                None => (None, None),
                Some((_, Ok(mut opened))) => {
                    let warning = opened.warning.take();
                    (Some(opened), warning)
                }
                Some((dir, Err(error))) => {
                    let warning = format!(
                        "the purge log in {} cannot be used and is kept in memory: {error}",
                        dir.display()
                    );
                    (None, Some(warning))
                }
            };
        (Self::new(opened, clock, rules), warning)
    }

    fn new(opened: Option<file::Opened>, clock: Clock, rules: Rules) -> Self {
        let now = clock.now().as_micros();
        let (head, records, file) = match opened {
            Some(opened) => (opened.head, opened.records, Some(opened.file)),
            None => (Head::beginning(now, rules.replicas.is_some()), Vec::new(), None),
        };
        let mut index = Index::new(head.floor);
        let (placed, held): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| record.position > 0);
        let last = placed.last().map_or(0, |record| record.position);
        for mut record in placed {
            index.insert(&mut record);
        }
        let mut position = head.position.max(last).max(head.floor);
        let shared = rules.replicas.map(|_| {
            let shared = Shared::reopened(&head, &mut index, held.clone());
            if shared.standing(position).incarnation.is_none() {
                position = 0;
            }
            shared
        });
        if shared.is_none() {
            position = position.max(now);
            for mut record in held {
                position += 1;
                record.position = position;
                index.insert(&mut record);
            }
        }
        Self {
            version: AtomicU64::new(index.version()),
            position: AtomicU64::new(position),
            trusted_until: AtomicU64::new(if shared.is_some() { 0 } else { u64::MAX }),
            state: RwLock::new(State { index, shared }),
            file: file.map(Mutex::new),
            clock,
            rules,
        }
    }

    /// Everything up to this position has been applied.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// What a fill that begins now has seen of the log. Taken before the origin is asked.
    pub fn moment(&self) -> Moment {
        // Whatever comes between the two loads was in effect before the origin is asked, so either order is right.
        let version = self.version.load(Ordering::Acquire);
        Moment::here(self.position(), version)
    }

    /// Whether acknowledged purges survive a restart.
    pub fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Purges what any of `selectors` selects, writes that to the disk, and returns the records.
    ///
    /// Blocks on the disk. In effect for all readers when it returns, also with an error of the disk; such an error
    /// means that a restart would forget the purge. With replicas the records have no position yet.
    ///
    /// # Errors
    /// `InvalidInput`, and nothing is in effect, if a selector is longer than [`MAX_SELECTOR`]; the disk's error
    /// otherwise.
    pub fn append(&self, selectors: Vec<Selector>, mode: Mode) -> io::Result<Vec<Record>> {
        if selectors
            .iter()
            .any(|selector| selector.text_len() > MAX_SELECTOR)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the selector is too long",
            ));
        }
        // Held until the records are on the disk, so that the file has them in order.
        let mut file = self.file.as_ref().map(Mutex::lock);
        let records = self.put_in_effect(selectors, mode);
        self.write(&mut file, &records, false)?;
        if let Some(file) = &mut file {
            file.flush()?;
        }
        Ok(records)
    }

    /// Gives the selectors an identity and, without replicas, a position, and puts them into effect.
    fn put_in_effect(&self, selectors: Vec<Selector>, mode: Mode) -> Vec<Record> {
        let at = self.clock.now();
        let mut state = self.state.write();
        let mut position = self.position();
        let mut records = Vec::with_capacity(selectors.len());
        for selector in selectors {
            let mut record = Record::unplaced(Id::random(), at, selector, mode);
            let State { index, shared } = &mut *state;
            if let Some(shared) = shared {
                index.put_in_effect(&mut record);
                shared.hold(index, record.clone());
            } else {
                position = at.as_micros().max(position.saturating_add(1));
                record.position = position;
                index.insert(&mut record);
            }
            records.push(record);
        }
        self.publish(&mut state, position, at);
        records
    }

    /// Trims the log, and shows readers what has changed.
    fn publish(&self, state: &mut State, position: u64, now: Timestamp) {
        let oldest = now.minus(self.rules.retention);
        let index = &mut state.index;
        while index.records().len() > MAX_RECORDS
            || index.text() > MAX_TEXT
            || index.records().front().is_some_and(|record| record.at < oldest)
        {
            index.forget_oldest();
        }
        self.position.store(position, Ordering::Release);
        self.version.store(index.version(), Ordering::Release);
    }

    /// Writes `records` to the file, or all there is when that is due or `anew` is set.
    fn write(
        &self,
        file: &mut Option<MutexGuard<'_, LogFile>>,
        records: &[Record],
        anew: bool,
    ) -> io::Result<()> {
        let Some(file) = file else { return Ok(()) };
        let state = self.state.read();
        let held = state.shared.as_ref().map_or(0, Shared::held);
        if !anew && !file.wants_rewrite(state.index.records().len() + held) {
            drop(state);
            return file.append(records);
        }
        let head = Head::of(&state, self.position());
        let mut all: Vec<Record> = state.index.records().iter().cloned().collect();
        all.extend(state.shared.iter().flat_map(Shared::unpublished).cloned());
        drop(state);
        file.rewrite(&head, &all)
    }

    /// What the log says of an entry that is kept under `digest`. As long as nothing was purged since the last
    /// call for this entry, this is two loads.
    pub fn is_purged(&self, entry: &Entry, digest: &KeyDigest) -> Purged {
        let checked = entry.checked();
        if checked == self.version.load(Ordering::Acquire) {
            return entry.mark();
        }
        let state = self.state.read();
        let since = if checked >= FIRST_VERSION {
            Some(checked)
        } else {
            state.seen_at(entry.position())
        };
        let purged = since.map_or(Purged::Hard, |since| {
            state.index.check(&Facts::of(entry, digest), since)
        });
        let version = state.index.version();
        drop(state);
        entry.note(purged, version)
    }

    /// Whether an entry may not be used before the origin has confirmed it, because for too long nobody could say what
    /// replicas have purged: it is used until that long after the last contact, or after its fill began.
    pub fn is_capped(&self, entry: &Entry, now: Timestamp) -> bool {
        if now.as_micros() <= self.trusted_until.load(Ordering::Acquire) {
            return false;
        }
        let cap = self.rules.replicas.unwrap_or_default();
        !entry.is_own() || entry.stored_at().plus(cap) < now
    }

    /// Whether replicas share the log.
    pub fn is_shared(&self) -> bool {
        self.rules.replicas.is_some()
    }

    /// Whether what counts as purged certainly is: nothing has to be held against entries of other replicas only because it
    /// is not known what those have seen.
    pub fn is_settled(&self) -> bool {
        let state = self.state.read();
        let shared = state.shared.as_ref();
        shared.is_none_or(|shared| shared.is_comparable() && shared.held() == 0)
    }

    /// The position of a record; none if it has none, or is not there.
    pub fn position_of(&self, id: Id) -> Option<u64> {
        let state = self.state.read();
        let found = state.index.records().iter().rev().find(|record| record.id == id);
        found.map(|record| record.position)
    }

    /// The last `limit` records that have a position, newest first.
    pub fn recent(&self, limit: usize) -> Vec<Record> {
        let state = self.state.read();
        state.index.records().iter().rev().take(limit).cloned().collect()
    }
}

impl State {
    /// The version that an entry from elsewhere has certainly seen; none if that is too little.
    fn seen_at(&self, position: u64) -> Option<u64> {
        let seen = self.index.seen_at(position)?;
        let Some(shared) = &self.shared else {
            return Some(seen);
        };
        let held = shared.first_held();
        shared
            .is_comparable()
            .then(|| held.map_or(seen, |first| seen.min(first.saturating_sub(1))))
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
