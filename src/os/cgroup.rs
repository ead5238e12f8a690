//! How much memory the private mysqld may really use, and whether the kernel killed for it.
//!
//! A container's limit is the cgroup's, version 1 or 2, ours or any above us; a limit on the
//! address space counts too; without any it is the machine's memory. Files and their meaning: the
//! kernel's cgroup-v1/memory and cgroup-v2 documentation and proc(5). Unreadable files mean "no
//! limit known", never an error.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Limit;

/// One memory cgroup and the names that its version gives to things.
struct Cgroup {
    dir: PathBuf,
    /// Limits that kill, then those that only slow down.
    limits: &'static [&'static str],
    usage: &'static str,
    kills: &'static str,
    /// Lines of `memory.stat` about what can be dropped at any time.
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

    /// The limit that kills. Version 1 says "none" with a number near 2^63, version 2 with a word.
    fn limit(&self) -> Option<u64> {
        self.number(self.limits[0])
    }

    /// Bytes that can be had below all limits: what processes hold is gone, caches are not.
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

/// The memory cgroups from our own up to the root of the hierarchy. `text` is that of
/// `/proc/self/cgroup`, `mount` where cgroup file systems are.
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
        // In a container the path may be the host's, and only the root of the mount is ours.
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

/// The soft limits on address space and data in the text of `/proc/self/limits`: the tighter one.
fn limit_of_space(text: &str) -> Option<u64> {
    let names = ["Max address space", "Max data size"];
    let soft = |l: &str| {
        let rest = names.iter().find_map(|n| l.strip_prefix(n))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(soft).min()
}

/// The tightest cgroup limit over us: what a process was killed for.
pub fn limit() -> Option<Limit> {
    own_cgroups().iter().filter_map(Cgroup::limit).min().map(Limit::Cgroup)
}

/// The limit for whose sake process `pid`, a child of ours, was refused memory: cgroups never
/// refuse, they kill. A child that was reaped had our limit.
pub fn limit_of_refusals(pid: u32) -> Option<Limit> {
    let own = || read("/proc/self/limits");
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_else(|_| own());
    limit_of_space(&text).map(Limit::AddressSpace)
}

/// The limit on our own address space or data: one that refuses memory. Then address space is not
/// to be wasted.
pub fn space_limit() -> Option<u64> {
    limit_of_space(&read("/proc/self/limits"))
}

/// Bytes that can still be had below the limits of all of our cgroups.
pub fn room() -> Option<u64> {
    own_cgroups().iter().filter_map(Cgroup::room).min()
}

/// How often the kernel has killed a process of our cgroups for want of memory, so far; on a
/// machine whose cgroups cannot be read, a process of the machine.
pub fn kills() -> u64 {
    count_kills(&own_cgroups(), &read("/proc/vmstat"))
}

fn count_kills(cgroups: &[Cgroup], vmstat: &str) -> u64 {
    let counts: Vec<u64> = cgroups.iter().filter_map(Cgroup::kills).collect();
    // The sum: the count of one level may rise where that of another is higher anyway.
    if counts.is_empty() {
        line_number(vmstat, "oom_kill ").unwrap_or(0)
    } else {
        counts.iter().sum()
    }
}

#[cfg(test)]
mod tests;
