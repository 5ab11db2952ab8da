//! The level in Redis against real servers: what every level has to do, and what failing servers do to it.

mod access;
mod cluster;
mod conformance;
mod deadlines;
mod failover;
mod garbage;
mod refusals;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use outrigger::cache::level::{Level, LevelError, LevelKey};
use outrigger::cache::redis::{RedisClient, RedisLevel};
use outrigger::config::{self, Environment, LowerLevel};
use outrigger::tasks::Tasks;

use crate::harness::{RedisServer, eventually};

/// Longest that a call of a level with the default deadline of 25 ms may take here, on a loaded machine.
const SOON: Duration = Duration::from_millis(250);

/// What values live for in the tests.
const TTL: Duration = Duration::from_secs(60);

/// A level, and the background work of its client; both end with the value.
struct Stage {
    level: RedisLevel,
    client: RedisClient,
    tasks: Tasks,
}

impl Stage {
    /// The level with these keys of its YAML.
    fn new(keys: &str) -> Self {
        Self::in_directory(keys, Path::new("/"))
    }

    /// The level in front of `server`, with these further keys.
    fn before(server: &RedisServer, keys: &str) -> Self {
        Self::new(&format!("url: \"redis://{}\"{keys}", server.address()))
    }

    /// The same with files that are named relative to `directory`.
    fn in_directory(keys: &str, directory: &Path) -> Self {
        let yaml = format!(
            "listeners: [{{name: http, bind: 127.0.0.1:0}}]
upstreams: {{hub: {{endpoints: [{{address: 'hub:80'}}]}}}}
routes: [{{name: r, upstream: hub}}]
cache: {{levels: [{{memory: {{}}}}, {{redis: {{{keys}}}}}]}}"
        );
        let loaded = config::parse("test.yaml", &yaml, directory, &Environment::system());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let Some(LowerLevel::Redis(config)) = loaded.config.cache.lower.first() else {
            panic!("no Redis level");
        };
        let tasks = Tasks::new();
        let client = RedisClient::new(config, &tasks).expect("sound TLS files");
        Self {
            level: RedisLevel::new(client.clone()),
            client,
            tasks,
        }
    }

    /// Waits until a value can be kept and had.
    async fn works(&self) {
        eventually("the level to work", async || {
            let put = self.level.put(&key(u8::MAX), Bytes::from_static(b"x"), TTL).await;
            (put.is_ok() && self.get(u8::MAX).await == Ok(Some(Bytes::from_static(b"x")))).then_some(())
        })
        .await;
    }

    async fn get(&self, number: u8) -> Result<Option<Bytes>, LevelError> {
        self.level.get(&key(number), 1 << 20).await
    }

    async fn put(&self, number: u8, value: &'static str) -> Result<(), LevelError> {
        self.level
            .put(&key(number), Bytes::from_static(value.as_bytes()), TTL)
            .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// One of many keys.
fn key(number: u8) -> LevelKey {
    LevelKey([number; 32])
}

/// Its name in Redis under the default prefix.
fn name(number: u8) -> String {
    format!("outrigger:{}", hex::encode([number; 32]))
}

/// What `call` says, which must be soon.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, call).await {
        Ok(answer) => answer,
        Err(_) => panic!("a call took longer than {SOON:?}"),
    }
}
