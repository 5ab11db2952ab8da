//! Tests of the purge log: races, durability, damage and bounds.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::entry::sample;
use super::*;

const DIGEST: KeyDigest = KeyDigest([1; 32]);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn in_memory() -> PurgeLog {
    PurgeLog::open(None, clock(), Rules::alone(YEAR)).0
}

/// Purges, and gives the position of the last record.
fn append(log: &PurgeLog, selectors: Vec<Selector>, mode: Mode) -> std::io::Result<u64> {
    let records = log.append(selectors, mode)?;
    Ok(records.last().map_or(log.position(), |record| record.position))
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_000))
}

fn open(dir: &TempDir) -> PurgeLog {
    let (log, warning) = PurgeLog::open(Some(dir.path()), clock(), Rules::alone(YEAR));
    assert_eq!(warning, None);
    log
}

fn entry_at(position: u64) -> Arc<Entry> {
    sample::entry("a:GET h/p", &["t"], position)
}

fn tag(text: &str) -> Vec<Selector> {
    vec![Selector::Tag(text.into())]
}

#[test]
fn a_fill_that_began_before_a_purge_is_never_used_after_it() {
    let log = in_memory();
    let before = log.position();
    let purge = append(&log, tag("t"), Mode::Hard).unwrap();
    let (raced, later) = (entry_at(before), entry_at(purge));
    for _ in 0..2 {
        assert_eq!(log.is_purged(&raced, &DIGEST), Purged::Hard);
        assert_eq!(log.is_purged(&later, &DIGEST), Purged::No);
    }
}

#[test]
fn a_purge_is_in_effect_for_entries_that_were_checked_before() {
    let log = in_memory();
    let entry = entry_at(log.position());
    log.append(tag("other"), Mode::Hard).unwrap();
    assert_eq!(log.is_purged(&entry, &DIGEST), Purged::No);
    assert_eq!(
        entry.checked(),
        log.moment().version(),
        "the next check is two loads"
    );
    log.append(tag("t"), Mode::Soft).unwrap();
    assert_eq!(log.is_purged(&entry, &DIGEST), Purged::Soft);
    assert!(entry.soft_purged());
    log.append(tag("other"), Mode::Hard).unwrap();
    assert_eq!(log.is_purged(&entry, &DIGEST), Purged::Soft, "the mark stays");
    log.append(vec![Selector::Key(DIGEST)], Mode::Hard).unwrap();
    assert_eq!(log.is_purged(&entry, &DIGEST), Purged::Hard);
}

#[test]
fn no_reader_uses_an_entry_after_the_purge_returned() {
    let log = in_memory();
    for _ in 0..200 {
        let entry = entry_at(log.position());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| while log.is_purged(&entry, &DIGEST) == Purged::No {});
            }
            log.append(tag("t"), Mode::Hard).unwrap();
            assert_eq!(log.is_purged(&entry, &DIGEST), Purged::Hard);
        });
    }
}

#[test]
fn positions_only_grow_even_when_the_clock_stands_still() {
    let log = in_memory();
    let first = append(&log, vec![Selector::All, Selector::All], Mode::Soft).unwrap();
    let second = append(&log, vec![Selector::All], Mode::Soft).unwrap();
    assert!(second > first && log.position() == second);
    assert_eq!(append(&log, Vec::new(), Mode::Hard).unwrap(), second);
}

#[test]
fn an_overlong_selector_is_refused() {
    let log = in_memory();
    let before = log.position();
    assert!(
        log.append(vec![Selector::Glob("x".repeat(MAX_SELECTOR + 1))], Mode::Hard)
            .is_err()
    );
    assert_eq!(log.position(), before);
    assert!(
        log.append(vec![Selector::Glob("x".repeat(MAX_SELECTOR))], Mode::Hard)
            .is_ok()
    );
}

#[test]
fn acknowledged_purges_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let entry = log.position();
    log.append(
        vec![Selector::Tag("t".into()), Selector::Prefix("/x\n".into())],
        Mode::Soft,
    )
    .unwrap();
    let last = append(&log, vec![Selector::Route("a".into())], Mode::Hard).unwrap();
    let records = log.recent(10);
    drop(log);

    let log = open(&dir);
    assert_eq!(log.recent(10), records);
    assert_eq!(log.position(), last);
    assert_eq!(log.is_purged(&entry_at(entry), &DIGEST), Purged::Hard);
    assert_eq!(log.is_purged(&entry_at(last), &DIGEST), Purged::No);
    assert!(append(&log, tag("u"), Mode::Hard).unwrap() > last);
}

#[test]
fn a_torn_last_line_is_dropped_and_the_log_goes_on() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("purge.log");
    let log = open(&dir);
    log.append(tag("one"), Mode::Hard).unwrap();
    let whole = fs::read(&path).unwrap();
    log.append(tag("two"), Mode::Hard).unwrap();
    let both = fs::read(&path).unwrap();
    drop(log);
    for len in whole.len()..both.len() {
        fs::write(&path, &both[..len]).unwrap();
        let log = open(&dir);
        assert_eq!(log.recent(10).len(), 1, "cut at {len}");
        log.append(tag("three"), Mode::Hard).unwrap();
        drop(log);
        assert_eq!(open(&dir).recent(10).len(), 2);
    }
}

#[test]
fn a_corrupt_file_is_set_aside_and_what_was_stored_before_counts_as_purged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("purge.log");
    let log = open(&dir);
    let entry = log.position();
    log.append(tag("one"), Mode::Hard).unwrap();
    log.append(tag("two"), Mode::Hard).unwrap();
    drop(log);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    flipped[middle] ^= 1;
    let mut repeated = good.clone();
    repeated.extend_from_slice(good.split_inclusive(|byte| *byte == b'\n').next_back().unwrap());
    for (number, damaged) in [flipped, repeated, Vec::new(), b"garbage\n".to_vec()]
        .into_iter()
        .enumerate()
    {
        fs::write(&path, &damaged).unwrap();
        let later = Clock::manual(Timestamp::from_secs(2_000));
        let (log, warning) = PurgeLog::open(Some(dir.path()), later, Rules::alone(YEAR));
        assert!(warning.unwrap().contains("set aside"), "{number}");
        let aside = dir.path().join(format!("purge.log.corrupt-{}", number + 1));
        assert_eq!(fs::read(aside).unwrap(), damaged);
        assert_eq!(log.is_purged(&entry_at(entry), &DIGEST), Purged::Hard);
        assert_eq!(log.is_purged(&entry_at(log.position()), &DIGEST), Purged::No);
        log.append(tag("three"), Mode::Hard).unwrap();
        drop(log);
        assert_eq!(open(&dir).recent(10).len(), 1);
    }
}

#[test]
fn a_directory_that_cannot_be_used_leaves_the_log_in_memory() {
    let dir = TempDir::new().unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let (log, warning) = PurgeLog::open(Some(&blocked), clock(), Rules::alone(YEAR));
    assert!(warning.unwrap().contains("kept in memory"));
    assert!(!log.is_durable() && log.append(vec![Selector::All], Mode::Hard).is_ok());
}

#[test]
fn two_processes_do_not_share_a_file() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    let (second, warning) = PurgeLog::open(Some(dir.path()), clock(), Rules::alone(YEAR));
    assert!(first.is_durable() && !second.is_durable() && warning.is_some());
}

#[test]
fn a_purge_that_cannot_be_written_is_in_effect_and_written_with_the_next() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let entry = entry_at(log.position());
    log.file.as_ref().unwrap().lock().refuse_writes(dir.path());
    assert!(log.append(tag("t"), Mode::Hard).is_err());
    assert_eq!(log.is_purged(&entry, &DIGEST), Purged::Hard);
    log.append(tag("u"), Mode::Hard).unwrap();
    let records = log.recent(10);
    drop(log);
    assert_eq!(open(&dir).recent(10), records);
}

#[test]
fn trimming_at_retention_never_revives_an_entry() {
    let dir = TempDir::new().unwrap();
    let clock = clock();
    let (log, _) = PurgeLog::open(
        Some(dir.path()),
        clock.clone(),
        Rules::alone(Duration::from_secs(60)),
    );
    let (purged, spared) = (
        entry_at(log.position()),
        sample::entry("b:GET h/", &[], log.position()),
    );
    log.append(tag("t"), Mode::Hard).unwrap();
    assert_eq!(log.is_purged(&spared, &DIGEST), Purged::No);
    clock.advance(Duration::from_secs(61));
    let last = append(&log, tag("u"), Mode::Hard).unwrap();
    assert_eq!(log.recent(10).len(), 1);
    assert_eq!(log.is_purged(&purged, &DIGEST), Purged::Hard);
    assert_eq!(
        log.is_purged(&spared, &DIGEST),
        Purged::No,
        "it was checked before the record went"
    );
    assert_eq!(log.is_purged(&entry_at(last), &DIGEST), Purged::No);
}

#[test]
fn the_file_is_rewritten_when_most_of_it_is_of_no_use() {
    let dir = TempDir::new().unwrap();
    let clock = clock();
    let (log, _) = PurgeLog::open(
        Some(dir.path()),
        clock.clone(),
        Rules::alone(Duration::from_secs(60)),
    );
    let entry = log.position();
    log.append(
        (0..1_100).map(|n| Selector::Tag(n.to_string())).collect(),
        Mode::Hard,
    )
    .unwrap();
    let size = || fs::metadata(dir.path().join("purge.log")).unwrap().len();
    let before = size();
    clock.advance(Duration::from_secs(61));
    let last = append(&log, tag("u"), Mode::Hard).unwrap();
    assert!(size() < before / 100);
    drop(log);
    let log = open(&dir);
    assert_eq!((log.recent(10).len(), log.position()), (1, last));
    assert_eq!(
        log.is_purged(&entry_at(entry), &DIGEST),
        Purged::Hard,
        "the floor is kept"
    );
}

#[test]
fn too_many_records_become_a_purge_of_everything_older() {
    let log = in_memory();
    let ten = (0..10).map(|n| Selector::Tag(n.to_string())).collect();
    let first = append(&log, ten, Mode::Soft).unwrap();
    for _ in 0..MAX_RECORDS / 1_000 {
        log.append(
            (0..1_000).map(|n| Selector::Tag(n.to_string())).collect(),
            Mode::Soft,
        )
        .unwrap();
    }
    assert_eq!(log.recent(usize::MAX).len(), MAX_RECORDS);
    assert_eq!(log.is_purged(&entry_at(first - 1), &DIGEST), Purged::Hard);
    assert_eq!(log.is_purged(&entry_at(first), &DIGEST), Purged::No);
    let text: Vec<Selector> = (0..MAX_TEXT / MAX_SELECTOR)
        .map(|n| Selector::Url(format!("{n}/{}", "x".repeat(MAX_SELECTOR - 10))))
        .collect();
    let before = log.position();
    log.append(text.clone(), Mode::Soft).unwrap();
    log.append(text, Mode::Soft).unwrap();
    assert!(log.recent(usize::MAX).len() < 2 * MAX_TEXT / MAX_SELECTOR);
    assert_eq!(log.is_purged(&entry_at(before), &DIGEST), Purged::Hard);
}

/// The rules of a log that replicas share.
fn shared() -> Rules {
    Rules {
        replicas: Some(Duration::from_secs(30)),
        ..Rules::alone(YEAR)
    }
}

/// The whole order: its first record, and its end.
fn whole(first: u64, end: u64) -> Batch {
    Batch {
        first,
        gap: false,
        records: vec![Shipped {
            id: Id([1; 16]),
            position: first,
            selector: Selector::All,
            mode: Mode::Soft,
        }],
        end: Some(end),
    }
}

#[test]
fn a_new_replica_uses_what_others_have_stored_before_it_began() {
    let dir = TempDir::new().unwrap();
    let later = Clock::manual(Timestamp::from_secs(2_000));
    let since = Timestamp::from_secs(1_500).as_micros();
    for directory in [None, Some(dir.path())] {
        let (log, _) = PurgeLog::open(directory, later.clone(), shared());
        let entry = || entry_at(since + 7);
        assert_eq!(
            log.is_purged(&entry(), &DIGEST),
            Purged::Hard,
            "nothing is known yet"
        );
        assert!(!log.is_settled());
        log.join(Id([1; 16]), since);
        log.apply(whole(since, since + 9)).unwrap();
        assert_eq!(log.is_purged(&entry(), &DIGEST), Purged::No);
        assert_eq!(log.is_purged(&entry_at(since - 1), &DIGEST), Purged::Hard);
        assert!(log.is_settled() && log.position() == since + 9);
    }
    // And after a restart, before it has asked anybody.
    let (log, _) = PurgeLog::open(Some(dir.path()), later, shared());
    assert_eq!(log.standing().incarnation, Some(Id([1; 16])));
    assert_eq!(log.is_purged(&entry_at(since + 7), &DIGEST), Purged::No);
}

#[test]
fn what_was_stored_without_replicas_counts_as_purged_with_them() {
    let dir = TempDir::new().unwrap();
    let alone = open(&dir);
    let position = append(&alone, tag("other"), Mode::Hard).unwrap();
    drop(alone);
    let (log, _) = PurgeLog::open(Some(dir.path()), clock(), shared());
    let since = Timestamp::from_secs(500).as_micros();
    log.join(Id([1; 16]), since);
    log.apply(whole(since, since)).unwrap();
    assert_eq!(log.is_purged(&entry_at(position - 1), &DIGEST), Purged::Hard);
    assert_eq!(log.is_purged(&entry_at(position + 1), &DIGEST), Purged::No);
}
