//! What one data-plane thread has at hand.

use std::sync::Arc;

use crate::cache::status::LastValue;
use crate::control::state::State;
use crate::tasks::Tasks;
use crate::telemetry::trace::IdSource;
use crate::upstream::WorkerPool;

/// One data-plane thread: its connections to upstreams, its tasks, and the state shared with the others.
pub struct Worker {
    /// Shared with all workers and the admin side.
    pub state: Arc<State>,
    /// Connections to upstreams; never shared with another worker.
    pub pool: Arc<WorkerPool>,
    /// Connections and fills of this worker.
    pub tasks: Tasks,
    /// Trace and span ids.
    pub ids: IdSource,
    /// Values of `Cache-Status`.
    pub cache_status: LastValue,
}
