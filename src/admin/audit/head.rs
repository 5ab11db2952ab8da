//! What must be there at least: a small file that tells which file of the log is the first one kept and which record was
//! the last one written. Without it nobody could tell a log whose end was cut off from a shorter one.
//!
//! It is overwritten in place after each commit and not flushed: after a power cut it may tell of an earlier record,
//! never of one that is not on the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Hash;
use super::walk::{Fault, fault};

/// Name of the file.
pub(super) const NAME: &str = "head.json";
/// Its size, so that writing never leaves a rest: one block of any disk.
const SIZE: usize = 256;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Number of the first file that is kept.
    pub(super) first: u64,
    /// Number of the last record; 0 before the first.
    pub(super) seq: u64,
    /// Its seal.
    hash: String,
    /// Digest of the three.
    check: String,
}

impl Head {
    pub(super) fn new(first: u64, seq: u64, hash: Hash) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&first.to_le_bytes()).update(&seq.to_le_bytes());
        let check = hasher.update(&hash.0).finalize().to_hex().to_string();
        Self {
            first,
            seq,
            hash: hash.hex(),
            check,
        }
    }

    /// The seal of the last record, if there is one.
    pub(super) fn hash(&self) -> Option<Hash> {
        Hash::parse(self.hash.as_bytes()).filter(|_| self.seq > 0)
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(SIZE - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Writes it over what `file` holds.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.bytes()?, 0)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let head: Self = serde_json::from_slice(bytes).ok()?;
        // There is one way to write it: no byte of it can be changed unseen.
        let same = head == Self::new(head.first, head.seq, Hash::parse(head.hash.as_bytes())?);
        (same && head.bytes().ok()? == bytes && head.first > 0).then_some(head)
    }
}

/// Reads it: none if there is none, nothing inside if it is damaged.
pub(super) fn read(dir: &Path) -> io::Result<Option<Result<Head, ()>>> {
    let path = dir.join(NAME);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.is_file() || metadata.len() != SIZE as u64 => Ok(Some(Err(()))),
        Ok(_) => Ok(Some(Head::parse(&fs::read(&path)?).ok_or(()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn unusable() -> Fault {
    fault(NAME, 1, "the file is missing or was changed")
}

/// Opens it for writing.
pub(super) fn open(dir: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(dir.join(NAME))
}

/// Name of a file of the log.
pub(super) fn name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

/// Numbers of the files in a directory, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        let number = file.to_str().and_then(|file| {
            let digits = file.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
            let number = digits.parse().ok()?;
            (name(number) == file).then_some(number)
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
