//! The cache engine: policy, keys, entries, levels, flights and the purge log.

mod adaptive;
pub mod age;
pub mod canonical;
pub mod conditional;
pub mod control;
pub mod date;
pub mod digest;
mod digest_hash;
mod directive;
pub mod engine;
pub mod entry;
pub mod fields;
#[cfg(test)]
mod fixture;
pub mod flight;
mod frame;
mod freshness;
pub mod groups;
pub mod invalidate;
pub mod invalidation;
pub mod key;
pub mod life;
mod list;
pub mod memory;
pub mod negative;
pub mod partition;
pub mod policy;
pub mod purge;
pub mod query;
pub mod range;
pub mod refresh_ahead;
pub mod reuse;
pub mod slot;
pub mod status;
mod targeted;
pub mod vary;
pub mod verdict;
