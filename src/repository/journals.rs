//! What a follower has received since the last pass: a repository of its own, `journals/`, within that of
//! the backups.
//!
//! So neither waits for the other: the follower holds the lock of its own one all the time, and no sweep
//! of packs or temporary files by a pass sees what is in it. Each *part* is a manifest with a journal and
//! without files. `journals/seen` is what the primary was last seen at: until then it has committed
//! nothing else.

pub mod redundant;

use std::io;
use std::path::PathBuf;

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Micros;
use crate::os::files;
use crate::repository::directory::{Repository, check_directory};
use crate::repository::format;
use crate::repository::held::Held;

/// Its directory, and what the names of its parts are shown with.
const DIR: &str = "journals";
const PREFIX: &str = "journals/";
/// The longest text that is read as what was seen. Bytes.
const LONGEST: u64 = 64 << 20;

/// The name that a part is shown by.
pub fn shown(part: &str) -> String {
    format!("{PREFIX}{part}")
}

/// What a primary was seen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its position.
    pub position: String,
    /// All that it had committed until then is in that position, by its own clock.
    pub as_of: Micros,
}

impl Repository {
    /// What a follower has received, if one has ever run.
    ///
    /// # Errors
    /// As [`Repository::open`]; something else than a directory in its place.
    pub fn journals(&self) -> Result<Option<Repository>> {
        let path = self.journals_dir()?;
        if !Repository::exists(&path) {
            return Ok(None);
        }
        Repository::open(&path).map(Some)
    }

    /// The same for a follower, made if it is not there.
    ///
    /// # Errors
    /// As [`Repository::open_or_create`].
    pub fn make_journals(&self) -> Result<Repository> {
        let path = self.journals_dir()?;
        format::tell(self.root(), format::raise(self.root())?);
        Repository::open_or_create(&path)
    }

    /// Where they are. Behind a link there may be another repository, whose backups would be taken for
    /// parts, and removed when they are of no more use here.
    fn journals_dir(&self) -> Result<PathBuf> {
        let path = self.root().join(DIR);
        check_directory(&path).map(|()| path)
    }

    fn seen_file(&self) -> PathBuf {
        self.root().join("seen")
    }

    /// What the primary of these journals was last seen at. What makes no sense was never seen.
    pub fn seen(&self) -> Option<Seen> {
        let text = files::read(&self.seen_file(), LONGEST).ok()?;
        let text = String::from_utf8(text).ok()?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let as_of = Micros::parse(value("primary_as_of ")?)?;
        // The last line shows that it is whole.
        value("end")?;
        Some(Seen { position: value("position ")?.to_string(), as_of })
    }

    /// Puts on record what the primary of these journals was seen at. It is not synced: what is lost with
    /// the power is seen again.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_seen(&self, seen: &Seen) -> Result<()> {
        let path = self.seen_file();
        let (at, position) = (seen.as_of.rfc3339(), &seen.position);
        let text = format!("format 1\nposition {position}\nprimary_as_of {at}\nend\n");
        files::replace(&path, &text, 0o600, false).doing("write", &path)
    }
}

/// The backups, and what a follower has received.
pub struct Stores {
    /// The backups.
    pub backups: Repository,
    /// What was received since.
    pub journals: Option<Repository>,
}

impl Stores {
    /// Those of a repository.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn new(backups: Repository) -> Result<Stores> {
        let journals = backups.journals()?;
        Ok(Stores { backups, journals })
    }

    /// Reads a backup, or a part by the name it is shown by, and protects it from removal.
    ///
    /// # Errors
    /// As [`Repository::hold`].
    pub fn hold(&self, name: &str) -> Result<Held> {
        let Some(part) = name.strip_prefix(PREFIX) else { return self.backups.hold(name) };
        let Some(journals) = &self.journals else {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::io("open", &self.backups.root().join(name), source));
        };
        journals.hold(part).map(|held| Held { name: name.into(), ..held })
    }

    /// Where it is stored.
    pub fn of(&self, held: &Held) -> &Repository {
        match &self.journals {
            Some(journals) if held.is_received() => journals,
            _ => &self.backups,
        }
    }
}

impl Held {
    /// True for a part that a follower has received, which has no data.
    pub fn is_received(&self) -> bool {
        self.name.starts_with(PREFIX)
    }
}
