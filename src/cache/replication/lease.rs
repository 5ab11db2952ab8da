//! lease: of the replicas that miss a key at the same time, one fetches, and the others wait for what it stores.
//!
//! A lease is a key in Redis with a short life and the holder's name as its value. It saves work and nothing depends on it:
//! a holder that dies loses it after [`LIFE`], whoever waits gives up when its own time is over, and without Redis there is
//! none and everyone fetches.

use std::time::Duration;

use tokio::time::sleep;

use super::super::level::{LevelError, LevelKey};
use super::super::purge::Id;
use super::super::redis::RedisClient;

/// How long a lease lives that nobody renews.
const LIFE: Duration = Duration::from_secs(2);

/// Takes the lease, or names who has it.
const TAKE: &str = r"
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return ARGV[1] end
return redis.call('GET', KEYS[1])
";

/// Lets the lease live on, if it is still the holder's.
const KEEP: &str = r"
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0
";

/// Gives the lease back, if it is still the holder's.
const GIVE_BACK: &str = r"
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
";

/// The right to fetch, alone among the replicas.
#[derive(Debug)]
pub struct Lease {
    client: RedisClient,
    key: String,
    holder: Id,
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// This request's.
    Ours(Lease),
    /// That of another one.
    Theirs(Id),
}

impl Turn {
    /// Asks for the turn to fetch what is kept under `key`. An error means that there are no turns.
    pub(super) async fn ask(client: &RedisClient, key: &LevelKey) -> Result<Self, LevelError> {
        let lease = Lease {
            client: client.clone(),
            key: format!("{}:lease:{}", client.config().prefix, hex::encode(key.0)),
            holder: Id::random(),
        };
        let holder: Option<Vec<u8>> = lease.run(TAKE).await?;
        match holder.as_deref().and_then(Id::from_hex) {
            Some(holder) if holder == lease.holder => Ok(Self::Ours(lease)),
            Some(holder) => Ok(Self::Theirs(holder)),
            None => Err(LevelError::Refused("the lease has no holder".to_owned())),
        }
    }
}

impl Lease {
    /// Does `work`, with the lease kept for as long as that takes.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(LIFE / 4) => {
                    if let Err(error) = self.run::<u64>(KEEP).await {
                        tracing::debug!(%error, "a lease was not renewed");
                    }
                }
            }
        }
    }

    /// The next one may have it.
    pub async fn give_back(self) {
        if let Err(error) = self.run::<u64>(GIVE_BACK).await {
            tracing::debug!(%error, "a lease was not given back");
        }
    }

    async fn run<T: redis::FromRedisValue>(&self, script: &str) -> Result<T, LevelError> {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(&self.key);
        command.arg(self.holder.to_hex());
        command.arg(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX));
        self.client.call(self.key.as_bytes(), &command).await
    }
}
