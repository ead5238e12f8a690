//! A pass on record in the repository: begun, and how it ended, for `report`.
//!
//! The record is written when the work begins and replaced at the end, so a pass that was killed is
//! one without an end. A failure to write it is a warning: the pass itself matters more.

use crate::os::clock::Timestamp;
use crate::os::stamp::{boot_id, uptime};
use crate::report::keys::Key;
use crate::repository::directory::Repository;
use crate::repository::proofs::{HELD, PASS, Record};
use crate::supervisor::main_loop::{Stop, Supervisor};

/// Seconds for which passes stay on record.
const KEPT: i64 = 400 * 86_400;

/// The record of a pass under way.
pub(crate) struct OnRecord<'a> {
    repo: &'a Repository,
    record: Record,
}

impl<'a> OnRecord<'a> {
    /// That of a pass of `command`, not written yet.
    pub(crate) fn new(repo: &'a Repository, command: &str) -> OnRecord<'a> {
        let record = Record::new(PASS, Timestamp::now());
        let mut record = record.with("command", command).with("pid", std::process::id());
        // How long ago it was can be told even if the clock is set.
        if let Some(uptime) = uptime() {
            record = record.with("boot", boot_id()).with("uptime", uptime);
        }
        OnRecord { repo, record }
    }

    /// The work begins.
    pub(crate) fn begin(&self, supervisor: &mut Supervisor) {
        self.put(supervisor, &self.record);
    }

    /// The pass ends with `status`, as the checkpoint says in full. `due`: there was work to do.
    pub(crate) fn end(&self, supervisor: &mut Supervisor, status: u8, due: bool) {
        if matches!(supervisor.stop(), Stop::Asked(_)) {
            // It is on record by now, and must not cut this short.
            supervisor.begin_ending();
        }
        let checkpoint = &supervisor.checkpoint;
        let mut record = self.record.clone();
        record = record.with("end", Timestamp::now().rfc3339()).with("status", status);
        if !due {
            return self.put(supervisor, &record.with("due", "no"));
        }
        if status != 0 {
            let message = checkpoint.get(Key::Message).unwrap_or_default().trim_matches('\'');
            let cause = checkpoint.get(Key::Cause).unwrap_or_default();
            record = record.with("cause", cause).with("what", message);
        }
        for (key, fact) in [("base", Key::BaseBackup), ("backup", Key::NewBackup)] {
            if let Some(value) = checkpoint.get(fact) {
                record = record.with(key, value);
            }
        }
        self.put(supervisor, &record);
    }

    fn put(&self, supervisor: &mut Supervisor, record: &Record) {
        let same = |old: &Record| {
            ["time", "pid", "command"].into_iter().all(|key| old.get(key) == record.get(key))
        };
        let since = Timestamp(Timestamp::now().0 - KEPT);
        let put = supervisor.unlocked(HELD, || self.repo.put_pass_on_record(record, same, since));
        if let Err(e) = put {
            log::warn!("{}: the pass is not on record in full: {e}", e.cause());
        }
    }
}
