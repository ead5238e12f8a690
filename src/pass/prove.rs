//! `prove`, from the lock to the outcome.
//!
//! While it runs, the checkpoint says where it is. That of the last pass is kept aside meanwhile, and
//! counts again once all went well: what that pass left may be waiting to be resumed.

use crate::error::{Error, Place, Result, remedy};
use crate::journal::cut::Moment;
use crate::os::space::placed;
use crate::pass::inventory::Inventory;
use crate::pass::open;
use crate::pass::plan::Plan;
use crate::pass::proving::Prover;
use crate::pass::throwaway::Which;
use crate::report::checkpoint::{Checkpoint, Facts};
use crate::report::keys::{Key, State};
use crate::report::metrics::Metrics;
use crate::repository::journals::Stores;
use crate::scratch::opened;
use crate::scratch::working_directory::Scratch;
use crate::supervisor::main_loop::Supervisor;

/// A backup that exists, or a moment that may.
enum Wanted<'a> {
    Backup(String),
    Moment(&'a Moment),
}

/// `rollforward prove`: proves a backup, or a moment. Returns the exit status.
///
/// # Errors
/// Usage and locks, and a backup that does not exist: these leave the checkpoint alone. Any other
/// failure is recorded in the checkpoint and the log here, and returned as its exit status.
pub fn prove(plan: &Plan, which: &Which, supervisor: &mut Supervisor) -> Result<u8> {
    let places = &plan.places;
    let user = plan.server.user.as_deref();
    plan.check_places()?;
    let stores = Stores::new(open::repository(plan, false)?)?;
    let repo = &stores.backups;
    let wanted = match which {
        Which::Backup(name) => Wanted::Backup(repo.find(name.as_deref())?),
        Which::At(moment) => Wanted::Moment(moment),
    };
    let scratch = Scratch::open(&places.scratch, &places.others, user, "prove")?;
    let before = scratch.set_checkpoint_aside(&places.checkpoint)?;
    supervisor.checkpoint = Checkpoint::begin(&places.checkpoint);
    if let Some(path) = &places.metrics {
        supervisor.checkpoint.metrics = Metrics::begin(path, repo.root(), &before);
    }
    let mut inventory = Inventory::new(repo);
    // What is found damaged here is stored again by the next pass.
    repo.set_damage_aside();
    let result = Error::contain(|| {
        inventory.take(supervisor)?;
        opened::sweep(scratch.root(), scratch.user(), supervisor)?;
        let mut prover = Prover { plan, repo, supervisor, scratch: &scratch };
        match &wanted {
            Wanted::Backup(name) => prover.prove(name),
            Wanted::Moment(moment) => prover.prove_moment(&stores, moment),
        }
    });
    let known = [(scratch.root(), Place::Scratch), (repo.root(), Place::Repository)];
    let result = result.map_err(|e| placed(e, &known));
    scratch.tidy();
    if supervisor.checkpoint.metrics.wanted() {
        supervisor.begin_ending();
        let _ = inventory.take(supervisor);
    }
    Ok(conclude(supervisor, &scratch, &before, &result))
}

/// Records the outcome. Where all went well, that of the last pass counts again, whose data may be
/// waiting to be resumed.
fn conclude(
    supervisor: &mut Supervisor,
    scratch: &Scratch,
    before: &Facts,
    result: &Result<()>,
) -> u8 {
    let checkpoint = &mut supervisor.checkpoint;
    let error = match result {
        Ok(()) => {
            if before.is_empty() {
                checkpoint.clear(Key::Cause);
                checkpoint.clear(Key::Message);
                checkpoint.end(State::Done, 0);
            } else {
                checkpoint.leave_as(before);
            }
            if let Err(e) = scratch.forget_checkpoint_aside() {
                log::warn!("{}: {e}", e.cause());
            }
            return 0;
        }
        Err(error) => error,
    };
    let status = error.exit_status();
    checkpoint.set(Key::Cause, error.cause());
    checkpoint.set(Key::Message, remedy::with(error));
    let stopped = matches!(error, Error::Interrupted { .. });
    checkpoint.end(if stopped { State::Stopped } else { State::Failed }, status);
    log::error!("{}: {}; exit status {status}", error.cause(), remedy::with(error));
    status
}
