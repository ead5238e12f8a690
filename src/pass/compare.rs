//! After a first backup: are the definitions and the accounts those of the primary?
//!
//! A chain is only as good as what it began with. So the pass that begins one compares, or the first
//! one that follows an adopted directory, and after a difference each one until there is none.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::definitions::{Asked, Digests, Key, account_columns, differing};
use crate::compare::sessions::{ask_primary, ask_private, position};
use crate::error::{Cause, Error, Result};
use crate::mysql::position::Position;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::mysql::version::Version;
use crate::os::clock::Timestamp;
use crate::pass::attempts::Attempts;
use crate::replication::primary::Facts;
use crate::replication::privileges;
use crate::repository::proofs::Record;
use crate::server::lifecycle::explain;
use crate::text::short;

/// The word for the record of it.
const KIND: &str = "definitions";
/// So many times both sides are asked at most.
const ROUNDS: u32 = 5;
/// So many times in a row a difference must be the same.
const SAME: u32 = 3;

impl Attempts<'_> {
    /// Compares definitions and accounts with the primary, if it is time to.
    ///
    /// # Errors
    /// A stop, or what became of the private server. Trouble with the primary is a warning.
    pub(crate) fn compare_definitions(&mut self, facts: &Facts) -> Result<()> {
        if !self.is_comparison_due() {
            return Ok(());
        }
        let began = std::time::Instant::now();
        let (result, found) = match self.definitions_that_differ(facts) {
            Ok(Some((found, seen))) => {
                let result = if found.is_empty() { "right" } else { "wrong" };
                if seen {
                    log::info!("compared definitions and accounts in {}", short(began.elapsed()));
                }
                (if seen { result } else { "unseen" }, found)
            }
            Ok(None) => return Ok(()),
            Err(e) => {
                self.check_comparison(e, "definitions and accounts")?;
                return Ok(());
            }
        };
        let note = Record::new(KIND, Timestamp::now()).with("result", result);
        self.examined.note(note.with("differ", found.len()));
        for what in &found {
            log::warn!("{}: {what}", Cause::Unequal);
        }
        self.examined.add(found);
        Ok(())
    }

    fn is_comparison_due(&self) -> bool {
        let Some(base) = self.bases.current() else { return true };
        match self.known_definitions() {
            Some(record) => record.get("result") == Some("wrong"),
            None => base.manifest.header.base.is_none(),
        }
    }

    /// What is on record of the last comparison in this chain.
    pub(crate) fn known_definitions(&self) -> Option<Record> {
        let base = self.bases.current()?;
        self.bases.repo.records(&base.name).into_iter().rfind(|record| record.kind() == KIND)
    }

    /// What differs, and whether anything could be compared; `None` if it cannot be told this time.
    fn definitions_that_differ(&mut self, facts: &Facts) -> Result<Option<(Vec<String>, bool)>> {
        let Some(asked) = self.what_to_ask(facts)? else { return Ok(Some((Vec::new(), false))) };
        let asked = std::sync::Arc::new(asked);
        // The number of times that each difference was there, and what both sides said last.
        let mut times: BTreeMap<Key, u32> = BTreeMap::new();
        let mut last: Option<(Digests, Digests)> = None;
        for round in 1..=ROUNDS {
            let again = last.is_some().then(|| times.keys().cloned().collect::<BTreeSet<_>>());
            let (theirs, at) = self.ask_theirs(facts, &asked, again.clone())?;
            if round > 1 {
                self.follow(facts, &at)?;
            }
            let ours = self.ask_ours(&asked, again)?;
            let differ = differing(&theirs, &ours);
            times.retain(|key, _| differ.contains(key));
            for key in differ {
                let same = last.as_ref().is_some_and(|(t, o)| {
                    t.get(&key) == theirs.get(&key) && o.get(&key) == ours.get(&key)
                });
                let times = times.entry(key).or_default();
                *times = if same { *times + 1 } else { 1 };
            }
            last = Some((theirs, ours));
            if times.values().all(|times| *times >= SAME) {
                break;
            }
        }
        let keys: BTreeSet<_> =
            times.iter().filter(|(_, n)| **n >= SAME).map(|(k, _)| k.clone()).collect();
        let Some((theirs, ours)) = last.filter(|_| !keys.is_empty()) else {
            return Ok(Some((Vec::new(), true)));
        };
        let (question, named) = (asked.clone(), keys.clone());
        let their_parts = self.primary_says(facts, move |s| question.parts(s, &named))?;
        let (question, named) = (asked.clone(), keys.clone());
        let our_parts = self.private_says(move |s| question.parts(s, &named))?;
        let found = asked.describe(&keys, (&theirs, &their_parts), (&ours, &our_parts));
        Ok(Some((
            found.into_iter().map(|line| format!("not as on the primary: {line}")).collect(),
            true,
        )))
    }

    /// What the account may see of the primary; `None` for nothing.
    fn what_to_ask(&mut self, facts: &Facts) -> Result<Option<Asked>> {
        let ours = self.hand.data().and_then(|data| Version::parse(&data.version));
        let theirs = Version::parse(&facts.version);
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(None) };
        if !ours.is_of_series(&theirs) {
            log::info!("definitions are not compared: {ours} and {theirs} print them differently");
            return Ok(None);
        }
        let flavor = facts.flavor;
        let grants = self.primary_says(facts, |session| {
            Ok(session.query("SHOW GRANTS")?.iter().map(|row| row.concat()).collect::<Vec<_>>())
        })?;
        let mut columns = self.private_says(move |session| account_columns(session, flavor))?;
        if ours != theirs {
            // A server that starts on data of another version may add some.
            columns.remove("global_grants");
        }
        let missing = |wanted: &[&'static str]| !privileges::missing(&grants, wanted).is_empty();
        let (asked, unseen) = Asked::new(flavor, &grants, missing, &columns);
        if !unseen.is_empty() {
            log::info!(
                "not compared with the primary, since the account may not see it: {}; the page has \
                 the privileges",
                unseen.join(", ")
            );
        }
        Ok(Some(asked).filter(|asked| !asked.is_empty()))
    }

    fn ask_theirs(
        &mut self,
        facts: &Facts,
        asked: &std::sync::Arc<Asked>,
        again: Option<BTreeSet<Key>>,
    ) -> Result<(Digests, Position)> {
        let (asked, of) = (asked.clone(), facts.clone());
        self.primary_says(facts, move |session| {
            let digests = asked.read(session, again.as_ref())?;
            Ok((digests, position(session, &of)?))
        })
    }

    fn ask_ours(
        &mut self,
        asked: &std::sync::Arc<Asked>,
        again: Option<BTreeSet<Key>>,
    ) -> Result<Digests> {
        let asked = asked.clone();
        self.private_says(move |session| asked.read(session, again.as_ref()))
    }

    /// Asks the primary beside the loop.
    pub(crate) fn primary_says<T: Send + 'static>(
        &mut self,
        facts: &Facts,
        question: impl FnOnce(&mut Session) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let Some(mysqld) = self.hand.mysqld() else { return Err(no_server()) };
        ask_primary(self.supervisor, mysqld, (&self.plan.primary, facts), question)
    }

    /// Asks the private server beside the loop.
    pub(crate) fn private_says<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&mut Session) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let patience = self.plan.patience.shutdown;
        let Some(mysqld) = self.hand.mysqld() else { return Err(no_server()) };
        let said = ask_private(self.supervisor, mysqld, question)
            .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
        said.map_err(|t| mysqld.lost("answer to a comparison", t))
    }

    /// A comparison that failed does not end the pass, unless the pass would end without it.
    pub(crate) fn check_comparison(&mut self, error: Error, what: &str) -> Result<()> {
        match error {
            Error::PrimaryUnreachable { .. }
            | Error::AccessDenied { .. }
            | Error::Stalled { .. }
            | Error::Purged { .. }
            | Error::Diverged { .. }
            | Error::ReplicationError { .. } => {
                log::warn!("{}: {error}; {what} were not compared with the primary", error.cause());
                Ok(())
            }
            error => Err(error),
        }
    }
}

fn no_server() -> Error {
    Error::config("there is no private server to ask")
}
