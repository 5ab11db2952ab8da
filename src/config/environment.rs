//! What the surroundings of the process say: variables, memory, processors.

use std::fmt;
use std::fs;
use std::path::Path;

/// Memory assumed when the system does not tell.
const FALLBACK_MEMORY: u64 = 512 << 20;

/// Gives the value of a variable, if it is set.
pub type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a configuration is resolved against; injected, so that tests and `validate` do not depend on the machine.
pub struct Environment {
    /// Looks up an environment variable.
    pub vars: Lookup,
    /// Bytes that the process may use.
    pub memory_bytes: u64,
    /// Processors that the process may keep busy.
    pub cpus: usize,
}

impl Environment {
    /// The surroundings of this process: its variables, and the smaller of the machine's and the cgroup's (v2)
    /// memory and processors; a share of a processor counts as one.
    pub fn system() -> Self {
        let found = Surroundings::read(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let quota = found.quota.unwrap_or(usize::MAX);
        Self {
            vars: Box::new(|name| std::env::var(name).ok()),
            memory_bytes: found.memory.unwrap_or(FALLBACK_MEMORY),
            cpus: found.allowed_cpus.unwrap_or(available).min(quota).max(1),
        }
    }
}

impl fmt::Debug for Environment {
    /// Variables may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("memory_bytes", &self.memory_bytes)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Surroundings {
    /// Bytes.
    memory: Option<u64>,
    /// Processors of the CPU quota, rounded up.
    quota: Option<usize>,
    /// Processors of the affinity mask. The standard library's figure is not used where this is known: it
    /// rounds the quota down.
    allowed_cpus: Option<usize>,
}

impl Surroundings {
    fn read(proc: &Path, cgroups: &Path) -> Self {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut found = Self {
            memory: total_memory(&text(&proc.join("meminfo"))),
            quota: None,
            allowed_cpus: allowed_cpus(&text(&proc.join("self/status"))),
        };
        let membership = text(&proc.join("self/cgroup"));
        let own = membership.lines().find_map(|line| line.strip_prefix("0::/"));
        // A limit of any group above holds as well.
        for group in Path::new(own.unwrap_or_default()).ancestors() {
            let group = cgroups.join(group);
            let memory = text(&group.join("memory.max")).trim().parse().ok();
            found.memory = smaller(found.memory, memory);
            found.quota = smaller(found.quota, quota(&text(&group.join("cpu.max"))));
        }
        found
    }
}

fn smaller<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// `MemTotal:  16384 kB`
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `Cpus_allowed_list:  0-3,8`
fn allowed_cpus(status: &str) -> Option<usize> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let count = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').map(count).sum()
}

/// `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn quota(cpu_max: &str) -> Option<usize> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_every_group_above_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        let write = |path: std::path::PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            proc.join("meminfo"),
            "MemTotal:       1048576 kB\nMemFree: 1 kB\n",
        );
        write(proc.join("self/status"), "Name:\tx\nCpus_allowed_list:\t0-3,8\n");
        write(proc.join("self/cgroup"), "0::/pod/app\n");
        write(cgroups.join("pod/memory.max"), "268435456\n");
        write(cgroups.join("pod/app/memory.max"), "max\n");
        write(cgroups.join("pod/cpu.max"), "max 100000\n");
        write(cgroups.join("pod/app/cpu.max"), "150000 100000\n");
        let expected = Surroundings {
            memory: Some(256 << 20),
            quota: Some(2),
            allowed_cpus: Some(5),
        };
        assert_eq!(Surroundings::read(&proc, &cgroups), expected);
        let empty = Surroundings::read(Path::new("/nonexistent"), Path::new("/nonexistent"));
        assert_eq!(empty, Surroundings::default());
    }

    #[test]
    fn this_machine_has_memory_and_processors() {
        let environment = Environment::system();
        assert!(environment.memory_bytes > 1 << 20 && environment.cpus >= 1);
    }
}
