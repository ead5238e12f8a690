//! Removes backups, and packs that no backup names.
//!
//! A manifest is durably gone before any of its packs. A pack is removed only when every remaining
//! manifest was read in full and does not name it. A manifest that cannot be read might name any
//! pack, so it stops the sweep. A backup that is being read stays. [`super::retention`] decides
//! which backups expire.

use std::collections::HashSet;
use std::fs::{self, TryLockError};
use std::io;
use std::path::PathBuf;

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Timestamp;
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::manifest::{Hash, from_hex};
use crate::repository::packs::write::sync_dir;
use crate::repository::retention::{Candidate, Policy, expired};
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
    /// Backups with an unreadable manifest. While they exist, no pack is removed.
    pub unreadable: Vec<String>,
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
}

/// Applies the policy; with `dry_run`, changes nothing. If the watch gives up, it stops between two
/// steps, and the next prune does the rest.
///
/// # Errors
/// Those of reading or removing; the watch's own.
pub fn prune(
    repo: &Repository,
    _lock: &RepoLock,
    policy: Policy,
    dry_run: bool,
    crew: &mut Crew<'_>,
) -> Result<Pruned> {
    let gauge = crew.gauge();
    // Removing thousands of packs may take minutes.
    crew.alone(|| apply(repo, policy, dry_run, &gauge))
}

fn apply(repo: &Repository, policy: Policy, dry_run: bool, gauge: &Gauge) -> Result<Pruned> {
    let mut out = Pruned::default();
    let mut candidates = Vec::new();
    for name in repo.names()? {
        if gauge.stopped() {
            return Ok(out);
        }
        match repo.summary(&name) {
            Ok(summary) => candidates.push(Candidate {
                complete: repo.state(&summary.packs).is_none(),
                data_as_of: summary.header.data_as_of,
                open_tables: summary.header.open_tables > 0,
                base: summary.header.base,
                name,
            }),
            Err(Error::BackupDamaged { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    for name in expired(policy, Timestamp::now(), &candidates) {
        if gauge.stopped() {
            return Ok(out);
        }
        match remove_unless(repo, &name, dry_run)? {
            Removal::Removed => out.removed.push(name),
            Removal::InUse => out.in_use.push(name),
        }
    }
    if !dry_run {
        repo.forget_records_but(&repo.names()?)?;
        forget_received(repo)?;
    }
    let plan = plan(repo, &out.removed, gauge)?;
    out.unreadable = plan.unreadable;
    gauge.set_total(plan.packs.iter().map(|(_, size)| size).sum());
    for (path, size) in plan.packs {
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

impl Repository {
    /// Removes the backup `name`, unless it is being read. Its packs stay until a sweep.
    ///
    /// # Errors
    /// Those of removing.
    pub fn remove(&self, _lock: &RepoLock, name: &str) -> Result<Removal> {
        remove_unless(self, name, false)
    }

    /// Removes the packs that no backup names.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn sweep_packs(&self, _lock: &RepoLock) -> Result<Sweep> {
        let plan = plan(self, &[], &Gauge::new(None))?;
        let mut out = Sweep { stopped_by: plan.unreadable, ..Sweep::default() };
        for (path, size) in plan.packs {
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
    journals.remove_redundant(&lock, &mut parts, &repo.stored()?)
}

fn remove_unless(repo: &Repository, name: &str, dry_run: bool) -> Result<Removal> {
    let path = repo.backups().join(name);
    // Opened for writing, as an exclusive lock requires where flock is emulated over a network.
    let file = repo.open_manifest(name, true)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Removal::InUse),
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
    }
    if !dry_run {
        fs::remove_file(&path).doing("remove", &path)?;
        sync_dir(&repo.backups())?;
    }
    Ok(Removal::Removed)
}

struct Plan {
    packs: Vec<(PathBuf, u64)>,
    unreadable: Vec<String>,
}

/// The packs that no manifest names once the backups `without` are gone.
fn plan(repo: &Repository, without: &[String], gauge: &Gauge) -> Result<Plan> {
    let mut named: HashSet<Hash> = HashSet::new();
    let mut unreadable = Vec::new();
    for name in repo.names()? {
        if gauge.stopped() {
            // Stopped before reading all manifests: remove no pack.
            return Ok(Plan { packs: Vec::new(), unreadable });
        }
        if without.contains(&name) {
            continue;
        }
        match repo.summary(&name) {
            Ok(summary) => named.extend(summary.packs.iter().map(|p| p.hash)),
            Err(Error::BackupDamaged { .. }) => unreadable.push(name),
            Err(e) => return Err(e),
        }
    }
    let packs = if unreadable.is_empty() { unreferenced(repo, &named)? } else { Vec::new() };
    Ok(Plan { packs, unreadable })
}

fn unreferenced(repo: &Repository, named: &HashSet<Hash>) -> Result<Vec<(PathBuf, u64)>> {
    let root = repo.root().join("packs");
    let fail = |e| Error::io("list", &root, e);
    let mut out = Vec::new();
    for dir in fs::read_dir(&root).map_err(fail)? {
        let dir = dir.map_err(fail)?;
        if !dir.file_type().map_err(fail)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(dir.path()).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            // Not named like a pack, so not ours to remove.
            let hash = from_hex(name.strip_suffix(".damaged").unwrap_or(name));
            if hash.is_none_or(|h| named.contains(&h)) {
                continue;
            }
            let m = entry.metadata().map_err(fail)?;
            if !m.is_dir() {
                out.push((entry.path(), m.len()));
            }
        }
    }
    Ok(out)
}

fn unlink(path: &PathBuf) -> Result<()> {
    fs::remove_file(path).ignoring(io::ErrorKind::NotFound).doing("remove", path)
}

/// Logs what a prune did or would do.
pub fn report(pruned: &Pruned, dry_run: bool) {
    let verb = if dry_run { "would remove" } else { "removed" };
    if !pruned.removed.is_empty() || pruned.packs > 0 {
        log::info!(
            "{verb} {} ({}), {}, {}",
            count(pruned.removed.len(), "backup"),
            pruned.removed.join(", "),
            count(pruned.packs, "pack"),
            bytes(pruned.bytes)
        );
    } else if dry_run {
        log::info!("nothing to remove");
    }
    for name in &pruned.in_use {
        log::info!("keeping {name} until the next prune: it is in use");
    }
    if !pruned.unreadable.is_empty() {
        log::warn!(
            "backup-damaged: no pack was removed, because these manifests cannot be read: {}",
            pruned.unreadable.join(", ")
        );
    }
}
