//! The one-word causes of a failure, as checkpoints, logs, metrics and alert rules have them.

use crate::text::words;

words! {
    /// The cause of a failure. Their meaning is in rollforward-monitoring(7), CAUSES.
    Cause {
        /// The private mysqld exited unexpectedly.
        MysqldDied = "mysqld-died",
        /// The private mysqld does not answer.
        MysqldHung = "mysqld-hung",
        /// The private mysqld refused to start.
        MysqldStart = "mysqld-start",
        /// Memory was refused, or taken by the kernel's killer.
        OutOfMemory = "out-of-memory",
        /// No space is left.
        DiskFull = "disk-full",
        /// No candidate answers.
        PrimaryUnreachable = "primary-unreachable",
        /// Nothing moves.
        Stalled = "stalled",
        /// The primary refuses the account.
        AccessDenied = "access-denied",
        /// The primary no longer has the binary logs that are needed.
        Purged = "purged",
        /// The base has transactions that the primary lacks.
        Diverged = "diverged",
        /// A statement could not be applied.
        ReplicationError = "replication-error",
        /// A backup does not hold what it should.
        BackupDamaged = "backup-damaged",
        /// There is no backup.
        NoBackup = "no-backup",
        /// No journal leads to the moment.
        OutOfReach = "out-of-reach",
        /// The program of `--on-data` failed.
        Hook = "hook",
        /// A check or a comparison found a difference.
        Unequal = "unequal",
        /// A system call failed.
        IoError = "io-error",
        /// Another process holds a lock.
        Locked = "locked",
        /// A signal asked for a stop.
        Interrupted = "interrupted",
        /// Wrong usage or configuration.
        Configuration = "configuration",
    }
}
