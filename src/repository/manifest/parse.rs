//! Parses a manifest without trusting it.
//!
//! The file may be truncated, from a later version, or crafted to make a restore write outside its
//! directory or exhaust memory. Every number is checked before use, and memory is bounded by the
//! length of the text. Errors name the line.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::journal::{self, Journal, LogEntry, Span};
use super::words::{number, octal, pack_line, unescape, words};
use super::{
    Block, Chain, DirEntry, FileEntry, Frame, Hash, Header, Link, Manifest, PackRef, from_hex,
    is_backup_name,
};
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::data_dir::{LONGEST_PATH, MOST_PARTS, misleads_server};

/// Limits header lines and settings, since each costs more memory than its text.
const MOST_WORDS: usize = 1000;

/// The longest path with every byte escaped, plus the rest of its line. A position is exempt: it
/// may have any number of gaps.
const LONGEST_LINE: usize = 4 * LONGEST_PATH + 100;

const TOO_LARGE: &str = "the sizes add up to more than a disk can hold";

/// Parses a manifest; an error names the line and the problem.
pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let body = checked_body(bytes)?;
    let mut parser = Parser::default();
    for (number, line) in body.lines().enumerate().skip(1) {
        parser.line(line).map_err(|what| format!("line {}: {what}", number + 1))?;
    }
    parser.finish()
}

/// Everything before the last line, once format and checksum are verified.
fn checked_body(bytes: &[u8]) -> Result<&str, String> {
    let first = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    match first.strip_prefix(b"format ") {
        Some(b"1") => {}
        Some(n) if !n.is_empty() && n.len() < 10 && n.iter().all(u8::is_ascii_digit) => {
            return Err(format!("later format {}", String::from_utf8_lossy(n)));
        }
        _ => return Err("line 1: not a manifest".into()),
    }
    let text = str::from_utf8(bytes).ok().filter(|t| t.is_ascii());
    let text = text.ok_or("it contains bytes outside ASCII")?;
    let cut_short = "it is truncated: the last line is missing";
    let text = text.strip_suffix('\n').ok_or(cut_short)?;
    let (body, last) = text.split_at(text.rfind('\n').ok_or(cut_short)? + 1);
    let sum = last.strip_prefix("end ").and_then(from_hex).ok_or(cut_short)?;
    if sum != Hash::from(Sha256::digest(body)) {
        return Err("its content does not match the checksum in its last line".into());
    }
    Ok(body)
}

#[derive(Default)]
struct Parser {
    header: HashMap<String, String>,
    settings: Vec<(String, String)>,
    block_size: u64,
    packs: Vec<PackRef>,
    pack_names: HashSet<Hash>,
    dirs: Vec<DirEntry>,
    dir_paths: HashSet<PathBuf>,
    hasher: RandomState,
    files: Vec<FileEntry>,
    /// Hashes of the paths of files.
    file_paths: HashSet<u64>,
    logs: Vec<LogEntry>,
    links: Vec<Link>,
    /// Bytes of the last file that are not covered by blocks yet.
    missing: u64,
    /// Bytes of the block whose bases may follow; 0 for none.
    content: u64,
    /// Bytes of the data, and of the journal as well.
    size: u64,
    all: u64,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.bytes().any(|b| b.is_ascii_control()) {
            return Err("it contains control characters".into());
        }
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        if line.len() > LONGEST_LINE && !matches!(key, "position" | "journal") {
            return Err(format!("too long: {} bytes", line.len()));
        }
        let content = match key {
            "xor" => self.content,
            _ => 0,
        };
        self.content = 0;
        match key {
            "xor" => self.xor(rest, content),
            "pack" => self.pack(rest),
            "dir" => self.dir(rest),
            "file" => self.file(rest),
            "journal" => self.journal(rest),
            "block" => self.block(rest),
            "zeros" => self.zeros(rest),
            _ if self.in_body() => Err(format!("unknown word {key:?}")),
            "setting" => self.setting(rest),
            _ if self.header.len() == MOST_WORDS => {
                Err(format!("more than {MOST_WORDS} header lines"))
            }
            // Keep unknown keys: a later version may add some.
            _ => match self.header.insert(key.into(), rest.into()) {
                None => Ok(()),
                Some(_) => Err(format!("duplicate {key}")),
            },
        }
    }

    fn in_body(&self) -> bool {
        !(self.packs.is_empty()
            && self.dirs.is_empty()
            && self.files.is_empty()
            && self.logs.is_empty())
    }

    fn setting(&mut self, rest: &str) -> Result<(), String> {
        let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let key_fits =
            !key.is_empty() && key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_,.+:-/;<>".contains(&b);
        // A time zone and the name of a table have slashes; no path leads anywhere else.
        let leads_out = value.starts_with('/') || value.contains("..");
        if !key_fits || !value.bytes().all(fits) || leads_out {
            return Err("malformed setting".into());
        }
        if self.settings.len() == MOST_WORDS {
            return Err(format!("more than {MOST_WORDS} settings"));
        }
        if self.settings.iter().any(|(k, _)| k == key) {
            return Err(format!("duplicate setting {key}"));
        }
        self.settings.push((key.into(), value.into()));
        Ok(())
    }

    fn pack(&mut self, rest: &str) -> Result<(), String> {
        let pack = pack_line(rest)?;
        if !self.pack_names.insert(pack.hash) {
            return Err("duplicate pack".into());
        }
        self.packs.push(pack);
        Ok(())
    }

    fn dir(&mut self, rest: &str) -> Result<(), String> {
        let [path, mode] = words(rest)?;
        let path = self.new_path(path, true)?;
        self.dirs.push(DirEntry { path: path.clone(), mode: octal(mode)? });
        self.dir_paths.insert(path);
        Ok(())
    }

    fn file(&mut self, rest: &str) -> Result<(), String> {
        if !self.logs.is_empty() {
            return Err("a file after the journal".into());
        }
        let [path, mode, size] = words(rest)?;
        let size = self.begin_file(size)?;
        self.size = self.size.checked_add(size).ok_or(TOO_LARGE)?;
        let path = self.new_path(path, false)?;
        self.file_paths.insert(self.hasher.hash_one(&path));
        self.files.push(FileEntry { path, mode: octal(mode)?, size, blocks: Vec::new() });
        Ok(())
    }

    /// A log of the journal. Its blocks follow, as those of a file.
    fn journal(&mut self, rest: &str) -> Result<(), String> {
        let [size, span @ ..] = words::<5>(rest)?;
        let size = self.begin_file(size)?;
        let path = journal::path(self.logs.len() + 1);
        let file = FileEntry { path, mode: 0o600, size, blocks: Vec::new() };
        self.logs.push(LogEntry { file, span: Span::parse(span)? });
        Ok(())
    }

    /// Ends the file before, and returns the size of the next one.
    fn begin_file(&mut self, size: &str) -> Result<u64, String> {
        self.end_of_file()?;
        if self.block_size == 0 {
            self.block_size = self.number_of("block_size")?;
            if !self.block_size.is_multiple_of(4096)
                || !(4096..=64 << 20).contains(&self.block_size)
            {
                return Err(format!("unreasonable block size {}", self.block_size));
            }
        }
        let size = number(size)?;
        self.all = self.all.checked_add(size).filter(|&s| s <= i64::MAX as u64).ok_or(TOO_LARGE)?;
        self.missing = size;
        Ok(size)
    }

    /// The file or log whose blocks follow.
    fn last(&mut self) -> Option<&mut FileEntry> {
        match self.logs.last_mut() {
            Some(log) => Some(&mut log.file),
            None => self.files.last_mut(),
        }
    }

    fn block(&mut self, rest: &str) -> Result<(), String> {
        let content = self.missing.min(self.block_size);
        let link = self.link(rest, content)?;
        let chain = Chain::push(&mut self.links, [link]).ok_or("too many blocks")?;
        self.cover(1, Block::Stored(chain))?;
        self.content = content;
        Ok(())
    }

    /// A base of the last block, which is `content` bytes long.
    fn xor(&mut self, rest: &str, content: u64) -> Result<(), String> {
        // No base is longer than the block: reading it costs no more.
        let link = self.link(rest, content)?;
        let last = self.last().and_then(|file| file.blocks.last()).copied();
        let Some(Block::Stored(chain)) = last.filter(|_| content > 0) else {
            return Err("a base without a block".into());
        };
        let longer = chain.lengthen(&mut self.links, link).ok_or("too many bases of a block")?;
        if let Some(last) = self.last().and_then(|file| file.blocks.last_mut()) {
            *last = Block::Stored(longer);
        }
        self.content = content;
        Ok(())
    }

    /// Hash and frame of a block of `content` bytes.
    fn link(&self, rest: &str, content: u64) -> Result<Link, String> {
        let [hash, pack, offset, length] = words(rest)?;
        let hash = from_hex(hash).ok_or("the block's name is not a SHA-256")?;
        let index = u32::try_from(number(pack)?).map_err(|_| "no such pack")?;
        let pack = self.packs.get(index as usize).ok_or("no such pack")?;
        let (offset, length) = (number(offset)?, number(length)?);
        if offset.checked_add(length).is_none_or(|end| end > pack.size) {
            return Err("the block lies outside its pack".into());
        }
        // Incompressible content grows by less than this.
        if length == 0 || length > content + content / 128 + 1024 {
            return Err(format!("a frame of {length} bytes for a block of {content}"));
        }
        Ok(Link { hash, frame: Frame { pack: index, offset, length: length as u32 } })
    }

    fn zeros(&mut self, rest: &str) -> Result<(), String> {
        let [count] = words(rest)?;
        let count = number(count)?;
        self.cover(count, Block::Zeros { count })
    }

    /// Appends `count` blocks to the last file.
    fn cover(&mut self, count: u64, block: Block) -> Result<(), String> {
        let (missing, unit) = (self.missing, self.block_size);
        let file = self.last().ok_or("a block before the first file")?;
        // With a file there is a size of blocks.
        if count == 0 || count > missing.div_ceil(unit) {
            return Err("more blocks than the file has room for".into());
        }
        file.blocks.push(block);
        self.missing = missing.saturating_sub(count.saturating_mul(unit));
        Ok(())
    }

    fn end_of_file(&mut self) -> Result<(), String> {
        let missing = self.missing;
        match self.last() {
            Some(file) if missing > 0 => {
                Err(format!("{} has too few blocks for its size", file.path.display()))
            }
            Some(file) => {
                file.blocks.shrink_to_fit();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A path that is safe to write: relative, normal, new, and below a listed directory.
    fn new_path(&self, word: &str, is_dir: bool) -> Result<PathBuf, String> {
        let bytes = unescape(word).ok_or("the path is badly escaped")?;
        let normal =
            |part: &[u8]| !part.is_empty() && part.len() <= 255 && part != b"." && part != b"..";
        let mut parts = bytes.split(|&b| b == b'/');
        if bytes.contains(&0) || bytes.len() > LONGEST_PATH || !parts.clone().all(normal) {
            return Err(format!("the path {word} is not relative and normal"));
        }
        if parts.nth(MOST_PARTS).is_some() {
            return Err(format!("a path of more than {MOST_PARTS} parts"));
        }
        let path = PathBuf::from(OsString::from_vec(bytes));
        // Two paths with one hash are next to impossible, since nobody knows the key.
        let known = self.file_paths.contains(&self.hasher.hash_one(&path))
            && self.files.iter().any(|file| file.path == path);
        if self.dir_paths.contains(&path) || known {
            return Err(format!("duplicate path {word}"));
        }
        if misleads_server(&path, is_dir) {
            return Err(format!("the path {word} would lead a server elsewhere"));
        }
        match path.parent() {
            Some(p) if !p.as_os_str().is_empty() && !self.dir_paths.contains(p) => {
                Err(format!("the directory of {word} is not listed before it"))
            }
            _ => Ok(path),
        }
    }

    fn finish(mut self) -> Result<Manifest, String> {
        self.end_of_file()?;
        if self.number_of("files")? != self.files.len() as u64 {
            return Err("the number of files differs from the header".into());
        }
        if self.number_of("size")? != self.size {
            return Err("the file sizes do not add up to the size in the header".into());
        }
        let flavor = self.text_of("flavor")?;
        if self.logs.iter().any(|log| log.file.size == 0) {
            return Err("a log of the journal is empty".into());
        }
        if flavor != "mariadb" && flavor != "mysql" {
            return Err(format!("unknown flavor {flavor:?}"));
        }
        let position = self.text_of("position")?;
        if position.contains(' ') {
            return Err("the position contains spaces".into());
        }
        let gap = self.header.get("no_journal").map(|word| {
            let text = unescape(word).and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or("no_journal is badly escaped")
        });
        let as_of = self.header.get("primary_as_of").map(|text| {
            Micros::parse(text).ok_or_else(|| format!("primary_as_of: {text:?} is not a time"))
        });
        let primary_log = self.header.get("primary_log").map(|text| {
            PrimaryLog::parse(text).ok_or_else(|| format!("primary_log: {text:?} is malformed"))
        });
        let last_log = self.header.get("primary_last_log").and_then(|text| PrimaryLog::parse(text));
        let logs = std::mem::take(&mut self.logs);
        let journal = Journal { logs, gap: gap.transpose()?, as_of: as_of.transpose()?, last_log };
        journal.check(&position)?;
        let base = self.header.get("base").cloned();
        let is_name = base.as_ref().is_none_or(|base| is_backup_name(base));
        is_name.then_some(()).ok_or("the base is not a backup name")?;
        Ok(Manifest {
            finished: self.time_of("finished")?,
            block_size: self.number_of("block_size")?,
            size: self.size,
            stored: self.number_of("stored")?,
            header: Header {
                flavor,
                version: self.text_of("version")?,
                position,
                data_as_of: self.time_of("data_as_of")?,
                started: self.time_of("started")?,
                base,
                open_tables: self.optional_number("open_temporary_tables")?,
                primary_log: primary_log.transpose()?,
                settings: self.settings,
            },
            packs: self.packs,
            dirs: self.dirs,
            files: self.files,
            journal,
            links: self.links,
        })
    }

    fn text_of(&self, key: &str) -> Result<String, String> {
        let value = self.header.get(key).filter(|v| !v.is_empty());
        value.cloned().ok_or_else(|| format!("{key} is missing"))
    }

    fn number_of(&self, key: &str) -> Result<u64, String> {
        number(&self.text_of(key)?).map_err(|what| format!("{key}: {what}"))
    }

    /// 0 where it is not given.
    fn optional_number(&self, key: &str) -> Result<u64, String> {
        if self.header.contains_key(key) { self.number_of(key) } else { Ok(0) }
    }

    fn time_of(&self, key: &str) -> Result<Timestamp, String> {
        let text = self.text_of(key)?;
        Timestamp::parse(&text).ok_or_else(|| format!("{key}: {text:?} is not a time"))
    }
}
