//! Outrigger: a caching, balancing and monitoring sidecar for AI platforms.

#![doc = include_str!("architecture.md")]

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod client_tls;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod insight;
pub mod proxy;
pub mod route;
pub mod tasks;
pub mod telemetry;
pub mod upstream;

/// Version of the package.
pub const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Commit it was built from, when the build was told (`OUTRIGGER_COMMIT`).
pub const fn commit() -> &'static str {
    match option_env!("OUTRIGGER_COMMIT") {
        Some(commit) => commit,
        None => "unknown",
    }
}
