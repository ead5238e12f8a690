//! Checks that backups hold what their manifests say.
//!
//! Each pack is read once, however many backups use it: first as a whole against its name, then
//! every needed block against its own hash. A damaged pack is reported with the backups and files
//! it affects, and set aside, so that the next pass stores its content again. A false manifest
//! affects its backup but no pack.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::Repository;
use crate::repository::journals::shown;
use crate::repository::manifest::{Block, Chain, Frame, Link, Manifest, PackRef};
use crate::repository::packs::{self, Fault, Fetcher, check_pack};

/// The result of a verify.
#[derive(Debug, Default)]
pub struct Report {
    /// The checked backups, in the order given.
    pub backups: Vec<BackupReport>,
    /// Number of packs that could be read.
    pub packs_read: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

impl Report {
    /// Adds that of what a follower has received, of which only damage is worth a line.
    pub fn add_received(&mut self, other: Report) {
        let damaged = other.backups.into_iter().filter(|part| !part.ok);
        self.backups.extend(damaged.map(|part| BackupReport { name: shown(&part.name), ..part }));
        self.packs_read += other.packs_read;
        self.bytes += other.bytes;
        self.damaged.extend(other.damaged);
    }
}

/// The result for one backup.
#[derive(Debug)]
pub struct BackupReport {
    /// Its name.
    pub name: String,
    /// True if all of it is good.
    pub ok: bool,
    /// The first problem; empty if none.
    pub what: String,
}

/// A pack that is damaged, or lacks something a manifest expects in it.
#[derive(Debug)]
pub struct Damage {
    /// Its name.
    pub pack: String,
    /// What is wrong.
    pub what: String,
    /// The backups that use it.
    pub backups: Vec<String>,
    /// The affected files of these backups.
    pub files: Vec<PathBuf>,
}

/// A block as a manifest describes it: its size, and its links with their packs, its own first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    links: Box<[(PackRef, Link)]>,
    size: u32,
}

impl Wanted {
    /// Packs have other numbers in each manifest: here they are those of the links.
    fn new(manifest: &Manifest, chain: Chain, size: u64) -> Wanted {
        let link = |(link, pack): (&Link, u32)| {
            let frame = Frame { pack, ..link.frame };
            (manifest.packs[link.frame.pack as usize], Link { frame, ..*link })
        };
        let links = chain.of(&manifest.links).iter().zip(0..).map(link).collect();
        Wanted { links, size: size as u32 }
    }

    fn packs(&self) -> impl Iterator<Item = PackRef> + '_ {
        self.links.iter().map(|(pack, _)| *pack)
    }
}

struct Outcome {
    pack: PackRef,
    what: String,
    fault: Whose,
    bad: BTreeSet<Wanted>,
}

/// What is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The pack.
    Pack,
    /// Manifests that give it a size that it has not.
    Size,
    /// Manifests with blocks that are not in it.
    Blocks,
}

/// Checks the backups `names`. With `all` they are those that a listing found: one that a prune has
/// removed since is no loss, and not in the report.
///
/// # Errors
/// Those of reading; the watch's own. Damage is in the report, not an error.
pub fn verify(
    repo: &Repository,
    names: &[String],
    all: bool,
    crew: &mut Crew<'_>,
) -> Result<Report> {
    let mut report = Report::default();
    // Held, so that a concurrent prune leaves these backups alone.
    let mut guards = Vec::with_capacity(names.len());
    let mut wanted: BTreeMap<PackRef, BTreeSet<Wanted>> = BTreeMap::new();
    for name in names {
        let what = match repo.hold(name) {
            Ok(held) => {
                let (manifest, guard) = held.into_parts();
                guards.push(guard);
                for pack in &manifest.packs {
                    wanted.entry(*pack).or_default();
                }
                for (block, _) in blocks(&manifest) {
                    wanted.entry(block.links[0].0).or_default().insert(block);
                }
                String::new()
            }
            Err(Error::BackupDamaged { what, .. }) => what,
            Err(Error::NoBackup { .. }) if all => continue,
            Err(e) => return Err(e),
        };
        report.backups.push(BackupReport { name: name.clone(), ok: what.is_empty(), what });
    }
    let wanted: Vec<(PackRef, BTreeSet<Wanted>)> = wanted.into_iter().collect();
    let gauge = crew.gauge();
    // A pack is read once as a whole, and then block by block.
    let content = |blocks: &BTreeSet<Wanted>| blocks.iter().map(|b| u64::from(b.size)).sum::<u64>();
    gauge.set_total(wanted.iter().map(|(pack, blocks)| pack.size + content(blocks)).sum());
    let next = AtomicUsize::new(0);
    let found = crew.work(|| {
        let mut fetcher = Fetcher::new(repo.root())?;
        let mut found = Vec::new();
        while !gauge.stopped() {
            let Some((pack, blocks)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            found.extend(check(repo, &mut fetcher, pack, blocks, &gauge)?);
        }
        Ok(found)
    })?;
    let found = merge(found.into_iter().flatten().collect());
    let unread = found.iter().filter(|o| o.fault != Whose::Blocks);
    let bad: BTreeSet<PackRef> = unread.map(|o| o.pack).collect();
    let good = wanted.iter().map(|(pack, _)| pack).filter(|pack| !bad.contains(pack));
    for pack in good {
        report.packs_read += 1;
        report.bytes += pack.size;
    }
    if !found.is_empty() {
        crew.alone(|| {
            report_damage(repo, &mut report, found, &gauge);
            Ok(())
        })?;
    }
    report.damaged.sort_unstable_by(|a, b| a.pack.cmp(&b.pack));
    Ok(report)
}

/// Every stored block with the index of its file.
fn blocks(manifest: &Manifest) -> impl Iterator<Item = (Wanted, usize)> + '_ {
    let files = manifest.stored_files().enumerate();
    let pieces =
        files.flat_map(|(index, f)| f.pieces(manifest.block_size).map(move |p| (index, p)));
    pieces.filter_map(|(index, piece)| match piece.block {
        Block::Stored(chain) => Some((Wanted::new(manifest, chain, piece.length), index)),
        Block::Zeros { .. } => None,
    })
}

fn check(
    repo: &Repository,
    fetcher: &mut Fetcher<'_>,
    pack: &PackRef,
    blocks: &BTreeSet<Wanted>,
    gauge: &Gauge,
) -> Result<Vec<Outcome>> {
    let whole = match check_pack(repo.root(), pack, gauge) {
        Ok(()) => None,
        Err(Fault::Damaged(what)) => Some(what),
        Err(Fault::Failed(e)) => return Err(e),
    };
    // By the pack that the fault is in: that of a base may be another one.
    let mut bad: BTreeMap<PackRef, (String, BTreeSet<Wanted>)> = BTreeMap::new();
    for block in blocks {
        if gauge.stopped() {
            break;
        }
        gauge.add(u64::from(block.size));
        let (packs, links): (Vec<PackRef>, Vec<Link>) = block.links.iter().copied().unzip();
        match fetcher.fetch(&packs, &links, block.size as usize) {
            Ok(_) => {}
            Err((_, Fault::Failed(e))) => return Err(e),
            Err((culprit, Fault::Damaged(what))) => {
                bad.entry(culprit).or_insert((what, BTreeSet::new())).1.insert(block.clone());
            }
        }
    }
    let mut out = Vec::new();
    if let Some(what) = whole {
        let bad = bad.remove(pack).map(|(_, bad)| bad).unwrap_or_default();
        // Other manifests may give it the size that it has.
        let fault = match packs::is_whole(repo.root(), &pack.hash, gauge)? {
            true => Whose::Size,
            false => Whose::Pack,
        };
        out.push(Outcome { pack: *pack, what, fault, bad });
    }
    for (pack, (what, bad)) in bad {
        out.push(Outcome { pack, what, fault: Whose::Blocks, bad });
    }
    Ok(out)
}

/// One outcome for each pack, of what was found in it and over it.
fn merge(found: Vec<Outcome>) -> Vec<Outcome> {
    let mut all: BTreeMap<PackRef, Outcome> = BTreeMap::new();
    for outcome in found {
        match all.entry(outcome.pack) {
            Entry::Vacant(place) => drop(place.insert(outcome)),
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                known.bad.extend(outcome.bad);
                if outcome.fault != Whose::Blocks {
                    (known.what, known.fault) = (outcome.what, outcome.fault);
                }
            }
        }
    }
    let mut all: Vec<Outcome> = all.into_values().collect();
    for outcome in all.iter_mut().filter(|outcome| outcome.fault != Whose::Pack) {
        outcome.what += ", though the pack is whole: a false manifest";
    }
    all
}

/// Finds the backups and files affected by damage, and sets damaged packs aside. Each manifest is
/// reread once, however much is damaged.
fn report_damage(repo: &Repository, report: &mut Report, found: Vec<Outcome>, gauge: &Gauge) {
    type Concerned = (Vec<String>, BTreeSet<PathBuf>);
    let mut concerned: Vec<Concerned> = found.iter().map(|_| Concerned::default()).collect();
    let index: HashMap<PackRef, usize> = found.iter().map(|o| o.pack).zip(0..).collect();
    for backup in &mut report.backups {
        if gauge.stopped() {
            return;
        }
        // All were readable before; one that has gone meanwhile needs no report.
        let Ok(manifest) = repo.load(&backup.name) else { continue };
        let mut hit = BTreeSet::new();
        for pack in &manifest.packs {
            hit.extend(index.get(pack).filter(|at| found[**at].fault != Whose::Blocks));
        }
        let paths: Vec<&PathBuf> = manifest.stored_files().map(|file| &file.path).collect();
        for (block, file) in blocks(&manifest) {
            for pack in block.packs() {
                let at = index.get(&pack).filter(|at| found[**at].bad.contains(&block));
                if let Some(&at) = at {
                    hit.insert(at);
                    concerned[at].1.insert(paths[file].clone());
                }
            }
        }
        for at in hit {
            concerned[at].0.push(backup.name.clone());
            if backup.ok {
                backup.ok = false;
                backup.what.clone_from(&found[at].what);
            }
        }
    }
    for (Outcome { pack, mut what, fault, .. }, (backups, files)) in
        found.into_iter().zip(concerned)
    {
        if fault == Whose::Pack && packs::pack_path(repo.root(), &pack.hash).exists() {
            what += match repo.set_aside(&pack.hash) {
                true => "; it was set aside",
                false => "; it could not be set aside",
            };
        }
        let pack = crate::repository::manifest::hex(&pack.hash);
        report.damaged.push(Damage { pack, what, backups, files: files.into_iter().collect() });
    }
}
