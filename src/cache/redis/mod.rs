//! Redis, or whatever speaks its protocol: one server, a primary that sentinels name, or a cluster.
//!
//! redis-rs speaks the protocol: it encodes commands, decodes answers and pairs them on one connection. What decides about
//! latency is here: which server is asked, when a connection is made and when it is given up. A server that is down, frozen
//! or slow costs a caller at most the deadline of its call, and costs nothing while nobody calls. Everything that takes
//! longer (name look-up, TCP, TLS, login, asking the sentinels, learning the slots) happens in the background.
//!
//! [`RedisClient`] has a lane (`lane.rs`) for each runtime that calls it, so that a worker's call wakes no other thread. A lane is
//! one node for a single server and for sentinels, and a cluster of nodes otherwise. A node keeps one
//! connection to its server up.

mod backoff;
mod client;
mod cluster;
mod connection;
mod dedicated;
mod dial;
mod failure;
mod lane;
mod level;
mod node;
mod sentinel;
mod slots;
mod stream;

pub use client::RedisClient;
pub use dedicated::DedicatedConnection;
pub use level::RedisLevel;
