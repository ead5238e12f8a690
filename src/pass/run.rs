//! The pass: the order of its steps, and its single exit path.
//!
//! Lock, take inventory, make attempts until the goal is reached or the breaker gives up, store,
//! prune, clean up, with the hooks around them. A stop arrives here as an error like any other;
//! [`conclude`] alone decides what remains (scratch data, checkpoint).

use std::time::Instant;

use crate::error::{Cause, Error, Place, Result, remedy};
use crate::os::space::placed;
use crate::pass::attempts::Attempts;
use crate::pass::finished::{Finished, Reached};
use crate::pass::inventory::Inventory;
use crate::pass::on_record::OnRecord;
use crate::pass::open;
use crate::pass::plan::Plan;
use crate::report::checkpoint::{self, Checkpoint, Facts};
use crate::report::keys::{Key, Phase, State};
use crate::report::metrics::Metrics;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::store::Stored;
use crate::scratch::working_directory::{Scratch, Stage};
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, count, short};

/// The outcome of a pass that did not fail.
enum Done {
    /// The newest backup is young enough.
    NothingDue,
    /// A backup is stored.
    Stored { name: String, look: Option<Look> },
}

/// Why somebody should look, although a backup is stored: cause and message, or those of the failure
/// that is already on record.
pub(crate) enum Look {
    OnRecord,
    At(Cause, String),
}

impl Look {
    /// Logs it.
    fn tell(&self) {
        if let Look::At(cause, text) = self {
            log::warn!("{cause}: {text}");
        }
    }
}

/// `rollforward run`: one pass. Returns the exit status.
///
/// # Errors
/// Usage and locks only: these leave the checkpoint alone. Any other failure is recorded in the
/// checkpoint and the log here, and returned as its exit status.
pub fn run(plan: &Plan, supervisor: &mut Supervisor) -> Result<u8> {
    pass(plan, supervisor, "run", |attempts, repo, lock| {
        attempts.bases.check_room()?;
        attempts.check_base()?;
        attempts.take_slot()?;
        plan.hooks.before(attempts.supervisor)?;
        let finished = attempts.reach_goal()?;
        let reached = finished.reached();
        let rotten = attempts.reread_packs(lock)?;
        let stored = store(plan, attempts.supervisor, repo, lock, finished)?;
        let rotten = rotten.or(attempts.after_store(&stored));
        attempts.put_on_record(&stored.name);
        attempts.set_aside_rotten()?;
        let mut look = match reached {
            Reached::Goal => {
                attempts.bases.skipped().map(|what| Look::At(Cause::BackupDamaged, what))
            }
            Reached::Short => Some(Look::OnRecord),
        }
        .or(attempts.bases.in_spite().map(|what| Look::At(Cause::BackupDamaged, what.into())))
        .or(rotten)
        .or(attempts.chain_doubts().inspect(Look::tell))
        .or(attempts.unequal())
        .or_else(|| attention(attempts));
        let unproven = attempts.prove(&stored.name)?;
        // An older backup may be the last one that is right.
        let keeps_all = unproven.is_some() || attempts.unequal().is_some();
        look = look.or(unproven);
        if keeps_all {
            log::warn!("the new backup may not be right, so nothing is pruned");
        } else if attempts.upgrade().is_some() {
            log::info!("this pass upgraded the data, so it prunes nothing");
        } else if reached == Reached::Goal {
            look = attempts.prune(repo, lock)?.or(look);
        }
        Ok(Done::Stored { name: stored.name, look })
    })
}

/// `rollforward seed`: a backup that starts a new chain. Returns and fails as [`run`] does.
pub fn seed(plan: &Plan, supervisor: &mut Supervisor) -> Result<u8> {
    pass(plan, supervisor, "seed", |attempts, repo, lock| {
        plan.hooks.before(attempts.supervisor)?;
        let finished = match &plan.source {
            Some(source) => attempts.adopt(source)?,
            None => attempts.reach_goal()?,
        };
        let look = attempts.chain_doubts().inspect(Look::tell);
        let stored = store(plan, attempts.supervisor, repo, lock, finished)?;
        attempts.put_on_record(&stored.name);
        Ok(Done::Stored {
            name: stored.name,
            look: look.or(attempts.unequal()).or_else(|| attention(attempts)),
        })
    })
}

/// What only may be wrong.
fn attention(attempts: &mut Attempts) -> Option<Look> {
    attempts.attention.take().map(|what| Look::At(Cause::Configuration, what))
}

/// What `run` and `seed` have in common: the locks before `work`, the conclusion after it.
fn pass(
    plan: &Plan,
    supervisor: &mut Supervisor,
    command: &str,
    work: impl FnOnce(&mut Attempts, &Repository, &RepoLock) -> Result<Done>,
) -> Result<u8> {
    plan.check_places()?;
    let repo = open::repository(plan, command == "seed" || plan.first.is_some())?;
    let lock = repo.lock(command)?;
    let user = plan.server.user.as_deref();
    let mut scratch = Scratch::open(&plan.places.scratch, &plan.places.others, user, command)?;
    scratch.put_checkpoint_back(&plan.places.checkpoint).unwrap_or_else(|e| {
        log::warn!("{}: {e}", e.cause());
    });
    let before = checkpoint::read(&plan.places.checkpoint).unwrap_or_else(|why| {
        log::warn!("ignoring the checkpoint {}: {why}", plan.places.checkpoint.display());
        None
    });
    let before = before.unwrap_or_default();
    supervisor.checkpoint = Checkpoint::begin(&plan.places.checkpoint);
    if let Some(path) = &plan.places.metrics {
        supervisor.checkpoint.metrics = Metrics::begin(path, repo.root(), &before);
    }
    let mut around = Around {
        before,
        inventory: Inventory::new(&repo),
        on_record: OnRecord::new(&repo, command),
    };
    let result = Error::contain(|| {
        around.inventory.take(supervisor)?;
        let mut crew = supervisor.crew("sweep", 1);
        let gauge = crew.gauge();
        crew.alone(|| repo.sweep_tmp(&lock, &|| gauge.stopped()))?;
        drop(crew);
        scratch.sweep(supervisor)?;
        scratch.sweep_proof(supervisor)?;
        let new_chain = command == "seed";
        let mut attempts =
            Attempts::new(plan, supervisor, &repo, &mut scratch, &around.before, new_chain)?;
        if !new_chain && attempts.bases.not_due(plan.min_interval) {
            return attempts.end(Ok(Done::NothingDue));
        }
        around.on_record.begin(attempts.supervisor);
        // A panic, too: the private server is shut down after it.
        let worked = Error::contain(|| work(&mut attempts, &repo, &lock));
        attempts.end(worked)
    });
    let known = [
        (scratch.root(), Place::Scratch),
        (plan.places.scratch.as_path(), Place::Scratch),
        (repo.root(), Place::Repository),
    ];
    let result = result.map_err(|e: Error| placed(e, &known));
    Ok(conclude(plan, supervisor, &mut scratch, &mut around, result))
}

/// What is there before and after the work of a pass.
struct Around<'a> {
    /// The checkpoint of the last pass.
    before: Facts,
    inventory: Inventory<'a>,
    on_record: OnRecord<'a>,
}

/// What happens to the scratch data when a pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    /// It stays unchanged: nothing was done, or the next pass resumes it.
    Stays,
    /// It stays, marked as the content of the stored backup.
    Kept,
    /// It is removed.
    Goes,
}

impl Leftover {
    /// Depends on the outcome, its exit status, and `--keep-scratch`.
    fn of(result: &Result<Done>, status: u8, keep: bool) -> Leftover {
        match result {
            Ok(Done::NothingDue) => Leftover::Stays,
            Ok(Done::Stored { .. }) if status == 0 && keep => Leftover::Kept,
            // A wrong option must not cost the data of an interrupted pass.
            Err(_) if matches!(status, 2 | 75 | 128..) => Leftover::Stays,
            _ => Leftover::Goes,
        }
    }
}

fn exit_status(result: &Result<Done>) -> u8 {
    match result {
        Ok(Done::NothingDue) => 0,
        Ok(Done::Stored { look, .. }) => {
            if look.is_some() {
                3
            } else {
                0
            }
        }
        Err(e) => e.exit_status(),
    }
}

/// The single exit path: cleans up the scratch directory, records the outcome in the checkpoint,
/// runs the hooks, and writes the last line of the log.
fn conclude(
    plan: &Plan,
    supervisor: &mut Supervisor,
    scratch: &mut Scratch,
    around: &mut Around,
    result: Result<Done>,
) -> u8 {
    let status = exit_status(&result);
    let left = match (Leftover::of(&result, status, plan.storage.keep_scratch), &result) {
        (Leftover::Kept, Ok(Done::Stored { name, .. })) => {
            let forgotten = scratch.log_keeper(false).forget();
            forgotten.and_then(|()| scratch.set_stage(Stage::Kept, Some(name)))
        }
        (Leftover::Goes, _) => {
            // A stop no longer matters.
            supervisor.begin_ending();
            scratch.discard(supervisor)
        }
        _ => Ok(()),
    };
    if let Err(e) = left {
        log::warn!("scratch directory {}: {e}", scratch.root().display());
    }
    scratch.tidy();
    if supervisor.checkpoint.metrics.wanted() {
        supervisor.begin_ending();
        let _ = around.inventory.take(supervisor);
    }
    record(&mut supervisor.checkpoint, &around.before, &result, status);
    let due = !matches!(result, Ok(Done::NothingDue));
    around.on_record.end(supervisor, status, due);
    if due {
        plan.hooks.after(supervisor, status);
    }
    // After all output of the hooks: monitoring reads the last line.
    match &result {
        Ok(_) if status == 0 => {}
        Ok(_) => {
            let cause = supervisor.checkpoint.get(Key::Cause).unwrap_or_default();
            log::warn!("{cause}: backup stored, but it needs attention; exit status {status}");
        }
        Err(e) => log::error!("{}: {}; exit status {status}", e.cause(), remedy::with(e)),
    }
    status
}

/// Writes the outcome to the checkpoint. One of an earlier pass that needs attention stays there until
/// a pass has done its work: that nothing was due is no reason to forget it.
fn record(checkpoint: &mut Checkpoint, before: &Facts, result: &Result<Done>, status: u8) {
    let unsolved = before.get("exit_status").filter(|status| *status != "0");
    let state = match result {
        Ok(Done::NothingDue) if unsolved.is_some() => {
            let status = unsolved.map_or("", String::as_str);
            log::info!("the outcome of the last pass stays on record: status {status}");
            return checkpoint.leave_as(before);
        }
        Ok(Done::NothingDue | Done::Stored { look: None, .. }) => {
            checkpoint.clear(Key::Cause);
            checkpoint.clear(Key::Message);
            State::Done
        }
        Ok(Done::Stored { look: Some(look), .. }) => {
            if let Look::At(cause, message) = look {
                checkpoint.set(Key::Cause, cause);
                checkpoint.set(Key::Message, message);
            }
            State::Done
        }
        Err(e) => {
            checkpoint.set(Key::Cause, e.cause());
            checkpoint.set(Key::Message, remedy::with(e));
            let stopped = matches!(e, Error::Interrupted { .. });
            if stopped { State::Stopped } else { State::Failed }
        }
    };
    checkpoint.end(state, status);
}

fn store(
    plan: &Plan,
    supervisor: &mut Supervisor,
    repo: &Repository,
    lock: &RepoLock,
    finished: Finished,
) -> Result<Stored> {
    let began = Instant::now();
    supervisor.checkpoint.phase(Phase::Backup);
    let position = finished.position().to_string();
    let mut crew = supervisor.crew("store", plan.storage.jobs);
    let stored = finished.store(repo, lock, plan.storage.level, &mut crew)?;
    drop(crew);
    supervisor.checkpoint.set(Key::NewBackup, &stored.name);
    let metrics = &mut supervisor.checkpoint.metrics;
    (metrics.read, metrics.new) = (stored.size, stored.stored);
    log::info!(
        "stored {} at {position}: {}, {}, {} new, in {}",
        stored.name,
        count(stored.files, "file"),
        bytes(stored.size),
        bytes(stored.stored),
        short(began.elapsed())
    );
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_data_stays_where_a_later_pass_can_use_it() {
        let stored = |status| {
            let look = (status == 3).then_some(Look::OnRecord);
            Ok(Done::Stored { name: String::new(), look })
        };
        let failed = |e: Error| -> Result<Done> { Err(e) };
        let locked = Error::Locked { path: "/".into(), holder: String::new() };
        let no_backup = Error::NoBackup { what: String::new() };
        for (result, keep, status, leftover) in [
            (Ok(Done::NothingDue), false, 0, Leftover::Stays),
            (stored(0), true, 0, Leftover::Kept),
            (stored(0), false, 0, Leftover::Goes),
            (stored(3), true, 3, Leftover::Goes),
            (failed(Error::config("x")), true, 2, Leftover::Stays),
            (failed(locked), false, 75, Leftover::Stays),
            (failed(Error::Interrupted { signal: 15 }), false, 143, Leftover::Stays),
            (failed(no_backup), true, 1, Leftover::Goes),
        ] {
            assert_eq!(exit_status(&result), status);
            assert_eq!(Leftover::of(&result, status, keep), leftover, "status {status}");
        }
    }

    #[test]
    fn the_cause_on_record_is_that_of_the_outcome() {
        let before = Facts::from(
            [("exit_status", "3"), ("cause", "unequal")]
                .map(|(k, v)| (k.to_string(), v.to_string())),
        );
        let clean = Facts::from([("exit_status".to_string(), "0".to_string())]);
        let stored = |look| Ok(Done::Stored { name: String::new(), look });
        let damaged = || Some(Look::At(Cause::BackupDamaged, "skipped".into()));
        for (before, result, status, cause, recorded) in [
            // A failure that was overcome is not what needs attention.
            (&clean, stored(damaged()), 3, Some("backup-damaged"), "3"),
            (&clean, stored(Some(Look::OnRecord)), 3, Some("stalled"), "3"),
            (&before, stored(None), 0, None, "0"),
            (&before, Ok(Done::NothingDue), 0, Some("unequal"), "3"),
            (&clean, Ok(Done::NothingDue), 0, None, "0"),
        ] {
            let mut checkpoint = Checkpoint::none();
            checkpoint.set(Key::Cause, "stalled");
            record(&mut checkpoint, before, &result, status);
            assert_eq!(checkpoint.get(Key::Cause), cause);
            assert_eq!(checkpoint.get(Key::ExitStatus), Some(recorded));
        }
    }
}
