//! Restores a backup out of a few packs at a time, for a machine that never has all of them.
//!
//! A block is the exclusive or of its frames, in whatever order they are added. So each pack is needed
//! once: what it holds is added to the files, whichever other packs its blocks need, and then it goes. A
//! block is compared with its hash when its last frame is added. In between, a file holds what is in no
//! backup; the caller keeps it where no server looks for it.
//!
//! Each [`step`] is a call of its own. What is done is in a file below the repository's `tmp`. Without
//! that file, the files that are there are compared with the backup, block by block: what is equal needs
//! no pack, and everything else begins with zeros again.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::destination::{Destination, Into, Target};
use super::target_file::TargetFile;
use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::manifest::{Block, Chain, Hash, Manifest, PackRef, Piece};
use crate::repository::packs::{self, Fault, Fetcher};

/// Blocks that a worker takes at a time: neighbours are in the same file.
const TAKEN: usize = 16;

/// The file of the state, below the repository's `tmp`.
const STATE: &str = "unpack";

/// Most bytes of it: one for each block and pack.
const LONGEST_STATE: u64 = 1 << 30;

/// What is left of a restore after a step.
#[derive(Debug)]
pub struct Left {
    /// The packs whose frames are still to be added, in the order of the manifest. Without any, the data
    /// is complete, has its modes and owners, and is on the disk.
    pub packs: Vec<PackRef>,
}

/// Adds what the packs that are in `repo` hold to the files of `held` in the directory `to`, and removes
/// these packs. The first call for a repository prepares the directory, which may hold what an
/// interrupted restore left.
///
/// # Errors
/// [`Error::BackupDamaged`], a full disk, or the error from the system; the watch's own. After an error,
/// the state and the packs are of no use any more, and the files still are.
pub fn step(
    repo: &Repository,
    held: &Held,
    to: Destination<'_>,
    crew: &mut Crew<'_>,
) -> Result<Left> {
    let to = Destination { into: Into::Existing, ..to };
    let path = repo.tmp().join(STATE);
    let known = crew.alone(|| State::read(&path, held))?;
    let (target, mut state) = match known {
        Some(state) => (crew.alone(|| Target::again(&to, held))?, state),
        None => begin(held, &to, crew)?,
    };
    let present: Vec<bool> = (held.manifest.packs.iter().zip(&state.added))
        .map(|(pack, added)| !added && packs::look(repo.root(), pack).is_ok())
        .collect();
    if present.contains(&true) {
        add(repo, held, &target, &state, &present, crew)?;
        for (added, present) in state.added.iter_mut().zip(&present) {
            *added |= present;
        }
    }
    crew.alone(|| {
        let left = state.left(&held.manifest);
        if left.is_empty() {
            finish(&held.manifest, &target)?;
        }
        state.write(&path, held)?;
        for (pack, _) in held.manifest.packs.iter().zip(&present).filter(|(_, present)| **present) {
            let path = packs::pack_path(repo.root(), &pack.hash);
            fs::remove_file(&path).doing("remove", &path)?;
        }
        Ok(Left { packs: left })
    })
}

/// What is done, by the order of the manifest.
struct State {
    /// Blocks and runs of zeros that were complete at the beginning.
    complete: Vec<bool>,
    /// Packs whose frames were added to all other blocks.
    added: Vec<bool>,
}

/// All pieces of all files of a backup, with the number of their file.
fn pieces(manifest: &Manifest) -> impl Iterator<Item = (usize, Piece)> + '_ {
    let files = manifest.files.iter().enumerate();
    files.flat_map(|(n, file)| file.pieces(manifest.block_size).map(move |piece| (n, piece)))
}

impl State {
    /// `None` if there is none, or if it is of another backup.
    fn read(path: &Path, held: &Held) -> Result<Option<State>> {
        let text = match files::read(path, LONGEST_STATE) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.doing("read", path)?,
        };
        let mut lines = text.split(|byte| *byte == b'\n');
        let name = lines.next();
        let mut flags = || {
            let line = lines.next().unwrap_or_default();
            line.iter().map(|byte| *byte == b'1').collect::<Vec<bool>>()
        };
        let state = State { complete: flags(), added: flags() };
        let fits = name == Some(held.name.as_bytes())
            && state.complete.len() == pieces(&held.manifest).count()
            && state.added.len() == held.manifest.packs.len();
        Ok(fits.then_some(state))
    }

    fn write(&self, path: &Path, held: &Held) -> Result<()> {
        let flags = |list: &[bool]| list.iter().map(|is| if *is { '1' } else { '0' }).collect();
        let (complete, added): (String, String) = (flags(&self.complete), flags(&self.added));
        let text = format!("{}\n{complete}\n{added}\n", held.name);
        files::replace(path, &text, 0o600, false).doing("write", path)
    }

    fn left(&self, manifest: &Manifest) -> Vec<PackRef> {
        let mut needed = vec![false; manifest.packs.len()];
        for ((_, piece), complete) in pieces(manifest).zip(&self.complete) {
            if let (Block::Stored(chain), false) = (piece.block, complete) {
                let frames = chain.of(&manifest.links).iter().map(|link| link.frame.pack as usize);
                frames.for_each(|pack| needed[pack] |= !self.added[pack]);
            }
        }
        let packs = manifest.packs.iter().zip(needed);
        packs.filter(|(_, needed)| *needed).map(|(pack, _)| *pack).collect()
    }
}

/// Prepares the target: afterwards each block in it is complete or zeros.
fn begin(held: &Held, to: &Destination<'_>, crew: &mut Crew<'_>) -> Result<(Target, State)> {
    let manifest = &held.manifest;
    let (target, new) = crew.alone(|| {
        let target = Target::prepare(to, held)?;
        let made: Result<Vec<bool>> =
            manifest.files.iter().map(|entry| Ok(target.open(entry)?.new)).collect();
        Ok((target, made?))
    })?;
    let mut complete: Vec<bool> =
        pieces(manifest).map(|(_, piece)| matches!(piece.block, Block::Zeros { .. })).collect();
    let old: Vec<Job> = pieces(manifest)
        .enumerate()
        .filter(|(_, (file, _))| !new[*file])
        .map(|(number, (file, piece))| Job { number, file, piece })
        .collect();
    let gauge = crew.gauge();
    gauge.set_total(old.iter().map(Job::stored).sum());
    let shares = Shares::new(&old);
    let found = crew.work(|| {
        let mut files = Files::new(manifest, &target);
        let (mut buffer, mut equal) = (Vec::new(), Vec::new());
        while let Some(share) = shares.next(&gauge) {
            for job in &old[share] {
                if gauge.stopped() {
                    break;
                }
                let file = files.open(job.file)?;
                let fail = |e| Error::io("read", &target.path(&manifest.files[job.file]), e);
                let is_equal = match job.piece.block {
                    Block::Zeros { .. } => false,
                    Block::Stored(chain) => {
                        let hash = &chain.of(&manifest.links)[0].hash;
                        file.has(&job.piece, hash, &mut buffer).map_err(fail)?
                    }
                };
                if is_equal {
                    equal.push(job.number);
                } else {
                    file.zero(&job.piece).map_err(fail)?;
                }
                gauge.add(job.stored());
            }
        }
        Ok(equal)
    })?;
    found.into_iter().flatten().for_each(|number| complete[number] = true);
    let added = vec![false; manifest.packs.len()];
    Ok((target, State { complete, added }))
}

/// Adds the frames of the packs that are `present` to their blocks.
fn add(
    repo: &Repository,
    held: &Held,
    target: &Target,
    state: &State,
    present: &[bool],
    crew: &mut Crew<'_>,
) -> Result<()> {
    let manifest = &held.manifest;
    let is_present = |chain: Chain| {
        chain.of(&manifest.links).iter().any(|link| present[link.frame.pack as usize])
    };
    let jobs: Vec<Job> = pieces(manifest)
        .enumerate()
        .filter(|(number, (_, piece))| {
            !state.complete[*number]
                && matches!(piece.block, Block::Stored(chain) if is_present(chain))
        })
        .map(|(number, (file, piece))| Job { number, file, piece })
        .collect();
    let gauge = crew.gauge();
    gauge.set_total(gauge.done() + jobs.iter().map(Job::stored).sum::<u64>());
    let shares = Shares::new(&jobs);
    crew.work(|| {
        let files = Files::new(manifest, target);
        let fetcher = Fetcher::new(repo.root())?;
        let mut worker = Worker { held, state, present, files, fetcher, content: Vec::new() };
        while let Some(share) = shares.next(&gauge) {
            for job in &jobs[share] {
                if gauge.stopped() {
                    break;
                }
                worker.add(job)?;
                gauge.add(job.stored());
            }
        }
        Ok(())
    })?;
    Ok(())
}

struct Worker<'a> {
    held: &'a Held,
    state: &'a State,
    present: &'a [bool],
    files: Files<'a>,
    fetcher: Fetcher<'a>,
    content: Vec<u8>,
}

impl Worker<'_> {
    fn add(&mut self, job: &Job) -> Result<()> {
        let Block::Stored(chain) = job.piece.block else { return Ok(()) };
        let manifest = &self.held.manifest;
        let entry = &manifest.files[job.file];
        let spoilt = |what: &str| {
            let path = entry.path.display();
            damaged(&self.held.name, format!("{what}, and {path} needs it"))
        };
        let links = chain.of(&manifest.links);
        let was_added = |pack: u32| self.state.added[pack as usize];
        let is_present = |pack: u32| self.present[pack as usize];
        let file = self.files.open(job.file)?;
        self.content.clear();
        self.content.resize(job.piece.length as usize, 0);
        if links.iter().any(|link| was_added(link.frame.pack)) {
            let read = file.read(&job.piece, &mut self.content);
            read.doing("read", &entry.path)?;
        }
        for link in links.iter().filter(|link| is_present(link.frame.pack)) {
            let added = self.fetcher.add(&manifest.packs, &link.frame, &mut self.content);
            added.map_err(|(_, fault)| match fault {
                Fault::Failed(e) => e,
                Fault::Damaged(what) => spoilt(&what),
            })?;
        }
        let mut packs = links.iter().map(|link| link.frame.pack);
        if packs.all(|pack| was_added(pack) || is_present(pack))
            && Hash::from(Sha256::digest(&self.content)) != links[0].hash
        {
            return Err(spoilt("a block does not match its checksum"));
        }
        file.write(&job.piece, &self.content).doing("write", &self.files.target.path(entry))
    }
}

/// Modes and owners, and all of it on the disk.
fn finish(manifest: &Manifest, target: &Target) -> Result<()> {
    for entry in &manifest.files {
        target.finish_file(&target.reopen(entry, false)?, entry)?;
    }
    target.finish_dirs(manifest)?;
    target.sync()
}

/// A piece to be looked at.
struct Job {
    /// Its number among all.
    number: usize,
    file: usize,
    piece: Piece,
}

impl Job {
    /// Bytes that are stored in packs.
    fn stored(&self) -> u64 {
        if matches!(self.piece.block, Block::Stored(_)) { self.piece.length } else { 0 }
    }
}

/// The jobs, given out a few at a time.
struct Shares {
    next: AtomicUsize,
    all: usize,
}

impl Shares {
    fn new(jobs: &[Job]) -> Shares {
        Shares { next: AtomicUsize::new(0), all: jobs.len() }
    }

    fn next(&self, gauge: &Gauge) -> Option<Range<usize>> {
        let first = self.next.fetch_add(TAKEN, Ordering::Relaxed);
        (first < self.all && !gauge.stopped()).then(|| first..(first + TAKEN).min(self.all))
    }
}

/// The file that a worker had to do with last, open.
struct Files<'a> {
    manifest: &'a Manifest,
    target: &'a Target,
    open: Option<(usize, TargetFile)>,
}

impl<'a> Files<'a> {
    fn new(manifest: &'a Manifest, target: &'a Target) -> Files<'a> {
        Files { manifest, target, open: None }
    }

    fn open(&mut self, index: usize) -> Result<&TargetFile> {
        let file = match self.open.take() {
            Some((at, file)) if at == index => file,
            _ => self.target.reopen(&self.manifest.files[index], false)?,
        };
        Ok(&self.open.insert((index, file)).1)
    }
}
