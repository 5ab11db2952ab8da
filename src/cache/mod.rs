//! The cache engine: policy, keys, entries, levels, flights and the purge log.

pub mod verdict;
