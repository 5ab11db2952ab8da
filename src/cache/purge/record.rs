//! What the log is made of, and what it says.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use serde::{Deserialize, Serialize};

use super::selector::{Selector, hex_bytes};
use crate::clock::Timestamp;

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
    pub(super) fn purged(self) -> Purged {
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
    pub(in crate::cache) const fn rank(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Soft => 1,
            Self::Hard => 2,
        }
    }

    pub(in crate::cache) const fn from_rank(rank: u8) -> Self {
        match rank {
            0 => Self::No,
            1 => Self::Soft,
            _ => Self::Hard,
        }
    }
}

/// A name that is drawn at random, so that no two are the same: of a record, an incarnation or a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id(#[serde(with = "hex_bytes")] pub [u8; 16]);

impl Id {
    /// A new one.
    pub fn random() -> Self {
        // Each of these is keyed at random, and no two with the same key.
        let drawn = [RandomState::new().hash_one(0), RandomState::new().hash_one(0)];
        let mut bytes = [0; 16];
        for (bytes, drawn) in bytes.chunks_exact_mut(8).zip(drawn) {
            bytes.copy_from_slice(&drawn.to_le_bytes());
        }
        Self(bytes)
    }

    /// As hexadecimal text.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// From hexadecimal text.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }
}

/// One purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one it is, on every replica.
    pub id: Id,
    /// Its place in the order that all replicas share; 0 while it has none.
    pub position: u64,
    /// How much was in effect in this process with it.
    pub(super) version: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Which entries.
    pub selector: Selector,
    /// What becomes of them.
    pub mode: Mode,
}

impl Record {
    /// A record that is not in any log yet.
    pub fn unplaced(id: Id, at: Timestamp, selector: Selector, mode: Mode) -> Self {
        Self {
            id,
            position: 0,
            version: 0,
            at,
            selector,
            mode,
        }
    }
}

/// What a fill had seen of the log when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    position: u64,
    /// 0 for a fill of another process.
    version: u64,
}

impl Moment {
    pub(in crate::cache) const fn here(position: u64, version: u64) -> Self {
        Self { position, version }
    }

    /// What a fill of another process, or of an earlier run of this one, had seen.
    pub const fn elsewhere(position: u64) -> Self {
        Self { position, version: 0 }
    }

    /// What it had seen of the order that all replicas share.
    pub fn position(self) -> u64 {
        self.position
    }

    /// Whether it is one of this process.
    pub fn is_own(self) -> bool {
        self.version > 0
    }

    pub(in crate::cache) fn version(self) -> u64 {
        self.version
    }
}
