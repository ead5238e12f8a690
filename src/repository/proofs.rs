//! What is on record: of each backup its proofs, checks and comparisons, and how each pass ended.
//!
//! `proofs/NAME` belongs to the backup NAME, `proofs/passes` to the passes. Both are lines of text,
//! oldest first: a word for the kind, then `key=value` pairs; doc/format.md has the words. A file is
//! replaced as a whole under `proofs/lock`, which is held for that moment only, so that a proof and a
//! pass may both have something to say of one backup. What is read is untrusted: a line that makes
//! no sense is skipped with a warning, and stays in the file.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::lock::{LockFile, lock_file};
use crate::repository::directory::Repository;
use crate::repository::format;
use crate::repository::manifest::words::unescape;
use crate::repository::manifest::{escape, is_backup_name};
use crate::repository::packs::write::sync_dir;

/// A larger file is not read; the oldest lines go before it grows that large. Bytes.
pub(super) const MOST: u64 = 4 << 20;
/// A longer line makes no sense. Bytes.
pub(super) const LONGEST: usize = 16 << 10;
/// Others hold the lock for as long as a small file takes to be written, unless they are stopped.
pub const HELD: Duration = Duration::from_secs(2);
/// A longer value is cut when it is written. Bytes before it is escaped.
const LONGEST_VALUE: usize = 1 << 10;
/// The longest word for a kind or a key.
const LONGEST_WORD: usize = 64;
/// More pairs in a line make no sense.
const MOST_PAIRS: usize = 100;
/// The kind of a proof.
pub const PROOF: &str = "proof";
/// The kind of a pass.
pub const PASS: &str = "pass";
/// Where the passes are on record.
const PASSES: &str = "passes";

/// A fact on record: a kind, such as `proof` or `check`, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    kind: String,
    pairs: Vec<(String, String)>,
}

impl Record {
    /// One of this kind, a word of lower case letters, digits, `_` and `-`, at `time`.
    pub fn new(kind: &str, time: Timestamp) -> Record {
        Record { kind: kind.into(), pairs: Vec::new() }.with("time", time.rfc3339())
    }

    /// The same with a value for `key`, a word as above. The value is any text.
    pub fn with(mut self, key: &str, value: impl ToString) -> Record {
        let mut value = value.to_string();
        let mut end = value.len().min(LONGEST_VALUE);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        self.pairs.retain(|(known, _)| known != key);
        self.pairs.push((key.into(), value));
        self
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The value of `key`. It is untrusted, and may hold any character.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// When it happened.
    pub fn time(&self) -> Option<Timestamp> {
        self.time_of("time")
    }

    /// The value of `key` as a time.
    pub fn time_of(&self, key: &str) -> Option<Timestamp> {
        self.get(key).and_then(Timestamp::parse)
    }

    /// All keys with their values, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Its line.
    pub(super) fn line(&self) -> String {
        let mut line = self.kind.clone();
        for (key, value) in &self.pairs {
            line += &format!(" {key}={}", escape(Path::new(value)));
        }
        line
    }

    /// Reads a line. `None` if it makes no sense.
    pub fn parse(line: &str) -> Option<Record> {
        if line.len() > LONGEST {
            return None;
        }
        let mut words = line.split(' ');
        let kind = words.next().filter(|kind| is_word(kind))?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=')?;
            let twice = pairs.iter().any(|(known, _)| known == key);
            if !is_word(key) || twice || pairs.len() == MOST_PAIRS {
                return None;
            }
            pairs.push((key.into(), String::from_utf8(unescape(value)?).ok()?));
        }
        Some(Record { kind: kind.into(), pairs })
    }
}

/// The last proof among `records`, if it found nothing wrong.
pub fn proven(records: &[Record]) -> Option<&Record> {
    let last = records.iter().rev().find(|record| record.kind == PROOF)?;
    (last.get("result") == Some("ok")).then_some(last)
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

impl Repository {
    /// What is on record of the backup `name`, oldest first. What cannot be read is a warning.
    pub fn records(&self, name: &str) -> Vec<Record> {
        if is_backup_name(name) { self.read_records(name) } else { Vec::new() }
    }

    /// How passes began and ended, oldest first.
    pub fn passes(&self) -> Vec<Record> {
        self.read_records(PASSES)
    }

    /// Puts something about the backup `name` on record, durably. The repository becomes one of
    /// format 2 by that. The caller sees to it that the backup is not removed meanwhile: it has the
    /// repository's lock, or holds the backup.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process puts something on record; when it cannot be written.
    pub fn put_on_record(&self, name: &str, records: &[Record]) -> Result<()> {
        if !is_backup_name(name) {
            return Err(Error::NoBackup { what: format!("no backup {name}") });
        }
        self.change_records(name, |lines| lines.extend(records.iter().map(Record::line)))
    }

    /// Checks that something can be put on record of the backup `name`, before the work for it is done.
    ///
    /// # Errors
    /// As [`Repository::put_on_record`].
    pub fn check_record(&self, name: &str) -> Result<()> {
        let _lock = self.lock_records()?;
        let path = self.proofs().join(name);
        files::try_replace(&path).doing("write", &path)
    }

    /// Puts a pass on record. `same` tells an earlier record of the same pass, which it replaces, and
    /// what is older than `since` goes.
    ///
    /// # Errors
    /// As [`Repository::put_on_record`].
    pub fn put_pass_on_record(
        &self,
        pass: &Record,
        same: impl Fn(&Record) -> bool,
        since: Timestamp,
    ) -> Result<()> {
        self.change_records(PASSES, |lines| {
            lines.retain(|line| {
                Record::parse(line)
                    .is_none_or(|old| !same(&old) && old.time().is_none_or(|time| time >= since))
            });
            lines.push(pass.line());
        })
    }

    /// Removes what is on record of backups that are not among `names`.
    ///
    /// # Errors
    /// When it cannot be listed or removed.
    pub(super) fn forget_records_but(&self, names: &[String]) -> Result<()> {
        remove_files(&self.proofs(), |backup| !names.iter().any(|name| name == backup))
    }

    fn proofs(&self) -> PathBuf {
        self.root().join("proofs")
    }

    fn read_records(&self, name: &str) -> Vec<Record> {
        let path = self.proofs().join(name);
        let lines = match lines(&path) {
            Ok(lines) => lines,
            Err(e) => {
                log::warn!("ignoring what is on record in {}: {e}", path.display());
                return Vec::new();
            }
        };
        let records: Vec<Record> = lines.iter().filter_map(|line| Record::parse(line)).collect();
        if records.len() < lines.len() {
            let (path, odd) = (path.display(), lines.len() - records.len());
            log::warn!("ignoring {odd} of {} lines in {path}: they make no sense", lines.len());
        }
        records
    }

    /// Takes the lock of what is on record. The repository becomes one of format 2.
    pub(super) fn lock_records(&self) -> Result<LockFile> {
        let dir = self.proofs();
        self.make_dir(&dir)?;
        let lock = lock_file(&dir.join("lock"), "a record")?;
        format::tell(self.root(), format::raise(self.root())?);
        Ok(lock)
    }

    /// Makes one of the directories that an older format lacks, unless it is there.
    pub(super) fn make_dir(&self, dir: &Path) -> Result<()> {
        if !dir.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            let made = DirBuilder::new().mode(0o700).create(dir).doing("create", dir);
            // Another process may have been faster; anything but a directory fails below.
            if !dir.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                made?;
            }
            sync_dir(self.root())?;
        }
        Ok(())
    }

    fn change_records(&self, name: &str, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
        let _lock = self.lock_records()?;
        let path = self.proofs().join(name);
        let mut lines = lines(&path).unwrap_or_else(|e| {
            log::warn!("replacing what is on record in {}: {e}", path.display());
            Vec::new()
        });
        change(&mut lines);
        let mut size: u64 = lines.iter().map(|l| l.len() as u64 + 1).sum();
        let surplus = lines.iter().take_while(|line| {
            let goes = size > MOST;
            size -= if goes { line.len() as u64 + 1 } else { 0 };
            goes
        });
        let surplus = surplus.count();
        let text: String = lines.drain(..).skip(surplus).map(|line| line + "\n").collect();
        files::replace(&path, &text, 0o600, true).doing("write", &path)
    }
}

/// Removes the files of those backups of which `goes` says so.
pub(super) fn remove_files(dir: &Path, goes: impl Fn(&str) -> bool) -> Result<()> {
    let open = match files::open_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        open => open.doing("open", dir)?,
    };
    for entry in files::list(&open).doing("list", dir)? {
        let entry = entry.doing("list", dir)?.file_name();
        let name = entry.to_str().unwrap_or_default();
        // What a kill left of a file that was being replaced goes as well.
        let backup = name.strip_suffix(".new").unwrap_or(name);
        if is_backup_name(backup) && goes(backup) {
            let gone = files::remove(&open, Path::new(&entry), false);
            gone.ignoring(io::ErrorKind::NotFound).doing("remove", &dir.join(&entry))?;
        }
    }
    Ok(())
}

/// The lines of a file, of which an absent one has none.
pub(super) fn lines(path: &Path) -> io::Result<Vec<String>> {
    let bytes = match files::open_no_link(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => files::read_open(file?, MOST)?,
    };
    Ok(String::from_utf8_lossy(&bytes).lines().map(String::from).collect())
}
