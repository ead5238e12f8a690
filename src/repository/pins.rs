//! Pins: backups that retention passes over, each with a reason and perhaps an end.
//!
//! `pins/NAME` holds one line, as what is on record does: `pin`, then `time`, `reason` and `until`. A
//! pass may run while somebody pins: the backup is held meanwhile, so that no prune removes it, and
//! prune looks for a pin once more when it has the backup for itself. Pins are changed under
//! `proofs/lock`. What is read is untrusted: a file that makes no sense pins all the same, without an
//! end, since to keep a backup is the smaller harm.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::repository::directory::{PINS, Repository};
use crate::repository::manifest::is_backup_name;
use crate::repository::packs::write::sync_dir;
use crate::repository::proofs::{Record, lines, remove_files};

/// The longest reason. Bytes.
pub const LONGEST_REASON: usize = 1000;
/// The kind of the line.
const PIN: &str = "pin";

/// Why a backup is pinned, and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// Untrusted text; empty if none was given.
    pub reason: String,
    /// `None`: until it is unpinned.
    pub until: Option<Timestamp>,
}

impl Pin {
    /// When it ends; the end of time if it does not.
    pub fn end(&self) -> Timestamp {
        self.until.unwrap_or(Timestamp(i64::MAX))
    }

    /// `until 2027-01-01T00:00:00Z: for the auditors`, for people.
    pub fn text(&self) -> String {
        let until = self.until.map_or("pinned".into(), |t| format!("pinned until {}", t.rfc3339()));
        if self.reason.is_empty() { until } else { format!("{until}: {}", self.reason) }
    }
}

impl Repository {
    /// The pin of the backup `name`, whether or not its time is over. What cannot be read is a warning.
    pub fn pin_of(&self, name: &str) -> Option<Pin> {
        let path = self.pins().join(name);
        if !is_backup_name(name) || path.symlink_metadata().is_err() {
            return None;
        }
        let record = match lines(&path) {
            // It was removed just now.
            Ok(lines) if lines.is_empty() && path.symlink_metadata().is_err() => return None,
            Ok(lines) => lines.last().and_then(|line| Record::parse(line)),
            Err(e) => {
                log::warn!("cannot read the pin {}: {e}; the backup stays", path.display());
                return Some(Pin::default());
            }
        };
        let Some(record) = record.filter(|record| record.kind() == PIN) else {
            log::warn!("the pin {} makes no sense; the backup stays", path.display());
            return Some(Pin::default());
        };
        let reason = record.get("reason").unwrap_or_default().to_string();
        Some(Pin { reason, until: record.time_of("until") })
    }

    /// Pins a backup, or gives one that is pinned another reason and end. The repository becomes one
    /// of format 2.
    ///
    /// # Errors
    /// [`Error::NoBackup`]; [`Error::Locked`] while another process puts something on record; when it
    /// cannot be written.
    pub fn pin(&self, name: &str, pin: &Pin) -> Result<()> {
        let name = self.find(Some(name))?;
        // From here to the end no prune removes it.
        let _held = self.hold(&name)?;
        let _lock = self.lock_records()?;
        let dir = self.pins();
        self.make_dir(&dir)?;
        let mut record = Record::new(PIN, Timestamp::now());
        if !pin.reason.is_empty() {
            record = record.with("reason", &pin.reason);
        }
        if let Some(until) = pin.until {
            record = record.with("until", until.rfc3339());
        }
        let path = dir.join(name);
        files::replace(&path, &(record.line() + "\n"), 0o600, true).doing("write", &path)
    }

    /// Removes the pin of a backup. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::NoBackup`] if there is neither; otherwise as [`Repository::pin`].
    pub fn unpin(&self, name: &str) -> Result<bool> {
        let path = self.pins().join(name);
        if !is_backup_name(name) || path.symlink_metadata().is_err() {
            return self.find(Some(name)).map(|_| false);
        }
        let _lock = self.lock_records()?;
        self.make_dir(&self.pins())?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            gone => gone.doing("remove", &path)?,
        }
        sync_dir(&self.pins())?;
        Ok(true)
    }

    /// Removes the pins whose time is over, and those of backups that are not among `names`.
    pub(super) fn sweep_pins(&self, names: &[String], now: Timestamp) -> Result<()> {
        if self.pins().symlink_metadata().is_err() {
            return Ok(());
        }
        // Somebody may be writing one: the next prune sweeps as well.
        let _lock = match self.lock_records() {
            Err(Error::Locked { .. }) => return Ok(()),
            lock => lock?,
        };
        remove_files(&self.pins(), |backup| {
            !names.iter().any(|name| name == backup)
                || self.pin_of(backup).is_some_and(|pin| pin.end() <= now)
        })
    }

    fn pins(&self) -> PathBuf {
        self.root().join(PINS)
    }
}
