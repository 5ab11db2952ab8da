//! `cache`: the levels and what concerns all routes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PurgeSettings, Redis, Warm};
use crate::config::scalar::Text;
use crate::config::units::{Capacity, Positive, Size};
use crate::config::values::NameText;

/// Where cached responses are kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Levels, the nearest first: a memory level, then those below it. Absent: a memory level `l1` with the defaults
    /// below; `[]`: nothing is cached.
    #[schemars(extend("x-restart" = true))]
    pub levels: Option<Vec<Level>>,
    /// Compression of what the levels below memory keep.
    pub compress: Option<Compress>,
    /// How purges reach replicas.
    pub purge: Option<PurgeSettings>,
    /// What is fetched before it is asked for: each entry has a name and one of `requests`, `top_keys` and `predict`.
    #[schemars(extend("default" = []))]
    pub warm: Option<Vec<Warm>>,
}

/// One level.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Level {
    /// In the memory of this process.
    Memory(Memory),
    /// On disk.
    Disk(Disk),
    /// In Redis, Valkey or whatever speaks their protocol.
    Redis(Box<Redis>),
}

/// A memory level.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Name in metrics.
    #[schemars(extend("default" = "l1", "x-restart" = true))]
    pub name: Option<Text<NameText>>,
    /// Bytes, keys and overhead included, or a share of the memory that the container or machine has. The default
    /// is never more than half of that memory.
    #[schemars(extend("default" = "256MiB", "x-restart" = true))]
    pub capacity: Option<Text<Capacity>>,
    /// Which entries make room for new ones.
    #[schemars(extend("default" = "clock_pro", "x-restart" = true))]
    pub policy: Option<PolicyWord>,
    /// Bytes of one entry; larger responses are not stored.
    #[schemars(extend("default" = "8MiB", "x-restart" = true))]
    pub max_object: Option<Text<Positive<Size>>>,
}

/// Which entries make room for new ones.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PolicyWord {
    /// CLOCK-Pro: resists scans, fastest.
    ClockPro,
    /// W-TinyLFU: by frequency, admits what is asked for again.
    WTinylfu,
    /// Least recently used.
    Lru,
}

/// A level on disk. It survives a restart. A directory that cannot be used never keeps the process from starting: the
/// other levels do the work meanwhile.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Name in metrics.
    #[schemars(extend("default" = "disk", "x-restart" = true))]
    pub name: Option<Text<NameText>>,
    /// Directory; made if need be. One process uses it at a time.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub path: Option<Text<PathBuf>>,
    /// Bytes of its file, which is made of this size at once. Of the largest responses, those over a 32nd of it are not
    /// kept here. With another capacity it begins empty.
    #[schemars(extend("default" = "1GiB", "x-restart" = true))]
    pub capacity: Option<Text<Positive<Size>>>,
    /// Encryption of what is kept.
    pub encrypt: Option<Encrypt>,
}

/// Encryption of what a level keeps, by AES-256-GCM.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encrypt {
    /// File with the keys; re-read when it changes.
    pub keyring_file: Option<Text<PathBuf>>,
}

/// Compression of what the levels below memory keep. Only text, JSON, event streams and the like are compressed, and
/// only if that saves something.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compress {
    /// By which algorithm.
    #[schemars(extend("default" = "zstd"))]
    pub algorithm: Option<CompressWord>,
    /// What is smaller stays as it is.
    #[schemars(extend("default" = "1KiB"))]
    pub min_size: Option<Text<Size>>,
}

/// A compression algorithm.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CompressWord {
    /// Smaller values.
    Zstd,
    /// Less CPU.
    Lz4,
    /// None.
    Off,
}
