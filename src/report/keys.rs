//! The words of the checkpoint: its keys, and those that some of them take.

use crate::text::words;

words! {
    /// How far a pass is with its life.
    State {
        /// It runs, or was killed.
        Running = "running",
        /// It ended and stored a backup, or none was due.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// A signal stopped it.
        Stopped = "stopped",
    }
}

words! {
    /// What a pass is doing.
    Phase {
        /// Restoring the base.
        Restore = "restore",
        /// Taking a first backup.
        Seed = "seed",
        /// Starting the private mysqld.
        Start = "start",
        /// Replicating.
        CatchUp = "catch-up",
        /// Stopping replication and mysqld.
        Stop = "stop",
        /// Storing the new backup.
        Backup = "backup",
        /// Removing old backups.
        Prune = "prune",
    }
}

words! {
    /// The keys of a checkpoint after `format`, in their order.
    Key {
        /// A [`State`].
        State = "state",
        /// A [`Phase`].
        Phase = "phase",
        /// A `Cause`.
        Cause = "cause",
        /// What went wrong and what to do, for people.
        Message = "message",
        /// The executed position: set through [`Progress`](crate::report::progress::Progress) only.
        Position = "position",
        /// Where the pass is to get to.
        Goal = "goal",
        /// The candidate that is followed.
        Primary = "primary",
        /// The backup that was restored.
        BaseBackup = "base_backup",
        /// The backup that was stored.
        NewBackup = "new_backup",
        /// Consecutive failures without progress.
        Failures = "failures",
        /// The status that the pass exited with.
        ExitStatus = "exit_status",
        /// The process of the pass.
        Pid = "pid",
        /// The process of the private mysqld.
        MysqldPid = "mysqld_pid",
        /// The socket of the private mysqld.
        Socket = "socket",
        /// Bytes of the step done so far.
        BytesDone = "bytes_done",
        /// Bytes of the step in all.
        BytesTotal = "bytes_total",
        /// When the pass began.
        Started = "started",
        /// When this was written.
        Updated = "updated",
        /// When something moved last.
        Progressed = "progressed",
    }
}
