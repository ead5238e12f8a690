//! The state for a monitor: whether a pass is running and making progress, and the newest backup.
//!
//! It takes no lock and never logs in. mysqld proves that it is alive by its greeting, which
//! precedes the login. The exit statuses are those of monitoring plugins: 0 to 3 for ok, warning,
//! critical and unknown.

use std::path::Path;
use std::time::Duration;

use crate::cli::last_pass::{self, Seen};
use crate::cli::verdict::{Remarks, Verdict};
use crate::error::{Error, Result};
use crate::journal::history::History;
use crate::os::clock::{Micros, Timestamp};
use crate::report::checkpoint::Facts;
use crate::repository::directory::Repository;
use crate::repository::proofs::{Record, proven};
use crate::text::short;

/// A complete backup.
pub struct Newest {
    /// Its name.
    pub name: String,
    /// When its data was current, or when it was proven.
    at: Timestamp,
    /// Time since then; `None` if that is in the future.
    pub age: Option<Duration>,
}

impl Newest {
    fn new(name: String, at: Timestamp, now: Timestamp) -> Newest {
        Newest { name, at, age: age(at, now) }
    }
}

/// Time since then; `None` if a clock was or is wrong, since nothing is known by it.
fn age(at: Timestamp, now: Timestamp) -> Option<Duration> {
    (!at.is_future(now)).then(|| at.age(now))
}

/// The result.
pub struct Status {
    /// The keys of the checkpoint, if a scratch directory with one was given.
    pub facts: Facts,
    /// Whether the process of the pass exists; `None` if no pass should be running.
    pub alive: Option<bool>,
    /// Whether mysqld greeted; `None` if none should be running.
    pub answers: Option<bool>,
    /// The newest complete backup, if a repository with one was given.
    pub newest: Option<Newest>,
    /// The newest complete backup that is proven, and the time since its proof.
    pub proven: Option<Newest>,
    /// The newest moment that can be restored, by the primary's clock.
    pub recoverable_until: Option<Micros>,
    /// The severity.
    pub verdict: Verdict,
    /// The reason, for people.
    pub text: String,
}

/// What to check, and the limits.
pub struct Question<'a> {
    /// `--repo`.
    pub repo: Option<&'a Path>,
    /// The checkpoint of `--scratch` or `--checkpoint`.
    pub checkpoint: Option<&'a Path>,
    /// `--max-age`.
    pub max_age: Option<Duration>,
    /// `--max-proof-age`.
    pub max_proof_age: Option<Duration>,
    /// `--max-lag`.
    pub max_lag: Option<Duration>,
    /// `--stall-timeout`, unless it is off.
    pub stall: Option<Duration>,
}

/// Checks everything that was given. What cannot be read is unknown, and the rest is checked.
pub fn look(question: &Question) -> Status {
    let now = Timestamp::now();
    let mut remarks = Remarks::default();
    let seen = question.checkpoint.map(|path| look_at_pass(path, question, now, &mut remarks));
    let Seen { facts, alive, answers } = seen.unwrap_or_default();
    let repo = question.repo.and_then(|path| known(Repository::open(path).map(Some), &mut remarks));
    let (newest, proven, recoverable_until) = match repo {
        Some(repo) => {
            let found = judged_newest(&repo, question.max_age, now, &mut remarks);
            let newest = known(found, &mut remarks);
            let found = judged_proof(&repo, question.max_proof_age, now, &mut remarks);
            let proven = known(found, &mut remarks);
            let found = judged_lag(&repo, question.max_lag, now, &mut remarks);
            (newest, proven, known(found, &mut remarks))
        }
        None => (None, None, None),
    };
    let Remarks { verdict, texts } = remarks;
    let text = texts.join("; ");
    Status { facts, alive, answers, newest, proven, recoverable_until, verdict, text }
}

/// What was found, or nothing with a remark why that is unknown.
fn known<T>(found: Result<Option<T>>, remarks: &mut Remarks) -> Option<T> {
    found.unwrap_or_else(|e| {
        remarks.add(Verdict::Unknown, e.to_string());
        None
    })
}

fn look_at_pass(path: &Path, question: &Question, now: Timestamp, remarks: &mut Remarks) -> Seen {
    let seen = match last_pass::observe(path) {
        Ok(seen) => seen,
        Err(why) => {
            let text = format!("cannot read checkpoint {}: {why}", path.display());
            remarks.add(Verdict::Unknown, text);
            return Seen::default();
        }
    };
    if !last_pass::judge(&seen, question.stall, now, remarks) {
        let dir = path.parent();
        let is_there = dir.is_some_and(|d| d.as_os_str().is_empty() || d.is_dir());
        // A missing directory may be misspelled: only a repository tells more.
        let known = is_there || question.repo.is_some();
        let verdict = if known { Verdict::Ok } else { Verdict::Unknown };
        remarks.add(verdict, "no pass has run yet".into());
    }
    seen
}

/// The newest complete backup; damaged ones are a warning. Of those that are older, only as much is
/// read as tells whether their packs are there.
fn newest(repo: &Repository, now: Timestamp, remarks: &mut Remarks) -> Result<Option<Newest>> {
    let mut damaged = Vec::new();
    let mut found = None;
    for name in repo.names()?.into_iter().rev() {
        let what = match found {
            Some(_) => repo.glance(&name),
            None => repo.summary(&name).map(|summary| {
                let what = repo.state(&summary.packs);
                if what.is_none() {
                    found = Some(Newest::new(name.clone(), summary.header.data_as_of, now));
                }
                what
            }),
        };
        match what {
            Ok(None) => {}
            // Pruned after it was read and before its packs were checked.
            Ok(Some(_)) if matches!(repo.glance(&name), Err(Error::NoBackup { .. })) => {}
            Ok(Some(what)) | Err(Error::BackupDamaged { what, .. }) => damaged.push((name, what)),
            // Pruned after listing.
            Err(Error::NoBackup { .. }) => {}
            // An older one that cannot be looked at hides nothing of the newest.
            Err(e) if found.is_some() => {
                remarks.add(Verdict::Unknown, e.to_string());
                break;
            }
            Err(e) => return Err(e),
        }
    }
    if let Some((name, what)) = damaged.first() {
        let more = match damaged.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        remarks.add(Verdict::Warning, format!("backup {name}{more} is damaged: {what}"));
    }
    Ok(found)
}

/// The newest complete backup whose last proof went well.
fn newest_proven(repo: &Repository, now: Timestamp) -> Result<Option<Newest>> {
    for name in repo.names()?.into_iter().rev() {
        let Some(time) = proven(&repo.records(&name)).and_then(Record::time) else { continue };
        match repo.glance(&name) {
            Ok(None) => return Ok(Some(Newest::new(name, time, now))),
            Ok(Some(_)) | Err(Error::NoBackup { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

fn judged_newest(
    repo: &Repository,
    max: Option<Duration>,
    now: Timestamp,
    remarks: &mut Remarks,
) -> Result<Option<Newest>> {
    let newest = newest(repo, now, remarks)?;
    match &newest {
        None => remarks.add(Verdict::Critical, "no complete backup".into()),
        Some(Newest { name, at, age: None }) => {
            doubt(&format!("newest backup {name} is"), *at, remarks);
        }
        Some(Newest { name, age: Some(age), .. }) => {
            judge(format!("newest backup {name} is {} old", short(*age)), *age, max, remarks);
        }
    }
    Ok(newest)
}

fn judged_proof(
    repo: &Repository,
    max: Option<Duration>,
    now: Timestamp,
    remarks: &mut Remarks,
) -> Result<Option<Newest>> {
    let proven = newest_proven(repo, now)?;
    match &proven {
        None if max.is_some() => remarks.add(Verdict::Critical, "no backup is proven".into()),
        None => {}
        Some(Newest { name, at, age: None }) => {
            doubt(&format!("the proof of newest proven backup {name} is"), *at, remarks);
        }
        Some(Newest { name, age: Some(age), .. }) => {
            let text = format!("newest proven backup {name} was proven {} ago", short(*age));
            judge(text, *age, max, remarks);
        }
    }
    Ok(proven)
}

fn judged_lag(
    repo: &Repository,
    max: Option<Duration>,
    now: Timestamp,
    remarks: &mut Remarks,
) -> Result<Option<Micros>> {
    let until = History::recoverable_until(repo)?;
    // Without journals it tells what the age of the newest backup does.
    let asked = max.is_some() || repo.journals()?.is_some();
    match until.filter(|_| asked).map(|until| (until.seconds(), age(until.seconds(), now))) {
        None if max.is_some() => remarks.add(Verdict::Critical, "no moment can be restored".into()),
        None => {}
        Some((at, None)) => doubt("the newest moment that can be restored is", at, remarks),
        Some((_, Some(age))) => {
            let text = format!("any moment until {} ago can be restored", short(age));
            judge(text, age, max, remarks);
        }
    }
    Ok(until)
}

/// Says something of this age, which is too old from `max` on.
fn judge(mut text: String, age: Duration, max: Option<Duration>, remarks: &mut Remarks) {
    let too_old = max.filter(|max| age >= *max);
    text += &too_old.map_or(String::new(), |max| format!(", more than {}", short(max)));
    remarks.add(if too_old.is_some() { Verdict::Critical } else { Verdict::Ok }, text);
}

/// Says that something is dated in the future, so that no limit can be judged by it.
fn doubt(what: &str, at: Timestamp, remarks: &mut Remarks) {
    let text = format!("{what} dated in the future, {}: a clock was or is wrong", at.rfc3339());
    remarks.add(Verdict::Warning, text);
}
