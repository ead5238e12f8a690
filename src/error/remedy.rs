//! What to do next, for the last line of a command that failed.
//!
//! Many errors say it themselves, since it depends on their data; the others get it here, once,
//! and not at each attempt.

use crate::error::Error;

/// The error and what to do about it, in one line.
pub fn with(error: &Error) -> String {
    match next(error) {
        Some(next) => format!("{error}; {next}"),
        None => error.to_string(),
    }
}

fn next(error: &Error) -> Option<&'static str> {
    let next = match error {
        Error::MysqldDied { .. } | Error::MysqldStart { .. } => {
            "all that it said is in mysqld.log in the scratch directory"
        }
        Error::MysqldHung { .. } => {
            "see mysqld.log in the scratch directory, and whether its disk is slow: then raise \
             --ping-timeout, --start-timeout or --shutdown-timeout"
        }
        Error::PrimaryUnreachable { .. } => {
            "see that it runs and can be reached from here, then run again"
        }
        Error::Stalled { .. } => {
            "see whether the primary still sends; where it may be silent for longer, raise \
             --stall-timeout"
        }
        // MySQL's for a primary that refuses to send: neither purged nor diverged, if it comes here.
        Error::ReplicationError { errno: 13114, .. } => {
            "if another replica goes by its server uuid, run again: it takes a new one each time; \
             else start a new chain with rollforward seed --from dump"
        }
        Error::ReplicationError { .. } => {
            "if the data is not as on the primary, start a new chain with rollforward seed --from \
             dump"
        }
        Error::BackupDamaged { .. } => {
            "rollforward verify tells all that is damaged; restore another backup of rollforward \
             list, or start a new chain with rollforward seed --from dump"
        }
        Error::Io { source, .. } => match source.raw_os_error()? {
            libc::EIO => "the disk may be failing: see the kernel's log",
            libc::EROFS => "mount it writable: after an error the kernel may have changed that",
            libc::EACCES | libc::EPERM => "give it to the user that runs rollforward",
            libc::ELOOP => "a symbolic link stands there: remove it",
            libc::EMFILE | libc::ENFILE => "raise the limit of open files",
            _ => return None,
        },
        Error::Locked { .. } => "wait for it to end, then run again",
        Error::Interrupted { .. } => "run again to go on",
        Error::OnSuspectData(error) => return next(error),
        // These name what is missing, and the command or option that helps.
        Error::OutOfMemory { .. }
        | Error::DiskFull { .. }
        | Error::AccessDenied { .. }
        | Error::Purged { .. }
        | Error::Diverged { .. }
        | Error::NoBackup { .. }
        | Error::Configuration { .. } => return None,
    };
    Some(next)
}
