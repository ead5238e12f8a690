//! What shows that a file has not been written since: inode, size, and both times.
//!
//! A change sets the time of the last status change, which no program can set back. So a file that
//! shows the same stamp has the same content, under [`Conditions`]: the clock was not set, the machine
//! was not started again, and the file system keeps such times. Where one of these is in doubt, the
//! file must be read. Nor may a program have the file mapped when its stamp is taken: the times are set
//! when a page is first written to, and not again.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::os::sys;

/// What shows that a file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number in the file system.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its content was last written: seconds, nanoseconds.
    pub mtime: (i64, i64),
    /// When anything of it last changed.
    pub ctime: (i64, i64),
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(m: &Metadata) -> Stamp {
        Stamp {
            inode: m.ino(),
            size: m.len(),
            mtime: (m.mtime(), m.mtime_nsec()),
            ctime: (m.ctime(), m.ctime_nsec()),
        }
    }

    /// True if a write after `now`, a time of [`now`], shows another stamp. Times in whole seconds are
    /// those of a file system that has no others.
    pub fn is_settled(&self, now: i128) -> bool {
        self.ctime.1 != 0 && self.changed() < now
    }

    fn changed(&self) -> i128 {
        i128::from(self.ctime.0) * 1_000_000_000 + i128::from(self.ctime.1)
    }
}

/// Nanoseconds since 1970 by the clock that the kernel sets times of files by. It ticks every few
/// milliseconds, so that two writes may be given the same time: `ktime_get_coarse_real_ts64` in the
/// kernel's `inode.c`. A kernel that gives finer times, since 6.13, gives none twice.
pub fn now() -> i128 {
    sys::file_clock().as_nanos() as i128
}

/// A little more than the longest tick.
const TICK: Duration = Duration::from_millis(20);

/// Waits until stamps taken before are settled, and returns the time: for the rest of a tick, which is
/// less than it takes to read a file again.
pub fn after(stamps: &[Option<Stamp>]) -> i128 {
    let began = Instant::now();
    let newest = stamps.iter().flatten().map(Stamp::changed).max();
    loop {
        let now = now();
        if newest.is_none_or(|newest| newest < now) || began.elapsed() > TICK {
            return now;
        }
        std::thread::yield_now();
    }
}

/// Under which equal stamps mean equal files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The boot of the machine.
    pub boot: String,
    /// When that was, by the clock, in milliseconds since 1970: it moves when the clock is set.
    pub booted: i64,
    /// The file system.
    pub device: u64,
}

/// By how much the clock may seem to be set, in milliseconds: the uptime has hundredths of a second.
const ROUNDING: i64 = 100;

impl Conditions {
    /// Those of the directory `dir` now; `None` where stamps mean nothing.
    pub fn of(dir: &File) -> Option<Conditions> {
        if !sys::keeps_change_times(dir).unwrap_or(false) {
            return None;
        }
        let booted = (now() / 1_000_000) as i64 - (uptime_exact()? * 1000.0) as i64;
        let boot = boot_id();
        let device = dir.metadata().ok()?.dev();
        (!boot.is_empty()).then_some(Conditions { boot, booted, device })
    }

    /// True if they are the same still.
    pub fn still_hold(&self, dir: &File) -> bool {
        Conditions::of(dir).is_some_and(|now| {
            (&now.boot, now.device) == (&self.boot, self.device)
                && (now.booted - self.booted).abs() <= ROUNDING
        })
    }
}

/// Whole seconds since the boot of the machine, those of its sleep included: no clock that is set.
pub fn uptime() -> Option<i64> {
    uptime_exact().map(|seconds| seconds as i64)
}

fn uptime_exact() -> Option<f64> {
    fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()
}

/// When the system booted, in seconds since 1970; `None` if unknown.
pub fn boot_time() -> Option<i64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

/// A name for this boot of the machine; empty if unknown.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_and_coarse_times_are_not_settled() {
        let stamp = |ctime| Stamp { inode: 1, size: 1, mtime: (1, 1), ctime };
        let now = 1_000_000_000_000;
        assert!(stamp((999, 5)).is_settled(now));
        assert!(stamp((999, 999_999_999)).is_settled(now));
        assert!(!stamp((999, 0)).is_settled(now));
        assert!(!stamp((1000, 1)).is_settled(now));
        assert!(!stamp((999, 5)).is_settled(999_000_000_005));
    }

    #[test]
    fn another_boot_clock_or_file_system_is_noticed() {
        let dir = File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
        let Some(now) = Conditions::of(&dir) else { return };
        assert!(now.still_hold(&dir));
        let boot = "another".to_string();
        for other in [
            Conditions { boot, ..now.clone() },
            Conditions { booted: now.booted + 1000, ..now.clone() },
            Conditions { booted: now.booted - 1000, ..now.clone() },
            Conditions { device: now.device + 1, ..now },
        ] {
            assert!(!other.still_hold(&dir), "{other:?}");
        }
        assert_eq!(Conditions::of(&File::open("/proc").unwrap()), None);
    }
}
