//! `cache.levels[].redis`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClientTls, Encrypt};
use crate::config::scalar::Text;
use crate::config::units::Positive;
use crate::config::values::{NameText, Plain, PrefixText, RedisUrl};

/// A Redis level.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Name in metrics.
    #[schemars(extend("default" = "redis", "x-restart" = true))]
    pub name: Option<Text<NameText>>,
    /// Where the server is: `redis://host:6379/0`, with the number of the database behind the slash; `rediss://` is
    /// with TLS. For sentinels and for a cluster, several hosts with commas between them: `redis://a:26379,b:26379`.
    /// Without a port it is 6379, of a sentinel 26379.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub url: Option<Text<RedisUrl>>,
    /// How the servers are organised.
    #[schemars(extend("default" = "single", "x-restart" = true))]
    pub mode: Option<RedisModeWord>,
    /// What the sentinels are asked; required with `mode: sentinel`.
    #[schemars(extend("x-restart" = true))]
    pub sentinel: Option<RedisSentinel>,
    /// What every key begins with, before a colon. Instances that share entries share it.
    #[schemars(extend("default" = "outrigger", "x-restart" = true))]
    pub prefix: Option<Text<PrefixText>>,
    /// Time that a call may take. No request waits longer for this level.
    #[schemars(extend("default" = "25ms", "x-restart" = true))]
    pub timeout: Option<Text<Positive<Duration>>>,
    /// ACL user; absent: `default`. Needs `password_file`.
    #[schemars(extend("x-restart" = true))]
    pub username: Option<Text<Plain>>,
    /// File with the password. It is read for every connection, so that a new password needs neither restart nor reload.
    #[schemars(extend("x-restart" = true))]
    pub password_file: Option<Text<PathBuf>>,
    /// TLS towards the servers, the sentinels included; `{}` takes the system's authorities. Absent: none, unless the
    /// URL begins with `rediss://`.
    #[schemars(extend("x-restart" = true))]
    pub tls: Option<ClientTls>,
    /// Longest life of an entry in this level, however long it is fresh.
    #[schemars(extend("default" = "1d", "x-restart" = true))]
    pub max_ttl: Option<Text<Positive<Duration>>>,
    /// Encryption of what is kept.
    pub encrypt: Option<Encrypt>,
}

/// How Redis servers are organised.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RedisModeWord {
    /// One server, or a name that leads to the primary.
    #[default]
    Single,
    /// Sentinels name the primary; `url` lists the sentinels.
    Sentinel,
    /// A cluster; `url` lists some of its nodes.
    Cluster,
}

/// What sentinels are asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSentinel {
    /// The name that the sentinels know the primary by, like `mymaster`.
    #[schemars(extend("x-required" = true, "x-restart" = true))]
    pub master: Option<Text<Plain>>,
    /// ACL user at the sentinels. Needs `password_file`.
    #[schemars(extend("x-restart" = true))]
    pub username: Option<Text<Plain>>,
    /// File with the password at the sentinels; absent: they need none.
    #[schemars(extend("x-restart" = true))]
    pub password_file: Option<Text<PathBuf>>,
}
