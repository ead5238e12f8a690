//! What can be restored: the backups of a repository, and the journals that lead from one to another.
//!
//! They are joined by positions, never by names. Pure.

use crate::journal::cut::Moment;
use crate::mysql::flavor::Flavor;
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::{Micros, Timestamp};
use crate::repository::manifest::Summary;

/// A backup, and what leads to it.
#[derive(Clone, Debug)]
pub struct Point {
    /// The backup's name.
    pub name: String,
    /// Its position.
    pub position: Position,
    /// False if its data is damaged: only its journal can be used.
    pub is_good: bool,
    /// When its data matched the primary, by our clock.
    pub data_as_of: Timestamp,
    /// All that was committed until then is in it, by the primary's clock; `None` if that is unknown.
    pub as_of: Option<Micros>,
    /// The backup from which its journal leads on, by its index, or why there is none.
    pub leads_from: Result<usize, String>,
    /// The latest time of a transaction in its journal.
    pub latest: Option<Micros>,
    /// Bytes of the journal that leads to it.
    pub journal_size: u64,
    /// The primary's log that its pass began to read, if that is on record.
    pub primary_log: Option<PrimaryLog>,
    /// Whose journal leads to it: its own, or a part of what a follower has received; `None` where nothing
    /// happened on the way.
    pub journal_of: Option<String>,
}

/// All backups that can be used, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The backups.
    pub points: Vec<Point>,
    /// Those that are damaged and lead nowhere, with the index of the next one in `points`.
    pub damaged: Vec<(String, usize)>,
    /// In whose journals a GTID was looked for in vain, by their index.
    searched: Vec<usize>,
}

/// The way to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This backup is of that moment.
    Exactly(usize),
    /// From this backup, along the journals of these others in order.
    Along(usize, Vec<usize>),
    /// The same, and on along what a live primary has.
    Beyond(usize, Vec<usize>),
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

impl History {
    /// Adds the next backup.
    pub fn add(&mut self, name: String, summary: &Summary) {
        match self.point(name, summary, true) {
            Ok(point) => self.points.push(point),
            Err(name) => self.damaged.push((name, self.points.len())),
        }
    }

    /// Adds the next backup, whose data is damaged. Its journal may lead on from another one.
    pub fn add_damaged(&mut self, name: String, summary: &Summary, has_journal: bool) {
        match self.point(name, summary, false) {
            Ok(point) if has_journal && point.leads_from.is_ok() => self.points.push(point),
            Ok(Point { name, .. }) | Err(name) => self.damaged.push((name, self.points.len())),
        }
    }

    fn point(&self, name: String, summary: &Summary, is_good: bool) -> Result<Point, String> {
        let header = &summary.header;
        let flavor = Flavor::from_name(&header.flavor).unwrap_or(Flavor::MariaDb);
        let Ok(position) = Position::parse(flavor, &header.position) else { return Err(name) };
        let leads_from = self.before(flavor, &position, summary);
        let latest = summary.spans.iter().filter_map(|span| Some(span.times?.1)).max();
        Ok(Point {
            journal_of: Some(name.clone()),
            name,
            position,
            is_good,
            data_as_of: header.data_as_of,
            as_of: summary.as_of,
            leads_from,
            latest,
            journal_size: summary.journal_size,
            primary_log: header.primary_log.clone(),
        })
    }

    /// The data of this backup has turned out to be damaged.
    pub fn spoil_data(&mut self, name: &str) {
        for point in self.points.iter_mut().filter(|point| point.name == name) {
            point.is_good = false;
        }
    }

    /// The journal of this backup has turned out to be damaged.
    pub fn spoil_journal(&mut self, name: &str) {
        let is_of = |point: &&mut Point| point.journal_of.as_deref() == Some(name);
        for point in self.points.iter_mut().filter(is_of) {
            point.leads_from = Err(format!("the journal of {name} is damaged"));
        }
    }

    /// The GTID of the moment is not in the journal that leads to `at`.
    pub fn rule_out(&mut self, at: usize) {
        self.searched.push(at);
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
        // One of another chain may be there, too, with other data.
        let began_anew = |point: &Point| {
            let logs = summary.header.primary_log.as_ref().zip(point.primary_log.as_ref());
            logs.is_some_and(|(now, earlier)| now.begins_anew(earlier))
        };
        let is_like = |point: &Point| at(point) && !began_anew(point);
        let is_base = |point: &Point| Some(point.name.as_str()) == base;
        let named = self.points.iter().rposition(|point| is_base(point) && at(point));
        named.or_else(|| self.points.iter().rposition(is_like)).ok_or_else(|| match base {
            Some(base) if self.points.iter().any(is_base) => match summary.spans.is_empty() {
                true => "no journal was kept".into(),
                false => format!("the next journal begins at {from}, and not where {base} is"),
            },
            Some(base) => {
                let is_damaged = self.damaged.iter().any(|(name, _)| name == base);
                let state = if is_damaged { "damaged" } else { "not there" };
                format!("the next journal leads on from {base}, which is {state}")
            }
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

    /// What may have what nothing else has.
    fn but_damaged(&self) -> String {
        let newest = self.damaged.last().filter(|(_, next)| *next == self.points.len());
        newest.map_or(String::new(), |(name, _)| format!(", but {name} is damaged"))
    }

    /// The way to where the journal of `at` leads: from the nearest good backup before it.
    fn along(&self, at: usize) -> Option<Route> {
        let mut steps = Vec::new();
        let mut from = at;
        while steps.is_empty() || !self.points[from].is_good {
            steps.push(from);
            from = *self.points[from].leads_from.as_ref().ok()?;
        }
        steps.reverse();
        Some(Route::Along(from, steps))
    }

    /// The way to all that is stored, and beyond.
    pub fn beyond(&self) -> Option<Route> {
        let ways = (0..self.points.len()).rev().filter_map(|at| self.exactly(at));
        ways.map(|way| match way {
            Route::Exactly(at) => Route::Beyond(at, Vec::new()),
            Route::Along(from, steps) | Route::Beyond(from, steps) => Route::Beyond(from, steps),
        })
        .next()
    }

    /// The way to a backup.
    fn exactly(&self, at: usize) -> Option<Route> {
        if self.points[at].is_good { Some(Route::Exactly(at)) } else { self.along(at) }
    }

    fn to_time(&self, time: Micros) -> Result<Route, OutOfReach> {
        // Of each, the latest time of a transaction on the way to it: what came after a later one is not
        // before the moment, though a clock was then put back.
        let mut peaks: Vec<Option<Micros>> = Vec::new();
        for point in &self.points {
            let earlier = point.leads_from.as_ref().map_or(None, |from| peaks[*from]);
            peaks.push(earlier.max(point.latest));
        }
        // With all its transactions before the moment.
        let is_before = |at: usize| {
            let point = &self.points[at];
            let alone = match (&point.leads_from, point.latest) {
                (Ok(_), Some(latest)) => latest <= time,
                (Ok(from), None) => self.points[*from].began() <= time,
                (Err(_), _) => point.began() <= time,
            };
            alone && peaks[at].is_none_or(|peak| peak <= time)
        };
        let all = 0..self.points.len();
        // The newest first: the less is to be replayed.
        for base in all.clone().rev().filter(|at| is_before(*at)) {
            let leads_on = |at: &usize| self.points[*at].leads_from == Ok(base) && !is_before(*at);
            let way = all.clone().find(leads_on).and_then(|at| self.along(at));
            let is_there = self.points[base].as_of.is_some_and(|as_of| time <= as_of);
            let way = way.or_else(|| if is_there { self.exactly(base) } else { None });
            if let Some(way) = way {
                return Ok(way);
            }
        }
        let can_be_had = |at: &usize| self.exactly(*at).is_some();
        let Some(base) = all.clone().rev().filter(can_be_had).find(|at| is_before(*at)) else {
            let after = all.clone().find(can_be_had);
            let why = "it is before the first backup".into();
            return Err(OutOfReach { why, before: None, after });
        };
        let after = (base + 1..all.end).find(can_be_had);
        let why = match self.points.get(base + 1).map(|point| &point.leads_from) {
            Some(Err(gap)) => format!("it is in a gap: {gap}"),
            Some(Ok(_)) => "no journal leads there".into(),
            None => format!("it is after all that is stored{}", self.but_damaged()),
        };
        Err(OutOfReach { why, before: Some(base), after })
    }

    /// The journals that may have a transaction, the likeliest first.
    pub fn candidates(&self, gtid: &Gtid) -> Vec<usize> {
        let having = self.having(gtid);
        // Numbers of several servers of MariaDB come in any order: its domain has moved, at least. Unless
        // its number is beyond all that there is.
        let is_beyond = !self.points.iter().any(|point| point.position.has(gtid));
        let may_come = |at: &usize| {
            let point = &self.points[*at];
            let from = point.leads_from.as_ref().ok().map(|from| &self.points[*from]);
            !is_beyond && from.is_some_and(|from| gtid.is_between(&from.position, &point.position))
        };
        let all = (0..self.points.len()).rev();
        let unlikely = all.filter(|at| !having.others.contains(at)).filter(may_come);
        having.newest.iter().rev().copied().chain(unlikely).collect()
    }

    fn to_gtid(&self, gtid: &Gtid, exact: bool) -> Result<Route, OutOfReach> {
        let has = |at: usize| self.points[at].position.has(gtid);
        // Never to another one of that name.
        let left = self.candidates(gtid);
        let mut left = left.into_iter().filter(|at| !self.searched.contains(at));
        if let Some(way) = left.find_map(|at| self.along(at)) {
            return Ok(way);
        }
        if exact {
            let text = gtid.to_string();
            let is = |point: &Point| point.position.to_string() == text;
            let newest = self.points.iter().rposition(is).filter(|at| !self.is_other(*at, gtid));
            if let Some(way) = newest.and_then(|at| self.exactly(at)) {
                return Ok(way);
            }
        }
        let can_be_had = |at: &usize| self.exactly(*at).is_some();
        let after = (0..self.points.len()).filter(can_be_had).find(|at| has(*at));
        let before = (0..after.unwrap_or(self.points.len())).rfind(can_be_had);
        let why = match (after, before) {
            (None, _) => format!("no backup and no journal has {gtid}{}", self.but_damaged()),
            (Some(_), None) => format!("{gtid} is before the first backup"),
            (Some(at), Some(_)) => match &self.points[at].leads_from {
                Err(gap) => format!("{gtid} is in a gap: {gap}"),
                Ok(_) => format!("no journal has {gtid}"),
            },
        };
        Err(OutOfReach { why, before, after })
    }
}

impl Point {
    /// No transaction in it is later, if clocks agree.
    pub fn began(&self) -> Micros {
        let latest = self.latest.unwrap_or(Micros(i64::MIN));
        self.as_of.unwrap_or(self.data_as_of.precise()).max(latest)
    }

    /// All that was committed until then is in it: of the time of its last transaction, there may be others
    /// that are not.
    pub(super) fn complete_until(&self) -> Micros {
        // What times are written with: whole seconds, or microseconds.
        let step = if self.position.flavor() == Flavor::MariaDb { 1_000_000 } else { 1 };
        let before_latest = self.latest.map(|latest| Micros(latest.0 - step));
        self.as_of.max(before_latest).unwrap_or(self.data_as_of.precise())
    }

    /// The latest moment that can be had of it by its time. Where no journal leads to it, there is only the
    /// backup itself.
    pub fn until(&self) -> Micros {
        if self.leads_from.is_ok() { self.complete_until() } else { self.began() }
    }
}

#[cfg(test)]
mod tests;
