//! A backup becomes a directory.
//!
//! Nothing outside the target is touched: every file is opened below it through no symbolic
//! link, and no content is written that was not checked first. Into a directory with older data
//! only the blocks that differ are written. A restore that fails leaves a directory that is not
//! to be used, and says so by failing; marking it is the caller's business.

mod target;

use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::manifest::{Block, FileEntry, Manifest, Piece};
use crate::packs::{self, Fault, Fetcher};
use crate::pool::{self, Gauge, Watch, locked};
use crate::repository::{Held, Repository, damaged};
use target::{Target, TargetFile};

/// Small files are dealt out in lots of at most so many, or so many bytes.
const LOT: usize = 256;
const LOT_BYTES: u64 = 4 << 20;

/// What the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Absent or empty; anything else is refused.
    Empty,
    /// Ours, with older data: what is surplus goes, what is the same stays.
    Existing,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that had to be written.
    pub written: u64,
    /// Number of files.
    pub files: u64,
}

/// Restores the backup `held` into the directory `target`, which is made when absent. `owner`
/// gets all of it; `durable` waits until it is on the disk.
#[allow(clippy::too_many_arguments)]
pub fn restore(
    repo: &Repository,
    held: &Held,
    target: &Path,
    owner: Option<(u32, u32)>,
    into: Into,
    durable: bool,
    jobs: usize,
    waker: Option<UnixStream>,
    watch: Watch<'_>,
) -> Result<Restored> {
    let manifest = &held.manifest;
    let gauge = Gauge::new(waker);
    pool::alone(&gauge, watch, || {
        let look = |pack| packs::look_for_reading(repo.root(), pack);
        manifest.packs.iter().try_for_each(look).map_err(|what| damaged(&held.name, what))
    })?;
    let pieces = manifest.files.iter().flat_map(|f| f.pieces(manifest.block_size));
    let cost = |piece: Piece| match piece.block {
        Block::Stored { length, .. } => cost_of(piece.length, length),
        Block::Zeros { .. } => 0,
    };
    gauge.set_total(pieces.map(cost).sum());
    // Removing what is surplus, and making many directories, may take long.
    let target = pool::alone(&gauge, watch, || Target::prepare(target, into, owner, manifest))?;

    let written = AtomicU64::new(0);
    let pass = Pass { repo, held, target: &target, gauge: &gauge, durable, written: &written };
    let cursor = Mutex::new(Cursor { pass: &pass, next: 0, large: None });
    pool::work(&gauge, jobs, watch, || {
        let fetcher = Fetcher::new(repo.root())?;
        let mut worker = Worker { pass: &pass, fetcher, old: Vec::new() };
        while !gauge.stopped() {
            let Some(job) = locked(&cursor).deal()? else { break };
            worker.run(job)?;
        }
        Ok(())
    })?;
    pool::alone(&gauge, watch, || {
        target.finish_dirs(manifest)?;
        // The small files and all directories at once; the workers saw to the large ones.
        if durable { target.sync() } else { Ok(()) }
    })?;
    Ok(Restored {
        bytes: manifest.size,
        written: written.load(Ordering::Relaxed),
        files: manifest.files.len() as u64,
    })
}

/// What a block costs, in bytes: those that are written, and twice those that are read, since to
/// unpack them takes longer (a block of long equal rows was restored at 29 MiB/s where one that is
/// packed to two fifths was at 17).
fn cost_of(written: u64, read: u32) -> u64 {
    written + 2 * u64::from(read)
}

struct Pass<'a> {
    repo: &'a Repository,
    held: &'a Held,
    target: &'a Target,
    gauge: &'a Gauge,
    durable: bool,
    written: &'a AtomicU64,
}

impl<'a> Pass<'a> {
    fn manifest(&self) -> &'a Manifest {
        &self.held.manifest
    }
}

/// A large file that several workers write.
struct Large<'a> {
    entry: &'a FileEntry,
    file: TargetFile,
    /// Pieces that are not written yet.
    left: AtomicU64,
}

enum Job<'a> {
    Lot(Range<usize>),
    Part(Arc<Large<'a>>, Piece),
}

type Pieces<'a> = Box<dyn Iterator<Item = Piece> + Send + 'a>;

/// Deals out the work in the order of the manifest, which is that of the packs too.
struct Cursor<'a> {
    pass: &'a Pass<'a>,
    next: usize,
    large: Option<(Arc<Large<'a>>, Pieces<'a>)>,
}

impl<'a> Cursor<'a> {
    fn deal(&mut self) -> Result<Option<Job<'a>>> {
        let manifest = self.pass.manifest();
        loop {
            if let Some((large, pieces)) = &mut self.large {
                match pieces.next() {
                    Some(piece) => return Ok(Some(Job::Part(Arc::clone(large), piece))),
                    None => self.large = None,
                }
            }
            let Some(entry) = manifest.files.get(self.next) else { return Ok(None) };
            if entry.blocks.len() > 1 {
                let file = self.pass.target.open(entry)?;
                let left = AtomicU64::new(entry.blocks.len() as u64);
                let pieces = Box::new(entry.pieces(manifest.block_size));
                self.large = Some((Arc::new(Large { entry, file, left }), pieces));
                self.next += 1;
                continue;
            }
            return Ok(Some(Job::Lot(self.lot())));
        }
    }

    fn lot(&mut self) -> Range<usize> {
        let files = &self.pass.manifest().files;
        let first = self.next;
        let mut bytes = 0;
        while let Some(entry) = files.get(self.next) {
            bytes += entry.size;
            let full = bytes > LOT_BYTES || self.next - first == LOT;
            if self.next > first && (full || entry.blocks.len() > 1) {
                break;
            }
            self.next += 1;
        }
        first..self.next
    }
}

struct Worker<'a> {
    pass: &'a Pass<'a>,
    fetcher: Fetcher<'a>,
    /// A block of the older data.
    old: Vec<u8>,
}

impl Worker<'_> {
    fn run(&mut self, job: Job<'_>) -> Result<()> {
        let manifest = self.pass.manifest();
        match job {
            Job::Part(large, piece) => {
                self.piece(large.entry, &large.file, piece)?;
                if large.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.pass.target.finish_file(&large.file, large.entry)?;
                    if self.pass.durable {
                        self.pass.target.sync_file(&large.file, large.entry)?;
                    }
                }
            }
            Job::Lot(range) => {
                for entry in &manifest.files[range] {
                    if self.pass.gauge.stopped() {
                        break;
                    }
                    let file = self.pass.target.open(entry)?;
                    for piece in entry.pieces(manifest.block_size) {
                        self.piece(entry, &file, piece)?;
                    }
                    self.pass.target.finish_file(&file, entry)?;
                }
            }
        }
        Ok(())
    }

    fn piece(&mut self, entry: &FileEntry, file: &TargetFile, piece: Piece) -> Result<()> {
        let fail = |e| Error::io("write", &self.pass.target.path(entry), e);
        match piece.block {
            // Not measured: zeros cost next to nothing, and would spoil the estimate.
            Block::Zeros { .. } => file.zero(&piece).map_err(fail)?,
            Block::Stored { hash, pack, offset, length } => {
                let same = file.has(&piece, &hash, &mut self.old).map_err(fail)?;
                if !same {
                    let pack = &self.pass.manifest().packs[pack as usize];
                    let size = piece.length as usize;
                    let content = match self.fetcher.fetch(pack, offset, length, size, &hash) {
                        Ok(content) => content,
                        Err(Fault::Failed(e)) => return Err(e),
                        Err(Fault::Damaged(what)) => {
                            self.pass.repo.suspect(pack);
                            let what = format!("{what}, and {} needs it", entry.path.display());
                            return Err(damaged(&self.pass.held.name, what));
                        }
                    };
                    file.write(&piece, content).map_err(fail)?;
                    self.pass.written.fetch_add(piece.length, Ordering::Relaxed);
                }
                self.pass.gauge.add(cost_of(piece.length, length));
            }
        }
        Ok(())
    }
}
