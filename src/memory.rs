//! How much memory the private mysqld may really use, and whether the kernel killed for it.
//!
//! A container's limit is the cgroup's, version 1 or 2, ours or any above us; without one it is
//! the machine's memory. Files and their meaning: the kernel's cgroup-v1/memory and cgroup-v2
//! documentation. Unreadable files mean "no limit known", never an error.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the buffer pool: a quarter of what may be used, within these bounds.
const SMALLEST_POOL: u64 = 32 << 20;
const LARGEST_POOL: u64 = 4 << 30;

/// The memory controller's directories from our own cgroup up to the root of the hierarchy.
fn cgroups() -> Vec<(PathBuf, &'static str)> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, limit) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be the host's, and only the root of the mount is ours.
        let own = Path::new(root).join(path.trim_start_matches('/'));
        found
            .extend(own.ancestors().take_while(|a| a.starts_with(root)).map(|a| (a.into(), limit)));
    }
    found
}

/// The tightest cgroup limit over us, bytes.
pub fn limit() -> Option<u64> {
    let limits = cgroups().into_iter().filter_map(|(dir, file)| number(&dir.join(file)));
    // Version 1 says "no limit" with a number near 2^63.
    limits.filter(|l| *l < 1 << 60).min()
}

/// How often the kernel has killed a process of our cgroups for want of memory, so far.
pub fn kills() -> u64 {
    let mut most = 0;
    for (dir, _) in cgroups() {
        for file in ["memory.events", "memory.oom_control"] {
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            let count = text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok());
            most = most.max(count.unwrap_or(0));
        }
    }
    most
}

/// The size of the private mysqld's buffer pool, bytes: a quarter of the cgroup's limit or of
/// the machine's available memory, between 32 MiB and 4 GiB.
pub fn buffer_pool() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(512 << 20, |kib| kib << 10);
    let usable = limit().map_or(available, |l| l.min(available));
    (usable / 4).clamp(SMALLEST_POOL, LARGEST_POOL)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_stays_in_its_bounds_on_this_machine() {
        let pool = buffer_pool();
        assert!((SMALLEST_POOL..=LARGEST_POOL).contains(&pool), "{pool}");
        assert!(limit().is_none_or(|l| l > 0));
    }
}
