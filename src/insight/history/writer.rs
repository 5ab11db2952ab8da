//! The thread that writes the file, and whether the file can be used.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Resolution;
use super::scope::Scope;
use super::store::{Reader, Store, StoreError};
use crate::clock::Timestamp;
use crate::config::model;
use crate::tasks::Tasks;

/// Minutes that wait for a disk which is full or away; beyond, they are in memory only.
const WAITING: usize = 16;

/// Samples of one minute, on their way to the file.
struct Minute {
    start: u64,
    samples: Vec<(Scope, Vec<u8>)>,
    now: Timestamp,
}

enum Order {
    Write(Minute),
    /// Write what is there and end.
    Close(oneshot::Sender<()>),
}

/// Hands minutes to the thread, and reads what it has written.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    orders: SyncSender<Order>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(path: &Path, keep: model::History, tasks: &Tasks) -> io::Result<Self> {
        let (orders, waiting) = sync_channel(WAITING);
        let trouble = Arc::new(Mutex::new(Some("it is not open yet".to_owned())));
        let mut worker = Worker {
            path: path.to_owned(),
            keep,
            store: None,
            minutes: Vec::new(),
            told: false,
            trouble: Arc::clone(&trouble),
        };
        tasks.spawn_thread("history", move || worker.run(&waiting))?;
        Ok(Self {
            path: path.to_owned(),
            orders,
            trouble,
        })
    }

    /// Has a minute written.
    pub(super) fn write(&self, start: u64, samples: Vec<(Scope, Vec<u8>)>, now: Timestamp) {
        let order = Order::Write(Minute { start, samples, now });
        match self.orders.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!("the disk is too slow for the history: a minute is in memory only");
            }
            Err(TrySendError::Disconnected(_)) => tracing::debug!("the history is closed"),
        }
    }

    /// Waits for at most `limit` until all is written, and ends the thread. Returns whether it has.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        let (done, closed) = oneshot::channel();
        if self.orders.try_send(Order::Close(done)).is_err() {
            return false;
        }
        tokio::time::timeout(limit, closed).await.is_ok()
    }

    /// The file, for reading; none while it cannot be used. What is wrong with it is told by the thread.
    pub(super) fn reader(&self) -> Option<Reader> {
        if self.trouble.lock().is_some() {
            return None;
        }
        told(Reader::open(&self.path))
    }

    /// Every scope in the file.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        self.reader()
            .and_then(|reader| told(reader.scopes()))
            .unwrap_or_default()
    }
}

/// What was read, if it could be.
pub(super) fn told<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::debug!(%error, "the history cannot be read"))
        .ok()
}

struct Worker {
    path: PathBuf,
    keep: model::History,
    store: Option<Store>,
    minutes: Vec<Minute>,
    /// Whether the log says that it cannot be written.
    told: bool,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Worker {
    fn run(&mut self, orders: &Receiver<Order>) {
        self.attempt();
        while let Ok(order) = orders.recv() {
            match order {
                Order::Write(minute) => {
                    if self.minutes.len() >= WAITING {
                        self.minutes.remove(0);
                    }
                    self.minutes.push(minute);
                    self.attempt();
                }
                Order::Close(done) => {
                    self.attempt();
                    self.store = None;
                    // Nobody waits any more: it took too long.
                    let _gone = done.send(());
                    return;
                }
            }
        }
    }

    /// Writes what waits. What cannot be written waits for the next minute; the log tells it once.
    fn attempt(&mut self) {
        let result = self.write();
        match result {
            Ok(()) => {
                if self.told {
                    tracing::info!(path = %self.path.display(), "the history is written to its file again");
                    self.told = false;
                }
                *self.trouble.lock() = None;
            }
            Err(error) => {
                if !self.told {
                    let path = self.path.display();
                    tracing::warn!(%error, %path, "the history is kept in memory only");
                    self.told = true;
                }
                *self.trouble.lock() = Some(error.to_string());
                // Opened again, it may be found damaged and set aside.
                self.store = None;
            }
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let store = match &mut self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.path, &self.keep)?),
        };
        while let Some(minute) = self.minutes.first() {
            // Room is made before it is needed, and once an hour for what is too old.
            if minute.start == Resolution::Hour.floor(minute.start) || store.is_full()? {
                store.trim(minute.now.as_secs())?;
            }
            store.write(minute.start, &minute.samples)?;
            self.minutes.remove(0);
        }
        Ok(())
    }
}
