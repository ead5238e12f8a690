//! How much memory the private mysqld may use, and how often the kernel killed for it.
//!
//! Limits come from the cgroups (version 1 or 2, our own and all its ancestors) and from the
//! address space; without any, the machine's memory counts. See the kernel's cgroup-v1/memory and
//! cgroup-v2 documentation and proc(5). An unreadable file means "no limit known" and is never an
//! error.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Limit;

/// A memory cgroup with the file names of its version.
struct Cgroup {
    dir: PathBuf,
    /// The limit that kills, then one that only throttles.
    limits: &'static [&'static str],
    usage: &'static str,
    kills: &'static str,
    /// Keys of `memory.stat` for memory that can be reclaimed at any time.
    caches: [&'static str; 2],
}

impl Cgroup {
    fn new(dir: &Path, version: u8) -> Cgroup {
        let dir = dir.to_path_buf();
        if version == 2 {
            Cgroup {
                dir,
                limits: &["memory.max", "memory.high"],
                usage: "memory.current",
                kills: "memory.events",
                caches: ["inactive_file ", "active_file "],
            }
        } else {
            Cgroup {
                dir,
                limits: &["memory.limit_in_bytes"],
                usage: "memory.usage_in_bytes",
                kills: "memory.oom_control",
                caches: ["total_inactive_file ", "total_active_file "],
            }
        }
    }

    /// The limit that kills. Without one, version 1 has a number near 2^63 and version 2 a word.
    fn limit(&self) -> Option<u64> {
        self.number(self.limits[0])
    }

    /// Bytes still available below all limits. Reclaimable caches count as available.
    fn room(&self) -> Option<u64> {
        let limit = self.limits.iter().filter_map(|l| self.number(l)).min()?;
        let stat = fs::read_to_string(self.dir.join("memory.stat")).unwrap_or_default();
        let cached: u64 = self.caches.iter().filter_map(|c| line_number(&stat, c)).sum();
        let used = self.number(self.usage).unwrap_or(0).saturating_sub(cached);
        Some(limit.saturating_sub(used))
    }

    fn kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(self.kills)).ok()?;
        line_number(&text, "oom_kill ")
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.trim().parse().ok().filter(|n| *n < 1 << 60)
    }
}

/// The memory cgroups from our own up to the root of the hierarchy. `text` is the content of
/// `/proc/self/cgroup`, `mount` the directory where cgroup file systems are mounted.
fn cgroups(text: &str, mount: &Path) -> Vec<Cgroup> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, version) = if controllers.is_empty() {
            (mount.to_path_buf(), 2)
        } else if controllers.split(',').any(|c| c == "memory") {
            (mount.join("memory"), 1)
        } else {
            continue;
        };
        // In a container the path may be that of the host, where only the root of the mount is
        // ours.
        let own = root.join(path.trim_start_matches('/'));
        let levels = own.ancestors().take_while(|a| a.starts_with(&root));
        found.extend(levels.map(|dir| Cgroup::new(dir, version)));
    }
    found
}

fn own_cgroups() -> Vec<Cgroup> {
    cgroups(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn line_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
}

/// The tighter of the soft limits on address space and data in the text of `/proc/self/limits`.
fn limit_of_space(text: &str) -> Option<u64> {
    let names = ["Max address space", "Max data size"];
    let soft = |l: &str| {
        let rest = names.iter().find_map(|n| l.strip_prefix(n))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(soft).min()
}

/// The tightest of our cgroup limits: the one a killed process exceeded.
pub fn limit() -> Option<Limit> {
    own_cgroups().iter().filter_map(Cgroup::limit).min().map(Limit::Cgroup)
}

/// The limit that made process `pid`, our child, fail to allocate. A cgroup kills instead of
/// refusing, so this is an rlimit; a reaped child had ours.
pub fn limit_of_refusals(pid: u32) -> Option<Limit> {
    let own = || read("/proc/self/limits");
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_else(|_| own());
    limit_of_space(&text).map(Limit::AddressSpace)
}

/// Our own limit on address space or data. Where there is one, address space must not be wasted.
pub fn space_limit() -> Option<u64> {
    limit_of_space(&read("/proc/self/limits"))
}

/// Bytes still available below the limits of all our cgroups.
pub fn room() -> Option<u64> {
    own_cgroups().iter().filter_map(Cgroup::room).min()
}

/// How many processes of our cgroups the kernel has killed for memory so far; those of the whole
/// machine where cgroups cannot be read.
pub fn kills() -> u64 {
    count_kills(&own_cgroups(), &read("/proc/vmstat"))
}

fn count_kills(cgroups: &[Cgroup], vmstat: &str) -> u64 {
    let counts: Vec<u64> = cgroups.iter().filter_map(Cgroup::kills).collect();
    // Summed, because one level can rise while another stays higher.
    if counts.is_empty() {
        line_number(vmstat, "oom_kill ").unwrap_or(0)
    } else {
        counts.iter().sum()
    }
}

#[cfg(test)]
mod tests;
