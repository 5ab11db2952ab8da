//! How many different principals there were, in at most a kibibyte.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007) with linear counting for small numbers. With 1,024 registers
//! the standard error is 1.04 / 32 = 3.25 %. Only registers are kept, so that nobody can be told from it.

use crate::telemetry::tally::REGISTERS;

/// A mergeable count of unique principals.
#[derive(Clone, Debug, Default)]
pub struct Principals {
    /// Ranks by register; empty until somebody is counted.
    ranks: Vec<u8>,
}

impl PartialEq for Principals {
    fn eq(&self, other: &Self) -> bool {
        self.registers().eq(other.registers())
    }
}

impl Principals {
    /// Counts whoever has this rank in this register.
    pub fn add(&mut self, register: u16, rank: u8) {
        if self.ranks.is_empty() {
            self.ranks = vec![0; REGISTERS];
        }
        if let Some(known) = self.ranks.get_mut(usize::from(register)) {
            *known = (*known).max(rank);
        }
    }

    /// Counts all that the other has counted; who is in both counts once.
    pub fn merge(&mut self, other: &Self) {
        for (register, rank) in other.registers() {
            self.add(register, rank);
        }
    }

    /// The registers that are not zero, in order.
    pub fn registers(&self) -> impl Iterator<Item = (u16, u8)> {
        let numbered = (0..=u16::MAX).zip(&self.ranks);
        numbered
            .filter(|(_, rank)| **rank > 0)
            .map(|(register, rank)| (register, *rank))
    }

    /// About how many different ones were counted.
    pub fn count(&self) -> f64 {
        if self.ranks.is_empty() {
            return 0.0;
        }
        let registers = REGISTERS as f64;
        let sum: f64 = self.ranks.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let zeros = self.ranks.iter().filter(|rank| **rank == 0).count();
        if raw <= 2.5 * registers && zeros > 0 {
            return registers * (registers / zeros as f64).ln();
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::record::RequestRecord;
    use crate::telemetry::tally::Tally;

    fn counted(record: &mut RequestRecord, names: impl Iterator<Item = u32>) -> Principals {
        let tally = Tally::default();
        for name in names {
            let digest = blake3::hash(&name.to_be_bytes());
            record.principal = digest
                .as_bytes()
                .first_chunk()
                .map(|bytes| u64::from_be_bytes(*bytes));
            record.ended = record.started.plus(Duration::from_millis(1));
            tally.request(record);
        }
        let mut principals = Principals::default();
        let taken = tally.take().unwrap_or_default();
        taken
            .principals
            .iter()
            .for_each(|(register, rank)| principals.add(*register, *rank));
        principals
    }

    #[test]
    fn the_count_is_within_four_standard_errors_and_merges() {
        let mut record = super::super::tests::record();
        for many in [0, 1, 10, 100, 1_000, 3_000, 10_000, 100_000] {
            let count = counted(&mut record, 0..many).count();
            let error = (count - f64::from(many)).abs() / f64::from(many.max(1));
            assert!(error <= 4.0 * 0.0325, "{many}: {count}");
        }
        let mut merged = counted(&mut record, 0..600);
        merged.merge(&counted(&mut record, 400..1_000));
        assert_eq!(merged, counted(&mut record, 0..1_000));
    }
}
