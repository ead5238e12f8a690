//! Which parts of what a follower has received are of no more use, since a pass has stored the same.

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::manifest::{Summary, glance};
use crate::repository::prune::Removal;

/// A part of what was received.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The position at which it begins.
    pub from: Position,
    /// The position to which it leads.
    pub to: Position,
    /// Bytes of its logs.
    pub size: u64,
    /// The latest time of a transaction in it.
    pub latest: Micros,
}

impl Part {
    /// What a part is, by its manifest.
    pub fn new(name: String, summary: &Summary) -> Option<Part> {
        let flavor = Flavor::from_name(&summary.header.flavor)?;
        let parse = |text: &str| Position::parse(flavor, text).ok();
        let (first, last) = (summary.spans.first()?, summary.spans.last()?);
        let (from, to) = (parse(&first.from)?, parse(&last.to)?);
        let latest = summary.spans.iter().filter_map(|span| Some(span.times?.1)).max()?;
        Some(Part { name, from, to, size: summary.journal_size, latest })
    }
}

/// A backup, as far as it matters here.
#[derive(Debug)]
pub struct Stored {
    /// Its position.
    pub position: Position,
    /// Its own journal leads to it.
    pub has_journal: bool,
    /// When the pass began that made it from nothing older: a chain begins with it.
    pub begins_chain: Option<Timestamp>,
    /// See [`Header::primary_log`].
    ///
    /// [`Header::primary_log`]: crate::repository::manifest::Header::primary_log
    pub primary_log: Option<PrimaryLog>,
}

impl Repository {
    /// All parts in these journals that can be read, oldest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for name in self.names()? {
            if let Some((Some(summary), None)) = self.look_at(&name)? {
                parts.extend(Part::new(name, &summary));
            }
        }
        Ok(parts)
    }

    /// All backups whose packs are there, oldest first. Only what is before their files is read.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn stored(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        for name in self.names()? {
            let file = match self.open_manifest(&name, false) {
                Ok(file) => file,
                Err(Error::NoBackup { .. } | Error::BackupDamaged { .. }) => continue,
                Err(e) => return Err(e),
            };
            let Ok(header) = glance::header(&file) else { continue };
            // One that is not whole replaces nothing.
            if !matches!(self.glance(&name), Ok(None)) {
                continue;
            }
            let value = |key: &str| header.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            let flavor = value("flavor").and_then(Flavor::from_name);
            let position = flavor.and_then(|f| Position::parse(f, value("position")?).ok());
            let has_journal = value("base").is_some() && value("no_journal").is_none();
            let started = value("started").and_then(Timestamp::parse);
            let begins_chain = started.filter(|_| value("base").is_none());
            let primary_log = value("primary_log").and_then(PrimaryLog::parse);
            all.extend(position.map(|position| Stored {
                position,
                has_journal,
                begins_chain,
                primary_log,
            }));
        }
        Ok(all)
    }

    /// Removes the parts among `parts` that are redundant beside these backups, and forgets them. One that
    /// is being read stays until the next time.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn remove_redundant(
        &self,
        lock: &RepoLock,
        parts: &mut Vec<Part>,
        stored: &[Stored],
    ) -> Result<()> {
        let useless: Vec<String> =
            parts.iter().filter(|part| !is_needed(part, stored)).map(|p| p.name.clone()).collect();
        self.remove_parts(lock, parts, &useless)
    }

    /// Removes parts and what only they need, and forgets them.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn remove_parts(
        &self,
        lock: &RepoLock,
        parts: &mut Vec<Part>,
        names: &[String],
    ) -> Result<()> {
        let mut removed = false;
        for name in names {
            match self.remove(lock, name) {
                Ok(Removal::InUse | Removal::Pinned) => continue,
                Ok(Removal::Removed) => removed = true,
                Err(Error::NoBackup { .. }) => {}
                Err(e) => return Err(e),
            }
            parts.retain(|part| part.name != *name);
        }
        if removed {
            self.sweep_packs(lock)?;
        }
        Ok(())
    }
}

/// True if the part leads beyond all backups, or to one that has no journal of its own.
fn is_needed(part: &Part, stored: &[Stored]) -> bool {
    let Some(newest) = stored.last() else { return true };
    let is_beyond = !newest.position.contains(&part.to);
    let bridges = |two: &[Stored]| {
        let [earlier, later] = two else { return false };
        !later.has_journal
            && !earlier.position.contains(&part.to)
            && !part.from.contains(&later.position)
    };
    is_beyond || stored.windows(2).any(bridges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        Position::parse(Flavor::MariaDb, text).unwrap()
    }

    #[test]
    fn parts_are_needed_beyond_backups_and_where_journals_miss() {
        let part = |from, to| {
            let (name, latest) = (String::new(), Micros(0));
            Part { name, from: at(from), to: at(to), size: 0, latest }
        };
        let stored = |text, has_journal| Stored {
            position: at(text),
            has_journal,
            begins_chain: None,
            primary_log: None,
        };
        let all = [stored("0-1-10", false), stored("0-1-20", true), stored("0-1-30", false)];
        for (from, to, needed) in [
            ("0-1-5", "0-1-9", false),
            ("0-1-10", "0-1-15", false),
            ("0-1-15", "0-1-20", false),
            ("0-1-15", "0-1-21", true),
            ("0-1-21", "0-1-30", true),
            ("0-1-30", "0-1-31", true),
            ("0-1-25", "0-1-35", true),
        ] {
            assert_eq!(is_needed(&part(from, to), &all), needed, "{from} to {to}");
        }
        assert!(is_needed(&part("0-1-5", "0-1-9"), &[]));
    }
}
