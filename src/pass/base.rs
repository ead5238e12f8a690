//! The backup that a pass starts from, and whether the data of an interrupted pass belongs to it.
//!
//! It is the newest undamaged one, with a warning about damaged ones. Two kinds are passed over:
//! one with temporary tables open, while an older one without is left, since later statements may
//! use them; and one that has turned out not to lead on.

use std::time::Duration;

use crate::error::{Error, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::mysql::settings;
use crate::os::clock::Timestamp;
use crate::os::space::check_room;
use crate::os::sys;
use crate::os::workers::Crew;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::report::keys::Key;
use crate::repository::directory::{Repository, damaged};
use crate::repository::manifest::{Summary, hex};
use crate::scratch::working_directory::Scratch;
use crate::text::{bytes, short};

/// A backup to start from.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) manifest: Summary,
    pub(crate) position: Position,
}

impl Base {
    /// True if sessions of the primary had temporary tables open.
    pub(crate) fn has_open_tables(&self) -> bool {
        self.manifest.header.open_tables > 0
    }

    /// The log of its primary on record.
    pub(crate) fn primary_log(&self) -> Option<PrimaryLog> {
        self.manifest.header.primary_log.clone()
    }
}

/// The choice of a base.
pub struct Bases<'a> {
    /// Where the backups are.
    pub(crate) repo: &'a Repository,
    current: Option<Base>,
    skipped: Vec<String>,
    /// Backups that can be used in spite of what is wrong with a pack: what to say of each.
    in_spite: Vec<(String, String)>,
    /// The newest undamaged backup, whatever the base is.
    newest: Option<Base>,
    /// Those with temporary tables open are taken, too.
    any: bool,
    /// The backup that did not lead on, and why.
    given_up: Option<(String, Error)>,
    /// The one that is tried instead, or else those older than it.
    instead: Option<String>,
}

impl<'a> Bases<'a> {
    /// None chosen yet.
    pub fn new(repo: &'a Repository) -> Bases<'a> {
        Bases {
            repo,
            current: None,
            skipped: Vec::new(),
            in_spite: Vec::new(),
            newest: None,
            any: false,
            given_up: None,
            instead: None,
        }
    }

    /// The base, if there is one.
    pub(crate) fn current(&self) -> Option<&Base> {
        self.current.as_ref()
    }

    /// True if a damaged backup was skipped.
    pub fn any_skipped(&self) -> bool {
        !self.skipped.is_empty()
    }

    /// Names the damaged backups that were skipped, if any.
    pub fn skipped(&self) -> Option<String> {
        let skipped = self.skipped.join(", ");
        let what = "skipped as damaged; rollforward verify lists all damage";
        (!skipped.is_empty()).then(|| format!("backup {skipped} was {what}"))
    }

    /// What is to be said of the base if it is one of them.
    pub fn in_spite(&self) -> Option<&str> {
        let base = &self.current.as_ref()?.name;
        let found = self.in_spite.iter().find(|(name, _)| name == base);
        found.map(|(_, what)| what.as_str())
    }

    /// Excludes a backup from the choice.
    pub fn skip(&mut self, name: String) {
        self.newest.take_if(|newest| newest.name == name);
        self.skipped.push(name);
    }

    /// True if a newer backup was passed over for its temporary tables.
    pub fn passes_over(&self) -> bool {
        let names = (self.newest.as_ref().map(|b| &b.name), self.current.as_ref().map(|b| &b.name));
        names.0 != names.1 && self.given_up.is_none()
    }

    /// From now on temporary tables are no reason to pass over a backup.
    pub fn take_any(&mut self) {
        self.any = true;
    }

    /// An older backup than the base, to go back to if that does not lead on: the one that it grew from,
    /// since that led as far, or the next older one; one with temporary tables open is none. `None`
    /// once a base was given up.
    pub fn older(&self) -> Option<String> {
        let base = self.current.as_ref().filter(|_| self.given_up.is_none())?;
        let names = self.repo.names().ok()?;
        let older = names.iter().rev().skip_while(|name| **name != base.name).skip(1);
        let older = older.filter(|name| !self.skipped.contains(name));
        let grew_from = base.manifest.header.base.iter().filter(|b| names.contains(b));
        let mut all = grew_from.chain(older);
        all.find(|name| self.examine(name).is_ok_and(|b| !b.has_open_tables())).cloned()
    }

    /// The base does not lead on, because of `error`: an older one is picked from now on.
    pub fn give_up(&mut self, error: Error) {
        self.instead = self.older();
        if let Some(base) = self.current.take() {
            (self.any, self.given_up) = (false, Some((base.name, error)));
        }
    }

    /// The backup that did not lead on, and why.
    pub fn given_up(&self) -> Option<&(String, Error)> {
        self.given_up.as_ref()
    }

    /// The same, for the message of a pass that fails.
    pub fn take_given_up(&mut self) -> Option<(String, Error)> {
        self.given_up.take()
    }

    /// True if a backup of data at `at` would not be behind the newest one.
    pub fn is_ahead(&self, at: Option<&Position>) -> bool {
        let newest = self.newest.as_ref().map(|newest| &newest.position);
        newest.is_none_or(|newest| at.is_some_and(|at| at.contains(newest)))
    }

    /// True if the newest backup is younger than `min_interval`.
    pub fn not_due(&self, min_interval: Duration) -> bool {
        let Some(base) = &self.newest else { return false };
        let now = Timestamp::now();
        if base.manifest.header.data_as_of.is_future(now) {
            log::warn!("backup {} is dated in the future: a clock was or is wrong", base.name);
            return false;
        }
        let age = base.manifest.header.data_as_of.age(now);
        // What was set aside is stored again as soon as possible.
        let good = self.skipped.is_empty() && self.in_spite.is_empty();
        let young = good && age < min_interval;
        if young {
            log::info!("nothing is due: {} is {} old", base.name, short(age));
        }
        young
    }

    /// Fails if there is no room for any backup, before anything is restored. How much one will add
    /// is unknown; warns if the last one added more than is free.
    pub fn check_room(&self) -> Result<()> {
        let Some(base) = &self.current else { return Ok(()) };
        let root = self.repo.root();
        let manifest = self.repo.backups().join(&base.name);
        let least = std::fs::metadata(&manifest).map_or(0, |m| m.len());
        check_room(root, least, Place::Repository)?;
        let free = sys::free_bytes(root).unwrap_or(u64::MAX);
        if base.manifest.header.base.is_some() && free < base.manifest.stored {
            log::warn!(
                "{} has {} free, and the last backup added {}: make room there, as with \
                 rollforward prune",
                root.display(),
                bytes(free),
                bytes(base.manifest.stored)
            );
        }
        Ok(())
    }

    /// Warns if the base is older than half the time that the primary `keeps` its binary logs: after
    /// a few more nights without a pass they no longer reach back to it.
    pub fn warn_if_old(&self, keeps: Option<Duration>) {
        let (Some(base), Some(keeps)) = (&self.current, keeps) else { return };
        let age = base.manifest.header.data_as_of.age(Timestamp::now());
        if age > keeps / 2 {
            log::warn!(
                "{} is {} old, and the primary keeps its binary logs for {}: run more often, or \
                 keep them for longer there (binlog_expire_logs_seconds); after that only a new \
                 seed helps",
                base.name,
                short(age),
                short(keeps)
            );
        }
    }

    /// Picks the base; skips damaged backups with a warning, but not the one whose data is in the `scratch`
    /// directory. Fails if the repository cannot be read.
    pub fn pick(&mut self, scratch: &Scratch, crew: &mut Crew<'_>) -> Result<()> {
        self.current = None;
        // With temporary tables open: the base only if there is no better one.
        let mut second: Option<Base> = None;
        let instead = self.instead.clone();
        let names = self.repo.names()?.into_iter().rev();
        for name in names.skip_while(|name| instead.as_ref().is_some_and(|i| i != name)) {
            if self.skipped.contains(&name) {
                continue;
            }
            match self.examine_all(&name, scratch, crew) {
                Ok(base) => {
                    if instead.is_none() {
                        self.newest.get_or_insert_with(|| base.clone());
                    }
                    if self.any || !base.has_open_tables() {
                        self.current = Some(base);
                        break;
                    } else {
                        second.get_or_insert(base);
                    }
                }
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: skipping a backup: {e}");
                    self.skip(name);
                }
                Err(e) => return Err(e),
            }
        }
        match (&self.current, second) {
            (Some(base), Some(newer)) => log::info!(
                "starting from {}: {} has temporary tables open, which later statements may use",
                base.name,
                newer.name
            ),
            (None, second) => self.current = second,
            _ => {}
        }
        Ok(())
    }

    /// Examines a backup. One with packs that were set aside is damaged only if a block that it needs is,
    /// and the data of one may be at hand.
    fn examine_all(&mut self, name: &str, scratch: &Scratch, crew: &mut Crew<'_>) -> Result<Base> {
        let manifest = self.repo.summary(name)?;
        if let Some(what) = self.repo.state(&manifest.packs) {
            let (repo, gauge) = (self.repo, crew.gauge());
            // With an older base, the primary may give the journal once more.
            let has_journal = repo.state(&manifest.journal_packs).is_none();
            let what = if has_journal && scratch.base() == Some(name) {
                format!(
                    "{what}, but the scratch directory has the data of {name}: it is stored again"
                )
            } else if let Some(pack) = crew.alone(|| repo.good_in_spite_of(name, &gauge))? {
                let pack = hex(&pack.hash);
                format!(
                    "pack {pack} was set aside as damaged, but what {name} needs of it is good; its \
                     content is stored again"
                )
            } else {
                return Err(damaged(name, what));
            };
            if !self.in_spite.iter().any(|(known, _)| known == name) {
                log::warn!("backup-damaged: {what}");
                self.in_spite.push((name.into(), what));
            }
        }
        self.base_of(name, manifest)
    }

    fn examine(&self, name: &str) -> Result<Base> {
        let manifest = self.repo.summary(name)?;
        match self.repo.state(&manifest.packs) {
            Some(what) => Err(damaged(name, what)),
            None => self.base_of(name, manifest),
        }
    }

    fn base_of(&self, name: &str, manifest: Summary) -> Result<Base> {
        let damaged = |what: String| damaged(name, what);
        let flavor = Flavor::from_name(&manifest.header.flavor)
            .ok_or_else(|| damaged(format!("unknown flavor {}", manifest.header.flavor)))?;
        let position = Position::parse(flavor, &manifest.header.position).map_err(damaged)?;
        settings::of_manifest(name, &manifest.header.settings)?;
        Ok(Base { name: name.to_string(), manifest, position })
    }

    /// Fails unless there is a base, or it is `optional` and no backup was skipped.
    pub fn check(&self, optional: bool) -> Result<()> {
        if self.current.is_some() {
            return Ok(());
        }
        if let Some(name) = self.skipped.first() {
            let what = "no other one is good either";
            return Err(Error::BackupDamaged { backup: name.clone(), what: what.into() });
        }
        if optional {
            return Ok(());
        }
        let repo = self.repo.root().display();
        let what = format!(
            "repository {repo} has no backup: take the first one with rollforward seed --from \
             dump, or run with --first-backup=dump"
        );
        Err(Error::NoBackup { what })
    }

    /// The position of the scratch data, if it belongs to the base and can be resumed. If there is
    /// data that cannot, the error says why.
    pub fn resumable(
        &self,
        scratch: &Scratch,
        before: &Checkpointed,
    ) -> Result<Option<Position>, String> {
        let name = self.current.as_ref().map(|b| b.name.as_str());
        let hopeless = name.is_none() && self.any_skipped();
        if !scratch.has_data() || scratch.is_kept() || hopeless {
            return Ok(None);
        }
        let position = before.get(Key::Position.name()).map(String::as_str).unwrap_or_default();
        let flavor = match &self.current {
            Some(base) => {
                Flavor::from_name(&base.manifest.header.flavor).unwrap_or(Flavor::MariaDb)
            }
            None if position.contains(':') => Flavor::MySql,
            None => Flavor::MariaDb,
        };
        if before.get(Key::BaseBackup.name()).map(String::as_str) != name {
            return Err("no checkpoint fits it".into());
        }
        if position.is_empty() {
            return Err("its checkpoint has no position".into());
        }
        scratch.check_resumable(name, flavor)?;
        Position::parse(flavor, position).map(Some)
    }
}
