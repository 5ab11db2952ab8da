//! One level below memory with what stands before it: codec, breakers, queue and counters.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::codec::{Codec, NotSealed};
use super::super::digest::KeyDigest;
use super::super::level::{Level, LevelError, LevelKey};
use super::super::slot::Slot;
use super::breaker::{self, Breaker};
use super::queue::{Job, Queue, Write};
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::telemetry::levels::{LevelMetrics, LevelOp};
use crate::telemetry::record::LevelId;
use crate::telemetry::trace::IdSource;
use crate::telemetry::{Event, Telemetry};

/// Time between two probes of a level that works: trouble is noticed also when there is no traffic.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// The same after a probe that failed, until the breaker opens.
const PROBE_AGAIN: Duration = Duration::from_millis(100);
/// What probes read and write; a digest of nothing that has a key.
const PROBE: LevelKey = LevelKey(*b"outrigger probe, not a response!");
/// How long a probe's value may stay if it cannot be removed.
const PROBE_TTL: Duration = Duration::from_secs(10);
/// Values from this size on are opened and sealed on a thread that may be busy for so long.
const LARGE: usize = 128 * 1024;

/// Why a write is given up while the breaker is open.
const RESTING: &str = "resting";

/// One level and what stands before it.
#[derive(Debug)]
pub(in crate::cache) struct Tier {
    pub(in crate::cache) level: Arc<dyn Level>,
    pub(in crate::cache) id: LevelId,
    pub(super) queue: Queue,
    pub(in crate::cache) metrics: Arc<LevelMetrics>,
    codec: Arc<Codec>,
    /// Before look-ups.
    reading: Breaker,
    /// Before writes: a level that refuses them may still be read.
    writing: Breaker,
    /// What was last told about it: none before the first probe has ended.
    told: Mutex<Option<Told>>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
}

/// What was last told about a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is used.
    Up,
    /// It rests, because of this.
    Down(String),
}

/// Parts that a tier is made of.
pub(super) struct Parts {
    pub(in crate::cache) level: Arc<dyn Level>,
    pub(super) codec: Codec,
    pub(super) queue: Queue,
}

impl Tier {
    pub(super) fn new(parts: Parts, telemetry: &Arc<Telemetry>, clock: &Clock) -> Self {
        let name = parts.level.name();
        Self {
            id: telemetry.level(name),
            metrics: telemetry.lower_level(name),
            level: parts.level,
            queue: parts.queue,
            codec: Arc::new(parts.codec),
            reading: Breaker::new(),
            writing: Breaker::new(),
            told: Mutex::new(None),
            telemetry: Arc::clone(telemetry),
            clock: clock.clone(),
        }
    }

    /// Seals from now on as `settings` say. A level that they do not have goes on as it is until the restart.
    pub(super) fn apply(&self, settings: &config::Cache) {
        if !settings
            .lower
            .iter()
            .any(|level| &**level.name() == self.level.name())
        {
            return;
        }
        let keyring = settings.keyrings.get(self.level.name());
        self.codec.apply(settings.compress, keyring);
    }

    /// Whether it is worth asking.
    pub(in crate::cache) fn is_readable(&self) -> bool {
        self.reading.allows()
    }

    /// What was last told about it.
    pub(super) fn told(&self) -> Option<Told> {
        self.told.lock().clone()
    }

    /// What it keeps under `digest`, or will keep when everything that waits is written.
    pub(in crate::cache) async fn find(&self, digest: &KeyDigest) -> Option<Arc<Slot>> {
        match self.queue.pending(digest) {
            Some(Write::Put(slot)) => return Some(slot),
            Some(Write::Remove) => return None,
            None => {}
        }
        let value = self.get(digest).await?;
        self.metrics.read(value.len());
        let (codec, key, now) = (Arc::clone(&self.codec), *digest, self.clock.now());
        let size = value.len();
        match aside(size, move || codec.open(&key, &value, now)).await? {
            Ok(slot) => Some(Arc::new(slot)),
            Err(refused) => {
                tracing::debug!(level = self.level.name(), %refused, "a value was refused");
                if refused.is_failure() {
                    self.metrics.integrity_failed();
                    self.push(*digest, Write::Remove);
                }
                None
            }
        }
    }

    async fn get(&self, digest: &KeyDigest) -> Option<Bytes> {
        if !self.reading.allows() {
            return None;
        }
        let began = self.clock.now();
        let key = self.codec.level_key(digest);
        let got = self.level.get(&key, self.codec.max_value()).await;
        self.called(LevelOp::Get, began, &got);
        match got {
            Ok(value) => {
                self.reading.succeeded();
                value
            }
            Err(error) => {
                self.failed(&self.reading, &error);
                // What nobody takes is of no use there.
                if error.is_of_the_value() {
                    self.metrics.integrity_failed();
                    self.push(*digest, Write::Remove);
                }
                None
            }
        }
    }

    /// What the level keeps values of `digest` under.
    pub(in crate::cache) fn level_key(&self, digest: &KeyDigest) -> LevelKey {
        self.codec.level_key(digest)
    }

    /// Whether it keeps nothing in the clear.
    pub(in crate::cache) fn encrypts(&self) -> bool {
        self.codec.encrypts()
    }

    /// Whether something under `digest` is still on its way to the level.
    pub(in crate::cache) fn is_being_written(&self, digest: &KeyDigest) -> bool {
        self.queue.pending(digest).is_some()
    }

    /// Why it would not be given an entry now, by the names under which such writes are counted; none if nothing is known
    /// against it. `sensitive`: of a sensitive route.
    pub(super) fn refuses(&self, sensitive: bool) -> Option<&'static str> {
        if sensitive && !self.encrypts() {
            Some(NotSealed::NoKey.as_str())
        } else {
            self.takes_nothing().then_some(RESTING)
        }
    }

    /// Whether writes are given up at once. Before the first probe has ended nothing is known: what comes waits for it.
    fn takes_nothing(&self) -> bool {
        !self.writing.allows() && self.told.lock().is_some()
    }

    /// Changes what it keeps, soon.
    pub(super) fn push(&self, digest: KeyDigest, write: Write) {
        if self.takes_nothing() {
            self.metrics.dropped(RESTING, 1);
        } else {
            self.metrics.dropped("queue-full", self.queue.push(digest, write));
        }
        self.metrics.queued(self.queue.len());
    }

    /// Writes what comes until the queue is closed and empty. Several do so at a time.
    pub(super) async fn write_behind(self: Arc<Self>) {
        while let Some(job) = self.queue.next().await {
            let dropped = if self.writing.allows() {
                self.write(&job).await.err()
            } else {
                Some(RESTING)
            };
            if let Some(reason) = dropped {
                self.metrics.dropped(reason, 1);
            }
            drop(job);
            self.metrics.queued(self.queue.len());
        }
    }

    /// Writes it, or says why not.
    async fn write(&self, job: &Job<'_>) -> Result<(), &'static str> {
        let (op, began, done) = match &job.write {
            Write::Remove => {
                let key = self.codec.level_key(&job.key);
                let began = self.clock.now();
                (LevelOp::Remove, began, self.level.remove(&key).await)
            }
            Write::Put(slot) => {
                let size = usize::try_from(slot.weight()).unwrap_or(usize::MAX);
                let (codec, digest) = (Arc::clone(&self.codec), job.key);
                let (slot, now) = (Arc::clone(slot), self.clock.now());
                let sealed = aside(size, move || codec.seal(&digest, &slot, now)).await;
                let sealed = sealed.ok_or("failed")?.map_err(NotSealed::as_str)?;
                let (length, began) = (sealed.value.len(), self.clock.now());
                let put = self.level.put(&sealed.key, sealed.value, sealed.ttl).await;
                if put.is_ok() {
                    self.metrics.written(length, sealed.raw);
                }
                (LevelOp::Put, began, put)
            }
        };
        self.called(op, began, &done);
        match &done {
            Ok(()) => self.writing.succeeded(),
            Err(error) => self.failed(&self.writing, error),
        }
        done.map_err(|error| error.as_str())
    }

    fn called<T>(&self, op: LevelOp, began: Timestamp, result: &Result<T, LevelError>) {
        let took = self.clock.now().since(began);
        let failure = result.as_ref().err().map(LevelError::as_str);
        self.metrics.called(op, took, failure);
    }

    fn failed(&self, breaker: &Breaker, error: &LevelError) {
        if !error.is_of_the_value() && breaker.failed() {
            self.tell(Some(error));
        }
    }

    /// Says once when the level falls out of use, and once when it is back.
    fn tell(&self, trouble: Option<&LevelError>) {
        let now = match trouble {
            Some(error) => Told::Down(error.to_string()),
            None => Told::Up,
        };
        self.metrics.set_up(now == Told::Up);
        let mut told = self.told.lock();
        let changed = match (&*told, &now) {
            (Some(Told::Down(_)), Told::Down(_)) => false,
            (before, now) => before.as_ref() != Some(now),
        };
        let trouble = trouble.map(ToString::to_string);
        *told = Some(now);
        drop(told);
        if changed {
            self.telemetry.emit(Event::Level {
                level: self.level.name(),
                trouble: trouble.as_deref(),
            });
        }
    }

    /// Watches over it for ever: asks it now and then whether it is well, and when it is not, until it is.
    pub(super) async fn watch(self: Arc<Self>, first: impl FnOnce()) {
        let random = IdSource::new();
        self.resting().await;
        first();
        loop {
            if self.reading.allows() && self.writing.allows() {
                self.working().await;
            }
            tokio::time::sleep(breaker::rest(random.uniform())).await;
            self.resting().await;
        }
    }

    /// Closed: returns when a breaker has opened.
    async fn working(&self) {
        let mut pause = PROBE_INTERVAL;
        loop {
            tokio::select! {
                () = self.reading.opened() => break,
                () = self.writing.opened() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.probe_reading().await {
                Ok(()) => {
                    self.reading.succeeded();
                    PROBE_INTERVAL
                }
                Err(error) => {
                    self.failed(&self.reading, &error);
                    PROBE_AGAIN
                }
            };
        }
    }

    /// Half open: one probe, which closes what it finds in order.
    async fn resting(&self) {
        let probed = async {
            self.level.open().await?;
            self.probe_reading().await?;
            self.reading.close();
            if !self.writing.allows() {
                self.probe_writing().await?;
                self.writing.close();
            }
            Ok(())
        };
        let probed: Result<(), LevelError> = probed.await;
        self.tell(probed.as_ref().err());
    }

    /// Probes do not count as calls: they tell of the level, not of the traffic.
    async fn probe_reading(&self) -> Result<(), LevelError> {
        match self.level.get(&PROBE, self.codec.max_value()).await {
            Err(error) if !error.is_of_the_value() => Err(error),
            // Whatever somebody has put there, the level has answered.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn probe_writing(&self) -> Result<(), LevelError> {
        let value = Bytes::from_static(b"probe");
        self.level.put(&PROBE, value, PROBE_TTL).await?;
        self.level.remove(&PROBE).await
    }
}

/// Runs `work` on `size` bytes: here, or on a thread that may be busy for long. None if that thread failed.
async fn aside<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if size < LARGE {
        return Some(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(%error, "a value could not be worked on"))
        .ok()
}
