//! A cluster of three primaries, with a replica each where a test wants a failover.

use super::super::wait::eventually;
use super::server::RedisServer;

/// What makes a server a node. A node that is silent for half a second counts as dead, and the slots of the others are
/// served all the same.
const NODE: &str = "cluster-enabled yes
    cluster-node-timeout 500
    cluster-require-full-coverage no
    cluster-allow-replica-migration no
    cluster-replica-validity-factor 0";

/// The slots of the three primaries.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

/// The nodes of a cluster.
pub(crate) struct RedisCluster {
    /// The primaries, in the order of their slots, then the replicas in the same order.
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three primaries.
    pub(crate) async fn start() -> Self {
        Self::start_with(0).await
    }

    /// Three primaries with a replica each.
    pub(crate) async fn start_with_replicas() -> Self {
        Self::start_with(3).await
    }

    async fn start_with(replicas: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..SLOTS.len() + replicas {
            nodes.push(RedisServer::start_with(NODE).await);
        }
        let cluster = Self { nodes };
        cluster.meet().await;
        for (node, (first, last)) in cluster.nodes.iter().zip(SLOTS) {
            let () = node
                .command(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                .await;
        }
        for (index, replica) in cluster.nodes[SLOTS.len()..].iter().enumerate() {
            let id: String = cluster.nodes[index].command("CLUSTER MYID").await;
            let () = replica.command(&format!("CLUSTER REPLICATE {id}")).await;
            replica.until("master_link_status", "up").await;
        }
        for node in &cluster.nodes {
            eventually("the cluster to agree", async || {
                let info: String = node.command("CLUSTER INFO").await;
                let slots: Vec<redis::Value> = node.command("CLUSTER SLOTS").await;
                let complete = slots.iter().all(|row| match row {
                    redis::Value::Array(row) => row.len() == 3 + usize::from(replicas > 0),
                    _ => false,
                });
                let ok = info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384");
                (ok && complete && slots.len() == SLOTS.len()).then_some(())
            })
            .await;
        }
        cluster
    }

    /// Makes every node know every other.
    async fn meet(&self) {
        let first = &self.nodes[0];
        for (index, node) in self.nodes.iter().enumerate() {
            let () = node
                .command(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1))
                .await;
            let bus: Vec<String> = node.command("CONFIG GET cluster-port").await;
            if index > 0 {
                let () = first
                    .command(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port(), bus[1]))
                    .await;
            }
        }
        let everyone = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            eventually("the nodes to know each other", async || {
                let info: String = node.command("CLUSTER INFO").await;
                let nodes: String = node.command("CLUSTER NODES").await;
                (info.contains(&everyone) && !nodes.contains("handshake")).then_some(())
            })
            .await;
        }
    }

    /// The keys `url` and `mode` of a level that knows one node only.
    pub(crate) fn keys(&self) -> String {
        format!("url: \"redis://{}\", mode: cluster", self.nodes[0].address())
    }

    /// The nodes: primaries in the order of their slots, then replicas.
    pub(crate) fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }
}
