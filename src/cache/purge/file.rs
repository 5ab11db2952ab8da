//! The purge log on the disk: one line of JSON per record, each behind a checksum.
//!
//! A line is on the disk before its purge is acknowledged here, so a last line without its end was never acknowledged, or
//! comes again from what replicas share, and is dropped. Any other damage means that acknowledged purges may be missing: the file is set aside.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shared::Anchor;
use super::{Id, Mode, Record, Selector, State};
use crate::clock::Timestamp;

const NAME: &str = "purge.log";

/// Larger than the largest log that this product writes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Hex digits of a line's checksum.
const CHECKSUM: usize = 16;

/// Lines without a use that are never worth a rewrite.
const SLACK: usize = 1_000;

/// The open file.
#[derive(Debug)]
pub(super) struct LogFile {
    dir: PathBuf,
    file: File,
    /// Records in the file.
    lines: usize,
    /// A write failed: what the end of the file looks like is unknown.
    broken: bool,
    /// Locked as long as the log is open.
    _lock: File,
}

/// What was found in a directory.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: LogFile,
    pub(super) head: Head,
    /// Those with a position in order, and those without one that have not got one later.
    pub(super) records: Vec<Record>,
    pub(super) warning: Option<String>,
}

impl LogFile {
    /// Opens or makes the log in `dir`, which replicas share or not, and locks it against other processes.
    pub(super) fn open(dir: &Path, now: Timestamp, shared: bool) -> io::Result<Opened> {
        fs::create_dir_all(dir)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("purge.log.lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it")
            }
            TryLockError::Error(error) => error,
        })?;
        let path = dir.join(NAME);
        let warning = match read(&path)? {
            Found::Log(contents) => {
                let file = File::options().append(true).open(&path)?;
                file.set_len(contents.len)?;
                file.sync_all()?;
                let lines = contents.records.len();
                let file = Self {
                    dir: dir.to_owned(),
                    file,
                    lines,
                    broken: false,
                    _lock: lock,
                };
                return Ok(Opened {
                    file,
                    head: contents.head,
                    records: contents.records,
                    warning: None,
                });
            }
            Found::Corrupt(reason) => {
                let aside = set_aside(dir)?;
                Some(format!(
                    "the purge log was corrupt ({reason}) and was set aside as {}; everything stored before now counts as purged",
                    aside.display()
                ))
            }
            Found::Nothing => None,
        };
        let head = Head::beginning(now.as_micros(), shared);
        let file = write_anew(dir, &head, &[])?;
        let file = Self {
            dir: dir.to_owned(),
            file,
            lines: 0,
            broken: false,
            _lock: lock,
        };
        Ok(Opened {
            file,
            head,
            records: Vec::new(),
            warning,
        })
    }

    /// Whether the file should be written anew, when the log has `live` records.
    pub(super) fn wants_rewrite(&self, live: usize) -> bool {
        self.broken || self.lines > 2 * live + SLACK
    }

    /// Adds records. They survive the process, and the machine after [`LogFile::flush`].
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut text = Vec::new();
        for record in records {
            put_line(&mut text, &Line::from(record))?;
        }
        self.broken = true;
        self.file.write_all(&text)?;
        self.broken = false;
        self.lines += records.len();
        Ok(())
    }

    /// Returns without an error when everything that was added is on the disk.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.sync_data();
        self.broken |= flushed.is_err();
        flushed
    }

    /// Makes the next write fail.
    #[cfg(test)]
    pub(super) fn refuse_writes(&mut self, dir: &Path) {
        self.file = File::open(dir.join(NAME)).expect("the log exists");
    }

    /// Replaces the file by one with just these records.
    pub(super) fn rewrite(&mut self, head: &Head, records: &[Record]) -> io::Result<()> {
        self.broken = true;
        self.file = write_anew(&self.dir, head, records)?;
        self.broken = false;
        self.lines = records.len();
        Ok(())
    }
}

const FORMAT: u32 = 2;

/// The first line of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// Everything below counts as purged.
    pub(super) floor: u64,
    /// The last position that is known to be given out, or applied, when the file was written.
    pub(super) position: u64,
    /// Whether positions are given by what replicas share, and none by this log alone.
    #[serde(default)]
    pub(super) shared: bool,
    /// The shared order that the positions belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) incarnation: Option<Id>,
    /// The last record of that order that had been applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) anchor: Option<Anchor>,
}

impl Head {
    /// The head of a log that knows nothing of the time before `now`, in microseconds.
    pub(super) fn beginning(now: u64, shared: bool) -> Self {
        Self {
            format: FORMAT,
            floor: now,
            position: now,
            shared,
            incarnation: None,
            anchor: None,
        }
    }

    /// The head of a log in this state, with everything up to `position` applied.
    pub(super) fn of(state: &State, position: u64) -> Self {
        let shared = state.shared.as_ref();
        let anchor = shared.and_then(|shared| shared.anchor());
        Self {
            format: FORMAT,
            floor: state.index.floor(),
            position,
            shared: state.shared.is_some(),
            // Without an anchor nothing of the incarnation has been applied.
            incarnation: shared.and_then(|shared| shared.incarnation().filter(|_| anchor.is_some())),
            anchor,
        }
    }
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// None in the first format.
    #[serde(default)]
    id: Option<Id>,
    /// 0 while it has none.
    position: u64,
    at: u64,
    mode: Mode,
    selector: Selector,
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        Self {
            id: Some(record.id),
            position: record.position,
            at: record.at.as_micros(),
            mode: record.mode,
            selector: record.selector.clone(),
        }
    }
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        Self {
            id: line.id.unwrap_or_else(Id::random),
            version: 0,
            position: line.position,
            at: Timestamp::from_micros(line.at),
            selector: line.selector,
            mode: line.mode,
        }
    }
}

/// What there is at a path.
enum Found {
    Nothing,
    Log(Contents),
    Corrupt(String),
}

/// A readable log.
struct Contents {
    head: Head,
    records: Vec<Record>,
    /// Bytes up to the end of the last complete line.
    len: u64,
}

fn read(path: &Path) -> io::Result<Found> {
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => return Ok(Found::Corrupt("it is too large".into())),
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match parse(&bytes) {
        Ok(contents) => Found::Log(contents),
        Err(reason) => Found::Corrupt(reason),
    })
}

fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let len = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    let complete = bytes.get(..len).unwrap_or_default();
    let mut lines = complete.split_inclusive(|byte| *byte == b'\n').enumerate();
    let (_, first) = lines.next().ok_or("it has no first line")?;
    let head: Head = parse_line(first).ok_or("its first line is damaged")?;
    if head.format > FORMAT {
        return Err(format!("it has the unknown format {}", head.format));
    }
    let mut records: Vec<Record> = Vec::new();
    let mut last = (0, Id::default());
    let mut without_position: HashSet<Id> = HashSet::new();
    for (number, line) in lines {
        let line: Line = parse_line(line).ok_or_else(|| format!("line {} is damaged", number + 1))?;
        let record = Record::from(line);
        if record.position == 0 {
            without_position.insert(record.id);
        } else if record.position < last.0 || (record.position, record.id) == last {
            return Err(format!("line {} is out of order", number + 1));
        } else {
            last = (record.position, record.id);
            without_position.remove(&record.id);
        }
        records.push(record);
    }
    records.retain(|record| record.position > 0 || without_position.contains(&record.id));
    Ok(Contents {
        head,
        records,
        len: u64::try_from(len).unwrap_or(u64::MAX),
    })
}

fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(CHECKSUM)?;
    let json = json.strip_prefix(b" ")?;
    (sum == checksum(json).as_bytes()).then(|| serde_json::from_slice(json).ok())?
}

fn put_line(text: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(line)?;
    text.extend_from_slice(checksum(&json).as_bytes());
    text.push(b' ');
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(())
}

fn checksum(json: &[u8]) -> String {
    let mut sum = blake3::hash(json).to_hex().to_string();
    sum.truncate(CHECKSUM);
    sum
}

/// Writes a whole log beside the old one and puts it in its place. A crash leaves either of them, complete.
fn write_anew(dir: &Path, head: &Head, records: &[Record]) -> io::Result<File> {
    let mut text = Vec::new();
    put_line(&mut text, head)?;
    for record in records {
        put_line(&mut text, &Line::from(record))?;
    }
    let new = dir.join("purge.log.new");
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::options().create_new(true).append(true).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Renames the log to the first free `purge.log.corrupt-N`.
fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut number = 1_u64;
    loop {
        let aside = dir.join(format!("{NAME}.corrupt-{number}"));
        if !aside.try_exists()? {
            fs::rename(dir.join(NAME), &aside)?;
            return Ok(aside);
        }
        number += 1;
    }
}
