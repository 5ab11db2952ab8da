//! A primary with two replicas, and three sentinels that watch it.

use std::collections::HashMap;

use super::super::wait::eventually;
use super::server::RedisServer;

/// The name that the sentinels know the primary by.
const MASTER: &str = "mymaster";

/// The servers and their sentinels.
pub(crate) struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts all of them and waits until they know each other.
    pub(crate) async fn start() -> Self {
        let primary = RedisServer::start().await;
        let replica = format!("replicaof 127.0.0.1 {}", primary.port());
        let mut servers = vec![primary];
        for _ in 0..2 {
            servers.push(RedisServer::start_with(&replica).await);
        }
        for replica in &servers[1..] {
            replica.until("master_link_status", "up").await;
        }
        let watch = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2
             sentinel down-after-milliseconds {MASTER} 500
             sentinel failover-timeout {MASTER} 3000
             sentinel parallel-syncs {MASTER} 2",
            servers[0].port()
        );
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(RedisServer::start_sentinel(&watch).await);
        }
        let topology = Self { servers, sentinels };
        for sentinel in &topology.sentinels {
            eventually("the sentinels to know each other", async || {
                let known: HashMap<String, String> =
                    sentinel.command(&format!("SENTINEL MASTER {MASTER}")).await;
                let is = |field: &str, count: &str| known.get(field).is_some_and(|value| value == count);
                (is("num-slaves", "2") && is("num-other-sentinels", "2")).then_some(())
            })
            .await;
        }
        topology
    }

    /// The keys `url`, `mode` and `sentinel` of a level.
    pub(crate) fn keys(&self) -> String {
        let addresses: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.address().to_string())
            .collect();
        format!(
            "url: \"redis://{}\", mode: sentinel, sentinel: {{master: {MASTER}}}",
            addresses.join(",")
        )
    }

    /// The sentinels.
    pub(crate) fn sentinels(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }

    /// The server that the sentinels call primary.
    pub(crate) async fn primary(&mut self) -> &mut RedisServer {
        let question = format!("SENTINEL get-master-addr-by-name {MASTER}");
        let (_, port): (String, u16) = self.sentinels[0].command(&question).await;
        let mut servers = self.servers.iter_mut();
        servers
            .find(|server| server.port() == port)
            .expect("one of the servers")
    }

    /// Waits until another server than the one on port `old` is primary, and accepts writes.
    pub(crate) async fn failed_over(&self, old: u16) {
        let question = format!("SENTINEL get-master-addr-by-name {MASTER}");
        eventually("the failover", async || {
            let (_, port): (String, u16) = self.sentinels[0].command(&question).await;
            let server = self.servers.iter().find(|server| server.port() == port)?;
            (port != old && server.info("role").await == "master").then_some(())
        })
        .await;
    }
}
