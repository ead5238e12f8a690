//! Removes backups, and packs that no backup names.
//!
//! A manifest is durably gone before any of its packs. A pack is removed only when every remaining
//! manifest was read in full and does not name it. A manifest that cannot be read might name any
//! pack, so it stops the sweep. A backup that is being read stays. [`super::retention`] decides
//! which backups expire, and whether the clock may be believed; if not, nothing goes.

mod plan;

use std::collections::HashMap;
use std::fs::{self, TryLockError};
use std::io;
use std::path::Path;

use plan::{Unreferenced, plan};

use crate::error::{Cause, Error, IoExt, Result};
use crate::os::clock::Timestamp;
use crate::os::stamp::{boot_id, uptime};
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::manifest::{Hash, Summary};
use crate::repository::packs::write::sync_dir;
use crate::repository::proofs::PASS;
use crate::repository::retention::{Candidate, Evidence, Fate, Policy, judge};
use crate::text::{bytes, count};

/// What a prune did or, in a dry run, would do.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Backups removed.
    pub removed: Vec<String>,
    /// Expired backups that are in use.
    pub in_use: Vec<String>,
    /// Number of packs removed.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// In a dry run, how many of these packs no backup names already. A pass that is at work may be about
    /// to.
    pub strays: usize,
    /// Backups with an unreadable manifest. While they exist, no pack is removed.
    pub unreadable: Vec<String>,
    /// Why the clock cannot be believed, so that nothing was removed.
    pub doubt: Option<String>,
    /// All backups with a readable manifest as they were, oldest first.
    pub fates: Vec<Judged>,
}

/// A backup with what the policy says of it.
#[derive(Debug)]
pub struct Judged {
    /// It.
    pub name: String,
    /// When its data matched the primary.
    pub data_as_of: Timestamp,
    /// What becomes of it.
    pub fate: Fate,
    /// Bytes of the packs that only it names: so much goes with it, if all others stay. `None` while a
    /// manifest that cannot be read may name them, too.
    pub alone: Option<u64>,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Number of packs removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The manifests that kept it from removing anything.
    pub stopped_by: Vec<String>,
}

/// The result of removing a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is durably gone.
    Removed,
    /// A reader holds it.
    InUse,
    /// Somebody has pinned it meanwhile.
    Pinned,
}

/// Applies the policy. If the watch gives up, it stops between two steps, and the next prune does the
/// rest.
///
/// # Errors
/// Those of reading or removing; the watch's own.
pub fn prune(
    repo: &Repository,
    _lock: &RepoLock,
    policy: Policy,
    crew: &mut Crew<'_>,
) -> Result<Pruned> {
    let gauge = crew.gauge();
    // Removing thousands of packs may take minutes.
    crew.alone(|| apply(repo, policy, false, &gauge))
}

/// What [`prune`] would do. Only reads, and needs no lock: a pass may be at work.
///
/// # Errors
/// Those of reading; the watch's own.
pub fn foretell(repo: &Repository, policy: Policy, crew: &mut Crew<'_>) -> Result<Pruned> {
    let gauge = crew.gauge();
    crew.alone(|| apply(repo, policy, true, &gauge))
}

fn apply(repo: &Repository, policy: Policy, dry_run: bool, gauge: &Gauge) -> Result<Pruned> {
    let now = Timestamp::now();
    let mut out = Pruned::default();
    let (mut candidates, mut shares) = (Vec::new(), Shares::default());
    let mut newest: Option<Summary> = None;
    for name in repo.names()? {
        if gauge.stopped() {
            return Ok(out);
        }
        match repo.summary(&name) {
            Ok(summary) => {
                let candidate = candidate(repo, name, &summary);
                shares.add(&summary);
                if candidate.complete {
                    newest = Some(summary);
                }
                candidates.push(candidate);
            }
            Err(Error::BackupDamaged { .. }) => shares.unknown = true,
            // A dry run has no lock, so a pass may have removed it.
            Err(Error::NoBackup { .. }) if dry_run => {}
            Err(e) => return Err(e),
        }
    }
    let fates = judge(&policy, now, &candidates);
    let judged = candidates.iter().zip(fates).zip(shares.alone());
    out.fates = judged
        .map(|((backup, fate), alone)| Judged {
            name: backup.name.clone(),
            data_as_of: backup.data_as_of,
            fate,
            alone,
        })
        .collect();
    out.doubt = evidence(repo, newest.as_ref(), now).doubt(&policy, now, &candidates);
    if out.doubt.is_some() {
        return Ok(out);
    }
    for backup in out.fates.iter().filter(|backup| backup.fate.expires()) {
        if gauge.stopped() {
            return Ok(out);
        }
        let name = backup.name.clone();
        // One that is too old goes, pinned or not.
        let mind_pins = (!backup.fate.too_old).then_some(now);
        let removal = if dry_run { foretold } else { remove_unless };
        match removal(repo, &name, mind_pins)? {
            Removal::Removed => out.removed.push(name),
            Removal::InUse => out.in_use.push(name),
            Removal::Pinned => {}
        }
    }
    if !dry_run {
        let names = repo.names()?;
        repo.forget_records_but(&names)?;
        repo.sweep_pins(&names, now)?;
        forget_received(repo)?;
    }
    let plan = plan(repo, &out.removed, dry_run, gauge)?;
    if dry_run {
        let is_stray = |pack: &&Unreferenced| !shares.named.contains_key(&pack.hash);
        out.strays = plan.packs.iter().filter(is_stray).count();
    }
    out.unreadable = plan.unreadable;
    gauge.set_total(plan.packs.iter().map(|pack| pack.size).sum());
    for Unreferenced { path, size, .. } in plan.packs {
        if gauge.stopped() {
            return Ok(out);
        }
        if !dry_run {
            unlink(&path)?;
        }
        gauge.add(size);
        out.packs += 1;
        out.bytes += size;
    }
    Ok(out)
}

/// What retention has to know of the backup `name`.
pub fn candidate(repo: &Repository, name: String, summary: &Summary) -> Candidate {
    Candidate {
        complete: repo.state(&summary.packs).is_none(),
        data_as_of: summary.header.data_as_of,
        open_tables: summary.header.open_tables > 0,
        base: summary.header.base.clone(),
        pinned_until: repo.pin_of(&name).map(|pin| pin.end()),
        name,
    }
}

/// What the repository tells of the time. The record of a pass that runs in this process, and those of
/// the future, tell nothing.
fn evidence(repo: &Repository, newest: Option<&Summary>, now: Timestamp) -> Evidence {
    let tomorrow = Timestamp(now.0 + 86_400);
    let own = std::process::id().to_string();
    let passes = repo.passes().into_iter().rev();
    let mut passes = passes.filter(|p| p.kind() == PASS && p.get("pid") != Some(&own));
    let last_pass = passes.find_map(|pass| {
        let then = pass.time().filter(|time| *time <= tomorrow)?;
        let up = pass.get("uptime").and_then(|text| text.parse::<i64>().ok());
        let is_same_boot = pass.get("boot").is_some_and(|boot| boot == boot_id());
        let ago =
            up.filter(|_| is_same_boot).zip(uptime()).map(|(then, now)| now.saturating_sub(then));
        Some((then, ago.filter(|ago| *ago >= 0)))
    });
    let primary = newest.and_then(|n| Some((n.as_of?.seconds(), n.header.data_as_of)));
    Evidence { primary, last_pass }
}

/// Which packs only one backup names.
#[derive(Default)]
struct Shares {
    /// Of each pack, how many backups name it.
    named: HashMap<Hash, u32>,
    /// The packs of each backup with their sizes.
    packs: Vec<Vec<(Hash, u64)>>,
    /// There is a manifest that cannot be read.
    unknown: bool,
}

impl Shares {
    fn add(&mut self, summary: &Summary) {
        let packs: Vec<_> = summary.packs.iter().map(|pack| (pack.hash, pack.size)).collect();
        packs.iter().for_each(|(hash, _)| *self.named.entry(*hash).or_default() += 1);
        self.packs.push(packs);
    }

    /// Of each backup, the bytes of the packs that only it names.
    fn alone(&self) -> impl Iterator<Item = Option<u64>> {
        let is_own = |(hash, _): &&(Hash, u64)| self.named.get(hash) == Some(&1);
        self.packs.iter().map(move |packs| {
            (!self.unknown).then(|| packs.iter().filter(is_own).map(|(_, size)| size).sum())
        })
    }
}

impl Repository {
    /// Removes the backup `name`, unless it is being read or pinned. Its packs stay until a sweep.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(&self, _lock: &RepoLock, name: &str) -> Result<Removal> {
        remove_unless(self, name, Some(Timestamp::now()))
    }

    /// Removes the packs that no backup names.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn sweep_packs(&self, _lock: &RepoLock) -> Result<Sweep> {
        let plan = plan(self, &[], false, &Gauge::new(None))?;
        let mut out = Sweep { stopped_by: plan.unreadable, ..Sweep::default() };
        for Unreferenced { path, size, .. } in plan.packs {
            unlink(&path)?;
            out.removed += 1;
            out.bytes += size;
        }
        Ok(out)
    }
}

/// Removes what a follower has received and backups hold as well. One that runs does so itself.
fn forget_received(repo: &Repository) -> Result<()> {
    let Some(journals) = repo.journals()? else { return Ok(()) };
    let lock = match journals.lock("prune") {
        Err(Error::Locked { .. }) => return Ok(()),
        lock => lock?,
    };
    let mut parts = journals.parts()?;
    journals.remove_redundant(&lock, &mut parts, repo)
}

/// Removes a backup that nobody reads. `mind_pins`: nor pins it at that time.
fn remove_unless(repo: &Repository, name: &str, mind_pins: Option<Timestamp>) -> Result<Removal> {
    let path = repo.backups().join(name);
    // Opened for writing, as an exclusive lock requires where flock is emulated over a network.
    let file = repo.open_manifest(name, true)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Removal::InUse),
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
    }
    // Whoever pins holds it, so nobody does from here on.
    if is_pinned(repo, name, mind_pins) {
        return Ok(Removal::Pinned);
    }
    fs::remove_file(&path).doing("remove", &path)?;
    sync_dir(&repo.backups())?;
    Ok(Removal::Removed)
}

/// What [`remove_unless`] would do. Where the manifest cannot be locked without writing to it, as over a
/// network, nobody is known to read it.
fn foretold(repo: &Repository, name: &str, mind_pins: Option<Timestamp>) -> Result<Removal> {
    let file = match repo.open_manifest(name, false) {
        // A pass was faster.
        Err(Error::NoBackup { .. }) => return Ok(Removal::Removed),
        file => file?,
    };
    Ok(match file.try_lock() {
        Err(TryLockError::WouldBlock) => Removal::InUse,
        _ if is_pinned(repo, name, mind_pins) => Removal::Pinned,
        _ => Removal::Removed,
    })
}

fn is_pinned(repo: &Repository, name: &str, at: Option<Timestamp>) -> bool {
    at.is_some_and(|at| repo.pin_of(name).is_some_and(|pin| pin.end() > at))
}

fn unlink(path: &Path) -> Result<()> {
    fs::remove_file(path).ignoring(io::ErrorKind::NotFound).doing("remove", path)
}

/// Logs what a prune did or would do.
pub fn report(pruned: &Pruned, dry_run: bool) {
    if let Some(doubt) = &pruned.doubt {
        return log::warn!("{}: {doubt}", Cause::Configuration);
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    if !pruned.removed.is_empty() || pruned.packs > 0 {
        let names = match pruned.removed.join(", ") {
            names if names.is_empty() => names,
            names => format!(" ({names})"),
        };
        log::info!(
            "{verb} {}{names}, {}, {}",
            count(pruned.removed.len(), "backup"),
            count(pruned.packs, "pack"),
            bytes(pruned.bytes)
        );
    } else if dry_run {
        log::info!("nothing to remove");
    }
    if pruned.strays > 0 {
        log::info!(
            "no backup names {} of these packs: what a pass at work has stored would stay",
            pruned.strays
        );
    }
    for name in &pruned.in_use {
        log::info!("keeping {name} until the next prune: it is in use");
    }
    for backup in pruned.fates.iter().filter(|b| b.fate.too_old && !b.fate.expires()) {
        let why = match backup.fate.kept_by[..] {
            ["base"] => "the next pass may need it",
            _ => "it is the newest",
        };
        log::warn!("backup {} is older than drop-after allows, and stays: {why}", backup.name);
    }
    if !pruned.unreadable.is_empty() {
        log::warn!(
            "backup-damaged: no pack was removed, because these manifests cannot be read: {}",
            pruned.unreadable.join(", ")
        );
    }
}
