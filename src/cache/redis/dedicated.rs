//! A connection for one caller alone, for commands that block.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Value};
use tokio::task::AbortHandle;

use super::dial::Dialed;
use super::failure::{Failure, Then, level_error};
use super::lane::Lane;
use crate::cache::level::LevelError;
use crate::tasks::Tasks;

/// A connection that nobody else uses; dropping it closes it.
///
/// It is not made again when it breaks: after any error but [`LevelError::Refused`], drop it and ask the client for
/// another, which leads to the server that is the right one then.
#[derive(Debug)]
pub struct DedicatedConnection {
    redis: MultiplexedConnection,
    driver: AbortHandle,
    lane: Arc<Lane>,
}

impl DedicatedConnection {
    pub(super) fn new(dialed: Dialed, lane: Arc<Lane>, tasks: &Tasks) -> Self {
        let driver = tasks.spawn("redis connection, dedicated", dialed.driver);
        Self {
            redis: dialed.redis,
            driver: driver.abort_handle(),
            lane,
        }
    }

    /// Sends `command` and gives its answer within `limit`, which must be longer than the command may block.
    ///
    /// Does not follow redirects: [`LevelError::Unreachable`] says that another server should be asked.
    pub async fn call<T: FromRedisValue>(&mut self, limit: Duration, command: &Cmd) -> Result<T, LevelError> {
        let answer = tokio::time::timeout(limit, self.redis.send_packed_command(command))
            .await
            .map_err(|_| LevelError::Timeout)?;
        let value = answer
            .and_then(Value::extract_error)
            .map_err(|error| self.failed(error.into()))?;
        redis::from_redis_value(value).map_err(|error| level_error(&error.into()))
    }

    fn failed(&self, failure: Failure) -> LevelError {
        match (failure.then, failure.error) {
            (Then::Nothing, error) => error,
            (Then::Moved(_) | Then::Ask(_), _) => {
                self.lane.has_moved();
                LevelError::Unreachable("another node serves the key".to_owned())
            }
            (Then::Renew, error) => LevelError::Unreachable(error.to_string()),
        }
    }
}

impl Drop for DedicatedConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
