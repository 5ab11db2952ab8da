//! One fetch among all replicas (`collapse: fleet`), and that nobody is stuck on it.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fleet, get};
use crate::harness::{Answer, Gate, RedisServer, Reply, fetch};

const ROUTES: &str =
    "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\", collapse: fleet}}";

/// Replicas whose workers have all been in touch with Redis, which happens with the first requests.
async fn fleet() -> Fleet {
    let fleet = Fleet::with_routes(RedisServer::start().await, "30s", "", ROUTES).await;
    for replica in &fleet.replicas {
        for n in 0..20 {
            replica.get(&format!("/{n}")).await;
        }
    }
    fleet
}

/// The origin answers `/a` when the gate is open.
fn slow(fleet: &Fleet, cache_control: &'static str) -> Gate {
    let gate = Gate::closed();
    let opened = gate.clone();
    fleet.versions.origin.on_async("/a", move |_| {
        let gate = opened.clone();
        async move {
            gate.passed().await;
            Reply::ok("answer").cache_control(cache_control)
        }
    });
    gate
}

/// Ten requests at each of these replicas.
fn ask(fleet: &Fleet, replicas: &[usize]) -> JoinSet<Answer> {
    let mut asked = JoinSet::new();
    for at in replicas {
        let address = fleet.replicas[*at].address();
        for _ in 0..10 {
            asked.spawn(async move { fetch(address, get()).await });
        }
    }
    asked
}

#[tokio::test]
async fn one_replica_fetches_for_all() {
    let fleet = fleet().await;
    let gate = slow(&fleet, "max-age=60");
    let asked = ask(&fleet, &[0, 1, 2]);
    fleet.versions.origin.reached("/a", 1).await;
    for replica in &fleet.replicas {
        replica.active(10).await;
    }
    assert_eq!(fleet.versions.origin.count("/a"), 1, "others wait");
    gate.open();
    for answer in asked.join_all().await {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "answer"));
    }
    assert_eq!(fleet.versions.origin.count("/a"), 1);
}

#[tokio::test]
async fn the_others_go_on_when_the_one_that_fetches_dies() {
    let fleet = fleet().await;
    let gate = slow(&fleet, "max-age=60");
    let lost = ask(&fleet, &[0]);
    fleet.versions.origin.reached("/a", 1).await;
    let asked = ask(&fleet, &[1, 2]);
    for at in [1, 2] {
        fleet.replicas[at].active(10).await;
    }
    fleet.replicas[0].signal(Signal::SIGKILL);
    drop(lost);
    let begun = Instant::now();
    fleet.versions.origin.reached("/a", 2).await;
    gate.open();
    for answer in asked.join_all().await {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "answer"));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(fleet.versions.origin.count("/a") <= 3);
}

#[tokio::test]
async fn what_nobody_stores_is_not_waited_for_by_one_after_the_other() {
    let fleet = fleet().await;
    let gate = slow(&fleet, "no-store");
    let asked = ask(&fleet, &[0, 1, 2]);
    fleet.versions.origin.reached("/a", 1).await;
    gate.open();
    let begun = Instant::now();
    for answer in asked.join_all().await {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "answer"));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_redis_everyone_fetches() {
    let mut fleet = fleet().await;
    let gate = slow(&fleet, "max-age=60");
    fleet.redis.kill().await;
    for at in 0..3 {
        fleet.says(at, "degraded").await;
    }
    let asked = ask(&fleet, &[0, 1, 2]);
    fleet.versions.origin.reached("/a", 3).await;
    gate.open();
    for answer in asked.join_all().await {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "answer"));
    }
    assert_eq!(fleet.versions.origin.count("/a"), 3);
}
