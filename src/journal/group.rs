//! Which events make up a transaction, by the rules by which the servers' own receivers tell. Pure.
//!
//! A receiver that loses its connection in the middle of a transaction asks for it again. MariaDB's
//! passes over what it has and goes on where it was; MySQL's writes the whole transaction once more, and
//! its applier drops the piece before. In both cases other events come in between, such as another
//! description of the format.

use crate::journal::event::{Event, Words};
use crate::mysql::gtid::Gtid;
use crate::os::clock::Micros;

/// A place in a sequence of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the log in the sequence, from 0.
    pub log: usize,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// A whole transaction in a sequence of logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its GTID.
    pub gtid: Gtid,
    /// When it was committed.
    pub time: Micros,
    /// Where its first event begins, which may be in an earlier log.
    pub begin: Place,
    /// Where its last event ends.
    pub end: Place,
}

/// What the next event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No statement was seen yet.
    Begun,
    /// Its end is an event of its own.
    Open,
    /// MariaDB: its one statement is its end.
    Standalone,
}

/// The transaction that is being read, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Group {
    open: Option<(State, Gtid, Micros, Place)>,
    /// Where transactions begin of which the rest never came.
    pub torn: Vec<Place>,
}

impl Group {
    /// True within a transaction.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the event from `begin` to `end`. Returns the transaction that it completes.
    ///
    /// # Errors
    /// Says what makes the log useless from here on.
    pub fn take(
        &mut self,
        event: Event,
        begin: Place,
        end: Place,
    ) -> Result<Option<Transaction>, &'static str> {
        let ends = match (event, &mut self.open) {
            (Event::Begin { gtid, time, standalone }, open) => {
                let state = match (&gtid, standalone) {
                    (Gtid::MySql { .. }, _) => State::Begun,
                    (Gtid::MariaDb(_), true) => State::Standalone,
                    (Gtid::MariaDb(_), false) => State::Open,
                };
                self.torn.extend(open.take().map(|(.., begin)| begin));
                *open = Some((state, gtid, time, begin));
                false
            }
            (Event::Anonymous, _) => return Err("a transaction has no GTID"),
            (Event::Encrypted, _) => return Err("it is encrypted"),
            (Event::Other, _) | (_, None) => false,
            (Event::Query(words), Some((state, ..))) => match (*state, words) {
                (State::Standalone, _) | (State::Open, Words::End) => true,
                (State::Begun, Words::Begin) => {
                    *state = State::Open;
                    false
                }
                (State::Begun, _) => true,
                (State::Open, _) => false,
            },
            (Event::End, Some(_)) => true,
            // In one that is open, it is a statement like others.
            (Event::Whole, Some((state, ..))) => *state != State::Open,
        };
        let whole = if ends { self.open.take() } else { None };
        Ok(whole.map(|(_, gtid, time, begin)| Transaction { gtid, time, begin, end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(gtid: &str, standalone: bool) -> Event {
        Event::Begin { gtid: Gtid::parse(gtid).unwrap(), time: Micros(1), standalone }
    }

    /// The transactions in these events, by GTID and the numbers of their first and last event.
    fn transactions(events: &[Event]) -> Vec<(String, u64, u64)> {
        let mut group = Group::default();
        let place = |offset| Place { log: 0, offset };
        let mut found = Vec::new();
        for (at, event) in (0..).zip(events) {
            let taken = group.take(event.clone(), place(at), place(at + 1)).unwrap();
            found.extend(taken.map(|t| (t.gtid.to_string(), t.begin.offset, t.end.offset)));
        }
        found
    }

    const MY: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:7";
    const QUERY: Event = Event::Query(Words::Other);
    const BEGIN: Event = Event::Query(Words::Begin);
    const COMMIT: Event = Event::Query(Words::End);

    #[test]
    fn transactions_end_where_their_flavor_ends_them() {
        let found = |events: &[Event]| transactions(events).iter().map(|t| t.2).collect::<Vec<_>>();
        for (events, ends) in [
            (vec![begin("0-1-7", true), Event::Other, QUERY, QUERY], vec![3]),
            (vec![begin("0-1-7", true), Event::Other, Event::Whole], vec![3]),
            (vec![begin("0-1-7", false), QUERY, Event::Whole, Event::End], vec![4]),
            (vec![begin("0-1-7", false), QUERY, COMMIT, Event::End], vec![3]),
            (vec![begin(MY, false), Event::Other, QUERY, QUERY], vec![3]),
            (vec![begin(MY, false), BEGIN, QUERY, Event::Whole, Event::End], vec![5]),
            (vec![begin(MY, false), BEGIN, QUERY, COMMIT], vec![4]),
            (vec![begin(MY, false), Event::Whole], vec![2]),
            (vec![begin(MY, false), BEGIN, QUERY], vec![]),
            (vec![QUERY, Event::End], vec![]),
        ] {
            assert_eq!(found(&events), ends, "{events:?}");
        }
    }

    #[test]
    fn one_that_is_sent_again_counts_once() {
        let again = [begin(MY, false), BEGIN, QUERY, Event::Other];
        let whole = [begin(MY, false), BEGIN, QUERY, Event::End];
        assert_eq!(transactions(&[&again[..], &whole].concat()), [(MY.to_string(), 4, 8)]);
        // MariaDB goes on where it was.
        let torn = [begin("0-1-7", false), QUERY, Event::Other, Event::Other, Event::End];
        assert_eq!(transactions(&torn), [("0-1-7".into(), 0, 5)]);
    }

    #[test]
    fn the_place_of_a_torn_one_is_known() {
        let mut group = Group::default();
        for (at, event) in [begin(MY, false), BEGIN, begin(MY, false)].into_iter().enumerate() {
            let place = Place { log: at, offset: 7 };
            assert_eq!(group.take(event, place, place), Ok(None));
        }
        assert_eq!(group.torn, [Place { log: 0, offset: 7 }]);
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let mut group = Group::default();
        for event in [Event::Anonymous, Event::Encrypted] {
            assert!(group.take(event, Place::default(), Place::default()).is_err());
        }
    }
}
