//! Why the private mysqld exited, hangs or fails: out of memory, out of space, shut down by another
//! process, crashed, or refused to start.
//!
//! The cgroup's counter reveals a kill by the kernel. The server's error numbers, or else its log,
//! reveal refused memory or space.

use std::io;

use crate::error::{Error, Place};
use crate::os::cgroup;
use crate::os::process::Exit;
use crate::os::sys;
use crate::server::error_log::{STOPPED_BY_ANOTHER, Shortage};

use super::Mysqld;

/// With less free space than this, mysqld will wait for space and hang.
const SPACE_TO_LIVE: u64 = 2 << 20;

/// Error numbers of refused memory: `EE_OUTOFMEMORY`, `ER_OUTOFMEMORY`, `ER_OUT_OF_RESOURCES`. From
/// the servers' error reference, like those below.
const NO_MEMORY: [u16; 3] = [5, 1037, 1041];
/// Threads that could not start, which under a limit means no memory for their stacks. The last is
/// MySQL's for a replica that cannot start its workers.
const NO_THREAD: [u16; 3] = [1135, 1202, 13117];
/// A full disk, explicitly.
const DISK_FULL: [u16; 2] = [20, 1021];
/// Possible symptoms of a full disk: an error on a write, in the engine, a full table, a log that
/// cannot be written, a wait for space that took too long, and an applier that stopped for the sake
/// of another thread's error.
#[rustfmt::skip]
const MAY_BE_DISK_FULL: [u16; 16] = [
    1, 3, 1004, 1005, 1006, 1026, 1030, 1114, 1180, 1534, 1595, 1598, 1878, 1969, 13121,
    STOPPED_BY_ANOTHER,
];
/// With less free space than this, a failed extension of a file is believed to have lacked space:
/// an undo tablespace of MySQL grows by 16 MiB, others by less, and what was written is given back.
const SPACE_TO_GROW: u64 = 16 << 20;

impl Mysqld {
    /// Why it exited.
    pub(super) fn diagnose_exit(&mut self, exit: Exit) -> Error {
        let (how, log) = (exit.to_string(), self.log.last_errors());
        if exit == Exit::Signal(libc::SIGKILL) && cgroup::kills() > self.kills_before {
            return Error::OutOfMemory { how, log, limit: cgroup::limit() };
        }
        if let Some(full) = self.disk_full() {
            return full;
        }
        if !matches!(exit, Exit::Status(0) | Exit::Signal(libc::SIGKILL))
            && let Some(shortage) = self.shortage(&how)
        {
            return shortage;
        }
        match exit {
            Exit::Status(1 | 3 | 7) if !self.ready => match self.missing_component() {
                Some(lack) => Error::MysqldStart { how: format!("{how}: {lack}"), log },
                None => Error::MysqldStart { how, log },
            },
            Exit::Status(0) if !self.ready && self.asked_to_end.is_none() => {
                Error::MysqldDied { how: format!("{how} before it was ready"), log }
            }
            Exit::Status(0) => {
                Error::MysqldDied { how: "another process shut it down".into(), log }
            }
            _ => Error::MysqldDied { how, log },
        }
    }

    /// The error for a full disk, if it is full. Both servers then wait for space, still answer
    /// pings, and hang in everything else.
    pub fn disk_full(&self) -> Option<Error> {
        self.less_than(SPACE_TO_LIVE)
    }

    /// The error for a lack of `needed` bytes of space; 0 if unknown.
    pub fn no_room_for(&self, needed: u64) -> Error {
        let needed = (needed > 0).then_some(needed);
        let (path, free) = (self.data.clone(), self.free());
        Error::DiskFull { path, free, needed, inodes: false, place: Place::Scratch }
    }

    /// True if it was refused files: it then calls a table missing or damaged that it cannot open.
    pub fn lacks_files(&self) -> bool {
        self.log.lacks_files()
    }

    /// The real reason for `error`, which it reported or which is a hang: memory or space that it
    /// was refused, else `error` itself.
    pub fn root_cause(&self, error: Error) -> Error {
        let found = match &error {
            Error::ReplicationError { errno, text } => {
                let how = || format!("error {errno}: {text}");
                match *errno {
                    e if NO_MEMORY.contains(&e) => Some(self.out_of_memory(how(), String::new())),
                    e if NO_THREAD.contains(&e)
                        && cgroup::limit_of_refusals(self.pid()).is_some() =>
                    {
                        Some(self.out_of_memory(how(), String::new()))
                    }
                    e if DISK_FULL.contains(&e) => Some(self.out_of_space(self.free())),
                    e if MAY_BE_DISK_FULL.contains(&e) => self.shortage_of_space(),
                    _ if cgroup::limit_of_refusals(self.pid()).is_some() => {
                        // Anything may fail for lack of memory, a table or a thread.
                        self.shortage(&how()).filter(|e| matches!(e, Error::OutOfMemory { .. }))
                    }
                    _ => None,
                }
            }
            Error::MysqldHung { .. } => self.disk_full().or_else(|| self.shortage("it hangs")),
            _ => None,
        };
        found.unwrap_or(error)
    }

    /// The resource that its log reports as lacking.
    fn shortage(&self, how: &str) -> Option<Error> {
        let (what, line) = self.log.shortage()?;
        Some(match what {
            Shortage::Memory => self.out_of_memory(how.into(), line),
            Shortage::Space => self.out_of_space(self.free()),
            Shortage::FileSize => self.file_too_large(),
        })
    }

    /// The same for a statement that failed for want of space, if it did. A server goes on without
    /// space for its redo log, names the reason only the first time, maybe before it was up, and
    /// writes its log on the same file system.
    fn shortage_of_space(&self) -> Option<Error> {
        match self.log.shortage_of_space() {
            Some(Shortage::FileSize) => Some(self.file_too_large()),
            Some(_) => Some(self.out_of_space(self.free())),
            None => self.less_than(SPACE_TO_GROW),
        }
    }

    fn less_than(&self, space: u64) -> Option<Error> {
        let free = sys::free_bytes(&self.data).ok()?;
        (free < space).then(|| self.out_of_space(Some(free)))
    }

    fn out_of_memory(&self, how: String, log: String) -> Error {
        Error::OutOfMemory { how, log, limit: cgroup::limit_of_refusals(self.pid()) }
    }

    fn out_of_space(&self, free: Option<u64>) -> Error {
        let (path, place) = (self.data.clone(), Place::Scratch);
        Error::DiskFull { path, free, needed: None, inodes: false, place }
    }

    fn file_too_large(&self) -> Error {
        let doing = format!("let mysqld write a larger file in {}", self.data.display());
        Error::Io { doing, source: io::Error::from_raw_os_error(libc::EFBIG) }
    }

    fn free(&self) -> Option<u64> {
        sys::free_bytes(&self.data).ok()
    }
}
