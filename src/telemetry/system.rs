//! The system sampler: what the process, its container and the host use.
//!
//! Shares of CPU are over the time since the previous sample, so the first sample has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, Networks, System};

use super::cgroup::{self, CgroupSample};
use super::process::ProcessSample;
use crate::clock::Timestamp;

/// One sample; what the system does not tell is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SystemSample {
    /// This process.
    pub process: ProcessUse,
    /// The container, by its cgroup; all null outside of one, and under cgroup v1.
    pub container: ContainerUse,
    /// The host.
    pub host: HostUse,
}

/// What this process uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessUse {
    /// 100 is one CPU.
    pub cpu_percent: Option<f64>,
    /// Resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}

/// What the container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContainerUse {
    /// CPUs allowed, such as 1.5.
    pub cpu_quota: Option<f64>,
    /// 100 is one CPU.
    pub cpu_percent: Option<f64>,
    /// Share of the time in which the quota held it back, percent; above 100 when several threads were.
    pub cpu_throttled_percent: Option<f64>,
    /// Bytes allowed.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes used, page cache included.
    pub memory_used_bytes: Option<u64>,
}

/// What the host uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostUse {
    /// 100 is every CPU.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory.
    pub memory_total_bytes: Option<u64>,
    /// Bytes that new work could have.
    pub memory_available_bytes: Option<u64>,
    /// Load averages of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Bytes of the file systems.
    pub disk_total_bytes: Option<u64>,
    /// Bytes free on them.
    pub disk_available_bytes: Option<u64>,
    /// Bytes received per second on all interfaces but the loopback.
    pub network_received_per_second: Option<f64>,
    /// Bytes sent per second.
    pub network_sent_per_second: Option<f64>,
}

/// Takes samples. Keeps what the next sample is compared with.
#[derive(Debug)]
pub struct SystemSampler {
    cgroup: Option<PathBuf>,
    system: System,
    disks: Disks,
    networks: Networks,
    previous: Option<Previous>,
}

#[derive(Clone, Copy, Debug)]
struct Previous {
    at: Timestamp,
    process_cpu: Option<Duration>,
    container: CgroupSample,
}

impl Default for SystemSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemSampler {
    /// A sampler of the machine it runs on. Nothing but what is sampled is asked of the system: no process list.
    pub fn new() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let group = fs::read_to_string("/proc/self/cgroup").ok();
        Self {
            cgroup: group.and_then(|text| cgroup::directory(&text, root)),
            system: System::new(),
            disks: Disks::new(),
            networks: Networks::new(),
            previous: None,
        }
    }

    /// Takes a sample. Blocks for some small files and for `statvfs` of each disk: for the control runtime only.
    pub fn sample(&mut self, now: Timestamp) -> SystemSample {
        let process = ProcessSample::read();
        let container = self.cgroup.as_deref().map(CgroupSample::read).unwrap_or_default();
        let previous = self.previous.replace(Previous {
            at: now,
            process_cpu: process.cpu,
            container,
        });
        let elapsed = previous.map(|previous| now.since(previous.at));
        let share = |current: Option<Duration>, pick: fn(&Previous) -> Option<Duration>| {
            percent(previous.as_ref().and_then(pick), current, elapsed)
        };
        SystemSample {
            process: ProcessUse {
                cpu_percent: share(process.cpu, |previous| previous.process_cpu),
                rss_bytes: process.status.resident,
                threads: process.status.threads,
                open_fds: process.open_fds,
            },
            container: ContainerUse {
                cpu_quota: container.cpu_quota,
                cpu_percent: share(container.cpu.usage, |previous| previous.container.cpu.usage),
                cpu_throttled_percent: share(container.cpu.throttled, |previous| {
                    previous.container.cpu.throttled
                }),
                memory_limit_bytes: container.memory_limit,
                memory_used_bytes: container.memory_used,
            },
            host: self.host(elapsed),
        }
    }

    fn host(&mut self, elapsed: Option<Duration>) -> HostUse {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.disks
            .refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        self.networks.refresh(true);
        let load = System::load_average();
        let total = Some(self.system.total_memory()).filter(|total| *total > 0);
        let network = |pick: fn(&sysinfo::NetworkData) -> u64| {
            let outside = self.networks.iter().filter(|(name, _)| *name != "lo");
            per_second(outside.map(|(_, data)| pick(data)).sum(), elapsed)
        };
        HostUse {
            cpu_percent: elapsed.map(|_| f64::from(self.system.global_cpu_usage())),
            memory_total_bytes: total,
            memory_available_bytes: total.map(|_| self.system.available_memory()),
            load: Some([load.one, load.five, load.fifteen]),
            disk_total_bytes: disk_sum(&self.disks, sysinfo::Disk::total_space),
            disk_available_bytes: disk_sum(&self.disks, sysinfo::Disk::available_space),
            network_received_per_second: network(sysinfo::NetworkData::received),
            network_sent_per_second: network(sysinfo::NetworkData::transmitted),
        }
    }
}

/// Sums over distinct devices: bind mounts show one device several times.
fn disk_sum(disks: &Disks, pick: fn(&sysinfo::Disk) -> u64) -> Option<u64> {
    let mut devices: Vec<_> = disks
        .list()
        .iter()
        .map(|disk| (disk.name(), pick(disk)))
        .collect();
    devices.sort_unstable();
    devices.dedup_by_key(|(name, _)| *name);
    (!devices.is_empty()).then(|| devices.iter().map(|(_, bytes)| bytes).sum())
}

/// Growth of a time per elapsed time, percent; none without an earlier value or when no time has passed.
fn percent(before: Option<Duration>, now: Option<Duration>, elapsed: Option<Duration>) -> Option<f64> {
    let grown = now?.saturating_sub(before?);
    let elapsed = elapsed.filter(|elapsed| !elapsed.is_zero())?;
    Some(grown.as_secs_f64() / elapsed.as_secs_f64() * 100.0)
}

fn per_second(amount: u64, elapsed: Option<Duration>) -> Option<f64> {
    let elapsed = elapsed.filter(|elapsed| !elapsed.is_zero())?;
    Some(amount as f64 / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_need_two_samples_and_time_between_them() {
        let second = Some(Duration::from_secs(1));
        let used = Some(Duration::from_millis(1500));
        assert_eq!(
            percent(
                Some(Duration::from_millis(500)),
                used,
                Some(Duration::from_secs(2))
            ),
            Some(50.0)
        );
        assert_eq!(percent(None, used, second), None);
        assert_eq!(percent(used, used, Some(Duration::ZERO)), None);
        assert_eq!(
            percent(used, Some(Duration::ZERO), second),
            Some(0.0),
            "a counter that went back"
        );
        assert_eq!(per_second(100, Some(Duration::from_secs(4))), Some(25.0));
        assert_eq!(per_second(100, None), None);
    }

    #[test]
    fn this_machine_can_be_sampled() {
        let mut sampler = SystemSampler::new();
        let first = sampler.sample(Timestamp::from_secs(100));
        assert_eq!(first.process.cpu_percent, None);
        assert!(first.process.rss_bytes.is_some());
        assert!(first.host.memory_total_bytes >= first.host.memory_available_bytes);
        let second = sampler.sample(Timestamp::from_secs(101));
        assert!(second.process.cpu_percent.is_some());
        let json = serde_json::to_value(&second).unwrap();
        assert!(json["host"]["load"].is_array());
        assert!(json["container"].as_object().unwrap().contains_key("cpu_quota"));
    }
}
