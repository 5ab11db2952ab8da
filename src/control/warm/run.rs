//! Running a warm-up: few requests at once, none while clients need the upstream, an end to it when the upstream fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Job, JobState, Order, Trigger, Warming};
use crate::cache::warm::learner::Predictions;
use crate::cache::warm::{Outcome, Wanted};
use crate::config::{Name, Pace};
use crate::control::state::ActiveRoute;
use crate::telemetry::Event;
use crate::telemetry::warm::WarmEvent;

/// Time between two looks at a busy upstream.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Failures in a row after which an upstream is left alone.
const FAILURES: u32 = 5;

/// Requests of ours that are under way, by upstream: they are not what makes it busy.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<HashMap<Name, usize>>);

/// A request of ours that is under way.
struct UnderWay<'a> {
    own: &'a Own,
    upstream: &'a Name,
}

impl Own {
    fn begin<'a>(&'a self, upstream: &'a Name) -> UnderWay<'a> {
        *self.0.lock().entry(Arc::clone(upstream)).or_default() += 1;
        UnderWay { own: self, upstream }
    }

    fn at(&self, upstream: &Name) -> usize {
        self.0.lock().get(upstream).copied().unwrap_or(0)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut counts = self.own.0.lock();
        if let Some(count) = counts.get_mut(self.upstream) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.upstream);
            }
        }
    }
}

/// Failures in a row, by upstream.
#[derive(Debug, Default)]
struct Failing(Mutex<HashMap<Name, u32>>);

impl Failing {
    fn gives_up(&self, upstream: &Name) -> bool {
        self.0
            .lock()
            .get(upstream)
            .is_some_and(|count| *count >= FAILURES)
    }

    fn note(&self, upstream: &Name, outcome: Outcome) {
        match outcome {
            Outcome::Failed(_) => *self.0.lock().entry(Arc::clone(upstream)).or_default() += 1,
            // It was not asked.
            Outcome::Fresh => {}
            Outcome::Fetched | Outcome::Skipped(_) => drop(self.0.lock().remove(upstream)),
        }
    }
}

impl Warming {
    /// Runs what is queued, one after the other.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let next = self.jobs.lock().next();
            match next {
                Some(job) if job.is_over() => {}
                Some(job) => self.run_job(&job).await,
                None => self.queued.notified().await,
            }
        }
    }

    async fn run_job(&self, job: &Arc<Job>) {
        let requests = job.begin(self.state.clock.now());
        let total = requests.len() as u64;
        let failing = Failing::default();
        let work = stream::iter(requests).for_each_concurrent(job.pace.parallel, |wanted| {
            let failing = &failing;
            async move { self.one(job, &wanted, failing).await }
        });
        let state = tokio::select! {
            biased;
            () = job.cancel.cancelled() => JobState::Cancelled,
            () = tokio::time::sleep(job.pace.timeout) => {
                (job.tally.counts().all()..total).for_each(|_| self.count(job, Outcome::Skipped("timeout")));
                self.judge(job)
            }
            () = work => self.judge(job),
        };
        self.end(job, state);
    }

    fn judge(&self, job: &Job) -> JobState {
        let counts = job.tally.counts();
        match counts.failed > 0 && counts.fetched + counts.fresh == 0 {
            true => JobState::Failed,
            false => JobState::Done,
        }
    }

    /// Follows the traffic until `over`.
    pub(super) async fn follow(self: Arc<Self>, mut predictions: Predictions, over: CancellationToken) {
        let order = Order {
            name: Some(Arc::clone(&predictions.entry.name)),
            trigger: Trigger::Predict,
            requests: Vec::new(),
            pace: predictions.entry.pace,
            needed: Duration::ZERO,
        };
        let job = self
            .jobs
            .lock()
            .follow(order, &predictions.tally, self.state.clock.now(), &over);
        let failing = Failing::default();
        let found = stream::poll_fn(|context| predictions.found.poll_recv(context));
        let work = found.for_each_concurrent(job.pace.parallel, |wanted| {
            let (failing, job, warming) = (&failing, &job, &self);
            async move {
                let one = warming.one(job, &wanted, failing);
                // What could not be fetched for so long is not the next request any more.
                if tokio::time::timeout(job.pace.timeout, one).await.is_err() {
                    warming.count(job, Outcome::Skipped("timeout"));
                }
            }
        });
        tokio::select! {
            () = job.cancel.cancelled() => {}
            () = work => {}
        }
        self.end(&job, JobState::Cancelled);
    }

    async fn one(&self, job: &Job, wanted: &Wanted, failing: &Failing) {
        let Some(route) = self.route(wanted) else {
            self.count(job, Outcome::Skipped("no-route"));
            return;
        };
        let upstream = &route.config.upstream;
        while self.is_busy(&route, job.pace) {
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        if failing.gives_up(upstream) {
            self.count(job, Outcome::Skipped("upstream-failing"));
            return;
        }
        let under_way = self.own.begin(upstream);
        let outcome = self.warmer.warm(wanted, job.needed).await;
        drop(under_way);
        failing.note(upstream, outcome);
        self.count(job, outcome);
    }

    fn count(&self, job: &Job, outcome: Outcome) {
        job.tally.add(outcome);
        let result = outcome.as_str();
        self.state
            .telemetry
            .emit(Event::Warm(WarmEvent::Request { result }));
    }

    /// Ends a warm-up and tells so.
    pub(super) fn end(&self, job: &Job, state: JobState) {
        if !job.end(state, self.state.clock.now()) {
            return;
        }
        let status = job.status();
        self.state.telemetry.emit(Event::Warm(WarmEvent::Ended {
            name: job.name.as_deref().unwrap_or_default(),
            state: status.state.as_str(),
            fetched: status.counts.fetched,
            failed: status.counts.failed,
        }));
    }

    fn route(&self, wanted: &Wanted) -> Option<Arc<ActiveRoute>> {
        let snapshot = self.state.snapshot.load();
        let authority = wanted.authority.to_str().unwrap_or_default();
        let route = snapshot.route_of(authority, wanted.target.path(), &wanted.method, &wanted.headers);
        route.map(Arc::clone)
    }

    /// Whether clients take more of the upstream than a warm-up may find taken.
    fn is_busy(&self, route: &ActiveRoute, pace: Pace) -> bool {
        let (in_flight, capacity) = route.cluster.load();
        let clients = in_flight.saturating_sub(self.own.at(&route.config.upstream));
        clients as f64 > pace.busy * capacity as f64
    }
}
