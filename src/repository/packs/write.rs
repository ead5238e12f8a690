//! Writes blocks into new packs, storing each content once.
//!
//! Every worker fills a pack of its own under `tmp/`. A full pack is synced and then renamed, so a
//! name in `packs/` always has its whole content. Blocks in an earlier pack or in this run are not
//! stored again, nor are zeros. Two workers may store the same new content at the same moment,
//! which only costs space. The caller decides which old packs to reuse.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

use super::{Fetcher, pack_path};
use crate::error::{Error, IoExt, Result};
use crate::os::sys;
use crate::os::workers::locked;
use crate::repository::manifest::{Hash, PackRef};

/// A pack is closed at this size.
const PACK_SIZE: u64 = 64 << 20;

/// Writeback starts after this many new bytes.
const WRITEBACK: u64 = 4 << 20;

/// Where a block is: an index into the pack table, and its frame.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    /// Index into the table of packs.
    pub pack: u32,
    /// Where the frame begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
}

/// The blocks that can be reused and, in the end, all that exist.
#[derive(Debug, Default)]
pub struct Table {
    /// Old packs, then those of this run; `None` while one is being written.
    pub packs: Vec<Option<PackRef>>,
    /// Locations by content.
    pub blocks: HashMap<Hash, Location>,
    /// Packs below this index were not restored in this pass, so their blocks are read and checked
    /// before reuse.
    pub unverified: u32,
}

/// State shared by the workers of one store.
#[derive(Debug)]
pub struct Packer<'a> {
    root: &'a Path,
    level: i32,
    table: Mutex<Table>,
    fresh: Mutex<Fresh>,
    /// Bytes written to packs, finished or not.
    added: AtomicU64,
}

/// What this run added to the repository.
#[derive(Debug, Default)]
struct Fresh {
    /// Packs that were not there before.
    paths: Vec<PathBuf>,
    /// Directories with a new name in them.
    dirs: BTreeSet<PathBuf>,
    /// Bytes of all packs written.
    bytes: u64,
}

impl<'a> Packer<'a> {
    /// Stores into the repository `root`, reusing the blocks in `known`.
    pub fn new(root: &'a Path, level: i32, known: Table) -> Packer<'a> {
        Packer {
            root,
            level,
            table: Mutex::new(known),
            fresh: Mutex::default(),
            added: AtomicU64::new(0),
        }
    }

    /// Bytes written to packs so far.
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// A writer for one worker.
    pub fn writer(&self) -> Result<PackWriter<'_>> {
        let zstd = Compressor::new(self.level).doing("compress to", self.root)?;
        let fetcher = Fetcher::new(self.root)?;
        Ok(PackWriter { packer: self, zstd, frame: Vec::new(), pack: None, fetcher })
    }

    /// Syncs the names of all new packs, and returns the table and the bytes added.
    pub fn finish(&self) -> Result<(Table, u64)> {
        let fresh = locked(&self.fresh);
        for dir in &fresh.dirs {
            sync_dir(dir)?;
        }
        Ok((std::mem::take(&mut *locked(&self.table)), fresh.bytes))
    }

    /// Removes the packs this run added, as far as possible, so that attempts that fail for lack of
    /// space do not fill the disk.
    pub fn abandon(&self) {
        for path in locked(&self.fresh).paths.drain(..) {
            let _ = fs::remove_file(path);
        }
    }

    /// Moves a finished pack to its name.
    fn publish(&self, pack: OpenPack) -> Result<()> {
        let path = &pack.path;
        pack.file.sync_all().doing("write", path)?;
        let hash = Hash::from(pack.sum.finalize());
        let name = pack_path(self.root, &hash);
        let packs = self.root.join("packs");
        let dir = packs.join(&crate::repository::manifest::hex(&hash)[..2]);
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.ignoring(io::ErrorKind::AlreadyExists).doing("create", &dir)?;
        if !dir.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            return Err(Error::config(format!("{} is not a directory: remove it", dir.display())));
        }
        // An existing pack with this name has the same content unless it is damaged, and then this
        // repairs it. It may belong to another backup, so a failure must not remove it.
        let new = name.symlink_metadata().is_err();
        fs::rename(path, &name).doing("rename to", &name)?;
        let mut fresh = locked(&self.fresh);
        fresh.dirs.extend([packs, dir]);
        fresh.bytes += pack.size;
        if new {
            fresh.paths.push(name);
        }
        locked(&self.table).packs[pack.index] = Some(PackRef { hash, size: pack.size });
        Ok(())
    }
}

/// Syncs a directory, making its entries durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).doing("sync", path)
}

/// Stores blocks for one worker.
pub struct PackWriter<'a> {
    packer: &'a Packer<'a>,
    zstd: Compressor<'static>,
    frame: Vec<u8>,
    pack: Option<OpenPack>,
    fetcher: Fetcher<'a>,
}

struct OpenPack {
    file: File,
    path: PathBuf,
    index: usize,
    sum: Sha256,
    size: u64,
    /// How much of it is being written back.
    written_back: u64,
}

impl PackWriter<'_> {
    /// Stores a block and returns its hash and location; `None` for zeros.
    pub fn put(&mut self, content: &[u8]) -> Result<Option<(Hash, Location)>> {
        if is_zero(content) {
            return Ok(None);
        }
        let hash = Hash::from(Sha256::digest(content));
        if let Some(place) = self.known(&hash, content.len()) {
            return Ok(Some((hash, place)));
        }
        self.frame.resize(zstd::zstd_safe::compress_bound(content.len()), 0);
        let root = self.packer.root;
        let length = self
            .zstd
            .compress_to_buffer(content, &mut self.frame[..])
            .doing("compress to", root)?;
        let place = self.append(length)?;
        locked(&self.packer.table).blocks.insert(hash, place);
        if self.pack.as_ref().is_some_and(|p| p.size >= PACK_SIZE) {
            self.close()?;
        }
        Ok(Some((hash, place)))
    }

    /// The location of content that is stored already, if it is good.
    fn known(&mut self, hash: &Hash, size: usize) -> Option<Location> {
        let (place, pack) = {
            let table = locked(&self.packer.table);
            let place = *table.blocks.get(hash)?;
            if place.pack >= table.unverified {
                return Some(place);
            }
            (place, table.packs[place.pack as usize]?)
        };
        let found = self.fetcher.fetch(&pack, place.offset, place.length, size, hash);
        found.is_ok().then_some(place)
    }

    fn append(&mut self, length: usize) -> Result<Location> {
        if self.pack.is_none() {
            self.pack = Some(self.open()?);
        }
        let Some(pack) = &mut self.pack else { unreachable!("it was just opened") };
        let frame = &self.frame[..length];
        pack.file.write_all(frame).doing("write", &pack.path)?;
        pack.sum.update(frame);
        let place = Location { pack: pack.index as u32, offset: pack.size, length: length as u32 };
        pack.size += length as u64;
        self.packer.added.fetch_add(length as u64, Ordering::Relaxed);
        if pack.size - pack.written_back >= WRITEBACK {
            sys::start_writeback(&pack.file, pack.written_back, pack.size - pack.written_back);
            pack.written_back = pack.size;
        }
        Ok(place)
    }

    fn open(&self) -> Result<OpenPack> {
        let index = {
            let packs = &mut locked(&self.packer.table).packs;
            packs.push(None);
            packs.len() - 1
        };
        let path = self.packer.root.join(format!("tmp/pack-{index}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.doing("create", &path)?;
        Ok(OpenPack { file, path, index, sum: Sha256::new(), size: 0, written_back: 0 })
    }

    /// Finishes the open pack; the next block starts another one.
    pub fn close(&mut self) -> Result<()> {
        self.pack.take().map_or(Ok(()), |pack| self.packer.publish(pack))
    }
}

fn is_zero(content: &[u8]) -> bool {
    // Compares with the C library's memcmp, which is vectorized in any build.
    static ZEROS: [u8; 4096] = [0; 4096];
    content.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_known_to_the_last_byte() {
        let mut content = vec![0; 10_001];
        assert!(is_zero(&content) && is_zero(&[]));
        for at in [0, 4095, 4096, 10_000] {
            content[at] = 1;
            assert!(!is_zero(&content), "{at}");
            content[at] = 0;
        }
    }
}
