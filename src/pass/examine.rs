//! Between the catch-up and the shutdown: `CHECK TABLE` on the private server, and what is put on
//! record of it.
//!
//! A finding does not keep the data from being stored: it is all there is, and the base has it too, or
//! the one before. It is said by each pass until it is found to be right, or a new chain starts.

use crate::compare::check::{self, Job, Verdict};
use crate::compare::names::{TableName, some_of};
use crate::compare::records::{self, Kind};
use crate::compare::rotation::{Ended, Turn, Turns, cut_off};
use crate::error::{Cause, Error, Result};
use crate::os::clock::Timestamp;
use crate::pass::attempts::Attempts;
use crate::pass::run::Look;
use crate::replication::replica;
use crate::repository::proofs::{HELD, Record};
use crate::server::lifecycle::explain;
use crate::text::{count, short};

impl Attempts<'_> {
    /// Checks tables for as long as `--check-time` allows.
    ///
    /// # Errors
    /// A stop, or what became of the server.
    pub(crate) fn check_tables(&mut self) -> Result<()> {
        let time = self.plan.examination.check;
        let (flavor, patience) = (self.flavor(), self.plan.patience.shutdown);
        let Some(mysqld) = self.hand.mysqld().filter(|_| !time.is_zero()) else { return Ok(()) };
        // What comes after the goal is not needed, and would be received all the time.
        replica::stop_receiver(mysqld, flavor)
            .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
        let base = self.bases.current().map(|base| base.name.as_str());
        let turns = self.examined.turns(Kind::Check, self.bases.repo, base).clone();
        let (without, now) = (self.examined.deadly(), Timestamp::now());
        let job = Job { turns, without: without.clone(), now, time, patience: None };
        let began = std::time::Instant::now();
        let checked = check::check(self.supervisor, mysqld, job);
        let ended = checked.ended.map_err(|e| explain(self.supervisor, mysqld, e, patience));
        let turns = self.examined.turns(Kind::Check, self.bases.repo, base);
        if !checked.listed.is_empty() {
            turns.retain(|table, _| checked.listed.binary_search(table).is_ok());
        }
        for table in without {
            let what = "the private server died of it".into();
            turns.insert(table, Turn { last: now, ended: Ended::Wrong(what) });
        }
        let mut done = 0u64;
        let mut lacking = Vec::new();
        for (n, (table, verdict)) in checked.verdicts.into_iter().enumerate() {
            let ended = match verdict {
                Verdict::Right | Verdict::Unknown(_) => Ended::Right,
                Verdict::Wrong(what) => Ended::Wrong(what),
                // Its turn comes again.
                Verdict::Lacking(why) => {
                    lacking.push((table, why));
                    continue;
                }
                Verdict::Cut => {
                    cut_off(turns, &table, n == 0, now, time);
                    continue;
                }
            };
            done += 1;
            turns.insert(table, Turn { last: now, ended });
        }
        if let Err(error) = ended {
            return Err(match checked.at {
                Some(table) => self.died_at(table, error)?,
                None => error,
            });
        }
        if let Some((table, why)) = lacking.first() {
            let count = count(lacking.len(), "table");
            log::warn!("{count} could not be checked, such as {table}: {why}");
        }
        let all = checked.listed.len();
        let took = short(began.elapsed());
        log::info!("checked {} of {all} in {took}", count(done, "table"));
        if !checked.too_long.is_empty() {
            let tables = some_of(&checked.too_long);
            log::info!("not checked, since it takes longer than --check-time: {tables}");
        }
        let found = wrong(turns, now);
        let note = Record::new("check", now).with("tables", done).with("of", all);
        self.examined.note(note.with("wrong", found.len()));
        for what in &found {
            log::warn!("{}: {what}", Cause::Unequal);
        }
        self.examined.add(found);
        Ok(())
    }

    /// The private server died while it checked `table`. Its data is restored for another try.
    fn died_at(&mut self, table: TableName, error: Error) -> Result<Error> {
        let fatal = matches!(
            error,
            Error::MysqldDied { .. } | Error::MysqldHung { .. } | Error::OutOfMemory { .. }
        );
        if fatal {
            self.discard(&format!("mysqld was lost while it checked table {table}"))?;
            self.examined.died_at.push(table);
        }
        Ok(error)
    }

    /// Puts on record of the new backup `name` what was checked, when. What cannot be written is a
    /// warning: the backup is there all the same.
    pub(crate) fn put_on_record(&mut self, name: &str) {
        let base = self.bases.current().map(|base| base.name.as_str());
        if let Some(known) = self.known_definitions()
            && self.examined.notes.iter().all(|note| note.kind() != known.kind())
        {
            self.examined.notes.push(known);
        }
        let mut lines = Vec::new();
        for kind in [Kind::Check, Kind::Compare] {
            lines.append(&mut records::write(
                kind,
                self.examined.turns(kind, self.bases.repo, base),
            ));
        }
        lines.append(&mut self.examined.notes);
        if lines.is_empty() {
            return;
        }
        let repo = self.bases.repo;
        if let Err(e) = self.supervisor.unlocked(HELD, || repo.put_on_record(name, &lines)) {
            log::warn!("{}: {e}; what was checked is not on record", e.cause());
        }
    }

    /// What somebody should look at.
    pub(crate) fn unequal(&self) -> Option<Look> {
        let first = self.examined.found.first()?;
        let more = match self.examined.found.len() - 1 {
            0 => String::new(),
            more => format!("; and {}", count(more, "more finding")),
        };
        Some(Look::At(Cause::Unequal, format!("{first}{more}")))
    }
}

/// What is wrong, for people: what was found now, or earlier and not looked at since.
fn wrong(turns: &Turns, now: Timestamp) -> Vec<String> {
    let line = |(table, turn): (&TableName, &Turn)| {
        let Ended::Wrong(what) = &turn.ended else { return None };
        let when = match turn.last == now {
            true => String::new(),
            false => {
                format!(" on {}, and there was no time to check it since", turn.last.rfc3339())
            }
        };
        Some(format!("table {table} failed CHECK TABLE{when}: {what}"))
    };
    turns.iter().filter_map(line).collect()
}
