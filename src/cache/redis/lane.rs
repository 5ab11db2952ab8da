//! What one runtime uses: its own connections, so that a call wakes no other thread.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue};

use super::cluster::Cluster;
use super::connection::How;
use super::dial::{Dialed, Dialer};
use super::node::{CONNECT_LIMIT, Node, Target};
use super::sentinel::Sentinels;
use crate::cache::level::LevelError;
use crate::config::{RedisLevel, RedisMode, RedisServer};
use crate::tasks::Tasks;

/// The connections of one runtime.
#[derive(Debug)]
pub(super) enum Lane {
    /// To one server: the configured one, or the primary.
    Server {
        /// Keeps the connection up.
        node: Node,
        /// Which server.
        target: Target,
        /// Opens further connections.
        dialer: Arc<Dialer>,
    },
    /// To the nodes of a cluster.
    Cluster(Cluster),
}

impl Lane {
    /// Begins to connect. Must be called inside the runtime that will use the lane.
    pub(super) fn start(config: &RedisLevel, dialer: &Arc<Dialer>, tasks: &Tasks) -> Self {
        let target = match &config.mode {
            RedisMode::Cluster => return Self::Cluster(Cluster::start(&config.servers, dialer, tasks)),
            RedisMode::Single => Target::Server(config.servers.first().cloned().unwrap_or_else(nowhere)),
            RedisMode::Sentinel { master, credentials } => {
                Target::Primary(Arc::new(Sentinels::new(&config.servers, master, credentials)))
            }
        };
        Self::Server {
            node: Node::start(target.clone(), dialer, tasks),
            target,
            dialer: Arc::clone(dialer),
        }
    }

    /// Sends `command` to the server of `key`. The deadline is the caller's.
    pub(super) async fn send<T: FromRedisValue>(&self, key: &[u8], command: &Cmd) -> Result<T, LevelError> {
        match self {
            Self::Server { node, .. } => {
                let connection = node.connection().await?;
                let answer = connection.send(command, How::Plain).await;
                answer.map_err(|failure| failure.error)
            }
            Self::Cluster(cluster) => cluster.send(key, command).await,
        }
    }

    /// A connection to the server of `key`, for the caller alone.
    pub(super) async fn dial(&self, key: &[u8]) -> Result<Dialed, LevelError> {
        match self {
            Self::Server { target, dialer, .. } => {
                let server = target.server(dialer).await?;
                dialer.dial(&server, CONNECT_LIMIT).await
            }
            Self::Cluster(cluster) => cluster.dial(key).await,
        }
    }

    /// A dedicated connection was told that it is at the wrong node.
    pub(super) fn has_moved(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.has_changed();
        }
    }

    /// Whether nobody works for it any more, because the runtime is gone or the process ends.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Server { node, .. } => node.has_ended(),
            Self::Cluster(cluster) => cluster.has_ended(),
        }
    }
}

/// The resolved configuration names at least one server; without one, nothing answers.
fn nowhere() -> RedisServer {
    RedisServer {
        host: String::new(),
        port: 0,
    }
}
