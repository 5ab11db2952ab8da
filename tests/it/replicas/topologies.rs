//! Purges through a cluster, and through a primary that dies.

use super::{SOON, Versions, get, patient};
use crate::harness::{ConfigText, RedisCluster, RedisSentinels, Sidecar, eventually};

/// Two replicas with these keys of their Redis level, who know each other.
async fn pair(versions: &Versions, keys: &str) -> [Sidecar; 2] {
    let yaml = ConfigText::new(versions.origin.address()).text().replace(
        "    - memory: {name: l1, capacity: 64MiB}\n",
        &format!("    - memory: {{name: l1, capacity: 64MiB}}\n    - redis: {{{keys}}}\n"),
    );
    let pair = [Sidecar::start_text(&yaml).await, Sidecar::start_text(&yaml).await];
    for replica in &pair {
        eventually("the replicas to know each other", async || {
            let known = replica.metric("outrigger_purge_replication_replicas", &[]).await;
            (known > 0.5).then_some(())
        })
        .await;
    }
    pair
}

/// A purge on one is seen by both.
async fn purges(versions: &Versions, pair: &[Sidecar; 2]) {
    for replica in pair {
        replica.fetch(get()).await;
    }
    let version = versions.change().to_string();
    let answer = pair[0].purge(&patient()).await;
    assert_eq!(answer["replicas_confirmed"], 1, "{answer}");
    for replica in pair {
        assert_eq!(replica.fetch(get()).await.text(), version);
    }
}

#[tokio::test]
async fn a_cluster_carries_purges() {
    let (versions, cluster) = (Versions::start().await, RedisCluster::start().await);
    let pair = pair(&versions, &cluster.keys()).await;
    purges(&versions, &pair).await;
}

#[tokio::test]
async fn a_failover_loses_no_purge_and_needs_no_restart() {
    let (versions, mut sentinels) = (Versions::start().await, RedisSentinels::start().await);
    let pair = pair(&versions, &sentinels.keys()).await;
    purges(&versions, &pair).await;
    for replica in &pair {
        replica.fetch(get()).await;
    }
    let primary = sentinels.primary().await;
    let old = primary.port();
    primary.kill().await;
    // In effect at once where it was made, and at the other one when there is a primary again.
    let version = versions.change().to_string();
    let answer = pair[0]
        .purge(&serde_json::json!({"all": true, "wait_ms": 0}))
        .await;
    assert_eq!(answer["replicas_confirmed"], 0, "{answer}");
    assert_eq!(pair[0].fetch(get()).await.text(), version);
    sentinels.failed_over(old).await;
    let begun = tokio::time::Instant::now();
    while pair[1].fetch(get()).await.text() != version {
        assert!(
            begun.elapsed() < 5 * SOON,
            "the other replica serves what was purged"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    purges(&versions, &pair).await;
}
