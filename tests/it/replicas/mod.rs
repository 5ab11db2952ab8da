//! Replicas of the real binary that share a purge log over a real Redis, and what becomes of purges when it fails them.

mod collapse;
mod crashes;
mod faults;
mod races;
mod topologies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Call, ConfigText, Fault, FaultProxy, Origin, RedisServer, Reply, Sidecar, eventually};

/// Longest time that replicas need to find together again, on a loaded machine.
const SOON: Duration = Duration::from_secs(2);

/// A route that caches.
const PLAIN: &str = "- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"on\"}}";

/// An origin whose answers are the number of its version, cacheable for a day.
struct Versions {
    origin: Origin,
    version: Arc<AtomicU64>,
}

impl Versions {
    async fn start() -> Self {
        let (origin, version) = (Origin::start().await, Arc::new(AtomicU64::new(1)));
        let current = Arc::clone(&version);
        origin.on("*", move |_| {
            let version = current.load(Ordering::Acquire).to_string();
            Reply::ok(version).cache_control("max-age=86400")
        });
        Self { origin, version }
    }

    fn change(&self) -> u64 {
        self.version.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Three replicas, each with a link of its own to one Redis.
struct Fleet {
    versions: Versions,
    redis: RedisServer,
    links: Vec<FaultProxy>,
    replicas: Vec<Sidecar>,
    /// The configuration of the last one.
    yaml: String,
}

impl Fleet {
    async fn start(cap: &str) -> Self {
        let redis = RedisServer::start().await;
        Self::before(redis, cap, "").await
    }

    async fn before(redis: RedisServer, cap: &str, keys: &str) -> Self {
        Self::with_routes(redis, cap, keys, PLAIN).await
    }

    async fn with_routes(redis: RedisServer, cap: &str, keys: &str, routes: &str) -> Self {
        Self::with_levels(redis, cap, "", keys, routes).await
    }

    /// The same with a line between memory and Redis in the list of levels.
    async fn with_levels(redis: RedisServer, cap: &str, between: &str, keys: &str, routes: &str) -> Self {
        let versions = Versions::start().await;
        let (mut links, mut replicas, mut yaml) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..3 {
            let link = FaultProxy::start(redis.address()).await;
            let config = ConfigText::new(versions.origin.address()).routes(routes);
            yaml = config.text().replace(
                "    - memory: {name: l1, capacity: 64MiB}\n",
                &format!(
                    "    - memory: {{name: l1, capacity: 64MiB}}
{between}    - redis: {{name: fleet, url: \"redis://{}\"{keys}}}
  purge: {{replicas_via: fleet, l1_cap_when_unreachable: {cap}}}\n",
                    link.address()
                ),
            );
            replicas.push(Sidecar::start_text(&yaml).await);
            links.push(link);
        }
        let fleet = Self {
            versions,
            redis,
            links,
            replicas,
            yaml,
        };
        fleet.complete().await;
        fleet
    }

    /// Waits until every replica knows the others.
    async fn complete(&self) {
        for replica in &self.replicas {
            eventually("the replicas to know each other", async || {
                let known = replica.metric("outrigger_purge_replication_replicas", &[]).await;
                let up = replica.metric("outrigger_purge_replication_up", &[]).await;
                (known > 1.5 && up > 0.5).then_some(())
            })
            .await;
        }
    }

    /// What replica `at` answers to `GET /a`.
    async fn version_at(&self, at: usize) -> u64 {
        let answer = self.replicas[at].fetch(get()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().parse().unwrap()
    }

    /// Every replica has what the origin has now.
    async fn warm(&self) -> u64 {
        let version = self.versions.version.load(Ordering::Acquire);
        for at in 0..3 {
            assert_eq!(self.version_at(at).await, version);
            assert!(self.replicas[at].fetch(get()).await.cache_says("hit"));
        }
        version
    }

    fn cut(&self, at: usize) {
        self.links[at].set(Fault::Refuse);
        self.links[at].cut();
    }

    fn mend(&self, at: usize) {
        self.links[at].set(Fault::None);
    }

    /// Waits until replica `at` says so of its purge log.
    async fn says(&self, at: usize, status: &str) -> String {
        eventually(&format!("the purge log to be {status}"), async || {
            let answer = self.replicas[at].admin(Call::get("/readyz?verbose")).await;
            assert_eq!(answer.status, 200);
            let checks = answer.json();
            let check = checks["checks"].as_array().unwrap().iter();
            let check = check.clone().find(|check| check["name"] == "purge log")?;
            (check["status"] == status).then(|| check["detail"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Replica `at` comes to answer `version` in time, and never anything older after that.
    async fn comes_to(&self, at: usize, version: u64, limit: Duration) {
        let begun = Instant::now();
        while self.version_at(at).await < version {
            assert!(
                begun.elapsed() < limit,
                "replica {at} still serves what was purged"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for _ in 0..20 {
            assert!(self.version_at(at).await >= version);
        }
    }
}

/// The replicas are one service, whichever of them is asked.
fn get() -> Call {
    Call::get("/a").replace("host", "hub.local")
}

fn post() -> Call {
    Call::json("/a", "{}").replace("host", "hub.local")
}

fn patient() -> Value {
    json!({"all": true, "wait_ms": 10_000})
}

#[tokio::test]
async fn a_purge_on_one_replica_is_seen_by_all() {
    let fleet = Fleet::start("30s").await;
    let mut took = Vec::new();
    for round in 0..60 {
        fleet.warm().await;
        let version = fleet.versions.change();
        let begun = Instant::now();
        let answer = fleet.replicas[round % 3].purge(&patient()).await;
        took.push(begun.elapsed());
        assert_eq!(answer["replicas_confirmed"], 2, "{answer}");
        assert_eq!(answer["replicas_known"], 2);
        assert!(answer["position"].as_u64().unwrap() > 0);
        for at in 0..3 {
            assert_eq!(fleet.version_at(at).await, version, "round {round}, replica {at}");
        }
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("a purge is confirmed by all after {half:?}, p99 {most:?}");
    assert!(half < Duration::from_millis(100), "{half:?}");
    let positions: Vec<f64> = {
        let mut positions = Vec::new();
        for replica in &fleet.replicas {
            positions.push(replica.metric("outrigger_purge_log_position", &[]).await);
        }
        positions
    };
    assert!(positions.iter().all(|position| *position > 0.0), "{positions:?}");
}

#[tokio::test]
async fn what_one_replica_has_filled_is_hit_by_the_others_until_it_is_purged_anywhere() {
    let fleet = Fleet::start("30s").await;
    assert_eq!(fleet.version_at(0).await, 1);
    // Written behind the request's back.
    eventually("the entry to be in Redis", async || {
        let keys: Vec<String> = fleet.redis.command("KEYS outrigger:????????????????*").await;
        keys.iter().any(|key| !key.contains("purge")).then_some(())
    })
    .await;
    for at in [1, 2] {
        // The very first request may come before a worker has its connection.
        fleet.replicas[at].get("/other").await;
        let answer = fleet.replicas[at].fetch(get()).await;
        assert!(answer.cache_says("hit"), "{answer:?}");
        assert_eq!(answer.text(), "1");
    }
    assert_eq!(fleet.versions.origin.count("/a"), 1);
    let before = fleet.versions.origin.count("/a");
    let version = fleet.versions.change();
    fleet.replicas[2].purge(&patient()).await;
    for at in 0..3 {
        assert_eq!(fleet.version_at(at).await, version, "replica {at}");
    }
    assert!(fleet.versions.origin.count("/a") <= before + 3);
    // A replica that starts later hits what the others have, and serves nothing that they have purged.
    fleet.warm().await;
    let late = Sidecar::start_text(&fleet.yaml).await;
    let hit = async || {
        let answer = late.fetch(get()).await;
        (answer.cache_says("hit")).then_some(answer)
    };
    assert_eq!(eventually("a hit", hit).await.text(), version.to_string());
}

#[tokio::test]
async fn a_replica_that_was_cut_off_during_a_purge_learns_of_it_when_its_link_is_back() {
    let fleet = Fleet::start("60s").await;
    let old = fleet.warm().await;
    fleet.cut(1);
    fleet.says(1, "degraded").await;
    let version = fleet.versions.change();
    let answer = fleet.replicas[0].purge(&patient_with(500)).await;
    assert_eq!(answer["replicas_confirmed"], 1, "{answer}");
    assert_eq!(fleet.version_at(0).await, version);
    fleet.comes_to(2, version, SOON).await;
    assert_eq!(fleet.version_at(1).await, old, "it cannot know yet");
    fleet.mend(1);
    fleet.comes_to(1, version, SOON).await;
    assert!(fleet.says(1, "ok").await.contains("2 other replicas"));
}

fn patient_with(wait_ms: u64) -> Value {
    json!({"all": true, "wait_ms": wait_ms})
}

#[tokio::test]
async fn an_unsafe_request_on_one_replica_invalidates_on_all() {
    let fleet = Fleet::start("30s").await;
    fleet.warm().await;
    let version = fleet.versions.change();
    fleet.replicas[0].fetch(post()).await;
    for at in 0..3 {
        fleet.comes_to(at, version, SOON).await;
    }
}

#[tokio::test]
async fn a_user_with_the_documented_rights_suffices() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let rights = readme
        .lines()
        .find_map(|line| line.trim().strip_prefix("ACL SETUSER outrigger +eval"))
        .expect("the README names the rights");
    let acl = format!(
        "user hub on >secret resetchannels ~outrigger:* -@all +getrange +set +unlink +ping +eval{rights}"
    );
    let redis = RedisServer::start_with(&acl).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "secret").unwrap();
    let keys = format!(", username: hub, password_file: \"{}\"", secret.path().display());
    let fleet = Fleet::before(redis, "30s", &keys).await;
    fleet.warm().await;
    let version = fleet.versions.change();
    let answer = fleet.replicas[0].purge(&patient()).await;
    assert_eq!(answer["replicas_confirmed"], 2, "{answer}");
    fleet.replicas[0].fetch(post()).await;
    fleet.comes_to(2, version, SOON).await;
    let denied: Vec<redis::Value> = fleet.redis.command("ACL LOG").await;
    assert!(denied.is_empty(), "{denied:?}");
}
