//! Which packs no manifest names. Changes nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::os::workers::Gauge;
use crate::repository::directory::Repository;
use crate::repository::manifest::{Hash, from_hex};

/// A pack that no manifest names.
pub(super) struct Unreferenced {
    pub path: PathBuf,
    pub hash: Hash,
    pub size: u64,
}

pub(super) struct Plan {
    pub packs: Vec<Unreferenced>,
    /// The manifests that cannot be read. Any pack might be named there, so `packs` is empty then.
    pub unreadable: Vec<String>,
}

/// The packs that no manifest names once the backups `without` are gone. `unlocked`: a pass may remove
/// backups and packs meanwhile.
pub(super) fn plan(
    repo: &Repository,
    without: &[String],
    unlocked: bool,
    gauge: &Gauge,
) -> Result<Plan> {
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
            Err(Error::NoBackup { .. }) if unlocked => {}
            Err(e) => return Err(e),
        }
    }
    let packs =
        if unreadable.is_empty() { unreferenced(repo, &named, unlocked)? } else { Vec::new() };
    Ok(Plan { packs, unreadable })
}

fn unreferenced(
    repo: &Repository,
    named: &HashSet<Hash>,
    unlocked: bool,
) -> Result<Vec<Unreferenced>> {
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
            let Some(hash) = hash.filter(|hash| !named.contains(hash)) else { continue };
            let m = match entry.metadata() {
                Err(e) if unlocked && e.kind() == io::ErrorKind::NotFound => continue,
                m => m.map_err(fail)?,
            };
            if !m.is_dir() {
                out.push(Unreferenced { path: entry.path(), hash, size: m.len() });
            }
        }
    }
    Ok(out)
}
