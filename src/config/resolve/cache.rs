//! `cache`.

use zeroize::Zeroizing;

use super::Cx;
use super::levels::{self, Levels};
use crate::config::keyring::Keyring;
use crate::config::model::{Cache, Compress, Compression, EvictionPolicy, MemoryLevel};
use crate::config::raw;
use crate::config::tree::At;
use crate::config::units::{Capacity, format_size};

const DEFAULT_CAPACITY: u64 = 256 << 20;
const DEFAULT_MAX_OBJECT: u64 = 8 << 20;
const DEFAULT_MIN_SIZE: u64 = 1 << 10;

/// Below this a level cannot hold its own tables.
const MIN_CAPACITY: u64 = 1 << 20;

/// Resolves the section.
pub(super) fn resolve(cx: &mut Cx<'_>, at: &At<'_>, raw: Option<raw::Cache>) -> Cache {
    let levels_at = at.key("levels");
    let raw = raw.unwrap_or_default();
    let levels = match raw.levels {
        Some(list) => levels::resolve(cx, &levels_at, list),
        None => Levels {
            memory: Some(memory(cx, at, raw::Memory::default())),
            ..Levels::default()
        },
    };
    Cache {
        memory: levels.memory,
        lower: levels.lower,
        compress: compress(raw.compress.unwrap_or_default()),
        keyrings: levels.keyrings,
    }
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
pub(super) fn keyring(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Encrypt) -> Option<Keyring> {
    let file = cx.required(at, "keyring_file", raw.keyring_file)?;
    let content = Zeroizing::new(cx.read(&at.key("keyring_file"), &file)?);
    let ring = Keyring::parse(&cx.absolute(&file), &content);
    ring.map_err(|problems| cx.elsewhere.extend(problems.0)).ok()
}

/// Resolves a memory level.
pub(super) fn memory(cx: &mut Cx<'_>, at: &At<'_>, raw: raw::Memory) -> MemoryLevel {
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
