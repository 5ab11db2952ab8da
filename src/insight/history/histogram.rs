//! A mergeable histogram of latencies.

use crate::telemetry::tally::{BUCKETS, latency_of};

/// Counts by bucket, see [`crate::telemetry::tally::bucket`]. Any quantile is known to 4.4 % of itself.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Empty until something is counted.
    counts: Vec<u64>,
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.buckets().eq(other.buckets())
    }
}

impl Histogram {
    /// Adds `count` to a bucket.
    pub fn add(&mut self, bucket: u8, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        if let Some(counted) = self.counts.get_mut(usize::from(bucket)) {
            *counted = counted.saturating_add(count);
        }
    }

    /// Adds all that the other has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(bucket, count);
        }
    }

    /// The buckets that are not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (u8, u64)> {
        let numbered = (0..=u8::MAX).zip(&self.counts);
        numbered
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (bucket, *count))
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The latency in seconds that the share `quantile` (0 to 1) of all does not exceed; none without values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        // The rank of the value, from 1: the nearest-rank definition.
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0_u64;
        self.buckets().find_map(|(bucket, count)| {
            below = below.saturating_add(count);
            (below >= rank).then(|| latency_of(bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::tally::bucket;

    fn of(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for micros in micros {
            histogram.add(bucket(Duration::from_micros(*micros)), 1);
        }
        histogram
    }

    proptest! {
        #[test]
        fn a_merge_is_the_histogram_of_the_union(
            one in prop::collection::vec(1..2_000_000_000_u64, 0..50),
            other in prop::collection::vec(1..2_000_000_000_u64, 0..50),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert_eq!(merged, of(&[one, other].concat()));
        }

        #[test]
        fn a_quantile_is_within_five_percent_of_the_value_of_its_rank(
            mut values in prop::collection::vec(1..2_000_000_000_u64, 1..200),
            quantile in 0.0..=1.0,
        ) {
            let told = of(&values).quantile(quantile).unwrap() * 1e6;
            values.sort_unstable();
            let rank = ((values.len() as f64 * quantile).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            prop_assert!((told - exact).abs() / exact <= 0.05, "{told} for {exact}");
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
