//! What a replica does next, as a plain machine: without time, tasks or connections of its own.

use super::super::invalidation::Invalidations;
use super::super::purge::{Id, PurgeLog};
use super::protocol::{Answer, Call, Followed, MAX_CHANGED, MAX_PUBLISHED};
use crate::clock::Timestamp;

/// One replica's part.
#[derive(Debug)]
pub(super) struct Follower {
    id: Id,
    /// An incarnation has to be begun, in place of this one if there is one.
    begin: Option<Option<Id>>,
    /// There may be something to read, or somebody to be told how far this replica has come.
    due: bool,
    /// Buckets in a call whose answer is not there yet.
    sending: Vec<u16>,
    /// Records in that call.
    publishing: Vec<Id>,
    /// The replicas that were heard of lately, without this one.
    others: Vec<(Id, u64)>,
}

/// What an answer has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// A new incarnation was joined.
    pub(super) joined: bool,
    /// The whole order is known.
    pub(super) complete: bool,
}

impl Follower {
    /// A replica that has not asked anything yet.
    pub(super) fn new(id: Id) -> Self {
        Self {
            id,
            begin: None,
            due: true,
            sending: Vec::new(),
            publishing: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Which replica it is.
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// The other replicas that were heard of lately, and what each had applied.
    pub(super) fn others(&self) -> &[(Id, u64)] {
        &self.others
    }

    /// Reads on with the next call.
    pub(super) fn wake(&mut self) {
        self.due = true;
    }

    /// What to ask next; none until [`Follower::wake`], or until there is something to publish.
    pub(super) fn next(&mut self, log: &PurgeLog, invalidations: &Invalidations) -> Option<Call> {
        let standing = log.standing();
        if let Some(replaces) = self.begin {
            return Some(Call::Begin {
                replaces,
                incarnation: Id::random(),
                after: standing.position,
            });
        }
        let Some(incarnation) = standing.incarnation.filter(|_| !self.due) else {
            return Some(Call::Follow {
                incarnation: standing.incarnation,
                anchor: standing.anchor,
                position: standing.position,
            });
        };
        let records = log.unpublished(MAX_PUBLISHED);
        let changed = invalidations.take(MAX_CHANGED);
        if records.is_empty() && changed.is_empty() {
            return None;
        }
        self.sending.clone_from(&changed);
        self.publishing = records.iter().map(|record| record.id).collect();
        Some(Call::Publish {
            incarnation,
            records,
            changed,
        })
    }

    /// No answer came: whether the call has had an effect is not known.
    pub(super) fn failed(&mut self, invalidations: &Invalidations) {
        invalidations.unpublished(&std::mem::take(&mut self.sending));
        self.due = true;
    }

    /// Takes the answer to the last call, which was sent at `sent`. Blocks on the disk.
    pub(super) fn take(
        &mut self,
        answer: Answer,
        sent: Timestamp,
        log: &PurgeLog,
        invalidations: &Invalidations,
    ) -> Progress {
        let sending = std::mem::take(&mut self.sending);
        let publishing = std::mem::take(&mut self.publishing);
        if let Answer::Published { last, places } = answer {
            invalidations.published(&sending, last);
            // What has its place before what has been read is not read any more: it had been trimmed, and everything older
            // was counted as purged here. Everything else is released when it is read.
            let read = log.position();
            let trimmed = publishing
                .into_iter()
                .zip(places)
                .filter(|(_, place)| *place <= read);
            log.release(trimmed.map(|(id, _)| id));
            self.due = true;
            return Progress::default();
        }
        invalidations.unpublished(&sending);
        self.due = true;
        self.begin = None;
        match answer {
            Answer::Lost => self.begin = Some(None),
            Answer::RolledBack => self.begin = Some(log.standing().incarnation),
            Answer::Incarnation { id, began } => return self.meet(id, began, log),
            Answer::Followed(followed) => return self.advance(followed, sent, log, invalidations),
            Answer::Published { .. } => {}
        }
        Progress::default()
    }

    /// Joins another incarnation, unless it began too early for what was stored before to be older than it.
    fn meet(&mut self, id: Id, began: u64, log: &PurgeLog) -> Progress {
        let standing = log.standing();
        if standing.incarnation == Some(id) {
            return Progress::default();
        }
        if standing.incarnation.is_some() && began <= standing.position {
            self.begin = Some(Some(id));
            return Progress::default();
        }
        log.join(id, began);
        Progress {
            joined: true,
            complete: false,
        }
    }

    fn advance(
        &mut self,
        followed: Followed,
        sent: Timestamp,
        log: &PurgeLog,
        invalidations: &Invalidations,
    ) -> Progress {
        let Followed {
            batch,
            changed,
            mut replicas,
        } = followed;
        let complete = batch.end.is_some();
        let before = log.position();
        for (bucket, position) in changed {
            invalidations.apply(bucket, position);
        }
        if let Err(error) = log.apply(batch) {
            tracing::warn!(%error, "what replicas have purged cannot be written to the purge log; it will be read again after a restart");
        }
        replicas.retain(|(id, _)| *id != self.id);
        self.others = replicas;
        // Once more when something has changed, so that whoever waits for this replica is told.
        self.due = !complete || log.position() != before;
        if complete {
            log.in_contact(sent);
        }
        Progress {
            joined: false,
            complete,
        }
    }
}
