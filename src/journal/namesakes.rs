//! Transactions of one name. After a primary was reset, or replaced by an earlier moment of its data, GTIDs
//! come again, and the journals of the chains before and after have different transactions by the same
//! ones. Pure.

use crate::journal::history::{History, Route};
use crate::mysql::gtid::Gtid;
use crate::os::clock::Micros;

/// The journals with transactions of one name, by the indexes of the backups that they lead to, oldest
/// first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namesakes {
    /// Those that have the newest of these transactions.
    pub newest: Vec<usize>,
    /// Those that have another one, from before.
    pub others: Vec<usize>,
}

impl History {
    /// The journals that have a transaction `gtid`.
    pub fn having(&self, gtid: &Gtid) -> Namesakes {
        let has = |at: &usize| match self.points[*at].leads_from {
            Ok(from) => {
                let had = self.points[from].position.has(gtid);
                self.points[*at].position.has(gtid) && !had
            }
            Err(_) => false,
        };
        let all: Vec<usize> = (0..self.points.len()).filter(has).collect();
        let Some(last) = all.last().copied() else { return Namesakes::default() };
        let is_same = |at: &usize| self.root(*at) == self.root(last) || !self.is_before(*at, last);
        let (newest, others) = all.into_iter().partition(is_same);
        Namesakes { newest, others }
    }

    /// The backup with which its chain begins, or goes on after a gap.
    fn root(&self, mut at: usize) -> usize {
        while let Ok(from) = self.points[at].leads_from {
            at = from;
        }
        at
    }

    /// All in the journal of `at` was committed before that of `last` began: two chains of one primary may
    /// have the same transactions, since what was received goes on.
    fn is_before(&self, at: usize, last: usize) -> bool {
        let began = |from: &usize| self.points[*from].began();
        let began = self.points[last].leads_from.as_ref().map_or(Micros(i64::MAX), began);
        self.points[at].latest.is_some_and(|latest| latest < began)
    }

    /// What there is to know of the way to the transaction `gtid`: whatever else has its name.
    pub fn ambiguity(&self, gtid: &Gtid, route: &Route) -> Option<String> {
        let (Route::Along(from, steps) | Route::Beyond(from, steps)) = route else { return None };
        let at = *steps.last().unwrap_or(from);
        let journal =
            |at: usize| self.points[at].journal_of.as_ref().unwrap_or(&self.points[at].name);
        let newest = self.points.last().filter(|newest| !newest.position.has(gtid));
        if let (Some(newest), Route::Along(..)) = (newest, route) {
            return Some(format!(
                "{gtid} is in the journal of {}, before the chain of {} began, which is at {}: what the \
                 primary commits by that name since is another transaction",
                journal(at),
                newest.name,
                newest.position
            ));
        }
        let other = *self.having(gtid).others.last()?;
        Some(format!(
            "the journal of {}, from before the primary was reset or replaced, has another transaction \
             {gtid}: that moment can be had by its time",
            journal(other)
        ))
    }
}
