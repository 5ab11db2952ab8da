//! Alerts: rules over measurements, the states of what they watch, and who is told.
//!
//! The way of an alert: `evaluate` says what a rule's expression says now, `machine` moves the alert's state, `engine`
//! decides who is told and puts notices into queues, `desk` saves what is to be remembered before it delivers them.

pub mod book;
pub mod builtin;
pub mod desk;
pub mod engine;
pub mod evaluate;
pub mod machine;
pub mod payload;
pub mod robust;
pub mod rule;
pub mod source;
pub mod store;

mod pace;
#[cfg(test)]
mod tests;

pub use desk::Desk;
pub use engine::Engine;
pub use source::Source;
