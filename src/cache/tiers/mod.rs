//! The levels below memory, in the order in which they are asked.
//!
//! ```text
//! look-up:  memory --miss--> lookups (one per key) --> tier 1 --> tier 2 ..     found: memory and the tiers above get it
//! store:    memory, at once --> queue of each tier (bounded) --> seal --> level
//! a tier:   breakers, queue, codec, counters --> the level itself
//! ```
//!
//! Invariant: nothing that a request waits for takes longer than the deadlines of the levels that it asks, and a level
//! that rests is not asked.
//!
//! Invariant: what a level returns counts only after every check that an entry of memory has to pass.

mod breaker;
mod lookups;
mod queue;
#[cfg(test)]
mod tests;
mod tier;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::lookups::LookUps;
use self::queue::{Queue, Write};
use self::tier::{Parts, Tier, Told};
use super::codec::Codec;
use super::digest::KeyDigest;
use super::level::{Holding, Level};
use super::slot::Slot;
use crate::clock::Clock;
use crate::config::{self, MemoryLevel};
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;
use crate::telemetry::levels::LevelSummary;
use crate::telemetry::record::LevelId;

/// Writes that wait for one level.
const MAX_WRITES: usize = 4_096;
/// Bytes that they keep in memory beyond what memory itself keeps: this share of its capacity, and at most so many.
const QUEUED_SHARE: u64 = 8;
const MAX_QUEUED_BYTES: u64 = 64 << 20;
/// Writes to one level at the same time.
const WRITERS: usize = 8;

/// A level with its codec.
#[derive(Debug)]
pub struct Lower {
    /// Where values are kept.
    pub level: Arc<dyn Level>,
    /// What makes values of entries, and entries of values.
    pub codec: Codec,
}

/// The levels below memory.
#[derive(Debug)]
pub struct Tiers {
    tiers: Vec<Arc<Tier>>,
    lookups: LookUps<Found>,
    clock: Clock,
    /// Levels whose first probe has ended.
    probed: watch::Sender<usize>,
    writers: Tasks,
}

/// What the levels have for a request, as far as it may be used at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Under the digest of the request's own key.
    pub(super) own: Option<Arc<Slot>>,
    /// Under the digest of the key for everyone.
    pub(super) shared: Option<Arc<Slot>>,
    /// The level that was asked last of those that had something.
    pub(super) level: Option<LevelId>,
}

/// How one level is doing.
#[derive(Clone, Debug)]
pub struct LevelStatus {
    /// Its name.
    pub name: String,
    /// Its kind, as the configuration calls it.
    pub kind: &'static str,
    /// Whether it is asked and written.
    pub up: bool,
    /// Why it is not; empty if it is, or if that is not known yet.
    pub trouble: String,
    /// What it keeps, as far as it knows.
    pub holding: Holding,
    /// What was done since the start.
    pub summary: LevelSummary,
}

impl Tiers {
    /// No levels.
    pub fn none(clock: Clock) -> Self {
        Self {
            tiers: Vec::new(),
            lookups: LookUps::new(),
            clock,
            probed: watch::Sender::new(0),
            writers: Tasks::new(),
        }
    }

    /// These levels, below `memory`, the nearest first. Nothing happens before [`Tiers::run`].
    pub fn new(lower: Vec<Lower>, memory: &MemoryLevel, telemetry: &Arc<Telemetry>, clock: &Clock) -> Self {
        let queued = (memory.capacity / QUEUED_SHARE).min(MAX_QUEUED_BYTES);
        let tier = |lower: Lower| {
            let parts = Parts {
                level: lower.level,
                codec: lower.codec,
                queue: Queue::new(MAX_WRITES, queued),
            };
            Arc::new(Tier::new(parts, telemetry, clock))
        };
        Self {
            tiers: lower.into_iter().map(tier).collect(),
            ..Self::none(clock.clone())
        }
    }

    /// Begins the work behind the requests' backs: watching over the levels, and writing to them.
    ///
    /// Must be called inside the runtime that shall do it, which should not be a worker's; `tasks` ends the watching.
    pub fn run(self: &Arc<Self>, tasks: &Tasks) {
        for tier in &self.tiers {
            let (watched, tiers) = (Arc::clone(tier), Arc::clone(self));
            tasks.spawn("level", async move {
                let first = || tiers.probed.send_modify(|probed| *probed += 1);
                watched.watch(first).await;
            });
            for _ in 0..WRITERS {
                let (tier, tiers) = (Arc::clone(tier), Arc::clone(self));
                self.writers.spawn_to_end(async move {
                    tiers.opened().await;
                    tier.write_behind().await;
                });
            }
        }
    }

    /// Waits until it is known of every level whether it can be used.
    pub async fn opened(&self) {
        let mut probed = self.probed.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _probed = probed.wait_for(|probed| *probed >= self.tiers.len()).await;
    }

    /// Writes what waits, for at most `limit`, and tells the levels that this was all. Returns whether everything was
    /// written in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        for tier in &self.tiers {
            tier.queue.close();
        }
        let written = self.writers.drained(limit).await;
        for tier in &self.tiers {
            tier.metrics.dropped("shutdown", tier.queue.clear());
            tier.level.close().await;
        }
        written
    }

    /// Seals from now on as `settings` say.
    pub fn apply(&self, settings: &config::Cache) {
        for tier in &self.tiers {
            tier.apply(settings);
        }
    }

    /// How every level is doing, in their order.
    pub fn status(&self) -> Vec<LevelStatus> {
        let status = |tier: &Arc<Tier>| LevelStatus {
            name: tier.level.name().to_owned(),
            kind: tier.level.kind(),
            up: tier.metrics.is_up(),
            trouble: match tier.told() {
                Some(Told::Down(trouble)) => trouble,
                Some(Told::Up) | None => String::new(),
            },
            holding: tier.level.holding(),
            summary: tier.metrics.summary(),
        };
        self.tiers.iter().map(status).collect()
    }

    /// Every level's name, and why it would not be given an entry now, by the names under which writes that are given up
    /// are counted; none if nothing is known against it. `sensitive`: of a sensitive route.
    pub fn refusals(&self, sensitive: bool) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        let tiers = self.tiers.iter();
        tiers.map(move |tier| (tier.level.name(), tier.refuses(sensitive)))
    }

    /// The name of a level.
    pub fn name_of(&self, level: LevelId) -> Option<&str> {
        let tier = self.tiers.iter().find(|tier| tier.id == level)?;
        Some(tier.level.name())
    }

    /// What the level called `name` keeps.
    pub fn holding(&self, name: &str) -> Option<Holding> {
        let tier = self.tiers.iter().find(|tier| tier.level.name() == name)?;
        Some(tier.level.holding())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// What `look` finds; whoever looks for the same key at the same time shares it.
    pub(super) async fn once(&self, key: &KeyDigest, look: impl Future<Output = Found>) -> Found {
        self.lookups.once(key, look).await
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.tiers.iter()
    }

    /// All levels get these variants, soon.
    pub(super) fn put(&self, digest: &KeyDigest, slot: &Arc<Slot>) {
        for tier in &self.tiers {
            tier.push(*digest, Write::Put(Arc::clone(slot)));
        }
    }

    /// The levels above the one at `below` get these variants, soon.
    pub(super) fn put_above(&self, below: usize, digest: &KeyDigest, slot: &Arc<Slot>) {
        for tier in self.tiers.iter().take(below) {
            tier.push(*digest, Write::Put(Arc::clone(slot)));
        }
    }

    /// All levels forget what they have under `digest`, soon.
    pub(super) fn remove(&self, digest: &KeyDigest) {
        for tier in &self.tiers {
            tier.push(*digest, Write::Remove);
        }
    }
}
