//! Typed events, the metric registry, spans, the access log and the system sampler.
//!
//! ```text
//! proxy, control, admin --> events::Telemetry --+--> metrics (tables of handles) --> exposition
//!                                               +--> access_log (bounded queue, own thread)
//!                                               +--> spans --> otlp (bounded queue, one task)
//! ```
//!
//! Invariant: nothing outside this folder counts, logs a request or makes a span by hand. A request is told once, by
//! [`events::Telemetry::record`]; everything else that happens is an [`events::Event`] or a guard.
//!
//! Invariant: every metric is listed in [`families::ALL`], and its labels hold only names from the configuration, from
//! enums, and of at most [`usage::MODELS`] models, so that the number of series is bounded whatever the traffic.

pub mod access_log;
pub mod cgroup;
pub mod connections;
mod event;
pub mod events;
pub mod exposition;
pub mod families;
#[cfg(test)]
mod fixture;
pub mod levels;
pub mod log;
pub mod mask;
pub mod metrics;
mod openmetrics;
pub mod otlp;
pub mod process;
pub mod reasons;
pub mod record;
pub mod reload;
pub mod routes;
pub mod samples;
mod settings;
pub mod spans;
pub mod system;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod upstreams;
pub mod usage;
pub mod warm;

pub use events::{Event, Telemetry};
