//! What the purge log adds to a hit: nothing that grows with it, once an entry was looked at since the last purge; and
//! what the first look after purges costs.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use http::Method;

use outrigger::cache::control::RequestControl;
use outrigger::cache::digest::KeyDigest;
use outrigger::cache::purge::{Mode, PurgeLog, Purged, Rules, Selector};
use outrigger::cache::reuse;
use outrigger::clock::Clock;
use outrigger::config::EvictionPolicy;
use outrigger::route::Router;

use super::{NOW, Turn, entry, filled, find, key_of, keys, path, request_headers, route, routes};

/// Purges in the log, none of which selects what is hit.
const MARKS: [usize; 3] = [0, 100, 10_000];

pub(super) fn purges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("purges");
    let (router, route, headers) = (Router::build(&routes(3)), route("shared"), request_headers());
    let control = RequestControl::default();
    let keys = keys(&route);
    let paths: Vec<String> = (0..keys.len()).map(path).collect();
    for marks in MARKS {
        let (log, _) = PurgeLog::open(
            None,
            Clock::manual(NOW),
            Rules::alone(Duration::from_secs(86_400)),
        );
        let moment = log.moment();
        let memory = filled(EvictionPolicy::ClockPro, &keys, moment);
        let selectors = (0..marks).map(elsewhere).collect();
        log.append(selectors, Mode::Hard).expect("it is kept in memory");
        for key in &keys {
            log.is_purged(&find(&memory, key), key.primary());
        }
        let mut turn = Turn::default();
        group.bench_function(format!("hit, {marks} purges"), |bencher| {
            bencher.iter(|| {
                let path = &paths[turn.next()];
                let index = router.find("hub.local", path, &Method::GET, &headers);
                let key = key_of(&route, &headers, path);
                let entry = find(&memory, &key);
                let purged = log.is_purged(&entry, key.primary());
                assert_eq!(purged, Purged::No, "no purge selects it");
                let usable = reuse::may_use(entry.life(), &control, NOW);
                (index, usable, entry.headers(), entry.body())
            });
        });
        let key = &keys[0];
        group.bench_function(format!("first look after {marks} purges"), |bencher| {
            bencher.iter_batched(
                || entry(key, moment),
                |entry| (log.is_purged(black_box(&entry), key.primary()), entry),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// One of many selectors of what is elsewhere: keys, URLs and tags, and one in ten a prefix, which has to be compared.
fn elsewhere(number: usize) -> Selector {
    match number % 10 {
        0 => Selector::Prefix(format!("hub.local:8080/elsewhere/{number}/")),
        1..4 => Selector::Url(format!("hub.local:8080/elsewhere/{number}")),
        4..7 => Selector::Tag(format!("tag-{number}")),
        _ => Selector::Key(KeyDigest(*blake3::hash(&number.to_le_bytes()).as_bytes())),
    }
}
