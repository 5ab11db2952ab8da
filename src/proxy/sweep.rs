//! Deadlines of client connections without a timer for each.
//!
//! Every worker keeps a list of its open connections and walks over it a few times a second, looking at a handful of
//! atomics each. Ten thousand idle connections cost well under a millisecond per walk and nothing in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::connection::{ConnectionState, Stage};
use crate::clock::{Clock, CoarseClock};

/// Time between two walks; deadlines are kept to this precision.
const TICK: Duration = Duration::from_millis(250);

/// Why a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overdue {
    /// A request head (or the TLS handshake before the first) took too long.
    SlowHead,
    /// A request body came more slowly than the listener's lowest rate.
    SlowBody,
    /// The client did not take what was sent.
    SlowReader,
    /// Nothing was sent in either direction.
    Idle,
    /// The worker ends, and its time for draining is over.
    Shutdown,
}

impl Overdue {
    const ALL: [Self; 5] = [
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowReader,
        Self::Idle,
        Self::Shutdown,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow-head",
            Self::SlowBody => "slow-body",
            Self::SlowReader => "slow-reader",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
        }
    }

    /// A number from 1 on, for an atomic in which 0 means none.
    pub(super) const fn code(self) -> u8 {
        self as u8 + 1
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// The open connections of one worker. Clones share them.
#[derive(Clone, Debug)]
pub struct Sweeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    coarse: CoarseClock,
    connections: Mutex<Vec<Arc<ConnectionState>>>,
    stage: AtomicU8,
}

impl Sweeper {
    /// No connections yet.
    pub fn new(clock: Clock) -> Self {
        let coarse = CoarseClock::new(&clock);
        Self(Arc::new(Shared {
            clock,
            coarse,
            connections: Mutex::new(Vec::new()),
            stage: AtomicU8::new(Stage::Open.code()),
        }))
    }

    /// The clock that connections of this worker note their progress by.
    pub fn coarse_clock(&self) -> CoarseClock {
        self.0.coarse.clone()
    }

    /// Watches over `connection` until it closes.
    pub fn watch(&self, connection: Arc<ConnectionState>) {
        let mut connections = self.0.connections.lock();
        // Under the lock, so that a change of stage either is seen here or sees the connection.
        connection.advance_to(Stage::from_code(self.0.stage.load(Relaxed)));
        connections.push(connection);
    }

    /// Connections that were open at the last walk, and those opened since.
    pub fn open(&self) -> usize {
        self.0.connections.lock().len()
    }

    /// Tells every connection, also later ones, how far the worker is on its way out.
    pub fn advance_to(&self, stage: Stage) {
        let connections = self.0.connections.lock();
        self.0.stage.fetch_max(stage.code(), Relaxed);
        for connection in connections.iter() {
            connection.advance_to(stage);
        }
    }

    /// Ends every connection.
    pub fn end_all(&self) {
        for connection in self.0.connections.lock().iter() {
            connection.end(Overdue::Shutdown);
        }
    }

    /// One walk: moves the coarse clock, forgets closed connections, ends overdue ones.
    pub fn sweep(&self) {
        let now = self.0.clock.now();
        let elapsed = self.0.coarse.advance(now);
        self.0.connections.lock().retain(|connection| {
            if connection.is_closed() {
                return false;
            }
            if connection.ended().is_none()
                && let Some(reason) = connection.overdue(now, elapsed)
            {
                tracing::debug!(peer = %connection.peer(), reason = reason.as_str(), "connection ended");
                connection.end(reason);
            }
            true
        });
    }

    /// Walks until `stop`, then ends every connection that is left.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.sweep();
        }
        self.end_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::proxy::connection::{Open, testing};

    #[test]
    fn closed_connections_are_forgotten_and_overdue_ones_ended() {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let sweeper = Sweeper::new(clock.clone());
        let peer = "192.0.2.1:1".parse().unwrap();
        let listener = Arc::new(testing::listener());
        let connections = [0, 1].map(|_| {
            let state = Arc::new(ConnectionState::new(
                peer,
                Arc::clone(&listener),
                sweeper.coarse_clock(),
            ));
            sweeper.watch(Arc::clone(&state));
            Open::new(state, None)
        });
        let [first, second] = connections;
        drop(first);
        sweeper.sweep();
        assert_eq!(sweeper.open(), 1);
        clock.advance(Duration::from_secs(10));
        assert_eq!(second.state().ended(), None);
        sweeper.sweep();
        assert_eq!(second.state().ended(), Some(Overdue::SlowHead));
    }

    #[test]
    fn a_connection_that_comes_during_draining_learns_it() {
        let sweeper = Sweeper::new(Clock::manual(Timestamp::from_secs(1000)));
        sweeper.advance_to(Stage::Draining);
        let open = testing::open();
        sweeper.watch(Arc::clone(open.state()));
        assert!(open.state().has_reached(Stage::Draining));
        assert!(!open.state().has_reached(Stage::Closing));
    }
}
