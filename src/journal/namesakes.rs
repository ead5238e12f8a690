//! Transactions of one name. After a primary was reset, or replaced by an earlier moment of its data, GTIDs
//! come again, and the journals of the chains before and after have different transactions by the same
//! ones. Pure.

use crate::journal::history::{History, Route};
use crate::mysql::gtid::Gtid;

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
        let all = (0..self.points.len()).filter(has);
        let (others, newest) = all.partition(|at| self.is_other(*at, gtid));
        Namesakes { newest, others }
    }

    /// True if the transaction `gtid` on the way to `at` is not the newest of that name: one that came later
    /// was before it again, and then it came again, also where no journal tells of that.
    pub fn is_other(&self, at: usize, gtid: &Gtid) -> bool {
        let mut later = (at + 1..self.points.len()).rev();
        let came_again = later.any(|n| self.points[n].position.has(gtid));
        came_again && later.any(|n| self.is_from_before(at, n, gtid))
    }

    /// True if the one at `later` lacks the transaction, and all on the way to `at` was committed before. Two
    /// chains of one primary may have the same transactions, since what was received goes on.
    fn is_from_before(&self, at: usize, later: usize, gtid: &Gtid) -> bool {
        let (point, later) = (&self.points[at], &self.points[later]);
        let latest = point.latest.unwrap_or_else(|| point.began());
        gtid.is_after(&later.position) && latest < later.began()
    }

    /// What there is to know of the way to the transaction `gtid`: whatever else has its name.
    pub fn ambiguity(&self, gtid: &Gtid, route: &Route) -> Option<String> {
        let (Route::Along(from, steps) | Route::Beyond(from, steps)) = route else { return None };
        let at = *steps.last().unwrap_or(from);
        let journal =
            |at: usize| self.points[at].journal_of.as_ref().unwrap_or(&self.points[at].name);
        let last = self.points.len() - 1;
        let newest = &self.points[last];
        if self.is_from_before(at, last, gtid) && matches!(route, Route::Along(..)) {
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
