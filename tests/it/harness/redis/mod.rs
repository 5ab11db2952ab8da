//! Real Redis servers, each on free ports of its own: one, a primary with replicas and sentinels, or a cluster.

mod cluster;
mod sentinels;
mod server;

pub(crate) use cluster::RedisCluster;
pub(crate) use sentinels::RedisSentinels;
pub(crate) use server::RedisServer;
