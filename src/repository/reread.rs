//! Reads back a share of the packs of a backup, those first that were not read for the longest time.
//!
//! A pass that keeps its scratch data reads no pack for blocks that did not change, and would store a
//! chain of backups over packs that rotted long ago.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::os::clock::Timestamp;
use crate::os::workers::{Crew, locked};
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::manifest::{Hash, PackRef};
use crate::repository::packs::{Fault, check_pack};

/// All packs are read within so many passes.
const PASSES: u64 = 7;

/// When packs were last read as a whole and found good.
pub type LastRead = BTreeMap<Hash, Timestamp>;

/// What was read.
#[derive(Debug, Default)]
pub struct Reread {
    /// Number of packs.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong with those that are damaged: nothing reuses them from now on, so that what they
    /// hold is stored again.
    pub damaged: Vec<String>,
}

/// Reads back the share of `packs` whose turn it is, and notes it in `last`, which then holds only
/// them. Where one is damaged, all others are read, too: the data that mends them is at hand now.
///
/// # Errors
/// Those of reading, except damage; the watch's own.
pub fn reread(
    repo: &Repository,
    _lock: &RepoLock,
    packs: &[PackRef],
    last: &mut LastRead,
    crew: &mut Crew<'_>,
) -> Result<Reread> {
    last.retain(|hash, _| packs.iter().any(|pack| pack.hash == *hash));
    let now = due(packs, last);
    let mut out = read(repo, &now, last, crew)?;
    if !out.damaged.is_empty() {
        let rest: Vec<_> = packs.iter().filter(|pack| !now.contains(pack)).copied().collect();
        let more = read(repo, &rest, last, crew)?;
        out.packs += more.packs;
        out.bytes += more.bytes;
        out.damaged.extend(more.damaged);
    }
    Ok(out)
}

fn read(
    repo: &Repository,
    due: &[PackRef],
    last: &mut LastRead,
    crew: &mut Crew<'_>,
) -> Result<Reread> {
    let gauge = crew.gauge();
    gauge.set_total(due.iter().map(|pack| pack.size).sum());
    let next = AtomicUsize::new(0);
    let found = crew.work(|| {
        let mut found = Vec::new();
        while let Some(pack) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = match check_pack(repo.root(), pack, &gauge) {
                Ok(()) => Ok(()),
                Err(Fault::Damaged(what)) => Err(what),
                Err(Fault::Failed(e)) => return Err(e),
            };
            if gauge.stopped() {
                break;
            }
            found.push((*pack, read));
        }
        Ok(found)
    })?;
    let mut out = Reread::default();
    for (pack, read) in found.into_iter().flatten() {
        out.packs += 1;
        out.bytes += pack.size;
        match read {
            Ok(()) => drop(last.insert(pack.hash, Timestamp::now())),
            Err(what) => {
                repo.distrust(pack);
                out.damaged.push(what);
            }
        }
    }
    Ok(out)
}

impl Repository {
    /// Nothing reuses the pack from now on.
    pub(super) fn distrust(&self, pack: PackRef) {
        let mut distrusted = locked(&self.distrusted);
        if !distrusted.contains(&pack) {
            distrusted.push(pack);
        }
    }

    /// True unless it was found damaged.
    pub(super) fn trusts(&self, pack: &PackRef) -> bool {
        !locked(&self.distrusted).contains(pack)
    }

    /// Sets aside what was found damaged, unless the backup that was stored since has put the same
    /// pack in its place. Not before: a pass that is killed in between must find the backup that it
    /// grew from, or the good data would not be resumed.
    pub fn set_aside_distrusted(&self) {
        for pack in std::mem::take(&mut *locked(&self.distrusted)) {
            self.suspect(&pack);
        }
    }
}

/// The packs to be read now: at least a seventh of all bytes.
fn due(packs: &[PackRef], last: &LastRead) -> Vec<PackRef> {
    let share = packs.iter().map(|pack| pack.size).sum::<u64>().div_ceil(PASSES);
    let mut order = packs.to_vec();
    let now = Timestamp::now();
    // By a clock that was wrong, none would have its turn again until then.
    let last = |pack: &PackRef| last.get(&pack.hash).filter(|time| !time.is_future(now));
    // Of equal age by name, which is as good as at random.
    order.sort_unstable_by_key(|pack| (last(pack).map_or(i64::MIN, |t| t.0), pack.hash));
    let mut taken = 0;
    order.retain(|pack| {
        let take = taken < share;
        taken += pack.size;
        take
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_passes_read_all_packs_and_the_oldest_first() {
        let pack = |n: u8, size| PackRef { hash: [n; 32], size };
        let packs: Vec<_> = (0..20).map(|n| pack(n, 10 + u64::from(n))).collect();
        let total: u64 = packs.iter().map(|p| p.size).sum();
        let mut last = LastRead::new();
        for pass in 0..7 {
            let now = due(&packs, &last);
            assert!(now.iter().map(|p| p.size).sum::<u64>() * 7 >= total);
            assert!(now.iter().all(|p| last.get(&p.hash).is_none_or(|t| t.0 < pass)));
            for pack in now {
                last.insert(pack.hash, Timestamp(pass));
            }
        }
        assert_eq!(last.len(), packs.len());
        last.insert(packs[7].hash, Timestamp(Timestamp::now().0 + 90_000));
        assert_eq!(due(&packs, &last)[0], packs[7]);
        assert!(due(&[], &last).is_empty());
    }
}
