//! Which backup a pass begins from: the newest that is not damaged, with a loud word about those
//! that are; and whether the data of an interrupted pass still belongs to it.

use std::time::Duration;

use crate::error::{Error, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::os::clock::Timestamp;
use crate::os::space::check_room;
use crate::os::sys;
use crate::report::checkpoint::Facts as Checkpointed;
use crate::report::keys::Key;
use crate::repository::directory::Repository;
use crate::repository::manifest::Manifest;
use crate::scratch::working_directory::Scratch;
use crate::text::{bytes, short};

/// Seconds that clocks may differ without anybody being told.
const CLOCKS_DIFFER: i64 = 300;

/// A backup to begin from.
pub struct Base {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
    /// Its position.
    pub position: Position,
}

/// The choice of a base.
pub struct Bases<'a> {
    repo: &'a Repository,
    current: Option<Base>,
    passed_over: Vec<String>,
}

impl<'a> Bases<'a> {
    /// None chosen yet.
    pub fn new(repo: &'a Repository) -> Bases<'a> {
        Bases { repo, current: None, passed_over: Vec::new() }
    }

    /// The base, if there is one.
    pub fn current(&self) -> Option<&Base> {
        self.current.as_ref()
    }

    /// Was a damaged backup passed over?
    pub fn any_passed_over(&self) -> bool {
        !self.passed_over.is_empty()
    }

    /// Never choose this one.
    pub fn pass_over(&mut self, name: String) {
        self.passed_over.push(name);
    }

    /// Is the newest backup younger than `min_interval`?
    pub fn not_due(&self, min_interval: Duration) -> bool {
        let Some(base) = &self.current else { return false };
        let now = Timestamp::now();
        if base.manifest.data_as_of.0 > now.0 + CLOCKS_DIFFER {
            log::warn!("backup {} is dated in the future: a clock was or is wrong", base.name);
            return false;
        }
        let age = base.manifest.data_as_of.age(now);
        let young = self.passed_over.is_empty() && age < min_interval;
        if young {
            log::info!("nothing is due: {} is {} old", base.name, short(age));
        }
        young
    }

    /// Is there room for another backup at all? What it will add nobody knows; a warning when it
    /// was more the last time.
    ///
    /// # Errors
    /// [`Error::DiskFull`], before anything is restored.
    pub fn check_room(&self) -> Result<()> {
        let Some(base) = &self.current else { return Ok(()) };
        let root = self.repo.root();
        let manifest = self.repo.backups().join(&base.name);
        let least = std::fs::metadata(&manifest).map_or(0, |m| m.len());
        check_room(root, least, Place::Repository)?;
        let free = sys::free_bytes(root).unwrap_or(u64::MAX);
        if base.manifest.base.is_some() && free < base.manifest.stored {
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

    /// One warning when the base is older than half of what the primary `keeps`: a few nights
    /// more without a pass, and its binary logs no longer reach back so far.
    pub fn warn_if_old(&self, keeps: Option<Duration>) {
        let (Some(base), Some(keeps)) = (&self.current, keeps) else { return };
        let age = base.manifest.data_as_of.age(Timestamp::now());
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

    /// Looks for the newest backup that is not damaged.
    ///
    /// # Errors
    /// When the repository cannot be read. Damage is passed over with a warning.
    pub fn pick(&mut self) -> Result<()> {
        self.current = None;
        for name in self.repo.names()?.into_iter().rev() {
            if self.passed_over.contains(&name) {
                continue;
            }
            match self.look_at(&name) {
                Ok(base) => {
                    self.current = Some(base);
                    return Ok(());
                }
                Err(e @ Error::BackupDamaged { .. }) => {
                    log::warn!("backup-damaged: passing over a backup: {e}");
                    self.passed_over.push(name);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn look_at(&self, name: &str) -> Result<Base> {
        let manifest = self.repo.load(name)?;
        let damaged = |what: String| Error::BackupDamaged { backup: name.into(), what };
        if let Some(what) = self.repo.state(&manifest) {
            return Err(damaged(what));
        }
        let flavor = Flavor::from_name(&manifest.flavor)
            .ok_or_else(|| damaged(format!("unknown flavor {}", manifest.flavor)))?;
        let position = Position::parse(flavor, &manifest.position).map_err(damaged)?;
        Ok(Base { name: name.to_string(), manifest, position })
    }

    /// Is there a base, or may something else take its place?
    ///
    /// # Errors
    /// [`Error::NoBackup`] or [`Error::BackupDamaged`].
    pub fn check(&self, goes_without: bool) -> Result<()> {
        if self.current.is_some() {
            return Ok(());
        }
        if let Some(name) = self.passed_over.first() {
            let what = "and no other one is good; take a new one with rollforward seed --from dump";
            return Err(Error::BackupDamaged { backup: name.clone(), what: what.into() });
        }
        if goes_without {
            return Ok(());
        }
        let repo = self.repo.root().display();
        let what = format!(
            "repository {repo} has no backup: take the first one with rollforward seed --from \
             dump, or run with --first-backup=dump"
        );
        Err(Error::NoBackup { what })
    }

    /// The position of the scratch data, if it belongs to the base and can be gone on with.
    ///
    /// # Errors
    /// Says why not, when there is data.
    pub fn resumable(
        &self,
        scratch: &Scratch,
        before: &Checkpointed,
    ) -> Result<Option<Position>, String> {
        let name = self.current.as_ref().map(|b| b.name.as_str());
        let hopeless = name.is_none() && self.any_passed_over();
        if !scratch.has_data() || scratch.is_kept() || hopeless {
            return Ok(None);
        }
        let position = before.get(Key::Position.name()).map(String::as_str).unwrap_or_default();
        let flavor = match &self.current {
            Some(base) => Flavor::from_name(&base.manifest.flavor).unwrap_or(Flavor::MariaDb),
            None if position.contains(':') => Flavor::MySql,
            None => Flavor::MariaDb,
        };
        if before.get(Key::BaseBackup.name()).map(String::as_str) != name {
            return Err("no checkpoint fits it".into());
        }
        if position.is_empty() {
            return Err("no checkpoint tells its position".into());
        }
        scratch.check_resumable(name, flavor)?;
        Position::parse(flavor, position).map(Some)
    }
}
