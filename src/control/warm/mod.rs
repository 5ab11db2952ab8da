//! Warm-ups: when they run, how much of an upstream they take, and what became of them.
//!
//! One runs after the other, with as many requests at once as its entry allows; what follows the traffic (`predict`)
//! runs beside them. A request is not tried again, and an upstream that fails again and again is left alone.

mod jobs;
mod run;
mod schedule;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::jobs::Jobs;
pub use self::jobs::{Job, JobState, Order, Status, Trigger};
use self::run::Own;
use super::state::State;
use crate::cache::warm::file::{self, Found};
use crate::cache::warm::{Wanted, Warmer};
use crate::config::{Config, HostPattern, Mask, Name, Pace, Warm, WarmRequest, WarmSource};
use crate::tasks::Tasks;
use crate::telemetry::mask::Masking;

/// Time between two writes of the requests that were asked for most.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Writes after which what was used long ago counts less.
const SAVES_PER_AGE: u32 = 60;

/// Everything that warms the cache up.
pub struct Warming {
    state: Arc<State>,
    warmer: Arc<dyn Warmer>,
    /// Where clients connect, and by which scheme.
    listeners: Vec<(&'static str, SocketAddr)>,
    /// Where the requests that were asked for most are kept.
    dir: Option<PathBuf>,
    tasks: Tasks,
    stop: CancellationToken,
    jobs: Mutex<Jobs>,
    queued: Notify,
    own: Own,
    setup: Mutex<Setup>,
}

/// What the configuration in force wants.
struct Setup {
    entries: Arc<[Warm]>,
    mask: Option<Mask>,
    /// What an earlier run has left, until it is used.
    remembered: Option<Vec<(Arc<Wanted>, u64)>>,
    /// What runs by itself.
    running: Tasks,
}

/// Why a warm-up is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no entry of this name.
    Unknown,
    /// The entry runs by itself and not otherwise.
    Predicts,
    /// Nothing is remembered: no entry wants to know what was asked for most.
    NothingRemembered,
    /// Too many wait.
    Full,
    /// The process is on its way out.
    Draining,
}

impl Warming {
    /// Begins with the entries of `config`. Must be called inside the control runtime.
    pub fn start(
        state: &Arc<State>,
        warmer: Arc<dyn Warmer>,
        listeners: Vec<(&'static str, SocketAddr)>,
        config: &Config,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let dir = config.admin.state_dir.clone();
        let warming = Arc::new(Self {
            state: Arc::clone(state),
            warmer,
            listeners,
            tasks: tasks.clone(),
            stop: tasks.token().child_token(),
            jobs: Mutex::default(),
            queued: Notify::new(),
            own: Own::default(),
            setup: Mutex::new(Setup {
                entries: Arc::new([]),
                mask: None,
                remembered: dir
                    .as_deref()
                    .filter(|_| most(&config.warm).is_some())
                    .map(remembered),
                running: tasks.child(),
            }),
            dir,
        });
        warming.configure(&config.warm, &config.telemetry.mask);
        tasks.spawn("warm-up", Arc::clone(&warming).run());
        tasks.spawn("warm-up start", Arc::clone(&warming).at_start());
        tasks.spawn("warm-up memory", Arc::clone(&warming).remember());
        warming
    }

    /// Takes over the entries of a new configuration: schedules begin anew, and what runs goes on. Must be called
    /// inside the control runtime.
    pub fn configure(self: &Arc<Self>, entries: &Arc<[Warm]>, mask: &Mask) {
        let mut setup = self.setup.lock();
        if setup.mask.as_ref() == Some(mask) && setup.entries == *entries {
            return;
        }
        setup.running.cancel();
        setup.running = self.tasks.child();
        setup.entries = Arc::clone(entries);
        setup.mask = Some(mask.clone());
        let masking = Masking::new(mask);
        let predictions = self
            .state
            .learner
            .configure(entries, masking, &mut setup.remembered);
        for entry in entries.iter().filter(|entry| entry.schedule.is_some()) {
            let repeated = Arc::clone(self).repeat(entry.clone());
            setup.running.spawn("warm-up schedule", repeated);
        }
        for predictions in predictions {
            let followed = Arc::clone(self).follow(predictions, setup.running.token().clone());
            setup.running.spawn_to_end(followed);
        }
    }

    /// Runs the entry called `name` once.
    ///
    /// # Errors
    /// Why not.
    pub fn run_entry(&self, name: &str) -> Result<Arc<Job>, Refused> {
        let entries = Arc::clone(&self.setup.lock().entries);
        let entry = entries.iter().find(|entry| *entry.name == *name);
        self.submit(self.order(entry.ok_or(Refused::Unknown)?, Trigger::Call, Duration::ZERO)?)
    }

    /// Fetches `requests` once.
    ///
    /// # Errors
    /// Why not.
    pub fn run_requests(&self, requests: &[WarmRequest], pace: Pace) -> Result<Arc<Job>, Refused> {
        self.submit(Order {
            name: None,
            trigger: Trigger::Call,
            requests: self.wanted(requests),
            pace,
            needed: Duration::ZERO,
        })
    }

    /// Fetches the `number` requests that were asked for most.
    ///
    /// # Errors
    /// Why not.
    pub fn run_top(&self, number: usize, pace: Pace) -> Result<Arc<Job>, Refused> {
        if most(&self.setup.lock().entries).is_none() {
            return Err(Refused::NothingRemembered);
        }
        self.submit(Order {
            name: None,
            trigger: Trigger::Call,
            requests: self.top(number),
            pace,
            needed: Duration::ZERO,
        })
    }

    /// The warm-up with this number.
    pub fn job(&self, id: u64) -> Option<Arc<Job>> {
        self.jobs.lock().find(id).cloned()
    }

    /// All that are known, the newest first.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.lock().list()
    }

    /// Ends one that waits or runs.
    pub fn cancel(&self, job: &Job) {
        job.cancel.cancel();
        if job.status().state == JobState::Queued {
            self.end(job, JobState::Cancelled);
        }
    }

    /// Ends all of them, for a drain.
    pub fn stop(&self) {
        self.stop.cancel();
        self.setup.lock().running.cancel();
        let jobs = self.jobs();
        jobs.iter()
            .filter(|job| !job.is_over())
            .for_each(|job| self.cancel(job));
    }

    /// Writes down what was asked for most. Blocks on the disk.
    pub fn save(&self) {
        let number = most(&self.setup.lock().entries);
        let (Some(dir), Some(number)) = (&self.dir, number) else {
            return;
        };
        let top = self.state.learner.top(number);
        let lines = top.iter().map(|(wanted, uses)| (&**wanted, *uses));
        if let Err(error) = file::save(dir, lines) {
            tracing::warn!(%error, "the most asked for requests cannot be written to the state directory");
        }
    }

    fn submit(&self, order: Order) -> Result<Arc<Job>, Refused> {
        if self.stop.is_cancelled() || self.state.is_draining() {
            return Err(Refused::Draining);
        }
        let now = self.state.clock.now();
        let job = self
            .jobs
            .lock()
            .queue(order, now, &self.stop)
            .ok_or(Refused::Full)?;
        self.queued.notify_one();
        Ok(job)
    }

    fn order(&self, entry: &Warm, trigger: Trigger, needed: Duration) -> Result<Order, Refused> {
        let requests = match &entry.source {
            WarmSource::Requests(requests) => self.wanted(requests),
            WarmSource::TopKeys(number) => self.top(*number),
            WarmSource::Predict(_) => return Err(Refused::Predicts),
        };
        Ok(Order {
            name: Some(Arc::clone(&entry.name)),
            trigger,
            requests,
            pace: entry.pace,
            needed,
        })
    }

    /// Runs `entry` unless it runs already; nobody waits for the answer.
    fn run_by_itself(&self, entry: &Warm, trigger: Trigger, needed: Duration) {
        if self.jobs.lock().has_open(&entry.name) {
            tracing::info!(
                name = &*entry.name,
                "the warm-up before goes on; this one is left out"
            );
            return;
        }
        let submitted = self
            .order(entry, trigger, needed)
            .and_then(|order| self.submit(order));
        if let Err(reason) = submitted {
            tracing::warn!(name = &*entry.name, ?reason, "a warm-up is left out");
        }
    }

    async fn at_start(self: Arc<Self>) {
        self.state.started().await;
        let entries = Arc::clone(&self.setup.lock().entries);
        for entry in entries.iter().filter(|entry| entry.at_start) {
            self.run_by_itself(entry, Trigger::Start, Duration::ZERO);
        }
    }

    async fn repeat(self: Arc<Self>, entry: Warm) {
        let Some(schedule) = &entry.schedule else { return };
        let run = |_, until_next| self.run_by_itself(&entry, Trigger::Schedule, until_next);
        schedule::repeat(&self.state.clock, schedule, run).await;
    }

    /// Writes down what was asked for most, now and then.
    async fn remember(self: Arc<Self>) {
        let mut saves = 0_u32;
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            let warming = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || warming.save()).await.is_err() {
                return;
            }
            saves += 1;
            if saves.is_multiple_of(SAVES_PER_AGE) {
                self.state.learner.grow_old();
            }
        }
    }

    fn top(&self, number: usize) -> Vec<Arc<Wanted>> {
        let top = self.state.learner.top(number);
        top.into_iter().map(|(wanted, _)| wanted).collect()
    }

    /// Requests of a list as clients would send them.
    fn wanted(&self, requests: &[WarmRequest]) -> Vec<Arc<Wanted>> {
        let wanted = |request: &WarmRequest| {
            let headers: HeaderMap = request.headers.iter().cloned().collect();
            let target: Uri = request.target.parse().ok()?;
            let (scheme, address) = self
                .listeners
                .first()
                .copied()
                .unwrap_or(("http", SocketAddr::from(([127, 0, 0, 1], 80))));
            let authority = match &request.host {
                Some(host) => HeaderValue::from_str(host).ok()?,
                None => self.authority(request, &target, &headers, address)?,
            };
            Some(Arc::new(Wanted {
                method: request.method.clone(),
                scheme: request.scheme.unwrap_or(scheme),
                authority,
                target,
                headers,
                body: Bytes::from(request.body.clone()),
            }))
        };
        requests.iter().filter_map(wanted).collect()
    }

    /// The host of the cached route that takes the request, else where the first listener listens.
    fn authority(
        &self,
        request: &WarmRequest,
        target: &Uri,
        headers: &HeaderMap,
        address: SocketAddr,
    ) -> Option<HeaderValue> {
        let snapshot = self.state.snapshot.load();
        let takes = |host: &str, name: &Name| {
            let route = snapshot.route_of(host, target.path(), &request.method, headers);
            route.is_some_and(|route| route.config.name == *name)
        };
        let cached = snapshot
            .routes
            .iter()
            .filter(|route| route.config.cache.is_some());
        let mut hosts = cached.flat_map(|route| {
            let hosts = route.config.matcher.hosts.iter();
            hosts.map(move |host| (host, &route.config.name))
        });
        let host = hosts.find_map(|(host, name)| match host {
            HostPattern::Exact(host) if takes(host, name) => Some(host.clone()),
            HostPattern::Exact(_) | HostPattern::Suffix(_) => None,
        });
        let listener = || match address {
            SocketAddr::V4(_) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
            SocketAddr::V6(_) if address.ip().is_unspecified() => format!("[::1]:{}", address.port()),
            address => address.to_string(),
        };
        HeaderValue::from_str(&host.unwrap_or_else(listener)).ok()
    }
}

/// The most requests that an entry wants to know; none if none does.
fn most(entries: &[Warm]) -> Option<usize> {
    let numbers = entries.iter().filter_map(|entry| match &entry.source {
        WarmSource::TopKeys(number) => Some(*number),
        WarmSource::Requests(_) | WarmSource::Predict(_) => None,
    });
    numbers.max()
}

/// What an earlier run has left. Whatever is wrong with it does not keep the process from starting.
fn remembered(dir: &std::path::Path) -> Vec<(Arc<Wanted>, u64)> {
    match file::load(dir) {
        // Half of it: a request that is not asked for any more is forgotten after some runs.
        Ok(Found::Requests(requests)) => requests
            .into_iter()
            .map(|(wanted, uses)| (Arc::new(wanted), uses.div_ceil(2)))
            .collect(),
        Ok(Found::SetAside(path, reason)) => {
            let path = path.display();
            tracing::warn!(%path, reason, "the most asked for requests of the last run were set aside");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(%error, "the most asked for requests of the last run cannot be read");
            Vec::new()
        }
    }
}
