//! The workers: one thread each, with a runtime, a socket of every listener, and upstream connections of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::connection::Stage;
use super::handler::Proxy;
use super::listener::{self, Acceptor, SharedListener};
use super::sweep::Sweeper;
use super::tls::{ReloadingTls, TlsError};
use super::worker::Worker;
use crate::cache::status::LastValue;
use crate::config::{self, Name};
use crate::control::state::State;
use crate::tasks::Tasks;
use crate::telemetry::trace::IdSource;
use crate::upstream::WorkerPool;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot bind listener `{name}` to {address}: {source}")]
    Bind {
        /// The listener.
        name: Name,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error("listener `{name}`: {source}")]
    Tls {
        /// The listener.
        name: Name,
        /// The cause.
        source: Box<TlsError>,
    },
}

/// A listener with a socket for each worker.
#[derive(Debug)]
pub struct Bound {
    /// Its name.
    pub name: Name,
    /// The address it got.
    pub address: SocketAddr,
    /// What the workers share of it.
    pub shared: Arc<SharedListener>,
    sockets: Vec<std::net::TcpListener>,
}

/// Opens every listener for `workers` workers.
///
/// # Errors
/// The first listener that cannot be opened.
pub fn bind(listeners: &[Arc<config::Listener>], workers: usize) -> Result<Vec<Bound>, BindError> {
    listeners
        .iter()
        .map(|listener| bind_one(listener, workers))
        .collect()
}

fn bind_one(config: &Arc<config::Listener>, workers: usize) -> Result<Bound, BindError> {
    let name = &config.name;
    let failed = |source| BindError::Bind {
        name: Arc::clone(name),
        address: config.bind,
        source,
    };
    let tls = config.tls.as_ref().map(ReloadingTls::load).transpose();
    let tls = tls.map_err(|source| BindError::Tls {
        name: Arc::clone(name),
        source: Box::new(source),
    })?;
    let sockets = listener::bind(config, workers).map_err(failed)?;
    let first = sockets
        .first()
        .ok_or_else(|| failed(io::Error::other("there are no workers")))?;
    let address = first.local_addr().map_err(failed)?;
    let shared = Arc::new(SharedListener::new(Arc::clone(config), tls.map(Arc::new)));
    Ok(Bound {
        name: Arc::clone(name),
        address,
        shared,
        sockets,
    })
}

/// The running workers.
#[derive(Debug)]
pub struct Fleet {
    workers: Vec<WorkerThread>,
    /// How far all workers are on their way out.
    stages: tokio::sync::watch::Sender<Stage>,
    /// Cancelled when the time for draining is over.
    over: CancellationToken,
}

#[derive(Debug)]
struct WorkerThread {
    /// Resolves when the worker has ended; true when all its requests had.
    ended: oneshot::Receiver<bool>,
    thread: std::thread::JoinHandle<()>,
}

/// What a worker thread starts with.
struct Start {
    sockets: Vec<(Arc<SharedListener>, std::net::TcpListener)>,
    state: Arc<State>,
    ids: IdSource,
    stages: tokio::sync::watch::Receiver<Stage>,
    over: CancellationToken,
}

impl Fleet {
    /// Starts `count` workers on the sockets of `bound`.
    ///
    /// # Errors
    /// When the machine refuses a thread or a runtime; workers started before end with the fleet.
    pub fn start(bound: Vec<Bound>, state: &Arc<State>, count: usize) -> io::Result<Self> {
        let (stages, _) = tokio::sync::watch::channel(Stage::Open);
        let over = CancellationToken::new();
        let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for listener in bound {
            listener.shared.count_in(state.telemetry.listener(&listener.name));
            for (worker, socket) in sockets.iter_mut().zip(listener.sockets) {
                worker.push((Arc::clone(&listener.shared), socket));
            }
        }
        let mut workers = Vec::with_capacity(count);
        for (number, sockets) in sockets.into_iter().enumerate() {
            let start = Start {
                sockets,
                state: Arc::clone(state),
                ids: IdSource::new(),
                stages: stages.subscribe(),
                // A worker that has ended cancels its own, not the others'.
                over: over.child_token(),
            };
            workers.push(spawn(number, start)?);
        }
        Ok(Self {
            workers,
            stages,
            over,
        })
    }

    /// Begins to drain: the next answer on each connection is its last, new connections are still accepted.
    pub fn begin_drain(&self) {
        self.stages.send_replace(Stage::Draining);
    }

    /// Stops accepting and waits at most `limit` for requests under way. Returns whether all of them ended.
    pub async fn drain(self, limit: Duration) -> bool {
        self.stages.send_replace(Stage::Closing);
        let over = self.over.clone();
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let mut all = true;
        for worker in self.workers {
            let mut ended = worker.ended;
            let finished = tokio::select! {
                finished = &mut ended => finished,
                () = &mut deadline, if !over.is_cancelled() => {
                    over.cancel();
                    ended.await
                }
            };
            all &= finished.unwrap_or(false);
            // The thread has nothing left to do but to return.
            all &= worker.thread.join().is_ok();
        }
        all
    }
}

fn spawn(number: usize, start: Start) -> io::Result<WorkerThread> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tell, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let finished = runtime.block_on(work(start));
            if tell.send(finished).is_err() {
                tracing::debug!("the fleet was dropped before its worker ended");
            }
        })?;
    Ok(WorkerThread { ended, thread })
}

/// The life of a worker. Returns whether all requests ended by themselves.
async fn work(start: Start) -> bool {
    let Start {
        sockets,
        state,
        ids,
        mut stages,
        over,
    } = start;
    let clock = state.clock.clone();
    let background = Tasks::new();
    let requests = Tasks::new();
    let worker = Arc::new(Worker {
        pool: WorkerPool::new(&background, clock.clone()),
        tasks: requests.clone(),
        ids,
        state,
        cache_status: LastValue::default(),
    });
    let sweeper = Sweeper::new(clock);
    let stop_accepting = CancellationToken::new();
    let accepting = Tasks::new();
    for (shared, socket) in sockets {
        let acceptor = Acceptor {
            shared,
            sweeper: sweeper.clone(),
            handler: Proxy::new(Arc::clone(&worker)),
            tasks: requests.clone(),
        };
        let stop = stop_accepting.clone();
        accepting.spawn("accept", async move {
            if let Err(error) = acceptor.accept_loop(socket, stop).await {
                tracing::error!(%error, "accepting ended");
            }
        });
    }
    let sweeping = background.spawn_to_end(sweeper.clone().run(over.clone()));
    let mut stage = Stage::Open;
    while stage < Stage::Closing {
        stage = match stages.changed().await {
            Ok(()) => *stages.borrow_and_update(),
            Err(_fleet_dropped) => Stage::Closing,
        };
        if stage == Stage::Closing {
            // Those that wait in the kernel's queue are accepted first, and get their one answer.
            stop_accepting.cancel();
            accepting.drained(Duration::from_secs(1)).await;
        }
        sweeper.advance_to(stage);
    }
    let finished = tokio::select! {
        finished = requests.drained(Duration::MAX) => finished,
        () = over.cancelled() => {
            requests.drained(Duration::from_millis(500)).await;
            false
        }
    };
    over.cancel();
    drop(sweeping);
    background.cancel();
    finished
}
