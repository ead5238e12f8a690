//! Restores a backup into a directory.
//!
//! Nothing outside the target is touched: every file is opened below it without following symbolic
//! links, and no content is written unchecked. Into a directory with older data, only the blocks
//! that differ are written. A failed restore leaves an unusable directory and returns an error;
//! a [`gate`] marks it, or the caller.

mod destination;
pub mod difference;
pub mod gate;
pub mod piecemeal;
pub mod survey;
mod target_file;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::os::stamp::Stamp;
use crate::os::workers::{Crew, Gauge, Tools, locked};
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::known::Known;
use crate::repository::manifest::{Block, FileEntry, Link, Manifest, Piece};
use crate::repository::packs::buffer::Buffer;
use crate::repository::packs::{self, Fault, Fetcher, hashes};
use crate::repository::parcels::{parcel_size, spread};
use destination::Target;
pub use destination::{Destination, Into, Kept};
use target_file::TargetFile;

/// The most small files in a batch, and the most bytes.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 4 << 20;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that had to be written.
    pub written: u64,
    /// Bytes of older data that were read.
    pub read: u64,
    /// What was found of older data.
    pub found: survey::Survey,
    /// Number of files.
    pub files: u64,
    /// Those that need not be read while they are not written.
    pub known: Option<Known>,
}

/// Restores the backup `held`.
///
/// # Errors
/// [`Error::BackupDamaged`], a full disk, or the error from the system; the watch's own.
pub fn restore(
    repo: &Repository,
    held: &Held,
    to: Destination<'_>,
    crew: &mut Crew<'_>,
) -> Result<Restored> {
    let manifest = &held.manifest;
    crew.alone(|| {
        let look = |pack| packs::look_for_reading(repo.root(), pack);
        // The journal's own packs may be gone, and those of the data while the journal is restored.
        let needed = manifest.packs_of(manifest.files.iter());
        needed.iter().try_for_each(look).map_err(|what| damaged(&held.name, what))
    })?;
    restore_over_itself(repo, held, to, crew)
}

/// Restores the backup `held` over its own data, or what became of that. Packs may be missing: this is an
/// error only where a block differs that is in one of them.
///
/// # Errors
/// As for [`restore`].
pub fn restore_over_itself(
    repo: &Repository,
    held: &Held,
    to: Destination<'_>,
    crew: &mut Crew<'_>,
) -> Result<Restored> {
    let manifest = &held.manifest;
    let gauge = crew.gauge();
    // Removing extra files and creating many directories may take long.
    let target = crew.alone(|| Target::prepare(&to, held))?;
    let files = manifest.files.iter().enumerate().filter(|(n, _)| !target.is_unchanged(*n));
    let pieces = files.flat_map(|(_, f)| f.pieces(manifest.block_size));
    let cost = |piece: Piece| match piece.block {
        Block::Stored(chain) => cost_of(piece.length, chain.of(&manifest.links)),
        Block::Zeros { .. } => 0,
    };
    gauge.set_total(pieces.map(cost).sum());
    let conditions = target.conditions();
    let (written, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let durable = to.kept.is_durable();
    let fetchers = (0..crew.jobs()).map(|_| Fetcher::new(repo.root()));
    let pass = Pass {
        repo,
        held,
        target: &target,
        gauge: &gauge,
        tools: Tools::new(fetchers.collect::<Result<_>>()?),
        pairs: hashes::in_pairs(manifest.files.len()),
        written: &written,
        read: &read,
    };
    let parcels = pass.split(crew.jobs());
    let (next, synced) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let (contents, old, stamps) = Default::default();
        let mut worker = Worker { pass: &pass, contents, old, stamps };
        while !gauge.stopped() {
            let Some(parcel) = parcels.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            worker.run(parcel)?;
        }
        // All has been on its way to the disk since it was written; waiting for it any earlier would
        // leave the processors idle.
        while durable && !gauge.stopped() {
            let Some(parcel) = parcels.get(synced.fetch_add(1, Ordering::Relaxed)) else { break };
            worker.sync(parcel)?;
        }
        Ok(worker.stamps)
    };
    // Past the page cache, a write waits for the disk. A third thread for each job takes a tenth less time,
    // and a fourth nothing more; each has memory for two blocks.
    let stamps = match (to.kept.is_direct(), pass.pairs) {
        (true, true) => crew.work_overlapped(3, work)?,
        (true, false) => crew.work_overlapped(2, work)?,
        (false, _) => crew.work(work)?,
    };
    crew.alone(|| {
        target.finish_dirs(manifest)?;
        // Small files and all directories are synced at once here; the workers sync large files.
        if durable {
            target.sync()?
        };
        target.finish()
    })?;
    let stamps = stamps.into_iter().flatten().collect();
    Ok(Restored {
        known: target.known(&held.name, conditions, to.known, stamps),
        read: read.load(Ordering::Relaxed),
        bytes: manifest.size,
        written: written.load(Ordering::Relaxed),
        files: manifest.files.len() as u64,
        found: target.into_found(),
    })
}

/// The cost of a block, in bytes: what is written plus twice what is read, because decompression
/// dominates (blocks of long runs of equal rows restored at 29 MiB/s, blocks compressed to two
/// fifths at 17).
fn cost_of(written: u64, links: &[Link]) -> u64 {
    written + 2 * links.iter().map(|link| u64::from(link.frame.length)).sum::<u64>()
}

struct Pass<'a> {
    repo: &'a Repository,
    held: &'a Held,
    target: &'a Target,
    gauge: &'a Gauge,
    /// One for each job.
    tools: Tools<Fetcher<'a>>,
    /// Blocks are hashed two at a time, which takes memory for another one.
    pairs: bool,
    written: &'a AtomicU64,
    read: &'a AtomicU64,
}

impl<'a> Pass<'a> {
    fn manifest(&self) -> &'a Manifest {
        &self.held.manifest
    }
}

/// A large file, written by several workers. It is reopened for every parcel, because in the order
/// of parcels all large files are in progress at once.
struct Large<'a> {
    index: usize,
    entry: &'a FileEntry,
    /// Parcels still to be written.
    left: AtomicU64,
    /// Whether it was created or existed; unset before the first parcel.
    new: Mutex<Option<bool>>,
}

impl Large<'_> {
    fn open(&self, target: &Target) -> Result<TargetFile> {
        let mut new = locked(&self.new);
        let is_new = match *new {
            Some(new) => new,
            None => *new.insert(target.open(self.entry)?.new),
        };
        target.reopen(self.entry, is_new)
    }
}

/// A unit of work for one worker.
enum Parcel<'a> {
    /// Small files, whole.
    Batch(Range<usize>),
    /// A run of blocks of a large file, with the offset of the first.
    Run(Arc<Large<'a>>, Range<usize>, u64),
}

impl<'a> Pass<'a> {
    /// Splits all files into parcels.
    fn split(&self, jobs: usize) -> Vec<Parcel<'a>> {
        let manifest = self.manifest();
        // Two blocks are hashed together.
        let run = parcel_size(manifest.size, jobs, 2 * manifest.block_size);
        let mut parcels = Vec::new();
        let mut next = 0;
        while let Some(entry) = manifest.files.get(next) {
            if self.target.is_unchanged(next) {
                next += 1;
            } else if entry.blocks.len() > 1 {
                let runs = runs(entry, run, manifest.block_size);
                let left = AtomicU64::new(runs.len() as u64);
                let large = Arc::new(Large { index: next, entry, left, new: Mutex::new(None) });
                let parcel = |(blocks, offset)| Parcel::Run(Arc::clone(&large), blocks, offset);
                parcels.extend(runs.into_iter().map(parcel));
                next += 1;
            } else {
                let batch = self.batch(next);
                next = batch.end;
                parcels.push(Parcel::Batch(batch));
            }
        }
        spread(parcels)
    }

    /// A batch of small files starting at `first`.
    fn batch(&self, first: usize) -> Range<usize> {
        let mut bytes = 0;
        let rest = self.manifest().files.iter().enumerate().skip(first + 1).take(BATCH - 1);
        let more = rest.take_while(|(index, entry)| {
            bytes += entry.size;
            bytes <= BATCH_BYTES && entry.blocks.len() <= 1 && !self.target.is_unchanged(*index)
        });
        first..first + 1 + more.count()
    }
}

/// Runs of blocks of about `size` bytes of content, with their offsets.
fn runs(entry: &FileEntry, size: u64, block_size: u64) -> Vec<(Range<usize>, u64)> {
    let mut runs: Vec<(Range<usize>, u64)> = Vec::new();
    let mut filled = size;
    for (index, piece) in entry.pieces(block_size).enumerate() {
        if filled >= size {
            runs.push((index..index, piece.offset));
            filled = 0;
        }
        runs.last_mut().expect("just pushed").0.end = index + 1;
        filled += if matches!(piece.block, Block::Stored(_)) { piece.length } else { 0 };
    }
    runs
}

struct Worker<'a> {
    pass: &'a Pass<'a>,
    /// Blocks that are written.
    contents: [Buffer; 2],
    /// A block of the older data.
    old: Vec<u8>,
    /// Those of the files that are finished, by their number in the manifest.
    stamps: Vec<(usize, Stamp)>,
}

impl Worker<'_> {
    fn run(&mut self, parcel: &Parcel<'_>) -> Result<()> {
        let (manifest, target) = (self.pass.manifest(), self.pass.target);
        match parcel {
            Parcel::Run(large, blocks, offset) => {
                let entry = large.entry;
                let file = large.open(target)?;
                let pieces = entry.pieces_from(blocks.start, *offset, manifest.block_size);
                self.pieces(entry, &file, pieces.take(blocks.len()))?;
                if self.pass.gauge.stopped() {
                    return Ok(());
                }
                if large.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.stamps.push((large.index, target.finish_file(&file, entry)?));
                }
            }
            Parcel::Batch(batch) => {
                for index in batch.clone() {
                    let entry = &manifest.files[index];
                    if self.pass.gauge.stopped() {
                        break;
                    }
                    let file = target.open(entry)?;
                    self.pieces(entry, &file, entry.pieces(manifest.block_size))?;
                    self.stamps.push((index, target.finish_file(&file, entry)?));
                }
            }
        }
        Ok(())
    }

    /// Syncs a large file, once.
    fn sync(&self, parcel: &Parcel<'_>) -> Result<()> {
        match parcel {
            Parcel::Run(large, _, 0) => {
                let file = large.open(self.pass.target)?;
                self.pass.target.sync_file(&file, large.entry)
            }
            _ => Ok(()),
        }
    }

    /// Writes pieces of a file, and returns early if the gauge is stopped.
    fn pieces(
        &mut self,
        entry: &FileEntry,
        file: &TargetFile,
        pieces: impl Iterator<Item = Piece>,
    ) -> Result<()> {
        let fail = |e| Error::io("write", &self.pass.target.path(entry), e);
        let mut waiting = None;
        for piece in pieces {
            if self.pass.gauge.stopped() {
                return Ok(());
            }
            match piece.block {
                // Not counted: zeros cost next to nothing and would distort the estimate.
                Block::Zeros { .. } => file.zero(&piece).map_err(fail)?,
                Block::Stored(chain) if !file.new => {
                    let links = chain.of(&self.pass.manifest().links);
                    let has = |_: &mut Fetcher<'_>| file.has(&piece, &links[0].hash, &mut self.old);
                    let same = self.pass.tools.with(has).map_err(fail)?;
                    self.pass.read.fetch_add(piece.length, Ordering::Relaxed);
                    match same {
                        true => self.pass.gauge.add(cost_of(piece.length, links)),
                        false => self.fill(entry, file, &[piece])?,
                    }
                }
                Block::Stored(_) if !self.pass.pairs => self.fill(entry, file, &[piece])?,
                Block::Stored(_) => match waiting.take() {
                    Some(first) => self.fill(entry, file, &[first, piece])?,
                    None => waiting = Some(piece),
                },
            }
        }
        waiting.map_or(Ok(()), |piece| self.fill(entry, file, &[piece]))
    }

    /// Writes one or two blocks, which are checked before.
    fn fill(&mut self, entry: &FileEntry, file: &TargetFile, pieces: &[Piece]) -> Result<()> {
        let (pass, contents) = (self.pass, &mut self.contents);
        let manifest = pass.manifest();
        let wanted = pieces.iter().filter_map(|piece| match piece.block {
            Block::Stored(chain) => Some((chain.of(&manifest.links), piece.length as usize)),
            Block::Zeros { .. } => None,
        });
        let wanted: Vec<_> = wanted.collect();
        let write = |contents: &[Buffer; 2]| {
            let mut each = pieces.iter().zip(contents);
            each.try_for_each(|(piece, content)| pass.target.write(entry, file, piece, content))
        };
        pass.tools.with(|fetcher| {
            match fetcher.fetch_into(&manifest.packs, &wanted, contents) {
                Ok(()) => {}
                Err((_, Fault::Failed(e))) => return Err(e),
                Err((pack, Fault::Damaged(what))) => {
                    pass.repo.suspect(&pack);
                    let what = format!("{what}, and {} needs it", entry.path.display());
                    return Err(damaged(&pass.held.name, what));
                }
            }
            // Into the page cache, which takes a processor, too.
            if file.direct { Ok(()) } else { write(contents) }
        })?;
        if file.direct {
            write(contents)?;
        }
        for (piece, (links, _)) in pieces.iter().zip(wanted) {
            pass.written.fetch_add(piece.length, Ordering::Relaxed);
            pass.gauge.add(cost_of(piece.length, links));
        }
        Ok(())
    }
}
