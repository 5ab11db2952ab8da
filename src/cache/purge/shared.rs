//! The log as one of several replicas keeps it: the order is given by what they share, and arrives in batches.
//!
//! A purge that is made here is *held*: in effect and durable, without a place in the order yet. It leaves the list when it
//! arrives as a part of the order, and then counts for what was filled before it got its place: too much, never too
//! little, for no other replica had seen it before.
//!
//! The order has an *incarnation*, which changes when what is shared has lost what it had acknowledged. The first record of
//! an incarnation makes everything older stale, as nobody knows what is missing; and each replica holds its own hard
//! purges again, so that they become a part of the new order.
//!
//! Invariant: `position` is shown only after every record up to it is in effect here.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::file::Head;
use super::index::Index;
use super::{Id, Mode, PurgeLog, Record, Selector};
use crate::clock::Timestamp;

/// Most records that are held; beyond it they become a purge of everything.
const MAX_HELD: usize = 20_000;
/// The same for the bytes of text in their selectors.
const MAX_HELD_TEXT: usize = 8 * 1024 * 1024;

/// A record of the shared order that has been applied here: while it is still there, so is everything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its place.
    pub position: u64,
    /// Which record it is.
    pub id: Id,
}

/// How far this process has come in the shared order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Which order; none if it has never been part of one.
    pub incarnation: Option<Id>,
    /// The last record applied; none at the beginning of an incarnation.
    pub anchor: Option<Anchor>,
    /// Everything up to here has been applied.
    pub position: u64,
}

/// A record as it comes from what is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Which record.
    pub id: Id,
    /// Its place.
    pub position: u64,
    /// Which entries.
    pub selector: Selector,
    /// What becomes of them.
    pub mode: Mode,
}

/// The part of the shared order that follows what has been applied.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Place of the first record that is still there.
    pub first: u64,
    /// Whether records may have gone that had not been applied here.
    pub gap: bool,
    /// Records in order: those after the anchor, or from the first one when there is a gap or no anchor.
    pub records: Vec<Shipped>,
    /// Where the order ends, when nothing is missing before that.
    pub end: Option<u64>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Shared {
    incarnation: Option<Id>,
    /// Where the incarnation began, while this process has not reached its end once.
    joining: Option<Joining>,
    anchor: Option<Anchor>,
    /// Whether positions can be compared with those of other processes.
    comparable: bool,
    /// By version.
    held: VecDeque<Record>,
    held_text: usize,
    /// What is in the file is not all that is held.
    file_lags: bool,
    /// Positions that were given without replicas end here; they mean nothing in the shared order.
    alone_until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Joining {
    began: u64,
    /// It was part of no incarnation before.
    newcomer: bool,
}

impl Shared {
    /// What a file tells of an earlier run.
    pub(super) fn reopened(head: &Head, index: &mut Index, held: Vec<Record>) -> Self {
        let last = index.records().back().map(|record| Anchor {
            position: record.position,
            id: record.id,
        });
        let mut shared = Self {
            incarnation: head.incarnation,
            anchor: last.or(head.anchor),
            comparable: head.incarnation.is_some(),
            ..Self::default()
        };
        if head.incarnation.is_none() {
            shared.anchor = None;
            if !head.shared {
                shared.alone_until = head.position.max(last.map_or(0, |last| last.position));
            }
        }
        for mut record in held {
            index.put_in_effect(&mut record);
            shared.hold(index, record);
        }
        shared
    }

    pub(super) fn standing(&self, position: u64) -> Standing {
        Standing {
            incarnation: self.incarnation,
            anchor: self.anchor,
            position,
        }
    }

    pub(super) fn is_comparable(&self) -> bool {
        self.comparable
    }

    /// Keeps a record, which has just been put into effect, until it is part of the shared order.
    pub(super) fn hold(&mut self, index: &mut Index, record: Record) {
        let at = record.at;
        self.held_text += record.selector.text_len();
        self.held.push_back(record);
        if self.held.len() > MAX_HELD || self.held_text > MAX_HELD_TEXT {
            let mut all = Record::unplaced(Id::random(), at, Selector::All, Mode::Hard);
            index.put_in_effect(&mut all);
            self.held = VecDeque::from([all]);
            self.held_text = 0;
            self.file_lags = true;
        }
    }

    /// How many records are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The records that are held, in the order in which they were put into effect.
    pub(super) fn unpublished(&self) -> impl Iterator<Item = &Record> {
        self.held.iter()
    }

    /// The version of the first record that is held.
    pub(super) fn first_held(&self) -> Option<u64> {
        self.held.front().map(|record| record.version)
    }

    pub(super) fn incarnation(&self) -> Option<Id> {
        self.incarnation
    }

    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// Whether the file must be written anew; asked once.
    pub(super) fn file_lags(&mut self) -> bool {
        std::mem::take(&mut self.file_lags)
    }

    /// What has a place now needs not be published any more.
    fn release(&mut self, id: Id) {
        if let Some(at) = self.held.iter().position(|record| record.id == id)
            && let Some(record) = self.held.remove(at)
        {
            self.held_text -= record.selector.text_len();
        }
    }

    /// Holds the latest hard purges that had a place, besides what is held already.
    fn hold_again(&mut self, index: &Index) {
        let held: HashSet<Id> = self.held.iter().map(|record| record.id).collect();
        let hard = index
            .records()
            .iter()
            .rev()
            .filter(|record| record.mode == Mode::Hard && !held.contains(&record.id));
        let (mut records, mut text) = (0, 0);
        for record in hard {
            records += 1;
            text += record.selector.text_len();
            if records > MAX_HELD / 2 || text > MAX_HELD_TEXT / 2 {
                break;
            }
            self.held_text += record.selector.text_len();
            self.held.push_front(Record {
                position: 0,
                ..record.clone()
            });
        }
        // The first one tells since when this process has seen what no other has.
        self.held.make_contiguous().sort_by_key(|record| record.version);
    }

    /// Whether what has been applied here does not reach up to `batch`, or means nothing beside it.
    fn must_start_over(&self, index: &Index, batch: &Batch) -> bool {
        match (self.anchor, self.joining) {
            (None, Some(Joining { began, newcomer })) => {
                batch.first > began || (newcomer && !index.records().is_empty())
            }
            _ => batch.gap,
        }
    }
}

impl PurgeLog {
    /// How far this process has come; nowhere without replicas.
    pub fn standing(&self) -> Standing {
        let state = self.state.read();
        state
            .shared
            .as_ref()
            .map(|shared| shared.standing(self.position()))
            .unwrap_or_default()
    }

    /// Records that are in effect here and have no place in the shared order yet: at most `limit`.
    pub fn unpublished(&self, limit: usize) -> Vec<Record> {
        let state = self.state.read();
        let held = state.shared.iter().flat_map(Shared::unpublished);
        held.take(limit).cloned().collect()
    }

    /// How many there are.
    pub fn unpublished_len(&self) -> usize {
        self.state.read().shared.as_ref().map_or(0, Shared::held)
    }

    /// These records need not be held any more: they had a place, and everything up to it has been applied.
    pub fn release(&self, ids: impl Iterator<Item = Id>) {
        if let Some(shared) = &mut self.state.write().shared {
            for id in ids {
                shared.release(id);
            }
        }
    }

    /// Becomes part of an incarnation that began at the position `began`, which is larger than every position that this
    /// process has been at.
    pub fn join(&self, incarnation: Id, began: u64) {
        let mut state = self.state.write();
        let super::State { index, shared } = &mut *state;
        let Some(shared) = shared else { return };
        let newcomer = shared.incarnation.is_none();
        if !newcomer && shared.anchor.is_some() {
            shared.hold_again(index);
        }
        let newcomer = newcomer || shared.joining.is_some_and(|joining| joining.newcomer);
        shared.incarnation = Some(incarnation);
        shared.joining = Some(Joining { began, newcomer });
        shared.anchor = None;
    }

    /// Applies what follows in the shared order. Blocks on the disk, without waiting until it is really there: what a
    /// crash forgets comes again.
    ///
    /// # Errors
    /// The disk's; everything is in effect all the same.
    pub fn apply(&self, batch: Batch) -> io::Result<()> {
        let mut file = self.file.as_ref().map(Mutex::lock);
        let now = self.clock.now();
        let mut state = self.state.write();
        let super::State { index, shared } = &mut *state;
        let Some(shared) = shared else { return Ok(()) };
        if shared.must_start_over(index, &batch) {
            index.start_over(batch.first.max(shared.alone_until), shared.held.iter());
            shared.file_lags = true;
        } else if shared.joining.is_some_and(|joining| joining.newcomer) && shared.anchor.is_none() {
            index.set_floor(batch.first.max(shared.alone_until));
            shared.file_lags = true;
        }
        let mut position = self.position();
        let mut records = Vec::with_capacity(batch.records.len());
        for shipped in batch.records {
            shared.release(shipped.id);
            shared.anchor = Some(Anchor {
                position: shipped.position,
                id: shipped.id,
            });
            // A new incarnation may have kept records from before it; in this process they come after what it had.
            position = position.max(shipped.position);
            let last = index.records().back();
            if last.is_some_and(|last| (last.position, last.id) == (position, shipped.id)) {
                continue;
            }
            let at = Timestamp::from_micros(shipped.position);
            let mut record = Record::unplaced(shipped.id, at, shipped.selector, shipped.mode);
            record.position = position;
            index.insert(&mut record);
            records.push(record);
        }
        if let Some(end) = batch.end {
            position = position.max(end);
            shared.comparable = true;
            shared.file_lags |= shared.joining.take().is_some();
        }
        let anew = shared.file_lags();
        self.publish(&mut state, position, now);
        drop(state);
        if records.is_empty() && !anew {
            return Ok(());
        }
        self.write(&mut file, &records, anew)
    }

    /// Notes that the whole order was known at `at`.
    pub fn in_contact(&self, at: Timestamp) {
        let until = at.plus(self.rules.replicas.unwrap_or_default());
        self.trusted_until.fetch_max(until.as_micros(), Ordering::AcqRel);
    }
}
