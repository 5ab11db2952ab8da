//! The process itself, as `/proc` tells: the `process_*` metrics, and figures for the system sampler.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;

use super::families;
use crate::clock::Timestamp;

/// What the kernel tells about this process; what it does not tell is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// User and system CPU time since the start.
    pub cpu: Option<Duration>,
    /// From `/proc/self/status`.
    pub status: Status,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit of open file descriptors.
    pub max_fds: Option<u64>,
}

/// The lines of `/proc/self/status` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Resident memory, bytes.
    pub resident: Option<u64>,
    /// Virtual memory, bytes.
    pub virtual_memory: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl ProcessSample {
    /// Asks the kernel: a few small files and two system calls.
    pub fn read() -> Self {
        Self {
            cpu: cpu_time(),
            status: fs::read_to_string("/proc/self/status")
                .map(|text| parse_status(&text))
                .unwrap_or_default(),
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                // The directory being read is open itself.
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _hard)| soft),
        }
    }
}

fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}

/// Parses `/proc/[pid]/status`.
pub fn parse_status(text: &str) -> Status {
    let number = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let kibibytes = |key| number(key).map(|value| value.saturating_mul(1024));
    Status {
        resident: kibibytes("VmRSS"),
        virtual_memory: kibibytes("VmSize"),
        threads: number("Threads"),
    }
}

/// Writes the `process_*` families.
pub(super) fn encode(started: Timestamp, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let sample = ProcessSample::read();
    let cpu = sample.cpu.unwrap_or_default().as_secs_f64();
    ConstCounter::new(cpu).encode(families::PROCESS_CPU.describe(encoder)?)?;
    let gauges = [
        (&families::PROCESS_RESIDENT, sample.status.resident),
        (&families::PROCESS_VIRTUAL, sample.status.virtual_memory),
        (&families::PROCESS_OPEN_FDS, sample.open_fds),
        (&families::PROCESS_MAX_FDS, sample.max_fds),
    ];
    for (family, value) in gauges {
        let mut samples = family.describe(encoder)?;
        if let Some(value) = value {
            families::gauge(&mut samples, [], value as f64)?;
        }
    }
    let mut samples = families::PROCESS_START_TIME.describe(encoder)?;
    families::gauge(&mut samples, [], started.as_micros() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_found_by_their_whole_name() {
        let text =
            "Name:\toutrigger\nVmPeak:\t  999 kB\nVmSize:\t   20480 kB\nVmRSS:\t    4096 kB\nThreads:\t7\n";
        let expected = Status {
            resident: Some(4 << 20),
            virtual_memory: Some(20 << 20),
            threads: Some(7),
        };
        assert_eq!(parse_status(text), expected);
        assert_eq!(parse_status("VmRSS: lots\n"), Status::default());
    }

    #[test]
    fn this_process_can_be_sampled() {
        let sample = ProcessSample::read();
        assert!(sample.cpu.is_some());
        assert!(sample.max_fds > sample.open_fds);
        assert!(sample.status.resident > Some(1 << 16));
    }
}
