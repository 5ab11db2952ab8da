//! The cache over two levels that can be told how to behave.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};

use super::super::below::Below;
use super::super::engine::{Cache, Lookup, Request};
use super::super::entry::{Entry, NewEntry, Notes, sample};
use super::super::fixture::{headers, route, rules};
use super::super::invalidation::Invalidations;
use super::super::key::{Key, KeyParts};
use super::super::level::testing::{Behaviour, TestLevel};
use super::super::life::Life;
use super::super::partition::Partition;
use super::super::purge::{Mode, PurgeLog, Rules, Selector};
use super::super::vary::Nominated;
use super::super::verdict::MissReason;
use super::*;
use crate::clock::Timestamp;
use crate::config::{Compress, Compression, EvictionPolicy, Route};
use crate::telemetry::metrics::BuildInfo;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

struct Stage {
    cache: Cache,
    levels: [Arc<TestLevel>; 2],
    clock: Clock,
    route: Route,
    _tasks: Tasks,
}

impl Stage {
    /// Two levels that work.
    async fn open() -> Self {
        Self::open_with([Behaviour::Works, Behaviour::Works]).await
    }

    async fn open_with(behaviours: [Behaviour; 2]) -> Self {
        let clock = Clock::manual(NOW);
        let build = BuildInfo {
            version: "0",
            commit: "0",
        };
        let telemetry = Telemetry::new(clock.clone(), build);
        let memory = MemoryLevel {
            name: "l1".into(),
            capacity: 64 << 20,
            policy: EvictionPolicy::ClockPro,
            max_object: 1 << 20,
        };
        let levels = [TestLevel::new("l2"), TestLevel::new("l3")].map(Arc::new);
        for (level, behaviour) in levels.iter().zip(behaviours) {
            level.behave(behaviour);
        }
        let lower = levels.iter().map(|level| Lower {
            level: Arc::clone(level) as Arc<dyn Level>,
            codec: Codec::new(compress(), None, memory.max_object),
        });
        let tiers = Arc::new(Tiers::new(lower.collect(), &memory, &telemetry, &clock));
        let tasks = Tasks::new();
        tiers.run(&tasks);
        tiers.opened().await;
        let (purges, _) = PurgeLog::open(None, clock.clone(), Rules::alone(Duration::from_secs(3600)));
        let settings = config::Cache {
            memory: Some(memory),
            lower: Vec::new(),
            compress: compress(),
            keyrings: Default::default(),
        };
        for level in &levels {
            level.forget_calls();
        }
        Self {
            cache: Cache::new(&settings, purges, clock.clone()).over(tiers, Invalidations::default()),
            levels,
            clock,
            route: route(rules()),
            _tasks: tasks,
        }
    }

    fn key(&self, path: &str, partition: Partition) -> Key {
        let parts = KeyParts {
            route: &self.route,
            method: &Method::GET,
            scheme: "http",
            authority: "hub.local",
            path,
            query: None,
            headers: &HeaderMap::new(),
            body: None,
        };
        Key::build(&parts, partition, true)
    }

    fn own(&self, path: &str) -> Key {
        self.key(path, Partition::None)
    }

    /// An entry as a fill that begins now makes it, fresh for a minute.
    fn entry(&self, key: &Key, public: bool, nominated: Nominated, body: &[u8]) -> Arc<Entry> {
        let shared = public && key.public().is_some();
        Entry::build(NewEntry {
            full_key: key.full(shared),
            label: &key.label(),
            route: Arc::clone(&self.route.name),
            tenant: None,
            tags: &["tag"],
            nominated,
            status: StatusCode::OK,
            headers: &HeaderMap::new(),
            notes: Notes::default(),
            body: &[Bytes::copy_from_slice(body)],
            life: Life {
                generated_at: self.clock.now(),
                stale_if_error: Duration::from_secs(3600),
                ..sample::life()
            },
            moment: self.cache.purges.moment(),
            public,
            sensitive: false,
            stored_at: self.clock.now(),
            fetch_time: Duration::ZERO,
        })
    }

    /// Stores what [`Stage::entry`] makes, in every level.
    async fn store(&self, key: &Key, body: &[u8]) -> Arc<Entry> {
        let entry = self.entry(key, false, Nominated::default(), body);
        self.keep(key.primary(), &entry).await;
        entry
    }

    async fn keep(&self, digest: &KeyDigest, entry: &Arc<Entry>) {
        let memory = self.cache.memory.as_ref().unwrap();
        let slot = memory.put(digest, Arc::clone(entry)).unwrap();
        self.cache.tiers.put(digest, &slot);
        self.written().await;
    }

    /// Waits until nothing waits to be written.
    async fn written(&self) {
        while self.cache.tiers.iter().any(|tier| tier.queue.len() > 0) {
            tokio::task::yield_now().await;
        }
    }

    fn forget_memory(&self) {
        self.cache.memory.as_ref().unwrap().clear();
    }

    async fn look(&self, key: &Key) -> Option<Below> {
        self.look_with(key, &HeaderMap::new()).await
    }

    /// A hundred look-ups that have all begun before any level answers.
    async fn look_at_once(&self, key: &Key) -> Vec<Option<Below>> {
        let behave = |behaviour: Behaviour| {
            for level in &self.levels {
                level.behave(behaviour.clone());
            }
        };
        behave(Behaviour::Hangs);
        let looks = join_all((0..100).map(|_| self.look(key)));
        let (found, ()) = tokio::join!(looks, async { behave(Behaviour::Works) });
        found
    }

    async fn look_with(&self, key: &Key, headers: &HeaderMap) -> Option<Below> {
        let request = Request {
            key,
            method: &http::Method::GET,
            headers,
        };
        self.cache.look_below(&rules(), &request).await
    }

    fn status(&self, level: usize) -> LevelStatus {
        self.cache.tiers.status().remove(level)
    }

    fn gets(&self) -> [usize; 2] {
        [0, 1].map(|level| self.levels[level].gets.load(Ordering::Relaxed))
    }

    fn values(&self) -> [usize; 2] {
        [0, 1].map(|level| self.levels[level].len())
    }

    fn in_memory(&self, key: &Key) -> bool {
        self.cache.memory.as_ref().unwrap().peek(key.primary()).is_some()
    }
}

fn compress() -> Compress {
    Compress {
        algorithm: Compression::Off,
        min_size: 0,
    }
}

fn body(below: Option<&Below>) -> Option<Bytes> {
    match &below?.lookup {
        Lookup::Fresh(entry) => Some(entry.body()),
        _ => None,
    }
}

fn reason(below: &Below) -> MissReason {
    match &below.lookup {
        Lookup::Miss { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_memory_has_forgotten_is_found_below_and_is_in_memory_again() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    assert_eq!(stage.values(), [1, 1]);
    stage.forget_memory();
    let found = stage.look(&key).await;
    assert_eq!(body(found.as_ref()).unwrap(), "body");
    assert_eq!(stage.cache.tiers.name_of(found.unwrap().level), Some("l2"));
    assert_eq!(stage.gets(), [1, 0], "the nearest level had it");
    assert!(stage.in_memory(&key));
    assert_eq!(stage.status(0).summary.hits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deeper_level_fills_those_above_it() {
    let stage = Stage::open_with([Behaviour::Works, Behaviour::Works]).await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.forget_memory();
    stage.levels[0].clear();
    let found = stage.look(&key).await;
    assert_eq!(body(found.as_ref()).unwrap(), "body");
    assert_eq!(stage.cache.tiers.name_of(found.unwrap().level), Some("l3"));
    stage.written().await;
    assert_eq!((stage.gets(), stage.values()), ([1, 1], [1, 1]));
    assert_eq!(
        (stage.status(0).summary.misses, stage.status(1).summary.hits),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_anywhere_is_one_call_per_level_however_many_ask() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    let found = stage.look_at_once(&key).await;
    assert!(found.iter().all(Option::is_none));
    assert_eq!(stage.gets(), [1, 1]);
    stage.store(&key, b"body").await;
    stage.forget_memory();
    let found = stage.look_at_once(&key).await;
    assert!(found.iter().all(|found| body(found.as_ref()).is_some()));
    assert_eq!(stage.gets(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_everyone_is_asked_for_at_the_same_time() {
    let stage = Stage::open().await;
    let [one, other] = [1, 2].map(|n| stage.key("/a", Partition::Principal([n; 32])));
    let public = stage.entry(&one, true, Nominated::default(), b"for all");
    stage.keep(one.public().unwrap(), &public).await;
    stage.store(&one, b"for one").await;
    stage.forget_memory();
    assert_eq!(body(stage.look(&other).await.as_ref()).unwrap(), "for all");
    assert_eq!(stage.gets(), [2, 0], "both digests, one level");
    stage.forget_memory();
    assert_eq!(body(stage.look(&one).await.as_ref()).unwrap(), "for one");
    assert_eq!(
        body(stage.look(&stage.own("/a")).await.as_ref()).unwrap(),
        "for all"
    );
}

#[tokio::test(start_paused = true)]
async fn what_answered_an_anonymous_request_is_not_for_everyone() {
    let stage = Stage::open().await;
    let (anonymous, somebody) = (stage.own("/a"), stage.key("/a", Partition::Principal([1; 32])));
    stage.store(&anonymous, b"anonymous").await;
    stage.forget_memory();
    assert!(body(stage.look(&somebody).await.as_ref()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_changed_value_is_a_miss_that_is_deleted_and_counted() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.forget_memory();
    stage.levels[0].tamper(|value| {
        let last = value.last_mut().unwrap();
        *last ^= 1;
    });
    stage.levels[1].tamper(Vec::clear);
    assert!(stage.look(&key).await.is_none());
    stage.written().await;
    assert_eq!(stage.values(), [0, 0]);
    assert_eq!(
        [0, 1].map(|level| stage.status(level).summary.integrity_failures),
        [1, 1]
    );
    assert!(stage.status(0).up, "the level itself is in order");
}

#[tokio::test(start_paused = true)]
async fn an_oversized_value_is_a_miss_that_is_deleted_and_counted() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.forget_memory();
    for level in &stage.levels {
        level.tamper(|value| value.resize(64 << 20, 0));
    }
    for _ in 0..8 {
        assert!(stage.look(&key).await.is_none());
    }
    stage.written().await;
    assert_eq!(stage.values(), [0, 0]);
    assert!(stage.status(0).up && stage.status(0).summary.integrity_failures > 0);
}

#[tokio::test(start_paused = true)]
async fn purges_count_for_what_lies_below() {
    let stage = Stage::open().await;
    let (hard, soft) = (stage.own("/hard"), stage.own("/soft"));
    stage.store(&hard, b"body").await;
    stage.store(&soft, b"body").await;
    stage.forget_memory();
    // Memory has nothing that matches: the log alone knows.
    let purge = |path: &str, mode| {
        stage
            .cache
            .purge(vec![Selector::prefix(path)], mode, false)
            .unwrap()
    };
    assert_eq!(purge("/hard", Mode::Hard).matched, 0);
    purge("/soft", Mode::Soft);
    assert!(stage.look(&hard).await.is_none());
    let below = stage.look(&soft).await.unwrap();
    assert!(
        matches!(
            &below.lookup,
            Lookup::Miss {
                reason: MissReason::Purged,
                stale: Some(_)
            }
        ),
        "{below:?}"
    );
    stage.written().await;
    assert_eq!(stage.values(), [1, 1], "what is purged for good is deleted");
}

#[tokio::test(start_paused = true)]
async fn a_purge_deletes_below_what_it_finds_in_memory() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.cache.purge(vec![Selector::All], Mode::Hard, false).unwrap();
    stage.written().await;
    assert_eq!(stage.values(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn invalidations_count_for_what_lies_below() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.forget_memory();
    stage.cache.invalidations.mark("hub.local/a", stage.clock.now());
    let below = stage.look(&key).await.unwrap();
    assert_eq!(reason(&below), MissReason::Invalidated);
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_looked_for_in_every_level_and_given_back_to_be_validated() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"old").await;
    stage.clock.advance(Duration::from_secs(61));
    let below = stage.look(&key).await.unwrap();
    assert_eq!(reason(&below), MissReason::Stale);
    assert_eq!(stage.gets(), [1, 1]);
    // Another replica has refreshed it in the level that both share.
    let newer = stage.entry(&key, false, Nominated::default(), b"new");
    let slot = Arc::new(Slot::new(newer));
    stage.cache.tiers.tiers[1].push(*key.primary(), Write::Put(slot));
    stage.written().await;
    assert_eq!(body(stage.look(&key).await.as_ref()).unwrap(), "new");
    stage.written().await;
    stage.forget_memory();
    assert_eq!(body(stage.look(&key).await.as_ref()).unwrap(), "new");
    assert_eq!(stage.gets(), [3, 2], "the nearest level has it now");
}

#[tokio::test(start_paused = true)]
async fn variants_are_kept_together_and_the_right_one_is_chosen() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    for language in ["de", "en"] {
        let nominated = sample::nominated("accept-language", language);
        let entry = stage.entry(&key, false, nominated, language.as_bytes());
        stage.keep(key.primary(), &entry).await;
    }
    assert_eq!(stage.values(), [1, 1]);
    stage.forget_memory();
    for language in ["de", "en"] {
        let found = stage
            .look_with(&key, &headers(&[("accept-language", language)]))
            .await;
        assert_eq!(body(found.as_ref()).unwrap(), language);
    }
    let below = stage
        .look_with(&key, &headers(&[("accept-language", "fr")]))
        .await
        .unwrap();
    assert_eq!(reason(&below), MissReason::Vary);
}

#[tokio::test(start_paused = true)]
async fn removing_an_entry_removes_it_below_and_spares_its_siblings() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    let entries = ["de", "en"].map(|language| {
        let nominated = sample::nominated("accept-language", language);
        stage.entry(&key, false, nominated, language.as_bytes())
    });
    for entry in &entries {
        stage.keep(key.primary(), entry).await;
    }
    stage.cache.remove(&key, &entries[0]);
    stage.written().await;
    stage.forget_memory();
    let look = async |language| {
        stage
            .look_with(&key, &headers(&[("accept-language", language)]))
            .await
    };
    assert!(body(look("de").await.as_ref()).is_none());
    assert_eq!(body(look("en").await.as_ref()).unwrap(), "en");
    stage.cache.remove(&key, &entries[0]);
    stage.forget_memory();
    stage.cache.remove(&key, &entries[1]);
    stage.written().await;
    assert_eq!(stage.values(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_is_read_already() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.levels[0].behave(Behaviour::Hangs);
    let entry = stage.entry(&key, false, Nominated::default(), b"body");
    let slot = stage
        .cache
        .memory
        .as_ref()
        .unwrap()
        .put(key.primary(), entry)
        .unwrap();
    stage.cache.tiers.put(key.primary(), &slot);
    stage.forget_memory();
    tokio::task::yield_now().await;
    assert_eq!(body(stage.look(&key).await.as_ref()).unwrap(), "body");
    stage.cache.tiers.remove(key.primary());
    stage.forget_memory();
    stage.levels[1].clear();
    assert!(stage.look(&key).await.is_none());
    assert_eq!(stage.gets()[0], 0);
}

#[tokio::test(start_paused = true)]
async fn five_failures_give_a_level_a_rest_and_a_probe_ends_it() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.levels[0].behave(Behaviour::Fails);
    for _ in 0..5 {
        stage.forget_memory();
        assert_eq!(
            body(stage.look(&key).await.as_ref()).unwrap(),
            "body",
            "the other level has it"
        );
        stage.written().await;
    }
    let status = stage.status(0);
    assert!(
        !status.up && status.trouble.contains("told to fail"),
        "{status:?}"
    );
    let asked = stage.gets()[0];
    for n in 0..100 {
        stage.look(&stage.own(&format!("/{n}"))).await;
    }
    assert_eq!(stage.gets()[0], asked, "nobody asks it");
    let dropped = stage.status(0).summary.dropped;
    stage.store(&key, b"body").await;
    assert_eq!(stage.status(0).summary.dropped, dropped + 1);
    // It is probed, in vain, and then with success.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!stage.status(0).up && stage.gets()[0] > asked);
    stage.levels[0].behave(Behaviour::Works);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let status = stage.status(0);
    assert!(status.up && status.trouble.is_empty(), "{status:?}");
    stage.forget_memory();
    assert!(stage.look(&key).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn trouble_is_noticed_without_traffic() {
    let stage = Stage::open().await;
    stage.levels[1].behave(Behaviour::Fails);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!stage.status(1).up && stage.status(0).up);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_down_at_the_start_is_used_once_it_is_back() {
    let stage = Stage::open_with([Behaviour::Fails, Behaviour::Works]).await;
    assert!(!stage.status(0).up && stage.status(1).up);
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    assert_eq!(stage.values(), [0, 1]);
    stage.levels[0].behave(Behaviour::Works);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(stage.status(0).up);
    stage.store(&key, b"body").await;
    assert_eq!(stage.values(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_refuses_writes_is_still_read() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.levels[0].behave(Behaviour::ReadOnly);
    for n in 0..10 {
        stage.store(&stage.own(&format!("/{n}")), b"body").await;
    }
    let puts = stage.levels[0].puts.load(Ordering::Relaxed);
    assert!(puts <= 1 + 5, "{puts}");
    let status = stage.status(0);
    assert!(!status.up && status.trouble.contains("read only"), "{status:?}");
    assert!(status.summary.dropped >= 10, "{status:?}");
    stage.forget_memory();
    assert_eq!(
        stage.cache.tiers.name_of(stage.look(&key).await.unwrap().level),
        Some("l2")
    );
    stage.levels[0].behave(Behaviour::Works);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(stage.status(0).up);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_written_as_far_as_there_is_time() {
    let stage = Stage::open().await;
    stage.levels[1].behave(Behaviour::Hangs);
    for n in 0..20 {
        let key = stage.own(&format!("/{n}"));
        let entry = stage.entry(&key, false, Nominated::default(), b"body");
        let slot = stage
            .cache
            .memory
            .as_ref()
            .unwrap()
            .put(key.primary(), entry)
            .unwrap();
        stage.cache.tiers.put(key.primary(), &slot);
    }
    assert!(!stage.cache.tiers.drain(Duration::from_secs(1)).await);
    assert_eq!(stage.values(), [20, 0]);
    assert_eq!(
        stage.status(1).summary.dropped,
        20 - WRITERS as u64,
        "those under way are not known"
    );
}

#[tokio::test(start_paused = true)]
async fn a_route_that_only_writes_does_not_look() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    let mut rules = rules();
    rules.read = false;
    let none = HeaderMap::new();
    let request = Request {
        key: &key,
        method: &http::Method::GET,
        headers: &none,
    };
    assert!(stage.cache.look_below(&rules, &request).await.is_none());
    assert_eq!(stage.gets(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_onlooker_leaves_everything_as_it_is() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.store(&key, b"body").await;
    stage.forget_memory();
    let none = HeaderMap::new();
    let request = Request {
        key: &key,
        method: &http::Method::GET,
        headers: &none,
    };
    let below = stage.cache.peek_below(&rules(), &request).await;
    assert_eq!(body(below.as_ref()).unwrap(), "body");
    assert!(!stage.in_memory(&key));
    let summary = stage.status(0).summary;
    assert_eq!((summary.hits, summary.misses), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_ahead_of_ours_has_made_is_not_used() {
    let stage = Stage::open().await;
    let key = stage.own("/a");
    stage.clock.advance(Duration::from_secs(3600));
    stage.store(&key, b"body").await;
    let stage = Stage {
        clock: Clock::manual(NOW),
        ..stage
    };
    let behind = Stage::open().await;
    for (here, there) in behind.levels.iter().zip(&stage.levels) {
        here.copy(there);
    }
    assert!(behind.look(&key).await.is_none());
}
