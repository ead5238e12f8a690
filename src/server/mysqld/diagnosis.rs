//! Why the private mysqld ended, hangs or fails: out of memory, out of space, stopped by somebody,
//! crashed, or refused to start.
//!
//! A kill by the kernel is told by the cgroup's count of kills; memory or space that was refused
//! by the server's error numbers, or by its log where it has none to give.

use std::io;

use crate::error::{Error, Place};
use crate::os::cgroup;
use crate::os::process::Exit;
use crate::os::sys;
use crate::server::error_log::Shortage;

use super::Mysqld;

/// Less than this free where mysqld works: it will wait for space and hang.
const SPACE_TO_LIVE: u64 = 2 << 20;

/// Error numbers of memory that was refused: `EE_OUTOFMEMORY`, `ER_OUTOFMEMORY`,
/// `ER_OUT_OF_RESOURCES`. From the servers' error reference, as those below.
const NO_MEMORY: [u16; 3] = [5, 1037, 1041];
/// Threads that could not be started, which under a limit means no memory for their stacks; the
/// last is MySQL's for a replica that cannot start its workers.
const NO_THREAD: [u16; 3] = [1135, 1202, 13117];
/// A full disk, by name.
const DISK_FULL: [u16; 2] = [20, 1021];
/// What a full disk may also be reported as: an error on a write, in the engine, a full table.
const MAY_BE_DISK_FULL: [u16; 7] = [3, 1005, 1026, 1030, 1114, 1180, 1969];

impl Mysqld {
    /// Why it ended.
    pub(super) fn cause_of_death(&mut self, exit: Exit) -> Error {
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
            Exit::Status(1 | 3 | 7) if !self.ready => match self.lacks_component() {
                Some(lack) => Error::MysqldStart { how: format!("{how}: {lack}"), log },
                None => Error::MysqldStart { how, log },
            },
            Exit::Status(0) => Error::MysqldDied { how: "somebody shut it down".into(), log },
            _ => Error::MysqldDied { how, log },
        }
    }

    /// The error that a full disk is, if it is full. Both servers wait for space then, answer
    /// pings, and hang in everything else.
    pub fn disk_full(&self) -> Option<Error> {
        let free = sys::free_bytes(&self.data).ok()?;
        (free < SPACE_TO_LIVE).then(|| self.out_of_space(Some(free)))
    }

    /// The error that a lack of room for `needed` bytes is, 0 if nobody knows how many.
    pub fn no_room_for(&self, needed: u64) -> Error {
        let needed = (needed > 0).then_some(needed);
        let (path, free) = (self.data.clone(), self.free());
        Error::DiskFull { path, free, needed, place: Place::Scratch }
    }

    /// What lies behind an error that it reports or a hang: memory or space that it was refused,
    /// else `error` itself.
    pub fn shortage_or(&self, error: Error) -> Error {
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
                    e if MAY_BE_DISK_FULL.contains(&e) => {
                        let said =
                            self.shortage("").filter(|e| !matches!(e, Error::OutOfMemory { .. }));
                        said.or_else(|| self.disk_full())
                    }
                    _ if cgroup::limit_of_refusals(self.pid()).is_some() => {
                        // Anything may fail for want of memory, a table or a thread.
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

    /// What its log says that it lacks.
    fn shortage(&self, how: &str) -> Option<Error> {
        let (what, line) = self.log.shortage()?;
        Some(match what {
            Shortage::Memory => self.out_of_memory(how.into(), line),
            Shortage::Space => self.out_of_space(self.free()),
            Shortage::FileSize => self.file_too_large(),
        })
    }

    fn out_of_memory(&self, how: String, log: String) -> Error {
        Error::OutOfMemory { how, log, limit: cgroup::limit_of_refusals(self.pid()) }
    }

    fn out_of_space(&self, free: Option<u64>) -> Error {
        Error::DiskFull { path: self.data.clone(), free, needed: None, place: Place::Scratch }
    }

    fn file_too_large(&self) -> Error {
        let doing = format!("let mysqld write a larger file in {}", self.data.display());
        Error::Io { doing, source: io::Error::from_raw_os_error(libc::EFBIG) }
    }

    fn free(&self) -> Option<u64> {
        sys::free_bytes(&self.data).ok()
    }
}
