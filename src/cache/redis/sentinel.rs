//! Asking sentinels who is primary.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::dial::Dialer;
use super::failure::level_error;
use crate::cache::level::LevelError;
use crate::config::{RedisCredentials, RedisServer};

/// Time for one sentinel: connecting to it, and its answer.
const SENTINEL_LIMIT: Duration = Duration::from_millis(300);

/// The sentinels of one primary.
#[derive(Debug)]
pub(super) struct Sentinels {
    servers: Vec<RedisServer>,
    master: String,
    credentials: RedisCredentials,
    /// The one that answered last; it is asked first.
    first: AtomicUsize,
}

impl Sentinels {
    /// The sentinels `servers` that know a primary as `master`.
    pub(super) fn new(servers: &[RedisServer], master: &str, credentials: &RedisCredentials) -> Self {
        Self {
            servers: servers.to_vec(),
            master: master.to_owned(),
            credentials: credentials.clone(),
            first: AtomicUsize::new(0),
        }
    }

    /// The primary that the first sentinel names that answers.
    pub(super) async fn primary(&self, dialer: &Dialer) -> Result<RedisServer, LevelError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = LevelError::Unreachable("no sentinel is configured".to_owned());
        for offset in 0..self.servers.len() {
            let index = (first + offset) % self.servers.len();
            let answer = tokio::time::timeout(SENTINEL_LIMIT, self.ask(dialer, &self.servers[index])).await;
            match answer.unwrap_or(Err(LevelError::Timeout)) {
                Ok(server) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(server);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, dialer: &Dialer, sentinel: &RedisServer) -> Result<RedisServer, LevelError> {
        let dialed = dialer
            .dial_sentinel(sentinel, &self.credentials, SENTINEL_LIMIT)
            .await?;
        let mut redis = dialed.redis;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.master);
        let answer = async {
            question
                .query_async::<Option<(String, u16)>>(&mut redis)
                .await
                .map_err(|error| level_error(&error))
        };
        let answer = tokio::select! {
            answer = answer => answer?,
            () = dialed.driver => return Err(LevelError::Unreachable("the sentinel closed the connection".to_owned())),
        };
        match answer {
            Some((host, port)) => Ok(RedisServer { host, port }),
            None => Err(LevelError::Refused(format!(
                "the sentinel knows no primary `{}`",
                self.master
            ))),
        }
    }
}
