//! The client: a lane for every runtime that calls, and a deadline for every call.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Cmd, FromRedisValue};
use tokio::runtime::{Handle, Id};

use super::dedicated::DedicatedConnection;
use super::dial::Dialer;
use super::lane::Lane;
use crate::cache::level::LevelError;
use crate::client_tls::ClientTlsError;
use crate::config::RedisLevel;
use crate::tasks::Tasks;

/// Runtimes that have connections of their own at once.
const MAX_LANES: usize = 256;

/// A client of the Redis servers of one level. Clones share its connections.
///
/// Making one connects to nothing: that begins with the first call from a runtime, in the background. Every call ends
/// within its deadline: with [`LevelError::Timeout`] when the server is slow or frozen, and at once with
/// [`LevelError::Unreachable`] while the last attempt to connect has failed. No call is repeated, except that a cluster's
/// redirects are followed.
#[derive(Clone, Debug)]
pub struct RedisClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: RedisLevel,
    dialer: Arc<Dialer>,
    tasks: Tasks,
    lanes: RwLock<Vec<(Id, Arc<Lane>)>>,
}

impl RedisClient {
    /// A client as `config` says, whose background work belongs to `tasks`. Reads the TLS files and nothing else.
    pub fn new(config: &RedisLevel, tasks: &Tasks) -> Result<Self, ClientTlsError> {
        let dialer = Dialer::new(config.tls.as_ref(), &config.credentials, config.database)?;
        Ok(Self(Arc::new(Shared {
            config: config.clone(),
            dialer: Arc::new(dialer),
            tasks: tasks.clone(),
            lanes: RwLock::new(Vec::new()),
        })))
    }

    /// How it is configured.
    pub fn config(&self) -> &RedisLevel {
        &self.0.config
    }

    /// Sends `command` and gives its answer, within the configured deadline. `key` is the key that the command is about:
    /// in a cluster it decides which node is asked.
    ///
    /// Must be called inside a tokio runtime. Dropping the future gives the command up; the server may still do it.
    pub async fn call<T: FromRedisValue>(&self, key: &[u8], command: &Cmd) -> Result<T, LevelError> {
        self.call_within(self.0.config.timeout, key, command).await
    }

    /// Like [`RedisClient::call`] with another deadline.
    pub async fn call_within<T: FromRedisValue>(
        &self,
        limit: Duration,
        key: &[u8],
        command: &Cmd,
    ) -> Result<T, LevelError> {
        let lane = self.lane()?;
        let answer = tokio::time::timeout(limit, lane.send(key, command)).await;
        answer.unwrap_or(Err(LevelError::Timeout))
    }

    /// Opens a connection for the caller alone, for commands that block, to the server of `key`. Takes at most about a
    /// second for one server and for a cluster, and a third of a second more for every sentinel that does not answer.
    pub async fn dedicated(&self, key: &[u8]) -> Result<DedicatedConnection, LevelError> {
        let lane = self.lane()?;
        let dialed = lane.dial(key).await?;
        Ok(DedicatedConnection::new(dialed, lane, &self.0.tasks))
    }

    /// The lane of the current runtime.
    fn lane(&self) -> Result<Arc<Lane>, LevelError> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(LevelError::Unreachable("called outside of a runtime".to_owned()));
        };
        let id = runtime.id();
        let own = |lanes: &[(Id, Arc<Lane>)]| {
            let (_, lane) = lanes.iter().find(|(of, lane)| *of == id && !lane.has_ended())?;
            Some(Arc::clone(lane))
        };
        if let Some(lane) = own(&self.0.lanes.read()) {
            return Ok(lane);
        }
        let mut lanes = self.0.lanes.write();
        if let Some(lane) = own(&lanes) {
            return Ok(lane);
        }
        lanes.retain(|(_, lane)| !lane.has_ended());
        if lanes.len() >= MAX_LANES {
            return Err(LevelError::Unreachable(
                "too many runtimes use the client".to_owned(),
            ));
        }
        let lane = Arc::new(Lane::start(&self.0.config, &self.0.dialer, &self.0.tasks));
        lanes.push((id, Arc::clone(&lane)));
        Ok(lane)
    }
}
