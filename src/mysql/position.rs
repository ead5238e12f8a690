//! Replication positions of both flavors: parse, compare, subtract, print. Pure.
//!
//! A MariaDB position is the last transaction of each replication domain (`0-1-100,5-2-7`); a MySQL
//! position is the set of all transactions (`uuid:1-5:8,uuid:tag:1-3`). Positions are compared by
//! content, never as text, because servers print the parts in any order. See the servers'
//! documentation of `gtid_slave_pos` and of "GTID sets".

use crate::mysql::flavor::Flavor;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The length of a uuid in text.
const UUID: usize = 36;

/// Server and sequence number of the last transaction in a domain.
type Last = (u32, u64);
/// First and last of a run of transaction numbers, inclusive.
type Interval = (u64, u64);

/// The transactions a server has executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// The last transaction of each domain.
    MariaDb(BTreeMap<u32, Last>),
    /// By source (`uuid` or `uuid:tag`), sorted runs that neither touch nor overlap.
    MySql(BTreeMap<String, Vec<Interval>>),
}

impl Position {
    /// Parses a position as printed by a server of `flavor`. An empty text is an empty position.
    ///
    /// # Errors
    /// Names the part that cannot be parsed.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Position, String> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        match flavor {
            Flavor::MariaDb => {
                let mut domains = BTreeMap::new();
                for part in parts {
                    let gtid = Gtid::parse(part)?;
                    if domains.insert(gtid.domain, (gtid.server, gtid.sequence)).is_some() {
                        return Err(format!(
                            "duplicate domain {} in position '{}'",
                            gtid.domain,
                            shown(text)
                        ));
                    }
                }
                Ok(Position::MariaDb(domains))
            }
            Flavor::MySql => {
                let mut sources: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
                for part in parts {
                    for (source, interval) in mysql_part(part)? {
                        sources.entry(source).or_default().push(interval);
                    }
                }
                for intervals in sources.values_mut() {
                    merge(intervals);
                }
                Ok(Position::MySql(sources))
            }
        }
    }

    /// The kind of server it belongs to.
    pub fn flavor(&self) -> Flavor {
        match self {
            Position::MariaDb(_) => Flavor::MariaDb,
            Position::MySql(_) => Flavor::MySql,
        }
    }

    /// True if it has no transactions.
    pub fn is_empty(&self) -> bool {
        match self {
            Position::MariaDb(p) => p.is_empty(),
            Position::MySql(p) => p.is_empty(),
        }
    }

    /// True if this position includes every transaction of `other`. Positions of different flavors
    /// never do.
    pub fn contains(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::MariaDb(a), Position::MariaDb(b)) => {
                b.iter().all(|(domain, (_, seq))| a.get(domain).is_some_and(|(_, s)| s >= seq))
            }
            (Position::MySql(_), Position::MySql(_)) => other.minus(self).is_empty(),
            _ => false,
        }
    }

    /// True if the numbers of both tell what [`Position::contains`] asks: those of several servers of MariaDB
    /// in one domain come in any order.
    pub fn tells(&self, other: &Position) -> bool {
        let (Position::MariaDb(a), Position::MariaDb(b)) = (self, other) else { return true };
        b.iter().all(|(domain, (server, _))| a.get(domain).is_none_or(|(s, _)| s == server))
    }

    /// The transactions that `other` lacks. For MariaDB, the last transaction of each domain where
    /// this position is ahead.
    pub fn minus(&self, other: &Position) -> Position {
        match (self, other) {
            (Position::MariaDb(a), Position::MariaDb(b)) => {
                let ahead =
                    |d: &u32, last: &Last| b.get(d).is_none_or(|(_, theirs)| last.1 > *theirs);
                Position::MariaDb(
                    a.iter().filter(|(d, l)| ahead(d, l)).map(|(d, l)| (*d, *l)).collect(),
                )
            }
            (Position::MySql(a), Position::MySql(b)) => {
                let none = Vec::new();
                let rest = a.iter().filter_map(|(source, runs)| {
                    let left = subtract(runs, b.get(source).unwrap_or(&none));
                    (!left.is_empty()).then(|| (source.clone(), left))
                });
                Position::MySql(rest.collect())
            }
            _ => self.clone(),
        }
    }

    /// The part of this position in domains that `other` has, too. MySQL's have none.
    pub fn of_domains(self, other: &Position) -> Position {
        match (self, other) {
            (Position::MariaDb(mut domains), Position::MariaDb(other)) => {
                domains.retain(|domain, _| other.contains_key(domain));
                Position::MariaDb(domains)
            }
            (position, _) => position,
        }
    }

    /// The domains of this position of which `start` has nothing. MySQL's have none.
    pub fn domains_beyond(&self, start: &Position) -> BTreeSet<u32> {
        match (self, start) {
            (Position::MariaDb(domains), Position::MariaDb(start)) => {
                domains.keys().filter(|domain| !start.contains_key(domain)).copied().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// All transactions of both. For MariaDB, the later one of each domain. Of positions of different
    /// flavors, this one.
    pub fn and(&self, other: &Position) -> Position {
        match (self, other) {
            (Position::MariaDb(a), Position::MariaDb(b)) => {
                let mut domains = a.clone();
                for (domain, last) in b {
                    let here = domains.entry(*domain).or_insert(*last);
                    if last.1 > here.1 {
                        *here = *last;
                    }
                }
                Position::MariaDb(domains)
            }
            (Position::MySql(a), Position::MySql(b)) => {
                let mut sources = a.clone();
                for (source, intervals) in b {
                    let here = sources.entry(source.clone()).or_default();
                    here.extend(intervals);
                    merge(here);
                }
                Position::MySql(sources)
            }
            _ => self.clone(),
        }
    }

    /// How many transactions of `goal` are missing here. A domain that is missing here counts from
    /// its beginning.
    pub fn distance_to(&self, goal: &Position) -> u64 {
        match (self, goal) {
            (Position::MariaDb(a), Position::MariaDb(b)) => b
                .iter()
                .map(|(d, (_, seq))| seq.saturating_sub(a.get(d).map_or(0, |(_, s)| *s)))
                .fold(0, u64::saturating_add),
            (Position::MySql(_), Position::MySql(_)) => match goal.minus(self) {
                Position::MySql(left) => left
                    .values()
                    .flatten()
                    .map(|(first, last)| (last - first).saturating_add(1))
                    .fold(0, u64::saturating_add),
                Position::MariaDb(_) => 0,
            },
            _ => 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        match self {
            Position::MariaDb(domains) => {
                for (domain, (server, sequence)) in domains {
                    write!(f, "{comma}{domain}-{server}-{sequence}")?;
                    comma = ",";
                }
            }
            Position::MySql(sources) => {
                let mut before = "";
                for (source, intervals) in sources {
                    let (uuid, tag) = source.split_at(UUID.min(source.len()));
                    // Like the servers, print tagged sets after the untagged one of the same uuid.
                    if uuid == before {
                        f.write_str(tag)?;
                    } else {
                        write!(f, "{comma}{source}")?;
                    }
                    before = uuid;
                    for (first, last) in intervals {
                        write!(f, ":{first}")?;
                        if last > first {
                            write!(f, "-{last}")?;
                        }
                    }
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

/// One transaction of MariaDB, `domain-server-sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gtid {
    /// Replication domain.
    pub domain: u32,
    /// The server it was first written on.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl Gtid {
    fn parse(text: &str) -> Result<Gtid, String> {
        let wrong =
            || format!("'{}' is not a GTID of the form domain-server-sequence", shown(text));
        let mut parts = text.split('-');
        let mut next = || parts.next().filter(|p| digits(p)).ok_or_else(wrong);
        let (domain, server, sequence) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Gtid {
            domain: domain.parse().map_err(|_| wrong())?,
            server: server.parse().map_err(|_| wrong())?,
            sequence: sequence.parse().map_err(|_| wrong())?,
        })
    }
}

/// MariaDB's `gtid_binlog_state`: the last transaction of every server in every domain. It shows
/// what a primary has, even after failovers.
#[derive(Clone, Debug, Default)]
pub struct BinlogState(Vec<Gtid>);

impl BinlogState {
    /// Parses the value of the server variable.
    ///
    /// # Errors
    /// Names the part that cannot be parsed.
    pub fn parse(text: &str) -> Result<BinlogState, String> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts.map(Gtid::parse).collect::<Result<_, _>>().map(BinlogState)
    }

    /// The position of a primary whose state was written like this when it was shut down: of each domain
    /// the last line, which is not always the highest number.
    pub fn last(&self) -> Position {
        Position::MariaDb(self.0.iter().map(|g| (g.domain, (g.server, g.sequence))).collect())
    }

    /// The highest number of servers other than `server` in a domain.
    pub fn highest_of_others(&self, domain: u32, server: u32) -> Option<u64> {
        let others = self.0.iter().filter(|g| g.domain == domain && g.server != server);
        others.map(|g| g.sequence).max()
    }

    /// The part of `position` in domains of which neither this state nor `applied` has anything.
    pub fn unknown(&self, position: &Position, applied: &Position) -> Position {
        let (Position::MariaDb(domains), Position::MariaDb(applied)) = (position, applied) else {
            return position.clone();
        };
        let known = |d: &u32| applied.contains_key(d) || self.0.iter().any(|g| g.domain == *d);
        let unknown = domains.iter().filter(|(d, _)| !known(d));
        Position::MariaDb(unknown.map(|(d, last)| (*d, *last)).collect())
    }

    /// The transactions of a MariaDB `position` that a server in this state never had.
    pub fn lacks(&self, position: &Position) -> Position {
        let Position::MariaDb(domains) = position else { return position.clone() };
        let has = |domain: u32, server: u32, sequence: u64| {
            self.0
                .iter()
                .any(|g| (g.domain, g.server) == (domain, server) && g.sequence >= sequence)
        };
        let missing = domains.iter().filter(|(d, (s, n))| !has(**d, *s, *n));
        Position::MariaDb(missing.map(|(d, l)| (*d, *l)).collect())
    }
}

/// As much of a text as belongs in a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Parses `uuid:1-5:7` or `uuid:tag:1:tag2:3-4`, where a tag applies to the intervals after it.
fn mysql_part(part: &str) -> Result<Vec<(String, Interval)>, String> {
    let wrong = || format!("'{}' is not a GTID set of the form uuid:first-last", shown(part));
    let mut pieces = part.split(':').map(str::trim);
    let uuid = pieces.next().unwrap_or_default().to_ascii_lowercase();
    let uuid_like = uuid.len() == UUID
        && uuid.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if !uuid_like {
        return Err(wrong());
    }
    let mut source = uuid.clone();
    let mut found = Vec::new();
    for piece in pieces {
        if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            // A tag is at most 32 of [a-z0-9_] and does not begin with a digit.
            if piece.len() > 32 || !piece.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(wrong());
            }
            source = format!("{uuid}:{}", piece.to_ascii_lowercase());
            continue;
        }
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let number = |text: &str| {
            let n = digits(text).then(|| text.parse::<u64>().ok()).flatten();
            n.filter(|n| (1..i64::MAX as u64).contains(n)).ok_or_else(wrong)
        };
        let interval = (number(first)?, number(last)?);
        if interval.0 > interval.1 {
            return Err(wrong());
        }
        found.push((source.clone(), interval));
    }
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

fn merge(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for &(first, last) in intervals.iter() {
        match merged.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    *intervals = merged;
}

/// `a` without `b`; both sorted and merged.
fn subtract(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut cuts = b;
    for &(mut first, last) in a {
        // What ends before this run ends before all later ones too. Sets may have many runs.
        let passed = cuts.iter().take_while(|cut| cut.1 < first).count();
        cuts = &cuts[passed..];
        for &(cut_first, cut_last) in cuts {
            if cut_first > last {
                break;
            }
            if cut_first > first {
                left.push((first, cut_first - 1));
            }
            first = cut_last + 1;
        }
        if first <= last {
            left.push((first, last));
        }
    }
    left
}

#[cfg(test)]
mod tests;
