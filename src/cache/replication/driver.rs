//! Runs one replica's part, in the control runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::super::invalidation::Invalidations;
use super::super::level::{LevelError, LevelKey};
use super::super::purge::{Id, PurgeLog};
use super::super::redis::RedisClient;
use super::follower::{Follower, Progress};
use super::lease::Turn;
use super::place::{Limits, Place};
use crate::clock::{Clock, Timestamp};

/// Longest time between two looks at the place, whether or not anything has been heard of it.
const TICK: Duration = Duration::from_millis(500);
/// The same while somebody waits for other replicas.
const TICK_WHEN_AWAITED: Duration = Duration::from_millis(5);
/// How long invalidations are collected before they are published together.
const COLLECT: Duration = Duration::from_millis(5);
/// Time before the next try after a call has failed.
const RETRY: Duration = Duration::from_millis(100);

/// This process as one of the replicas that share a purge log.
#[derive(Debug)]
pub struct Replication {
    place: Place,
    log: Arc<PurgeLog>,
    invalidations: Arc<Invalidations>,
    clock: Clock,
    tick: Duration,
    /// There may be something to read or to publish.
    wake: Notify,
    /// How many wait for other replicas.
    awaited: AtomicUsize,
    /// Changes with every answer.
    status: watch::Sender<Status>,
    follower: Mutex<Option<Follower>>,
}

/// How replication is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the last call was answered, and nothing was missing then.
    pub up: bool,
    /// Why not; empty if it is not known yet.
    pub trouble: String,
    /// The last time that nothing was missing; the epoch for never.
    pub contact: Timestamp,
    /// The other replicas that were heard of lately, and what each has applied.
    pub others: Vec<(Id, u64)>,
    /// Incarnations joined since the start; more than one means that what is shared was lost.
    pub incarnations: u64,
}

/// What became of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Its position; none as long as it is not published.
    pub position: Option<u64>,
    /// Other replicas that have applied it.
    pub confirmed: usize,
    /// Other replicas that were heard of lately.
    pub known: usize,
}

impl Replication {
    /// This process as a replica. `retention` is the longest life of a record, `cap` how long an entry is trusted without
    /// contact.
    pub fn new(
        client: RedisClient,
        log: Arc<PurgeLog>,
        invalidations: Arc<Invalidations>,
        clock: Clock,
        retention: Duration,
        cap: Duration,
    ) -> Self {
        Self {
            place: Place::new(client, retention, Limits::default()),
            log,
            invalidations,
            clock,
            tick: TICK.min(cap / 4),
            wake: Notify::new(),
            awaited: AtomicUsize::new(0),
            status: watch::Sender::new(Status::default()),
            follower: Mutex::new(Some(Follower::new(Id::random()))),
        }
    }

    /// Takes part until it is dropped.
    pub async fn run(&self) {
        let Some(follower) = self.follower.lock().take() else {
            return;
        };
        tokio::join!(self.follow(follower), self.listen());
    }

    /// Asks for the turn to fetch what is kept under `key`, alone among the replicas; none if there are no turns, so that
    /// everyone fetches.
    pub async fn ask_for_turn(&self, key: &LevelKey) -> Option<Turn> {
        Turn::ask(self.place.client(), key).await.ok()
    }

    /// The level that carries all this.
    pub fn level(&self) -> &str {
        &self.place.client().config().name
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Publishes what the log holds, and waits at most `limit` until every other replica has applied the record `id`.
    pub async fn confirmed(&self, id: Id, limit: Duration) -> Confirmed {
        let deadline = Instant::now() + limit;
        let _awaiting = Awaiting::new(&self.awaited);
        let mut status = self.status.subscribe();
        self.wake.notify_one();
        loop {
            let position = self.log.position_of(id);
            let (confirmed, known) = {
                let status = status.borrow_and_update();
                let has_applied = |(_, applied): &&(Id, u64)| position.is_some_and(|own| *applied >= own);
                let confirmed = status.others.iter().filter(has_applied).count();
                (confirmed, status.others.len())
            };
            let done = position.is_some() && confirmed == known;
            if done || timeout_at(deadline, status.changed()).await.is_err() {
                return Confirmed {
                    position,
                    confirmed,
                    known,
                };
            }
        }
    }

    /// Asks the place, one call after the other.
    async fn follow(&self, mut follower: Follower) {
        loop {
            let Some(call) = follower.next(&self.log, &self.invalidations) else {
                self.rest().await;
                // Publishing needs no new look, but is never far from the next.
                if self.log.unpublished_len() == 0 && !self.invalidations.has_unpublished() {
                    follower.wake();
                }
                continue;
            };
            let sent = self.clock.now();
            match self.place.ask(follower.id(), &call).await {
                Ok(answer) => {
                    let (log, invalidations) = (Arc::clone(&self.log), Arc::clone(&self.invalidations));
                    let taken = tokio::task::spawn_blocking(move || {
                        let progress = follower.take(answer, sent, &log, &invalidations);
                        (follower, progress)
                    });
                    let Ok((returned, progress)) = taken.await else {
                        tracing::error!("replication of purges ended");
                        return;
                    };
                    follower = returned;
                    self.answered(&follower, progress, sent);
                }
                Err(error) => {
                    follower.failed(&self.invalidations);
                    self.failed(&error);
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Until there is something to do.
    async fn rest(&self) {
        let tick = match self.awaited.load(Ordering::Acquire) {
            0 => self.tick,
            _ => TICK_WHEN_AWAITED,
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.invalidations.filled() => sleep(COLLECT).await,
            () = sleep(tick) => {}
        }
    }

    /// Wakes the other half when something is published. Without this a look comes with the next tick.
    async fn listen(&self) {
        loop {
            if let Ok(mut connection) = self.place.waiting_room().await {
                let mut answers = self.status.subscribe();
                while let Ok(found) = self
                    .place
                    .wait(&mut connection, self.log.position(), self.tick)
                    .await
                {
                    if found {
                        answers.mark_unchanged();
                        self.wake.notify_one();
                        // Not again before it was looked at.
                        let _looked_at = timeout_at(Instant::now() + self.tick, answers.changed()).await;
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    fn answered(&self, follower: &Follower, progress: Progress, sent: Timestamp) {
        self.status.send_modify(|status| {
            if progress.joined {
                status.incarnations += 1;
                if status.incarnations > 1 {
                    tracing::warn!("what replicas share of purges was lost and begins anew; what was stored before is validated");
                }
            }
            if progress.complete {
                if !status.up {
                    tracing::info!("in contact with the purge log that replicas share");
                }
                status.up = true;
                status.trouble.clear();
                status.contact = sent;
            }
            status.others.clear();
            status.others.extend_from_slice(follower.others());
        });
    }

    fn failed(&self, error: &LevelError) {
        self.status.send_modify(|status| {
            let trouble = error.to_string();
            if status.up || status.trouble.is_empty() {
                tracing::warn!(%error, "no contact with the purge log that replicas share");
            }
            status.up = false;
            status.trouble = trouble;
        });
    }
}

/// Counts somebody who waits.
struct Awaiting<'a>(&'a AtomicUsize);

impl<'a> Awaiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
