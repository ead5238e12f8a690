//! The manifest of a backup, as lines of text.
//!
//! The text is meant for people and for a few lines of shell; the format is in doc/format.md. A parsed
//! manifest is safe to act on: paths are relative, normal, unique and below listed directories;
//! every block lies inside its pack; the blocks of each file add up to its size. Only
//! [`parse::parse`] turns bytes into a [`Manifest`], and it checks all of this. Whether the packs
//! exist is for the repository to check.

pub mod glance;
pub mod parse;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::os::clock::Timestamp;

/// The block size of new backups. A manifest records its own.
pub const BLOCK_SIZE: u64 = 4 << 20;

/// A SHA-256.
pub type Hash = [u8; 32];

/// Facts that do not come from the data itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `mariadb` or `mysql`.
    pub flavor: String,
    /// The server's version.
    pub version: String,
    /// The position of the data, in the notation of the flavor, without spaces.
    pub position: String,
    /// When the goal was read.
    pub data_as_of: Timestamp,
    /// When the pass started.
    pub started: Timestamp,
    /// The backup that this one grew from.
    pub base: Option<String>,
    /// Temporary tables that sessions of the primary had open, and that are not in the data: later
    /// statements may use them.
    pub open_tables: u64,
    /// Server settings that the data needs, in the given order.
    pub settings: Vec<(String, String)>,
}

/// Everything known about one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What does not come from the data itself.
    pub header: Header,
    /// When the last block was stored.
    pub finished: Timestamp,
    /// The size of a block.
    pub block_size: u64,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of the packs added by this backup.
    pub stored: u64,
    /// The packs that contain its blocks.
    pub packs: Vec<PackRef>,
    /// Directories, parents first.
    pub dirs: Vec<DirEntry>,
    /// Files with their blocks.
    pub files: Vec<FileEntry>,
    /// Where the blocks are: see [`Chain`].
    pub links: Vec<Link>,
}

/// A manifest without directories and files, of which there may be a million: all that most questions
/// about many backups need.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What does not come from the data itself.
    pub header: Header,
    /// When the last block was stored.
    pub finished: Timestamp,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of the packs added by this backup.
    pub stored: u64,
    /// The packs that contain its blocks.
    pub packs: Vec<PackRef>,
    /// Number of files.
    pub files: u64,
}

impl From<Manifest> for Summary {
    fn from(manifest: Manifest) -> Summary {
        let Manifest { header, finished, size, stored, packs, files, .. } = manifest;
        Summary { header, finished, size, stored, packs, files: files.len() as u64 }
    }
}

/// A pack, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRef {
    /// The SHA-256 of the whole pack.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// A directory, listed so that empty databases survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// A file and where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Its blocks in order.
    pub blocks: Vec<Block>,
}

/// Where a zstd frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Index into the manifest's packs.
    pub pack: u32,
    /// Its bytes.
    pub length: u32,
    /// Where it begins.
    pub offset: u64,
}

/// A content and its frame. The frame holds the content, or the difference (exclusive or) to the
/// content of the next link, its base, which counts as zeros where it is shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// SHA-256 of the content.
    pub hash: Hash,
    /// Its frame.
    pub frame: Frame,
}

/// The most frames of one block: its own and those of its bases. Each costs a restore a decompression.
pub const MOST_FRAMES: usize = 4;

/// Where a block is: one link, or up to four of which each is the base of the one before. They are next
/// to each other in a list of all, so that no chain can be longer, or a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(u32);

impl Chain {
    /// Appends `chain` to `links`; `None` if it has too many links, or the list does.
    pub fn push(links: &mut Vec<Link>, chain: impl IntoIterator<Item = Link>) -> Option<Chain> {
        let first = links.len();
        links.extend(chain);
        let more = (links.len() - first).checked_sub(1).filter(|more| *more < MOST_FRAMES)?;
        Some(Chain(u32::try_from(first << 2 | more).ok()?))
    }

    /// Another base for the last one, which ends the list.
    pub(self) fn lengthen(self, links: &mut Vec<Link>, base: Link) -> Option<Chain> {
        links.push(base);
        (self.0 & 3 < 3).then_some(Chain(self.0 + 1))
    }

    /// Its links in the list, the block's own first.
    pub fn of(self, links: &[Link]) -> &[Link] {
        let first = self.0 as usize >> 2;
        &links[first..=first + (self.0 as usize & 3)]
    }
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// One zstd frame in a pack, and those of its bases.
    Stored(Chain),
    /// A run of zero blocks, so that a sparse file costs one line.
    Zeros {
        /// How many blocks; the last block of a file may be short.
        count: u64,
    },
}

/// A block and its place in the file, from [`FileEntry::pieces`].
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of content; more than one block only for zeros.
    pub length: u64,
    /// The source of the content.
    pub block: Block,
}

impl FileEntry {
    /// The blocks with their places.
    pub fn pieces(&self, block_size: u64) -> impl Iterator<Item = Piece> + '_ {
        self.pieces_from(0, 0, block_size)
    }

    /// The same, starting at the block with index `first` and offset `offset`.
    pub fn pieces_from(
        &self,
        first: usize,
        mut offset: u64,
        block_size: u64,
    ) -> impl Iterator<Item = Piece> + '_ {
        self.blocks[first..].iter().map(move |&block| {
            let blocks = match block {
                Block::Stored(_) => 1,
                Block::Zeros { count } => count,
            };
            let length = blocks.saturating_mul(block_size).min(self.size - offset);
            let piece = Piece { offset, length, block };
            offset += length;
            piece
        })
    }
}

impl Manifest {
    /// True if some block is stored as a difference, which format 1 of the repository does not know.
    pub fn has_differences(&self) -> bool {
        let blocks = self.files.iter().flat_map(|file| &file.blocks);
        blocks
            .into_iter()
            .any(|block| matches!(block, Block::Stored(c) if c.of(&self.links).len() > 1))
    }

    /// The whole text, including the last line.
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(1024 + 128 * self.files.len());
        self.write_header(&mut out);
        for pack in &self.packs {
            line(&mut out, format_args!("pack {} {}", hex(&pack.hash), pack.size));
        }
        for dir in &self.dirs {
            line(&mut out, format_args!("dir {} {:o}", escape(&dir.path), dir.mode));
        }
        for file in &self.files {
            let path = escape(&file.path);
            line(&mut out, format_args!("file {path} {:o} {}", file.mode, file.size));
            for block in &file.blocks {
                match block {
                    Block::Stored(chain) => {
                        let words = std::iter::once("block").chain(std::iter::repeat("xor"));
                        for (word, link) in words.zip(chain.of(&self.links)) {
                            line(&mut out, format_args!("{word} {link}"));
                        }
                    }
                    Block::Zeros { count } => line(&mut out, format_args!("zeros {count}")),
                }
            }
        }
        let sum: Hash = Sha256::digest(out.as_bytes()).into();
        line(&mut out, format_args!("end {}", hex(&sum)));
        out
    }

    fn write_header(&self, out: &mut String) {
        line(out, format_args!("format 1"));
        line(out, format_args!("flavor {}", self.header.flavor));
        line(out, format_args!("version {}", self.header.version));
        line(out, format_args!("position {}", self.header.position));
        line(out, format_args!("data_as_of {}", self.header.data_as_of.rfc3339()));
        line(out, format_args!("started {}", self.header.started.rfc3339()));
        line(out, format_args!("finished {}", self.finished.rfc3339()));
        if let Some(base) = &self.header.base {
            line(out, format_args!("base {base}"));
        }
        if self.header.open_tables > 0 {
            line(out, format_args!("open_temporary_tables {}", self.header.open_tables));
        }
        line(out, format_args!("block_size {}", self.block_size));
        line(out, format_args!("size {}", self.size));
        line(out, format_args!("stored {}", self.stored));
        line(out, format_args!("files {}", self.files.len()));
        for (key, value) in &self.header.settings {
            line(out, format_args!("setting {key} {value}"));
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { pack, offset, length } = self.frame;
        write!(f, "{} {pack} {offset} {length}", hex(&self.hash))
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Escapes a path into one readable word.
pub(super) fn escape(path: &Path) -> String {
    let mut out = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\\' | 0..=b' ' | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// A hash as 64 digits.
pub fn hex(hash: &Hash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// Parses 64 lower-case digits.
pub fn from_hex(text: &str) -> Option<Hash> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(text.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

/// True for a backup name such as `20261122T153000Z-8f3a`.
pub fn is_backup_name(name: &str) -> bool {
    let Some((time, suffix)) = name.split_once('-') else { return false };
    Timestamp::parse_compact(time).is_some()
        && suffix.len() == 4
        && suffix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
