//! Writes blocks into new packs, storing each content once.
//!
//! Every worker fills a pack of its own under `tmp/`. A full pack is synced and then renamed, so a
//! name in `packs/` always has its whole content. Blocks in an earlier pack or in this run are not
//! stored again, nor are zeros. Two workers may store the same new content at the same moment,
//! which only costs space. The caller decides which old packs to reuse.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use zstd::bulk::Compressor;

use super::difference::Chooser;
use super::xor::is_zero;
use super::{Fault, Fetcher, hashes, make_room, pack_path};
use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::sys;
use crate::os::workers::locked;
use crate::repository::manifest::{Chain, Frame, Hash, Link, PackRef};

/// A pack is closed at this size.
const PACK_SIZE: u64 = 64 << 20;

/// A difference is stored if it is smaller than two fifths of the whole block. Larger ones, night after
/// night, would add up to more than the block does that is stored whole once.
const SHARE: (usize, usize) = (5, 2);

/// What is wrong with a file that is not the same to the end.
pub const CHANGED: &str = "it changed while being read";

/// Writeback starts after this many new bytes.
const WRITEBACK: u64 = 4 << 20;

/// The blocks that can be reused and, in the end, all that exist. Numbers of packs and chains are those
/// of these lists.
#[derive(Debug, Default)]
pub struct Table {
    /// Old packs, then those of this run; `None` while one is being written.
    pub packs: Vec<Option<PackRef>>,
    /// The links of all chains.
    pub links: Vec<Link>,
    /// Chains by the content of their first link, of which the beginning tells enough.
    blocks: HashMap<[u8; 8], Chain>,
    /// What the base has at a place: see [`place`].
    earlier: HashMap<u64, Chain>,
    /// Packs below this index were not restored in this pass, so their blocks are read and checked
    /// before reuse.
    pub unverified: u32,
}

impl Table {
    /// Appends a chain; `None` if there are too many.
    pub fn push(&mut self, links: &[Link]) -> Option<Chain> {
        Chain::push(&mut self.links, links.iter().copied())
    }

    /// The content of the chain need not be stored again.
    pub fn reuse(&mut self, chain: Chain) {
        let hash = chain.of(&self.links)[0].hash;
        self.blocks.entry(beginning(&hash)).or_insert(chain);
    }

    /// What is stored for the place from now on may be a difference to the chain.
    pub fn precede(&mut self, place: u64, chain: Chain) {
        self.earlier.insert(place, chain);
    }

    fn find(&self, hash: &Hash) -> Option<Chain> {
        let chain = *self.blocks.get(&beginning(hash))?;
        (chain.of(&self.links)[0].hash == *hash).then_some(chain)
    }
}

fn beginning(hash: &Hash) -> [u8; 8] {
    let (beginning, _) = hash.split_first_chunk().expect("a hash is longer");
    *beginning
}

/// A number for the block `number` of the file `path`. Another place with the same number would only
/// make for a poor difference.
pub fn place(path: &Path, number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, number).hash(&mut hasher);
    hasher.finish()
}

/// State shared by the workers of one store.
#[derive(Debug)]
pub struct Packer<'a> {
    root: &'a Path,
    level: i32,
    /// The packs that are there before this run.
    old: Vec<PackRef>,
    table: Mutex<Table>,
    fresh: Mutex<Fresh>,
    /// Old packs in which damage was found, and what it is.
    damaged: Mutex<Vec<(PackRef, String)>>,
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
            old: known.packs.iter().filter_map(|pack| *pack).collect(),
            table: Mutex::new(known),
            fresh: Mutex::default(),
            damaged: Mutex::default(),
            added: AtomicU64::new(0),
        }
    }

    /// Bytes written to packs so far.
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// A writer for one worker.
    pub fn writer(&self) -> Result<PackWriter<'_>> {
        let mut zstd = Compressor::new(self.level).doing("compress to", self.root)?;
        // So that a base is known to be right without hashing all of it.
        zstd.include_checksum(true).doing("compress to", self.root)?;
        let fetcher = Fetcher::new(self.root)?;
        let chooser = Chooser::default();
        Ok(PackWriter { packer: self, zstd, chooser, pack: None, fetcher })
    }

    /// Old packs in which damage was found, and what it is: blocks of them that were reused before may
    /// be damaged, too.
    pub fn damaged(&self) -> Vec<(PackRef, String)> {
        std::mem::take(&mut *locked(&self.damaged))
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
            let what = files::no_directory(&dir);
            return Err(Error::config(format!("{} {what}: remove it", dir.display())));
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

/// A block to be stored.
pub struct Block<'a> {
    /// What is in it. It is overwritten.
    pub content: &'a mut [u8],
    /// Its [`place`].
    pub place: u64,
    /// Where it comes from.
    pub origin: &'a dyn Origin,
}

/// Where a block was read, for the case that it is needed once more.
pub trait Origin {
    /// Reads it once more.
    ///
    /// # Errors
    /// That of the file.
    fn read(&self, content: &mut [u8]) -> Result<()>;
    /// The error `e` of its file.
    fn fail(&self, e: io::Error) -> Error;
}

/// Stores blocks for one worker.
pub struct PackWriter<'a> {
    packer: &'a Packer<'a>,
    zstd: Compressor<'static>,
    chooser: Chooser,
    pack: Option<OpenPack>,
    /// What is compressed is in the frame of this: memory for one frame is enough.
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
    /// Stores one or two blocks, and returns their chains; `None` for zeros.
    ///
    /// # Errors
    /// A full disk, or the error from the system; those of [`Origin`].
    pub fn put(&mut self, blocks: &mut [Block<'_>]) -> Result<[Option<Chain>; 2]> {
        let set: Vec<_> = blocks.iter().map(|block| !is_zero(block.content)).collect();
        let contents = blocks.iter().zip(&set).filter(|(_, set)| **set);
        let contents: Vec<_> = contents.map(|(block, _)| &*block.content).collect();
        let mut hashes = hashes::of(&contents).into_iter();
        let mut chains = [None; 2];
        for ((block, chain), set) in blocks.iter_mut().zip(&mut chains).zip(set) {
            if set && let Some(hash) = hashes.next() {
                *chain = Some(self.put_one(block, hash)?);
            }
        }
        Ok(chains)
    }

    fn put_one(&mut self, block: &mut Block<'_>, hash: Hash) -> Result<Chain> {
        if let Some(chain) = self.known(&hash, block.content.len()) {
            return Ok(chain);
        }
        let (length, bases) = match self.difference(block, &hash)? {
            Some(difference) => difference,
            None => (self.compress(block.content)?, Vec::new()),
        };
        let frame = self.append(length)?;
        let chain = {
            let mut table = locked(&self.packer.table);
            let links = std::iter::once(Link { hash, frame }).chain(bases);
            let chain = Chain::push(&mut table.links, links);
            let chain = chain.ok_or_else(|| Error::config("too many blocks for one backup"))?;
            table.blocks.insert(beginning(&hash), chain);
            chain
        };
        if self.pack.as_ref().is_some_and(|p| p.size >= PACK_SIZE) {
            self.close()?;
        }
        Ok(chain)
    }

    /// The chain of content that is stored already, if it is good.
    fn known(&mut self, hash: &Hash, size: usize) -> Option<Chain> {
        let (chain, links) = {
            let table = locked(&self.packer.table);
            let chain = table.find(hash)?;
            let links = chain.of(&table.links);
            if links[0].frame.pack >= table.unverified {
                return Some(chain);
            }
            (chain, links.to_vec())
        };
        self.fetcher.fetch(&self.packer.old, &links, size).is_ok().then_some(chain)
    }

    /// Compresses the difference to what the base has at the place, if that is much smaller than the
    /// content would be; returns the length of the frame, and the links that it needs. Otherwise the block
    /// is as it was.
    fn difference(
        &mut self,
        block: &mut Block<'_>,
        hash: &Hash,
    ) -> Result<Option<(usize, Vec<Link>)>> {
        let links = {
            let table = locked(&self.packer.table);
            let Some(chain) = table.earlier.get(&block.place) else { return Ok(None) };
            chain.of(&table.links).to_vec()
        };
        let (fetcher, old) = (&mut self.fetcher, &self.packer.old);
        match self.chooser.choose(fetcher, old, &links, block.content) {
            Ok(Some(bases)) => {
                let length = self.compress(block.content)?;
                let whole = bases.last().map_or(0, |whole| whole.frame.length as usize);
                if length * SHARE.0 < whole * SHARE.1 {
                    return Ok(Some((length, bases.to_vec())));
                }
            }
            Ok(None) => {}
            Err((_, Fault::Failed(e))) => return Err(e),
            Err((pack, Fault::Damaged(what))) => locked(&self.packer.damaged).push((pack, what)),
        }
        block.origin.read(block.content)?;
        if Hash::from(Sha256::digest(&*block.content)) != *hash {
            return Err(block.origin.fail(io::Error::other(CHANGED)));
        }
        Ok(None)
    }

    /// Compresses into a frame, and returns its length.
    fn compress(&mut self, content: &[u8]) -> Result<usize> {
        let frame = &mut self.fetcher.frame;
        make_room(frame, zstd::zstd_safe::compress_bound(content.len()));
        let length = self.zstd.compress_to_buffer(content, &mut frame[..]);
        length.doing("compress to", self.packer.root)
    }

    /// Appends the frame of so many bytes to the open pack.
    fn append(&mut self, length: usize) -> Result<Frame> {
        if self.pack.is_none() {
            self.pack = Some(self.open()?);
        }
        let Some(pack) = &mut self.pack else { unreachable!("it was just opened") };
        let (index, offset, frame) = (pack.index as u32, pack.size, &self.fetcher.frame[..length]);
        pack.file.write_all(frame).doing("write", &pack.path)?;
        pack.sum.update(frame);
        pack.size += length as u64;
        self.packer.added.fetch_add(length as u64, Ordering::Relaxed);
        if pack.size - pack.written_back >= WRITEBACK {
            sys::start_writeback(&pack.file, pack.written_back, pack.size - pack.written_back);
            pack.written_back = pack.size;
        }
        Ok(Frame { pack: index, offset, length: length as u32 })
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
