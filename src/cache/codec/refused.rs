//! Why a slot is not sealed, or a value not opened.

/// Why a slot is not kept below the memory level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum NotSealed {
    /// Its route is sensitive, and the level does not encrypt.
    NoKey,
    /// Its newest variant is larger than a value may be.
    TooLarge,
    /// It can neither be used nor validated any more.
    Expired,
    /// The machine has no random numbers, or no memory.
    Cipher,
}

impl NotSealed {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no-key",
            Self::TooLarge => "too-large",
            Self::Expired => "expired",
            Self::Cipher => "cipher",
        }
    }
}

/// Why a value is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Refused {
    /// It is no value of ours.
    Format,
    /// It has another version of the format.
    Version,
    /// It ends too early.
    Truncated,
    /// It was changed, or was written for another key.
    Checksum,
    /// It is encrypted by a key that is not in the ring.
    UnknownKey,
    /// It is not encrypted, and this level encrypts.
    NotEncrypted,
    /// It says that it is larger than an object may be.
    TooLarge,
    /// It says that it becomes more than a hundred times its size.
    Ratio,
    /// It does not decompress to the size that it says.
    Compression,
    /// It is sealed, but holds no slot.
    Payload,
    /// It was made by a clock that is too far ahead of ours.
    Future,
}

impl Refused {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Version => "version",
            Self::Truncated => "truncated",
            Self::Checksum => "checksum",
            Self::UnknownKey => "unknown-key",
            Self::NotEncrypted => "not-encrypted",
            Self::TooLarge => "too-large",
            Self::Ratio => "ratio",
            Self::Compression => "compression",
            Self::Payload => "payload",
            Self::Future => "future",
        }
    }

    /// Whether something is wrong with the value. A key that was taken out of the ring, or has not come to this replica
    /// yet, is no failure: the value is a miss, and need not be removed, since another replica may read it.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::UnknownKey)
    }
}
