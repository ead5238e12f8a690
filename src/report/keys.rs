//! The words of the checkpoint: its keys, and the values that some of them take.

use std::collections::BTreeMap;

use crate::os::clock::Timestamp;
use crate::text::words;

/// What a checkpoint says: its keys and values.
pub type Facts = BTreeMap<String, String>;

words! {
    /// Whether a pass runs, or how it ended.
    State {
        /// Running, or killed.
        Running = "running",
        /// It waits until others of its slots have ended, or was killed then.
        Waiting = "waiting",
        /// A backup was stored, or none was due.
        Done = "done",
        /// The pass failed.
        Failed = "failed",
        /// A signal stopped the pass.
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
        /// Receiving all the time, for `follow`.
        Follow = "follow",
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
        /// What went wrong and what to do, in plain words.
        Message = "message",
        /// The executed position: set through [`Progress`](crate::report::progress::Progress) only.
        Position = "position",
        /// The position to reach.
        Goal = "goal",
        /// The candidate that the pass replicates from.
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
        /// When something last moved.
        Progressed = "progressed",
    }
}

/// The keys whose values are numbers.
pub const NUMBERS: [Key; 6] =
    [Key::Failures, Key::ExitStatus, Key::Pid, Key::MysqldPid, Key::BytesDone, Key::BytesTotal];
/// Those whose values are times.
const TIMES: [Key; 3] = [Key::Started, Key::Updated, Key::Progressed];

/// Checks that this is what a pass has written, as far as a pass can be judged by it.
///
/// # Errors
/// What is missing or wrong.
pub fn check(facts: &Facts) -> Result<(), String> {
    // So it is when a proof comes before all passes.
    if facts.is_empty() {
        return Ok(());
    }
    let get = |key: Key| facts.get(key.name());
    let state = get(Key::State).ok_or("it has no state")?;
    let state = State::from_name(state).ok_or_else(|| format!("its state '{state}' is none"))?;
    let needed = match state {
        State::Running | State::Waiting => &[Key::Pid, Key::Updated, Key::Progressed][..],
        State::Done | State::Failed | State::Stopped => &[Key::ExitStatus, Key::Updated],
    };
    if let Some(key) = needed.iter().find(|key| get(**key).is_none()) {
        return Err(format!("its state is {state}, and it has no {key}"));
    }
    // As a program reads it: without sign and leading zeros.
    let is_number = |text: &String| text.parse::<u64>().is_ok_and(|n| n.to_string() == *text);
    let is_time = |text: &String| Timestamp::parse(text).is_some();
    let wrong = |keys: &[Key], fits: &dyn Fn(&String) -> bool| {
        keys.iter().find_map(|key| Some((*key, get(*key).filter(|text| !fits(text))?)))
    };
    match (wrong(&NUMBERS, &is_number), wrong(&TIMES, &is_time)) {
        (Some((key, text)), _) => Err(format!("its {key} '{text}' is no number")),
        (_, Some((key, text))) => Err(format!("its {key} '{text}' is no time")),
        _ => Ok(()),
    }
}
