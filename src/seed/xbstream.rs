//! The format that mariadb-backup and xtrabackup stream, read along while it is passed on.
//!
//! Chunks with a path each: a part of that file, or its end. The servers' own programs for unpacking
//! write to whatever path a chunk names, and take a stream that breaks off between two chunks for a
//! whole one. So both are looked at here first.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

/// What each chunk begins with.
pub const MAGIC: &[u8] = b"XBSTCK01";
/// Magic, flags, type and the length of the path, bytes.
const FIXED: usize = 14;
/// The longest path, bytes.
const LONGEST: usize = 4095;
/// The last file of a backup, under its old and its new name.
const LAST: [&[u8]; 2] = [b"xtrabackup_info", b"mariadb_backup_info"];

/// What was seen of a stream so far.
#[derive(Default)]
pub struct Scan {
    /// The beginning of a chunk that is not whole yet.
    head: Vec<u8>,
    /// Bytes of content that come before the next chunk.
    skip: u64,
    /// Files that have begun and not ended.
    open: BTreeSet<Vec<u8>>,
    /// The last file has ended.
    whole: bool,
}

/// The beginning of a chunk: whole, or the bytes that it needs at least.
enum Chunk {
    More(usize),
    Part(u64),
    End,
}

impl Scan {
    /// Looks at what comes next.
    ///
    /// # Errors
    /// Says what is wrong with it, as what follows the name of the stream.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            while self.skip == 0 {
                let (path, chunk) = parse(&self.head)?;
                match chunk {
                    Chunk::More(needed) => {
                        let (taken, rest) =
                            bytes.split_at(bytes.len().min(needed - self.head.len()));
                        self.head.extend_from_slice(taken);
                        bytes = rest;
                        if self.head.len() < needed {
                            break;
                        }
                        continue;
                    }
                    Chunk::Part(content) => {
                        self.open.insert(path.to_vec());
                        self.skip = content;
                    }
                    Chunk::End => {
                        self.open.remove(path);
                        self.whole |= LAST.contains(&path);
                    }
                }
                self.head.clear();
            }
        }
        Ok(())
    }

    /// True if it may end here.
    pub fn is_whole(&self) -> bool {
        self.head.is_empty() && self.skip == 0 && self.open.is_empty() && self.whole
    }
}

/// The chunk that begins with `head`, and its path once that is there.
fn parse(head: &[u8]) -> Result<(&[u8], Chunk), String> {
    let damaged = || "is damaged: a chunk does not begin as it should".to_string();
    let number = |at: usize, length: usize| {
        head[at..at + length].iter().rev().fold(0, |n: u64, byte| n << 8 | u64::from(*byte))
    };
    if head.len() < FIXED {
        return Ok((&[], Chunk::More(FIXED)));
    }
    let length = number(10, 4) as usize;
    if !head.starts_with(MAGIC) || length == 0 || length > LONGEST {
        return Err(damaged());
    }
    let end = FIXED + length;
    // The sizes of a sparse map and of the content, its offset and its checksum.
    let whole = match head[9] {
        b'E' => end,
        b'P' => end + 20,
        b'S' => end + 24,
        _ => return Err(damaged()),
    };
    if head.len() < whole {
        return Ok((&[], Chunk::More(whole)));
    }
    let path = &head[FIXED..end];
    check(path)?;
    let path = path.strip_prefix(b"./").unwrap_or(path);
    Ok(match head[9] {
        b'E' => (path, Chunk::End),
        b'P' => (path, Chunk::Part(number(end, 8))),
        _ => {
            let map = 8 * number(end, 4);
            (path, Chunk::Part(number(end + 4, 8).checked_add(map).ok_or_else(damaged)?))
        }
    })
}

/// Fails unless `path` is one of a file below the directory, and of one as it was.
fn check(path: &[u8]) -> Result<(), String> {
    let shown = Path::new(OsStr::from_bytes(path));
    let mut inner = shown.components().skip_while(|c| *c == Component::CurDir).peekable();
    let is_below = inner.peek().is_some() && inner.all(|c| matches!(c, Component::Normal(_)));
    if !is_below || path.contains(&0) || path.ends_with(b"/") {
        return Err(format!("has a file {shown:?}, which would not be below the data directory"));
    }
    let ends = |endings: &[&str]| endings.iter().any(|e| path.ends_with(e.as_bytes()));
    if ends(&[".qp", ".lz4", ".zst", ".xbcrypt"]) {
        return Err(format!(
            "has files that are compressed or encrypted one by one, as {shown:?}: make the backup without \
             --compress and --encrypt, and compress the stream, if at all, by a program beside it"
        ));
    }
    if ends(&[".delta"]) {
        return Err("is an incremental backup, which is nothing without its base".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str, content: &[u8]) -> Vec<u8> {
        let mut chunk =
            [MAGIC, b"\0P", &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat();
        chunk.extend((content.len() as u64).to_le_bytes());
        chunk.extend([0; 12]);
        chunk.extend(content);
        chunk
    }

    fn end(path: &str) -> Vec<u8> {
        [MAGIC, b"\0E", &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat()
    }

    fn sparse(path: &str, map: u32, content: &[u8]) -> Vec<u8> {
        let mut chunk =
            [MAGIC, b"\0S", &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat();
        chunk.extend(map.to_le_bytes());
        chunk.extend((content.len() as u64).to_le_bytes());
        chunk.extend(vec![0; 12 + 8 * map as usize]);
        chunk.extend(content);
        chunk
    }

    fn scan(stream: &[u8], step: usize) -> Result<bool, String> {
        let mut scan = Scan::default();
        for piece in stream.chunks(step) {
            scan.feed(piece)?;
        }
        Ok(scan.is_whole())
    }

    #[test]
    fn only_the_whole_of_a_stream_is_whole() {
        let all = [
            part("./ibdata1", b"XBSTCK01 in the data"),
            part("shop/t.ibd", b""),
            sparse("shop/u.ibd", 3, b"some"),
            end("shop/u.ibd"),
            part("./ibdata1", b"more"),
            end("shop/t.ibd"),
            end("./ibdata1"),
            part("xtrabackup_info", b"x"),
            end("xtrabackup_info"),
        ]
        .concat();
        for step in [1, 7, 64, all.len()] {
            assert_eq!(scan(&all, step), Ok(true));
        }
        for length in 0..all.len() {
            assert_eq!(scan(&all[..length], 5), Ok(false), "{length}");
        }
        // One file is still open, or the last one is missing.
        assert_eq!(scan(&[part("a", b""), all.clone()].concat(), 9), Ok(false));
        assert_eq!(scan(&[part("a", b""), end("a")].concat(), 9), Ok(false));
        assert!(scan(&[all, b"garbage after it".to_vec()].concat(), 9).is_err());
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        for bad in ["../x", "/x", "a/../../x", "a/..", ".", "./", "..", "a/", "a\0b", "./../x"] {
            let told = scan(&part(bad, b"x"), 3).unwrap_err();
            assert!(told.contains("not be below the data directory"), "{bad:?}: {told}");
        }
        for good in ["x", "./x", "a/x", "a/./x", "..x", "a/x..", "a b/\u{e4}"] {
            assert_eq!(scan(&part(good, b"x"), 3), Ok(false), "{good:?}");
        }
        assert!(scan(&part(&"x".repeat(5000), b""), 9).unwrap_err().contains("damaged"));
        assert!(scan(&part("shop/t.ibd.qp", b""), 9).unwrap_err().contains("--compress"));
        assert!(scan(&part("shop/t.ibd.delta", b""), 9).unwrap_err().contains("incremental"));
    }

    #[test]
    fn sizes_beyond_all_bounds_do_no_harm() {
        let mut huge = part("x", b"");
        let at = huge.len() - 20;
        huge[at..at + 8].fill(0xff);
        assert_eq!(scan(&huge, 9), Ok(false));
        let mut huge = sparse("x", 0, b"");
        let at = huge.len() - 24;
        huge[at..at + 12].fill(0xff);
        assert!(scan(&huge, 9).is_err());
    }
}
