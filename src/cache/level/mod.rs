//! The levels below memory: a store of opaque values by key, slower than memory and possibly shared by replicas.
//!
//! A level moves bytes. What the bytes mean, whether they are intact and whom they may be shown to is decided above it,
//! so that a level cannot get that wrong.

pub mod conformance;
pub mod disk;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// What a value is kept under: a keyed digest, so that nothing of a request can be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LevelKey(pub [u8; 32]);

impl fmt::Debug for LevelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LevelKey({})", hex::encode(&self.0[..4]))
    }
}

/// A level below memory.
///
/// Duties of a level:
/// - It is cheap to make and fails no start: what takes time, or can fail, it does in `open`, or with the first call.
/// - It ends every call by its own deadline, with [`LevelError::Timeout`]; whoever calls does not wait longer.
/// - Dropping the future of a call cancels it. A cancelled `put` has stored the whole value or nothing, and leaves no
///   connection in a state that another call could misread.
/// - It looks at the size of a value before it reads it: more than `max_bytes` is [`LevelError::TooLarge`], and never
///   becomes memory.
/// - It bounds what it keeps, and forgets a value when its `ttl` has passed, or earlier. It may forget anything.
/// - It returns a value byte for byte as it was put, or says `None` or an error; but nobody relies on that.
/// - It does not panic, does not block the thread, and is used by several threads at once.
///
/// Duties of the caller:
/// - It takes every error for a miss, counts it, and stops asking for a while when they repeat.
/// - It checks every value that it gets, and calls `remove` for one that fails.
/// - It calls `open` before anything else, and again, from time to time, as long as that fails.
/// - It writes one value of a key after the other, never two at once, and never an empty one.
#[async_trait]
pub trait Level: Send + Sync + fmt::Debug {
    /// Name in the configuration, metrics and reasons.
    fn name(&self) -> &str;

    /// Its kind, as the configuration calls it.
    fn kind(&self) -> &'static str;

    /// Gets ready for calls. Does nothing if it is ready. It may take longer than a call.
    async fn open(&self) -> Result<(), LevelError> {
        Ok(())
    }

    /// The value under `key`, if it has at most `max_bytes`.
    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError>;

    /// Keeps `value` under `key` for at most `ttl`, in place of what was there.
    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError>;

    /// Forgets what is under `key`; no error if there is nothing.
    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError>;

    /// The last call: what was put is on its way to where it outlives the process, if the level is such a place.
    async fn close(&self) {}

    /// What it keeps, as far as it knows without asking anybody.
    fn holding(&self) -> Holding {
        Holding::default()
    }
}

/// What a level keeps, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Values.
    pub entries: Option<u64>,
    /// Bytes that they take.
    pub bytes: Option<u64>,
    /// Bound of `bytes`.
    pub capacity: Option<u64>,
    /// Values that made room for others.
    pub evictions: Option<u64>,
}

/// Why a level did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// The deadline passed.
    #[error("no answer in time")]
    Timeout,
    /// It cannot be reached, or the connection broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It refused: out of memory or space, read only, loading, no permission.
    #[error("refused: {0}")]
    Refused(String),
    /// The value is larger than the caller takes, or than the level keeps. That is no trouble of the level.
    #[error("the value has {0} bytes, too many")]
    TooLarge(u64),
    /// What lies there is no value of ours but something of another type. That is no trouble of the level.
    #[error("what lies there is no value: {0}")]
    WrongType(String),
}

impl LevelError {
    /// The stable name.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::TooLarge(_) => "too-large",
            Self::WrongType(_) => "wrong-type",
        }
    }

    /// Whether the level answered, and only what it has under this key is of no use.
    pub const fn is_of_the_value(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::WrongType(_))
    }
}
