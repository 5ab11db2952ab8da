//! The data plane: listeners, connections, and the life of a request.

pub mod admission;
pub(crate) mod answer;
pub mod body;
pub mod connection;
pub mod downstream;
pub(crate) mod error;
pub(crate) mod exchange;
mod fetch;
mod fill;
pub mod fleet;
mod forward;
mod forwarding;
pub mod handler;
mod headers;
mod inbound;
mod interim;
pub mod listener;
mod pass;
mod progress;
mod serve;
pub mod sweep;
pub mod tls;
mod tracked;
mod upgrade;
pub mod wire;
pub mod worker;
