//! What can go wrong, by cause.
//!
//! One variant for each cause of rollforward-monitoring(7), CAUSES. The fields hold the data, and the
//! message is made only in `message`. The program branches on the variant, never on a message.

mod cause;
mod message;
mod place;
pub mod remedy;

pub use cause::Cause;
pub use place::Place;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of nearly every function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, named by its cause.
#[derive(Debug)]
// replication-error is the documented name of a cause.
#[allow(clippy::enum_variant_names)]
pub enum Error {
    /// The private mysqld exited without being asked to.
    MysqldDied {
        /// How it ended, as `killed by signal 9`.
        how: String,
        /// Its last error lines, joined; empty if there are none.
        log: String,
    },
    /// The private mysqld is running but does not answer, or makes no progress starting or
    /// stopping.
    MysqldHung {
        /// What it was asked for, such as `answer to a ping`.
        what: String,
        /// How long we waited; `None` if it closed the session instead.
        after: Option<Duration>,
    },
    /// The private mysqld refused to start.
    MysqldStart {
        /// How it exited, or what could not be executed.
        how: String,
        /// Its last error lines, joined.
        log: String,
    },
    /// The kernel killed the private mysqld for its memory use, or an allocation failed.
    OutOfMemory {
        /// How it exited, or what it could not do.
        how: String,
        /// Its last error lines, joined; empty if there are none.
        log: String,
        /// The limit that was hit, where known.
        limit: Option<Limit>,
    },
    /// A file system has no space left.
    DiskFull {
        /// A directory on that file system.
        path: PathBuf,
        /// Bytes free there now, if known.
        free: Option<u64>,
        /// Bytes needed, if known.
        needed: Option<u64>,
        /// True if it is inodes that are used up.
        inodes: bool,
        /// What we use the directory for.
        place: Place,
    },
    /// No candidate answers, or replication lost its connection.
    PrimaryUnreachable {
        /// The candidates tried, such as `db1:3306, db2:3306`.
        primary: String,
        /// The client's or server's message.
        text: String,
    },
    /// There is no progress of any kind.
    Stalled {
        /// How long there was none.
        after: Duration,
        /// What makes no progress, with its position.
        what: String,
    },
    /// The primary refuses the account, or the account lacks a privilege.
    AccessDenied {
        /// The server that refused.
        primary: String,
        /// What was refused, and which privilege is missing.
        text: String,
    },
    /// The primary no longer has the binary logs the base needs.
    Purged {
        /// The position of the base.
        position: String,
        /// What the primary reports or has.
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
        /// The server's error number, or 0 if there is none.
        errno: u16,
        /// Its message without statements.
        text: String,
    },
    /// A backup does not hold what its manifest says.
    BackupDamaged {
        /// Its name.
        backup: String,
        /// What is wrong, and where.
        what: String,
    },
    /// A check or a comparison of data found a difference.
    Unequal {
        /// What differs and where: tables by name.
        what: String,
    },
    /// The program of `--on-data` failed.
    Hook {
        /// Which, and how.
        what: String,
    },
    /// No journal leads to the moment.
    OutOfReach {
        /// Why, and the nearest moments that can be had.
        what: String,
    },
    /// The repository has no backup, or not the requested one.
    NoBackup {
        /// What was looked for and where, and what to do.
        what: String,
    },
    /// A system call failed.
    Io {
        /// The operation with its path, such as `write REPO/tmp/x`.
        doing: String,
        /// The error from the system.
        source: io::Error,
    },
    /// Another process holds a lock.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// A signal asked us to stop.
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// An error on data that was resumed or whose mysqld died. The data may be at fault, so the
    /// error counts as temporary.
    OnSuspectData(Box<Error>),
    /// An error that no pass gets over from the backups that there are.
    ChainEnds {
        /// The error.
        error: Box<Error>,
        /// The backup that does not lead on.
        backup: String,
        /// An older one that was tried instead, and why it does not lead on either.
        tried: Option<(String, Cause)>,
    },
    /// Wrong usage, or a configuration that cannot work.
    Configuration {
        /// What is wrong, naming the option, file or key.
        text: String,
    },
}

/// A memory limit of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// On the memory of its cgroup.
    Cgroup(u64),
    /// On its address space.
    AddressSpace(u64),
}

impl Error {
    /// A [`Error::Configuration`].
    pub fn config(text: impl Into<String>) -> Error {
        Error::Configuration { text: text.into() }
    }

    /// Converts the error of a system call on `path`; a full disk has a cause of its own.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Error::DiskFull {
                path: path.to_path_buf(),
                free: None,
                needed: None,
                inodes: false,
                place: Place::Other,
            },
            _ => Error::Io { doing: format!("{doing} {}", path.display()), source },
        }
    }

    /// Runs `work`, and turns a panic in it into an error: even then a pass ends by its own words.
    pub fn contain<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = catch_unwind(AssertUnwindSafe(work));
        done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let source = io::Error::other(text.unwrap_or("unknown").to_string());
            Err(Error::Io { doing: "go on after an internal error".into(), source })
        })
    }

    /// The documented word for this cause.
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
            Error::Unequal { .. } => Cause::Unequal,
            Error::OutOfReach { .. } => Cause::OutOfReach,
            Error::Hook { .. } => Cause::Hook,
            Error::NoBackup { .. } => Cause::NoBackup,
            Error::Io { .. } => Cause::IoError,
            Error::Locked { .. } => Cause::Locked,
            Error::Interrupted { .. } => Cause::Interrupted,
            Error::Configuration { .. } => Cause::Configuration,
            Error::OnSuspectData(error) | Error::ChainEnds { error, .. } => error.cause(),
        }
    }

    /// True if the breaker counts this error, because another attempt may succeed.
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

    /// True if the primary is to blame, so that the data reached before it is worth storing.
    pub fn blames_primary(&self) -> bool {
        matches!(self, Error::PrimaryUnreachable { .. } | Error::Stalled { .. })
    }

    /// True if the scratch data may be at fault, once it was resumed or its mysqld died on it.
    pub fn may_blame_data(&self) -> bool {
        matches!(
            self,
            Error::Diverged { .. } | Error::ReplicationError { .. } | Error::MysqldStart { .. }
        )
    }

    /// The exit status when this error ends the command.
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

/// Shorthands for the results of system calls.
pub trait IoExt<T> {
    /// Converts an error with [`Error::io`].
    ///
    /// # Errors
    /// The converted one.
    fn doing(self, doing: &str, path: &Path) -> Result<T>;

    /// Treats an error of this kind as success.
    ///
    /// # Errors
    /// Any other one.
    fn ignoring(self, kind: io::ErrorKind) -> io::Result<()>;
}

impl<T> IoExt<T> for io::Result<T> {
    fn doing(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(doing, path, e))
    }

    fn ignoring(self, kind: io::ErrorKind) -> io::Result<()> {
        self.map(drop).or_else(|e| if e.kind() == kind { Ok(()) } else { Err(e) })
    }
}

impl std::error::Error for Error {}
