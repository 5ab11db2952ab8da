//! One connection to one server, shared by the calls of one runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::{Notify, Semaphore};

use super::failure::{Failure, Then};
use crate::cache::level::LevelError;

/// Places for commands that have no answer yet. A command takes one, and one more for each [`PLACE_BYTES`] of it, so that a
/// server that does not read makes us keep at most about 32 MiB.
const PLACES: u32 = 2048;
/// Bytes of a command that take one more place.
const PLACE_BYTES: usize = 16 << 10;
/// Time within which a server that left a call without an answer must answer at all.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// Sends commands over one connection. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    redis: MultiplexedConnection,
    load: Arc<Load>,
}

/// What is under way on a connection.
struct Load {
    places: Semaphore,
    /// Places of commands that nobody waits for any more, and whose answer has not been seen.
    abandoned: AtomicU32,
    /// Questions so far whether the server answers.
    probes: AtomicU64,
    /// A command was given up, or answered by what is no answer to it: is the server still there, and in step with us?
    doubt: Notify,
    /// The connection works, but leads to the wrong server or has the wrong login.
    renew: Notify,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// As it is.
    Plain,
    /// Behind `ASKING`, for a slot that is being moved.
    Asking,
}

impl Connection {
    /// A connection nothing was sent on yet.
    pub(super) fn new(redis: MultiplexedConnection) -> Self {
        let load = Load {
            places: Semaphore::new(PLACES as usize),
            abandoned: AtomicU32::new(0),
            probes: AtomicU64::new(0),
            doubt: Notify::new(),
            renew: Notify::new(),
        };
        Self {
            redis,
            load: Arc::new(load),
        }
    }

    /// Sends `command` and waits for its answer, without a deadline. Dropping the future gives the command up: its answer
    /// is thrown away when it comes, and the server is asked whether it still answers.
    ///
    /// An answer that cannot be one to the command raises a doubt, too.
    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd, how: How) -> Result<T, Failure> {
        let place = self.load.place(command)?;
        let mut redis = self.redis.clone();
        let answer = match how {
            How::Plain => redis.send_packed_command(command).await,
            How::Asking => asking(&mut redis, command).await,
        };
        place.free();
        let value = answer.and_then(Value::extract_error).map_err(Failure::from);
        let value = value.inspect_err(|failure| {
            if failure.then == Then::Renew {
                self.load.renew.notify_one();
            }
        })?;
        T::from_redis_value(value).map_err(|error| {
            self.load.doubt.notify_one();
            Failure::from(RedisError::from(error))
        })
    }

    /// Waits for a reason to give the connection up, although it is open.
    pub(super) async fn worn(&self) -> Worn {
        loop {
            tokio::select! {
                () = self.load.renew.notified() => return Worn::Renew,
                () = self.load.doubt.notified() => {
                    if !self.answers().await {
                        return Worn::Stalled;
                    }
                }
            }
        }
    }

    /// Whether the server answers, and what it was asked. When it does, it has answered everything that was sent before as
    /// well, and no answer went astray.
    async fn answers(&self) -> bool {
        let abandoned = self.load.abandoned.swap(0, Ordering::AcqRel);
        let token = self.load.probes.fetch_add(1, Ordering::Relaxed).to_string();
        let mut redis = self.redis.clone();
        let mut ping = redis::cmd("PING");
        ping.arg(&token);
        let answer = tokio::time::timeout(PROBE_LIMIT, redis.send_packed_command(&ping)).await;
        self.load.places.add_permits(abandoned as usize);
        match answer {
            Ok(Ok(Value::BulkString(answer))) => answer == token.as_bytes(),
            // While it loads its data, it refuses even this.
            Ok(Ok(Value::ServerError(_))) => true,
            _ => false,
        }
    }
}

/// Why an open connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worn {
    /// The server does not answer, or not what it was asked.
    Stalled,
    /// It answers, but another connection should be made: to the new primary, or with the new password.
    Renew,
}

/// A command under way. Dropped before it is freed, it counts as given up.
struct Place<'l> {
    load: &'l Load,
    size: u32,
}

impl Load {
    fn place(&self, command: &Cmd) -> Result<Place<'_>, LevelError> {
        let bytes: usize = command
            .args_iter()
            .map(|argument| match argument {
                Arg::Simple(bytes) => bytes.len(),
                _ => 0,
            })
            .sum();
        let more = u32::try_from(bytes / PLACE_BYTES).unwrap_or(u32::MAX);
        let size = more.saturating_add(1).min(PLACES);
        match self.places.try_acquire_many(size) {
            Ok(permit) => permit.forget(),
            Err(_) => {
                return Err(LevelError::Unreachable(
                    "too many commands without an answer".to_owned(),
                ));
            }
        }
        Ok(Place { load: self, size })
    }
}

impl Place<'_> {
    /// The answer has come.
    fn free(self) {
        self.load.places.add_permits(self.size as usize);
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.load.abandoned.fetch_add(self.size, Ordering::AcqRel);
        self.load.doubt.notify_one();
    }
}

async fn asking(redis: &mut MultiplexedConnection, command: &Cmd) -> redis::RedisResult<Value> {
    let mut both = redis::pipe();
    both.cmd("ASKING").add_command(command.clone());
    let mut answers = redis.send_packed_commands(&both, 0, 2).await?;
    Ok(answers.pop().unwrap_or(Value::Nil))
}
