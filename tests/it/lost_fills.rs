//! Fills that are lost, by a panic or with their thread: who waits for one neither hangs nor gets half an answer as a whole,
//! and nothing of it is left. The data plane runs in this process, so that a level can be one that panics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use outrigger::cache::codec::Codec;
use outrigger::cache::engine::Cache;
use outrigger::cache::invalidation::Invalidations;
use outrigger::cache::level::{Level, LevelError, LevelKey};
use outrigger::cache::purge::{PurgeLog, Rules};
use outrigger::cache::tiers::{Lower, Tiers};
use outrigger::clock::Clock;
use outrigger::config::{self, Environment, Loaded};
use outrigger::control::reload::{self, Controller};
use outrigger::control::state::State;
use outrigger::proxy::fleet::{self, Fleet};
use outrigger::tasks::Tasks;
use outrigger::telemetry::Telemetry;
use outrigger::telemetry::metrics::BuildInfo;
use tokio::sync::mpsc;

use crate::harness::{
    Answer, Call, Connection, Gate, Origin, Reply, channel, eventually, fetch, read_all, try_fetch, within,
};

/// An empty level of which one look-up panics, once it is told to go on.
#[derive(Debug)]
struct Faulty {
    calls: AtomicUsize,
    /// The number of that look-up, from 1; 0 for none.
    panics_at: usize,
    reached: Gate,
    go_on: Gate,
}

impl Faulty {
    fn new(panics_at: usize) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            panics_at,
            reached: Gate::closed(),
            go_on: Gate::closed(),
        })
    }
}

#[async_trait]
impl Level for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn kind(&self) -> &'static str {
        "test"
    }

    async fn get(&self, key: &LevelKey, _max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        // The key of a probe is a text, not a digest.
        let probes = key.0.is_ascii();
        if !probes && self.calls.fetch_add(1, Ordering::AcqRel) + 1 == self.panics_at {
            self.reached.open();
            self.go_on.passed().await;
            panic!("as the test wants it");
        }
        Ok(None)
    }

    async fn put(&self, _key: &LevelKey, _value: Bytes, _ttl: Duration) -> Result<(), LevelError> {
        Ok(())
    }

    async fn remove(&self, _key: &LevelKey) -> Result<(), LevelError> {
        Ok(())
    }
}

/// Two listeners with a worker each, over one state.
struct Sidecar {
    state: Arc<State>,
    one: SocketAddr,
    other: SocketAddr,
    /// The workers; that of `one` is the last.
    fleets: Vec<Fleet>,
    tasks: Tasks,
}

impl Sidecar {
    async fn start(origin: &Origin, level: &Arc<Faulty>) -> Self {
        let (loaded, clock, tasks) = (config(origin), Clock::system(), Tasks::new());
        let config = &loaded.config;
        let build = BuildInfo {
            version: "test",
            commit: "test",
        };
        let telemetry = Telemetry::new(clock.clone(), build);
        let (purges, _) = PurgeLog::open(None, clock.clone(), Rules::alone(Duration::from_secs(3600)));
        let memory = config.cache.memory.as_ref().expect("a memory level");
        let level: Arc<dyn Level> = Arc::clone(level) as _;
        let codec = Codec::new(config.cache.compress, None, memory.max_object);
        let tiers = Arc::new(Tiers::new(
            vec![Lower { level, codec }],
            memory,
            &telemetry,
            &clock,
        ));
        tiers.run(&tasks);
        within("the level", tiers.opened()).await;
        let cache = Cache::new(&config.cache, purges, clock.clone())
            .over(Arc::clone(&tiers), Invalidations::default());
        let snapshot = reload::build(config.clone(), None, &telemetry, &clock).expect("a configuration");
        let state = Arc::new(State::new(snapshot, cache, telemetry, clock));
        Controller::new(
            Arc::clone(&state),
            None,
            environment(),
            Vec::new(),
            &loaded,
            tasks.clone(),
        );
        let (mut addresses, mut fleets) = (Vec::new(), Vec::new());
        for listener in config.listeners.chunks(1) {
            let bound = fleet::bind(listener, 1).expect("a free port");
            addresses.push(bound[0].address);
            fleets.push(Fleet::start(bound, &state, 1).expect("a thread"));
        }
        Self {
            state,
            other: addresses[0],
            one: addresses[1],
            fleets,
            tasks,
        }
    }

    /// Ends the worker of `one`, with everything that it is at.
    async fn end_one(&mut self) {
        let ending = self.fleets.pop().expect("a running worker");
        within("the end of a worker", ending.drain(Duration::ZERO)).await;
    }

    /// Waits until `count` requests are under way.
    async fn active(&self, count: usize) {
        eventually("active requests", async || {
            (self.state.telemetry.active_requests() == count).then_some(())
        })
        .await;
    }

    /// Nothing of a flight is left, and the next request is answered as it should.
    async fn works(&self, origin: &Origin, expected: &str, requests: usize) {
        self.active(0).await;
        let next = fetch(self.other, get()).await;
        assert_eq!(next.text(), expected);
        assert!(next.cache_says("hit"), "{next:?}");
        assert_eq!(origin.count("/key"), requests);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn environment() -> Environment {
    Environment {
        vars: Box::new(|_| None),
        memory_bytes: 1 << 30,
        cpus: 1,
    }
}

fn config(origin: &Origin) -> Loaded {
    let text = format!(
        "
listeners: [{{name: other, bind: '127.0.0.1:0'}}, {{name: one, bind: '127.0.0.1:0'}}]
upstreams: {{hub: {{endpoints: [{{address: '{}'}}]}}}}
cache: {{levels: [memory: {{capacity: 16MiB}}]}}
routes:
  - {{name: api, match: {{path_prefix: /}}, upstream: hub, cache: {{mode: 'on', client_control: honour}}}}
",
        origin.address()
    );
    config::parse("test", &text, ".".as_ref(), &environment()).expect("a configuration")
}

/// The same request, whichever listener it goes to.
fn get() -> Call {
    Call::get("/key").header("host", "hub.test")
}

/// Starts `count` clients with `call`; what they get comes through the channel.
fn ask(
    address: SocketAddr,
    count: usize,
    call: fn() -> Call,
    tasks: &Tasks,
) -> mpsc::UnboundedReceiver<Result<Answer, String>> {
    let (sender, answers) = mpsc::unbounded_channel();
    for _ in 0..count {
        let sender = sender.clone();
        tasks.spawn("client", async move {
            drop(sender.send(try_fetch(address, call()).await));
        });
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_leader_that_panics_fetches_with_the_others() {
    const WAITING: usize = 20;
    let (origin, level) = (Origin::start().await, Faulty::new(1));
    origin.on("/key", |_| Reply::ok("whole").cache_control("max-age=60"));
    let sidecar = Sidecar::start(&origin, &level).await;
    let tasks = Tasks::new();
    let mut first = ask(sidecar.one, 1, get, &tasks);
    within("the leader", level.reached.passed()).await;
    let mut others = ask(sidecar.other, WAITING, get, &tasks);
    sidecar.active(1 + WAITING).await;
    level.go_on.open();
    let lost = within("the leader's end", first.recv()).await.unwrap();
    assert!(lost.is_err(), "its request went down with it: {lost:?}");
    for _ in 0..WAITING {
        let answer = within("an answer", others.recv()).await.unwrap().unwrap();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "whole"));
    }
    sidecar.works(&origin, "whole", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_fill_whose_task_panics_fetches_with_the_others() {
    const WAITING: usize = 20;
    // The first request fills; the second is answered by what is stale, and the refresh behind it looks below.
    let (origin, level) = (Origin::start().await, Faulty::new(2));
    origin.on("/key", |_| {
        Reply::ok("old")
            .cache_control("max-age=60, stale-while-revalidate=600")
            .header("age", "120")
    });
    let sidecar = Sidecar::start(&origin, &level).await;
    fetch(sidecar.one, get()).await;
    origin.on("/key", |_| Reply::ok("new").cache_control("max-age=60"));
    assert_eq!(fetch(sidecar.one, get()).await.text(), "old");
    within("the refresh", level.reached.passed()).await;
    let tasks = Tasks::new();
    let no_cache = || get().header("cache-control", "no-cache");
    let mut others = ask(sidecar.other, WAITING, no_cache, &tasks);
    sidecar.active(WAITING).await;
    assert_eq!(origin.count("/key"), 1, "all of them wait");
    level.go_on.open();
    for _ in 0..WAITING {
        let answer = within("an answer", others.recv()).await.unwrap().unwrap();
        assert_eq!(answer.text(), "new");
    }
    sidecar.active(0).await;
    let asked = origin.count("/key");
    assert!((2..=WAITING).contains(&asked), "they share fetches: {asked}");
    sidecar.works(&origin, "new", asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_head_of_a_fill_that_ends_with_its_thread_fetches_with_the_others() {
    const WAITING: usize = 20;
    let (origin, level, first) = (Origin::start().await, Faulty::new(0), AtomicUsize::new(0));
    origin.on_async("/key", move |_| {
        let never = (first.fetch_add(1, Ordering::AcqRel) == 0).then(Gate::closed);
        async move {
            if let Some(never) = never {
                never.passed().await;
            }
            Reply::ok("whole").cache_control("max-age=60")
        }
    });
    let mut sidecar = Sidecar::start(&origin, &level).await;
    let tasks = Tasks::new();
    let mut leader = ask(sidecar.one, 1, get, &tasks);
    origin.reached("/key", 1).await;
    let mut others = ask(sidecar.other, WAITING, get, &tasks);
    sidecar.active(1 + WAITING).await;
    sidecar.end_one().await;
    assert!(within("the leader's end", leader.recv()).await.unwrap().is_err());
    for _ in 0..WAITING {
        let answer = within("an answer", others.recv()).await.unwrap().unwrap();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "whole"));
    }
    sidecar.works(&origin, "whole", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_body_of_a_fill_that_ends_with_its_thread_is_told_that_it_is_not_whole() {
    let (origin, level) = (Origin::start().await, Faulty::new(0));
    let (sender, body) = channel();
    let body = parking_lot::Mutex::new(Some(body));
    origin.on("/key", move |_| {
        let reply = Reply::ok("whole").cache_control("max-age=60");
        match body.lock().take() {
            Some(body) => reply.body(body),
            None => reply,
        }
    });
    let mut sidecar = Sidecar::start(&origin, &level).await;
    let mut leader = Connection::open(sidecar.one).await.unwrap();
    let mut reader = Connection::open(sidecar.other).await.unwrap();
    let _led = leader.send(get()).await.unwrap();
    let aboard = reader.send(get()).await.unwrap();
    assert!(sender.chunk("the beginning").await);
    sidecar.end_one().await;
    let read = within("the end of the body", read_all(aboard.into_body())).await;
    assert!(read.is_err(), "a clean end: {read:?}");
    drop(leader);
    let next = fetch(sidecar.other, get()).await;
    assert_eq!(next.text(), "whole", "{next:?}");
    sidecar.works(&origin, "whole", 2).await;
}
