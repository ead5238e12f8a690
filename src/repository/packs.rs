//! Packs: where they are, and how a block is read from one.
//!
//! A pack is a sequence of zstd frames, named by the SHA-256 of the whole. [`Fetcher::fetch`]
//! returns only content that matches its hash, and needs memory for one frame and one block
//! whatever the pack claims. Writing is in [`write`].

pub mod buffer;
mod difference;
pub mod hashes;
pub mod write;
mod xor;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zstd::bulk::Decompressor;

use buffer::Buffer;
use xor::add;

use crate::error::{Error, IoExt, Result};
use crate::os::workers::Gauge;
use crate::repository::manifest::{Frame, Hash, Link, PackRef, hex};
use crate::text::system_text;

/// A pack is closed when it reaches 64 MiB, and no frame is much larger than the largest block.
const LARGEST: u64 = 256 << 20;

/// Open packs per worker, so that blocks from a few alternating packs need no reopening.
const KEPT_OPEN: usize = 16;

/// Where a frame says what its header has, and the bit of a checksum behind the content: RFC 8878,
/// 3.1.1.1.1.
const DESCRIPTOR: usize = 4;
const CHECKSUM: u8 = 1 << 2;

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
        Err(e) => Err(format!("pack {name}: {}", system_text(&e))),
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
            Fault::Damaged(format!("pack {} cannot be read: {}", hex(&pack.hash), system_text(&e)))
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
    let file = open(root, pack, &path)?;
    let sum = sum_of(file, gauge).map_err(|e| fault(&path, pack, e))?;
    if sum.is_some_and(|sum| sum != pack.hash) {
        return Err(Fault::Damaged(format!("pack {} does not match its name", hex(&pack.hash))));
    }
    Ok(())
}

/// True if what is in the place of a pack matches its name, whatever size a manifest says that it has.
/// Also if the gauge is stopped.
///
/// # Errors
/// That of the system; a file that cannot be opened or read because of damage does not match.
pub fn is_whole(root: &Path, hash: &Hash, gauge: &Gauge) -> Result<bool> {
    let path = pack_path(root, hash);
    let Ok(m) = path.symlink_metadata() else { return Ok(false) };
    // No pack is larger, and reading something else may take days.
    if !m.is_file() || m.len() > LARGEST {
        return Ok(false);
    }
    let pack = PackRef { hash: *hash, size: m.len() };
    match check_pack(root, &pack, gauge) {
        Ok(()) => Ok(true),
        Err(Fault::Damaged(_)) => Ok(false),
        Err(Fault::Failed(e)) => Err(e),
    }
}

/// The checksum of a file; `None` if the gauge is stopped.
fn sum_of(mut file: File, gauge: &Gauge) -> io::Result<Option<Hash>> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        sum.update(&buffer[..n]);
        gauge.add(n as u64);
        if gauge.stopped() {
            return Ok(None);
        }
    }
    Ok(Some(sum.finalize().into()))
}

/// Reads blocks. Each worker has its own.
pub struct Fetcher<'a> {
    root: &'a Path,
    open: Vec<(Hash, File)>,
    zstd: Decompressor<'static>,
    /// The frame that was read last, or is to be written, and what is left of longer ones.
    frame: Vec<u8>,
    part: Buffer,
    content: Buffer,
    /// The last frame has a checksum of its own, which was compared.
    checked: bool,
}

impl<'a> Fetcher<'a> {
    /// A reader for the repository `root`.
    pub fn new(root: &'a Path) -> Result<Fetcher<'a>> {
        let zstd = Decompressor::new().doing("decompress from", root)?;
        let (part, content) = Default::default();
        let (open, frame) = (Vec::new(), Vec::new());
        Ok(Fetcher { root, open, zstd, frame, part, content, checked: false })
    }

    /// The block of `size` bytes from the frames of its `links`, whose packs are numbers in `packs`.
    ///
    /// # Errors
    /// A fault, with the pack that it is in.
    pub fn fetch(
        &mut self,
        packs: &[PackRef],
        links: &[Link],
        size: usize,
    ) -> Result<&[u8], (PackRef, Fault)> {
        self.fetch_any(packs, links, size)?;
        if self.content.len() != size {
            return Err(bad_block(packs, &links[0].frame));
        }
        Ok(&self.content)
    }

    /// The same of a block of at most `size` bytes.
    pub fn fetch_any(
        &mut self,
        packs: &[PackRef],
        links: &[Link],
        size: usize,
    ) -> Result<&[u8], (PackRef, Fault)> {
        let mut content = std::mem::take(&mut self.content);
        let put_together = self.put_together(packs, links, size, &mut content);
        self.content = content;
        put_together?;
        if Hash::from(Sha256::digest(&self.content[..])) != links[0].hash {
            let frame = self.culprit(packs, links, size)?;
            return Err(bad_block(packs, &frame));
        }
        Ok(&self.content)
    }

    /// Leaves the blocks, one or two of so many bytes, in `contents`, which are not its own.
    ///
    /// # Errors
    /// As for [`Fetcher::fetch`].
    pub fn fetch_into(
        &mut self,
        packs: &[PackRef],
        wanted: &[(&[Link], usize)],
        contents: &mut [Buffer; 2],
    ) -> Result<(), (PackRef, Fault)> {
        for ((links, size), content) in wanted.iter().zip(&mut *contents) {
            self.put_together(packs, links, *size, content)?;
        }
        let both = [&contents[0][..], &contents[1][..]];
        let hashes = hashes::of(&both[..wanted.len()]);
        for (((links, size), content), hash) in wanted.iter().zip(contents).zip(hashes) {
            if hash != links[0].hash {
                let frame = self.culprit(packs, links, *size)?;
                return Err(bad_block(packs, &frame));
            }
            if content.len() != *size {
                return Err(bad_block(packs, &links[0].frame));
            }
        }
        Ok(())
    }

    /// Leaves in `content` what the frames of the links add up to.
    fn put_together(
        &mut self,
        packs: &[PackRef],
        links: &[Link],
        size: usize,
        content: &mut Buffer,
    ) -> Result<(), (PackRef, Fault)> {
        let (own, bases) = links.split_first().expect("a chain has links");
        self.decode_into(packs, &own.frame, size, content)?;
        for base in bases {
            self.decode(packs, &base.frame, size)?;
            add(content, &self.part);
        }
        Ok(())
    }

    /// Adds what a frame holds to `content` by exclusive or. Nothing is checked but the frame itself.
    ///
    /// # Errors
    /// A fault, with the pack that it is in.
    pub fn add(
        &mut self,
        packs: &[PackRef],
        frame: &Frame,
        content: &mut [u8],
    ) -> Result<(), (PackRef, Fault)> {
        self.decode(packs, frame, content.len())?;
        add(content, &self.part);
        Ok(())
    }

    /// The first frame, from the last base on, with which the content is wrong.
    fn culprit(
        &mut self,
        packs: &[PackRef],
        links: &[Link],
        size: usize,
    ) -> Result<Frame, (PackRef, Fault)> {
        let mut content = vec![0; size];
        for link in links[1..].iter().rev() {
            let length = self.decode(packs, &link.frame, size)?;
            add(&mut content, &self.part);
            if Hash::from(Sha256::digest(&content[..length])) != link.hash {
                return Ok(link.frame);
            }
        }
        Ok(links[0].frame)
    }

    /// Decompresses a frame into `part`, and returns its bytes: at most `size`.
    fn decode(
        &mut self,
        packs: &[PackRef],
        frame: &Frame,
        size: usize,
    ) -> Result<usize, (PackRef, Fault)> {
        let mut part = std::mem::take(&mut self.part);
        let got = self.decode_into(packs, frame, size, &mut part);
        self.part = part;
        got
    }

    fn decode_into(
        &mut self,
        packs: &[PackRef],
        frame: &Frame,
        size: usize,
        content: &mut Buffer,
    ) -> Result<usize, (PackRef, Fault)> {
        let pack = packs[frame.pack as usize];
        self.read(&pack, frame).map_err(|fault| (pack, fault))?;
        // The buffer is the limit: a frame that would exceed it is an error.
        content.resize(size);
        let bytes = &self.frame[..frame.length as usize];
        let got = self.zstd.decompress_to_buffer(bytes, &mut content[..]);
        let got = got.map_err(|_| bad_block(packs, frame))?;
        content.resize(got);
        self.checked = bytes.get(DESCRIPTOR).is_some_and(|byte| byte & CHECKSUM != 0);
        Ok(got)
    }

    fn read(&mut self, pack: &PackRef, frame: &Frame) -> Result<(), Fault> {
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
        let length = frame.length as usize;
        make_room(&mut self.frame, length);
        file.read_exact_at(&mut self.frame[..length], frame.offset)
            .map_err(|e| fault(&pack_path(self.root, &pack.hash), pack, e))
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

/// Gives `buffer` at least so many bytes, whatever is in them. It never shrinks, since frames differ in
/// length, and memory that nothing was written to yet costs nothing.
fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        *buffer = vec![0; length];
    }
}

fn bad_block(packs: &[PackRef], frame: &Frame) -> (PackRef, Fault) {
    let (pack, offset) = (packs[frame.pack as usize], frame.offset);
    let name = hex(&pack.hash);
    let text = format!("the block at {offset} of pack {name} does not match its checksum");
    (pack, Fault::Damaged(text))
}
