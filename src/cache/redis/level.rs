//! The level: values under `<prefix>:<key>`, one round trip per call.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::client::RedisClient;
use crate::cache::level::{Level, LevelError, LevelKey};

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

    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        let key = self.key(key);
        let mut command = redis::cmd("GETRANGE");
        // The end is inclusive.
        command.arg(&key).arg(0).arg(max_bytes);
        match self.client.call(key.as_bytes(), &command).await? {
            // There is no empty value: what is empty does not exist.
            Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
            Value::BulkString(bytes) if bytes.len() > max_bytes => {
                Err(LevelError::TooLarge(bytes.len() as u64))
            }
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            _ => Err(LevelError::Refused(
                "the answer to GETRANGE is no string".to_owned(),
            )),
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
        self.client.call(key.as_bytes(), &command).await
    }

    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError> {
        let key = self.key(key);
        let mut command = redis::cmd("UNLINK");
        command.arg(&key);
        self.client.call::<u64>(key.as_bytes(), &command).await?;
        Ok(())
    }
}
