//! Kept relay logs give way before the scratch directory is full: a pass matters more than its journal.
//!
//! What a pass still needs is not known: how much is still to come is counted in transactions, and what
//! they do to the data is anybody's guess. So nothing is forecast. The logs that are only kept are given
//! up when they take more than what is free, since then that makes more room than there is; as long as
//! they take less, they are not what fills the disk. And above [`PLENTY`] nobody is in need.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use crate::journal::relay_logs::logs_in;
use crate::os::files;
use crate::os::sys;

use super::{LOST, LogKeeper, NO_ROOM, numbers, segment};

/// More than a server writes between two looks at the free space.
const PLENTY: u64 = 256 << 20;
/// So much is worth another attempt.
const MUCH: u64 = 16 << 20;

/// The number in the name of a relay log: 0 if there is none, which is before all of them.
fn number(name: &str) -> u64 {
    name.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl LogKeeper {
    /// True if relay logs are kept, and were not given up.
    pub fn keeps(&self) -> bool {
        self.wanted && !self.dir().join(LOST).exists()
    }

    /// Gives up the journal if the logs that are kept take more than what is free. `applying` is the log
    /// that the applier is at. True if the server is to remove its logs by itself from now on.
    pub(super) fn give_way_at(&self, applying: &str) -> bool {
        if !self.keeps() {
            return false;
        }
        let free = sys::free_bytes(self.dir().parent().unwrap_or(self.dir())).unwrap_or(u64::MAX);
        let applying = number(applying);
        if free >= PLENTY || !self.only_kept(applying).is_ok_and(|kept| kept.min(PLENTY) > free) {
            return false;
        }
        // First of all room, also for the note.
        let emptied = self.forget().map_err(|e| e.to_string());
        let emptied = emptied.and_then(|()| self.empty(applying).map_err(|e| e.to_string()));
        if let Err(e) = emptied {
            log::warn!("kept relay logs stay: {e}");
        }
        self.lose(NO_ROOM);
        true
    }

    /// True if another attempt without these logs would have far more room. The newest one does not
    /// count: it was not applied yet.
    pub fn takes_much(&self) -> bool {
        let newest = || -> io::Result<u64> {
            let logs = logs_in(&files::open_dir(&self.data)?)?;
            Ok(logs.last().map_or(0, |(number, _)| *number))
        };
        let kept = newest().and_then(|newest| self.only_kept(newest));
        self.keeps() && kept.is_ok_and(|kept| kept >= MUCH)
    }

    /// Gives up the journal, where no server runs.
    pub fn give_up(&self) {
        self.lose(NO_ROOM);
    }

    /// Bytes of logs that the server does not need: those before `applying`, and those of receivers that
    /// are no more.
    fn only_kept(&self, applying: u64) -> io::Result<u64> {
        let (mut needed, mut kept) = (Vec::new(), Vec::new());
        if let Ok(data) = files::open_dir(&self.data) {
            for (number, name) in logs_in(&data)? {
                let m = files::path_of(&data).join(name).symlink_metadata()?;
                match number >= applying {
                    true => needed.push(m.ino()),
                    false => kept.push((m.ino(), m.blocks() * 512)),
                }
            }
        }
        if let Some(root) = self.open()? {
            for name in numbers(&root)?.into_iter().map(segment) {
                let dir = files::open_dir(&files::path_of(&root).join(name))?;
                for (_, name) in logs_in(&dir)? {
                    let m = files::path_of(&dir).join(name).symlink_metadata()?;
                    kept.push((m.ino(), m.blocks() * 512));
                }
            }
        }
        kept.retain(|(inode, _)| !needed.contains(inode));
        kept.sort_unstable();
        kept.dedup();
        Ok(kept.into_iter().map(|(_, bytes)| bytes).sum())
    }

    /// Empties the logs in the data directory that are before `applying`: the server itself would remove
    /// them only once it is done with that one, which may be as long as all that is free. They are not
    /// removed, so that it finds what its index names.
    fn empty(&self, applying: u64) -> io::Result<()> {
        let data = files::open_dir(&self.data)?;
        for (_, name) in logs_in(&data)?.into_iter().filter(|(number, _)| *number < applying) {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let log = options.open(files::path_of(&data).join(name))?;
            let m = log.metadata()?;
            // The directory belongs to the server's user, who could have linked anything there.
            if m.is_file() && m.nlink() == 1 {
                log.set_len(0)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Place, position};
    use super::*;
    use crate::mysql::flavor::Flavor;
    use crate::replication::kept_logs::KeepLogs as _;

    const LOG: usize = 64 << 10;

    #[test]
    fn only_what_the_applier_is_done_with_is_emptied() {
        let (place, keeper) = Place::new("room");
        let text = "x".repeat(LOG);
        keeper.begin(&position("0-1-1"));
        place.write("relay.000001", &text);
        keeper.begin(&position("0-1-2"));
        place.remove_logs();
        for name in ["relay.000001", "relay.000002", "relay.000003", "relay.000004"] {
            place.write(name, &text);
        }
        let left = || ["1", "2", "3", "4"].map(|n| place.length(&format!("relay.00000{n}")));
        let kept = |applying| keeper.only_kept(number(applying)).unwrap() / LOG as u64;
        assert_eq!([kept(""), kept("./relay.000003"), kept("relay.000009")], [1, 3, 5]);
        // What is linked counts once.
        keeper.link_all().unwrap();
        assert_eq!(kept("relay.000003"), 3);
        let outside = place.link_outside("relay.000001");
        keeper.forget().unwrap();
        keeper.empty(3).unwrap();
        let all = LOG as u64;
        assert_eq!(left(), [all, 0, all, all], "a file that is elsewhere, too, is not ours");
        assert_eq!(outside.metadata().unwrap().len(), all);
    }

    #[test]
    fn a_journal_is_given_up_once_and_says_why() {
        let (place, keeper) = Place::new("given-up");
        keeper.begin(&position("0-1-1"));
        place.write("relay.000001", &"x".repeat(MUCH as usize));
        assert!(!keeper.takes_much(), "it was not applied yet");
        place.write("relay.000002", "");
        assert!(keeper.takes_much());
        keeper.give_up();
        assert!(!keeper.takes_much() && !keeper.keeps());
        assert_eq!(keeper.segments(Flavor::MariaDb).unwrap_err(), NO_ROOM);
    }
}
