//! Packs: where they are, and how a block is read from one.
//!
//! A pack is a sequence of zstd frames, named by the SHA-256 of the whole. [`Fetcher::fetch`]
//! returns only content that matches its hash, and needs memory for one frame and one block
//! whatever the pack claims. Writing is in [`write`]. Only these two files use zstd.

pub mod write;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zstd::bulk::Decompressor;

use crate::error::{Error, IoExt, Result};
use crate::os::workers::Gauge;
use crate::repository::manifest::{Hash, PackRef, hex};

/// Open packs per worker, so that blocks from a few alternating packs need no reopening.
const KEPT_OPEN: usize = 16;

/// Why a block or a pack could not be read.
#[derive(Debug)]
pub enum Fault {
    /// The content is wrong.
    Damaged(String),
    /// The system failed, which says nothing about the pack.
    Failed(Error),
}

/// The file of a pack in the repository `root`.
pub fn pack_path(root: &Path, hash: &Hash) -> PathBuf {
    let name = hex(hash);
    root.join("packs").join(&name[..2]).join(name)
}

/// The new path of a pack found damaged.
pub fn damaged_path(root: &Path, hash: &Hash) -> PathBuf {
    pack_path(root, hash).with_extension("damaged")
}

/// A quick check that the pack exists with its size; the error says what is wrong.
pub fn look(root: &Path, pack: &PackRef) -> Result<(), String> {
    let name = hex(&pack.hash);
    match pack_path(root, &pack.hash).symlink_metadata() {
        Ok(m) if !m.is_file() => Err(format!("pack {name} is not a file")),
        Ok(m) if m.len() != pack.size => {
            Err(format!("pack {name} has {} bytes instead of {}", m.len(), pack.size))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let aside = damaged_path(root, &pack.hash).exists();
            let what = if aside { "was found damaged and set aside" } else { "is missing" };
            Err(format!("pack {name} {what}"))
        }
        Err(e) => Err(format!("pack {name}: {e}")),
    }
}

/// Like [`look`], but accepts a pack that was set aside, since some of its blocks may be good.
pub fn look_for_reading(root: &Path, pack: &PackRef) -> Result<(), String> {
    let aside = damaged_path(root, &pack.hash).symlink_metadata();
    let usable = aside.is_ok_and(|m| m.is_file() && m.len() == pack.size);
    if usable { Ok(()) } else { look(root, pack) }
}

fn open(root: &Path, pack: &PackRef, path: &Path) -> Result<File, Fault> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.and_then(|f| Ok((f.metadata()?, f)));
    match file {
        Ok((m, file)) if m.is_file() && m.len() == pack.size => Ok(file),
        Err(e)
            if !matches!(
                e.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO | libc::ENODEV)
            ) =>
        {
            Err(fault(path, pack, e))
        }
        _ => Err(Fault::Damaged(look(root, pack).err().unwrap_or_else(|| {
            let name = hex(&pack.hash);
            format!("pack {name} was replaced while it was being opened")
        }))),
    }
}

/// An unreadable medium is damage; a missing permission or lack of memory is not.
fn fault(path: &Path, pack: &PackRef, e: io::Error) -> Fault {
    match e.raw_os_error() {
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => {
            Fault::Damaged(format!("pack {} cannot be read: {e}", hex(&pack.hash)))
        }
        None if e.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::Damaged(format!("pack {} is truncated", hex(&pack.hash)))
        }
        _ => Fault::Failed(Error::io("read", path, e)),
    }
}

/// Reads a whole pack and compares it with its name. Returns early if the gauge is stopped.
pub fn check_pack(root: &Path, pack: &PackRef, gauge: &Gauge) -> Result<(), Fault> {
    let path = pack_path(root, &pack.hash);
    let mut file = open(root, pack, &path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(fault(&path, pack, e)),
        };
        sum.update(&buffer[..n]);
        gauge.add(n as u64);
        if gauge.stopped() {
            return Ok(());
        }
    }
    if Hash::from(sum.finalize()) != pack.hash {
        return Err(Fault::Damaged(format!("pack {} does not match its name", hex(&pack.hash))));
    }
    Ok(())
}

/// Reads blocks. Each worker has its own.
pub struct Fetcher<'a> {
    root: &'a Path,
    open: Vec<(Hash, File)>,
    zstd: Decompressor<'static>,
    frame: Vec<u8>,
    content: Vec<u8>,
}

impl<'a> Fetcher<'a> {
    /// A reader for the repository `root`.
    pub fn new(root: &'a Path) -> Result<Fetcher<'a>> {
        let zstd = Decompressor::new().doing("decompress from", root)?;
        Ok(Fetcher { root, open: Vec::new(), zstd, frame: Vec::new(), content: Vec::new() })
    }

    /// The block of `size` bytes with this `hash`, from its frame.
    pub fn fetch(
        &mut self,
        pack: &PackRef,
        offset: u64,
        length: u32,
        size: usize,
        hash: &Hash,
    ) -> Result<&[u8], Fault> {
        let file = match self.open.iter().position(|(h, _)| *h == pack.hash) {
            Some(at) => &self.open[at].1,
            None => {
                if self.open.len() == KEPT_OPEN {
                    self.open.remove(0);
                }
                self.open.push((pack.hash, self.open(pack)?));
                &self.open[self.open.len() - 1].1
            }
        };
        self.frame.resize(length as usize, 0);
        file.read_exact_at(&mut self.frame, offset)
            .map_err(|e| fault(&pack_path(self.root, &pack.hash), pack, e))?;
        // The buffer is the limit: a frame that would exceed it is an error.
        self.content.resize(size, 0);
        let got = self.zstd.decompress_to_buffer(&self.frame[..], &mut self.content[..]);
        let good =
            got.is_ok_and(|n| n == size) && Hash::from(Sha256::digest(&self.content)) == *hash;
        if !good {
            let pack = hex(&pack.hash);
            let text = format!("the block at {offset} of pack {pack} does not match its checksum");
            return Err(Fault::Damaged(text));
        }
        Ok(&self.content)
    }

    fn open(&self, pack: &PackRef) -> Result<File, Fault> {
        let first = open(self.root, pack, &pack_path(self.root, &pack.hash));
        if let Err(Fault::Damaged(_)) = first {
            // Every block is checked on its own, so a pack set aside still serves its good ones.
            let aside = damaged_path(self.root, &pack.hash);
            return open(self.root, pack, &aside).or(first);
        }
        first
    }
}
