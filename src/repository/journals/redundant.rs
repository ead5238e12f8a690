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
    /// The earliest and the latest time of the transactions in it.
    pub times: (Micros, Micros),
    /// The primary's log that led there, if that is on record: nothing in it is from a later one.
    pub log: Option<PrimaryLog>,
}

impl Part {
    /// What a part is, by its manifest.
    pub fn new(name: String, summary: &Summary) -> Option<Part> {
        let flavor = Flavor::from_name(&summary.header.flavor)?;
        let parse = |text: &str| Position::parse(flavor, text).ok();
        let (first, last) = (summary.spans.first()?, summary.spans.last()?);
        let (from, to) = (parse(&first.from)?, parse(&last.to)?);
        let times = || summary.spans.iter().filter_map(|span| span.times);
        let times = (times().map(|(first, _)| first).min()?, times().map(|(_, last)| last).max()?);
        let log = summary.last_log.clone();
        Some(Part { name, from, to, size: summary.journal_size, times, log })
    }

    /// True if all of it is in a backup at `position` whose pass began at `started`. Where numbers do not
    /// tell, what was received before the pass began does: its primary had that by then.
    pub fn is_within(&self, position: &Position, started: Option<Timestamp>) -> bool {
        let is_earlier = || started.is_some_and(|started| self.was_stored_before(started));
        position.contains(&self.to) && (position.tells(&self.to) || is_earlier())
    }

    /// True if it ends where such a backup is, or goes on from there.
    pub fn leads_beyond(&self, position: &Position, started: Option<Timestamp>) -> bool {
        let is_in = position.contains(&self.to);
        self.to.contains(position) || (is_in && !self.is_within(position, started))
    }

    /// True if it was stored before that time.
    pub fn was_stored_before(&self, time: Timestamp) -> bool {
        was_stored_before(&self.name, time)
    }
}

fn was_stored_before(name: &str, time: Timestamp) -> bool {
    let stored = name.get(..16).and_then(Timestamp::parse_compact);
    stored.is_some_and(|stored| stored < time)
}

/// A backup, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its position.
    pub position: Position,
    /// When its pass began.
    pub started: Option<Timestamp>,
    /// Its own journal leads to it.
    pub has_journal: bool,
    /// See [`Header::primary_log`].
    ///
    /// [`Header::primary_log`]: crate::repository::manifest::Header::primary_log
    pub primary_log: Option<PrimaryLog>,
    /// See [`Journal::last_log`].
    ///
    /// [`Journal::last_log`]: crate::repository::manifest::journal::Journal::last_log
    pub last_log: Option<PrimaryLog>,
    /// All that the primary had committed until then is in it, by its clock.
    pub as_of: Option<Micros>,
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

    /// When the pass began that stored the first backup that is left of the chain of `name`. A primary had
    /// all by then that was received before, or it was reset: what is stored of that leads on from no
    /// backup of the chain, though its positions may look so. What an adopted copy lacks, since it is older
    /// than that, is received again.
    ///
    /// # Errors
    /// When a manifest cannot be opened or read.
    pub fn chain_begun(&self, name: &str) -> Result<Option<Timestamp>> {
        let (mut name, mut begun) = (name.to_string(), None);
        loop {
            let file = match self.open_manifest(&name, false) {
                Ok(file) => file,
                Err(Error::NoBackup { .. } | Error::BackupDamaged { .. }) => return Ok(begun),
                Err(e) => return Err(e),
            };
            let Ok(header) = glance::header(&file) else { return Ok(begun) };
            let value = |key: &str| header.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            begun = value("started").and_then(Timestamp::parse);
            match value("base") {
                // Never in a circle, whatever manifests say.
                Some(base) if *base < *name => name = base.to_string(),
                _ => return Ok(begun),
            }
        }
    }

    /// For each of the backups `names`, in order, when the next chain after it began.
    ///
    /// # Errors
    /// When a manifest cannot be opened or read.
    pub fn next_chains(&self, names: &[String]) -> Result<Vec<Option<Timestamp>>> {
        let (mut next, mut all) = (None, Vec::new());
        for (at, name) in names.iter().enumerate().rev() {
            all.push(next);
            let file = match self.open_manifest(name, false) {
                Ok(file) => file,
                Err(Error::NoBackup { .. } | Error::BackupDamaged { .. }) => continue,
                Err(e) => return Err(e),
            };
            let Ok(header) = glance::header(&file) else { continue };
            let value = |key: &str| header.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            let begins = value("base").is_none_or(|base| !names[..at].iter().any(|n| n == base));
            if let (true, Some(started)) = (begins, value("started").and_then(Timestamp::parse)) {
                next = Some(started);
            }
        }
        all.reverse();
        Ok(all)
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
            let log = |key| value(key).and_then(PrimaryLog::parse);
            let (primary_log, last_log) = (log("primary_log"), log("primary_last_log"));
            let as_of = value("primary_as_of").and_then(Micros::parse);
            let started = value("started").and_then(Timestamp::parse);
            all.extend(position.map(|position| Stored {
                name,
                position,
                started,
                has_journal,
                primary_log,
                last_log,
                as_of,
            }));
        }
        Ok(all)
    }

    /// Removes the parts among `parts` that are redundant beside these `backups`, and forgets them. One that
    /// is being read stays until the next time.
    ///
    /// # Errors
    /// Those of reading and removing.
    pub fn remove_redundant(
        &self,
        lock: &RepoLock,
        parts: &mut Vec<Part>,
        backups: &Repository,
    ) -> Result<()> {
        let stored = backups.stored()?;
        let begun = match stored.last() {
            Some(newest) => backups.chain_begun(&newest.name)?,
            None => None,
        };
        let useless = parts.iter().filter(|part| !is_needed(part, &stored, begun));
        let useless: Vec<String> = useless.map(|part| part.name.clone()).collect();
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

/// True if the part leads beyond all backups, or to one that has no journal of its own. One from before the
/// newest chain began is compared with the backups of that time only, and goes with the last of them.
fn is_needed(part: &Part, stored: &[Stored], begun: Option<Timestamp>) -> bool {
    let begun = begun.filter(|begun| part.was_stored_before(*begun));
    let is_of_then =
        |other: &&Stored| begun.is_none_or(|begun| was_stored_before(&other.name, begun));
    let stored = &stored[..stored.iter().take_while(is_of_then).count()];
    let Some(newest) = stored.last() else { return begun.is_none() };
    let is_beyond = !part.is_within(&newest.position, newest.started);
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
            let (name, times) = (String::new(), (Micros(0), Micros(0)));
            Part { name, from: at(from), to: at(to), size: 0, times, log: None }
        };
        let stored = |text, has_journal| {
            let (name, position) = (String::new(), at(text));
            let (started, primary_log, as_of) = (None, None, None);
            Stored { name, position, started, has_journal, primary_log, last_log: None, as_of }
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
            assert_eq!(is_needed(&part(from, to), &all, None), needed, "{from} to {to}");
        }
        assert!(is_needed(&part("0-1-5", "0-1-9"), &[], None));
    }

    /// After `0-1-20` a server without `gtid_strict_mode` may log `0-2-15`.
    #[test]
    fn numbers_of_several_servers_make_no_part_redundant() {
        let began = Timestamp::parse("2026-11-23T12:00:00Z");
        let newest = |text| Stored {
            name: "20261123T120500Z-0000".into(),
            position: at(text),
            started: began,
            has_journal: true,
            primary_log: None,
            last_log: None,
            as_of: None,
        };
        let part = |hour, from, to| {
            let name = format!("20261123T{hour}3000Z-0000");
            Part {
                name,
                from: at(from),
                to: at(to),
                size: 0,
                times: (Micros(0), Micros(0)),
                log: None,
            }
        };
        let needed = |part: &Part, text| is_needed(part, &[newest(text)], None);
        assert!(needed(&part(12, "0-1-20", "0-2-15"), "0-1-20"));
        // The pass began later: its primary had it by then.
        assert!(!needed(&part(11, "0-1-20", "0-2-15"), "0-1-30"));
        assert!(!needed(&part(12, "0-1-20", "0-1-25"), "0-1-30"));
    }

    #[test]
    fn parts_of_an_older_chain_go_with_its_backups() {
        let begun = Timestamp::parse("2026-11-23T00:00:00Z");
        let stored = |day, text| {
            let name = format!("202611{day}T120000Z-0000");
            let (position, started) = (at(text), None);
            let (primary_log, as_of) = (None, None);
            Stored {
                name,
                position,
                started,
                has_journal: true,
                primary_log,
                last_log: None,
                as_of,
            }
        };
        let all = [stored(21, "0-1-10"), stored(22, "0-1-20"), stored(23, "0-1-15")];
        let part = |day, from, to| {
            let name = format!("202611{day}T130000Z-0000");
            let times = (Micros(0), Micros(0));
            Part { name, from: at(from), to: at(to), size: 0, times, log: None }
        };
        let then = part(22, "0-1-20", "0-1-30");
        // The primary was reset, and has come beyond it again.
        let later = [&all[..], &[stored(24, "0-1-40")]].concat();
        assert!(is_needed(&then, &all, begun) && is_needed(&then, &later, begun));
        assert!(!is_needed(&then, &later[2..], begun), "nothing leads to it any more");
        assert!(!is_needed(&part(22, "0-1-10", "0-1-20"), &later, begun));
        assert!(is_needed(&part(24, "0-1-40", "0-1-50"), &later, begun));
        assert!(!is_needed(&part(23, "0-1-15", "0-1-40"), &later, begun));
    }
}
