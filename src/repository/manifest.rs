//! What one backup holds, as lines of text.
//!
//! The text is made to be read by people and by a few lines of shell; the format is in the
//! contract. A manifest that parses is safe to act on: its paths are relative, normal, listed
//! once and below listed directories; every block lies inside its pack; the blocks of each
//! file add up to its size. [`parse::parse`] is the only way from bytes to a [`Manifest`] and checks
//! all of it. Whether the packs are really there is the repository's question.

pub mod parse;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::os::clock::Timestamp;

/// The size of a block in new backups; older ones say theirs.
pub const BLOCK_SIZE: u64 = 4 << 20;

/// A SHA-256.
pub type Hash = [u8; 32];

/// All that is known of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `mariadb` or `mysql`.
    pub flavor: String,
    /// The server's version, as it says it.
    pub version: String,
    /// Up to where the data goes, in the flavor's own words; no spaces.
    pub position: String,
    /// When the primary was where the data is.
    pub data_as_of: Timestamp,
    /// When the pass began.
    pub started: Timestamp,
    /// When the last block was stored.
    pub finished: Timestamp,
    /// The backup this one grew from.
    pub base: Option<String>,
    /// Where files are cut.
    pub block_size: u64,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of the packs that came with this backup.
    pub stored: u64,
    /// Server settings that the data needs, in the order they were given.
    pub settings: Vec<(String, String)>,
    /// The packs that hold its blocks.
    pub packs: Vec<PackRef>,
    /// Directories, parents first.
    pub dirs: Vec<DirEntry>,
    /// Files with their blocks.
    pub files: Vec<FileEntry>,
}

/// A pack by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRef {
    /// The SHA-256 of the whole pack.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// A directory, so that empty databases survive.
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

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// One zstd frame in a pack.
    Stored {
        /// SHA-256 of the content.
        hash: Hash,
        /// Index into the manifest's packs.
        pack: u32,
        /// Where the frame begins.
        offset: u64,
        /// The frame's bytes.
        length: u32,
    },
    /// Blocks of zeros in a row, so that a sparse file costs one line.
    Zeros {
        /// How many; the last of a file may be a short one.
        count: u64,
    },
}

/// A block with its place in the file, as [`FileEntry::pieces`] gives it.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes of content; more than a block only for zeros.
    pub length: u64,
    /// Where the content comes from.
    pub block: Block,
}

impl FileEntry {
    /// Its blocks with their places.
    pub fn pieces(&self, block_size: u64) -> impl Iterator<Item = Piece> + '_ {
        self.pieces_from(0, 0, block_size)
    }

    /// The same from the block with the index `first` on, which is at `offset` in the file.
    pub fn pieces_from(
        &self,
        first: usize,
        mut offset: u64,
        block_size: u64,
    ) -> impl Iterator<Item = Piece> + '_ {
        self.blocks[first..].iter().map(move |&block| {
            let blocks = match block {
                Block::Stored { .. } => 1,
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
    /// The text, last line included.
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
                    Block::Stored { hash, pack, offset, length } => {
                        line(&mut out, format_args!("block {} {pack} {offset} {length}", hex(hash)))
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
        line(out, format_args!("flavor {}", self.flavor));
        line(out, format_args!("version {}", self.version));
        line(out, format_args!("position {}", self.position));
        line(out, format_args!("data_as_of {}", self.data_as_of.rfc3339()));
        line(out, format_args!("started {}", self.started.rfc3339()));
        line(out, format_args!("finished {}", self.finished.rfc3339()));
        if let Some(base) = &self.base {
            line(out, format_args!("base {base}"));
        }
        line(out, format_args!("block_size {}", self.block_size));
        line(out, format_args!("size {}", self.size));
        line(out, format_args!("stored {}", self.stored));
        line(out, format_args!("files {}", self.files.len()));
        for (key, value) in &self.settings {
            line(out, format_args!("setting {key} {value}"));
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// A path as one readable word.
fn escape(path: &Path) -> String {
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

/// Reads 64 lower-case digits.
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

/// Is it the name of a backup: `20261122T153000Z-8f3a`?
pub fn is_backup_name(name: &str) -> bool {
    let Some((time, suffix)) = name.split_once('-') else { return false };
    Timestamp::parse_compact(time).is_some()
        && suffix.len() == 4
        && suffix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
