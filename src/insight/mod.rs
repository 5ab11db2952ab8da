//! What the sidecar makes of what it measures: its past, and who is told of it.

pub mod alert;
pub mod history;
