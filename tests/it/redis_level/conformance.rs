//! What every level has to do, in each mode.

use outrigger::cache::level::conformance::check;

use super::Stage;
use crate::harness::{RedisCluster, RedisSentinels, RedisServer};

/// The check moves megabytes; how long that may take is not what it is about.
const PATIENT: &str = ", timeout: 5s";

#[tokio::test]
async fn one_server_is_a_level() {
    let server = RedisServer::start().await;
    let stage = Stage::before(&server, PATIENT);
    stage.works().await;
    check(&stage.level).await.unwrap();
    // One command for each call, and no other.
    let commands = server.info("cmdstat_getrange").await;
    assert!(commands.starts_with("calls="), "{commands}");
    for other in ["get", "strlen", "exists", "eval", "multi", "select"] {
        assert_eq!(server.info(&format!("cmdstat_{other}")).await, "", "{other}");
    }
}

#[tokio::test]
async fn a_primary_behind_sentinels_is_a_level() {
    let servers = RedisSentinels::start().await;
    let stage = Stage::new(&(servers.keys() + PATIENT));
    stage.works().await;
    check(&stage.level).await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_a_level_and_its_keys_are_spread() {
    let mut cluster = RedisCluster::start().await;
    let stage = Stage::new(&(cluster.keys() + PATIENT));
    stage.works().await;
    check(&stage.level).await.unwrap();
    for number in 0..30 {
        stage.put(number, "value").await.unwrap();
    }
    for node in cluster.nodes() {
        let keys: u64 = node.command("DBSIZE").await;
        assert!(keys >= 3, "{keys} of 30 keys on one of three nodes");
    }
}

#[tokio::test]
async fn keys_lead_to_another_database_and_live_no_longer_than_allowed() {
    let server = RedisServer::start().await;
    let stage = Stage::new(&format!(
        "url: \"redis://{}/3\", prefix: hub, max_ttl: 10s",
        server.address()
    ));
    stage.works().await;
    stage.put(7, "value").await.unwrap();
    let name = format!("hub:{}", hex::encode([7_u8; 32]));
    let mut connection = server.connection().await;
    let () = redis::cmd("SELECT")
        .arg(3)
        .query_async(&mut connection)
        .await
        .unwrap();
    let life: i64 = redis::cmd("PTTL")
        .arg(name)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!((1..=10_000).contains(&life), "{life}");
}
