//! Purging: a record in the log, and the memory of what it matches given back.

use super::engine::Cache;
use super::purge::{Facts, Mode, Purged, Record, Selector};

/// What a purge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Entries that matched.
    pub matched: u64,
    /// The records that it made, in order; none for a dry run.
    pub records: Vec<Record>,
    /// The widest kind of selector, as the metric label `scope`.
    pub scope: &'static str,
}

impl Cache {
    /// Purges what the selectors match, or with `dry_run` only counts it. Blocks on file I/O.
    ///
    /// # Errors
    /// When the log cannot be written; then nothing was purged.
    pub fn purge(&self, selectors: Vec<Selector>, mode: Mode, dry_run: bool) -> std::io::Result<Purge> {
        let scope = selectors
            .iter()
            .map(Selector::scope)
            .next_back()
            .unwrap_or("none");
        let mut matching = Vec::new();
        if let Some(memory) = &self.memory {
            memory.for_each(|digest, entry| {
                if selectors
                    .iter()
                    .any(|selector| selector.matches(&Facts::of(entry, digest)))
                {
                    matching.push(*digest);
                }
            });
        }
        let matched = matching.len() as u64;
        if dry_run {
            return Ok(Purge {
                matched,
                records: Vec::new(),
                scope,
            });
        }
        let records = self.purges.append(selectors, mode)?;
        // The log alone keeps purged entries from being served; taking them out gives their memory back.
        if let (Some(memory), Mode::Hard) = (&self.memory, mode) {
            for digest in matching {
                if memory.get(&digest).is_some_and(|slot| {
                    slot.variants()
                        .all(|entry| self.purges.is_purged(entry, &digest) == Purged::Hard)
                }) {
                    memory.remove(&digest);
                    self.tiers.remove(&digest);
                }
            }
        }
        Ok(Purge {
            matched,
            records,
            scope,
        })
    }
}
