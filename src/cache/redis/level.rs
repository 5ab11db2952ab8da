//! The level: values under `<prefix>:<key>`, one round trip per call.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};

use super::client::RedisClient;
use crate::cache::level::{Level, LevelError, LevelKey};

/// Time for the first connection, and for the first map of a cluster's slots. Start-up may wait for it.
const OPEN_LIMIT: Duration = Duration::from_millis(500);

/// A level in Redis.
///
/// A value is a plain string with a life. It is read by `GETRANGE` up to one byte more than the caller takes, so that a
/// value of any size costs one round trip and no more memory than that. The commands are `GETRANGE`, `SET` and `UNLINK`.
#[derive(Clone, Debug)]
pub struct RedisLevel {
    client: RedisClient,
}

impl RedisLevel {
    /// The level that `client` reaches.
    pub fn new(client: RedisClient) -> Self {
        Self { client }
    }

    fn key(&self, key: &LevelKey) -> String {
        let digest = hex::encode(key.0);
        format!("{}:{digest}", self.client.config().prefix)
    }
}

#[async_trait]
impl Level for RedisLevel {
    fn name(&self) -> &str {
        &self.client.config().name
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn open(&self) -> Result<(), LevelError> {
        // In the cluster it goes to whichever node would have the bare prefix.
        let prefix = self.client.config().prefix.as_bytes();
        let ping = redis::cmd("PING");
        self.client
            .call_within::<String>(OPEN_LIMIT, prefix, &ping)
            .await?;
        Ok(())
    }

    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        let key = self.key(key);
        let mut command = redis::cmd("GETRANGE");
        // The end is inclusive.
        command.arg(&key).arg(0).arg(max_bytes);
        let answer = self.client.call(key.as_bytes(), &command).await;
        let Text(bytes) = answer.map_err(of_the_value)?;
        match bytes.len() {
            // There is no empty value: what is empty does not exist.
            0 => Ok(None),
            length if length > max_bytes => Err(LevelError::TooLarge(length as u64)),
            _ => Ok(Some(Bytes::from(bytes))),
        }
    }

    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError> {
        let ttl = ttl.min(self.client.config().max_ttl).as_millis();
        let Some(millis) = u64::try_from(ttl)
            .ok()
            .filter(|millis| *millis > 0 && !value.is_empty())
        else {
            // It would be gone at once; but so has to be what was there.
            return self.remove(key).await;
        };
        let key = self.key(key);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(&value[..]).arg("PX").arg(millis);
        let Done = self.client.call(key.as_bytes(), &command).await?;
        Ok(())
    }

    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError> {
        let key = self.key(key);
        let mut command = redis::cmd("UNLINK");
        command.arg(&key);
        self.client.call::<u64>(key.as_bytes(), &command).await?;
        Ok(())
    }
}

/// An error of reading a value, which may be of the value alone: a list, a hash.
fn of_the_value(error: LevelError) -> LevelError {
    match error {
        LevelError::Refused(words) if words.starts_with("WRONGTYPE ") => LevelError::WrongType(words),
        other => other,
    }
}

/// The answer to `GETRANGE`: a string, and nothing that could be the answer to another command.
struct Text(Vec<u8>);

impl FromRedisValue for Text {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::BulkString(bytes) => Ok(Self(bytes)),
            _ => Err("the answer is no string".into()),
        }
    }
}

/// The answer to `SET`.
struct Done;

impl FromRedisValue for Done {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::Okay => Ok(Self),
            _ => Err("the answer is not OK".into()),
        }
    }
}
