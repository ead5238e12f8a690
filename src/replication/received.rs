//! What a replica of a primary would not notice: that what it has is not what the primary has by the same
//! names, and that the primary sends what comes later than it asked for.
//!
//! The first is so after a reset once the primary has got further than before: its logs begin anew, and
//! not with what the base has. It is so as well where another machine has replaced it with earlier data and
//! the same server id: its log has what the base had before that log was made. The second is so on MariaDB, unless it is strict, after a reset of a
//! primary that is a replica itself, or on a copy of one without its logs: its first log begins behind
//! the replica. The heads of the relay logs name the primary's, and it says with what one begins.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::journal::group::Group;
use crate::journal::head::{Head, head};
use crate::journal::relay_logs::logs_in;
use crate::journal::scan::scan;
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::os::clock::Micros;
use crate::os::files;
use crate::replication::primary::Facts;
use crate::text::system_text;

/// The clocks of two machines differ by no more. Microseconds.
const AHEAD: i64 = 10_000_000;

/// The relay logs of a receiver, from the first one that names a log of the primary.
pub struct Received {
    /// With what they begin; not every one has a head.
    heads: Vec<Head>,
    logs: Vec<PathBuf>,
    /// Nothing came before from another server.
    is_all: bool,
}

impl Received {
    /// Those of `logs`; `None` if they name no log of the primary of `facts`, or cannot be read. After another
    /// candidate has answered, the first ones may be from that.
    pub fn in_logs(facts: &Facts, logs: &[PathBuf]) -> Option<Received> {
        let own = |log: &PathBuf| head_of(log).filter(|head| head.server == facts.server_id);
        let first = logs.iter().position(|log| own(log).is_some())?;
        let is_all = logs[..first].iter().all(|log| head_of(log).is_none());
        let logs = logs[first..].to_vec();
        let heads = logs.iter().filter_map(own).collect();
        Some(Received { heads, logs, is_all })
    }

    /// With what the first log of the primary begins.
    pub fn first(&self) -> &Head {
        &self.heads[0]
    }

    /// The first log of the primary of `facts`, if it is one to be kept on record.
    pub fn primary_log(&self, facts: &Facts) -> Option<PrimaryLog> {
        log_of(facts, &self.heads[0])
    }

    /// The log of the primary of `facts` that begins anew after `earlier`, or after another one here.
    pub fn begins_anew(&self, facts: &Facts, earlier: Option<PrimaryLog>) -> Option<PrimaryLog> {
        let mut before = earlier;
        for now in self.heads.iter().filter_map(|head| log_of(facts, head)) {
            if before.is_some_and(|before| now.begins_anew(&before)) {
                return Some(now);
            }
            before = Some(now);
        }
        None
    }

    /// Fails if the primary of `facts`, whose log had `start` before the first transaction that it sent, did
    /// not send all that follows the position `from`.
    ///
    /// # Errors
    /// [`Error::Purged`].
    pub fn check_gap(&self, facts: &Facts, from: &Position, start: &Position) -> Result<()> {
        let firsts = self.firsts(from, start).unwrap_or_else(|e| {
            log::debug!("relay logs cannot be read: {}", system_text(&e));
            Vec::new()
        });
        let gap = firsts.iter().find_map(|first| facts.gap(from, &self.first().file, first));
        gap.map_or(Ok(()), Err)
    }

    /// The first transaction of each domain of `from` of which `start` has nothing.
    fn firsts(&self, from: &Position, start: &Position) -> io::Result<Vec<Gtid>> {
        let mut wanted = if self.is_all { from.domains_beyond(start) } else { Default::default() };
        let (mut firsts, mut group) = (Vec::new(), Group::default());
        for (number, log) in self.logs.iter().enumerate() {
            if wanted.is_empty() {
                break;
            }
            let log = files::open_no_link(log).map(BufReader::new)?;
            scan(number, log, &mut group, &mut |transaction| {
                if let Gtid::MariaDb(gtid) = transaction.gtid
                    && wanted.remove(&gtid.domain)
                {
                    firsts.push(transaction.gtid);
                }
                !wanted.is_empty()
            })?;
        }
        Ok(firsts)
    }
}

/// The newest backup, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Newest {
    /// Its position.
    pub position: Position,
    /// The log of its primary, if that is on record.
    pub log: Option<PrimaryLog>,
    /// What the clock of its primary said then, if that is on record.
    pub as_of: Option<Micros>,
    /// A position that was received after it, and the log that led there.
    pub led: Option<(Position, PrimaryLog)>,
}

/// What the primary of `facts` has committed itself of the base `newest`, which was had from another server,
/// if it made the log of `head` later than that: none of it can be in that log.
pub fn made_later(facts: &Facts, head: &Head, newest: &Newest) -> Option<(PrimaryLog, Position)> {
    let now = log_of(facts, head)?;
    let other = newest.log.as_ref().is_some_and(|log| log.server != now.server);
    let as_of = newest.as_of.filter(|_| other)?;
    let is_later = now.made.precise().0 > as_of.0.saturating_add(AHEAD);
    let own = facts.own_of(&newest.position);
    (is_later && !own.is_empty()).then_some((now, own))
}

/// Fails if the log `now`, which the primary of `facts` made after its own transactions `own` were in a base,
/// begins at `start` without them and has them before the position `sent`, after which it sent the rest.
/// They have the names of those of the base, and are others: it has replaced the primary with earlier data.
///
/// # Errors
/// [`Error::Diverged`].
pub fn check_replaced(
    facts: &Facts,
    (now, own): &(PrimaryLog, Position),
    start: &Position,
    sent: &Position,
) -> Result<()> {
    if sent.contains(own) { check_reset(facts, now, start, own) } else { Ok(()) }
}

/// Fails if the log `next` of the primary of `facts` begins at `start`, without what was `led` to by those
/// before it: a crash of its machine took that from the end of a log that was not synced, and what it has
/// committed since has the names of that. A domain that it has deleted is none of them.
///
/// # Errors
/// [`Error::Diverged`].
pub fn check_lost(facts: &Facts, next: &str, start: &Position, led: &Position) -> Result<()> {
    let led = led.clone().of_domains(start);
    // MySQL leaves out of its logs what came with a copy.
    let lost = facts.not_received(&led.minus(start));
    if !start.tells(&led) || lost.is_empty() {
        return Ok(());
    }
    let (address, at) = (&facts.address, &facts.position);
    Err(Error::Diverged {
        errant: lost.to_string(),
        primary: format!("{address} at {at}, whose {next} begins after {start}"),
    })
}

/// The relay logs in the directory `dir`.
pub fn logs(dir: &Path) -> Vec<PathBuf> {
    let logs = files::open_dir(dir).and_then(|open| logs_in(&open)).unwrap_or_default();
    logs.into_iter().map(|(_, name)| dir.join(name)).collect()
}

/// The head of one, if it has any by now.
pub fn head_of(log: &Path) -> Option<Head> {
    files::open_no_link(log).and_then(|log| head(BufReader::new(log))).ok()?
}

/// The log of the primary of `facts` with that head, if it is from there and one to be kept on record.
pub fn log_of(facts: &Facts, head: &Head) -> Option<PrimaryLog> {
    if head.server != facts.server_id {
        return None;
    }
    PrimaryLog::new(facts.server.as_deref()?, &head.file, head.made)
}

/// Fails if `now`, a log of the primary of `facts` that begins anew at `start`, does not begin with what the
/// base at `base` has.
///
/// # Errors
/// [`Error::Diverged`].
pub fn check_reset(
    facts: &Facts,
    now: &PrimaryLog,
    start: &Position,
    base: &Position,
) -> Result<()> {
    if start.contains(base) {
        return Ok(());
    }
    let begins = if start.is_empty() { "nothing".into() } else { start.to_string() };
    let (address, at, file, made) =
        (&facts.address, &facts.position, &now.file, now.made.rfc3339());
    Err(Error::Diverged {
        errant: base.to_string(),
        primary: format!("{address} at {at}, whose {file} of {made} begins after {begins}"),
    })
}
