//! One transaction by its GTID, in both flavors, and what it adds to a position. Pure.

use std::fmt;

use crate::mysql::flavor::Flavor;
use crate::mysql::position::{self, Position};

/// The GTID of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtid {
    /// `domain-server-sequence`.
    MariaDb(position::Gtid),
    /// `uuid:number` or `uuid:tag:number`.
    MySql {
        /// `uuid` or `uuid:tag`.
        source: String,
        /// The number, from 1.
        number: u64,
    },
}

impl Gtid {
    /// Parses the GTID of one transaction, of whichever flavor it is.
    pub fn parse(text: &str) -> Option<Gtid> {
        let position = |flavor| Position::parse(flavor, text).ok();
        match (position(Flavor::MariaDb), position(Flavor::MySql)) {
            (Some(Position::MariaDb(domains)), _) if domains.len() == 1 => {
                let (domain, (server, sequence)) = domains.into_iter().next()?;
                Some(Gtid::MariaDb(position::Gtid { domain, server, sequence }))
            }
            (_, Some(Position::MySql(sources))) if sources.len() == 1 => {
                let (source, runs) = sources.into_iter().next()?;
                let (number, last) = *runs.first()?;
                (runs.len() == 1 && number == last).then_some(Gtid::MySql { source, number })
            }
            _ => None,
        }
    }

    /// True if it may be between two positions of a log though numbers deny it: those of several servers of
    /// MariaDB come in any order, and only those of one tell.
    pub fn is_between(&self, from: &Position, to: &Position) -> bool {
        let (Gtid::MariaDb(gtid), Position::MariaDb(from), Position::MariaDb(to)) =
            (self, from, to)
        else {
            return false;
        };
        let [from, to] = [from, to].map(|position| position.get(&gtid.domain));
        let own = |last: Option<&(u32, u64)>| {
            last.filter(|(server, _)| *server == gtid.server).map(|(_, number)| *number)
        };
        from != to
            && own(from).is_none_or(|number| number < gtid.sequence)
            && own(to).is_none_or(|number| number >= gtid.sequence)
    }

    /// True if it certainly comes after a position, if ever: on MariaDB only numbers of its own server tell.
    pub fn is_after(&self, position: &Position) -> bool {
        match (self, position) {
            (Gtid::MariaDb(gtid), Position::MariaDb(position)) => position
                .get(&gtid.domain)
                .is_none_or(|(server, number)| *server == gtid.server && *number < gtid.sequence),
            _ => !position.has(self),
        }
    }

    /// The kind of server it belongs to.
    pub fn flavor(&self) -> Flavor {
        match self {
            Gtid::MariaDb(_) => Flavor::MariaDb,
            Gtid::MySql { .. } => Flavor::MySql,
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::MariaDb(position::Gtid { domain, server, sequence }) => {
                write!(f, "{domain}-{server}-{sequence}")
            }
            Gtid::MySql { source, number } => write!(f, "{source}:{number}"),
        }
    }
}

impl Position {
    /// The position after this transaction, which is the next one in the log. False if it was in the
    /// position before, or is of another flavor.
    pub fn add(&mut self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Position::MariaDb(domains), Gtid::MariaDb(gtid)) => {
                // Numbers of several servers may come in any order: the log decides.
                let last = (gtid.server, gtid.sequence);
                domains.insert(gtid.domain, last) != Some(last)
            }
            (Position::MySql(sources), Gtid::MySql { source, number }) => {
                let number = *number;
                let Some(runs) = sources.get_mut(source) else {
                    sources.insert(source.clone(), vec![(number, number)]);
                    return true;
                };
                // The first run that begins after it; nearly always there is none.
                let after = runs.partition_point(|(first, _)| *first <= number);
                if after > 0 && runs[after - 1].1 >= number {
                    return false;
                }
                let extends = after > 0 && runs[after - 1].1 + 1 == number;
                let precedes = runs.get(after).is_some_and(|(first, _)| *first == number + 1);
                match (extends, precedes) {
                    (true, true) => runs[after - 1].1 = runs.remove(after).1,
                    (true, false) => runs[after - 1].1 = number,
                    (false, true) => runs[after].0 = number,
                    (false, false) => runs.insert(after, (number, number)),
                }
                true
            }
            _ => false,
        }
    }

    /// True if the transaction is in the position. Of MariaDB, if its domain has come as far.
    pub fn has(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Position::MariaDb(domains), Gtid::MariaDb(gtid)) => {
                domains.get(&gtid.domain).is_some_and(|(_, sequence)| *sequence >= gtid.sequence)
            }
            (Position::MySql(sources), Gtid::MySql { source, number }) => {
                sources.get(source).is_some_and(|runs| {
                    let after = runs.partition_point(|(first, _)| first <= number);
                    after > 0 && runs[after - 1].1 >= *number
                })
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn only_numbers_of_its_own_server_place_a_transaction() {
        let at = |text| Position::parse(Flavor::MariaDb, text).unwrap();
        let gtid = Gtid::parse("0-2-90").unwrap();
        let between = |from, to| gtid.is_between(&at(from), &at(to));
        assert!(between("0-1-100", "0-1-110") && between("0-2-89", "0-1-100"));
        assert!(between("7-1-1", "0-2-90,7-1-1") && between("0-1-100", "0-2-95"));
        assert!(!between("0-2-90", "0-1-100") && !between("0-1-80", "0-2-89"));
        assert!(!between("0-1-100,7-1-1", "0-1-100,7-1-9"), "nothing came in its domain");
        assert!(gtid.is_after(&at("0-2-89")) && gtid.is_after(&at("7-1-1")));
        assert!(!gtid.is_after(&at("0-2-90")) && !gtid.is_after(&at("0-1-80")));
    }

    #[test]
    fn one_transaction_is_parsed_and_sets_are_not() {
        let my = |rest: &str| format!("{U}:{rest}");
        for text in ["0-1-42", "4294967295-1-1", &my("7"), &my("tag_1:7")] {
            assert_eq!(Gtid::parse(text).map(|g| g.to_string()), Some(text.into()));
        }
        let upper = format!("{}:7", U.to_uppercase());
        assert_eq!(Gtid::parse(&upper).map(|g| g.to_string()), Some(my("7")));
        for text in ["", "0-1", "0-1-2,1-1-1", &my("1-2"), &my("1:3"), U, "x", "2026-11-28"] {
            let parsed = Gtid::parse(text).map(|g| g.to_string());
            assert!(parsed.is_none() || text == "2026-11-28", "{text}: {parsed:?}");
        }
    }

    #[test]
    fn transactions_add_up_in_any_order() {
        let one = |n: u64| Gtid::MySql { source: U.into(), number: n };
        let mut position = Position::parse(Flavor::MySql, "").unwrap();
        for n in [5, 1, 2, 9, 4, 3, 8] {
            assert!(!position.has(&one(n)));
            assert!(position.add(&one(n)) && !position.add(&one(n)));
            assert!(position.has(&one(n)));
        }
        assert_eq!(position.to_string(), format!("{U}:1-5:8-9"));
        assert!(!position.has(&one(7)) && !position.has(&one(10)));
        let mut position = Position::parse(Flavor::MariaDb, "0-1-1000").unwrap();
        assert!(position.add(&Gtid::parse("0-2-990").unwrap()));
        assert!(position.add(&Gtid::parse("5-1-1").unwrap()));
        assert_eq!(position.to_string(), "0-2-990,5-1-1");
    }
}
