//! Reading a log and holding it against its seals: what `audit verify` and the start of the sidecar do.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use super::chain::{Entry, Hash, Line};
use super::head::{self, Head};

/// Larger than the largest file that is written.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What is wrong with a log, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, line {}: {}", self.file, self.line, self.what)
    }
}

/// What a good log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Summary {
    /// Files.
    pub files: u64,
    /// Records in them.
    pub records: u64,
    /// When the first one was written.
    pub first_time: Option<String>,
    /// When the last one was written.
    pub last_time: Option<String>,
    /// Its sequence number.
    pub last_seq: u64,
    /// Its seal: whoever keeps it elsewhere can show later that nothing before it was changed.
    pub last_hash: String,
}

/// Why a log could not be read, or what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or the directory cannot be read.
    #[error("cannot read the audit log: {0}")]
    Io(#[from] io::Error),
    /// It was tampered with, or damaged.
    #[error("{0}")]
    Fault(Fault),
}

impl From<Fault> for VerifyError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where the chain stands after the lines read so far.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) chain: String,
    /// Number and seal of the last record.
    pub(super) last: Option<(u64, Hash)>,
    /// The seal that the head has, and the number of its record.
    expected: Option<(u64, Hash)>,
    summary: Summary,
}

/// The end of a file that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Bytes of complete lines.
    pub(super) len: u64,
    /// Bytes behind them.
    pub(super) torn: u64,
    /// Complete lines.
    pub(super) lines: u64,
}

impl Walk {
    /// A walk that must meet the record that the head tells of.
    pub(super) fn meeting(head: &Head) -> Self {
        Self {
            expected: head.hash().map(|hash| (head.seq, hash)),
            ..Self::default()
        }
    }

    /// Reads one file, the next of the log.
    pub(super) fn file(&mut self, dir: &Path, number: u64) -> Result<Read, VerifyError> {
        let (name, path) = (head::name(number), dir.join(head::name(number)));
        let metadata = fs::symlink_metadata(&path)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(fault(&name, 1, "is no file of this log: too large, or not a file").into());
        }
        let bytes = fs::read(&path)?;
        self.summary.files += 1;
        let mut read = Read {
            len: 0,
            torn: 0,
            lines: 0,
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                read.torn = line.len() as u64;
                break;
            }
            self.line(line, read.lines == 0)
                .map_err(|what| fault(&name, read.lines + 1, what))?;
            read.len += line.len() as u64;
            read.lines += 1;
        }
        Ok(read)
    }

    fn line(&mut self, line: &[u8], first: bool) -> Result<(), String> {
        let line = Line::parse(line).ok_or("this is no whole record: it was changed or cut")?;
        let seq = line.record.seq;
        if let Some((last, _)) = self.last
            && last.checked_add(1) != Some(seq)
        {
            return Err(format!(
                "record {seq} follows record {last}: records were removed, moved or changed"
            ));
        }
        let changed = || format!("record {seq} does not have the seal it was written with: it was changed");
        let previous = match (&line.record.entry, first) {
            (Entry::Genesis { .. }, true) => Hash::NONE,
            (Entry::Continued { previous, .. }, true) => {
                Hash::parse(previous.as_bytes()).ok_or_else(changed)?
            }
            (Entry::Genesis { .. } | Entry::Continued { .. }, false) | (_, true) => {
                return Err(format!(
                    "record {seq} cannot stand here: lines were removed or moved"
                ));
            }
            (_, false) => self.last.map_or(Hash::NONE, |(_, hash)| hash),
        };
        if !line.follows(previous) {
            return Err(changed());
        }
        self.joins(&line.record.entry, previous)?;
        if self
            .expected
            .is_some_and(|(at, hash)| at == seq && hash != line.hash)
        {
            return Err(format!(
                "record {seq} is not the one that {} tells of",
                head::NAME
            ));
        }
        self.last = Some((seq, line.hash));
        self.summary.records += 1;
        self.summary.last_seq = seq;
        self.summary.last_hash = line.hash.hex();
        self.summary
            .first_time
            .get_or_insert_with(|| line.record.time.clone());
        self.summary.last_time = Some(line.record.time);
        Ok(())
    }

    /// Whether the first record of a file goes on where the file before ended.
    fn joins(&mut self, entry: &Entry, previous: Hash) -> Result<(), String> {
        let chain = match entry {
            Entry::Genesis { chain, because } => {
                if self.last.is_some() {
                    let because = because.as_deref().unwrap_or("no reason is given");
                    return Err(format!("a new chain begins: {because}"));
                }
                chain
            }
            Entry::Continued { chain, .. } => {
                let joined = self
                    .last
                    .is_none_or(|(_, last)| last == previous && self.chain == *chain);
                if !joined {
                    return Err("it does not go on where the file before ended".to_owned());
                }
                chain
            }
            _ => return Ok(()),
        };
        self.chain.clone_from(chain);
        Ok(())
    }

    /// Whether everything was met that the head tells of.
    pub(super) fn complete(&self, head: &Head, number: u64, lines: u64) -> Result<(), Fault> {
        let last = self.last.map_or(0, |(seq, _)| seq);
        if last < head.seq {
            let what = format!("records {} to {} are missing", last.saturating_add(1), head.seq);
            return Err(fault(&head::name(number), lines + 1, what));
        }
        Ok(())
    }
}

/// Holds a whole log against its seals.
///
/// # Errors
/// The first record, in the order of the log, that was changed, moved or removed; or that it cannot be read.
pub fn verify(dir: &Path) -> Result<Summary, VerifyError> {
    let (found, numbers) = (head::read(dir)?, head::numbers(dir)?);
    let head = match (found, numbers.last()) {
        (None, None) => return Err(io::Error::new(io::ErrorKind::NotFound, "there is none").into()),
        (found, _) => found.and_then(Result::ok).ok_or_else(head::unusable)?,
    };
    let mut walk = Walk::meeting(&head);
    let mut end = (head.first, 0);
    for number in in_order(&head, &numbers)? {
        let read = walk.file(dir, number)?;
        if read.torn > 0 || read.lines == 0 {
            let what =
                "this line has no end: a crash while it was written, which the next start notes, or a cut";
            return Err(fault(&head::name(number), read.lines + 1, what).into());
        }
        end = (number, read.lines);
    }
    walk.complete(&head, end.0, end.1)?;
    Ok(walk.summary)
}

/// The files, if none is missing. Those before the first one kept were about to be removed.
pub(super) fn in_order(head: &Head, numbers: &[u64]) -> Result<Vec<u64>, Fault> {
    let kept: Vec<u64> = numbers
        .iter()
        .copied()
        .filter(|number| *number >= head.first)
        .collect();
    for (expected, number) in (head.first..).zip(&kept) {
        if expected != *number {
            return Err(fault(&head::name(expected), 1, "the file is missing"));
        }
    }
    if kept.is_empty() {
        return Err(fault(&head::name(head.first), 1, "the file is missing"));
    }
    Ok(kept)
}

pub(super) fn fault(file: &str, line: u64, what: impl Into<String>) -> Fault {
    Fault {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}
