//! The levels below memory: a store of opaque values by key, slower than memory and possibly shared by replicas.
//!
//! A level moves bytes. What the bytes mean, whether they are intact and whom they may be shown to is decided above it,
//! so that a level cannot get that wrong.

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
#[async_trait]
pub trait Level: Send + Sync + fmt::Debug {
    /// Name in the configuration, metrics and reasons.
    fn name(&self) -> &str;

    /// The value under `key`, if it has at most `max_bytes`.
    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError>;

    /// Keeps `value` under `key` for at most `ttl`, in place of what was there.
    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError>;

    /// Forgets what is under `key`; no error if there is nothing.
    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError>;
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
    /// It refused: out of memory or space, read only, loading, no permission, a value of another type.
    #[error("refused: {0}")]
    Refused(String),
    /// The value is larger than the caller takes.
    #[error("the value has {0} bytes, too many")]
    TooLarge(u64),
}
