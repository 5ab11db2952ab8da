//! Keeps one connection to one server up, in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::connection::{Connection, Worn};
use super::dial::Dialer;
use super::sentinel::Sentinels;
use crate::cache::level::LevelError;
use crate::config::RedisServer;
use crate::tasks::Tasks;

/// Time for a name look-up, TCP, TLS and the login together.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A connection that lived as long as this was good: when it ends, another is made at once.
const SETTLED: Duration = Duration::from_secs(1);
/// Time between two looks at who is primary, for a primary that was replaced and does not know it.
const PRIMARY_CHECK: Duration = Duration::from_secs(5);
/// Time in which a connection that was replaced may finish what it was asked.
const GRACE: Duration = Duration::from_secs(1);

/// Which server a node leads to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// This one.
    Server(RedisServer),
    /// Whichever the sentinels name.
    Primary(Arc<Sentinels>),
}

impl Target {
    /// The server at this moment.
    pub(super) async fn server(&self, dialer: &Dialer) -> Result<RedisServer, LevelError> {
        match self {
            Self::Server(server) => Ok(server.clone()),
            Self::Primary(sentinels) => sentinels.primary(dialer).await,
        }
    }
}

/// One server, and the connection to it. The connection is kept up until the node is dropped.
#[derive(Debug)]
pub(super) struct Node {
    state: watch::Receiver<State>,
}

/// Whether the server can be asked.
#[derive(Clone)]
enum State {
    /// Not known yet: the first attempt is under way, or the first after a good connection ended.
    Connecting,
    /// It can.
    Up(Connection),
    /// The last attempt failed; more are made.
    Down(LevelError),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("Connecting"),
            Self::Up(_) => f.write_str("Up"),
            Self::Down(error) => f.debug_tuple("Down").field(error).finish(),
        }
    }
}

impl Node {
    /// Begins to connect. Must be called inside the runtime that will use the node.
    pub(super) fn start(target: Target, dialer: &Arc<Dialer>, tasks: &Tasks) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        let keeper = Keeper {
            target,
            dialer: Arc::clone(dialer),
            tasks: tasks.clone(),
            state: sender,
        };
        tasks.spawn("redis node", keeper.keep());
        Self { state }
    }

    /// The connection. Waits while it is not known whether there is one; the deadline is the caller's.
    pub(super) async fn connection(&self) -> Result<Connection, LevelError> {
        match &*self.state.borrow() {
            State::Up(connection) => return Ok(connection.clone()),
            State::Down(error) => return Err(error.clone()),
            State::Connecting => {}
        }
        let mut state = self.state.clone();
        match state
            .wait_for(|state| !matches!(state, State::Connecting))
            .await
            .as_deref()
        {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(error)) => Err(error.clone()),
            Ok(State::Connecting) | Err(_) => Err(ended()),
        }
    }

    /// Whether a command can be sent now.
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Whether nobody keeps the connection any more, because the runtime it lived on is gone or the process ends.
    pub(super) fn has_ended(&self) -> bool {
        self.state.has_changed().is_err()
    }
}

fn ended() -> LevelError {
    LevelError::Unreachable("the client has ended".to_owned())
}

/// Works for a node.
struct Keeper {
    target: Target,
    dialer: Arc<Dialer>,
    tasks: Tasks,
    state: watch::Sender<State>,
}

/// A connection in use.
struct Live {
    server: RedisServer,
    connection: Connection,
    driver: JoinHandle<()>,
}

/// Why a connection is no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It broke.
    Lost,
    /// It was given up.
    Worn(Worn),
}

impl Keeper {
    async fn keep(self) {
        let unused = self.state.clone();
        tokio::select! {
            () = unused.closed() => {}
            () = self.connect() => {}
        }
    }

    /// Connects, serves, and connects again.
    async fn connect(&self) {
        let mut backoff = Backoff::new();
        loop {
            match self.open().await {
                Ok(live) => self.serve(live, &mut backoff).await,
                Err(error) => self.down(error),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn open(&self) -> Result<Live, LevelError> {
        let server = self.target.server(&self.dialer).await?;
        let dialed = self.dialer.dial(&server, CONNECT_LIMIT).await?;
        Ok(Live {
            server,
            connection: Connection::new(dialed.redis),
            driver: self.tasks.spawn("redis connection", dialed.driver),
        })
    }

    /// Lets `live` be used until it ends, replacing it without a gap where it only has to be renewed.
    async fn serve(&self, mut live: Live, backoff: &mut Backoff) {
        loop {
            tracing::debug!(server = %live.server.host, port = live.server.port, "connected to Redis");
            self.state.send_replace(State::Up(live.connection.clone()));
            let (end, settled) = self.end(&mut live).await;
            if settled {
                backoff.reset();
            }
            tracing::debug!(server = %live.server.host, port = live.server.port, ?end, "a connection to Redis ended");
            match end {
                End::Lost if settled => {
                    // Servers close idle connections; that is no reason to call the server down.
                    self.state.send_replace(State::Connecting);
                    match self.open().await {
                        Ok(next) => live = next,
                        Err(error) => return self.down(error),
                    }
                }
                End::Lost => return self.down(LevelError::Unreachable("the connection broke".to_owned())),
                End::Worn(Worn::Stalled) => {
                    live.driver.abort();
                    return self.down(LevelError::Unreachable("the server does not answer".to_owned()));
                }
                End::Worn(Worn::Renew) => {
                    // What still works (reads from a replica, say) goes on until there is better.
                    tokio::time::sleep(backoff.next()).await;
                    match self.open().await {
                        Ok(next) => self.retire(std::mem::replace(&mut live, next)),
                        Err(error) => {
                            self.retire(live);
                            return self.down(error);
                        }
                    }
                }
            }
        }
    }

    /// Waits until the connection ends. Says as well whether it had lived for long.
    async fn end(&self, live: &mut Live) -> (End, bool) {
        let mut settled = false;
        let settling = tokio::time::sleep(SETTLED);
        tokio::pin!(settling);
        let worn = live.connection.worn();
        tokio::pin!(worn);
        let replaced = self.replaced(&live.server);
        tokio::pin!(replaced);
        let end = loop {
            tokio::select! {
                () = &mut settling, if !settled => settled = true,
                _ = &mut live.driver => break End::Lost,
                worn = &mut worn => break End::Worn(worn),
                () = &mut replaced => break End::Worn(Worn::Renew),
            }
        };
        (end, settled)
    }

    /// Waits until the sentinels name another primary than `current`.
    async fn replaced(&self, current: &RedisServer) {
        let Target::Primary(sentinels) = &self.target else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(PRIMARY_CHECK).await;
            match sentinels.primary(&self.dialer).await {
                Ok(server) if server != *current => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn down(&self, error: LevelError) {
        tracing::debug!(%error, "Redis cannot be used");
        self.state.send_replace(State::Down(error));
    }

    /// Lets a connection that is no longer used finish what it was asked.
    fn retire(&self, live: Live) {
        let mut driver = live.driver;
        drop(live.connection);
        self.tasks.spawn("redis connection, retired", async move {
            if tokio::time::timeout(GRACE, &mut driver).await.is_err() {
                driver.abort();
            }
        });
    }
}
