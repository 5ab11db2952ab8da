//! The integration tests: one binary, one file per behaviour, the real `outrigger` in front of scripted origins.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in the helpers that clippy does not take for tests"
)]

mod admin;
mod admin_calls;
mod audit;
mod body_key;
mod cache_basics;
mod clients;
mod collapse;
mod disk;
mod disk_space;
mod documents;
mod entries;
mod event_streams;
mod explain;
mod explain_refusals;
mod flights;
mod floods;
mod forwarding;
mod harness;
mod heads;
mod history;
mod interim;
mod invalidation;
mod isolation;
mod lifecycle;
mod lifetimes;
mod lost_fills;
mod malformed;
mod model;
mod principals;
mod purge;
mod queries;
mod races;
mod ranges;
mod redis_faults;
mod redis_level;
mod reload;
mod replicas;
mod restarts;
mod scarcity;
mod sensitive;
mod slow_readers;
mod streaming;
mod tls;
mod tokens;
mod tracing;
mod validate;
mod warm;
mod warm_below;
mod warm_jobs;

#[path = "../conformance/mod.rs"]
mod conformance;
#[path = "../tidy.rs"]
mod tidy;
