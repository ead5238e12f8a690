//! A backup that is being made.
//!
//! The order makes a crash safe at any moment: packs are durable under their names, then their
//! directories, then the manifest appears by rename, and then that is synced. There is no backup
//! until the rename, and dropping a [`PartialBackup`] removes what it wrote.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::error::{Error, IoExt, Result};
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::data_dir::Found;
use crate::repository::directory::{MAX_MANIFEST, RepoLock, Repository, write_durably};
use crate::repository::format;
use crate::repository::known::{self, Known};
use crate::repository::manifest::journal::{self, Journal, LogEntry, Span};
use crate::repository::manifest::parse::parse;
use crate::repository::manifest::{
    BLOCK_SIZE, Block, Chain, DirEntry, FileEntry, Frame, Header, Link, MOST_FRAMES, Manifest,
    PackRef, is_backup_name,
};
use crate::repository::packs;
use crate::repository::packs::write::{Packer, Table, place, sync_dir};

/// A file whose blocks are stored.
#[derive(Debug)]
pub struct StoredFile {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Its blocks by number, in order; missing ones are zeros.
    pub blocks: Vec<(u64, Chain)>,
}

/// A journal whose logs are stored.
#[derive(Debug, Default)]
pub struct StoredJournal {
    /// Its logs in order; their paths do not matter.
    pub logs: Vec<(StoredFile, Span)>,
    /// See [`Journal::gap`].
    pub gap: Option<String>,
    /// See [`Journal::as_of`].
    pub as_of: Option<Micros>,
    /// See [`Journal::last_log`].
    pub last_log: Option<PrimaryLog>,
}

/// A stored block: the number of its file, its own, and where it is.
pub type Item = (usize, u64, Chain);

/// What of a data directory is as in the base.
#[derive(Debug)]
pub struct FromBase {
    /// True of each file of it, in order, that is.
    pub files: Vec<bool>,
    /// The blocks of these.
    pub blocks: Vec<Item>,
}

/// A data directory before it is read.
pub struct Unread<'a> {
    /// The directory.
    pub root: &'a File,
    /// Its files, in order.
    pub files: &'a [Found],
    /// Those whose content is known.
    pub known: Option<&'a Known>,
}

/// A complete backup, just stored.
#[derive(Debug)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
    /// The format that the repository had, if it was raised.
    pub raised: Option<u32>,
}

impl Header {
    /// Checks that the manifest would parse. Finding a mistake after hours of storing would be
    /// late.
    pub fn check(&self) -> Result<()> {
        let empty = assemble(
            self.clone(),
            Vec::new(),
            Vec::new(),
            StoredJournal::default(),
            &Table::default(),
            0,
        );
        let read = parse(empty.to_text().as_bytes());
        read.map(drop).map_err(|what| vanished(&what))
    }
}

/// Packs that do not belong to a backup yet.
pub struct PartialBackup<'a> {
    repo: &'a Repository,
    lock: &'a RepoLock,
    packer: Packer<'a>,
    named: bool,
}

impl<'a> PartialBackup<'a> {
    /// Sweeps the leftovers of an unfinished backup, and finds blocks of the `earlier` one that can be
    /// reused. Returns also what of `data` is as in the base.
    pub fn begin(
        repo: &'a Repository,
        lock: &'a RepoLock,
        header: &Header,
        level: i32,
        earlier: Option<Manifest>,
        data: &Unread<'_>,
    ) -> Result<(Self, FromBase)> {
        repo.sweep_tmp(lock, &|| false)?;
        let (table, same) = reusable(repo, header.base.as_deref(), earlier, data)?;
        let packer = Packer::new(repo.root(), level, table);
        Ok((PartialBackup { repo, lock, packer, named: false }, same))
    }

    /// The packer that workers store blocks with.
    pub fn packer(&self) -> &Packer<'a> {
        &self.packer
    }

    /// Completes the backup.
    pub fn finish(
        mut self,
        header: Header,
        dirs: Vec<DirEntry>,
        files: Vec<StoredFile>,
        journal: StoredJournal,
    ) -> Result<Backup> {
        let (table, stored) = self.packer.finish()?;
        // One at a time in memory: of a million files each takes hundreds of megabytes.
        let text = {
            let manifest = assemble(header, dirs, files, journal, &table, stored);
            drop(table);
            for pack in &manifest.packs {
                packs::look(self.repo.root(), pack).map_err(|what| vanished(&what))?;
            }
            manifest.to_text()
        };
        // Never publish a manifest that we would refuse to read.
        let manifest = parse(text.as_bytes())
            .map_err(|what| vanished(&format!("its manifest would be invalid: {what}")))?;
        if text.len() as u64 > MAX_MANIFEST {
            return Err(vanished("its manifest would be larger than 1 GiB"));
        }
        let raised = match manifest.needs_format_2() {
            true => format::raise(self.repo.root())?,
            false => None,
        };
        let name = self.repo.new_name()?;
        if !is_backup_name(&name) {
            return Err(vanished(&format!("{name} is not a valid backup name")));
        }
        let draft = self.repo.tmp().join("manifest");
        let place = self.repo.backups().join(&name);
        write_durably(&draft, text.as_bytes())?;
        fs::rename(&draft, &place).doing("rename to", &place)?;
        self.named = true;
        if let Err(e) = sync_dir(&self.repo.backups()) {
            // Undo: it may not survive a power loss, and its packs are kept.
            let _ = fs::remove_file(&place);
            return Err(e);
        }
        Ok(Backup { name, manifest, raised })
    }
}

impl Drop for PartialBackup<'_> {
    fn drop(&mut self) {
        if !self.named {
            self.packer.abandon();
            let _ = self.repo.sweep_tmp(self.lock, &|| false);
        }
    }
}

fn vanished(what: &str) -> Error {
    Error::Io { doing: "finish the backup".into(), source: io::Error::other(what.to_owned()) }
}

fn assemble(
    header: Header,
    dirs: Vec<DirEntry>,
    files: Vec<StoredFile>,
    journal: StoredJournal,
    table: &Table,
    stored: u64,
) -> Manifest {
    let mut packs = Vec::new();
    let mut index = HashMap::new();
    let mut links = Vec::new();
    let size = files.iter().map(|file| file.size).sum();
    let mut entry = |file: StoredFile| {
        let mut blocks = Vec::with_capacity(file.blocks.len());
        let mut next = 0;
        for (number, chain) in file.blocks {
            if number > next {
                blocks.push(Block::Zeros { count: number - next });
            }
            next = number + 1;
            let numbered = chain.of(&table.links).iter().map(|link| {
                let pack = *index.entry(link.frame.pack).or_insert_with(|| {
                    packs.extend(table.packs[link.frame.pack as usize]);
                    packs.len() as u32 - 1
                });
                Link { frame: Frame { pack, ..link.frame }, ..*link }
            });
            // One for which there is no number is missed by the check of the whole text.
            blocks.extend(Chain::push(&mut links, numbered).map(Block::Stored));
        }
        let count = file.size.div_ceil(BLOCK_SIZE) - next;
        if count > 0 {
            blocks.push(Block::Zeros { count });
        }
        FileEntry { path: file.path, mode: file.mode, size: file.size, blocks }
    };
    let files: Vec<FileEntry> = files.into_iter().map(&mut entry).collect();
    let logs = journal.logs.into_iter().zip(1..).map(|((log, span), number)| {
        let path = journal::path(number);
        LogEntry { file: entry(StoredFile { path, ..log }), span }
    });
    let StoredJournal { gap, as_of, last_log, .. } = journal;
    let logs = logs.collect();
    Manifest {
        header,
        finished: Timestamp::now(),
        block_size: BLOCK_SIZE,
        size,
        stored,
        packs,
        dirs,
        files,
        journal: Journal { logs, gap, as_of, last_log },
        links,
    }
}

/// The backup whose blocks may be reused: the base, or the newest one if there is none. Its text is in
/// memory as well meanwhile, so nothing else that is large should be.
pub fn earlier(repo: &Repository, base: Option<&str>) -> Result<Option<Manifest>> {
    let newest = match base {
        Some(base) => vec![base.to_string()],
        None => repo.names()?,
    };
    for name in newest.iter().rev() {
        match repo.load(name) {
            Err(Error::BackupDamaged { .. } | Error::NoBackup { .. }) => continue,
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// The blocks that need not be stored again: those of the backup `base` in packs of which it uses
/// at least half. The rest of the other packs is stored again, so they empty out and prune can
/// remove them. The base was restored, so its blocks were read. A new chain has no base and uses
/// the newest backup's blocks, each checked before reuse.
///
/// The blocks of files that are known to be as in the base come with it, unless some must be stored
/// again.
fn reusable(
    repo: &Repository,
    base: Option<&str>,
    earlier: Option<Manifest>,
    data: &Unread<'_>,
) -> Result<(Table, FromBase)> {
    let mut table = Table::default();
    let mut same = FromBase { files: vec![false; data.files.len()], blocks: Vec::new() };
    let Some(manifest) = earlier else { return Ok((table, same)) };
    let packs = well_used(repo, &manifest);
    table.packs = packs.iter().copied().map(Some).collect();
    table.unverified = if base.is_some() { 0 } else { packs.len() as u32 };
    let good: HashMap<PackRef, u32> = packs.into_iter().zip(0..).collect();
    let mut links = Vec::with_capacity(MOST_FRAMES);
    let stamps = known::stamps(data.known, base.unwrap_or_default(), data.root);
    for (index, file) in manifest.files.iter().enumerate() {
        let as_known = data.files.binary_search_by(|found| found.path.cmp(&file.path)).ok();
        let as_known = as_known.filter(|at| {
            let found = &data.files[*at];
            let stamp = stamps.get(index).copied().flatten();
            stamp == Some(found.stamp) && found.size == file.size
        });
        let (first, mut places) = (same.blocks.len(), Vec::new());
        let mut complete = manifest.block_size == BLOCK_SIZE;
        let mut number = 0;
        for block in &file.blocks {
            let chain = match block {
                Block::Stored(chain) => chain.of(&manifest.links),
                Block::Zeros { count } => {
                    number += count;
                    continue;
                }
            };
            // From the whole frame up to the first link in a pack that is to empty out.
            let usable = chain.iter().rev().map_while(|link| {
                let pack = *good.get(&manifest.packs[link.frame.pack as usize])?;
                Some(Link { frame: Frame { pack, ..link.frame }, ..*link })
            });
            links.clear();
            links.extend(usable);
            links.reverse();
            if !links.is_empty() {
                let pushed = table.push(&links).ok_or_else(|| vanished("too many blocks"))?;
                if links.len() == chain.len() {
                    table.reuse(pushed);
                    same.blocks.extend(as_known.map(|at| (at, number, pushed)));
                } else {
                    complete = false;
                }
                // A new chain shares no pages with the data of an older one.
                if base.is_some() && manifest.block_size == BLOCK_SIZE {
                    places.push((number, pushed));
                }
            }
            complete = complete && !links.is_empty();
            number += 1;
        }
        match as_known.filter(|_| complete) {
            Some(at) => same.files[at] = true,
            None => {
                same.blocks.truncate(first);
                for (number, chain) in places {
                    table.precede(place(&file.path, number), chain);
                }
            }
        }
    }
    Ok((table, same))
}

fn well_used(repo: &Repository, manifest: &Manifest) -> Vec<PackRef> {
    let mut used = vec![0; manifest.packs.len()];
    let mut seen = HashSet::new();
    for frame in manifest.links.iter().map(|link| link.frame) {
        if seen.insert((frame.pack, frame.offset)) {
            used[frame.pack as usize] += u64::from(frame.length);
        }
    }
    let packs = manifest.packs.iter().zip(used);
    let good = packs.filter(|(pack, used)| {
        used.saturating_mul(2) >= pack.size
            && repo.trusts(pack)
            && packs::look(repo.root(), pack).is_ok()
    });
    good.map(|(pack, _)| *pack).collect()
}
