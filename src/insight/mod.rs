//! What the sidecar knows of its own past: history, and what is concluded from it.

pub mod history;
