//! Replicas, what they share and the links between them, with everything going wrong that can: messages that are lost,
//! late or without an answer, links that are cut, replicas that restart with and without their files, clocks that differ,
//! and a shared place that loses all of its data or the last of it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tempfile::TempDir;

use super::super::digest::KeyDigest;
use super::super::entry::{Entry, NewEntry, Notes, sample};
use super::super::flight::Beginning;
use super::super::invalidation::{Invalidations, index};
use super::super::purge::{Id, Mode, Moment, PurgeLog, Purged, Rules, Selector};
use super::super::vary::Nominated;
use super::follower::Follower;
use super::model::Model;
use super::protocol::{Answer, Call};
use crate::clock::{Clock, Timestamp};

const REPLICAS: usize = 3;
const KEYS: u64 = 4;
const CAP: Duration = Duration::from_secs(30);
const START: u64 = 1_000_000_000_000;

/// A generator that gives the same numbers for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// An entry as a level below memory has it.
#[derive(Clone, Copy)]
struct Kept {
    position: u64,
    stored_at: Timestamp,
    /// When its fill really began.
    began: u64,
}

/// Something that has changed at the origin and was told to one replica.
#[derive(Debug)]
struct Change {
    key: u64,
    /// When, in steps.
    at: u64,
    what: What,
    author: usize,
    /// Replicas that have taken note of it and not forgotten it since.
    holders: HashSet<usize>,
    /// It was in the shared place once.
    placed: bool,
    /// The shared place went back behind it, and nobody has noticed yet.
    rolled_back: bool,
    /// Nobody can know of it any more.
    forgotten: bool,
}

impl Change {
    /// Whether it is an unsafe request at `author` whose bucket is in `changed`.
    fn is_of(&self, author: usize, changed: &[u16]) -> bool {
        self.what == What::Unsafe && self.author == author && changed.contains(&index(&target(self.key)))
    }
}

#[derive(Debug, PartialEq)]
enum What {
    Purge(Id),
    Unsafe,
}

struct Replica {
    dir: Option<TempDir>,
    clock: Clock,
    log: PurgeLog,
    table: Invalidations,
    follower: Follower,
    linked: bool,
    /// The answer that is on its way, when the call was sent (by this replica's clock, and really), and which changes it
    /// tells of.
    inbox: Option<(Answer, Timestamp, u64, Vec<usize>)>,
    memory: BTreeMap<u64, (Arc<Entry>, u64)>,
    disk: BTreeMap<u64, Kept>,
    fills: Vec<(u64, Beginning, u64)>,
    /// The real time of the last contact.
    contact: Option<u64>,
}

struct World {
    random: Random,
    step: u64,
    now: u64,
    shared: Model,
    /// What a standby has.
    standby: Model,
    fleet: BTreeMap<u64, Kept>,
    replicas: Vec<Replica>,
    changes: Vec<Change>,
    /// Calls that arrive when nobody waits for them any more.
    late: Vec<(Id, Call)>,
    /// Faults come so many times less often than they could.
    calm: u64,
    reads: u64,
}

fn open(dir: Option<&Path>, clock: &Clock) -> PurgeLog {
    let rules = Rules {
        retention: Duration::from_secs(30 * 24 * 3600),
        replicas: Some(CAP),
    };
    let (log, warning) = PurgeLog::open(dir, clock.clone(), rules);
    assert_eq!(warning, None);
    log
}

fn digest(key: u64) -> KeyDigest {
    KeyDigest(*blake3::hash(&key.to_le_bytes()).as_bytes())
}

fn target(key: u64) -> String {
    format!("h/{key}")
}

fn entry(key: u64, moment: Moment, stored_at: Timestamp) -> Arc<Entry> {
    Entry::build(NewEntry {
        full_key: &key.to_le_bytes(),
        label: &format!("r:GET h/{key}"),
        route: "r".into(),
        tenant: None,
        tags: &[&format!("t{key}")],
        nominated: Nominated::default(),
        status: StatusCode::OK,
        headers: &HeaderMap::new(),
        notes: Notes::default(),
        body: &[],
        life: sample::life(),
        moment,
        public: false,
        sensitive: false,
        stored_at,
        fetch_time: Duration::ZERO,
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let replicas = (0..REPLICAS)
            .map(|_| {
                let skew = random.below(10_000_000);
                let clock = Clock::manual(Timestamp::from_micros(START + skew));
                let fast = Path::new("/dev/shm");
                let dir = random.one_in(2).then(|| {
                    let made = if fast.is_dir() {
                        TempDir::new_in(fast)
                    } else {
                        TempDir::new()
                    };
                    made.unwrap()
                });
                Replica {
                    log: open(dir.as_ref().map(TempDir::path), &clock),
                    dir,
                    clock,
                    table: Invalidations::default().replicated(),
                    follower: Follower::new(Id::random()),
                    linked: true,
                    inbox: None,
                    memory: BTreeMap::new(),
                    disk: BTreeMap::new(),
                    fills: Vec::new(),
                    contact: None,
                }
            })
            .collect();
        let calm = 1 + random.below(8);
        let max_records = if random.one_in(3) { 5 } else { 1_000 };
        let page = if random.one_in(2) { 2 } else { 1_000 };
        let shared = Model::new(START + random.below(10_000_000), max_records, page);
        Self {
            random,
            step: 0,
            now: START,
            standby: shared.clone(),
            shared,
            fleet: BTreeMap::new(),
            replicas,
            changes: Vec::new(),
            late: Vec::new(),
            calm,
            reads: 0,
        }
    }

    fn advance(&mut self, micros: u64) {
        self.now += micros;
        self.shared.now += micros;
        self.standby.now += micros;
        for replica in &self.replicas {
            replica.clock.advance(Duration::from_micros(micros));
        }
    }

    fn step(&mut self) {
        self.step += 1;
        let micros = match self.random.below(20) {
            0 => self.random.below(20_000_000),
            1..4 => self.random.below(100_000),
            _ => self.random.below(3),
        };
        self.advance(micros);
        let at = self.random.below(REPLICAS as u64) as usize;
        let key = self.random.below(KEYS);
        match self.random.below(100) {
            0..28 => self.ask(at),
            28..48 => self.deliver(at),
            48..51 => self.purge(at, key),
            51..53 => self.change(at, key),
            53..62 => self.begin_fill(at, key),
            62..72 => self.end_fill(at),
            72..90 => self.read(at, key),
            90 if self.random.one_in(self.calm) => self.replicas[at].linked = false,
            91..94 => self.replicas[at].linked = true,
            94 if self.random.one_in(self.calm) => self.restart(at),
            95 if self.random.one_in(2 * self.calm) => self.lose_everything(),
            96 => self.standby = self.shared.clone(),
            97 if self.random.one_in(2 * self.calm) => self.fail_over(),
            _ => self.arrive_late(),
        }
        self.audit();
    }

    fn ask(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if replica.inbox.is_some() {
            return;
        }
        if self.random.one_in(2) {
            replica.follower.wake();
        }
        let Some(call) = replica.follower.next(&replica.log, &replica.table) else {
            return;
        };
        let (id, sent) = (replica.follower.id(), replica.clock.now());
        if !replica.linked || self.random.one_in(8) {
            if replica.linked && self.random.one_in(2) {
                self.late.push((id, call));
            }
            replica.follower.failed(&replica.table);
            return;
        }
        let answer = self.shared.answer(id, &call);
        for change in &mut self.changes {
            if let Call::Publish { changed, .. } = &call
                && matches!(answer, Answer::Published { .. })
                && change.is_of(at, changed)
            {
                change.placed = true;
            }
        }
        let told = self.told(&answer);
        let replica = &mut self.replicas[at];
        if self.random.one_in(10) {
            replica.follower.failed(&replica.table);
        } else {
            replica.inbox = Some((answer, sent, self.now, told));
        }
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let which = self.random.below(self.late.len() as u64) as usize;
            let (id, call) = self.late.remove(which);
            self.shared.answer(id, &call);
        }
    }

    fn deliver(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let Some((answer, sent, sent_at, told)) = replica.inbox.take() else {
            return;
        };
        if !replica.linked {
            replica.follower.failed(&replica.table);
            return;
        }
        let progress = replica.follower.take(answer, sent, &replica.log, &replica.table);
        if progress.complete {
            replica.contact = Some(sent_at);
        }
        for change in told {
            self.changes[change].holders.insert(at);
        }
    }

    /// The changes that an answer tells of.
    fn told(&self, answer: &Answer) -> Vec<usize> {
        let Answer::Followed(followed) = answer else {
            return Vec::new();
        };
        let tells = |change: &Change| match change.what {
            What::Purge(id) => followed.batch.records.iter().any(|record| record.id == id),
            What::Unsafe => {
                let bucket = index(&target(change.key));
                change.placed && followed.changed.iter().any(|(changed, _)| *changed == bucket)
            }
        };
        (0..self.changes.len())
            .filter(|at| tells(&self.changes[*at]))
            .collect()
    }

    fn purge(&mut self, at: usize, key: u64) {
        let mode = if self.random.one_in(4) {
            Mode::Soft
        } else {
            Mode::Hard
        };
        let selector = match self.random.below(5) {
            0 => Selector::Tag(format!("t{key}")),
            1 => Selector::Key(digest(key)),
            2 => Selector::Prefix(format!("/{key}")),
            3 => Selector::Url(target(key)),
            _ => Selector::Glob(format!("r:* h/{key}")),
        };
        let records = self.replicas[at].log.append(vec![selector], mode).unwrap();
        self.note(at, key, What::Purge(records[0].id));
    }

    fn change(&mut self, at: usize, key: u64) {
        let replica = &self.replicas[at];
        replica.table.mark(&target(key), replica.clock.now());
        self.note(at, key, What::Unsafe);
    }

    fn note(&mut self, at: usize, key: u64, what: What) {
        self.changes.push(Change {
            key,
            at: self.step,
            what,
            author: at,
            holders: HashSet::from([at]),
            placed: false,
            rolled_back: false,
            forgotten: false,
        });
    }

    fn begin_fill(&mut self, at: usize, key: u64) {
        let replica = &mut self.replicas[at];
        let beginning = Beginning {
            moment: replica.log.moment(),
            at: replica.clock.now(),
        };
        replica.fills.push((key, beginning, self.step));
        // So that what comes next does not come at the very same microsecond.
        self.advance(1);
    }

    fn end_fill(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let Some((key, beginning, began)) = replica.fills.pop() else {
            return;
        };
        let kept = Kept {
            position: beginning.moment.position(),
            stored_at: beginning.at,
            began,
        };
        let made = entry(key, beginning.moment, beginning.at);
        replica.memory.insert(key, (made, began));
        replica.disk.insert(key, kept);
        if replica.linked {
            self.fleet.insert(key, kept);
        }
    }

    /// A request: from memory, from the fleet's level, from disk.
    fn read(&mut self, at: usize, key: u64) {
        let replica = &self.replicas[at];
        if let Some((entry, began)) = replica.memory.get(&key).cloned()
            && self.usable(at, key, &entry)
        {
            return self.served(at, key, &entry, began);
        }
        let fleet = self.fleet.get(&key).filter(|_| replica.linked).copied();
        for kept in [fleet, replica.disk.get(&key).copied()].into_iter().flatten() {
            let found = entry(key, Moment::elsewhere(kept.position), kept.stored_at);
            if self.usable(at, key, &found) {
                self.served(at, key, &found, kept.began);
                self.replicas[at].memory.insert(key, (found, kept.began));
                return;
            }
        }
    }

    fn usable(&self, at: usize, key: u64, entry: &Entry) -> bool {
        let replica = &self.replicas[at];
        replica.log.is_purged(entry, &digest(key)) == Purged::No
            && !replica.log.is_capped(entry, replica.clock.now())
            && !replica.table.covers(&target(key), entry.began())
    }

    /// What must hold of whatever is served.
    fn served(&mut self, at: usize, key: u64, entry: &Entry, began: u64) {
        self.reads += 1;
        for change in self.changes.iter().filter(|change| change.key == key) {
            assert!(
                began >= change.at || !change.holders.contains(&at),
                "step {}: replica {at} serves {entry:?} of step {began}, and knows of {change:?}",
                self.step
            );
        }
        let replica = &self.replicas[at];
        let cap = CAP.as_micros() as u64;
        if replica.contact.is_none_or(|contact| self.now > contact + cap) {
            let age = replica.clock.now().since(entry.stored_at());
            assert!(
                entry.is_own() && age <= CAP,
                "step {}: replica {at}, {age:?}",
                self.step
            );
        }
    }

    fn restart(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let path = replica.dir.as_ref().map(|dir| dir.path().to_owned());
        // The file is locked as long as the old log lives.
        replica.log = open(None, &replica.clock);
        replica.log = open(path.as_deref(), &replica.clock);
        replica.table = Invalidations::default().replicated();
        replica.follower = Follower::new(Id::random());
        replica.inbox = None;
        replica.memory.clear();
        replica.fills.clear();
        replica.contact = None;
        let durable = path.is_some();
        if !durable && self.random.one_in(2) {
            replica.disk.clear();
        }
        for change in &mut self.changes {
            if !durable || change.what == What::Unsafe {
                change.holders.remove(&at);
                change.forgotten |= !change.placed && change.author == at;
            }
        }
    }

    fn lose_everything(&mut self) {
        self.shared.lose();
        self.shared.now = self.shared.now.saturating_sub(5_000_000) + self.random.below(10_000_000);
    }

    /// The standby takes over; what it had not heard of is lost.
    fn fail_over(&mut self) {
        self.shared = self.standby.clone();
        self.shared.now = self.shared.now.saturating_sub(5_000_000) + self.random.below(10_000_000);
        let there: HashSet<Id> = self.shared.log.values().map(|(id, _)| *id).collect();
        for change in &mut self.changes {
            change.rolled_back = match &change.what {
                What::Purge(id) => change.placed && !there.contains(id),
                // That an invalidation got lost in a fail-over is only noticed with the purges around it.
                What::Unsafe => {
                    change.forgotten = true;
                    false
                }
            };
        }
    }

    /// Keeps account of who can know of what.
    fn audit(&mut self) {
        let there: HashSet<Id> = self.shared.log.values().map(|(id, _)| *id).collect();
        for change in &mut self.changes {
            if let What::Purge(id) = &change.what
                && there.contains(id)
            {
                change.placed = true;
                change.rolled_back = false;
            }
            change.forgotten |= change.rolled_back && change.holders.is_empty();
        }
    }

    /// Everything works again, for long enough.
    fn heal(&mut self) {
        for replica in &mut self.replicas {
            replica.linked = true;
        }
        // Whoever has restarted is forgotten under its old name.
        self.advance(25_000_000);
        for round in 0..400 {
            for at in 0..REPLICAS {
                self.advance(10);
                self.deliver(at);
                let replica = &mut self.replicas[at];
                if round % 20 == 0 {
                    replica.follower.wake();
                }
                if let Some(call) = replica.follower.next(&replica.log, &replica.table) {
                    let answer = self.shared.answer(replica.follower.id(), &call);
                    replica.inbox = Some((answer, replica.clock.now(), self.now, Vec::new()));
                }
                self.audit();
            }
        }
        let standings: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| (replica.log.standing(), replica.log.unpublished_len()))
            .collect();
        assert!(
            standings.iter().all(|standing| *standing == standings[0]),
            "{standings:?}"
        );
        assert_eq!(standings[0].1, 0);
        for replica in &self.replicas {
            assert_eq!(replica.follower.others().len(), REPLICAS - 1);
        }
    }

    /// After all is well, nobody serves anything that was filled before a change that anybody can know of.
    fn converged(&mut self) {
        for change in &mut self.changes {
            if !change.forgotten {
                change.holders.extend(0..REPLICAS);
            }
        }
        for at in 0..REPLICAS {
            for key in 0..KEYS {
                self.read(at, key);
                // And from below memory.
                self.replicas[at].memory.remove(&key);
                self.read(at, key);
            }
        }
    }
}

fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.step();
    }
    world.heal();
    world.converged();
    // And life goes on: what is filled now is used by everyone.
    for key in 0..KEYS {
        world.begin_fill(0, key);
        world.end_fill(0);
        let before = world.reads;
        for at in 0..REPLICAS {
            world.replicas[at].memory.remove(&key);
            world.read(at, key);
        }
        assert_eq!(world.reads - before, REPLICAS as u64, "seed {seed}");
    }
    world.reads
}

#[test]
fn no_replica_serves_what_it_knows_to_be_purged_and_all_come_to_know() {
    let seeds = std::env::var("OUTRIGGER_SIMULATIONS").map_or(300, |text| text.parse().unwrap());
    let first = std::env::var("OUTRIGGER_SEED").map_or(0, |text| text.parse().unwrap());
    let mut reads = 0;
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        reads += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(
        reads > seeds * 20,
        "the simulation hardly serves anything: {reads}"
    );
}
