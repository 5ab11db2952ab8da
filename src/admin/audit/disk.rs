//! The log on the disk: files of bounded size and number in `state_dir/audit/`, written by one process at a time.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::{self, Entry, Hash, Record};
use super::head::{self, Head};
use super::walk::{VerifyError, Walk, in_order};
use crate::clock::Timestamp;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a file; it is a little larger when the last record did not fit.
    pub(super) file: u64,
    /// Files.
    pub(super) files: u64,
}

/// The open log.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    limits: Limits,
    chain: String,
    /// The last record that is on the disk.
    seq: u64,
    hash: Hash,
    /// First and last file.
    first: u64,
    number: u64,
    file: File,
    /// Bytes of it that are on the disk.
    len: u64,
    head: File,
    /// Locked as long as the log is open.
    _lock: File,
}

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) disk: Disk,
    /// Why the log that was there cannot be continued.
    pub(super) broken: Option<String>,
}

/// Where a log that can be continued ends.
struct Tail {
    chain: String,
    seq: u64,
    hash: Hash,
    first: u64,
    number: u64,
    len: u64,
    torn: u64,
}

impl Disk {
    /// Opens or begins the log in `dir`. An incomplete last line, which was never acknowledged, is cut off and noted. A log
    /// with any other damage stays as it is, and a new chain begins behind it.
    pub(super) fn open(dir: &Path, limits: Limits, now: Timestamp) -> io::Result<Opened> {
        if let Some(state) = dir.parent() {
            fs::create_dir_all(state)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = lock(dir)?;
        let numbers = head::numbers(dir)?;
        let head = head::read(dir)?;
        let begun = match &head {
            None => false,
            Some(Ok(head)) => head.seq > 0,
            Some(Err(())) => true,
        };
        if numbers.is_empty() && !begun {
            return Ok(Opened {
                disk: Self::begin(dir, limits, now, (1, 0), None, lock)?,
                broken: None,
            });
        }
        let head = head.and_then(Result::ok);
        match tail(dir, head.as_ref(), &numbers) {
            Ok(tail) => Ok(Opened {
                disk: Self::resume(dir, limits, now, tail, lock)?,
                broken: None,
            }),
            Err(VerifyError::Io(error)) => Err(error),
            Err(VerifyError::Fault(fault)) => {
                let number = numbers.last().map_or(1, |last| last.saturating_add(1));
                let because = fault.to_string();
                let last = head.map_or(0, |head| head.seq);
                let disk = Self::begin(dir, limits, now, (number, last), Some(because.clone()), lock)?;
                Ok(Opened {
                    disk,
                    broken: Some(because),
                })
            }
        }
    }

    /// Begins a chain in the file `number`, with the record after `last`.
    fn begin(
        dir: &Path,
        limits: Limits,
        now: Timestamp,
        (number, last): (u64, u64),
        because: Option<String>,
        lock: File,
    ) -> io::Result<Self> {
        let mut drawn = [0; 16];
        aws_lc_rs::rand::fill(&mut drawn).map_err(|_| io::Error::other("no random numbers"))?;
        let head = head::open(dir)?;
        // With the files of a broken chain before it, the oldest of them stays the first.
        let first = head::numbers(dir)?.first().copied().unwrap_or(number).min(number);
        if number == 1 {
            Head::new(1, 0, Hash::NONE).write(&head)?;
            head.sync_all()?;
        }
        let mut disk = Self {
            dir: dir.to_owned(),
            limits,
            chain: hex::encode(drawn),
            seq: last,
            hash: Hash::NONE,
            first,
            number: number.saturating_sub(1),
            // Replaced by the first file of the chain before anything is written.
            file: head.try_clone()?,
            len: 0,
            head,
            _lock: lock,
        };
        let genesis = Entry::Genesis {
            chain: disk.chain.clone(),
            because,
        };
        disk.next_file(genesis, &[], now)?;
        Ok(disk)
    }

    fn resume(dir: &Path, limits: Limits, now: Timestamp, tail: Tail, lock: File) -> io::Result<Self> {
        let file = File::options()
            .append(true)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(dir.join(head::name(tail.number)))?;
        let mut disk = Self {
            dir: dir.to_owned(),
            limits,
            chain: tail.chain,
            seq: tail.seq,
            hash: tail.hash,
            first: tail.first,
            number: tail.number,
            file,
            len: tail.len,
            head: head::open(dir)?,
            _lock: lock,
        };
        // Complete lines behind the head may not have been flushed before the process ended.
        disk.file.set_len(tail.len)?;
        disk.file.sync_all()?;
        disk.remember()?;
        for number in head::numbers(dir)?
            .into_iter()
            .filter(|number| *number < disk.first)
        {
            // The process ended before they were removed.
            fs::remove_file(dir.join(head::name(number)))?;
        }
        if tail.torn > 0 {
            disk.append(&[Entry::Recovered { cut_bytes: tail.torn }], now)?;
        }
        Ok(disk)
    }

    /// Name of the chain.
    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    /// Writes records, and returns when they are on the disk: the number of the first. After an error none of them is in
    /// the log, or the log has to be opened anew.
    pub(super) fn append(&mut self, entries: &[Entry], now: Timestamp) -> io::Result<u64> {
        if self.len >= self.limits.file {
            let continued = Entry::Continued {
                chain: self.chain.clone(),
                previous: self.hash.hex(),
            };
            self.next_file(continued, entries, now)?;
        } else {
            let (text, hash) = lines(entries, self.seq, self.hash, now)?;
            self.write(&text)?;
            self.len += text.len() as u64;
            self.hash = hash;
            self.seq += entries.len() as u64;
            self.remember()?;
        }
        Ok(self.seq + 1 - entries.len() as u64)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(text).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Nobody is told that these are there, so they should not be.
            self.file.set_len(self.len)?;
        }
        written
    }

    /// Begins the next file with `first`, which names the end of the one before, and removes the oldest.
    fn next_file(&mut self, first: Entry, entries: &[Entry], now: Timestamp) -> io::Result<()> {
        let genesis = matches!(first, Entry::Genesis { .. });
        let previous = if genesis { Hash::NONE } else { self.hash };
        let (mut text, hash) = lines(&[first], self.seq, previous, now)?;
        let (rest, hash) = lines(entries, self.seq + 1, hash, now)?;
        text.extend_from_slice(&rest);
        let number = self.number + 1;
        let path = self.dir.join(head::name(number));
        let written = || {
            let mut file = File::options()
                .create_new(true)
                .append(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            File::open(&self.dir)?.sync_all()?;
            io::Result::Ok(file)
        };
        self.file = match written() {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    drop(fs::remove_file(&path));
                }
                return Err(error);
            }
        };
        self.number = number;
        self.len = text.len() as u64;
        self.hash = hash;
        self.seq += 1 + entries.len() as u64;
        let kept = self.first.max((number + 1).saturating_sub(self.limits.files));
        let removed = std::mem::replace(&mut self.first, kept)..kept;
        self.remember()?;
        if !removed.is_empty() {
            // The head must tell of the new first file before the old ones are gone.
            self.head.sync_data()?;
        }
        for number in removed {
            // What stays is removed with the next file, or ignored by whoever reads.
            drop(fs::remove_file(self.dir.join(head::name(number))));
        }
        Ok(())
    }

    fn remember(&self) -> io::Result<()> {
        Head::new(self.first, self.seq, self.hash).write(&self.head)
    }
}

fn lines(entries: &[Entry], last: u64, previous: Hash, now: Timestamp) -> io::Result<(Vec<u8>, Hash)> {
    let (mut text, mut hash) = (Vec::new(), previous);
    for (seq, entry) in (last + 1..).zip(entries) {
        let record = Record {
            seq,
            time: chain::time(now),
            entry: entry.clone(),
        };
        hash = chain::write(&mut text, &record, hash)?;
    }
    Ok((text, hash))
}

fn lock(dir: &Path) -> io::Result<File> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process uses the audit log",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads the last file and tells where the chain stands.
fn tail(dir: &Path, head: Option<&Head>, numbers: &[u64]) -> Result<Tail, VerifyError> {
    let head = head.ok_or_else(head::unusable)?;
    let mut kept = in_order(head, numbers)?;
    while let Some(number) = kept.pop() {
        let mut walk = Walk::meeting(head);
        let read = walk.file(dir, number)?;
        if read.lines == 0 && (!kept.is_empty() || head.seq == 0) {
            // A crash while the file was begun.
            fs::remove_file(dir.join(head::name(number)))?;
            continue;
        }
        walk.complete(head, number, read.lines)?;
        let Some((seq, hash)) = walk.last else { break };
        return Ok(Tail {
            chain: walk.chain,
            seq,
            hash,
            first: head.first,
            number,
            len: read.len,
            torn: read.torn,
        });
    }
    Err(super::walk::fault(&head::name(head.first), 1, "no record is left").into())
}
