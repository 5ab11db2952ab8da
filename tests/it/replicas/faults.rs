//! What becomes of purges when Redis, or the way to it, fails.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Fleet, SOON, get, patient, patient_with};
use crate::harness::eventually;

#[tokio::test]
async fn nothing_is_served_for_longer_than_the_cap_without_contact() {
    let fleet = Fleet::start("1s").await;
    fleet.warm().await;
    fleet.cut(1);
    let begun = Instant::now();
    let version = fleet.versions.change();
    fleet.replicas[0].purge(&patient_with(0)).await;
    fleet.comes_to(1, version, Duration::from_secs(1) + SOON).await;
    println!("without contact it was served for {:?}", begun.elapsed());
    let answer = eventually("an entry to be validated for want of contact", async || {
        let answer = fleet.replicas[1].fetch(get()).await;
        answer.cache_says("detail=replicas-unreachable").then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), version.to_string());
    // What was filled since is used: for as long as the cap.
    assert!(fleet.replicas[1].fetch(get()).await.cache_says("hit"));
    fleet.mend(1);
    fleet.says(1, "ok").await;
    let hits = async || {
        fleet.replicas[1]
            .fetch(get())
            .await
            .cache_says("hit")
            .then_some(())
    };
    eventually("hits with contact", hits).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(
        fleet.replicas[1].fetch(get()).await.cache_says("hit"),
        "the cap is lifted"
    );
}

#[tokio::test]
async fn a_purge_without_redis_is_in_effect_at_once_and_published_later() {
    let fleet = Fleet::start("60s").await;
    fleet.warm().await;
    fleet.cut(0);
    fleet.says(0, "degraded").await;
    let version = fleet.versions.change();
    let answer = fleet.replicas[0].purge(&patient_with(100)).await;
    assert_eq!(answer["position"], Value::Null, "{answer}");
    assert_eq!(answer["replicas_confirmed"], 0);
    assert_eq!(fleet.version_at(0).await, version);
    let detail = fleet.says(0, "degraded").await;
    assert!(detail.contains("1 purges of this replica wait"), "{detail}");
    fleet.mend(0);
    for at in [1, 2, 0] {
        fleet.comes_to(at, version, SOON).await;
    }
    let left = fleet.replicas[0]
        .metric("outrigger_purge_replication_unpublished", &[])
        .await;
    assert!(left < 0.5, "{left}");
}

#[tokio::test]
async fn a_redis_that_lost_everything_revives_nothing() {
    let mut fleet = Fleet::start("60s").await;
    fleet.warm().await;
    fleet.cut(1);
    fleet.says(1, "degraded").await;
    let version = fleet.versions.change();
    fleet.replicas[0].purge(&patient_with(500)).await;
    fleet.redis.kill().await;
    fleet.redis.restart().await;
    fleet.mend(1);
    for at in 0..3 {
        fleet.comes_to(at, version, SOON).await;
    }
    fleet.complete().await;
    for at in 0..3 {
        let replica = &fleet.replicas[at];
        let joined = replica
            .metric("outrigger_purge_replication_incarnations_total", &[])
            .await;
        assert!(joined > 1.5, "replica {at}: {joined}");
    }
    // And all goes on.
    fleet.warm().await;
    let version = fleet.versions.change();
    let answer = fleet.replicas[2].purge(&patient()).await;
    assert_eq!(answer["replicas_confirmed"], 2, "{answer}");
    for at in 0..3 {
        assert_eq!(fleet.version_at(at).await, version);
    }
}
