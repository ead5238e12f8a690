//! `prune`, `pin` and `unpin`: what is kept, carried out and shown.

use std::path::Path;
use std::time::Duration;

use crate::cli::output::columns;
use crate::cli::print::print;
use crate::error::{Error, Result};
use crate::os::workers::Crew;
use crate::repository::directory::Repository;
use crate::repository::pins::Pin;
use crate::repository::proofs::HELD;
use crate::repository::prune::{self, Judged, Pruned};
use crate::repository::retention::Policy;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, harmless};

/// `prune`, with a table of what becomes of all backups if it is a dry run and not `quiet`. Returns the
/// exit status.
///
/// # Errors
/// The lock; when something cannot be read or removed; a manifest that cannot be read, or a clock that
/// cannot be believed.
pub fn prune(repo: &Path, policy: Policy, dry_run: bool, quiet: bool) -> Result<u8> {
    let repo = Repository::open(repo)?;
    let crew = &mut Crew::unwatched(1);
    let pruned = if dry_run {
        prune::foretell(&repo, policy, crew)?
    } else {
        let lock = repo.lock("prune")?;
        repo.sweep_tmp(&lock, &|| false)?;
        prune::prune(&repo, &lock, policy, crew)?
    };
    let status = if dry_run && !quiet { print(&table(&pruned)) } else { 0 };
    if let Some(doubt) = pruned.doubt {
        return Err(Error::config(doubt));
    }
    prune::report(&pruned, dry_run);
    match pruned.unreadable.first() {
        Some(name) => Err(Error::BackupDamaged {
            backup: name.clone(),
            what: "its manifest cannot be read, so no pack was removed".into(),
        }),
        None => Ok(status),
    }
}

/// A line for each backup: what becomes of it, and why.
fn table(pruned: &Pruned) -> String {
    let mut rows = vec![["NAME", "DATA AS OF", "ALONE", "WHAT", "WHY"].map(String::from)];
    for backup in &pruned.fates {
        let alone = backup.alone.map_or("-".into(), bytes);
        let (what, why) = outcome(pruned, backup);
        let time = backup.data_as_of.rfc3339();
        rows.push([backup.name.clone(), time, alone, what.into(), why]);
    }
    columns(&rows)
}

fn outcome(pruned: &Pruned, backup: &Judged) -> (&'static str, String) {
    let fate = &backup.fate;
    if !fate.expires() {
        return ("keep", fate.kept_by.join(","));
    }
    let why = if fate.too_old { "older than drop-after" } else { "nothing keeps it" };
    if pruned.doubt.is_some() {
        return ("keep", format!("{why}, if the clock is right"));
    }
    if pruned.in_use.contains(&backup.name) {
        return ("keep", format!("{why}, but it is in use"));
    }
    ("remove", why.into())
}

/// `pin` a backup, or `unpin` it where there is no pin to give it. Returns the exit status.
///
/// # Errors
/// When there is no such backup, or it cannot be written down.
pub fn pin(repo: &Path, backup: &str, pin: Option<&Pin>) -> Result<u8> {
    let repo = Repository::open(repo)?;
    let mut supervisor = Supervisor::new(Duration::from_secs(1))?;
    match pin {
        Some(pin) => {
            supervisor.unlocked(HELD, || repo.pin(backup, pin))?;
            log::info!("{backup} is {}", harmless(&pin.text()));
        }
        None if supervisor.unlocked(HELD, || repo.unpin(backup))? => {
            log::info!("{backup} is no longer pinned");
        }
        None => log::info!("{backup} was not pinned"),
    }
    Ok(0)
}
