//! Sockets that clients connect to, and the loop that accepts them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::connection::{ConnectionState, Handler, Open};
use super::downstream::{Protocol, serve_connection, unless_ended};
use super::sweep::Sweeper;
use super::tls::ReloadingTls;
use crate::config;
use crate::tasks::Tasks;
use crate::telemetry::connections::{ListenerMetrics, OpenConnection};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after the first failure to accept; each further one doubles it.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// Longest pause after failures to accept.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Time between two looks for a free place when the listener is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// Descriptors kept for the admin side, files and everything else that is not a client's.
const RESERVED_DESCRIPTORS: usize = 64;

/// Binds `listener` once for each worker; the kernel spreads connections over the sockets (`SO_REUSEPORT`).
///
/// With port 0 all share the port that the first was given.
///
/// # Errors
/// Those of the socket calls, address in use above all.
pub fn bind(listener: &config::Listener, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut address = listener.bind;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(SocketProtocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = std::net::TcpListener::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// What the workers share of one listener.
#[derive(Debug)]
pub struct SharedListener {
    current: ArcSwap<config::Listener>,
    tls: Option<Arc<ReloadingTls>>,
    open: Arc<AtomicUsize>,
    affordable: usize,
    metrics: OnceLock<Arc<ListenerMetrics>>,
}

impl SharedListener {
    /// A listener without connections. `tls` must be given exactly when `listener` has TLS.
    ///
    /// Whatever the configuration says, a listener takes no more connections than half of the process's descriptors
    /// allow (every client may need one towards an upstream), so that the admin side can always be reached.
    pub fn new(listener: Arc<config::Listener>, tls: Option<Arc<ReloadingTls>>) -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let affordable = affordable(usize::try_from(descriptors).unwrap_or(usize::MAX));
        Self {
            current: ArcSwap::new(listener),
            tls,
            open: Arc::default(),
            affordable,
            metrics: OnceLock::new(),
        }
    }

    /// Shows the open connections in `metrics` too, from now on.
    pub fn count_in(&self, metrics: Arc<ListenerMetrics>) {
        self.metrics.get_or_init(|| metrics);
    }

    /// Takes limits and trusted proxies of a new configuration; open connections keep the old ones. TLS itself comes
    /// and goes with a restart only.
    pub fn reconfigure(&self, mut listener: Arc<config::Listener>) {
        if listener.tls.is_some() != self.tls.is_some() {
            Arc::make_mut(&mut listener).tls = self.current.load().tls.clone();
        }
        self.current.store(listener);
    }

    /// The listener's name.
    pub fn name(&self) -> config::Name {
        Arc::clone(&self.current.load().name)
    }

    /// The certificates, if the listener has TLS.
    pub fn tls(&self) -> Option<&ReloadingTls> {
        self.tls.as_deref()
    }

    /// Open connections over all workers.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    fn is_full(&self) -> bool {
        self.open() >= self.current.load().limits.connections.min(self.affordable)
    }
}

/// One connection's place among the open ones of its listener.
#[derive(Debug)]
pub struct Place {
    open: Arc<AtomicUsize>,
    _shown: Option<OpenConnection>,
}

impl Place {
    fn take(listener: &SharedListener) -> Self {
        listener.open.fetch_add(1, Relaxed);
        Self {
            open: Arc::clone(&listener.open),
            _shown: listener.metrics.get().map(ListenerMetrics::connection_opened),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// One worker's part in a listener.
#[derive(Debug)]
pub struct Acceptor<H> {
    /// Shared with the other workers.
    pub shared: Arc<SharedListener>,
    /// The worker's connections.
    pub sweeper: Sweeper,
    /// Answers the requests.
    pub handler: H,
    /// Where connections run; the sweeper ends them, not the group's token.
    pub tasks: Tasks,
}

impl<H: Handler> Acceptor<H> {
    /// Accepts connections from `socket` until `stop`, then those that wait already, and closes the socket. Open
    /// connections go on.
    ///
    /// # Errors
    /// When the socket cannot be used with this runtime.
    pub async fn accept_loop(self, socket: std::net::TcpListener, stop: CancellationToken) -> io::Result<()> {
        let socket = TcpListener::from_std(socket)?;
        let mut backoff = Backoff::default();
        while let Some(accepted) = stop.run_until_cancelled(self.accept(&socket)).await {
            match accepted {
                Ok((stream, peer)) => {
                    backoff = Backoff::default();
                    self.serve(stream, peer);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if backoff == Backoff::default() {
                        tracing::warn!(%error, "accepting pauses");
                    }
                    stop.run_until_cancelled(tokio::time::sleep(backoff.next())).await;
                }
            }
        }
        // Closing the socket would reset what the kernel has accepted in the meantime.
        let socket = socket.into_std()?;
        while let Ok((stream, peer)) = socket.accept() {
            stream.set_nonblocking(true)?;
            self.serve(TcpStream::from_std(stream)?, peer);
        }
        Ok(())
    }

    async fn accept(&self, socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        while self.shared.is_full() {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        socket.accept().await
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        // Without it small answers could wait for acknowledgements; a socket that refuses it is closed already.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let listener = self.shared.current.load_full();
        let state = Arc::new(ConnectionState::new(peer, listener, self.sweeper.coarse_clock()));
        let open = Open::new(Arc::clone(&state), Some(Place::take(&self.shared)));
        self.sweeper.watch(state);
        let (shared, handler, tasks) = (Arc::clone(&self.shared), self.handler.clone(), self.tasks.clone());
        let connection = async move {
            match shared.tls() {
                None => serve_connection(stream, open, None, handler, &tasks).await,
                Some(tls) => serve_tls(tls, stream, open, handler, &tasks).await,
            }
        };
        // The sweeper ends connections; nobody needs the handle.
        drop(self.tasks.spawn_to_end(connection));
    }
}

async fn serve_tls<H: Handler>(tls: &ReloadingTls, stream: TcpStream, open: Open, handler: H, tasks: &Tasks) {
    let handshake = unless_ended(open.state(), tls.acceptor().accept(stream)).await;
    let stream = match handshake {
        None => return,
        Some(Err(error)) => {
            tracing::debug!(peer = %open.state().peer(), %error, "TLS handshake failed");
            return;
        }
        Some(Ok(stream)) => stream,
    };
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Some(Protocol::Http2),
        Some(_) => Some(Protocol::Http1),
        None => None,
    };
    serve_connection(stream, open, protocol, handler, tasks).await;
}

/// Errors that concern only the connection at the head of the queue (accept(2), "Error handling"). After any other
/// the loop pauses: descriptors or memory have run out.
fn is_about_one_connection(error: &io::Error) -> bool {
    let one = [
        Errno::ECONNABORTED,
        Errno::ECONNRESET,
        Errno::EINTR,
        Errno::EPROTO,
        Errno::EPERM,
    ];
    one.iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Connections that `descriptors` allow.
fn affordable(descriptors: usize) -> usize {
    (descriptors.saturating_sub(RESERVED_DESCRIPTORS.min(descriptors / 2)) / 2).max(1)
}

/// Pauses that double.
#[derive(Debug, Default, PartialEq)]
struct Backoff(Duration);

impl Backoff {
    fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        self.0
    }
}

#[cfg(test)]
mod tests;
