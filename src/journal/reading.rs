//! Reads what can be restored: the manifests of the backups, and what a follower has received since.
//!
//! A follower goes on while passes store backups, so what it has received is cut at other positions than
//! theirs. A part leads on from any backup that lies on its way, and where a backup has no journal of its
//! own, the part on whose way it lies takes the place of it.

use std::collections::VecDeque;

use crate::error::Result;
use crate::journal::history::{History, Point};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::directory::Repository;
use crate::repository::journals::redundant::Part;
use crate::repository::journals::{Seen, shown};
use crate::repository::manifest::Summary;

/// Microseconds by which what a clock said is less precise than what came just before it.
const CLOCK: i64 = 2_000_000;

/// True of a part from before that chain began.
fn is_before(part: &Part, chain: Option<Timestamp>) -> bool {
    chain.is_none_or(|begun| part.was_stored_before(begun))
}

impl History {
    /// Reads all manifests.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn read(repo: &Repository) -> Result<History> {
        History::of(repo, repo.names()?, None)
    }

    /// The newest moment that can be restored, by the primary's clock, if there is any: from the newest
    /// backup on, along what a follower has received.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn recoverable_until(repo: &Repository) -> Result<Option<Micros>> {
        for name in repo.names()?.into_iter().rev() {
            let begun = repo.chain_begun(&name)?;
            let history = History::of(repo, vec![name], begun)?;
            if history.points.first().is_some_and(|point| point.is_good) {
                return Ok(history.points.iter().map(Point::complete_until).max());
            }
        }
        Ok(None)
    }

    /// That of the backups `names`, and of the parts that were stored after `begun`.
    fn of(repo: &Repository, names: Vec<String>, begun: Option<Timestamp>) -> Result<History> {
        let mut history = History::default();
        let journals = repo.journals()?;
        let parts = journals.as_ref().map_or(Ok(Vec::new()), Repository::parts)?;
        let is_later = |part: &Part| begun.is_none_or(|begun| !part.was_stored_before(begun));
        let mut parts: VecDeque<Part> = parts.into_iter().filter(is_later).collect();
        let none = || vec![None; names.len()];
        let nexts = if parts.is_empty() { none() } else { repo.next_chains(&names)? };
        for (name, next_chain) in names.into_iter().zip(nexts) {
            match repo.look_at(&name)? {
                Some((Some(summary), None)) => {
                    history.add_earlier(&mut parts, &summary);
                    history.add_parts(&mut parts, &summary, next_chain);
                    history.add(name, &summary);
                    history.bridge(parts.front().filter(|part| is_before(part, next_chain)));
                }
                Some((Some(summary), Some(_))) => {
                    history.add_earlier(&mut parts, &summary);
                    history.add_parts(&mut parts, &summary, next_chain);
                    let journal = repo.state(&summary.journal_packs);
                    history.add_damaged(name, &summary, journal.is_none());
                }
                Some((None, _)) => history.damaged.push((name, history.points.len())),
                None => {}
            }
        }
        parts.into_iter().for_each(|part| history.add_part(part));
        if let Some(seen) = journals.and_then(|journals| journals.seen()) {
            history.see(&seen);
        }
        Ok(history)
    }

    /// Adds the parts that were stored before a new chain began with this backup: see
    /// [`Repository::chain_begun`].
    fn add_earlier(&mut self, parts: &mut VecDeque<Part>, summary: &Summary) {
        let header = &summary.header;
        let is_base = |point: &Point| Some(&point.name) == header.base.as_ref();
        if self.points.iter().any(is_base) {
            return;
        }
        while parts.front().is_some_and(|part| part.was_stored_before(header.started)) {
            parts.pop_front().into_iter().for_each(|part| self.add_part(part));
        }
    }

    /// Adds the parts that end where this backup is, or before. Those from after the next chain began only
    /// look as if they did: the primary was reset.
    fn add_parts(
        &mut self,
        parts: &mut VecDeque<Part>,
        summary: &Summary,
        next_chain: Option<Timestamp>,
    ) {
        let Some(until) = position(summary) else { return };
        let started = Some(summary.header.started);
        let is_next = |part: &Part| {
            let is_in = part.from != until && part.is_within(&until, started);
            is_in && is_before(part, next_chain)
        };
        while parts.front().is_some_and(is_next) {
            parts.pop_front().into_iter().for_each(|part| self.add_part(part));
        }
    }

    fn add_part(&mut self, Part { name, from, to, size, times: (earliest, latest), .. }: Part) {
        // What a part leads over is in it, and so no older than all of that: unless it is of a primary that
        // was reset, and what its chain began with is gone.
        let is_of_then = |point: &Point| {
            let is_told = point.as_of.is_some() || point.latest.is_some();
            !is_told || point.began().0 + CLOCK >= earliest.0
        };
        // Where it begins, whatever the numbers are.
        let is_on_way = |point: &Point| {
            let within = to.contains(&point.position) && point.position.contains(&from);
            point.position == from || (within && is_of_then(point))
        };
        // The newest of them, so that less is to be replayed. One that leads from nothing is of no use.
        let Some(leads_from) = self.points.iter().rposition(is_on_way) else { return };
        let name = shown(&name);
        self.points.push(Point {
            journal_of: Some(name.clone()),
            name,
            position: to,
            is_good: false,
            data_as_of: latest.seconds(),
            as_of: None,
            leads_from: Ok(leads_from),
            latest: Some(latest),
            journal_size: size,
            primary_log: None,
        });
    }

    /// Has parts lead to the last backup, if it has no journal of its own. The `next` one ends beyond it.
    fn bridge(&mut self, next: Option<&Part>) {
        let Some((backup, earlier)) = self.points.split_last_mut() else { return };
        if backup.leads_from.is_ok() {
            return;
        }
        let at = &backup.position;
        let same = earlier.iter().rfind(|point| point.position == *at && point.leads_from.is_ok());
        let way = match (same, next) {
            (Some(same), _) => {
                Some((same.leads_from.clone(), same.journal_of.clone(), same.journal_size))
            }
            (None, Some(next)) if at.contains(&next.from) && next.to.contains(at) => {
                let is_on_way = |point: &Point| {
                    point.position.contains(&next.from) && at.contains(&point.position)
                };
                let from = earlier.iter().rposition(is_on_way);
                from.map(|from| (Ok(from), Some(shown(&next.name)), next.size))
            }
            _ => None,
        };
        if let Some((leads_from, journal_of, size)) = way {
            (backup.leads_from, backup.journal_of) = (leads_from, journal_of);
            backup.journal_size = size;
            backup.latest = Some(backup.began());
        }
    }

    /// The primary was seen to be at the last position of all, and to have nothing else until then.
    fn see(&mut self, seen: &Seen) {
        let Some(last) = self.points.last() else { return };
        let at = Position::parse(last.position.flavor(), &seen.position);
        if at.as_ref() == Ok(&last.position) && last.complete_until() < seen.as_of {
            let (leads_from, as_of) = (Ok(self.points.len() - 1), Some(seen.as_of));
            let (latest, journal_size, journal_of) = (None, 0, None);
            let is_good = false;
            let last = last.clone();
            self.points.push(Point {
                is_good,
                as_of,
                leads_from,
                latest,
                journal_size,
                journal_of,
                ..last
            });
        }
    }
}

fn position(summary: &Summary) -> Option<Position> {
    let flavor = Flavor::from_name(&summary.header.flavor)?;
    Position::parse(flavor, &summary.header.position).ok()
}
