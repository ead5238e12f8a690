//! What was received, in parts: each a manifest with a journal, in a repository of its own.
//!
//! A part is stored every few seconds, so there would soon be thousands. Eight small ones are put together
//! into one, eight of these again, and so on up to [`LARGEST`]: each byte is written a few times, and a
//! restore finds a few dozen parts.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::journal::group::Group;
use crate::journal::scan::{End, Mark, scan_on};
use crate::journal::tail::Slice;
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::receive::logs::Logs;
use crate::replication::primary::Facts;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::journals::redundant::Part;
use crate::repository::restore::{self, Destination, Into, Kept};
use crate::repository::store::{self, Data, Header, Journal, Span};
use crate::supervisor::main_loop::Supervisor;
use crate::text::count;

/// So many parts of a kind become one.
const TOGETHER: usize = 8;
/// The smallest kind, bytes of logs at most, and the largest that is put together.
const SMALLEST: u64 = 64 << 10;
const LARGEST: u64 = 4 << 20;
/// What describes a log is shorter. Bytes.
const HEAD: u64 = 64 << 10;

/// The parts of one repository.
pub(super) struct Parts<'a> {
    repo: &'a Repository,
    lock: &'a RepoLock,
    /// Where logs are prepared.
    dir: PathBuf,
    level: i32,
    all: Vec<Part>,
    /// False once some could not be put together.
    combines: bool,
}

impl<'a> Parts<'a> {
    /// Those that are there.
    pub(super) fn open(
        repo: &'a Repository,
        lock: &'a RepoLock,
        dir: PathBuf,
        level: i32,
    ) -> Result<Parts<'a>> {
        repo.sweep_tmp(lock, &|| false)?;
        let all = repo.parts()?;
        let mut parts = Parts { repo, lock, dir, level, all, combines: true };
        parts.remove_doubles()?;
        Ok(parts)
    }

    /// The last one; `None` if it was stored before `begun`.
    pub(super) fn last(&self, begun: Option<Timestamp>) -> Option<&Part> {
        let last = self.all.last();
        let is_later = |part: &&Part| begun.is_none_or(|begun| !part.was_stored_before(begun));
        last.filter(is_later)
    }

    /// Removes those that were put together and not removed.
    fn remove_doubles(&mut self) -> Result<()> {
        let is_within = |(at, part): &(usize, &Part)| {
            let mut later = self.all[at + 1..].iter();
            // The time tells one from before a reset of the primary, whose positions were the same.
            later.any(|other| {
                other.to.contains(&part.to)
                    && part.from.contains(&other.from)
                    && other.from != part.to
                    && other.times.0 <= part.times.1
            })
        };
        let names = self.all.iter().enumerate().filter(is_within);
        let names: Vec<String> = names.map(|(_, part)| part.name.clone()).collect();
        self.repo.remove_parts(self.lock, &mut self.all, &names)
    }

    /// Removes what backups hold as well.
    pub(super) fn remove_redundant(&mut self, backups: &Repository) -> Result<()> {
        let before = self.all.len();
        self.repo.remove_redundant(self.lock, &mut self.all, backups)?;
        let removed = before - self.all.len();
        if removed > 0 {
            log::info!("removed {} that a backup makes redundant", count(removed, "part"));
        }
        Ok(())
    }

    /// Stores slices of relay logs as the next part, durably.
    pub(super) fn add(
        &mut self,
        supervisor: &mut Supervisor,
        slices: &[Slice],
        facts: &Facts,
        primary_logs: &Logs,
    ) -> Result<()> {
        self.empty_dir()?;
        let mut logs = Vec::new();
        for (number, slice) in slices.iter().enumerate() {
            let name = PathBuf::from(format!("{number:06}"));
            slice.write(&self.dir.join(&name))?;
            let (from, to) = (slice.from.to_string(), slice.to.to_string());
            logs.push((name, Span { from, to, times: slice.times }));
        }
        let log = slices.last().and_then(|slice| primary_logs.that_led_to(&slice.to)).cloned();
        let last = slices.iter().filter_map(|slice| slice.times).map(|(_, last)| last).max();
        let header = Header {
            flavor: facts.flavor.name().into(),
            version: facts.version.clone(),
            position: logs.last().map_or(String::new(), |(_, span)| span.to.clone()),
            data_as_of: last.map_or(Timestamp::now(), |last| last.seconds()),
            started: Timestamp::now(),
            base: None,
            open_tables: 0,
            primary_log: None,
            settings: Vec::new(),
        };
        self.store(supervisor, header, logs, log)
    }

    fn store(
        &mut self,
        supervisor: &mut Supervisor,
        header: Header,
        logs: Vec<(PathBuf, Span)>,
        last_log: Option<PrimaryLog>,
    ) -> Result<()> {
        let empty = self.dir.join("empty");
        fs::create_dir(&empty).doing("create", &empty)?;
        let journal = Journal { dir: self.dir.clone(), logs, last_log, ..Journal::default() };
        let data = Data { path: &empty, known: None, journal: &journal };
        let mut crew = supervisor.crew("follow", 1);
        let stored = store::store(self.repo, self.lock, data, header, self.level, &mut crew)?;
        drop(crew);
        let summary = self.repo.summary(&stored.name)?;
        self.all.extend(Part::new(stored.name, &summary));
        self.empty_dir()
    }

    fn empty_dir(&self) -> Result<()> {
        let dir = &self.dir;
        fs::remove_dir_all(dir).ignoring(io::ErrorKind::NotFound).doing("remove", dir)?;
        fs::create_dir(dir).doing("create", dir)
    }

    /// Puts parts together as long as there are enough of a kind.
    ///
    /// # Errors
    /// A full disk, and a stop. Anything else is a warning: what is stored is good as it is.
    pub(super) fn combine(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        while let Some(from) = self.due().filter(|_| self.combines) {
            match self.combine_from(supervisor, from) {
                Ok(()) => {}
                Err(e @ (Error::DiskFull { .. } | Error::Interrupted { .. })) => return Err(e),
                Err(e) => {
                    log::warn!("{}: {e}; parts are not put together any more", e.cause());
                    self.combines = false;
                }
            }
        }
        Ok(())
    }

    /// Where the last parts begin, of one kind or smaller, of which there are enough of that kind.
    fn due(&self) -> Option<usize> {
        let (mut least, mut most) = (0, SMALLEST);
        while most <= LARGEST {
            let (mut run, mut own) = (0, 0);
            let mut next: Option<&Part> = None;
            for part in self.all.iter().rev() {
                let leads_on = next.is_none_or(|next| next.from == part.to);
                if part.size > most || !leads_on {
                    break;
                }
                (run, next) = (run + 1, Some(part));
                own += usize::from(part.size > least);
            }
            if own >= TOGETHER {
                return Some(self.all.len() - run);
            }
            (least, most) = (most, most * TOGETHER as u64);
        }
        None
    }

    fn combine_from(&mut self, supervisor: &mut Supervisor, first: usize) -> Result<()> {
        self.empty_dir()?;
        let names: Vec<String> = self.all[first..].iter().map(|part| part.name.clone()).collect();
        let mut logs = Vec::new();
        let mut last = None;
        for (number, name) in names.iter().enumerate() {
            let held = self.repo.hold(name)?;
            let within = PathBuf::from(format!("part-{number}"));
            let entries = held.manifest.journal.logs.iter();
            let files: Vec<PathBuf> =
                (0..entries.len()).map(|n| PathBuf::from(format!("{n:06}"))).collect();
            let path = self.dir.join(&within);
            let (owner, into) = (None, Into::Existing);
            let to = Destination { path: &path, owner, into, kept: Kept::Cached, known: None };
            let mut crew = supervisor.crew("follow", 1);
            restore::restore(self.repo, &held.logs(&files)?, to, &mut crew)?;
            drop(crew);
            let spans = entries.map(|entry| entry.span.clone());
            logs.extend(files.iter().map(|file| within.join(file)).zip(spans));
            last = Some((held.manifest.header, held.manifest.journal.last_log));
        }
        let Some((header, last_log)) = last else { return Ok(()) };
        let mut crew = supervisor.crew("follow", 1);
        let dir = self.dir.clone();
        let logs = crew.alone(|| join_logs(&dir, logs))?;
        drop(crew);
        self.store(supervisor, header, logs, last_log)?;
        self.repo.remove_parts(self.lock, &mut self.all, &names)
    }
}

/// Appends each log to the one before, where the same describes both.
fn join_logs(dir: &Path, logs: Vec<(PathBuf, Span)>) -> Result<Vec<(PathBuf, Span)>> {
    let mut joined: Vec<(PathBuf, Span)> = Vec::new();
    // What describes the last one, unless nothing can be appended to it.
    let mut last: Option<Vec<u8>> = None;
    for (name, span) in logs {
        let path = dir.join(&name);
        let mut log = files::open_no_link(&path).doing("read", &path)?;
        let (mut mark, mut group) = (Mark::default(), Group::default());
        let ended = scan_on(0, &mut mark, &log, &mut group, &mut |_| true).doing("read", &path)?;
        if ended != End::Whole {
            let source = io::Error::other("it is damaged");
            return Err(Error::io("use", &path, source));
        }
        let length = mark.head.filter(|length| *length <= HEAD);
        let mut head = vec![0; length.unwrap_or(0) as usize];
        log.seek(SeekFrom::Start(0))
            .and_then(|_| log.read_exact(&mut head))
            .doing("read", &path)?;
        match joined.last_mut() {
            Some((before, whole)) if length.is_some() && last.as_ref() == Some(&head) => {
                let to = dir.join(before);
                let out = OpenOptions::new().append(true).open(&to);
                out.and_then(|mut out| io::copy(&mut log, &mut out)).doing("write", &to)?;
                whole.to = span.to;
                whole.times = match (whole.times, span.times) {
                    (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                    (a, b) => a.or(b),
                };
            }
            _ => joined.push((name, span)),
        }
        let is_plain = length.is_some() && mark.format.is_none() && !group.is_open();
        last = is_plain.then_some(head);
    }
    Ok(joined)
}
