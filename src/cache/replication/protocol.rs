//! What a replica asks of the place that all replicas share, and what it is told.
//!
//! Each call is one atomic step there: either all of it has happened, or nothing.

use super::super::purge::{Anchor, Batch, Id, Mode, Record, Selector};

/// Records that are published at once.
pub(super) const MAX_PUBLISHED: usize = 100;
/// Buckets of invalidations that are published at once.
pub(super) const MAX_CHANGED: usize = 2_000;

/// One question.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// Begins an incarnation, unless there is one that is not `replaces`.
    Begin {
        /// What has to be replaced.
        replaces: Option<Id>,
        /// Its name.
        incarnation: Id,
        /// It begins after this position.
        after: u64,
    },
    /// Reads on, and tells how far this replica has come.
    Follow {
        /// As this replica knows it.
        incarnation: Option<Id>,
        /// Where it reads on.
        anchor: Option<Anchor>,
        /// What it has applied.
        position: u64,
    },
    /// Gives records and invalidations their places.
    Publish {
        /// As this replica knows it.
        incarnation: Id,
        /// Those that are there already stay where they are.
        records: Vec<Record>,
        /// Buckets of the table of invalidations.
        changed: Vec<u16>,
    },
}

/// The answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// There is no incarnation, or a part of it is missing.
    Lost,
    /// This is the incarnation, and not the one that the call is about.
    Incarnation {
        /// Its name.
        id: Id,
        /// Position of its first record.
        began: u64,
    },
    /// The anchor has not been trimmed and is not there: acknowledged records have been lost.
    RolledBack,
    /// What follows.
    Followed(Followed),
    /// Everything has its place.
    Published {
        /// The last one given.
        last: u64,
        /// Those of the records. One that is older than the oldest record there is has been trimmed already.
        places: Vec<u64>,
    },
}

/// What follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// The records.
    pub(super) batch: Batch,
    /// Buckets invalidated since, each with its last position.
    pub(super) changed: Vec<(u16, u64)>,
    /// Replicas that were heard of lately, and what each has applied. This one is among them.
    pub(super) replicas: Vec<(Id, u64)>,
}

/// The text of a record that is published.
pub(super) fn encode(selector: &Selector, mode: Mode) -> String {
    // A selector always has a JSON form; should that ever fail, everything is purged rather than nothing.
    serde_json::to_string(&(mode, selector)).unwrap_or_default()
}

/// What a record's text says. One that cannot be understood may be about anything.
pub(super) fn decode(text: &[u8]) -> (Mode, Selector) {
    serde_json::from_slice(text).unwrap_or((Mode::Hard, Selector::All))
}

/// The text of the first record of an incarnation: nobody knows what is missing, so everything is validated.
pub(super) fn barrier() -> String {
    encode(&Selector::All, Mode::Soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_text_and_garbage_purges_everything() {
        let selector = Selector::Prefix("/a \"b\"\n".into());
        let text = encode(&selector, Mode::Soft);
        assert_eq!(decode(text.as_bytes()), (Mode::Soft, selector));
        for garbage in ["", "{}", "[\"soft\",{\"later\":1}]", "\u{0}"] {
            assert_eq!(
                decode(garbage.as_bytes()),
                (Mode::Hard, Selector::All),
                "{garbage}"
            );
        }
    }
}
