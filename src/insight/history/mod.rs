//! What happened, by second, minute and hour: for the admin API, for alerts, for reports.
//!
//! ```text
//! telemetry::tally --1 s--> recorder --+--> ring of seconds
//!                                      +--> open minute --+--> ring of minutes, ring of hours
//!                                                         +--> writer (a thread) --> store (SQLite)
//! query <-- rings for what they hold, store for what is older
//! ```
//!
//! Invariant: a sample is a sum over its time, and samples merge in any order to the same sum, so that a coarser
//! resolution is the merge of the finer one: no quantile is ever averaged.
//!
//! Invariant: the rings are bounded in bytes, the file as configured, the subjects by number. What does not fit is the
//! oldest, or is not recorded.

mod encoding;
mod histogram;
mod metric;
mod principals;
mod query;
mod recorder;
mod ring;
mod sample;
mod scope;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::recorder::Recorder;
use self::ring::Ring;
use self::scope::Scopes;
use self::writer::Writer;
use crate::clock::{Clock, Timestamp};
use crate::config::model;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::telemetry::system::SystemSample;

pub use histogram::Histogram;
pub use metric::Metric;
pub use principals::Principals;
pub use query::{POINTS, Series};
pub use sample::{Gauge, Reading, Sample};
pub use scope::Scope;

/// Bytes of seconds in memory.
const SECOND_BYTES: usize = 6 << 20;
/// Bytes of minutes in memory.
const MINUTE_BYTES: usize = 4 << 20;
/// Bytes of hours in memory.
const HOUR_BYTES: usize = 2 << 20;

/// The name of the file in the state directory.
pub const FILE: &str = "history.sqlite3";

/// A width of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Resolution {
    Second,
    Minute,
    Hour,
}

impl Resolution {
    /// Seconds.
    const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    /// The beginning of the sample that `second` is in.
    const fn floor(self, second: u64) -> u64 {
        second - second % self.seconds()
    }

    /// The first beginning of a sample at or after `second`.
    const fn ceil(self, second: u64) -> u64 {
        self.floor(second.saturating_add(self.seconds() - 1))
    }
}

/// The rings and since when each holds everything that happened, seconds since the epoch.
#[derive(Debug)]
struct Memory {
    seconds: Ring,
    minutes: Ring,
    hours: Ring,
    /// Beginning of this process: what lies before can only be in the file.
    since: u64,
}

impl Memory {
    fn ring(&self, resolution: Resolution) -> &Ring {
        match resolution {
            Resolution::Second => &self.seconds,
            Resolution::Minute => &self.minutes,
            Resolution::Hour => &self.hours,
        }
    }
}

/// The history. Shared by whoever records and whoever asks.
#[derive(Debug)]
pub struct History {
    clock: Clock,
    keep: model::History,
    scopes: RwLock<Scopes>,
    memory: RwLock<Memory>,
    recorder: Mutex<Recorder>,
    writer: Option<Writer>,
}

impl History {
    /// A history that remembers what the file in `state_dir` holds, once it is open; without a directory it is in memory
    /// only. A file that cannot be used is told in the log, and makes a difference to nobody else.
    pub fn start(keep: &model::History, state_dir: Option<&Path>, clock: &Clock, tasks: &Tasks) -> Arc<Self> {
        let writer = state_dir.map(|directory| Writer::start(&directory.join(FILE), keep.clone(), tasks));
        let writer = writer.and_then(|started| {
            let told = "the history is kept in memory only: no thread can be started";
            started.inspect_err(|error| tracing::warn!(%error, "{told}")).ok()
        });
        let since = clock.now().as_secs();
        Arc::new(Self {
            clock: clock.clone(),
            keep: keep.clone(),
            scopes: RwLock::default(),
            memory: RwLock::new(Memory {
                seconds: Ring::new(Resolution::Second, keep.raw, SECOND_BYTES),
                minutes: Ring::new(Resolution::Minute, keep.minute, MINUTE_BYTES),
                hours: Ring::new(Resolution::Hour, keep.hour, HOUR_BYTES),
                since,
            }),
            recorder: Mutex::default(),
            writer,
        })
    }

    /// Notes what the system uses, for the next second.
    pub fn observe_system(&self, sample: &SystemSample) {
        self.recorder.lock().system(sample);
    }

    /// Takes what was counted since the last call and adds it to the second that has just ended. To be called every
    /// second.
    pub fn tick(&self, telemetry: &Telemetry) {
        let second = self.clock.now().as_secs().saturating_sub(1);
        let mut recorder = self.recorder.lock();
        let ended = recorder.take(telemetry, second, &mut self.scopes.write());
        let frame = recorder.encoded();
        self.memory.write().seconds.add(second, &frame);
        if let Some(minute) = ended {
            self.end_minute(&minute);
        }
    }

    /// Hands the minute under way to the file as far as it has come, and waits for at most `limit` until it is there.
    pub async fn close(&self, telemetry: &Telemetry, limit: Duration) {
        self.tick(telemetry);
        let rest = self.recorder.lock().end_minute();
        if let Some(minute) = rest {
            self.end_minute(&minute);
        }
        if let Some(writer) = &self.writer
            && !writer.close(limit).await
        {
            tracing::warn!("the history was not written in time");
        }
    }

    fn end_minute(&self, minute: &recorder::Minute) {
        let frame = minute.encoded();
        let mut memory = self.memory.write();
        memory.minutes.add(minute.start, &frame);
        memory.hours.add(Resolution::Hour.floor(minute.start), &frame);
        drop(memory);
        if let Some(writer) = &self.writer {
            let scopes = self.scopes.read();
            let named = frame
                .into_iter()
                .filter_map(|(id, bytes)| Some((scopes.name(id)?, bytes)));
            writer.write(minute.start, named.collect(), self.clock.now());
        }
    }

    /// Everything that is known of, the system and all routes together among it.
    pub fn scopes(&self) -> Vec<Scope> {
        let mut known = self.scopes.read().all();
        if let Some(writer) = &self.writer {
            known.extend(writer.scopes());
        }
        known.sort();
        known.dedup();
        known
    }

    /// Where a window that ends now and begins `span` before lies.
    pub fn last(&self, span: Duration) -> (Timestamp, Timestamp) {
        let now = self.clock.now();
        (now.minus(span), now)
    }
}
