//! The files to be stored, and how they are shared out among the workers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::os::syncs;
use crate::os::sys::{next_data, open_below};
use crate::os::workers::Gauge;
use crate::repository::data_dir::Found;
use crate::repository::manifest::BLOCK_SIZE;
use crate::repository::packs::write::{CHANGED, Origin};
use crate::repository::parcels::{parcel_size, spread};

/// The most small files in a batch.
const BATCH: usize = 256;

/// A directory of files to be stored.
pub(super) struct Source<'a> {
    pub(super) data: &'a Path,
    pub(super) root: File,
    pub(super) files: &'a [Found],
    /// Those that are as in the base.
    pub(super) is_unread: Vec<bool>,
    pub(super) gauge: &'a Gauge,
}

/// A unit of work for one worker.
pub(super) enum Parcel {
    /// Small files, whole.
    Batch(Range<usize>),
    /// A run of blocks of a large file.
    Run(usize, Range<u64>),
}

impl Source<'_> {
    /// Splits all files into parcels, skipping holes.
    pub(super) fn split(&self, jobs: usize) -> Result<Vec<Parcel>> {
        let space = self.files.iter().map(|f| f.space).sum();
        // Two blocks are hashed together.
        let run = parcel_size(space, jobs, 2 * BLOCK_SIZE) / BLOCK_SIZE;
        let mut parcels = Vec::new();
        let mut next = 0;
        while let Some(found) = self.files.get(next) {
            if self.gauge.stopped() {
                break;
            }
            if self.is_unread[next] {
                next += 1;
                continue;
            }
            if found.size <= BLOCK_SIZE {
                let batch = self.batch(next);
                next = batch.end;
                parcels.push(Parcel::Batch(batch));
                continue;
            }
            let blocks = found.size.div_ceil(BLOCK_SIZE);
            let file = if found.sparse { Some(self.open(next)?) } else { None };
            let mut at = 0;
            while at < blocks {
                if let Some(file) = &file {
                    at = self.after_hole(next, file, at)?;
                }
                let end = (at + run).min(blocks);
                if at < end {
                    parcels.push(Parcel::Run(next, at..end));
                }
                at = end;
            }
            next += 1;
        }
        Ok(spread(parcels))
    }

    /// A batch of small files starting at `first`.
    fn batch(&self, first: usize) -> Range<usize> {
        let mut bytes = 0;
        let rest = self.files.iter().zip(&self.is_unread).skip(first).take(BATCH);
        let more = rest.take_while(|(found, unread)| {
            bytes += found.size;
            bytes <= BLOCK_SIZE && !**unread
        });
        // The first one fits.
        first..first + more.count()
    }

    /// The block at `at`, or the first one after it with data.
    pub(super) fn after_hole(&self, index: usize, file: &File, at: u64) -> Result<u64> {
        let size = self.files[index].size;
        let data = next_data(file, at * BLOCK_SIZE).map_err(|e| self.fail(index, e))?;
        Ok(match data {
            Some(data) if data < size => (data / BLOCK_SIZE).max(at),
            _ => size.div_ceil(BLOCK_SIZE),
        })
    }

    /// The size of these parcels in bytes.
    pub(super) fn all(&self, parcels: &[Parcel]) -> u64 {
        parcels.iter().map(|parcel| self.bytes(parcel)).sum()
    }

    /// The size of a parcel in bytes.
    pub(super) fn bytes(&self, parcel: &Parcel) -> u64 {
        match parcel {
            Parcel::Batch(files) => self.files[files.clone()].iter().map(|f| f.size).sum(),
            Parcel::Run(file, blocks) => {
                let end = (blocks.end * BLOCK_SIZE).min(self.files[*file].size);
                end - blocks.start * BLOCK_SIZE
            }
        }
    }

    pub(super) fn open(&self, index: usize) -> Result<File> {
        let found = &self.files[index];
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let file = open_below(&self.root, &found.path, flags, 0);
        let file = file.map_err(|e| self.fail(index, e))?;
        self.check(index, &file)?;
        Ok(file)
    }

    /// Fails if the file has changed since the walk, or not all that was written to it could be kept:
    /// nobody who wrote it has synced it.
    pub(super) fn check(&self, index: usize, file: &File) -> Result<()> {
        syncs::failed(file).map_err(|e| self.fail(index, e))?;
        let now = file.metadata().map_err(|e| self.fail(index, e))?;
        if self.files[index].is_unchanged(&now) {
            return Ok(());
        }
        Err(self.fail(index, io::Error::other(CHANGED)))
    }

    pub(super) fn fail(&self, index: usize, e: io::Error) -> Error {
        Error::io("read", &self.data.join(&self.files[index].path), e)
    }
}

/// A block of one of these files.
pub(super) struct Spot<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) index: usize,
    pub(super) number: u64,
}

impl Origin for Spot<'_> {
    fn read(&self, content: &mut [u8]) -> Result<()> {
        let file = self.source.open(self.index)?;
        file.read_exact_at(content, self.number * BLOCK_SIZE).map_err(|e| self.fail(e))
    }

    fn fail(&self, e: io::Error) -> Error {
        self.source.fail(self.index, e)
    }
}
