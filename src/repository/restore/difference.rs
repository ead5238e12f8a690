//! What a restore would do to a directory. Changes nothing.
//!
//! It reads no pack but those that were set aside as damaged: whether a restore would end well with
//! their blocks shows only when they are read.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::destination;
use super::gate::Gate;
use super::survey::Survey;
use crate::error::Result;
use crate::os::files;
use crate::os::sys;
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::{Repository, damaged};
use crate::repository::held::Held;
use crate::repository::manifest::{Block, FileEntry, Hash, Link, PackRef};
use crate::repository::packs::{self, Fault, Fetcher};

/// It, in numbers.
#[derive(Debug)]
pub struct Difference {
    /// Bytes that would be written.
    pub written: u64,
    /// What is there.
    pub found: Survey,
}

/// Compares the backup `held` with what is in the directory `path`, which need not exist.
///
/// # Errors
/// [`crate::error::Error::BackupDamaged`] as a restore would end with it, as far as packs are missing, too
/// short or set aside; a disk without room; those of the
/// system; the watch's own.
pub fn of(repo: &Repository, held: &Held, path: &Path, crew: &mut Crew<'_>) -> Result<Difference> {
    let manifest = &held.manifest;
    let gauge = crew.gauge();
    let gate = Gate::of(manifest);
    let (root, found) = crew.alone(|| {
        let look = |pack| packs::look_for_reading(repo.root(), pack);
        let needed = manifest.packs_of(manifest.files.iter());
        needed.iter().try_for_each(look).map_err(|what| damaged(&held.name, what))?;
        let root = files::open_dir(path).ok();
        let found = match &root {
            Some(root) => Survey::of(root, path, manifest, &[], Some(&gate))?,
            None => Survey::default(),
        };
        let there = path.ancestors().find(|dir| dir.exists()).unwrap_or(path);
        destination::check_space(there, manifest, &found)?;
        Ok((root, found))
    })?;
    gauge.set_total(manifest.size);
    let (next, written) = (AtomicUsize::new(0), AtomicU64::new(0));
    let is_marked = root.as_ref().is_some_and(|root| gate.is_marked(root));
    let is_aside = |pack: &PackRef| packs::look(repo.root(), pack).is_err();
    let aside: Vec<bool> = manifest.packs.iter().map(is_aside).collect();
    crew.work(|| {
        let (held, aside, gauge) = (held, aside.as_slice(), &gauge);
        let (buffer, fetcher) = (Vec::new(), Fetcher::new(repo.root())?);
        let mut worker = Worker { held, aside, gauge, buffer, fetcher };
        while let Some(entry) = manifest.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if gauge.stopped() {
                break;
            }
            let place = if is_marked { gate.place(&entry.path) } else { &entry.path };
            let file = root.as_ref().and_then(|root| open(root, place));
            written.fetch_add(worker.missing(entry, file.as_ref())?, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(Difference { written: written.into_inner(), found })
}

/// A file that would be written to; any other would be replaced.
fn open(root: &File, path: &Path) -> Option<File> {
    let file = sys::open_below(root, path, libc::O_RDONLY | libc::O_NONBLOCK, 0).ok()?;
    let m = file.metadata().ok()?;
    (m.is_file() && m.nlink() == 1).then_some(file)
}

struct Worker<'a> {
    held: &'a Held,
    /// Of each pack of the backup: it was set aside.
    aside: &'a [bool],
    gauge: &'a Gauge,
    buffer: Vec<u8>,
    fetcher: Fetcher<'a>,
}

impl Worker<'_> {
    /// Bytes of the file `entry` that are not in `file`.
    fn missing(&mut self, entry: &FileEntry, file: Option<&File>) -> Result<u64> {
        let manifest = &self.held.manifest;
        let mut bytes = 0;
        for piece in entry.pieces(manifest.block_size) {
            if self.gauge.stopped() {
                break;
            }
            let Block::Stored(chain) = piece.block else { continue };
            let (links, size) = (chain.of(&manifest.links), piece.length as usize);
            let buffer = &mut self.buffer;
            buffer.resize(size, 0);
            let has = file.is_some_and(|file| {
                file.read_exact_at(buffer, piece.offset).is_ok()
                    && Hash::from(Sha256::digest(&buffer[..])) == links[0].hash
            });
            if !has {
                if links.iter().any(|link| self.aside[link.frame.pack as usize]) {
                    self.try_block(entry, links, size)?;
                }
                bytes += piece.length;
            }
            self.gauge.add(piece.length);
        }
        Ok(bytes)
    }

    fn try_block(&mut self, entry: &FileEntry, links: &[Link], size: usize) -> Result<()> {
        match self.fetcher.fetch(&self.held.manifest.packs, links, size) {
            Ok(_) => Ok(()),
            Err((_, Fault::Failed(e))) => Err(e),
            Err((_, Fault::Damaged(what))) => {
                let what = format!("{what}, and {} needs it", entry.path.display());
                Err(damaged(&self.held.name, what))
            }
        }
    }
}
