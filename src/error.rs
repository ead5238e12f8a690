//! What can go wrong, by cause.
//!
//! One variant for each word of the contract's list of causes. The data a message needs is in
//! the fields; the words are made here and nowhere else. Nothing in the program decides on a
//! message's text: it decides on the variant.

mod cause;
pub mod remedy;

pub use cause::Cause;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::text::{bytes, short, system_text};

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, named by its cause.
#[derive(Debug)]
// `replication-error` is a word of the contract.
#[allow(clippy::enum_variant_names)]
pub enum Error {
    /// The private mysqld ended, and we did not ask it to.
    MysqldDied {
        /// How it ended, as `killed by signal 9`.
        how: String,
        /// Its last error lines, joined; empty if it said nothing.
        log: String,
    },
    /// The private mysqld lives and does not answer, or does not move on to start or end.
    MysqldHung {
        /// What it was asked for, as `answer to a ping`.
        what: String,
        /// For how long it was waited for; `None` if it closed the session instead.
        after: Option<Duration>,
    },
    /// The private mysqld refused to start.
    MysqldStart {
        /// How it ended, or what could not be executed.
        how: String,
        /// Its last error lines, joined.
        log: String,
    },
    /// The kernel killed the private mysqld for its memory, or memory could not be had.
    OutOfMemory {
        /// How it ended, or what it could not do.
        how: String,
        /// Its last error lines, joined; empty if it said nothing.
        log: String,
        /// The limit that was met, where it is known.
        limit: Option<Limit>,
    },
    /// No space left where it is needed.
    DiskFull {
        /// A directory on that file system.
        path: PathBuf,
        /// Bytes free there now, if known.
        free: Option<u64>,
        /// Bytes that were needed, if known.
        needed: Option<u64>,
        /// What it is to us.
        place: Place,
    },
    /// No candidate answers, or replication lost its connection.
    PrimaryUnreachable {
        /// Whom we tried, as `db1:3306, db2:3306`.
        primary: String,
        /// The client's or server's text.
        text: String,
    },
    /// Nothing moves.
    Stalled {
        /// For how long.
        after: Duration,
        /// What stands still, with its position.
        what: String,
    },
    /// The primary refuses the account or lacks a privilege for it.
    AccessDenied {
        /// Whom we asked.
        primary: String,
        /// What is refused, and what is missing.
        text: String,
    },
    /// The primary no longer has the binary logs the base needs.
    Purged {
        /// The position of the base.
        position: String,
        /// What the primary says or has.
        primary: String,
    },
    /// The base has transactions that the primary lacks.
    Diverged {
        /// The transactions in question.
        errant: String,
        /// What the primary has.
        primary: String,
    },
    /// A statement of the primary could not be applied, or a dump could not be made.
    ReplicationError {
        /// The server's error number, 0 if there is none.
        errno: u16,
        /// Its text without statements.
        text: String,
    },
    /// A backup does not hold what it should.
    BackupDamaged {
        /// Its name.
        backup: String,
        /// What is wrong, and where.
        what: String,
    },
    /// There is no backup, or not the one that was named.
    NoBackup {
        /// Where we looked, or for what, and what to do.
        what: String,
    },
    /// A system call failed.
    Io {
        /// What was done, with the path, as `write REPO/tmp/x`.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else holds a lock.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
    },
    /// A signal told us to stop.
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// An error on data that was resumed or whose mysqld died: the data may be to blame, so it is
    /// counted like a temporary one.
    OnSuspectData(Box<Error>),
    /// Wrong usage, or a configuration that cannot work.
    Configuration {
        /// What is wrong, naming the option, file or key.
        text: String,
    },
}

/// A limit on memory that a process met, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of the memory of its cgroup.
    Cgroup(u64),
    /// Of its address space.
    AddressSpace(u64),
}

/// What a directory is to us: which option names it, and so what helps when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `--scratch`.
    Scratch,
    /// `--repo`.
    Repository,
    /// `--to`.
    Target,
    /// Something else, or not known yet.
    Other,
}

impl Place {
    fn advice(self) -> &'static str {
        match self {
            Place::Scratch => "make room there, or name another --scratch",
            Place::Repository => {
                "make room there, as with rollforward prune, or name another --repo"
            }
            Place::Target => "make room there, or name another --to",
            Place::Other => "make room there",
        }
    }
}

impl Error {
    /// A [`Error::Configuration`].
    pub fn config(text: impl Into<String>) -> Error {
        Error::Configuration { text: text.into() }
    }

    /// Turns the error of a system call on `path` into ours: a full disk is its own cause.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Error::DiskFull {
                path: path.to_path_buf(),
                free: None,
                needed: None,
                place: Place::Other,
            },
            _ => Error::Io { doing: format!("{doing} {}", path.display()), source },
        }
    }

    /// Its one-word cause.
    pub fn cause(&self) -> Cause {
        match self {
            Error::MysqldDied { .. } => Cause::MysqldDied,
            Error::MysqldHung { .. } => Cause::MysqldHung,
            Error::MysqldStart { .. } => Cause::MysqldStart,
            Error::OutOfMemory { .. } => Cause::OutOfMemory,
            Error::DiskFull { .. } => Cause::DiskFull,
            Error::PrimaryUnreachable { .. } => Cause::PrimaryUnreachable,
            Error::Stalled { .. } => Cause::Stalled,
            Error::AccessDenied { .. } => Cause::AccessDenied,
            Error::Purged { .. } => Cause::Purged,
            Error::Diverged { .. } => Cause::Diverged,
            Error::ReplicationError { .. } => Cause::ReplicationError,
            Error::BackupDamaged { .. } => Cause::BackupDamaged,
            Error::NoBackup { .. } => Cause::NoBackup,
            Error::Io { .. } => Cause::IoError,
            Error::Locked { .. } => Cause::Locked,
            Error::Interrupted { .. } => Cause::Interrupted,
            Error::Configuration { .. } => Cause::Configuration,
            Error::OnSuspectData(error) => error.cause(),
        }
    }

    /// Is it one that the breaker counts, because another attempt may go well?
    pub fn is_temporary(&self) -> bool {
        self.blames_primary()
            || matches!(
                self,
                Error::MysqldDied { .. }
                    | Error::MysqldHung { .. }
                    | Error::OutOfMemory { .. }
                    | Error::OnSuspectData(_)
            )
    }

    /// Is it the primary's doing, so that what was reached before it is worth storing?
    pub fn blames_primary(&self) -> bool {
        matches!(self, Error::PrimaryUnreachable { .. } | Error::Stalled { .. })
    }

    /// May the scratch data be to blame, if it was resumed or its mysqld died on it?
    pub fn may_blame_data(&self) -> bool {
        matches!(
            self,
            Error::Diverged { .. } | Error::ReplicationError { .. } | Error::MysqldStart { .. }
        )
    }

    /// The status to exit with, when this ends the command.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Configuration { .. } => 2,
            Error::Locked { .. } => 75,
            Error::Interrupted { signal } => (128 + signal) as u8,
            e if e.is_temporary() => 75,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::MysqldDied { how, log } | Error::MysqldStart { how, log } => {
                let what = if matches!(self, Error::MysqldDied { .. }) {
                    "the private mysqld died"
                } else {
                    "the private mysqld did not start"
                };
                write!(f, "{what}: {how}")?;
                if !log.is_empty() {
                    write!(f, "; its log says: {log}")?;
                }
                Ok(())
            }
            Error::MysqldHung { what, after: Some(after) } => {
                write!(f, "the private mysqld is hung: no {what} for {}", short(*after))
            }
            Error::MysqldHung { what, after: None } => {
                write!(f, "the private mysqld closed its session and lives on: no {what}")
            }
            Error::OutOfMemory { how, log, limit } => {
                write!(f, "the private mysqld ran out of memory: {how}")?;
                if !log.is_empty() {
                    write!(f, "; its log says: {log}")?;
                }
                match limit {
                    Some(Limit::Cgroup(n)) => {
                        write!(f, "; the limit of its cgroup is {}", bytes(*n))?;
                    }
                    Some(Limit::AddressSpace(n)) => {
                        write!(f, "; the limit of its address space is {}", bytes(*n))?;
                    }
                    None => write!(f, "; no limit is set for it, so the machine's was met")?,
                }
                write!(
                    f,
                    "; raise it or pass a smaller --mysqld-option=--innodb-buffer-pool-size=N"
                )
            }
            Error::DiskFull { path, free, needed, place } => {
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
                write!(f, "primary {primary} does not answer: {text}")
            }
            Error::Stalled { after, what } => {
                write!(f, "nothing moved for {}: {what}", short(*after))
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
                "the base holds {errant}, which the primary lacks (it has {primary}): it was \
                 reset or replaced (then take a new first backup with rollforward seed --from dump), \
                 or it is a replica that lags behind (then wait, or name another candidate)"
            ),
            Error::ReplicationError { errno: 0, text } => write!(f, "replication failed: {text}"),
            Error::ReplicationError { errno, text } => {
                write!(f, "replication failed with error {errno}: {text}")
            }
            Error::BackupDamaged { backup, what } => {
                write!(f, "backup {backup} is damaged: {what}")
            }
            Error::NoBackup { what } => f.write_str(what),
            Error::Io { doing, source } => {
                write!(f, "cannot {doing}: {}", system_text(source))?;
                if source.raw_os_error() == Some(libc::EFBIG) {
                    f.write_str(
                        "; raise the limit on the size of files (ulimit -f, LimitFSIZE=), or use \
                         a file system that takes larger ones",
                    )?;
                }
                Ok(())
            }
            Error::Locked { path, holder } => {
                write!(f, "{} is locked by {holder}", path.display())
            }
            Error::Interrupted { signal } => write!(f, "stopped by signal {signal}"),
            Error::OnSuspectData(error) => error.fmt(f),
            Error::Configuration { text } => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
