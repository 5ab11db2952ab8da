//! What is running: the shared state, its snapshot, and the reload transaction that replaces it.

pub mod reload;
pub mod state;
pub mod warm;
pub mod watch;
