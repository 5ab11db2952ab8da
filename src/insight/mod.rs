//! What the sidecar makes of what it measures.

pub mod alert;
