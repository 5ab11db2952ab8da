//! The log as callers see it: a record is in it when the call returns. Those that come together share one flush.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::chain::{self, Entry, Hash, Record};
use super::disk::{Disk, Limits};
use super::head;
use super::walk::{self, Summary, VerifyError};
use crate::clock::Clock;
use crate::telemetry::{Event, Telemetry};

/// What is kept: 64 MiB at most.
pub(super) const LIMITS: Limits = Limits {
    file: 8 << 20,
    files: 8,
};
/// Records that are kept in memory when there is no directory.
const IN_MEMORY: usize = 1_024;

/// Why a record could not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub(super) struct Unavailable(String);

/// A record that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) seq: u64,
    /// Name of the record, as callers are told it.
    pub(super) id: String,
}

type Slot = Arc<OnceLock<Result<Written, Unavailable>>>;

/// The audit log of the process.
#[derive(Debug)]
pub(super) struct Log {
    dir: Option<PathBuf>,
    limits: Limits,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    /// Records that nobody is writing yet.
    waiting: Mutex<Vec<(Entry, Slot)>>,
    store: Mutex<Store>,
}

/// Where the records are.
#[derive(Debug)]
enum Store {
    /// On a disk that could not be written the last time.
    Closed,
    Disk(Disk),
    Memory(Ring),
}

/// The last records, when there is no directory for them.
#[derive(Debug)]
struct Ring {
    chain: String,
    seq: u64,
    hash: Hash,
    lines: VecDeque<Vec<u8>>,
}

impl Log {
    /// The log in `state_dir`, or in memory without one. A directory that cannot be used now is tried again by every record.
    pub(super) fn open(state_dir: Option<&Path>, clock: Clock, telemetry: Arc<Telemetry>) -> Self {
        Self::limited(state_dir, clock, telemetry, LIMITS)
    }

    pub(super) fn limited(
        state_dir: Option<&Path>,
        clock: Clock,
        telemetry: Arc<Telemetry>,
        limits: Limits,
    ) -> Self {
        let log = Self {
            dir: state_dir.map(|dir| dir.join("audit")),
            limits,
            clock,
            telemetry,
            waiting: Mutex::default(),
            store: Mutex::new(Store::Closed),
        };
        if log.dir.is_none() {
            tracing::warn!(
                "without admin.state_dir the audit log is in memory only, and ends with the process"
            );
        }
        if let Err(error) = log.opened(&mut log.store.lock()) {
            tracing::error!(%error, "the audit log cannot be opened; changes are refused until it can");
        }
        log
    }

    /// Writes a record, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// When it cannot be written: then it is not in the log.
    pub(super) fn record(&self, entry: Entry) -> Result<Written, Unavailable> {
        let slot = Slot::default();
        self.waiting.lock().push((entry, Arc::clone(&slot)));
        let mut store = self.store.lock();
        // Whoever held the lock may have written this one as well.
        if slot.get().is_none() {
            let batch = std::mem::take(&mut *self.waiting.lock());
            self.commit(&mut store, batch);
        }
        drop(store);
        let lost = || Err(Unavailable("the record was lost".to_owned()));
        slot.get().cloned().unwrap_or_else(lost)
    }

    fn commit(&self, store: &mut Store, batch: Vec<(Entry, Slot)>) {
        let (entries, slots): (Vec<Entry>, Vec<Slot>) = batch.into_iter().unzip();
        let written = self.opened(store).and_then(|()| self.append(store, &entries));
        let result = if written.is_ok() { "recorded" } else { "failed" };
        for (place, slot) in slots.iter().enumerate() {
            self.telemetry.emit(Event::Audited { result });
            let told = match &written {
                Ok((chain, first)) => {
                    let seq = first + place as u64;
                    Ok(Written {
                        seq,
                        id: id(chain, seq),
                    })
                }
                Err(error) => Err(Unavailable(error.to_string())),
            };
            drop(slot.set(told));
        }
    }

    fn append(&self, store: &mut Store, entries: &[Entry]) -> io::Result<(String, u64)> {
        let now = self.clock.now();
        match store {
            Store::Closed => Err(io::Error::other("it is not open")),
            Store::Memory(ring) => {
                let first = ring.seq + 1;
                for entry in entries {
                    ring.push(entry.clone(), chain::time(now))?;
                }
                Ok((ring.chain.clone(), first))
            }
            Store::Disk(disk) => match disk.append(entries, now) {
                Ok(first) => Ok((disk.chain().to_owned(), first)),
                Err(error) => {
                    // How its end looks is seen when it is opened again.
                    *store = Store::Closed;
                    tracing::error!(%error, "the audit log cannot be written; changes are refused until it can");
                    Err(error)
                }
            },
        }
    }

    fn opened(&self, store: &mut Store) -> io::Result<()> {
        if !matches!(store, Store::Closed) {
            return Ok(());
        }
        let now = self.clock.now();
        *store = match &self.dir {
            None => Store::Memory(Ring::new(chain::time(now))?),
            Some(dir) => {
                let opened = Disk::open(dir, self.limits, now)?;
                if let Some(broken) = opened.broken {
                    self.telemetry.emit(Event::Audited { result: "broken" });
                    tracing::error!(
                        broken,
                        "the audit log was changed or damaged; a new chain begins behind it"
                    );
                }
                Store::Disk(opened.disk)
            }
        };
        Ok(())
    }

    /// Shows the records and the names of their chains, the newest first, until `look` has seen enough. Damaged lines are
    /// left out. Blocks.
    pub(super) fn newest(&self, mut look: impl FnMut(&str, Record) -> bool) -> io::Result<()> {
        let mut show = |chain: &str, line: &[u8]| {
            let record = serde_json::from_slice(line);
            record.map_or(true, |record| look(chain, record))
        };
        let Some(dir) = &self.dir else {
            let (chain, lines): (String, Vec<Vec<u8>>) = match &*self.store.lock() {
                Store::Memory(ring) => (ring.chain.clone(), ring.lines.iter().cloned().collect()),
                _ => Default::default(),
            };
            lines.iter().rev().all(|line| show(&chain, line));
            return Ok(());
        };
        for number in head::numbers(dir)?.into_iter().rev() {
            let bytes = match fs::read(dir.join(head::name(number))) {
                // It was removed in the meantime, and so were those before it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                read => read?,
            };
            let complete = memchr::memrchr(b'\n', &bytes).and_then(|end| bytes.get(..end));
            let complete = complete.unwrap_or_default();
            let first = complete.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let chain = match serde_json::from_slice(first).map(|record: Record| record.entry) {
                Ok(Entry::Genesis { chain, .. } | Entry::Continued { chain, .. }) => chain,
                _ => String::new(),
            };
            let mut lines = complete.rsplit(|byte| *byte == b'\n');
            if !lines.all(|line| show(&chain, line)) {
                break;
            }
        }
        Ok(())
    }

    /// Holds the whole log against its seals; nothing is written meanwhile. Blocks.
    pub(super) fn verify(&self) -> Result<Summary, VerifyError> {
        let store = self.store.lock();
        match (&self.dir, &*store) {
            (Some(dir), _) => walk::verify(dir),
            (None, Store::Memory(ring)) => Ok(ring.summary()),
            (None, _) => Ok(Summary::default()),
        }
    }
}

impl Ring {
    fn new(time: String) -> io::Result<Self> {
        let mut drawn = [0; 16];
        aws_lc_rs::rand::fill(&mut drawn).map_err(|_| io::Error::other("no random numbers"))?;
        let mut ring = Self {
            chain: hex::encode(drawn),
            seq: 0,
            hash: Hash::NONE,
            lines: VecDeque::new(),
        };
        let genesis = Entry::Genesis {
            chain: ring.chain.clone(),
            because: None,
        };
        ring.push(genesis, time)?;
        Ok(ring)
    }

    fn push(&mut self, entry: Entry, time: String) -> io::Result<()> {
        let mut line = Vec::new();
        let record = Record {
            seq: self.seq + 1,
            time,
            entry,
        };
        self.hash = chain::write(&mut line, &record, self.hash)?;
        self.seq = record.seq;
        if self.lines.len() >= IN_MEMORY {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        Ok(())
    }

    fn summary(&self) -> Summary {
        let time = |line: Option<&Vec<u8>>| {
            let record: Record = serde_json::from_slice(line?).ok()?;
            Some(record.time)
        };
        Summary {
            files: 0,
            records: self.lines.len() as u64,
            first_time: time(self.lines.front()),
            last_time: time(self.lines.back()),
            last_seq: self.seq,
            last_hash: self.hash.hex(),
        }
    }
}

/// What callers are told: the beginning of the chain's name, and the record's number in it.
pub(super) fn id(chain: &str, seq: u64) -> String {
    format!("{}-{seq}", chain.get(..8).unwrap_or(chain))
}
