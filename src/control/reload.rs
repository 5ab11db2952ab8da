//! Reload as a transaction: everything of the new configuration is built first, then one swap; on any problem the
//! old configuration stays.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::state::{ActiveRoute, Snapshot, State};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, Environment, Loaded, Name, Problem, Problems, Upstream};
use crate::route::Router;
use crate::tasks::Tasks;
use crate::telemetry::events::ReloadResult;
use crate::telemetry::{Event, Telemetry};
use crate::upstream::Cluster;

/// What became of a reload.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The new configuration is in force.
    Applied {
        /// Its generation.
        generation: u64,
        /// Its hash.
        hash: Arc<str>,
        /// Changed fields that only a restart will apply.
        restart_required: Vec<String>,
    },
    /// Nothing changed.
    Unchanged {
        /// The generation in force.
        generation: u64,
    },
    /// The old configuration stays.
    Refused(Problems),
}

/// The last reload, for `GET /config`.
#[derive(Clone, Debug, Serialize)]
pub struct LastReload {
    /// `applied`, `unchanged` or `refused`.
    pub result: &'static str,
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// Why it was refused.
    pub problems: Option<Problems>,
    /// Changed fields that only a restart will apply.
    pub restart_required: Vec<String>,
}

/// Something outside the snapshot that has to be ready before the swap (a listener with its certificates): prepares
/// itself for a configuration.
pub type Participant = Box<dyn Fn(&Config) -> Result<Install, String> + Send + Sync>;

/// The step that puts a participant's new state in force.
pub type Install = Box<dyn FnOnce() + Send>;

/// Applies configurations.
pub struct Controller {
    state: Arc<State>,
    /// The file; none when the configuration came from flags.
    file: Option<PathBuf>,
    environment: Environment,
    participants: Vec<Participant>,
    tasks: Tasks,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Health checks and resolution of each cluster in force.
    running: HashMap<Name, Tasks>,
    files: Vec<PathBuf>,
    digest: [u8; 32],
    last: LastReload,
}

impl Controller {
    /// A controller over the configuration `loaded` that `state` was made from. Starts its health checks.
    ///
    /// Must be called inside the control runtime.
    pub fn new(
        state: Arc<State>,
        file: Option<PathBuf>,
        environment: Environment,
        participants: Vec<Participant>,
        loaded: &Loaded,
        tasks: Tasks,
    ) -> Arc<Self> {
        let last = LastReload {
            result: "applied",
            at: state.clock.now().as_secs(),
            problems: None,
            restart_required: Vec::new(),
        };
        let inner = Inner {
            running: HashMap::new(),
            files: loaded.files.clone(),
            digest: loaded.digest,
            last,
        };
        let controller = Arc::new(Self {
            state,
            file,
            environment,
            participants,
            tasks,
            inner: Mutex::new(inner),
        });
        let snapshot = controller.state.snapshot.load_full();
        controller.run_clusters(&mut controller.inner.lock(), &snapshot, None);
        controller
    }

    /// The files whose change matters.
    pub fn files(&self) -> Vec<PathBuf> {
        self.inner.lock().files.clone()
    }

    /// Whether a file differs from what is in force or was last refused. Reads the files.
    pub fn is_outdated(&self) -> bool {
        let (files, digest) = {
            let inner = self.inner.lock();
            (inner.files.clone(), inner.digest)
        };
        self.file.is_some() && config::content_digest(&files) != digest
    }

    /// The last reload.
    pub fn last(&self) -> LastReload {
        self.inner.lock().last.clone()
    }

    /// Checks a configuration without applying it.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn validate(&self, text: &str) -> Result<Loaded, Problems> {
        let directory = self
            .file
            .as_ref()
            .and_then(|file| file.parent())
            .unwrap_or_else(|| ".".as_ref());
        config::parse("request", text, directory, &self.environment)
    }

    /// Reads the file again and applies it. Blocks on file I/O; reloads take turns.
    ///
    /// Must be called inside the control runtime.
    pub fn reload(&self) -> Outcome {
        let mut inner = self.inner.lock();
        let outcome = self.attempt(&mut inner);
        let now = self.state.clock.now();
        inner.last = LastReload::of(&outcome, now);
        self.announce(&outcome);
        outcome
    }

    fn attempt(&self, inner: &mut Inner) -> Outcome {
        let current = self.state.snapshot.load_full();
        let Some(file) = &self.file else {
            return Outcome::Unchanged {
                generation: current.generation,
            };
        };
        // Taken before the file is parsed: a change in between makes the next check see a difference.
        let digest = config::content_digest(&inner.files);
        let loaded = match config::load(file, &self.environment) {
            Ok(loaded) => loaded,
            Err(problems) => {
                inner.digest = digest;
                return Outcome::Refused(problems);
            }
        };
        if loaded.digest == inner.digest && loaded.config.hash == current.config.hash {
            return Outcome::Unchanged {
                generation: current.generation,
            };
        }
        let restart_required = config::restart_required(&current.config, &loaded.config);
        inner.digest = loaded.digest;
        // Also those of a configuration that is refused below: one of them may be what has to be mended.
        inner.files = loaded.files;
        let staged = self.stage(&loaded.config);
        let built = build(
            loaded.config,
            Some(&current),
            &self.state.telemetry,
            &self.state.clock,
        );
        let (snapshot, staged) = match (built, staged) {
            (Ok(snapshot), Ok(staged)) => (Arc::new(snapshot), staged),
            (Err(problems), _) | (_, Err(problems)) => return Outcome::Refused(problems),
        };
        for install in staged {
            install();
        }
        self.run_clusters(inner, &snapshot, Some(&current));
        self.state.snapshot.store(Arc::clone(&snapshot));
        self.retain_series(&snapshot);
        Outcome::Applied {
            generation: snapshot.generation,
            hash: Arc::clone(&snapshot.config.hash),
            restart_required,
        }
    }

    fn stage(&self, config: &Config) -> Result<Vec<Install>, Problems> {
        let (ready, failed): (Vec<_>, Vec<_>) = self
            .participants
            .iter()
            .map(|participant| participant(config))
            .partition(Result::is_ok);
        let problems: Vec<_> = failed
            .into_iter()
            .filter_map(Result::err)
            .map(|message| ("listeners".to_owned(), message))
            .collect();
        if problems.is_empty() {
            Ok(ready.into_iter().flatten().collect())
        } else {
            Err(listed(problems))
        }
    }

    /// Starts the clusters that are new in `snapshot` and stops those that are gone.
    fn run_clusters(&self, inner: &mut Inner, snapshot: &Snapshot, previous: Option<&Snapshot>) {
        let before = std::mem::take(&mut inner.running);
        let mut kept = HashMap::new();
        for (name, cluster) in &snapshot.clusters {
            let same = previous
                .and_then(|previous| previous.clusters.get(name))
                .is_some_and(|old| Arc::ptr_eq(old, cluster));
            let tasks = match before.get(name) {
                Some(tasks) if same => tasks.clone(),
                _ => {
                    let tasks = self.tasks.child();
                    cluster.start(&tasks);
                    tasks
                }
            };
            kept.insert(Arc::clone(name), tasks);
        }
        for (name, tasks) in before {
            let still = snapshot
                .clusters
                .get(&name)
                .zip(previous.and_then(|previous| previous.clusters.get(&name)));
            if !still.is_some_and(|(new, old)| Arc::ptr_eq(new, old)) {
                tasks.cancel();
            }
        }
        inner.running = kept;
    }

    /// Takes the series of what is gone out of the metrics, and takes over the settings of telemetry.
    fn retain_series(&self, snapshot: &Snapshot) {
        let telemetry = &self.state.telemetry;
        let names: Vec<&str> = snapshot.routes.iter().map(|route| &*route.config.name).collect();
        telemetry.retain_routes(&names);
        telemetry.retain_endpoints(|upstream, endpoint| {
            let cluster = snapshot.clusters.get(upstream);
            cluster.is_some_and(|cluster| cluster.status().iter().any(|row| row.address == endpoint))
        });
        if let Err(error) = telemetry.apply(&snapshot.config.telemetry) {
            tracing::error!(%error, "the access log cannot be started");
        }
    }

    fn announce(&self, outcome: &Outcome) {
        let current = self.state.snapshot.load();
        let (generation, hash) = (current.generation, &*current.config.hash);
        let (result, detail) = match outcome {
            Outcome::Applied { restart_required, .. } => (ReloadResult::Applied, restart_required.join(", ")),
            Outcome::Unchanged { .. } => (ReloadResult::Unchanged, String::new()),
            Outcome::Refused(problems) => (ReloadResult::Refused, problems.to_string()),
        };
        self.state.telemetry.emit(Event::ConfigReloaded {
            result,
            hash,
            generation,
            detail: &detail,
        });
    }

    /// Reloads on a thread that may block.
    ///
    /// Must be called inside the control runtime.
    pub async fn reload_in_background(controller: Arc<Self>) -> Option<Outcome> {
        let runtime = tokio::runtime::Handle::current();
        let reload = move || {
            let _inside = runtime.enter();
            controller.reload()
        };
        tokio::task::spawn_blocking(reload)
            .await
            .inspect_err(|error| tracing::error!(%error, "reload"))
            .ok()
    }
}

impl LastReload {
    fn of(outcome: &Outcome, now: Timestamp) -> Self {
        let (result, problems, restart_required) = match outcome {
            Outcome::Applied { restart_required, .. } => ("applied", None, restart_required.clone()),
            Outcome::Unchanged { .. } => ("unchanged", None, Vec::new()),
            Outcome::Refused(problems) => ("refused", Some(problems.clone()), Vec::new()),
        };
        Self {
            result,
            at: now.as_secs(),
            problems,
            restart_required,
        }
    }
}

/// Problems that are found behind the text: in the files it names, say.
fn listed(problems: Vec<(String, String)>) -> Problems {
    let problem = |(path, message)| Problem {
        file: String::new(),
        path,
        line: 0,
        column: 0,
        message,
        hint: None,
        excerpt: String::new(),
    };
    Problems(problems.into_iter().map(problem).collect())
}

/// Builds a snapshot. Clusters whose configuration did not change are taken over with their health and load; a
/// cluster with TLS is always built anew, because its files may have changed.
///
/// # Errors
/// Every upstream that cannot be built.
pub fn build(
    config: Config,
    previous: Option<&Snapshot>,
    telemetry: &Telemetry,
    clock: &Clock,
) -> Result<Snapshot, Problems> {
    let mut clusters = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, upstream) in &config.upstreams {
        match cluster(upstream, previous, clock) {
            Ok(cluster) => {
                clusters.insert(Arc::clone(name), cluster);
            }
            Err(message) => problems.push((format!("upstreams.{name}"), message)),
        }
    }
    if !problems.is_empty() {
        return Err(listed(problems));
    }
    let routes = config
        .routes
        .iter()
        .filter_map(|route| {
            let cluster = Arc::clone(clusters.get(&route.upstream)?);
            let metrics = telemetry.route(&route.name);
            Some(Arc::new(ActiveRoute {
                config: Arc::clone(route),
                cluster,
                metrics,
            }))
        })
        .collect();
    Ok(Snapshot {
        generation: previous.map_or(1, |previous| previous.generation + 1),
        router: Router::build(&config.routes),
        routes,
        clusters,
        config: Arc::new(config),
    })
}

fn cluster(
    upstream: &Arc<Upstream>,
    previous: Option<&Snapshot>,
    clock: &Clock,
) -> Result<Arc<Cluster>, String> {
    let old = previous.and_then(|previous| previous.clusters.get(&upstream.name));
    if let Some(old) = old.filter(|old| upstream.tls.is_none() && **old.config() == **upstream) {
        return Ok(Arc::clone(old));
    }
    let cluster = Cluster::build(Arc::clone(upstream), clock.clone()).map_err(|error| error.to_string())?;
    if let Some(old) = old {
        cluster.inherit(old);
    }
    Ok(cluster)
}
