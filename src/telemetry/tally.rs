//! What is counted for the history: sums that are taken and begun anew every second.
//!
//! The counters of a request are a handful of relaxed atomics beside the metrics, in tables that it has already found;
//! nothing is looked up, allocated (but for the first request of a table) or locked.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::record::{Attempt, CacheResult, RequestRecord};
use super::usage::{Dollars, TokenRecord};

/// Buckets of a latency.
pub const BUCKETS: usize = 256;

/// Buckets per doubling of the latency.
const PER_DOUBLING: f64 = 8.0;

/// Registers of a count of unique principals, 2^10.
pub const REGISTERS: usize = 1 << REGISTER_BITS;

const REGISTER_BITS: u32 = 10;

/// The bucket of a latency. Buckets grow by the factor g = 2^(1/8) from 1 us, as in DDSketch (Masson, Rim, Lee 2019); the
/// last one takes everything above 36 minutes.
pub fn bucket(latency: Duration) -> u8 {
    let micros = latency.as_secs_f64() * 1e6;
    // A cast of a float saturates: below 1 us is bucket 0.
    (micros.log2() * PER_DOUBLING) as u8
}

/// The latency in seconds that stands for a bucket: within (g - 1) / (g + 1) = 4.4 % of all in it.
pub fn latency_of(bucket: u8) -> f64 {
    let growth = (1.0 / PER_DOUBLING).exp2();
    let lower = (f64::from(bucket) / PER_DOUBLING).exp2();
    lower * 2.0 * growth / (1.0 + growth) / 1e6
}

/// The register and the rank of a principal's digest in a HyperLogLog (Flajolet et al. 2007).
fn register(digest: u64) -> (usize, u8) {
    let register = (digest >> (u64::BITS - REGISTER_BITS)) as usize;
    let rest = digest << REGISTER_BITS | (1 << (REGISTER_BITS - 1));
    (
        register,
        u8::try_from(rest.leading_zeros() + 1).unwrap_or(u8::MAX),
    )
}

/// Whom counts are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A route, by name.
    Route(Arc<str>),
    /// An endpoint: the name of its upstream, and its address.
    Endpoint(Arc<str>, Arc<str>),
    /// A cache level, by name.
    Level(Arc<str>),
}

/// Counts since they were last taken.
#[derive(Debug, Default)]
pub struct Tally {
    touched: AtomicBool,
    requests: AtomicU64,
    errors: AtomicU64,
    results: [AtomicU64; CacheResult::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    tokens: [AtomicU64; 2],
    dollars: [Dollars; 2],
    micros: AtomicU64,
    latency: OnceLock<Box<[AtomicU32]>>,
    principals: OnceLock<Box<[AtomicU8]>>,
}

impl Tally {
    /// Counts one finished request.
    pub fn request(&self, record: &RequestRecord) {
        let failed = record.status >= 500 || record.error.is_some();
        self.count(record.ended.since(record.started), failed);
        if let Some(result) = self.results.get(record.cache as usize) {
            result.fetch_add(1, Relaxed);
        }
        add(&self.bytes_in, record.bytes_in);
        add(&self.bytes_out, record.bytes_out);
        if let Some(digest) = record.principal {
            self.principal(digest);
        }
    }

    /// Counts one finished attempt.
    pub(super) fn attempt(&self, attempt: &Attempt) {
        let failed = attempt.status.is_none_or(|status| status >= 500) || attempt.error.is_some();
        self.count(attempt.ended.since(attempt.started), failed);
    }

    /// Counts the tokens of one answer.
    pub(super) fn tokens(&self, record: &TokenRecord) {
        let (source, tokens) = (record.source as usize, record.tokens);
        let sum = [
            tokens.input,
            tokens.output,
            tokens.cached_input,
            tokens.cache_write,
        ];
        add(
            &self.tokens[source],
            sum.iter().fold(0, |sum, count| sum.saturating_add(*count)),
        );
        self.dollars[source].add(record.dollars);
        self.touched.store(true, Relaxed);
    }

    fn count(&self, latency: Duration, failed: bool) {
        self.requests.fetch_add(1, Relaxed);
        add(&self.errors, u64::from(failed));
        add(
            &self.micros,
            u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
        );
        let buckets = self
            .latency
            .get_or_init(|| (0..BUCKETS).map(|_| AtomicU32::new(0)).collect());
        if let Some(count) = buckets.get(usize::from(bucket(latency))) {
            count.fetch_add(1, Relaxed);
        }
        if !self.touched.load(Relaxed) {
            self.touched.store(true, Relaxed);
        }
    }

    fn principal(&self, digest: u64) {
        let registers = self
            .principals
            .get_or_init(|| (0..REGISTERS).map(|_| AtomicU8::new(0)).collect());
        let (register, rank) = register(digest);
        if let Some(known) = registers.get(register)
            && known.load(Relaxed) < rank
        {
            known.fetch_max(rank, Relaxed);
        }
    }

    /// Takes what was counted; none if nothing was. A request that is being counted meanwhile may come partly with this
    /// and partly with the next: nothing is lost or counted twice.
    pub fn take(&self) -> Option<Taken> {
        if !self.touched.swap(false, Relaxed) {
            return None;
        }
        let latency = self.latency.get().map(|buckets| &**buckets).unwrap_or_default();
        let principals = self
            .principals
            .get()
            .map(|registers| &**registers)
            .unwrap_or_default();
        Some(Taken {
            requests: take(&self.requests),
            errors: take(&self.errors),
            results: std::array::from_fn(|result| self.results.get(result).map_or(0, take)),
            bytes_in: take(&self.bytes_in),
            bytes_out: take(&self.bytes_out),
            tokens: std::array::from_fn(|source| self.tokens.get(source).map_or(0, take)),
            dollars: std::array::from_fn(|source| self.dollars.get(source).map_or(0.0, Dollars::take)),
            micros: take(&self.micros),
            latency: latency
                .iter()
                .zip(0..=u8::MAX)
                .filter(|(count, _)| count.load(Relaxed) > 0)
                .map(|(count, bucket)| (bucket, count.swap(0, Relaxed)))
                .collect(),
            principals: principals
                .iter()
                .zip(0..=u16::MAX)
                .filter(|(rank, _)| rank.load(Relaxed) > 0)
                .map(|(rank, register)| (register, rank.swap(0, Relaxed)))
                .collect(),
        })
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Requests, or attempts.
    pub requests: u64,
    /// Those that failed: a status of 500 or above, or none.
    pub errors: u64,
    /// Requests by what the cache did, in the order of [`CacheResult::ALL`].
    pub results: [u64; CacheResult::ALL.len()],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Tokens that an upstream made, and those that the cache spared it.
    pub tokens: [u64; 2],
    /// Dollars spent, and saved.
    pub dollars: [f64; 2],
    /// Microseconds of all latencies together.
    pub micros: u64,
    /// Buckets that are not empty, in order, with their counts.
    pub latency: Vec<(u8, u32)>,
    /// Registers of unique principals that are not zero, in order, with their ranks.
    pub principals: Vec<(u16, u8)>,
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Relaxed);
    }
}

fn take(counter: &AtomicU64) -> u64 {
    counter.swap(0, Relaxed)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{failed_attempt, record};
    use super::*;

    #[test]
    fn a_latency_is_known_to_five_percent() {
        for micros in [
            1_u64,
            2,
            10,
            999,
            1_000,
            12_345,
            1_000_000,
            59_999_999,
            1_800_000_000,
        ] {
            let told = latency_of(bucket(Duration::from_micros(micros)));
            let error = (told * 1e6 - micros as f64).abs() / micros as f64;
            assert!(error <= 0.05, "{micros} us: {error}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(1 << 40)), 255);
    }

    #[test]
    fn what_is_taken_begins_anew() {
        let tally = Tally::default();
        assert_eq!(tally.take(), None);
        let mut record = record();
        record.principal = Some(7 << 54);
        tally.request(&record);
        record.status = 502;
        tally.request(&record);
        let taken = tally.take().unwrap();
        assert_eq!((taken.requests, taken.errors), (2, 1));
        assert_eq!(taken.results[CacheResult::Miss as usize], 2);
        assert_eq!((taken.bytes_in, taken.bytes_out), (20, 40));
        assert_eq!(taken.micros, 80_000);
        assert_eq!(taken.latency, [(bucket(Duration::from_millis(40)), 2)]);
        assert_eq!(taken.principals, [(7, 55)]);
        assert_eq!(tally.take(), None);
        tally.attempt(&failed_attempt());
        assert_eq!(tally.take().unwrap().errors, 1);
    }
}
