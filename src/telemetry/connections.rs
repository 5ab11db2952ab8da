//! What is open at this moment: connections and requests, counted by guards so that no path can forget to count down.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;
use prometheus_client::encoding::DescriptorEncoder;

use super::families;

/// The open connections of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: Arc<str>,
    open: AtomicI64,
}

impl ListenerMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        usize::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// A connection that counts as open.
#[derive(Debug)]
pub struct OpenConnection(Arc<ListenerMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that counts as being answered.
#[derive(Debug)]
pub struct ActiveRequest(Arc<AtomicI64>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything that is open.
#[derive(Debug, Default)]
pub(super) struct OpenTable {
    requests: Arc<AtomicI64>,
    listeners: RwLock<Vec<Arc<ListenerMetrics>>>,
}

impl OpenTable {
    pub(super) fn request_started(&self) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(&self.requests))
    }

    pub(super) fn requests(&self) -> usize {
        usize::try_from(self.requests.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let mut listeners = self.listeners.write();
        if let Some(listener) = listeners.iter().find(|listener| &*listener.name == name) {
            return Arc::clone(listener);
        }
        let listener = Arc::new(ListenerMetrics {
            name: Arc::from(name),
            open: AtomicI64::new(0),
        });
        listeners.push(Arc::clone(&listener));
        listener
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut samples = families::ACTIVE_REQUESTS.describe(encoder)?;
        families::gauge(&mut samples, [], self.requests() as f64)?;
        let mut samples = families::CONNECTIONS.describe(encoder)?;
        for listener in self.listeners.read().iter() {
            families::gauge(
                &mut samples,
                [("listener", &listener.name)],
                listener.open() as f64,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_count_up_and_down() {
        let table = OpenTable::default();
        let listener = table.listener("http");
        let connection = table.listener("http").connection_opened();
        let request = table.request_started();
        assert_eq!((listener.open(), table.requests()), (1, 1));
        drop((connection, request));
        assert_eq!((listener.open(), table.requests()), (0, 0));
    }
}
