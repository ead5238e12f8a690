//! What a restore would do to a directory. Changes nothing.

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
use crate::repository::manifest::{Block, FileEntry, Hash};
use crate::repository::packs;

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
/// [`crate::error::Error::BackupDamaged`] where packs are missing; a disk without room; those of the
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
    crew.work(|| {
        let mut buffer = Vec::new();
        while let Some(entry) = manifest.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if gauge.stopped() {
                break;
            }
            let place = if is_marked { gate.place(&entry.path) } else { &entry.path };
            let file = root.as_ref().and_then(|root| open(root, place));
            let bytes = missing(held, entry, file.as_ref(), &mut buffer, &gauge);
            written.fetch_add(bytes, Ordering::Relaxed);
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

/// Bytes of the file `entry` that are not in `file`.
fn missing(
    held: &Held,
    entry: &FileEntry,
    file: Option<&File>,
    buffer: &mut Vec<u8>,
    gauge: &Gauge,
) -> u64 {
    let manifest = &held.manifest;
    let mut bytes = 0;
    for piece in entry.pieces(manifest.block_size) {
        if gauge.stopped() {
            break;
        }
        let Block::Stored(chain) = piece.block else { continue };
        buffer.resize(piece.length as usize, 0);
        let has = file.is_some_and(|file| {
            file.read_exact_at(buffer, piece.offset).is_ok()
                && Hash::from(Sha256::digest(&buffer[..])) == chain.of(&manifest.links)[0].hash
        });
        bytes += if has { 0 } else { piece.length };
        gauge.add(piece.length);
    }
    bytes
}
