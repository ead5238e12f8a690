//! Finds the moment in a journal at which it is to be cut.

use std::io::Read;

use crate::journal::group::{Group, Place, Transaction};
use crate::journal::scan::{End, Mark, scan_on};
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::os::clock::Micros;

/// A moment in the history of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In the order of the log, before the first transaction with a later time.
    Time(Micros),
    /// After this transaction.
    After(Gtid),
    /// Before this transaction.
    Before(Gtid),
}

/// Where a journal is to be cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The end of the last transaction that the data had before, if the journal begins before the data.
    pub begin: Place,
    /// What describes the log there.
    pub mark: Mark,
    /// Where the journal is, while that is before the data.
    before: Option<Position>,
    /// The end of the last transaction that is in; the beginning of the first log if there is none.
    pub end: Place,
    /// The position there.
    pub position: Position,
    /// How many transactions are in.
    pub transactions: u64,
    /// The last one that is in, if there is one.
    pub last: Option<Transaction>,
    /// The first one that is not.
    pub next: Option<Transaction>,
    /// The transaction that the moment names was found.
    pub found: bool,
}

impl Cut {
    /// Before the first transaction of a journal that begins at `from`.
    pub fn begin(from: Position) -> Cut {
        let (begin, end) = (Place::default(), Place::default());
        let (position, mark, before) = (from, Mark::default(), None);
        let (last, next) = (None, None);
        Cut { begin, mark, before, end, position, transactions: 0, last, next, found: false }
    }

    /// A log begins at `from`, before the data: what the data has is passed over. False if it does not.
    pub fn begin_before(&mut self, from: Position) -> bool {
        let is_before = self.transactions == 0 && self.position.contains(&from);
        if is_before {
            self.before = Some(from);
        }
        is_before
    }

    /// The position in the journal, which is that of the data once it has come there.
    pub fn at(&self) -> &Position {
        self.before.as_ref().unwrap_or(&self.position)
    }

    /// True if the data is not on the way of the journal.
    pub fn has_missed(&self) -> bool {
        let is_mariadb = matches!(self.position, Position::MariaDb(_));
        self.before.is_some() && is_mariadb
    }

    /// Passes over a transaction that the data has. False if it is to be taken.
    fn pass_over(&mut self, transaction: &Transaction) -> bool {
        let Some(before) = &mut self.before else { return false };
        before.add(&transaction.gtid);
        // Numbers of MariaDB say nothing: only the whole position does.
        let is_known = match &self.position {
            Position::MariaDb(_) => true,
            Position::MySql(_) => self.position.has(&transaction.gtid),
        };
        if *before == self.position {
            self.before = None;
        }
        if is_known && self.transactions == 0 {
            (self.begin, self.end) = (transaction.end, transaction.end);
        }
        is_known
    }

    /// Takes the next transaction. False if it is beyond the moment.
    pub fn take(&mut self, transaction: Transaction, moment: &Moment) -> bool {
        if self.pass_over(&transaction) {
            return true;
        }
        let is_beyond = match moment {
            Moment::Time(time) => transaction.time > *time,
            // One more was taken to know which is the first that is not in.
            Moment::After(_) => self.found,
            Moment::Before(gtid) => transaction.gtid == *gtid,
        };
        if is_beyond {
            self.found = true;
            self.next = Some(transaction);
            return false;
        }
        self.found = matches!(moment, Moment::After(gtid) if transaction.gtid == *gtid);
        self.position.add(&transaction.gtid);
        self.end = transaction.end;
        self.transactions += 1;
        self.last = Some(transaction);
        true
    }

    /// Reads log number `log` of the journal, whose events continue those that `group` has seen. True
    /// once the moment is passed.
    ///
    /// # Errors
    /// Says what is wrong with the log.
    pub fn read(
        &mut self,
        log: usize,
        from: impl Read,
        group: &mut Group,
        moment: &Moment,
    ) -> Result<bool, String> {
        let mut mark = Mark::default();
        let mut take = |transaction| self.take(transaction, moment);
        let ended = scan_on(log, &mut mark, from, group, &mut take);
        if self.begin.log == log {
            self.mark = mark;
        }
        match ended {
            Ok(End::Whole) => Ok(false),
            Ok(End::Enough) => Ok(true),
            Ok(End::Torn { at, why }) => Err(format!("at byte {at}: {why}")),
            Err(e) => Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::flavor::Flavor;

    /// The last transaction that is in and the first that is not, of five whose times go back once.
    fn cut(moment: &Moment) -> (Option<String>, Option<String>, bool) {
        let from = Position::parse(Flavor::MariaDb, "0-1-1").unwrap();
        let mut cut = Cut::begin(from);
        for (number, time) in [(2, 10), (3, 30), (4, 20), (5, 40), (6, 40)] {
            let gtid = Gtid::parse(&format!("0-1-{number}")).unwrap();
            let at = |offset| Place { log: 0, offset };
            let transaction =
                Transaction { gtid, time: Micros(time), begin: at(number), end: at(number + 1) };
            if !cut.take(transaction, moment) {
                break;
            }
        }
        let name = |t: Option<Transaction>| t.map(|t| t.gtid.to_string());
        let last = name(cut.last);
        assert_eq!(cut.position.to_string(), last.clone().unwrap_or("0-1-1".into()));
        (last, name(cut.next), cut.found)
    }

    #[test]
    fn a_time_cuts_before_the_first_that_is_later() {
        let at = |time| cut(&Moment::Time(Micros(time)));
        let some = |number: u32| Some(format!("0-1-{number}"));
        assert_eq!(at(9), (None, some(2), true));
        assert_eq!(at(10), (some(2), some(3), true));
        assert_eq!(at(25), (some(2), some(3), true));
        assert_eq!(at(30), (some(4), some(5), true));
        assert_eq!(at(40), (some(6), None, false));
    }

    #[test]
    fn a_transaction_cuts_before_or_after_itself() {
        let gtid = |number: u32| Gtid::parse(&format!("0-1-{number}")).unwrap();
        let some = |number: u32| Some(format!("0-1-{number}"));
        let (after, before) = (|n| cut(&Moment::After(gtid(n))), |n| cut(&Moment::Before(gtid(n))));
        assert_eq!(after(3), (some(3), some(4), true));
        assert_eq!(after(6), (some(6), None, true));
        assert_eq!(before(2), (None, some(2), true));
        assert_eq!(before(6), (some(5), some(6), true));
        assert_eq!(after(7), (some(6), None, false));
        assert_eq!(before(7), (some(6), None, false));
    }

    #[test]
    fn what_the_data_has_is_passed_over() {
        let take = |flavor, from: &str, base: &str, gtids: &[&str]| {
            let at = |text: &str| Position::parse(flavor, text).unwrap();
            let mut cut = Cut::begin(at(base));
            assert!(cut.begin_before(at(from)));
            for (number, gtid) in (0..).zip(gtids) {
                let gtid = Gtid::parse(gtid).unwrap();
                let place = |offset| Place { log: 0, offset };
                let (begin, end) = (place(number), place(number + 1));
                let transaction = Transaction { gtid, time: Micros(1), begin, end };
                assert!(cut.take(transaction, &Moment::Time(Micros(1))));
            }
            (cut.begin.offset, cut.transactions, cut.has_missed(), cut.at().to_string())
        };
        let maria = |base, gtids: &[&str]| take(Flavor::MariaDb, "0-1-1", base, gtids);
        let all = ["0-1-2", "5-1-1", "0-1-3", "0-1-4"];
        assert_eq!(maria("0-1-3,5-1-1", &all), (3, 1, false, "0-1-4,5-1-1".into()));
        // Never there, though the numbers are beyond it.
        assert!(maria("0-2-3", &all).2);
    }
}
