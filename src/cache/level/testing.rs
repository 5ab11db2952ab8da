//! A level for tests: a map that can be told to fail or to hang, and that counts its calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Holding, Level, LevelError, LevelKey, conformance};

/// How it behaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Behaviour {
    /// Well.
    #[default]
    Works,
    /// Every call fails.
    Fails,
    /// What changes it fails.
    ReadOnly,
    /// No call ends before it behaves otherwise.
    Hangs,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TestLevel {
    name: &'static str,
    values: Mutex<HashMap<LevelKey, (Bytes, Instant)>>,
    behaviour: watch::Sender<Behaviour>,
    pub(crate) gets: AtomicUsize,
    pub(crate) puts: AtomicUsize,
    pub(crate) removes: AtomicUsize,
}

impl TestLevel {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            values: Mutex::default(),
            behaviour: watch::Sender::default(),
            gets: AtomicUsize::new(0),
            puts: AtomicUsize::new(0),
            removes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Changes every value.
    pub(crate) fn tamper(&self, change: impl Fn(&mut Vec<u8>)) {
        for (value, _) in self.values.lock().values_mut() {
            let mut bytes = value.to_vec();
            change(&mut bytes);
            *value = bytes.into();
        }
    }

    /// Forgets every value.
    pub(crate) fn clear(&self) {
        self.values.lock().clear();
    }

    /// Takes over the values of `other`.
    pub(crate) fn copy(&self, other: &Self) {
        let values = other.values.lock().clone();
        *self.values.lock() = values;
    }

    /// Counts calls anew.
    pub(crate) fn forget_calls(&self) {
        for calls in [&self.gets, &self.puts, &self.removes] {
            calls.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.lock().len()
    }

    async fn begin(&self, changes: bool) -> Result<(), LevelError> {
        let mut behaviour = self.behaviour.subscribe();
        let behaviour = behaviour
            .wait_for(|behaviour| *behaviour != Behaviour::Hangs)
            .await
            .expect("the sender lives as long as this");
        match &*behaviour {
            Behaviour::Fails => Err(LevelError::Unreachable("told to fail".into())),
            Behaviour::ReadOnly if changes => Err(LevelError::Refused("told to be read only".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Level for TestLevel {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &'static str {
        "test"
    }

    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.begin(false).await?;
        let values = self.values.lock();
        match values.get(key) {
            Some((value, until)) if *until > Instant::now() => match value.len() {
                size if size > max_bytes => Err(LevelError::TooLarge(size as u64)),
                _ => Ok(Some(value.clone())),
            },
            _ => Ok(None),
        }
    }

    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.begin(true).await?;
        self.values.lock().insert(*key, (value, Instant::now() + ttl));
        Ok(())
    }

    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError> {
        self.removes.fetch_add(1, Ordering::Relaxed);
        self.begin(true).await?;
        self.values.lock().remove(key);
        Ok(())
    }

    fn holding(&self) -> Holding {
        Holding {
            entries: Some(self.len() as u64),
            ..Holding::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_test_level_conforms() {
    assert_eq!(conformance::check(&TestLevel::new("test")).await, Ok(()));
}

/// A level that breaks one duty.
#[derive(Debug)]
struct Broken(TestLevel, Duty);

#[derive(Debug, PartialEq)]
enum Duty {
    Bytes,
    Keys,
    Size,
    Life,
    Removal,
}

#[async_trait]
impl Level for Broken {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        let max_bytes = if self.1 == Duty::Size {
            usize::MAX
        } else {
            max_bytes
        };
        self.0.get(&self.key(key), max_bytes).await
    }

    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError> {
        let value = match self.1 {
            Duty::Bytes => value.slice(..value.len().min(4096)),
            _ => value,
        };
        let ttl = if self.1 == Duty::Life { ttl * 3600 } else { ttl };
        self.0.put(&self.key(key), value, ttl).await
    }

    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError> {
        match self.1 {
            Duty::Removal => Ok(()),
            _ => self.0.remove(&self.key(key)).await,
        }
    }
}

impl Broken {
    fn key(&self, key: &LevelKey) -> LevelKey {
        let mut key = *key;
        if self.1 == Duty::Keys {
            key.0[31] = 0;
        }
        key
    }
}

#[tokio::test(start_paused = true)]
async fn the_check_finds_a_broken_duty() {
    for duty in [Duty::Bytes, Duty::Keys, Duty::Size, Duty::Life, Duty::Removal] {
        let level = Broken(TestLevel::new("test"), duty);
        let found = conformance::check(&level).await;
        assert!(found.is_err(), "{:?} {found:?}", level.1);
    }
}
