//! Stores a data directory as a backup.
//!
//! Files are split into blocks. Runs of blocks are shared out, so that a single large file keeps
//! all workers busy; small files come in batches. The data must not change: a file that differs
//! from the initial walk fails the backup, by name. Files are opened below the data directory
//! without following symbolic links.

mod source;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, IoExt, Place, Result};
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::Micros;
use crate::os::files;
use crate::os::space::check_room;
use crate::os::stamp::Conditions;
use crate::os::sys::{free_bytes, lacks_inodes};
use crate::os::workers::{Crew, Gauge, locked};
use crate::repository::data_dir::{Found, walk};
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::format;
use crate::repository::known::Known;
use crate::repository::manifest::{BLOCK_SIZE, MOST_FRAMES, PackRef};
use crate::repository::packs::hashes;
use crate::repository::packs::write::{Block, PackWriter, place};
use crate::repository::pending::{
    self, FromBase, Item, PartialBackup, StoredFile, StoredJournal, Unread,
};
use source::{Parcel, Source, Spot};

pub use crate::repository::manifest::Header;
pub use crate::repository::manifest::journal::Span;

/// Approximate bytes of a manifest line.
const LINE: u64 = 80;

/// What was stored.
#[derive(Debug)]
pub struct Stored {
    /// The backup's name.
    pub name: String,
    /// Bytes of all its files.
    pub size: u64,
    /// Bytes added to the repository.
    pub stored: u64,
    /// Number of its files.
    pub files: u64,
    /// What is wrong with packs that were found damaged meanwhile. None of it is in this backup.
    pub damaged: Vec<String>,
    /// The files of the data that need not be read while they are not written.
    pub known: Option<Known>,
}

/// A data directory to be stored.
pub struct Data<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// What is known of its files since the base was restored.
    pub known: Option<Known>,
    /// What led to it from its base.
    pub journal: &'a Journal,
}

/// The journal of a data directory to be stored.
#[derive(Debug, Default)]
pub struct Journal {
    /// The directory of its logs.
    pub dir: PathBuf,
    /// The logs in order: their names in that directory, and from where to where each leads.
    pub logs: Vec<(PathBuf, Span)>,
    /// Why there is none.
    pub gap: Option<String>,
    /// The clock of the primary when the goal was read.
    pub as_of: Option<Micros>,
    /// The log of the primary that led to the position.
    pub last_log: Option<PrimaryLog>,
}

/// Stores the data directory `data` as a new backup.
///
/// # Errors
/// A full disk, or the error from the system; the watch's own.
pub fn store(
    repo: &Repository,
    lock: &RepoLock,
    data: Data<'_>,
    header: Header,
    level: i32,
    crew: &mut Crew<'_>,
) -> Result<Stored> {
    header.check()?;
    let mut damaged = Vec::new();
    let Data { path, mut known, journal } = data;
    loop {
        let data = Data { path, known: known.take(), journal };
        match attempt(repo, lock, data, header.clone(), level, crew)? {
            Ok(stored) => return Ok(Stored { damaged, ..stored }),
            // Blocks that were reused before it was found may be damaged, too. Now everything is read: of a
            // million files, what is known takes memory that is needed.
            Err(found) => {
                for (pack, what) in found {
                    repo.distrust(pack);
                    damaged.push(what);
                }
            }
        }
    }
}

/// One attempt: a backup, or the packs that were found damaged.
fn attempt(
    repo: &Repository,
    lock: &RepoLock,
    Data { path: data, known, journal }: Data<'_>,
    header: Header,
    level: i32,
    crew: &mut Crew<'_>,
) -> Result<Result<Stored, Vec<(PackRef, String)>>> {
    let gauge = crew.gauge();
    let before = gauge.done();
    let root = files::open_dir(data).doing("open", data)?;
    // Reading a large manifest takes seconds, finding a million files minutes.
    let conditions = Conditions::of(&root);
    let (partial, base, tree) = crew.alone(|| {
        let earlier = pending::earlier(repo, header.base.as_deref())?;
        let tree = walk(&root, data, &gauge)?;
        let found = Unread { root: &root, files: &tree.files, known: known.as_ref() };
        let (partial, base) = PartialBackup::begin(repo, lock, &header, level, earlier, &found)?;
        Ok((partial, base, tree))
    })?;
    drop(known);
    let FromBase { files: is_unread, blocks: unread } = base;
    let size = tree.files.iter().map(|f| f.size).sum();
    let source = Source { data, root, files: &tree.files, is_unread, gauge: &gauge };
    let logs = Logs::find(journal)?;
    let log_source = logs.source(&journal.dir, &gauge)?;
    let jobs = crew.jobs();
    let parcels = crew.alone(|| source.split(jobs))?;
    let log_parcels = log_source.as_ref().map_or(Ok(Vec::new()), |source| source.split(jobs))?;
    let total =
        before + source.all(&parcels) + log_source.as_ref().map_or(0, |s| s.all(&log_parcels));
    gauge.set_total(total);

    // How much is new is unknown before reading, but the manifest must fit in any case.
    let free = free_bytes(repo.root()).unwrap_or(0);
    let lines: u64 = tree.files.iter().map(|f| 1 + f.space.div_ceil(BLOCK_SIZE)).sum();
    check_room(repo.root(), lines * LINE * MOST_FRAMES as u64, Place::Repository)?;

    let pairs = hashes::in_pairs(tree.files.len());
    let mut pack = |source: &Source<'_>, parcels: &[Parcel]| {
        let next = AtomicUsize::new(0);
        crew.work(|| {
            let writer = partial.packer().writer()?;
            let (buffers, read, found) = Default::default();
            let mut worker = Worker { source, writer, buffers, read, pairs, found };
            while !gauge.stopped() {
                let Some(parcel) = parcels.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                worker.run(parcel)?;
            }
            worker.writer.close()?;
            Ok(worker.found)
        })
        .map_err(|e| with_needed_space(e, repo, partial.packer().added(), free, &gauge))
    };
    let found = pack(&source, &parcels)?;
    // In packs of its own: no later backup needs any of it.
    let log_blocks = match &log_source {
        Some(source) => pack(source, &log_parcels)?,
        None => Vec::new(),
    };
    let damaged = partial.packer().damaged();
    if !damaged.is_empty() {
        return Ok(Err(damaged));
    }
    // A missing block counts as zeros, so make sure that none was forgotten.
    assert_eq!(gauge.done(), total, "every byte was looked at");

    let stored = Mutex::new(None);
    let Source { root, .. } = source;
    let watched = crew.alone(|| {
        let stamps = tree.files.iter().map(|found| Some(found.stamp)).collect();
        let files = join(tree.files, found, unread);
        let logs = join(logs.0, log_blocks, Vec::new());
        let spans = journal.logs.iter().map(|(_, span)| span.clone());
        let logs = logs.into_iter().zip(spans).collect();
        let (gap, as_of, last_log) = (journal.gap.clone(), journal.as_of, journal.last_log.clone());
        let journal = StoredJournal { logs, gap, as_of, last_log };
        let backup = partial.finish(header, tree.dirs, files, journal)?;
        let known = Known::new(&backup.name, &root, conditions, stamps);
        *locked(&stored) = Some((backup, known));
        Ok(())
    });
    // A stop that arrives during the final rename is too late for this backup.
    let (backup, known) = match locked(&stored).take() {
        Some(stored) => stored,
        None => return watched.and(Err(Error::config("there is nothing to store"))),
    };
    format::tell(repo.root(), backup.raised);
    Ok(Ok(Stored {
        name: backup.name,
        size,
        stored: backup.manifest.stored,
        files: backup.manifest.files.len() as u64,
        damaged: Vec::new(),
        known,
    }))
}

/// Completes the error of a full disk: what was `free` before this partial backup, and will be
/// again once it is swept, and what the whole backup would have taken at this rate.
fn with_needed_space(
    error: Error,
    repo: &Repository,
    added: u64,
    free: u64,
    gauge: &Gauge,
) -> Error {
    match error {
        Error::DiskFull { path, needed: None, .. }
            if path.starts_with(repo.root()) && !lacks_inodes(repo.root()) =>
        {
            let share = gauge.total() as f64 / gauge.done().max(1) as f64;
            let whole = (added as f64 * share) as u64;
            let needed = (added > 0).then(|| whole.max(free + (1 << 20)));
            let (path, place) = (repo.root().to_path_buf(), Place::Repository);
            Error::DiskFull { path, free: Some(free), needed, inodes: false, place }
        }
        other => other,
    }
}

/// The logs of a journal, as files.
struct Logs(Vec<Found>);

impl Logs {
    fn find(journal: &Journal) -> Result<Logs> {
        let find = |(name, _): &(PathBuf, Span)| {
            let path = journal.dir.join(name);
            let log = files::open_no_link(&path).and_then(|log| log.metadata());
            log.map(|m| Found::new(name.clone(), &m)).doing("read", &path)
        };
        journal.logs.iter().map(find).collect::<Result<_>>().map(Logs)
    }

    fn source<'a>(&'a self, dir: &'a Path, gauge: &'a Gauge) -> Result<Option<Source<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let root = files::open_dir(dir).doing("open", dir)?;
        let is_unread = vec![false; self.0.len()];
        Ok(Some(Source { data: dir, root, files: &self.0, is_unread, gauge }))
    }
}

/// Merges what the workers stored with what needed no reading.
fn join(files: Vec<Found>, found: Vec<Vec<Item>>, unread: Vec<Item>) -> Vec<StoredFile> {
    let mut all = unread;
    found.into_iter().for_each(|found| all.extend(found));
    all.sort_unstable_by_key(|(file, number, ..)| (*file, *number));
    let mut all = all.into_iter().peekable();
    let mut out = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        let mut blocks = Vec::new();
        while let Some((_, number, chain)) = all.next_if(|(file, ..)| *file == index) {
            blocks.push((number, chain));
        }
        out.push(StoredFile { path: file.path, mode: file.mode, size: file.size, blocks });
    }
    out
}

struct Worker<'a> {
    source: &'a Source<'a>,
    writer: PackWriter<'a>,
    /// Blocks that were read.
    buffers: [Vec<u8>; 2],
    /// Which these are: files and numbers.
    read: Vec<(usize, u64)>,
    /// They are hashed two at a time.
    pairs: bool,
    found: Vec<Item>,
}

impl Worker<'_> {
    fn run(&mut self, parcel: &Parcel) -> Result<()> {
        let files = self.source.files;
        match parcel {
            Parcel::Run(index, blocks) => {
                let file = self.source.open(*index)?;
                let mut at = blocks.start;
                while at < blocks.end && !self.source.gauge.stopped() {
                    if files[*index].sparse {
                        let data = self.source.after_hole(*index, &file, at)?.min(blocks.end);
                        self.source.gauge.add(self.source.bytes(&Parcel::Run(*index, at..data)));
                        at = data;
                    }
                    if at < blocks.end {
                        self.block(*index, at, &file)?;
                        at += 1;
                    }
                }
                // Also after trailing zeros.
                self.source.check(*index, &file)?;
            }
            Parcel::Batch(batch) => {
                // Two contents are hashed at once as far as the shorter one reaches.
                let mut batch: Vec<usize> = batch.clone().collect();
                batch.sort_by_key(|index| files[*index].size);
                for index in batch {
                    if self.source.gauge.stopped() {
                        break;
                    }
                    let file = self.source.open(index)?;
                    if files[index].size > 0 {
                        self.block(index, 0, &file)?;
                        self.source.check(index, &file)?;
                    }
                }
            }
        }
        self.put()
    }

    fn block(&mut self, index: usize, number: u64, file: &File) -> Result<()> {
        let buffer = &mut self.buffers[self.read.len()];
        let start = number * BLOCK_SIZE;
        buffer.resize((self.source.files[index].size - start).min(BLOCK_SIZE) as usize, 0);
        file.read_exact_at(buffer, start).map_err(|e| self.source.fail(index, e))?;
        self.read.push((index, number));
        if self.pairs && self.read.len() < self.buffers.len() { Ok(()) } else { self.put() }
    }

    /// Stores the blocks that were read.
    fn put(&mut self) -> Result<()> {
        let source = self.source;
        let spots =
            self.read.iter().map(|(index, number)| Spot { source, index: *index, number: *number });
        let spots: Vec<_> = spots.collect();
        let blocks = spots.iter().zip(&mut self.buffers).map(|(spot, content)| {
            let place = place(&source.files[spot.index].path, spot.number);
            Block { content, place, origin: spot }
        });
        let mut blocks: Vec<_> = blocks.collect();
        let chains = self.writer.put(&mut blocks)?;
        let length = blocks.iter().map(|block| block.content.len() as u64).sum();
        for ((index, number), chain) in self.read.drain(..).zip(chains) {
            self.found.extend(chain.map(|chain| (index, number, chain)));
        }
        source.gauge.add(length);
        Ok(())
    }
}
