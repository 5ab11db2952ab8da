//! Outrigger: a caching, balancing and monitoring sidecar for AI platforms.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod proxy;
pub mod tasks;
pub mod telemetry;
pub mod upstream;
