//! `cache`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Cx, redis};
use crate::config::keyring::Keyring;
use crate::config::model::{Cache, Compress, Compression, EvictionPolicy, LowerLevel, MemoryLevel};
use crate::config::raw;
use crate::config::tree::At;
use crate::config::units::{Capacity, format_size};

const DEFAULT_CAPACITY: u64 = 256 << 20;
const DEFAULT_MAX_OBJECT: u64 = 8 << 20;
const DEFAULT_MIN_SIZE: u64 = 1 << 10;

/// Below this a level cannot hold its own tables.
const MIN_CAPACITY: u64 = 1 << 20;

/// Resolves the levels.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<raw::Cache>) -> Cache {
    let levels_at = at.key("levels");
    let raw = raw.unwrap_or_default();
    let mut cache = Cache {
        memory: None,
        lower: Vec::new(),
        compress: compress(raw.compress.unwrap_or_default()),
        keyrings: BTreeMap::new(),
    };
    let Some(levels) = raw.levels else {
        cache.memory = Some(memory(cx, at, raw::Memory::default()));
        return cache;
    };
    for (index, level) in levels.into_iter().enumerate() {
        let level_at = levels_at.index(index);
        match level {
            raw::Level::Memory(_) if cache.memory.is_some() => {
                cx.problem(&level_at, "a second memory level is not available yet");
            }
            raw::Level::Memory(level) => cache.memory = Some(memory(cx, &level_at.key("memory"), level)),
            raw::Level::Redis(mut level) => {
                let at = level_at.key("redis");
                let encrypt = level.encrypt.take();
                let keyring = encrypt.and_then(|encrypt| keyring(cx, &at.key("encrypt"), encrypt));
                if let Some(level) = redis::resolve(cx, &at, *level) {
                    cache
                        .keyrings
                        .extend(keyring.map(|ring| (level.name.clone(), ring)));
                    cache.lower.push(LowerLevel::Redis(Box::new(level)));
                }
            }
            raw::Level::Disk(_) => cx.later(&level_at),
        }
    }
    cache
}

fn compress(raw: raw::Compress) -> Compress {
    Compress {
        algorithm: match raw.algorithm {
            None | Some(raw::CompressWord::Zstd) => Compression::Zstd,
            Some(raw::CompressWord::Lz4) => Compression::Lz4,
            Some(raw::CompressWord::Off) => Compression::Off,
        },
        min_size: raw.min_size.map_or(DEFAULT_MIN_SIZE, |size| size.0.0),
    }
}

/// The keys of a level that encrypts.
fn keyring(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Encrypt) -> Option<Keyring> {
    let file = cx.required(at, "keyring_file", raw.keyring_file)?;
    let content = Zeroizing::new(cx.read(&at.key("keyring_file"), &file)?);
    let ring = Keyring::parse(&cx.absolute(&file), &content);
    ring.map_err(|problems| cx.elsewhere.extend(problems.0)).ok()
}

fn memory(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Memory) -> MemoryLevel {
    let capacity = match raw.capacity.map(|capacity| capacity.0) {
        Some(Capacity::Bytes(bytes)) => bytes,
        Some(Capacity::Share(share)) => share_of(cx.env.memory_bytes, share),
        None => DEFAULT_CAPACITY.min(cx.env.memory_bytes / 2).max(MIN_CAPACITY),
    };
    if capacity < MIN_CAPACITY {
        cx.problem(
            &at.key("capacity"),
            format!("a level has at least {}", format_size(MIN_CAPACITY)),
        );
    }
    let max_object = match raw.max_object {
        Some(size) if size.0.0.0 > capacity => {
            cx.problem(
                &at.key("max_object"),
                format!(
                    "one entry cannot be larger than the level's capacity of {}",
                    format_size(capacity)
                ),
            );
            capacity
        }
        Some(size) => size.0.0.0,
        None => DEFAULT_MAX_OBJECT.min(capacity),
    };
    MemoryLevel {
        name: raw.name.map_or_else(|| "l1".into(), |name| name.0.0),
        capacity,
        policy: match raw.policy {
            None | Some(raw::PolicyWord::ClockPro) => EvictionPolicy::ClockPro,
            Some(raw::PolicyWord::WTinylfu) => EvictionPolicy::WTinyLfu,
            Some(raw::PolicyWord::Lru) => EvictionPolicy::Lru,
        },
        max_object,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a size needs no exact byte, and the share is between 0 and 1"
)]
fn share_of(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64
}
