//! The pass: the order of its steps, and the one way out whatever happens.
//!
//! Lock, look at what is there, attempts until the goal is reached or the breaker gives up,
//! store, prune, clean up, with the user's hooks around it. A stop travels up to [`run`] as an
//! error like any other; what an end leaves behind (scratch data, checkpoint) is decided in
//! [`conclude`] alone.

use std::time::Instant;

use crate::error::remedy;
use crate::error::{Error, Place, Result};
use crate::os::space::placed;
use crate::pass::attempts::{Attempts, Reached};
use crate::pass::inventory::Inventory;
use crate::pass::plan::{Plan, check_apart};
use crate::report::checkpoint::{self, Checkpoint};
use crate::report::metrics::Metrics;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::pending::Header;
use crate::repository::prune;
use crate::repository::retention::Policy;
use crate::repository::store::{self, Stored};
use crate::scratch::foreign;
use crate::scratch::working_directory::{Scratch, Stage};
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, short};

/// How a pass ended that did not fail.
enum Done {
    /// The newest backup is young enough.
    NothingDue,
    /// A backup is stored; 3 if somebody should look.
    Stored { name: String, status: u8 },
}

/// `rollforward run`: one pass. The answer is the exit status.
///
/// # Errors
/// Usage and locks only: these leave the checkpoint alone. Any other failure is written to the
/// checkpoint and the log here, and comes back as its exit status.
pub fn run(plan: &Plan, supervisor: &mut Supervisor) -> Result<u8> {
    pass(plan, supervisor, "run", |attempts, repo, lock| {
        if attempts.bases.not_due(plan.min_interval) {
            return Ok(Done::NothingDue);
        }
        attempts.bases.check_room()?;
        attempts.check_base()?;
        plan.hooks.before(attempts.supervisor())?;
        let reached = attempts.reach_goal()?;
        let stored = store(plan, attempts, repo, lock)?;
        let looked_over = attempts.bases.any_passed_over();
        if attempts.upgrade().is_some() {
            log::info!("nothing is pruned by the pass that upgraded");
        } else if reached == Reached::Goal {
            prune_old(attempts.supervisor(), repo, lock, plan.policy)?;
        }
        let status = if reached == Reached::Goal && !looked_over { 0 } else { 3 };
        Ok(Done::Stored { name: stored.name, status })
    })
}

/// `rollforward seed`: a backup that starts a new chain. The answer is the exit
/// status.
///
/// # Errors
/// As [`run`].
pub fn seed(plan: &Plan, supervisor: &mut Supervisor) -> Result<u8> {
    pass(plan, supervisor, "seed", |attempts, repo, lock| {
        plan.hooks.before(attempts.supervisor())?;
        match &plan.source {
            Some(source) => attempts.adopt(source)?,
            None => attempts.reach_goal().map(drop)?,
        }
        let stored = store(plan, attempts, repo, lock)?;
        Ok(Done::Stored { name: stored.name, status: 0 })
    })
}

/// What `run` and `seed` have in common: the locks before, the conclusion after.
fn pass(
    plan: &Plan,
    supervisor: &mut Supervisor,
    command: &str,
    work: impl FnOnce(&mut Attempts, &Repository, &RepoLock) -> Result<Done>,
) -> Result<u8> {
    check_apart(&plan.repo, &plan.scratch)?;
    if let Some(source) = &plan.source {
        check_apart(source.path(), &plan.scratch)?;
        check_apart(source.path(), &plan.repo)?;
    }
    foreign::check(&plan.scratch, &plan.others)?;
    let repo = Repository::open_or_create(&plan.repo)?;
    let lock = repo.lock(command)?;
    let user = plan.mysqld_user.as_deref();
    let mut scratch = Scratch::open(&plan.scratch, &plan.others, user, command)?;
    let before = match checkpoint::read(&plan.checkpoint) {
        Ok(facts) => facts,
        Err(why) => {
            log::warn!("the checkpoint {} is not used: {why}", plan.checkpoint.display());
            None
        }
    };
    supervisor.checkpoint = Checkpoint::begin(&plan.checkpoint);
    if let Some(path) = &plan.metrics {
        supervisor.checkpoint.metrics = Metrics::begin(path, repo.root(), before.as_ref());
    }
    let mut inventory = Inventory::new(&repo);
    let result = (|| {
        inventory.take(supervisor)?;
        repo.sweep_tmp(&lock)?;
        scratch.sweep(supervisor)?;
        let fresh = command == "seed";
        let mut attempts = Attempts::new(
            plan,
            supervisor,
            &repo,
            &mut scratch,
            before.unwrap_or_default(),
            fresh,
        )?;
        let worked = work(&mut attempts, &repo, &lock);
        attempts.leave(worked)
    })();
    let known = [
        (scratch.root(), Place::Scratch),
        (plan.scratch.as_path(), Place::Scratch),
        (repo.root(), Place::Repository),
    ];
    let result = result.map_err(|e: Error| placed(e, &known));
    Ok(conclude(plan, supervisor, &mut scratch, &mut inventory, result))
}

/// The one way out: what stays in the scratch directory, the checkpoint's last word, the log's
/// last line.
fn conclude(
    plan: &Plan,
    supervisor: &mut Supervisor,
    scratch: &mut Scratch,
    inventory: &mut Inventory,
    result: Result<Done>,
) -> u8 {
    let status = match &result {
        Ok(Done::NothingDue) => 0,
        Ok(Done::Stored { status, .. }) => *status,
        Err(e) => e.exit_status(),
    };
    let kept = match &result {
        Ok(Done::NothingDue) => Ok(()),
        Ok(Done::Stored { name, .. }) if status == 0 && plan.keep_scratch => {
            scratch.set_stage(Stage::Kept, Some(name))
        }
        // Nothing is lost by a wrong option either.
        Err(_) if matches!(status, 2 | 75 | 128..) => Ok(()),
        _ => {
            // It is on its way out already: a stop has nothing to add.
            supervisor.begin_stopping();
            scratch.discard(supervisor)
        }
    };
    if let Err(e) = kept {
        log::warn!("scratch directory {}: {e}", scratch.root().display());
    }
    scratch.tidy();
    if supervisor.checkpoint.metrics.wanted() {
        // It is on its way out, whatever comes now.
        supervisor.begin_stopping();
        let _ = inventory.take(supervisor);
    }
    let checkpoint = &mut supervisor.checkpoint;
    match &result {
        Ok(_) if status == 0 => {
            checkpoint.clear("cause");
            checkpoint.clear("message");
            checkpoint.end("done", status);
        }
        Ok(_) => {
            if checkpoint.get("cause").is_none() {
                checkpoint.set("cause", "backup-damaged");
            }
            checkpoint.end("done", status);
        }
        Err(e) => {
            checkpoint.set("cause", e.cause());
            checkpoint.set("message", remedy::with(e));
            let stopped = matches!(e, Error::Interrupted { .. });
            checkpoint.end(if stopped { "stopped" } else { "failed" }, status);
        }
    }
    if !matches!(result, Ok(Done::NothingDue)) {
        plan.hooks.after(supervisor, status);
    }
    // After all that a hook says: the last line is the one that is looked for.
    match &result {
        Ok(_) if status == 0 => {}
        Ok(_) => {
            let cause = supervisor.checkpoint.get("cause").unwrap_or_default();
            log::warn!("{cause}: a backup is stored, but look; exit status {status}");
        }
        Err(e) => log::error!("{}: {}; exit status {status}", e.cause(), remedy::with(e)),
    }
    status
}

/// Stores the data, which must be shut down, as a new backup.
fn store(
    plan: &Plan,
    attempts: &mut Attempts,
    repo: &Repository,
    lock: &RepoLock,
) -> Result<Stored> {
    let began = Instant::now();
    let header: Header = attempts.header()?;
    let position = header.position.clone();
    let data = attempts.data();
    let supervisor = attempts.supervisor();
    supervisor.checkpoint.phase("backup");
    let mut crew = supervisor.crew("store", plan.jobs);
    let stored = store::store(repo, lock, &data, header, plan.level, &mut crew)?;
    drop(crew);
    supervisor.checkpoint.set("new_backup", &stored.name);
    let metrics = &mut supervisor.checkpoint.metrics;
    (metrics.read, metrics.new) = (stored.size, stored.stored);
    log::info!(
        "stored {} at {position}: {} files, {}, {} new, in {}",
        stored.name,
        stored.files,
        bytes(stored.size),
        bytes(stored.stored),
        short(began.elapsed())
    );
    Ok(stored)
}

fn prune_old(
    supervisor: &mut Supervisor,
    repo: &Repository,
    lock: &RepoLock,
    policy: Policy,
) -> Result<()> {
    supervisor.checkpoint.phase("prune");
    supervisor.check_stop()?;
    let pruned = prune::prune(repo, lock, policy, false, &mut supervisor.crew("prune", 1))?;
    prune::report(&pruned, false);
    Ok(())
}
