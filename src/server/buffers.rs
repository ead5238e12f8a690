//! The sizes of the private mysqld's buffers, from the memory that it may use.

use std::fs;

use crate::os::cgroup;

/// The smallest buffer pool, in bytes.
const SMALLEST_POOL: u64 = 32 << 20;
/// Memory that a server needs for itself, in bytes: some 100 MiB in MariaDB, 200 in MySQL.
const OWN: u64 = 256 << 20;
/// The least limit on the pool for little data, in bytes.
const ENOUGH_POOL: u64 = 128 << 20;
/// Bounds of each buffer for tables of other engines, in bytes.
const SMALLEST_BUFFER: u64 = 1 << 20;
const LARGEST_BUFFER: u64 = 128 << 20;
/// Address space that a server with few heaps needs besides its buffers: libraries, stacks, heaps.
const BESIDES: u64 = 448 << 20;

/// The kernel begins to write to the disk what was written to files beyond a tenth of the available memory:
/// `vm.dirty_background_ratio` in its documentation of sysctl.
const WRITEBACK: u64 = 10;

/// The buffers of the private mysqld, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// InnoDB's buffer pool.
    pub pool: u64,
    /// Each of the others: MyISAM's and Aria's.
    pub other: u64,
}

impl Buffers {
    /// Limits the pool to twice the data, so that data that doubles in one catch-up still fits.
    /// Each page of a larger pool would only cost time at every start.
    fn for_data(mut self, data: Option<u64>) -> Buffers {
        if let Some(data) = data {
            self.pool = self.pool.min(data.saturating_mul(2).max(ENOUGH_POOL));
        }
        self
    }
}

/// The buffer sizes, for `data` bytes of files if known.
pub fn buffers(data: Option<u64>) -> Buffers {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    sizes(&meminfo, cgroup::room(), cgroup::space_limit()).for_data(data)
}

/// True if so many bytes, written to files, may stay in memory alone for a while.
pub fn stay_unwritten(bytes: u64) -> bool {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    bytes <= usable(&meminfo, cgroup::room()) / WRITEBACK
}

/// Bytes of memory available in our cgroups or on the machine.
fn usable(meminfo: &str, room: Option<u64>) -> u64 {
    let available = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(512 << 20, |kib| kib << 10);
    room.map_or(available, |room| room.min(available))
}

/// Half of the memory available in our cgroups or on the machine, beyond what a server needs for itself,
/// for the pool, or a quarter of it all where it is little; a 32nd for each of the others; and never more
/// than half of the remaining address space.
fn sizes(meminfo: &str, room: Option<u64>, space: Option<u64>) -> Buffers {
    let usable = usable(meminfo, room);
    let usable = space.map_or(usable, |s| s.saturating_sub(BESIDES).saturating_mul(2).min(usable));
    let half = usable.saturating_sub(OWN) / 2;
    let most = space.map_or(u64::MAX, |s| s.saturating_sub(BESIDES) / 2);
    Buffers {
        pool: half.max(usable / 4).min(most).max(SMALLEST_POOL),
        other: (usable / 32).clamp(SMALLEST_BUFFER, LARGEST_BUFFER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn buffers_follow_the_tightest_of_machine_cgroup_and_address_space() {
        let info = "MemTotal:       24000000 kB\nMemAvailable:    8388608 kB\n";
        let sizes = |room, space| {
            let Buffers { pool, other } = sizes(info, room, space);
            (pool / MIB, other / MIB)
        };
        assert_eq!(sizes(None, None), (3968, 128));
        assert_eq!(sizes(Some(220 * MIB), None), (55, 6));
        assert_eq!(sizes(Some(1024 * MIB), None), (384, 32));
        assert_eq!(sizes(Some(64 << 40), None), (3968, 128));
        assert_eq!(sizes(Some(0), None), (32, 1));
        assert_eq!(sizes(None, Some(704 * MIB)), (128, 16));
        assert_eq!(sizes(None, Some(MIB)), (32, 1));
        assert_eq!(sizes(Some(100 * MIB), Some(1 << 40)), (32, 3));
        assert_eq!(super::sizes("", None, None).pool / MIB, 128);
    }

    #[test]
    fn a_pool_is_not_much_larger_than_the_data() {
        let info = "MemAvailable:    8388608 kB\n";
        let pool = |room, data| sizes(info, room, None).for_data(data).pool / MIB;
        assert_eq!(pool(None, None), 3968);
        assert_eq!(pool(None, Some(10 * MIB)), 128);
        assert_eq!(pool(None, Some(300 * MIB)), 600);
        assert_eq!(pool(None, Some(u64::MAX)), 3968);
        assert_eq!(pool(Some(220 * MIB), Some(10 * MIB)), 55);
    }

    #[test]
    fn little_stays_unwritten_and_much_does_not() {
        assert!(stay_unwritten(MIB));
        assert!(!stay_unwritten(1 << 50));
    }

    #[test]
    fn this_machine_gives_an_answer() {
        let Buffers { pool, other } = buffers(None);
        assert!(pool >= SMALLEST_POOL, "{pool}");
        assert!((SMALLEST_BUFFER..=LARGEST_BUFFER).contains(&other), "{other}");
    }
}
