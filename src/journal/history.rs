//! What can be restored: the backups of a repository, and the journals that lead from one to another.
//!
//! They are joined by positions, never by names. Pure but for reading the manifests.

use crate::error::Result;
use crate::journal::cut::Moment;
use crate::mysql::flavor::Flavor;
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::directory::Repository;
use crate::repository::manifest::Summary;

/// A backup, and what leads to it.
#[derive(Clone, Debug)]
pub struct Point {
    /// The backup's name.
    pub name: String,
    /// Its position.
    pub position: Position,
    /// When its data matched the primary, by our clock.
    pub data_as_of: Timestamp,
    /// All that was committed until then is in it, by the primary's clock; `None` if that is unknown.
    pub as_of: Option<Micros>,
    /// The backup from which its journal leads on, by its index, or why there is none.
    pub leads_from: Result<usize, String>,
    /// The latest time of a transaction in its journal.
    pub latest: Option<Micros>,
    /// Bytes of its journal.
    pub journal_size: u64,
}

/// All backups that can be restored, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The backups.
    pub points: Vec<Point>,
    /// Those that cannot, with the index of the next one that can.
    pub damaged: Vec<(String, usize)>,
}

/// The way to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// This backup is of that moment.
    Exactly(usize),
    /// From the first backup, along the journal of the second one.
    Along(usize, usize),
}

/// A moment that cannot be had, and the nearest ones that can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// Why it cannot.
    pub why: String,
    /// The latest before it.
    pub before: Option<usize>,
    /// The earliest after it.
    pub after: Option<usize>,
}

/// A span of time that can be restored to any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The backup at its beginning, and the one at its end.
    pub ends: (usize, usize),
    /// Why it does not begin where the one before ends; empty for the first.
    pub gap: String,
}

impl History {
    /// Reads all manifests.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn read(repo: &Repository) -> Result<History> {
        let mut history = History::default();
        for name in repo.names()? {
            match repo.look_at(&name)? {
                Some((Some(summary), None)) => history.add(name, &summary),
                Some(_) => history.damaged.push((name, history.points.len())),
                None => {}
            }
        }
        Ok(history)
    }

    /// Adds the next backup.
    pub fn add(&mut self, name: String, summary: &Summary) {
        let header = &summary.header;
        let flavor = Flavor::from_name(&header.flavor).unwrap_or(Flavor::MariaDb);
        let Ok(position) = Position::parse(flavor, &header.position) else {
            self.damaged.push((name, self.points.len()));
            return;
        };
        let leads_from = self.before(flavor, &position, summary);
        let latest = summary.spans.iter().filter_map(|span| Some(span.times?.1)).max();
        self.points.push(Point {
            name,
            position,
            data_as_of: header.data_as_of,
            as_of: summary.as_of,
            leads_from,
            latest,
            journal_size: summary.journal_size,
        });
    }

    /// The backup from which the journal of the next one leads on.
    fn before(
        &self,
        flavor: Flavor,
        position: &Position,
        summary: &Summary,
    ) -> Result<usize, String> {
        if let Some(gap) = &summary.gap {
            return Err(gap.clone());
        }
        let base = summary.header.base.as_deref();
        let from = match summary.spans.first() {
            Some(span) => Position::parse(flavor, &span.from)?,
            // Nothing had happened.
            None if base.is_some() => position.clone(),
            None => return Err("a new chain begins".into()),
        };
        let at = |point: &Point| point.position == from;
        let is_base = |point: &Point| Some(point.name.as_str()) == base;
        let named = self.points.iter().rposition(|point| is_base(point) && at(point));
        named.or_else(|| self.points.iter().rposition(at)).ok_or_else(|| match base {
            Some(_) if summary.spans.is_empty() => "no journal was kept".into(),
            Some(base) => format!("the backup {base}, from which it leads on, is not there"),
            None => "a new chain begins".into(),
        })
    }

    /// The way to a moment.
    ///
    /// # Errors
    /// Why it cannot be had, and what can be instead.
    pub fn route(&self, moment: &Moment) -> Result<Route, OutOfReach> {
        match moment {
            Moment::Time(time) => self.to_time(*time),
            Moment::After(gtid) | Moment::Before(gtid) => {
                let exact = matches!(moment, Moment::After(_));
                self.to_gtid(gtid, exact)
            }
        }
    }

    /// The step of the journal that leads on from a backup: the nearest one.
    fn next(&self, from: usize) -> Option<usize> {
        (from + 1..self.points.len()).find(|at| self.points[*at].leads_from == Ok(from))
    }

    fn to_time(&self, time: Micros) -> Result<Route, OutOfReach> {
        // With all its transactions before the moment.
        let is_before = |point: &&Point| match (&point.leads_from, point.latest) {
            (Ok(_), Some(latest)) => latest <= time,
            (Ok(from), None) => self.points[*from].began() <= time,
            (Err(_), _) => point.began() <= time,
        };
        let Some(base) = self.points.iter().rposition(|point| is_before(&point)) else {
            let after = (!self.points.is_empty()).then_some(0);
            let why = "it is before the first backup".into();
            return Err(OutOfReach { why, before: None, after });
        };
        if let Some(next) = self.next(base) {
            return Ok(Route::Along(base, next));
        }
        if self.points[base].as_of.is_some_and(|as_of| time <= as_of) {
            return Ok(Route::Exactly(base));
        }
        let after = self.points.get(base + 1).map(|_| base + 1);
        let why = match self.points.get(base + 1).map(|point| &point.leads_from) {
            Some(Err(gap)) => format!("it is in a gap: {gap}"),
            Some(Ok(_)) => "no journal leads there".into(),
            None => "it is after all that is stored".into(),
        };
        Err(OutOfReach { why, before: Some(base), after })
    }

    fn to_gtid(&self, gtid: &Gtid, exact: bool) -> Result<Route, OutOfReach> {
        let has = |at: usize| self.points[at].position.has(gtid);
        for (at, point) in self.points.iter().enumerate().rev() {
            if let Ok(from) = point.leads_from
                && has(at)
                && !has(from)
            {
                return Ok(Route::Along(from, at));
            }
        }
        if exact {
            let text = gtid.to_string();
            let is = |point: &Point| point.position.to_string() == text;
            if let Some(at) = self.points.iter().rposition(is) {
                return Ok(Route::Exactly(at));
            }
        }
        let after = (0..self.points.len()).find(|at| has(*at));
        let before = (0..after.unwrap_or(self.points.len())).next_back();
        let why = match (after, before) {
            (None, _) => format!("no backup and no journal has {gtid}"),
            (Some(_), None) => format!("{gtid} is before the first backup"),
            (Some(at), Some(_)) => match &self.points[at].leads_from {
                Err(gap) => format!("{gtid} is in a gap: {gap}"),
                Ok(_) => format!("no journal has {gtid}"),
            },
        };
        Err(OutOfReach { why, before, after })
    }

    /// What can be restored to any moment, oldest first, without overlaps.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for (at, point) in self.points.iter().enumerate() {
            match (&point.leads_from, windows.last_mut()) {
                // What leads on from within it goes on with it.
                (Ok(from), Some(window)) if *from >= window.ends.0 => window.ends.1 = at,
                (gap, _) => {
                    let damaged = self.damaged.iter().find(|(_, next)| *next == at);
                    let gap = match (gap, damaged) {
                        (_, Some((name, _))) => format!("the backup {name} is damaged"),
                        (Err(gap), None) => gap.clone(),
                        (Ok(from), None) => {
                            format!("its journal begins at {}", self.points[*from].name)
                        }
                    };
                    windows.push(Window { ends: (at, at), gap });
                }
            }
        }
        windows
    }
}

impl Point {
    /// No transaction in it is later, if clocks agree.
    fn began(&self) -> Micros {
        let latest = self.latest.unwrap_or(Micros(i64::MIN));
        self.as_of.unwrap_or(self.data_as_of.precise()).max(latest)
    }

    /// The latest moment of which this is known to be the data.
    pub fn until(&self) -> Micros {
        self.began()
    }
}

#[cfg(test)]
mod tests;
