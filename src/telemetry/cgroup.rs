//! The limits and use of the container, from the files of cgroup v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the cgroup tells; what it does not tell, or does not limit, is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupSample {
    /// CPUs allowed, such as 1.5.
    pub cpu_quota: Option<f64>,
    /// From `cpu.stat`.
    pub cpu: CpuStat,
    /// Bytes allowed.
    pub memory_limit: Option<u64>,
    /// Bytes used, page cache included.
    pub memory_used: Option<u64>,
}

/// The lines of `cpu.stat` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// CPU time used.
    pub usage: Option<Duration>,
    /// Time in which the quota held it back.
    pub throttled: Option<Duration>,
}

impl CgroupSample {
    /// Reads the files in `directory`.
    pub fn read(directory: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(directory.join(file)).ok();
        Self {
            cpu_quota: text("cpu.max").as_deref().and_then(parse_cpu_max),
            cpu: text("cpu.stat")
                .as_deref()
                .map(parse_cpu_stat)
                .unwrap_or_default(),
            memory_limit: text("memory.max").as_deref().and_then(parse_bytes),
            memory_used: text("memory.current").as_deref().and_then(parse_bytes),
        }
    }
}

/// The directory of the group that the text of `/proc/self/cgroup` names, below `root` (`/sys/fs/cgroup`).
///
/// Inside a container the group is usually mounted as the root itself, whatever the name says.
pub fn directory(proc_self_cgroup: &str, root: &Path) -> Option<PathBuf> {
    let name = proc_self_cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?;
    let named = root.join(name.trim_start_matches('/'));
    [named, root.to_owned()]
        .into_iter()
        .find(|directory| directory.join("cgroup.controllers").exists())
}

/// CPUs of `cpu.max`: `quota period` in microseconds, or `max`.
pub fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Parses `cpu.stat`.
pub fn parse_cpu_stat(text: &str) -> CpuStat {
    let micros = |key: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        value.trim().parse().ok().map(Duration::from_micros)
    };
    CpuStat {
        usage: micros("usage_usec"),
        throttled: micros("throttled_usec"),
    }
}

/// A number of bytes; `max` is no limit.
pub fn parse_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_cpus() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        for none in ["max 100000\n", "", "1", "1 0"] {
            assert_eq!(parse_cpu_max(none), None, "{none}");
        }
    }

    #[test]
    fn cpu_stat_is_read_by_key() {
        let text = "usage_usec 2500000\nuser_usec 2000000\nnr_throttled 3\nthrottled_usec 40000\n";
        let expected = CpuStat {
            usage: Some(Duration::from_millis(2500)),
            throttled: Some(Duration::from_millis(40)),
        };
        assert_eq!(parse_cpu_stat(text), expected);
        assert_eq!(parse_cpu_stat("usage_usec x"), CpuStat::default());
    }

    #[test]
    fn a_group_is_read_where_it_is_mounted() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("kubepods/pod1");
        fs::create_dir_all(&pod).unwrap();
        assert_eq!(directory("0::/kubepods/pod1\n", root.path()), None);
        fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
        assert_eq!(
            directory("1:cpu:/x\n0::/kubepods/pod1\n", root.path()).as_deref(),
            Some(root.path())
        );
        fs::write(pod.join("cgroup.controllers"), "cpu memory").unwrap();
        assert_eq!(
            directory("0::/kubepods/pod1\n", root.path()).as_deref(),
            Some(&*pod)
        );
        assert_eq!(directory("1:cpu:/x\n", root.path()), None, "cgroup v1");
        fs::write(pod.join("cpu.max"), "50000 100000\n").unwrap();
        fs::write(pod.join("memory.max"), "max\n").unwrap();
        fs::write(pod.join("memory.current"), "1048576\n").unwrap();
        let expected = CgroupSample {
            cpu_quota: Some(0.5),
            memory_used: Some(1 << 20),
            ..CgroupSample::default()
        };
        assert_eq!(CgroupSample::read(&pod), expected);
    }
}
