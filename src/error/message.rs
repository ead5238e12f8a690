//! What is said of an error: one line, without its cause.

use std::fmt;

use crate::error::{Error, Limit};
use crate::text::{bytes, short, system_text};

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::MysqldDied { how, log } | Error::MysqldStart { how, log } => {
                let died = matches!(self, Error::MysqldDied { .. });
                let what = if died { "died" } else { "did not start" };
                write!(f, "the private mysqld {what}: {how}{}", quoted_log(log))
            }
            Error::MysqldHung { what, after: Some(after) } => {
                write!(f, "the private mysqld is hung: no {what} for {}", short(*after))
            }
            Error::MysqldHung { what, after: None } => {
                write!(f, "the private mysqld closed the session but is still running: no {what}")
            }
            Error::OutOfMemory { how, log, limit } => {
                let log = quoted_log(log);
                let limit = match limit {
                    Some(Limit::Cgroup(n)) => format!("its cgroup limit is {}", bytes(*n)),
                    Some(Limit::AddressSpace(n)) => {
                        format!("its address space limit is {}", bytes(*n))
                    }
                    None => "it has no limit of its own, so the machine ran out".into(),
                };
                write!(
                    f,
                    "the private mysqld ran out of memory: {how}{log}; {limit}; raise the limit or \
                     pass a smaller --mysqld-option=--innodb-buffer-pool-size=N"
                )
            }
            Error::DiskFull { path, inodes: true, place, .. } => write!(
                f,
                "no space left on the file system of {}: all its inodes are used; {}",
                path.display(),
                place.advice().replacen("free some space", "remove files", 1)
            ),
            Error::DiskFull { path, free, needed, place, .. } => {
                write!(f, "no space left on the file system of {}", path.display())?;
                if let Some(n) = free {
                    write!(f, ": {} free", bytes(*n))?;
                }
                if let Some(n) = needed {
                    write!(f, ", {} needed", bytes(*n))?;
                }
                write!(f, "; {}", place.advice())
            }
            Error::PrimaryUnreachable { primary, text } => {
                let what =
                    if takes_none(text) { "takes no session now" } else { "does not answer" };
                write!(f, "primary {primary} {what}: {text}")
            }
            Error::Stalled { after, what } => {
                write!(f, "no progress for {}: {what}", short(*after))
            }
            Error::AccessDenied { primary, text } => {
                write!(f, "primary {primary} denies access: {text}")
            }
            Error::Purged { position, primary } => write!(
                f,
                "the primary no longer has the binary logs after {position}: {primary}; \
                 start a new chain with rollforward seed --from dump"
            ),
            Error::Diverged { errant, primary } => write!(
                f,
                "the base has {errant}, which the primary lacks (it has {primary}): if the primary was \
                 reset or replaced, start a new chain with rollforward seed --from dump; if it is a \
                 lagging replica, wait or use another candidate"
            ),
            Error::ReplicationError { errno: 0, text } => write!(f, "replication failed: {text}"),
            Error::ReplicationError { errno, text } => {
                write!(f, "replication failed with error {errno}: {text}")
            }
            Error::BackupDamaged { backup, what } => {
                write!(f, "backup {backup} is damaged: {what}")
            }
            Error::NoBackup { what }
            | Error::Unequal { what }
            | Error::OutOfReach { what }
            | Error::Hook { what } => f.write_str(what),
            Error::Io { doing, source } => {
                write!(f, "cannot {doing}: {}", system_text(source))?;
                if source.raw_os_error() == Some(libc::EFBIG) {
                    f.write_str(
                        "; raise the file size limit (ulimit -f, LimitFSIZE=), or use a file system \
                         that allows larger files",
                    )?;
                }
                Ok(())
            }
            Error::Locked { path, holder } => {
                write!(f, "{} is locked by {holder}", path.display())
            }
            Error::Interrupted { signal } => write!(f, "stopped by signal {signal}"),
            Error::OnSuspectData(error) => error.fmt(f),
            Error::ChainEnds { error, backup, tried } => {
                // One that a server does not start on is not praised.
                let (can, from) = match **error {
                    Error::MysqldStart { .. } => ("no backup can be made".into(), backup.as_str()),
                    _ => (format!("{backup} can be restored, but no later one made"), "it"),
                };
                write!(f, "{error}; {can} from {from}")?;
                match tried {
                    Some((older, cause)) => write!(f, ", nor from the older {older} ({cause})"),
                    None => Ok(()),
                }
            }
            Error::Configuration { text } => f.write_str(text),
        }
    }
}

/// True for the text of a primary that answers, and has no place for a session of ours: as many are open as
/// may be, or its mode is offline. Numbers from the servers' error references.
pub(super) fn takes_none(text: &str) -> bool {
    [1040, 1203, 1226, 3032].iter().any(|errno| text.contains(&format!("error {errno}: ")))
}

fn quoted_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; its log: {log}") }
}
