//! Tests of the log on the disk and of what reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;
use tempfile::TempDir;

use super::chain::{Asked, Asker, Entry, Record};
use super::disk::Limits;
use super::log::{LIMITS, Log, Written};
use super::walk::{Summary, VerifyError, verify};
use crate::clock::{Clock, Timestamp};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::BuildInfo;

/// Files so small that a few records fill one.
const SMALL: Limits = Limits { file: 700, files: 3 };

fn open(state: &Path, limits: Limits) -> Log {
    let clock = Clock::manual(Timestamp::from_secs(1_000_000_000));
    let build = BuildInfo {
        version: "1",
        commit: "2",
    };
    let telemetry = Telemetry::new(clock.clone(), build);
    Log::limited(Some(state), clock, telemetry, limits)
}

fn intent(number: u64) -> Entry {
    Entry::Intent(Asked {
        caller: Asker {
            name: "ops".to_owned(),
            role: Some("admin".to_owned()),
            peer: "127.0.0.1:1".to_owned(),
        },
        action: "cache.purge".to_owned(),
        target: "POST /x".to_owned(),
        parameters: Some(json!({"keys": [number]})),
    })
}

/// A log of so many changes, that nobody has open any more.
fn written(changes: u64, limits: Limits) -> (TempDir, PathBuf) {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), limits);
    for number in 0..changes {
        let Written { seq, .. } = log.record(intent(number)).unwrap();
        log.record(Entry::Outcome { of: seq, status: 200 }).unwrap();
    }
    let dir = state.path().join("audit");
    (state, dir)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    files
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// The file and line that are named, or what was found good.
fn found(dir: &Path) -> Result<Summary, (String, u64)> {
    match verify(dir) {
        Ok(summary) => Ok(summary),
        Err(VerifyError::Fault(fault)) => Err((fault.file, fault.line)),
        Err(VerifyError::Io(error)) => panic!("{error}"),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn records(log: &Log) -> Vec<Record> {
    let mut records = Vec::new();
    log.newest(|_, record| {
        records.push(record);
        true
    })
    .unwrap();
    records
}

#[test]
fn what_is_written_is_good_and_goes_on_after_a_restart() {
    let (state, dir) = written(3, LIMITS);
    let before = found(&dir).unwrap();
    assert_eq!((before.records, before.files, before.last_seq), (7, 1, 7));
    let log = open(state.path(), LIMITS);
    let Written { seq, id } = log.record(intent(9)).unwrap();
    assert_eq!(seq, 8);
    assert!(id.ends_with("-8"), "{id}");
    assert_eq!(log.verify().unwrap().records, 8);
    let newest: Vec<u64> = records(&log).iter().map(|record| record.seq).collect();
    assert_eq!(newest, [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_state, dir) = written(1, LIMITS);
    for entry in fs::read_dir(&dir).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Whichever bit of whichever byte changes, the line it is in is named.
#[test]
fn every_flipped_byte_is_named() {
    let (_state, dir) = written(4, SMALL);
    let mut checked = 0;
    for file in files(&dir) {
        let whole = fs::read(&file).unwrap();
        let mut line = 1;
        for (at, byte) in whole.iter().enumerate() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&file, &changed).unwrap();
            assert_eq!(
                found(&dir),
                Err((name(&file), line)),
                "byte {at} of {}",
                file.display()
            );
            checked += 1;
            line += u64::from(*byte == b'\n');
        }
        fs::write(&file, &whole).unwrap();
    }
    let head = dir.join("head.json");
    let whole = fs::read(&head).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&head, &changed).unwrap();
        assert!(found(&dir).is_err(), "byte {at} of the head");
    }
    fs::write(&head, &whole).unwrap();
    assert!(found(&dir).is_ok());
    assert!(checked > 1_000);
}

#[test]
fn what_was_cut_off_moved_or_removed_is_named() {
    let (_state, dir) = written(6, SMALL);
    let files = files(&dir);
    assert_eq!(files.len(), 3);
    for file in &files {
        let (whole, lines) = (fs::read(file).unwrap(), lines(file));
        for keep in 0..whole.len() {
            fs::write(file, &whole[..keep]).unwrap();
            let (named, line) = found(&dir).unwrap_err();
            // A cut between two lines shows only where the log should go on.
            assert!(
                named >= name(file) && line >= 1,
                "{keep} of {}: {named}",
                whole.len()
            );
        }
        for at in 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            fs::write(file, swapped.concat()).unwrap();
            assert_eq!(found(&dir), Err((name(file), at as u64)));
            let mut fewer = lines.clone();
            fewer.remove(at - 1);
            fs::write(file, fewer.concat()).unwrap();
            assert_eq!(found(&dir), Err((name(file), at as u64)));
            let mut twice = lines.clone();
            twice.insert(at, lines[at - 1].clone());
            fs::write(file, twice.concat()).unwrap();
            assert_eq!(found(&dir), Err((name(file), at as u64 + 1)));
        }
        fs::remove_file(file).unwrap();
        let (named, line) = found(&dir).unwrap_err();
        assert!(
            (named == name(file) || file == files.last().unwrap()) && line >= 1,
            "{named}"
        );
        fs::write(file, &whole).unwrap();
    }
    assert!(found(&dir).is_ok());
    fs::remove_file(dir.join("head.json")).unwrap();
    assert_eq!(found(&dir), Err(("head.json".to_owned(), 1)));
}

#[test]
fn the_oldest_files_go_and_what_is_left_is_good() {
    let (state, dir) = written(200, SMALL);
    let kept = files(&dir);
    assert_eq!(kept.len(), 3);
    let summary = found(&dir).unwrap();
    assert_eq!(summary.files, 3);
    assert!(summary.last_seq > 400 && summary.records < 20, "{summary:?}");
    let first = lines(&kept[0]);
    let first: serde_json::Value = serde_json::from_slice(&first[0]).unwrap();
    assert_eq!(first["event"], "continued");
    assert!(first["previous"].is_string());
    let log = open(state.path(), SMALL);
    assert!(log.record(intent(0)).unwrap().seq > summary.last_seq);
    assert!(log.verify().is_ok());
}

/// Killed while it wrote: the end was never acknowledged.
#[test]
fn an_incomplete_last_line_is_cut_off_and_noted() {
    let (state, dir) = written(2, LIMITS);
    let file = files(&dir).pop().unwrap();
    let torn = [fs::read(&file).unwrap(), br#"{"seq":6,"ti"#.to_vec()].concat();
    fs::write(&file, torn).unwrap();
    assert_eq!(found(&dir), Err((name(&file), 6)));
    let log = open(state.path(), LIMITS);
    let last = records(&log).remove(0);
    assert_eq!((last.seq, last.entry), (6, Entry::Recovered { cut_bytes: 12 }));
    assert!(log.verify().is_ok());
}

/// Killed while it began a file.
#[test]
fn a_file_without_a_record_was_never_begun() {
    let (state, dir) = written(2, LIMITS);
    for rest in [&b""[..], b"{\"seq\":6"] {
        fs::write(dir.join("audit-00000002.jsonl"), rest).unwrap();
        let log = open(state.path(), LIMITS);
        assert_eq!(log.verify().unwrap().files, 1);
    }
}

#[test]
fn a_changed_log_is_left_as_it_is_and_a_new_chain_begins_behind_it() {
    let damages: [fn(&Path, &Path); 4] = [
        |_, file| {
            let text = fs::read_to_string(file).unwrap().replace("\"ops\"", "\"oops\"");
            fs::write(file, text).unwrap();
        },
        |_, file| {
            let lines = lines(file);
            fs::write(file, lines[..3].concat()).unwrap();
        },
        |dir, _| fs::remove_file(dir.join("head.json")).unwrap(),
        |dir, _| fs::write(dir.join("head.json"), "{}").unwrap(),
    ];
    for damage in damages {
        let (state, dir) = written(2, LIMITS);
        let file = files(&dir).pop().unwrap();
        damage(&dir, &file);
        let evidence = fs::read(&file).unwrap();
        let log = open(state.path(), LIMITS);
        let Written { id, .. } = log.record(intent(1)).unwrap();
        assert_eq!(fs::read(&file).unwrap(), evidence);
        let first = records(&log).remove(1);
        assert!(
            matches!(&first.entry, Entry::Genesis { because: Some(_), chain } if id.starts_with(&chain[..8])),
            "{first:?}"
        );
        assert!(found(&dir).is_err(), "it is never repaired");
        assert_eq!(files(&dir).len(), 2);
    }
}

#[test]
fn those_who_come_together_have_records_of_their_own() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), LIMITS);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..100)
            .map(|number| scope.spawn(move || number))
            .map(|number| {
                let log = &log;
                scope.spawn(move || log.record(intent(number.join().unwrap())).unwrap().id)
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 100);
    assert_eq!(log.verify().unwrap().records, 101);
}

/// The limit of file sizes takes what fits and refuses the rest, as a full disk does.
#[test]
fn on_a_full_disk_nothing_is_recorded_and_nothing_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path(), LIMITS);
    log.record(intent(1)).unwrap();
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let full = fs::metadata(&files(&state.path().join("audit"))[0])
        .unwrap()
        .len()
        + 10;
    setrlimit(Resource::RLIMIT_FSIZE, full, hard).unwrap();
    let refused: Vec<_> = (0..3).map(|number| log.record(intent(number))).collect();
    let (before, seen) = (log.verify(), records(&log).len());
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert_eq!((before.unwrap().records, seen), (2, 2));
    assert_eq!(log.record(intent(2)).unwrap().seq, 3);
    assert_eq!(log.verify().unwrap().records, 3);
}

#[test]
fn a_directory_that_cannot_be_used_is_tried_again() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("audit"), "in the way").unwrap();
    let log = Arc::new(open(state.path(), LIMITS));
    assert!(log.record(intent(1)).is_err());
    fs::remove_file(state.path().join("audit")).unwrap();
    assert_eq!(log.record(intent(1)).unwrap().seq, 2);
    let second = open(state.path(), LIMITS);
    let error = second.record(intent(1)).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

#[test]
fn without_a_directory_the_last_records_are_in_memory() {
    let clock = Clock::manual(Timestamp::from_secs(1));
    let build = BuildInfo {
        version: "1",
        commit: "2",
    };
    let log = Log::open(None, clock.clone(), Telemetry::new(clock, build));
    for number in 0..2_000 {
        log.record(intent(number)).unwrap();
    }
    let kept = records(&log);
    assert_eq!((kept.len(), kept[0].seq), (1_024, 2_001));
    assert_eq!(log.verify().unwrap().last_seq, 2_001);
}

#[test]
fn calls_are_named_by_their_paths() {
    use axum::http::Method;
    for (method, path, expected) in [
        (Method::POST, "/api/v1/performance/cache/purge", "cache.purge"),
        (
            Method::POST,
            "/api/v1/performance/api/cache/clear",
            "api.cache.clear",
        ),
        (
            Method::DELETE,
            "/api/v1/performance/cache/warm/{job}",
            "cache.warm.delete",
        ),
        (
            Method::POST,
            "/api/v1/performance/upstreams/{name}/endpoints/{address}/drain",
            "upstreams.endpoints.drain",
        ),
        (Method::PUT, "/log-level", "log-level"),
    ] {
        assert_eq!(super::action(&method, path), expected);
    }
}
