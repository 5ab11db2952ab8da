//! The primary behind sentinels dies or is replaced.

use bytes::Bytes;
use redis::Cmd;

use super::{Stage, soon};
use crate::harness::{RedisSentinels, eventually};

#[tokio::test]
async fn a_new_primary_is_found_without_a_restart() {
    let mut servers = RedisSentinels::start().await;
    let stage = Stage::new(&servers.keys());
    stage.works().await;
    let primary = servers.primary().await;
    let old = primary.port();
    primary.kill().await;
    // Nothing takes longer than the deadline meanwhile.
    for _ in 0..50 {
        assert!(soon(stage.get(1)).await.is_err());
    }
    servers.failed_over(old).await;
    stage.works().await;
    // The old one comes back as a replica, and nothing changes.
    stage.put(1, "new").await.unwrap();
    assert_eq!(stage.get(1).await, Ok(Some(Bytes::from_static(b"new"))));
}

#[tokio::test]
async fn a_primary_that_hands_over_is_left_for_the_new_one() {
    let mut servers = RedisSentinels::start().await;
    let stage = Stage::new(&servers.keys());
    stage.works().await;
    let old = servers.primary().await.port();
    let () = servers.sentinels()[0].command("SENTINEL FAILOVER mymaster").await;
    servers.failed_over(old).await;
    stage.works().await;
    let mut info = Cmd::new();
    info.arg("INFO").arg("replication");
    eventually("calls to reach a primary", async || {
        let text: String = stage.client.call(b"", &info).await.ok()?;
        text.contains("role:master").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_that_is_down_is_passed_over() {
    let mut servers = RedisSentinels::start().await;
    let keys = servers.keys();
    let (first, rest) = servers.sentinels().split_at_mut(1);
    first[0].kill().await;
    rest[0].freeze();
    let stage = Stage::new(&keys);
    stage.works().await;
}

#[tokio::test]
async fn a_primary_that_no_sentinel_knows_is_refused_in_words() {
    let servers = RedisSentinels::start().await;
    let stage = Stage::new(&servers.keys().replace("mymaster", "other"));
    let words = eventually("the refusal", async || {
        let words = stage.get(1).await.unwrap_err().to_string();
        words.contains("knows").then_some(words)
    })
    .await;
    assert_eq!(words, "refused: the sentinel knows no primary `other`");
}
