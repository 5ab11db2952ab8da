//! The servers behind the level change under load: a primary dies, a node of a cluster dies, a slot moves.

use super::{counted, is_up, load, origin, sidecar, unharmed};
use crate::harness::{RedisCluster, RedisSentinels, RedisServer, eventually};

#[tokio::test]
async fn a_sentinel_failover_under_load_harms_no_request() {
    let origin = origin().await;
    let mut servers = RedisSentinels::start().await;
    let sidecar = sidecar(&origin, &servers.keys()).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(500).await;
    let primary = servers.primary().await;
    let old = primary.port();
    primary.kill().await;
    load.more(500).await;
    servers.failed_over(old).await;
    is_up(&sidecar, true).await;
    load.more(500).await;
    unharmed(load).await;
}

#[tokio::test]
async fn a_dead_node_of_a_cluster_under_load_harms_no_request() {
    let origin = origin().await;
    let mut cluster = RedisCluster::start_with_replicas().await;
    let sidecar = sidecar(&origin, &cluster.keys()).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(500).await;
    cluster.nodes()[1].kill().await;
    load.more(1000).await;
    // The replica of the dead node has its slots, and answers for them.
    let heir = &cluster.nodes()[4];
    heir.until("role", "master").await;
    let asked = answered(heir).await;
    eventually("the heir to be asked", async || {
        (answered(heir).await > asked + 20).then_some(())
    })
    .await;
    is_up(&sidecar, true).await;
    load.more(500).await;
    unharmed(load).await;
}

/// Look-ups that a server has answered with a value.
async fn answered(server: &RedisServer) -> u64 {
    server.info("keyspace_hits").await.parse().unwrap()
}

#[tokio::test]
async fn slots_that_move_under_load_are_followed_and_nothing_is_degraded() {
    let origin = origin().await;
    let mut cluster = RedisCluster::start().await;
    let keys = format!("{}, timeout: 2s", cluster.keys());
    let sidecar = sidecar(&origin, &keys).await;
    is_up(&sidecar, true).await;
    let load = load(&sidecar);
    load.more(1000).await;
    let nodes = cluster.nodes();
    let (from, to) = (&nodes[0], &nodes[1]);
    let ids: (String, String) = (
        from.command("CLUSTER MYID").await,
        to.command("CLUSTER MYID").await,
    );
    let lines = sidecar.logs().len();
    for key in from.values().await.into_iter().take(10) {
        let slot: u16 = from.command(&format!("CLUSTER KEYSLOT {key}")).await;
        let () = to
            .command(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids.0))
            .await;
        let () = from
            .command(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids.1))
            .await;
        load.more(100).await;
        let there: Vec<String> = from.command(&format!("CLUSTER GETKEYSINSLOT {slot} 1000")).await;
        for key in there {
            let migrate = format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port());
            let _: String = from.command(&migrate).await;
        }
        load.more(100).await;
        for node in [to, from, &nodes[2]] {
            let () = node
                .command(&format!("CLUSTER SETSLOT {slot} NODE {}", ids.1))
                .await;
        }
    }
    eventually("a redirect", async || {
        (!from.info("errorstat_MOVED").await.is_empty()).then_some(())
    })
    .await;
    load.more(1000).await;
    unharmed(load).await;
    let refused = counted(&sidecar, "outrigger_level_errors_total", ("error", "refused")).await;
    assert!(refused < 0.5, "{refused}");
    let degraded = sidecar
        .logs()
        .find(lines, |line| line.text("message") == "cache level degraded");
    assert!(degraded.is_none(), "{degraded:?}");
}
