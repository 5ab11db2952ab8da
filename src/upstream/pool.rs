//! The connections of one data-plane worker.

use std::sync::{Arc, Weak};

use foldhash::HashMap;
use parking_lot::Mutex;

use super::cluster::Cluster;
use super::endpoint::Endpoint;
use super::slot::{PRUNE_EVERY, Slot};
use crate::clock::{Clock, CoarseClock};
use crate::tasks::Tasks;

/// The connections of one data-plane worker to all endpoints. The locks inside are never contended, because only
/// that worker's thread uses them.
pub struct WorkerPool {
    /// By the address of the endpoint's allocation, which the slot keeps alive.
    slots: Mutex<HashMap<usize, Arc<Slot>>>,
    tasks: Tasks,
    clock: Clock,
    /// Stands at the last pruning: connections age to this precision.
    pruned: CoarseClock,
}

impl WorkerPool {
    /// An empty pool. Connections are driven, and old ones closed, by tasks in `tasks`.
    ///
    /// Must be called inside the worker's runtime.
    pub fn new(tasks: &Tasks, clock: Clock) -> Arc<Self> {
        let pool = Arc::new(Self {
            slots: Mutex::default(),
            tasks: tasks.clone(),
            pruned: CoarseClock::new(&clock),
            clock,
        });
        tasks.spawn("upstream pool prune", prune(Arc::downgrade(&pool)));
        pool
    }

    /// The connections to `endpoint`.
    pub(super) fn slot(&self, cluster: &Cluster, endpoint: &Arc<Endpoint>) -> Arc<Slot> {
        let key = Arc::as_ptr(endpoint) as usize;
        let mut slots = self.slots.lock();
        let slot = slots.entry(key).or_insert_with(|| {
            Arc::new(Slot::new(
                Arc::clone(endpoint),
                cluster.config().pool,
                self.tasks.clone(),
                self.pruned.clone(),
            ))
        });
        Arc::clone(slot)
    }

    /// Closes what need not be open, and forgets endpoints that are gone.
    pub(super) fn prune(&self) {
        self.pruned.advance(self.clock.now());
        self.slots.lock().retain(|_, slot| {
            let holds = slot.prune();
            holds || !slot.endpoint().retired() || Arc::strong_count(slot) > 1
        });
    }
}

async fn prune(pool: Weak<WorkerPool>) {
    let mut ticks = tokio::time::interval(PRUNE_EVERY);
    loop {
        ticks.tick().await;
        match pool.upgrade() {
            Some(pool) => pool.prune(),
            None => return,
        }
    }
}
