//! The warm-ups that wait, run, or have ended lately.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cache::warm::Wanted;
use crate::cache::warm::tally::{Counts, Tally};
use crate::clock::Timestamp;
use crate::config::{Name, Pace};

/// Warm-ups that may wait.
const WAITING: usize = 16;
/// Warm-ups that are remembered after their end.
const ENDED: usize = 64;

/// How far a warm-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for those before it.
    Queued,
    /// It is under way.
    Running,
    /// It is through.
    Done,
    /// It is through, and nothing that it asked for could be had.
    Failed,
    /// It was ended before it was through.
    Cancelled,
}

impl JobState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it has ended.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Why a warm-up runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The process has started.
    Start,
    /// It was time.
    Schedule,
    /// Somebody asked for it.
    Call,
    /// It follows the traffic.
    Predict,
}

impl Trigger {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Call => "call",
            Self::Predict => "predict",
        }
    }
}

/// What a warm-up is to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its entry in the configuration.
    pub name: Option<Name>,
    /// Why it runs.
    pub trigger: Trigger,
    /// What it fetches.
    pub requests: Vec<Arc<Wanted>>,
    /// How.
    pub pace: Pace,
    /// How long what is there has to last, to be left alone.
    pub needed: Duration,
}

/// One warm-up.
#[derive(Debug)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// Its entry in the configuration.
    pub name: Option<Name>,
    /// Why it runs.
    pub trigger: Trigger,
    /// How it runs.
    pub pace: Pace,
    /// How long what is there has to last, to be left alone.
    pub needed: Duration,
    /// When it was asked for.
    pub created: Timestamp,
    /// What has become of its requests.
    pub tally: Arc<Tally>,
    /// Ends it.
    pub cancel: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Clone, Debug)]
struct Progress {
    state: JobState,
    total: Option<u64>,
    requests: Vec<Arc<Wanted>>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// How far a warm-up is.
#[derive(Clone, Debug)]
pub struct Status {
    /// The state.
    pub state: JobState,
    /// Requests in all.
    pub total: u64,
    /// What has become of them.
    pub counts: Counts,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Job {
    /// How far it is.
    pub fn status(&self) -> Status {
        let counts = self.tally.counts();
        let progress = self.progress.lock();
        Status {
            state: progress.state,
            total: progress.total.unwrap_or_else(|| counts.all()),
            counts,
            started: progress.started,
            ended: progress.ended,
        }
    }

    /// Begins, and gives what is to be fetched.
    pub(super) fn begin(&self, now: Timestamp) -> Vec<Arc<Wanted>> {
        let mut progress = self.progress.lock();
        if progress.state.is_over() {
            return Vec::new();
        }
        progress.state = JobState::Running;
        progress.started = Some(now);
        std::mem::take(&mut progress.requests)
    }

    /// Ends. Returns whether it had not ended before.
    pub(super) fn end(&self, state: JobState, now: Timestamp) -> bool {
        let mut progress = self.progress.lock();
        if progress.state.is_over() {
            return false;
        }
        progress.state = state;
        progress.ended = Some(now);
        progress.requests = Vec::new();
        true
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.progress.lock().state.is_over()
    }
}

/// Warm-ups in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last_id: u64,
    all: VecDeque<Arc<Job>>,
    waiting: VecDeque<Arc<Job>>,
}

impl Jobs {
    /// Lets a warm-up wait for its turn; none if too many do. It ends with `stop`.
    pub(super) fn queue(
        &mut self,
        order: Order,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Option<Arc<Job>> {
        self.waiting.retain(|job| !job.is_over());
        if self.waiting.len() >= WAITING {
            return None;
        }
        let total = Some(order.requests.len() as u64);
        let job = self.add(order, Arc::default(), total, now, stop);
        self.waiting.push_back(Arc::clone(&job));
        Some(job)
    }

    /// Notes a warm-up that runs along with the traffic and counts in `tally`.
    pub(super) fn follow(
        &mut self,
        order: Order,
        tally: &Arc<Tally>,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Arc<Job> {
        let job = self.add(order, Arc::clone(tally), None, now, stop);
        job.begin(now);
        job
    }

    fn add(
        &mut self,
        order: Order,
        tally: Arc<Tally>,
        total: Option<u64>,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Arc<Job> {
        self.last_id += 1;
        let job = Arc::new(Job {
            id: self.last_id,
            name: order.name,
            trigger: order.trigger,
            pace: order.pace,
            needed: order.needed,
            created: now,
            tally,
            cancel: stop.child_token(),
            progress: Mutex::new(Progress {
                state: JobState::Queued,
                total,
                requests: order.requests,
                started: None,
                ended: None,
            }),
        });
        self.all.push_back(Arc::clone(&job));
        let over = self.all.iter().filter(|job| job.is_over()).count();
        if over > ENDED
            && let Some(oldest) = self.all.iter().position(|job| job.is_over())
        {
            self.all.remove(oldest);
        }
        job
    }

    /// The next one whose turn it is.
    pub(super) fn next(&mut self) -> Option<Arc<Job>> {
        self.waiting.pop_front()
    }

    /// The one with this number.
    pub(super) fn find(&self, id: u64) -> Option<&Arc<Job>> {
        self.all.iter().find(|job| job.id == id)
    }

    /// All, the newest first.
    pub(super) fn list(&self) -> Vec<Arc<Job>> {
        self.all.iter().rev().map(Arc::clone).collect()
    }

    /// Whether one of this entry waits or runs.
    pub(super) fn has_open(&self, name: &Name) -> bool {
        self.all
            .iter()
            .any(|job| job.name.as_ref() == Some(name) && !job.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &str) -> Order {
        Order {
            name: Some(name.into()),
            trigger: Trigger::Call,
            requests: Vec::new(),
            pace: Pace::default(),
            needed: Duration::ZERO,
        }
    }

    #[test]
    fn few_wait_and_few_are_remembered() {
        let (mut jobs, stop, now) = (Jobs::default(), CancellationToken::new(), Timestamp::from_secs(1));
        for _ in 0..WAITING {
            assert!(jobs.queue(order("a"), now, &stop).is_some());
        }
        assert!(jobs.queue(order("a"), now, &stop).is_none());
        for _ in 0..3 * ENDED {
            let job = jobs.next().unwrap();
            job.begin(now);
            job.end(JobState::Done, now);
            assert!(jobs.queue(order("b"), now, &stop).is_some());
        }
        assert!(jobs.all.len() <= WAITING + ENDED + 1);
        assert!(jobs.find(1).is_none() && jobs.has_open(&"b".into()) && !jobs.has_open(&"a".into()));
        // The newest are first, and their numbers are never given again.
        let ids: Vec<u64> = jobs.list().iter().map(|job| job.id).collect();
        assert_eq!(ids[0], (WAITING + 3 * ENDED) as u64);
        assert!(ids.is_sorted_by(|one, other| one > other));
        // What is cancelled while it waits makes room.
        assert!(jobs.waiting.iter().all(|job| job.end(JobState::Cancelled, now)));
        assert!(!jobs.waiting.iter().any(|job| job.end(JobState::Done, now)));
        assert!(jobs.queue(order("c"), now, &stop).is_some());
    }
}
