//! `--compare-time`: rows of the primary and of the private server, at one position after the other.
//!
//! The primary opens a snapshot, the private server replicates until exactly there and rests, and both
//! add up chunk by chunk. After a while the next snapshot is taken: see [`lifetime`].

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::compare::definitions::SAME;
use crate::compare::names::{TableName, some_of};
use crate::compare::records::Kind;
use crate::compare::rotation::{self, Ended, Turn, Turns};
use crate::compare::rows::{self, Fault, Outcome, Pair, Suspicion};
use crate::compare::snapshot::{Snapshot, lifetime};
use crate::error::{Cause, Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::os::clock::Timestamp;
use crate::pass::attempts::Attempts;
use crate::replication::primary::{Facts, refused};
use crate::replication::{privileges, replica};
use crate::repository::proofs::Record;
use crate::server::lifecycle::explain;
use crate::supervisor::watched::Nothing;
use crate::text::{count, short};

/// Longer than any pass takes.
const FOREVER: Duration = Duration::from_secs(1 << 32);
/// So many times in a row a snapshot may be at no position that can be reached.
const MISSED: u32 = 5;
/// At so many other positions a suspicion must be found again.
const CONFIRMED: u32 = 2;

/// A comparison under way.
struct Work {
    /// Tables still to come.
    tables: Vec<TableName>,
    turns: Turns,
    suspicions: Vec<(Suspicion, u32)>,
    skipped: Vec<String>,
    equal: u64,
    now: Timestamp,
    /// All the time there is, and when it is over: it begins with the first table, since the tables of a
    /// large server may take longer to be listed.
    time: Duration,
    deadline: Option<Instant>,
}

impl Attempts<'_> {
    /// Compares rows for as long as `--compare-time` allows.
    ///
    /// # Errors
    /// A stop, or what became of the private server. Trouble with the primary is a warning.
    pub(crate) fn compare_rows(&mut self, facts: &Facts) -> Result<()> {
        let time = self.plan.examination.compare;
        if time.is_zero() {
            return Ok(());
        }
        let (began, now) = (Instant::now(), Timestamp::now());
        let base = self.bases.current().map(|base| base.name.clone());
        let base = base.as_deref();
        let mut turns = self.examined.turns(Kind::Compare, self.bases.repo, base).clone();
        let tables = self.private_says(rows::list)?;
        let all = tables.len();
        turns.retain(|table, _| tables.binary_search(table).is_ok());
        let (mut tables, _) = rotation::order(tables, &turns, now, Duration::MAX);
        // Each table has its turn, right or wrong: one that differs may be the largest.
        tables.sort_by_key(|table| match turns.get(table) {
            Some(Turn { ended: Ended::Part(_) | Ended::Cut, .. }) => (0, 0),
            Some(Turn { last, .. }) => (1, last.0),
            None => (1, i64::MIN),
        });
        tables.reverse();
        let mut work = Work {
            tables,
            turns,
            suspicions: Vec::new(),
            skipped: Vec::new(),
            equal: 0,
            now,
            time,
            deadline: None,
        };
        if let Err(e) = self.compare_until(facts, &mut work) {
            self.check_comparison(e, "more tables")?;
        }
        let found = differences(&work.turns, now);
        let equal = count(work.equal, "table");
        log::info!(
            "compared with the primary: {equal} of {all} equal, in {}",
            short(began.elapsed())
        );
        if !work.skipped.is_empty() {
            log::info!("not compared: {}", some_of(&work.skipped));
        }
        let note = Record::new("compare", now).with("tables", work.equal).with("of", all);
        self.examined.note(note.with("wrong", found.len()));
        for what in &found {
            log::warn!("{}: {what}", Cause::Unequal);
        }
        *self.examined.turns(Kind::Compare, self.bases.repo, base) = work.turns;
        self.examined.add(found);
        Ok(())
    }

    /// Checks before the work that the account may read tables, if they are to be compared.
    ///
    /// # Errors
    /// [`Error::Configuration`].
    pub(crate) fn check_may_compare(&mut self, facts: &Facts) -> Result<()> {
        if self.plan.examination.compare.is_zero() {
            return Ok(());
        }
        let of = facts.clone();
        let grants = self.plan.primary.question(self.supervisor, &mut Nothing, move |primary| {
            let rows = primary.open(&of)?.query("SHOW GRANTS");
            let rows = rows.map_err(|t| refused(&of.address, t))?;
            Ok(rows.iter().map(|row| row.concat()).collect::<Vec<_>>())
        })?;
        if privileges::may_read(&grants) {
            return Ok(());
        }
        let user = &self.plan.primary.account.user;
        Err(Error::config(format!(
            "--compare-time needs SELECT on primary {}, which the account {user} lacks; run there: \
             GRANT SELECT ON *.* TO `{user}`@`...`",
            facts.address
        )))
    }

    fn compare_until(&mut self, facts: &Facts, work: &mut Work) -> Result<()> {
        let mut snapshot = self.open_snapshot(facts)?;
        let mut missed = 0;
        while !work.is_done() {
            let began = Instant::now();
            let (taken, at) = self.take_snapshot(facts, snapshot)?;
            if let Some(at) = &at {
                self.follow(facts, at)?;
            }
            snapshot = match at {
                Some(at) if self.is_exactly_at(facts, &at)? => {
                    missed = 0;
                    self.compare_at(taken, facts, work)?
                }
                _ => {
                    missed += 1;
                    taken
                }
            };
            if missed == MISSED {
                let what = "the primary never rests, so that the position of a snapshot is unknown";
                return Err(Error::Stalled { after: began.elapsed(), what: what.into() });
            }
        }
        Ok(())
    }

    fn open_snapshot(&mut self, facts: &Facts) -> Result<Snapshot> {
        let (of, time) = (facts.clone(), self.plan.examination.compare);
        let Some(mysqld) = self.hand.mysqld() else { return Err(Error::config("no server")) };
        self.plan.primary.question(self.supervisor, mysqld, move |primary| {
            let mut session = primary.open(&of)?;
            let snapshot = session.run(SAME).and_then(|()| Snapshot::prepare(session, &of, time));
            snapshot.map_err(|t| refused(&of.address, t))
        })
    }

    fn take_snapshot(
        &mut self,
        facts: &Facts,
        mut snapshot: Snapshot,
    ) -> Result<(Snapshot, Option<Position>)> {
        let of = facts.clone();
        let Some(mysqld) = self.hand.mysqld() else { return Ok((snapshot, None)) };
        self.plan.primary.question(self.supervisor, mysqld, move |_| {
            let at = snapshot.take().map_err(|t| refused(&of.address, t))?;
            Ok((snapshot, at))
        })
    }

    /// True if the private server has come to this position and no further. MariaDB's stops just there;
    /// it may have domains that the primary has none of any more.
    fn is_exactly_at(&mut self, facts: &Facts, at: &Position) -> Result<bool> {
        let patience = self.plan.patience.shutdown;
        let Some(mysqld) = self.hand.mysqld() else { return Ok(false) };
        let own = replica::stop_receiver(mysqld, facts.flavor)
            .and_then(|()| replica::position(mysqld, facts.flavor))
            .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
        let exactly = own.contains(at) && (facts.flavor == Flavor::MariaDb || at.contains(&own));
        self.supervisor.checkpoint.reach(own);
        Ok(exactly)
    }

    /// Compares at the position of the snapshot: first what is suspected, then table by table.
    fn compare_at(
        &mut self,
        primary: Snapshot,
        facts: &Facts,
        work: &mut Work,
    ) -> Result<Snapshot> {
        let patience = self.plan.patience.shutdown;
        let Some(mysqld) = self.hand.mysqld() else { return Ok(primary) };
        let mut private = mysqld.lend()?;
        private.set_timeout(Duration::ZERO);
        let (wanting, wanted) = channel();
        let mut pair = Pair::new(primary, private, wanted);
        let mut theirs = std::mem::replace(work, Work::none());
        let (now, time) = (Instant::now(), theirs.time);
        let end = || now.checked_add(time).unwrap_or(now + FOREVER);
        let until = (*theirs.deadline.get_or_insert_with(end)).min(now + lifetime(facts.flavor));
        let asked = self.supervisor.aside(mysqld, move || {
            let ended = prepare(&mut pair.private).and_then(|()| theirs.go_on(&mut pair, until));
            Ok((theirs, pair, ended))
        });
        // What still runs then ends soon, and nobody waits for it.
        drop(wanting);
        let lost = || mysqld.lost("answer to a comparison", Trouble::Lost(String::new()));
        let (back, pair, ended) = asked?.ok_or_else(lost)?;
        *work = back;
        mysqld.give_back(pair.private);
        match ended {
            Ok(()) => Ok(pair.primary),
            Err(Fault::Primary(trouble)) => Err(refused(&facts.address, trouble)),
            Err(Fault::Private(trouble)) => {
                let lost = mysqld.lost("answer to a comparison", trouble);
                Err(explain(self.supervisor, mysqld, lost, patience))
            }
        }
    }
}

fn prepare(private: &mut Session) -> Result<(), Fault> {
    private.run(SAME).map_err(Fault::Private)
}

impl Work {
    fn none() -> Work {
        Work {
            tables: Vec::new(),
            turns: Turns::new(),
            suspicions: Vec::new(),
            skipped: Vec::new(),
            equal: 0,
            now: Timestamp(0),
            time: Duration::ZERO,
            deadline: None,
        }
    }

    fn is_done(&self) -> bool {
        // What is suspected is worth the few seconds that it takes to be sure.
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let more = !self.tables.is_empty() && !over;
        !more && self.suspicions.is_empty()
    }

    fn go_on(&mut self, pair: &mut Pair, until: Instant) -> Result<(), Fault> {
        for (suspicion, times) in std::mem::take(&mut self.suspicions) {
            let Some(confirmed) = pair.confirm(suspicion)? else { continue };
            if times + 1 < CONFIRMED {
                self.suspicions.push((confirmed, times + 1));
                continue;
            }
            let turn = Turn { last: self.now, ended: Ended::Wrong(confirmed.describe()) };
            self.turns.insert(confirmed.table().clone(), turn);
        }
        // Soon looked at again, at another position.
        let mut until = until;
        while !pair.is_over(until) {
            let Some(table) = self.tables.pop() else { break };
            let known = self.turns.get(&table).cloned();
            let at = match known.as_ref().map(|turn| &turn.ended) {
                Some(Ended::Part(at)) => Some(at.as_str()),
                _ => None,
            };
            match pair.compare(&table, at, until)? {
                Outcome::Equal => {
                    self.equal += 1;
                    self.turns.insert(table, Turn { last: self.now, ended: Ended::Right });
                }
                Outcome::Part(at) => {
                    let last = known.as_ref().map_or(Timestamp(0), |turn| turn.last);
                    let wrong = known.is_some_and(|turn| matches!(turn.ended, Ended::Wrong(_)));
                    if let (Some(at), false) = (at, wrong) {
                        self.turns.insert(table.clone(), Turn { last, ended: Ended::Part(at) });
                    }
                    self.tables.push(table);
                }
                Outcome::Suspect(suspicion) => {
                    self.suspicions.push((*suspicion, 0));
                    until = until.min(Instant::now() + Duration::from_secs(10));
                }
                Outcome::Skipped(why) => self.skipped.push(format!("{table}: {why}")),
            }
        }
        Ok(())
    }
}

/// What differs, for people: as found now, or earlier and not compared since.
fn differences(turns: &Turns, now: Timestamp) -> Vec<String> {
    let line = |(table, turn): (&TableName, &Turn)| {
        let Ended::Wrong(what) = &turn.ended else { return None };
        let when = match turn.last == now {
            true => String::new(),
            false => format!(" on {}, and was not compared since", turn.last.rfc3339()),
        };
        Some(format!("table {table} differs from the primary{when}: {what}"))
    };
    turns.iter().filter_map(line).collect()
}
