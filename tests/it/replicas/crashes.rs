//! A replica is killed in the middle of purges, under load, and comes back with what its disk holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use outrigger::tasks::Tasks;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Fleet, PLAIN, SOON};
use crate::harness::{Call, Connection, RedisServer, Token, eventually, try_fetch, within};

/// Kills.
const ROUNDS: usize = 5;
/// Purges by the one that is killed, at least, before it is.
const PURGES: u64 = 10;
/// Paths that are read.
const PATHS: usize = 8;
/// The one that is killed.
const VICTIM: usize = 2;

/// A reader at work.
type Reader = JoinSet<Result<(), String>>;

/// What a reader of one replica has to see at least, and how much it has read.
#[derive(Clone, Default)]
struct Watch {
    floor: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Watch {
    /// From now on nothing older than `version` may come.
    fn raise(&self, version: u64) {
        self.floor.fetch_max(version, Ordering::AcqRel);
    }

    /// Begins to read.
    fn start(&self, address: SocketAddr) -> Reader {
        let mut reader = Reader::new();
        reader.spawn(self.clone().read(address));
        reader
    }

    /// Reads until it is told to stop; an error of the connection is told, and something old is a panic.
    async fn read(self, address: SocketAddr) -> Result<(), String> {
        let mut connection = Connection::open(address).await?;
        for number in (0..PATHS).cycle() {
            if self.done.load(Ordering::Acquire) {
                break;
            }
            let floor = self.floor.load(Ordering::Acquire);
            let call = Call::get(&format!("/item/{number}")).replace("host", "hub.local");
            let answer = connection.fetch(call).await?;
            assert_eq!(answer.status, 200, "{answer:?}");
            let version: u64 = answer.text().parse().unwrap();
            assert!(
                version >= floor,
                "{version} after {floor} was acknowledged: {answer:?}"
            );
            self.reads.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Waits until it has been read so often more.
    async fn more(&self, count: u64) {
        let goal = self.reads.load(Ordering::Acquire) + count;
        eventually("reads", async || {
            (self.reads.load(Ordering::Acquire) >= goal).then_some(())
        })
        .await;
    }
}

/// What to purge: everything, one way or another.
fn wish(round: u64, wait_ms: u64) -> Value {
    match round % 3 {
        0 => json!({"all": true, "wait_ms": wait_ms}),
        1 => json!({"prefix": "/item/", "wait_ms": wait_ms}),
        _ => json!({"route": "api", "wait_ms": wait_ms}),
    }
}

/// Purges at the admin API of one replica without waiting for others until that fails; `acknowledged` is the last version
/// whose predecessors were purged.
async fn purge_on(fleet: Arc<Fleet>, admin: SocketAddr, acknowledged: Arc<AtomicU64>, count: Arc<AtomicU64>) {
    for round in 0.. {
        let version = fleet.versions.change();
        let call = Call::json("/api/v1/performance/cache/purge", wish(round, 0).to_string());
        let answer = try_fetch(admin, call.bearer(&Token::Operator.secret())).await;
        if !answer.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        acknowledged.fetch_max(version, Ordering::AcqRel);
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// One round: purges on all replicas, one of which is killed and comes back. With `cut` it has lost its way to Redis before,
/// so that its disk alone knows of its last purges.
async fn round(fleet: &mut Arc<Fleet>, watches: &[Watch; 3], tasks: &Tasks, cut: bool) {
    let victim = &fleet.replicas[VICTIM];
    let (own, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let purger = tasks.spawn(
        "purger",
        purge_on(
            Arc::clone(fleet),
            victim.admin_address(),
            Arc::clone(&own),
            Arc::clone(&count),
        ),
    );
    let reader = watches[VICTIM].start(victim.address());
    watches[VICTIM].more(50).await;
    // The last version of which a purge was acknowledged at a survivor, and has its place in Redis.
    let mut placed = 0;
    let mut turn = 0;
    while count.load(Ordering::Acquire) < PURGES || turn < 4 {
        placed = placed.max(purge(fleet, watches, turn).await);
        turn += 1;
    }
    if cut {
        fleet.cut(VICTIM);
        let goal = count.load(Ordering::Acquire) + PURGES;
        eventually("purges without Redis", async || {
            (count.load(Ordering::Acquire) >= goal).then_some(())
        })
        .await;
    }
    fleet.replicas[VICTIM].signal(Signal::SIGKILL);
    purger.await.unwrap();
    let lost = ended(reader).await;
    assert!(lost.is_err(), "the reader has lost its connection");
    // It is away while the others go on.
    placed = placed.max(purge(fleet, watches, turn).await);
    fleet.mend(VICTIM);
    let fleet = Arc::get_mut(fleet).expect("nobody else has it");
    let victim = fleet.replicas.remove(VICTIM).restart(Signal::SIGKILL).await;
    let own = own.load(Ordering::Acquire);
    watches[VICTIM].raise(own.max(placed));
    let reader = watches[VICTIM].start(victim.address());
    fleet.replicas.push(victim);
    watches[VICTIM].more(200).await;
    // What it had acknowledged without anybody knowing is known to all when it is back.
    for (at, watch) in watches.iter().enumerate().take(VICTIM) {
        fleet.comes_to(at, own, 5 * SOON).await;
        watch.raise(own);
    }
    stop(&watches[VICTIM], reader).await;
}

/// A purge on one of the survivors; the version that holds everywhere from now on, as far as Redis knows of it.
async fn purge(fleet: &Fleet, watches: &[Watch; 3], turn: u64) -> u64 {
    let at = turn as usize % VICTIM;
    let version = fleet.versions.change();
    let answer = fleet.replicas[at].purge(&wish(turn, 200)).await;
    watches[at].raise(version);
    if answer["position"].is_null() { 0 } else { version }
}

/// What became of a reader.
async fn ended(mut reader: Reader) -> Result<(), String> {
    let end = within("a reader to end", reader.join_next()).await;
    end.expect("it was started").expect("it has seen nothing old")
}

async fn stop(watch: &Watch, reader: Reader) {
    watch.done.store(true, Ordering::Release);
    ended(reader).await.unwrap();
    watch.done.store(false, Ordering::Release);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_in_the_middle_of_purges_forgets_none_and_harms_no_other() {
    let disk = "    - disk: {name: disk, path: \"@DIR@/disk\", capacity: 64MiB}\n";
    let fleet = Fleet::with_levels(RedisServer::start().await, "30s", disk, "", PLAIN).await;
    let (mut fleet, tasks) = (Arc::new(fleet), Tasks::new());
    let watches: [Watch; 3] = std::array::from_fn(|_| Watch::default());
    let readers: Vec<_> = (0..VICTIM)
        .map(|at| {
            let address = fleet.replicas[at].address();
            watches[at].start(address)
        })
        .collect();
    for number in 0..ROUNDS {
        round(&mut fleet, &watches, &tasks, number % 2 == 1).await;
    }
    for (watch, reader) in watches.iter().zip(readers) {
        watch.more(50).await;
        stop(watch, reader).await;
    }
    let reads: Vec<u64> = watches
        .iter()
        .map(|watch| watch.reads.load(Ordering::Acquire))
        .collect();
    println!("{ROUNDS} kills, {reads:?} reads, no old answer");
}
