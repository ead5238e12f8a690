//! The manifest of a backup, as lines of text.
//!
//! The text is meant for people and for a few lines of shell; the format is in doc/format.md. A parsed
//! manifest is safe to act on: paths are relative, normal, unique and below listed directories;
//! every block lies inside its pack; the blocks of each file add up to its size. Only
//! [`parse::parse`] turns bytes into a [`Manifest`], and it checks all of this. Whether the packs
//! exist is for the repository to check.

mod blocks;
pub mod glance;
pub mod journal;
pub mod parse;
#[cfg(test)]
mod tests;
pub(in crate::repository) mod words;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::journal::{Journal, Span};
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::{Micros, Timestamp};

pub use self::blocks::{Block, Chain, FileEntry, Frame, Hash, Link, MOST_FRAMES, Piece, hex};

/// The block size of new backups. A manifest records its own.
pub const BLOCK_SIZE: u64 = 4 << 20;

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
    /// The log at which the last replication that led here began, by which a primary that was reset is
    /// told.
    pub primary_log: Option<PrimaryLog>,
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
    /// What led to it from its base.
    pub journal: Journal,
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
    /// From where to where the logs of its journal lead.
    pub spans: Vec<Span>,
    /// Bytes of these logs.
    pub journal_size: u64,
    /// The packs that these logs need.
    pub journal_packs: Vec<PackRef>,
    /// Why there is no journal, although there is a base.
    pub gap: Option<String>,
    /// See [`Journal::as_of`].
    pub as_of: Option<Micros>,
    /// See [`Journal::last_log`].
    pub last_log: Option<PrimaryLog>,
}

impl From<Manifest> for Summary {
    fn from(manifest: Manifest) -> Summary {
        let journal_packs = manifest.packs_of(manifest.journal.logs.iter().map(|log| &log.file));
        let Manifest { header, finished, size, stored, packs, files, journal, .. } = manifest;
        let (files, journal_size, as_of) = (files.len() as u64, journal.size(), journal.as_of);
        let spans = journal.logs.into_iter().map(|log| log.span).collect();
        let (gap, last_log) = (journal.gap, journal.last_log);
        Summary {
            header,
            finished,
            size,
            stored,
            packs,
            files,
            spans,
            journal_size,
            journal_packs,
            gap,
            as_of,
            last_log,
        }
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

impl Manifest {
    /// True if it holds what format 1 of the repository does not know: a difference, or a journal.
    pub fn needs_format_2(&self) -> bool {
        let mut blocks = self.files.iter().flat_map(|file| &file.blocks);
        !self.journal.logs.is_empty()
            || blocks.any(|block| matches!(block, Block::Stored(c) if c.of(&self.links).len() > 1))
    }

    /// The packs that are needed for `files` of it.
    pub fn packs_of<'a>(&'a self, files: impl Iterator<Item = &'a FileEntry>) -> Vec<PackRef> {
        let mut needed = vec![false; self.packs.len()];
        for block in files.flat_map(|file| &file.blocks) {
            if let Block::Stored(chain) = block {
                let frames = chain.of(&self.links).iter().map(|link| link.frame.pack as usize);
                frames.for_each(|pack| needed[pack] = true);
            }
        }
        let packs = self.packs.iter().zip(needed);
        packs.filter(|(_, needed)| *needed).map(|(pack, _)| *pack).collect()
    }

    /// All files with blocks: those of the data, then the logs of the journal.
    pub fn stored_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(self.journal.logs.iter().map(|log| &log.file))
    }

    /// The whole text, including the last line.
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(1024 + 192 * self.files.len());
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
            self.write_blocks(file, &mut out);
        }
        for log in &self.journal.logs {
            line(&mut out, format_args!("journal {} {}", log.file.size, log.span.words()));
            self.write_blocks(&log.file, &mut out);
        }
        let sum: Hash = Sha256::digest(out.as_bytes()).into();
        line(&mut out, format_args!("end {}", hex(&sum)));
        out
    }

    fn write_blocks(&self, file: &FileEntry, out: &mut String) {
        for block in &file.blocks {
            match block {
                Block::Stored(chain) => {
                    let words = std::iter::once("block").chain(std::iter::repeat("xor"));
                    for (word, link) in words.zip(chain.of(&self.links)) {
                        line(out, format_args!("{word} {link}"));
                    }
                }
                Block::Zeros { count } => line(out, format_args!("zeros {count}")),
            }
        }
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
        if let Some(log) = &self.header.primary_log {
            line(out, format_args!("primary_log {log}"));
        }
        if let Some(log) = &self.journal.last_log {
            line(out, format_args!("primary_last_log {log}"));
        }
        if let Some(as_of) = self.journal.as_of {
            line(out, format_args!("primary_as_of {}", as_of.rfc3339()));
        }
        if let Some(gap) = &self.journal.gap {
            line(out, format_args!("no_journal {}", escape(Path::new(gap))));
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
