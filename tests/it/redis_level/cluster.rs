//! A cluster whose nodes die, and whose slots move.

use bytes::Bytes;
use outrigger::cache::level::LevelError;

use super::{Stage, name, soon};
use crate::harness::{RedisCluster, eventually};

/// The node that has a value under `number`.
async fn holder(cluster: &mut RedisCluster, number: u8) -> usize {
    for (index, node) in cluster.nodes().iter().enumerate() {
        let keys: Vec<String> = node.command("KEYS *").await;
        if keys.contains(&name(number)) {
            return index;
        }
    }
    panic!("nobody has it");
}

#[tokio::test]
async fn a_dead_node_takes_its_own_keys_only() {
    let mut cluster = RedisCluster::start().await;
    let stage = Stage::new(&cluster.keys());
    stage.works().await;
    let mut homes = Vec::new();
    for number in 0..24 {
        stage.put(number, "value").await.unwrap();
        homes.push(holder(&mut cluster, number).await);
    }
    // The one that the configuration names: the others are known by now.
    cluster.nodes()[0].kill().await;
    for _ in 0..3 {
        for number in 0..24 {
            let answer = soon(stage.get(number)).await;
            if homes[usize::from(number)] == 0 {
                assert!(answer.is_err(), "{answer:?}");
            } else {
                assert_eq!(answer, Ok(Some(Bytes::from_static(b"value"))), "{number}");
            }
        }
    }
    cluster.nodes()[0].restart().await;
    eventually("the node to be used again", async || {
        for number in 0..24 {
            stage.get(number).await.ok()?;
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_frozen_node_delays_its_own_keys_only() {
    let mut cluster = RedisCluster::start().await;
    let stage = Stage::new(&cluster.keys());
    stage.works().await;
    let mut homes = Vec::new();
    for number in 0..24 {
        stage.put(number, "value").await.unwrap();
        homes.push(holder(&mut cluster, number).await);
    }
    cluster.nodes()[1].freeze();
    for _ in 0..3 {
        for number in 0..24 {
            let answer = soon(stage.get(number)).await;
            if homes[usize::from(number)] != 1 {
                assert_eq!(answer, Ok(Some(Bytes::from_static(b"value"))), "{number}");
            }
        }
    }
    cluster.nodes()[1].thaw();
    eventually("the node to be used again", async || {
        for number in 0..24 {
            stage.get(number).await.ok()?;
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_takes_over_without_a_restart() {
    let mut cluster = RedisCluster::start_with_replicas().await;
    let stage = Stage::new(&cluster.keys());
    stage.works().await;
    for number in 0..24 {
        stage.put(number, "value").await.unwrap();
    }
    cluster.nodes()[2].kill().await;
    eventually("every slot to be served again", async || {
        for number in 0..24 {
            soon(stage.put(number, "again")).await.ok()?;
        }
        Some(())
    })
    .await;
    for number in 0..24 {
        assert_eq!(stage.get(number).await, Ok(Some(Bytes::from_static(b"again"))));
    }
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let mut cluster = RedisCluster::start().await;
    let stage = Stage::new(&cluster.keys());
    stage.works().await;
    stage.put(1, "value").await.unwrap();
    let from = holder(&mut cluster, 1).await;
    let to = (from + 1) % 3;
    let nodes = cluster.nodes();
    let slot: u16 = nodes[from].command(&format!("CLUSTER KEYSLOT {}", name(1))).await;
    let (from_id, to_id): (String, String) = (
        nodes[from].command("CLUSTER MYID").await,
        nodes[to].command("CLUSTER MYID").await,
    );
    let () = nodes[to]
        .command(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"))
        .await;
    let () = nodes[from]
        .command(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"))
        .await;
    // What is there still answers; what is not there is asked of the new node.
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
    let port = nodes[to].port();
    let () = nodes[from]
        .command(&format!("MIGRATE 127.0.0.1 {port} {} 0 1000", name(1)))
        .await;
    eventually("a redirect by ASK", async || {
        (stage.get(1).await == Ok(Some(Bytes::from_static(b"value")))).then_some(())
    })
    .await;
    let asked = nodes[from].info("errorstat_ASK").await;
    assert!(asked.starts_with("count="), "{asked}");
    for node in nodes.iter() {
        let () = node
            .command(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"))
            .await;
    }
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"value"))));
    let moved = nodes[from].info("errorstat_MOVED").await;
    assert!(moved.starts_with("count="), "{moved}");
    // From then on the new node is asked at once.
    eventually("the new map", async || {
        let before = nodes[from].info("errorstat_MOVED").await;
        for _ in 0..10 {
            stage.get(1).await.ok()?;
        }
        (nodes[from].info("errorstat_MOVED").await == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_refused_in_words() {
    let server = crate::harness::RedisServer::start().await;
    let stage = Stage::before(&server, ", mode: cluster");
    let answer = eventually("the refusal", async || match stage.get(1).await {
        Err(LevelError::Refused(words)) => Some(words),
        _ => None,
    })
    .await;
    assert!(answer.contains("cluster support disabled"), "{answer}");
}
