//! A level on disk: foyer's block engine over one file of a fixed size.
//!
//! The file is divided into blocks, which are written one after the other and reused in the order in which they were
//! filled. foyer keeps in memory where each value lies, finds that again from the file after a restart, and checks
//! every value that it reads against its checksum. A value takes whole pages of 4 KiB.
//!
//! foyer tells nobody that a write failed. So each write here first forgets the old value, and afterwards looks whether
//! the new one has arrived.

mod directory;
mod record;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FileDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    Load, PsyncIoEngineConfig, RecoverMode, Spawner,
};
use tokio::sync::{Mutex, Semaphore};

use self::directory::Directory;
use self::record::{Record, RecordKey};
use super::{Holding, Level, LevelError, LevelKey};
use crate::clock::Clock;
use crate::config;

/// Longest wait for a value.
const GET: Duration = Duration::from_millis(250);
/// Longest wait for a write to reach the file.
const PUT: Duration = Duration::from_secs(5);
/// Longest wait at the end for writes under way.
const CLOSE: Duration = Duration::from_secs(1);
/// The unit of space in the file.
const PAGE: u64 = 4096;
/// Blocks of a file, as far as their size allows; one of them is being written, one is being cleaned.
const BLOCKS: u64 = 32;
const SMALLEST_BLOCK: u64 = 512 << 10;
const LARGEST_BLOCK: u64 = 32 << 20;
/// Bytes at the beginning of a block, and after every 170 values, that say where values lie.
const INDEX: u64 = PAGE;
/// Bytes of a value's header, key and end of life.
const BESIDE_THE_VALUE: u64 = 36 + 32 + 8;
/// Blocks that are read at the same time when the file is opened.
const READERS: usize = 8;

type Store = HybridCache<RecordKey, Record>;

/// See the module.
#[derive(Debug)]
pub struct Disk {
    name: Arc<str>,
    path: PathBuf,
    capacity: u64,
    clock: Clock,
    opened: OnceLock<Opened>,
    /// Held while it is opened.
    opening: Mutex<()>,
}

#[derive(Debug)]
struct Opened {
    store: Store,
    /// Pages that may wait to be written: as many as foyer's buffer has.
    room: Semaphore,
    _directory: Directory,
}

impl Disk {
    /// A level in the directory that `level` names. Nothing happens before it is opened.
    pub fn new(level: &config::DiskLevel, clock: Clock) -> Self {
        Self {
            name: Arc::clone(&level.name),
            path: level.path.clone(),
            capacity: level.capacity - level.capacity % PAGE,
            clock,
            opened: OnceLock::new(),
            opening: Mutex::new(()),
        }
    }

    /// Bytes of a block.
    fn block(&self) -> u64 {
        let wanted = (self.capacity / BLOCKS).clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
        wanted - wanted % PAGE
    }

    /// Bytes of the largest value.
    fn max_value(&self) -> u64 {
        self.block() - INDEX - BESIDE_THE_VALUE
    }

    fn opened(&self) -> Result<&Opened, LevelError> {
        let closed = || LevelError::Unreachable(format!("{} is not open", self.path.display()));
        self.opened.get().ok_or_else(closed)
    }

    /// Opens the file, and reads from it what it holds. What foyer does for it later runs in the runtime in which this
    /// is called.
    async fn make(&self) -> Result<Opened, LevelError> {
        let failed = |error: &dyn std::fmt::Display| {
            LevelError::Unreachable(format!("{}: {error}", self.path.display()))
        };
        let (path, capacity) = (self.path.clone(), self.capacity);
        let directory = tokio::task::spawn_blocking(move || Directory::open(&path, capacity))
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let device = FileDeviceBuilder::new(directory.file())
            .with_capacity(size(self.capacity))
            .build()
            .map_err(|error| failed(&error))?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(size(self.block()))
            .with_blob_index_size(size(INDEX))
            .with_buffer_pool_size(size(self.block()))
            .with_submit_queue_size_threshold(size(2 * self.block()))
            .with_recover_concurrency(READERS);
        let build = HybridCacheBuilder::new()
            .with_name(self.name.to_string())
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            // Nothing is ever kept in its memory: that is what our own level is for.
            .memory(1)
            .with_shards(1)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .with_spawner(Spawner::current())
            .build();
        let store = Box::pin(build).await.map_err(|error| failed(&error))?;
        Ok(Opened {
            store,
            room: Semaphore::new(size(self.block() / PAGE)),
            _directory: directory,
        })
    }
}

#[async_trait]
impl Level for Disk {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "disk"
    }

    async fn open(&self) -> Result<(), LevelError> {
        let _opening = self.opening.lock().await;
        if self.opened.get().is_none() {
            let opened = self.make().await?;
            let _nobody_else_opens = self.opened.set(opened);
        }
        Ok(())
    }

    async fn get(&self, key: &LevelKey, max_bytes: usize) -> Result<Option<Bytes>, LevelError> {
        let storage = self.opened()?.store.storage();
        let key = RecordKey(key.0);
        let loaded = tokio::time::timeout(GET, storage.load(&key))
            .await
            .map_err(|_elapsed| LevelError::Timeout)?;
        let record = match loaded {
            Ok(Load::Entry { value, .. }) => value,
            Ok(Load::Piece { piece, .. }) => piece.value().clone(),
            Ok(Load::Miss | Load::Throttled) => return Ok(None),
            Err(error) => {
                // It will not be read better the next time.
                storage.delete(&key);
                return Err(LevelError::Refused(error.to_string()));
            }
        };
        if record.until <= self.clock.now() {
            storage.delete(&key);
            return Ok(None);
        }
        match record.value.len() {
            size if size > max_bytes => Err(LevelError::TooLarge(size as u64)),
            _ => Ok(Some(record.value)),
        }
    }

    async fn put(&self, key: &LevelKey, value: Bytes, ttl: Duration) -> Result<(), LevelError> {
        let opened = self.opened()?;
        let size = value.len() as u64;
        if size > self.max_value() {
            return Err(LevelError::TooLarge(size));
        }
        let pages = u32::try_from((size + BESIDE_THE_VALUE).div_ceil(PAGE)).unwrap_or(u32::MAX);
        let until = self.clock.now().plus(ttl);
        let key = RecordKey(key.0);
        let storage = opened.store.storage();
        let write = async {
            let _room = opened.room.acquire_many(pages).await;
            storage.delete(&key);
            drop(
                opened
                    .store
                    .storage_writer(key)
                    .force()
                    .insert(Record { until, value }),
            );
            storage.wait().await;
        };
        tokio::time::timeout(PUT, write)
            .await
            .map_err(|_elapsed| LevelError::Timeout)?;
        if storage.may_contains(&key) {
            Ok(())
        } else {
            let path = self.path.display();
            Err(LevelError::Refused(format!("{path} cannot be written")))
        }
    }

    async fn remove(&self, key: &LevelKey) -> Result<(), LevelError> {
        self.opened()?.store.storage().delete(&RecordKey(key.0));
        Ok(())
    }

    async fn close(&self) {
        let Some(opened) = self.opened.get() else { return };
        match tokio::time::timeout(CLOSE, opened.store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a disk level did not close"),
            Err(_elapsed) => tracing::debug!("a disk level did not close in time"),
        }
    }

    fn holding(&self) -> Holding {
        Holding {
            capacity: Some(self.capacity),
            ..Holding::default()
        }
    }
}
