//! A whole slot, an entry with its variants, as one sealed value for the levels below memory, and back.
//!
//! ```text
//! seal: slot -> payload -> compressed -> encrypted or checksummed -> value
//! open: value -> head, seal, size, payload, slot; the first check that fails refuses it
//! ```
//!
//! A value, numbers in little-endian order:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic |
//! | 1 | [version](VERSION) of the format |
//! | 1 | seal: 0 checksum, 1 AES-256-GCM |
//! | 1 | compression of the body: 0 none, 1 zstd, 2 LZ4 block |
//! | 1 | length of the key id; 0 without encryption |
//! | 4 | bytes of the payload, before compression |
//! | n | key id |
//! | 24, 16 | salt and commitment, with encryption only |
//! | 8 | check of the head: keyed BLAKE3 |
//! | m | body |
//! | 16 | checksum (keyed BLAKE3) or tag (AES-256-GCM) over head and body |
//!
//! Invariant: both seals cover the version, the level key and the digest of the full key, which in turn covers tenant
//! and principal. A value that was written for another key, level key or version is refused, not shown to somebody
//! else.
//!
//! Invariant: no length in a value is trusted. What opening allocates is bounded by the value's own size times
//! [`MAX_RATIO`], and by the object limit.
//!
//! That a value is older than a purge is not seen here: it carries the position that its entries have, and whoever
//! opened it asks [`Cache::use_of`](super::engine::Cache::use_of).

mod cipher;
mod compress;
mod head;
mod payload;
mod refused;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use self::cipher::{Binding, Seal};
use self::compress::Compressor;
use self::head::{Head, MAX_HEAD, TAG};
pub use self::refused::{NotSealed, Refused};
use super::digest::KeyDigest;
use super::level::LevelKey;
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::config::keyring::Keyring;
use crate::config::{Compress, Compression};

/// Version of everything that is written here, the payload's layout included.
pub const VERSION: u8 = 1;

/// How many times its own size a body may become.
pub const MAX_RATIO: usize = 100;

/// Room for what an entry is beside its body: key, tags, headers, pace.
const BESIDE_BODY: usize = 1 << 20;

/// How far the clock of whoever sealed a value may be ahead of ours.
pub const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// Seals and opens the values of one level. Shared by all threads.
///
/// It does no I/O and takes the time. For a large value it takes milliseconds of CPU, mostly for compression.
pub struct Codec {
    settings: ArcSwap<Settings>,
    compressor: Compressor,
    /// Bytes of the largest payload.
    max_payload: usize,
}

struct Settings {
    compress: Compress,
    seal: Seal,
}

/// A slot as a level keeps it.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What it is kept under.
    pub key: LevelKey,
    /// What is kept.
    pub value: Bytes,
    /// For how long it is of use.
    pub ttl: Duration,
    /// Bytes before compression.
    pub raw: usize,
}

impl Codec {
    /// For a level under a memory level that takes bodies of `max_object` bytes. Without a keyring it does not encrypt.
    pub fn new(compress: Compress, keyring: Option<&Keyring>, max_object: u64) -> Self {
        let max_object = usize::try_from(max_object).unwrap_or(usize::MAX);
        Self {
            settings: ArcSwap::from_pointee(Settings::new(compress, keyring)),
            compressor: Compressor::default(),
            max_payload: max_object
                .saturating_add(BESIDE_BODY)
                .min(usize::try_from(u32::MAX).unwrap_or(usize::MAX)),
        }
    }

    /// Takes other settings from now on. What was sealed with a key that is no longer in the ring is refused.
    pub fn apply(&self, compress: Compress, keyring: Option<&Keyring>) {
        self.settings.store(Settings::new(compress, keyring).into());
    }

    /// Whether it encrypts, so that entries of sensitive routes may be sealed.
    pub fn encrypts(&self) -> bool {
        self.settings.load().seal.encrypts()
    }

    /// Bytes of the largest value that [`Codec::open`] takes; a level need not read more.
    pub fn max_value(&self) -> usize {
        self.max_payload.saturating_add(MAX_HEAD + TAG)
    }

    /// What the slot under `digest` is kept under. Equal for all levels with the same keyring, or without one; stays the
    /// same when a keyring gets another key.
    pub fn level_key(&self, digest: &KeyDigest) -> LevelKey {
        self.settings.load().seal.level_key(digest)
    }

    /// Seals the variants of `slot`, kept under `digest`, that are of use after `now`; the newest first, as many as
    /// there is room for.
    ///
    /// # Errors
    /// When there is none, or it must not or cannot be kept.
    pub fn seal(&self, digest: &KeyDigest, slot: &Slot, now: Timestamp) -> Result<Sealed, NotSealed> {
        let settings = self.settings.load();
        let key = settings.seal.level_key(digest);
        if !settings.seal.encrypts() && slot.variants().any(|entry| entry.sensitive()) {
            return Err(NotSealed::NoKey);
        }
        let payload::Written { payload, ttl } = payload::write(slot, self.max_payload, now)?;
        let worthwhile = settings.compress.algorithm != Compression::Off
            && payload::compressible(slot) >= settings.compress.min_size;
        let compressed = match worthwhile {
            true => self.compressor.compress(settings.compress.algorithm, &payload),
            false => None,
        };
        let (algorithm, body) = match &compressed {
            Some(compressed) => (settings.compress.algorithm, compressed),
            None => (Compression::Off, &payload),
        };
        let binding = Binding { key: &key, digest };
        let value = settings.seal.seal(&binding, algorithm, payload.len(), body)?;
        Ok(Sealed {
            key,
            value: value.into(),
            ttl,
            raw: payload.len(),
        })
    }

    /// Opens what [`Codec::seal`] made of the slot under `digest`, here or in another replica.
    ///
    /// # Errors
    /// When anything about it is not as it was sealed for this key, by somebody with a key of the ring.
    pub fn open(&self, digest: &KeyDigest, value: &Bytes, now: Timestamp) -> Result<Slot, Refused> {
        let settings = self.settings.load();
        let key = settings.seal.level_key(digest);
        let (head, rest) = Head::read(value)?;
        let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(Refused::Truncated)?;
        let binding = Binding { key: &key, digest };
        head.verify(&binding)?;
        if head.payload > self.max_payload {
            return Err(Refused::TooLarge);
        }
        let opened = settings.seal.open(&binding, &head, body, tag)?;
        let payload = self
            .compressor
            .decompress(head.compression, &opened, head.payload)?;
        payload::read(&payload, now)
    }
}

impl Settings {
    fn new(compress: Compress, keyring: Option<&Keyring>) -> Self {
        Self {
            compress,
            seal: Seal::new(keyring),
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings.load();
        f.debug_struct("Codec")
            .field("compress", &settings.compress)
            .field("encrypts", &settings.seal.encrypts())
            .field("max_payload", &self.max_payload)
            .finish_non_exhaustive()
    }
}
