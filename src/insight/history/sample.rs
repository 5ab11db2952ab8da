//! What is known of one scope in one time: sums that merge.

use super::histogram::Histogram;
use super::principals::Principals;
use crate::telemetry::record::CacheResult;
use crate::telemetry::system::SystemSample;
use crate::telemetry::tally::Taken;

/// Sums over a time. The default is a time in which nothing happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Requests; attempts of an upstream.
    pub requests: u64,
    /// Those that failed: a status of 500 or above, or no answer.
    pub errors: u64,
    /// Requests by what the cache did, in the order of [`CacheResult::ALL`].
    pub results: [u64; CacheResult::ALL.len()],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Tokens that upstreams made.
    pub tokens_upstream: u64,
    /// Tokens that the cache spared them.
    pub tokens_cache: u64,
    /// Dollars spent.
    pub cost: f64,
    /// Dollars saved.
    pub saved: f64,
    /// Microseconds of all latencies together.
    pub micros: u64,
    /// Latencies.
    pub latency: Histogram,
    /// Who asked.
    pub principals: Principals,
    /// What the system used, in the order of [`Gauge::ALL`].
    pub gauges: [Reading; Gauge::ALL.len()],
}

impl Sample {
    /// Adds what was counted.
    pub(super) fn count(&mut self, taken: &Taken) {
        self.requests = self.requests.saturating_add(taken.requests);
        self.errors = self.errors.saturating_add(taken.errors);
        sum(&mut self.results, &taken.results);
        self.bytes_in = self.bytes_in.saturating_add(taken.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(taken.bytes_out);
        let ([upstream, cache], [cost, saved]) = (taken.tokens, taken.dollars);
        self.tokens_upstream = self.tokens_upstream.saturating_add(upstream);
        self.tokens_cache = self.tokens_cache.saturating_add(cache);
        self.cost += cost;
        self.saved += saved;
        self.micros = self.micros.saturating_add(taken.micros);
        for (bucket, count) in &taken.latency {
            self.latency.add(*bucket, u64::from(*count));
        }
        for (register, rank) in &taken.principals {
            self.principals.add(*register, *rank);
        }
    }

    /// Adds all that the other holds.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        sum(&mut self.results, &other.results);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.tokens_upstream = self.tokens_upstream.saturating_add(other.tokens_upstream);
        self.tokens_cache = self.tokens_cache.saturating_add(other.tokens_cache);
        self.cost += other.cost;
        self.saved += other.saved;
        self.micros = self.micros.saturating_add(other.micros);
        self.latency.merge(&other.latency);
        self.principals.merge(&other.principals);
        for (reading, more) in self.gauges.iter_mut().zip(&other.gauges) {
            reading.merge(more);
        }
    }

    /// Requests of this kind.
    pub fn result(&self, result: CacheResult) -> u64 {
        self.results.get(result as usize).copied().unwrap_or(0)
    }

    /// Requests that the cache answered or could have answered.
    pub fn cacheable(&self) -> u64 {
        let apart = [CacheResult::Bypass, CacheResult::None];
        let counted = CacheResult::ALL
            .into_iter()
            .filter(|result| !apart.contains(result));
        counted.fold(0, |sum, result| sum.saturating_add(self.result(result)))
    }

    /// Requests that were answered without the answer being fetched for them.
    pub fn hits(&self) -> u64 {
        use CacheResult::{Collapsed, Hit, Revalidated, Stale};
        let hits = [Hit, Stale, Revalidated, Collapsed];
        hits.into_iter()
            .fold(0, |sum, result| sum.saturating_add(self.result(result)))
    }

    /// The share of cacheable requests that were hits; none without such requests.
    pub fn hit_ratio(&self) -> Option<f64> {
        ratio(self.hits(), self.cacheable())
    }

    /// The share of requests that failed; none without requests.
    pub fn error_ratio(&self) -> Option<f64> {
        ratio(self.errors, self.requests)
    }

    /// A reading.
    pub fn gauge(&self, gauge: Gauge) -> Reading {
        self.gauges.get(gauge as usize).copied().unwrap_or_default()
    }

    /// Notes what the system uses.
    pub(super) fn read(&mut self, system: &SystemSample) {
        let whole = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let less = |total: Option<u64>, free: Option<u64>| whole(Some(total?.saturating_sub(free?)));
        let (process, container, host) = (&system.process, &system.container, &system.host);
        let values = Gauge::ALL.map(|gauge| match gauge {
            Gauge::ProcessCpu => process.cpu_percent,
            Gauge::ProcessMemory => whole(process.rss_bytes),
            Gauge::ProcessThreads => whole(process.threads),
            Gauge::ProcessFiles => whole(process.open_fds),
            Gauge::ContainerCpu => container.cpu_percent,
            Gauge::ContainerThrottled => container.cpu_throttled_percent,
            Gauge::ContainerMemory => whole(container.memory_used_bytes),
            Gauge::HostCpu => host.cpu_percent,
            Gauge::HostMemory => less(host.memory_total_bytes, host.memory_available_bytes),
            Gauge::HostLoad => host.load.map(|[one, ..]| one),
            Gauge::HostDisk => less(host.disk_total_bytes, host.disk_available_bytes),
            Gauge::NetworkReceived => host.network_received_per_second,
            Gauge::NetworkSent => host.network_sent_per_second,
        });
        for (reading, value) in self.gauges.iter_mut().zip(values) {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                reading.merge(&Reading {
                    count: 1,
                    sum: value,
                    max: value,
                });
            }
        }
    }
}

fn sum(counts: &mut [u64], more: &[u64]) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count = count.saturating_add(*more);
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What the system uses, as read again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// CPU of this process, percent; 100 is one CPU.
    ProcessCpu,
    /// Resident memory of this process, bytes.
    ProcessMemory,
    /// Threads of this process.
    ProcessThreads,
    /// Open file descriptors of this process.
    ProcessFiles,
    /// CPU of the container, percent; 100 is one CPU.
    ContainerCpu,
    /// Time in which its quota held the container back, percent.
    ContainerThrottled,
    /// Memory of the container, bytes, page cache included.
    ContainerMemory,
    /// CPU of the host, percent; 100 is every CPU.
    HostCpu,
    /// Memory of the host that is not available, bytes.
    HostMemory,
    /// Load average of one minute.
    HostLoad,
    /// Bytes used on the file systems.
    HostDisk,
    /// Bytes received per second.
    NetworkReceived,
    /// Bytes sent per second.
    NetworkSent,
}

impl Gauge {
    /// Every gauge. The order is that of the file: new ones come last.
    pub const ALL: [Self; 13] = [
        Self::ProcessCpu,
        Self::ProcessMemory,
        Self::ProcessThreads,
        Self::ProcessFiles,
        Self::ContainerCpu,
        Self::ContainerThrottled,
        Self::ContainerMemory,
        Self::HostCpu,
        Self::HostMemory,
        Self::HostLoad,
        Self::HostDisk,
        Self::NetworkReceived,
        Self::NetworkSent,
    ];
}

/// Readings of a gauge over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The largest.
    pub max: f64,
}

impl Reading {
    /// Their mean; none without readings.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Adds the readings of the other.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.max = if self.count > 0 {
                self.max.max(other.max)
            } else {
                other.max
            };
            self.count = self.count.saturating_add(other.count);
            self.sum += other.sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_gauges_is_the_order_of_the_table() {
        for (index, gauge) in Gauge::ALL.into_iter().enumerate() {
            assert_eq!(gauge as usize, index);
        }
    }

    #[test]
    fn ratios_need_something_to_be_a_share_of() {
        let mut sample = Sample::default();
        assert_eq!((sample.hit_ratio(), sample.error_ratio()), (None, None));
        sample.requests = 8;
        sample.errors = 2;
        sample.results = [2, 0, 0, 1, 1, 3, 1];
        assert_eq!(
            (sample.hit_ratio(), sample.error_ratio()),
            (Some(0.75), Some(0.25))
        );
    }

    #[test]
    fn a_reading_knows_mean_and_maximum_of_negative_values_too() {
        let mut reading = Reading::default();
        for value in [-4.0, -2.0] {
            reading.merge(&Reading {
                count: 1,
                sum: value,
                max: value,
            });
        }
        reading.merge(&Reading::default());
        assert_eq!((reading.mean(), reading.max), (Some(-3.0), -2.0));
    }
}
