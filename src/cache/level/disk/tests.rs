//! The disk level against the check of all levels, its own restarts, and directories in a bad state.

use std::fs;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::super::conformance;
use super::*;
use crate::clock::Timestamp;

const MIB: u64 = 1 << 20;

fn disk(path: &std::path::Path, capacity: u64) -> Disk {
    let level = config::DiskLevel {
        name: "l2".into(),
        path: path.to_owned(),
        capacity,
    };
    Disk::new(&level, Clock::system())
}

fn key(n: u32) -> LevelKey {
    LevelKey(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn value(n: u32, size: usize) -> Bytes {
    let mut value = vec![n as u8; size];
    value[..4].copy_from_slice(&n.to_le_bytes());
    value.into()
}

const LIFE: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn it_conforms() {
    let directory = TempDir::new().unwrap();
    assert_eq!(
        conformance::check(&disk(directory.path(), 128 * MIB)).await,
        Ok(())
    );
}

#[tokio::test]
async fn values_survive_a_restart_and_the_newest_counts() {
    let directory = TempDir::new().unwrap();
    let before = disk(directory.path(), 64 * MIB);
    before.open().await.unwrap();
    for n in 0..100 {
        before.put(&key(n), value(n, 5_000), LIFE).await.unwrap();
    }
    before.put(&key(7), value(700, 10), LIFE).await.unwrap();
    before.close().await;
    drop(before);
    let after = disk(directory.path(), 64 * MIB);
    after.open().await.unwrap();
    for n in (0..100).filter(|n| *n != 7) {
        assert_eq!(
            after.get(&key(n), 1 << 20).await,
            Ok(Some(value(n, 5_000))),
            "{n}"
        );
    }
    assert_eq!(after.get(&key(7), 1 << 20).await, Ok(Some(value(700, 10))));
    assert_eq!(after.get(&key(1000), 1 << 20).await, Ok(None));
}

#[tokio::test]
async fn what_is_kept_stays_within_the_capacity_and_the_oldest_goes() {
    let directory = TempDir::new().unwrap();
    let level = disk(directory.path(), 16 * MIB);
    level.open().await.unwrap();
    for n in 0..500 {
        level.put(&key(n), value(n, 100_000), LIFE).await.unwrap();
    }
    let size: u64 = fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 16 * MIB, "{size}");
    assert_eq!(level.get(&key(0), 1 << 20).await, Ok(None));
    assert_eq!(level.get(&key(499), 1 << 20).await, Ok(Some(value(499, 100_000))));
}

#[tokio::test]
async fn a_value_lives_as_long_as_it_may_and_no_longer() {
    let directory = TempDir::new().unwrap();
    let clock = Clock::manual(Timestamp::from_secs(1_000_000));
    let level = Disk {
        clock: clock.clone(),
        ..disk(directory.path(), 16 * MIB)
    };
    level.open().await.unwrap();
    level.put(&key(1), value(1, 100), LIFE).await.unwrap();
    clock.advance(LIFE - Duration::from_secs(1));
    assert!(level.get(&key(1), 1000).await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert_eq!(level.get(&key(1), 1000).await, Ok(None));
}

#[tokio::test]
async fn what_is_larger_than_a_block_is_refused_and_no_trouble() {
    let directory = TempDir::new().unwrap();
    let level = disk(directory.path(), 16 * MIB);
    level.open().await.unwrap();
    let (most, size) = (level.max_value(), |bytes: u64| usize::try_from(bytes).unwrap());
    level.put(&key(1), value(1, size(most)), LIFE).await.unwrap();
    assert_eq!(
        level.get(&key(1), usize::MAX).await,
        Ok(Some(value(1, size(most))))
    );
    let refused = level.put(&key(2), value(2, size(most + 1)), LIFE).await;
    assert_eq!(refused, Err(LevelError::TooLarge(most + 1)));
}

/// Changes each byte of `value` where it lies in the file.
fn flip(directory: &std::path::Path, value: &[u8]) {
    let path = directory.join("values-1");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, value).expect("the value is in the file");
    let flipped: Vec<u8> = value.iter().map(|byte| byte ^ 1).collect();
    file.write_all_at(&flipped, at as u64).unwrap();
}

#[tokio::test]
async fn a_changed_value_is_a_miss_and_its_neighbours_are_not() {
    let directory = TempDir::new().unwrap();
    let level = disk(directory.path(), 16 * MIB);
    level.open().await.unwrap();
    let changed = Bytes::from(vec![0xee; 50]);
    level.put(&key(1), changed.clone(), LIFE).await.unwrap();
    level.put(&key(2), value(2, 100), LIFE).await.unwrap();
    flip(directory.path(), &changed);
    assert_eq!(level.get(&key(1), 1000).await, Ok(None));
    assert_eq!(level.get(&key(2), 1000).await, Ok(Some(value(2, 100))));
}

#[tokio::test]
async fn rubbish_in_the_file_is_an_empty_level() {
    let directory = TempDir::new().unwrap();
    let rubbish: Vec<u8> = (0..16 * MIB).map(|n| ((n * 7919) >> 3) as u8).collect();
    fs::write(directory.path().join("values-1"), &rubbish).unwrap();
    let level = disk(directory.path(), 16 * MIB);
    level.open().await.unwrap();
    assert_eq!(level.get(&key(1), 1000).await, Ok(None));
    level.put(&key(1), value(1, 100), LIFE).await.unwrap();
    assert_eq!(level.get(&key(1), 1000).await, Ok(Some(value(1, 100))));
}

#[tokio::test]
async fn another_capacity_begins_anew() {
    let directory = TempDir::new().unwrap();
    let before = disk(directory.path(), 16 * MIB);
    before.open().await.unwrap();
    before.put(&key(1), value(1, 100), LIFE).await.unwrap();
    before.close().await;
    drop(before);
    let after = disk(directory.path(), 32 * MIB);
    after.open().await.unwrap();
    assert_eq!(after.get(&key(1), 1000).await, Ok(None));
    after.put(&key(1), value(1, 100), LIFE).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_tried_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "in the way").unwrap();
    let level = disk(&path, 16 * MIB);
    for _ in 0..2 {
        assert!(matches!(level.open().await, Err(LevelError::Unreachable(_))));
        assert!(matches!(
            level.get(&key(1), 10).await,
            Err(LevelError::Unreachable(_))
        ));
        assert!(matches!(
            level.remove(&key(1)).await,
            Err(LevelError::Unreachable(_))
        ));
    }
    fs::remove_file(&path).unwrap();
    level.open().await.unwrap();
    level.put(&key(1), value(1, 100), LIFE).await.unwrap();
}

#[tokio::test]
async fn a_disk_without_room_is_told_at_once_and_nothing_is_kept_of_it() {
    let directory = TempDir::new().unwrap();
    let level = disk(directory.path(), 1 << 60);
    assert!(matches!(level.open().await, Err(LevelError::Unreachable(_))));
    let size = fs::metadata(directory.path().join("values-1")).unwrap().len();
    assert_eq!(size, 0);
}

#[tokio::test]
async fn one_process_at_a_time_uses_a_directory() {
    let directory = TempDir::new().unwrap();
    let first = disk(directory.path(), 16 * MIB);
    first.open().await.unwrap();
    let second = disk(directory.path(), 16 * MIB);
    let refused = second.open().await.unwrap_err();
    assert!(
        refused.to_string().contains("another process uses it"),
        "{refused}"
    );
    first.close().await;
    drop(first);
    second.open().await.unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_values_are_reopened_within_two_seconds() {
    let directory = TempDir::new().unwrap();
    let before = Arc::new(disk(directory.path(), 1200 * MIB));
    before.open().await.unwrap();
    let put = |n| {
        let level = Arc::clone(&before);
        async move { level.put(&key(n), value(n, 4096), LIFE).await.unwrap() }
    };
    use futures_util::StreamExt;
    futures_util::stream::iter(0..100_000)
        .map(put)
        .buffer_unordered(1_000)
        .collect::<Vec<()>>()
        .await;
    before.close().await;
    drop(before);
    let clock = Clock::system();
    let began = clock.now();
    let after = disk(directory.path(), 1200 * MIB);
    after.open().await.unwrap();
    let took = clock.now().since(began);
    println!("reopened in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    for n in (0..100_000).step_by(997) {
        assert_eq!(after.get(&key(n), 1 << 20).await, Ok(Some(value(n, 4096))), "{n}");
    }
}
