//! The state for a monitor: whether a pass is running and making progress, and the newest backup.
//!
//! It takes no lock and never logs in. mysqld proves that it is alive by its greeting, which
//! precedes the login. The exit statuses are those of monitoring plugins: 0 to 3 for ok, warning,
//! critical and unknown.

use std::path::Path;
use std::time::Duration;

use crate::cli::greeting::greets;
use crate::error::{Error, Result};
use crate::journal::history::History;
use crate::os::clock::{Micros, Timestamp};
use crate::os::process::{holds_lock, start_time};
use crate::os::{stamp, sys};
use crate::report::checkpoint::{self, Facts};
use crate::repository::directory::Repository;
use crate::repository::proofs::{Record, proven};
use crate::text::{count, short};

/// The loop writes the checkpoint every ten seconds, but a call may take up to a ping time-out.
const SILENCE: Duration = Duration::from_secs(90);
/// How often a pass is observed if it changes meanwhile.
const LOOKS: usize = 3;

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is fine.
    Ok,
    /// Attention is needed at some point.
    Warning,
    /// Attention is needed now.
    Critical,
    /// The state cannot be determined.
    Unknown,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        ["ok", "warning", "critical", "unknown"][self as usize]
    }

    /// The exit status of a monitoring plugin.
    pub fn exit_status(self) -> u8 {
        self as u8
    }
}

/// A complete backup.
pub struct Newest {
    /// Its name.
    pub name: String,
    /// Time since its data was current, or since it was proven.
    pub age: Duration,
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

/// Checks everything that was given.
///
/// # Errors
/// What cannot be read, so that the state is unknown.
pub fn look(question: &Question) -> Result<Status> {
    let now = Timestamp::now();
    let mut remarks = Remarks::default();
    let (facts, alive, answers) = observe(question)?;
    match (facts.get("state").map(String::as_str), alive) {
        (Some("waiting"), Some(lives)) => waiting(&facts, lives, now, &mut remarks),
        (Some("running"), Some(lives)) => {
            running(&facts, lives, answers, question.stall, now, &mut remarks);
        }
        (Some(_), _) => ended(&facts, &mut remarks),
        (None, _) if question.checkpoint.is_some() => {
            let dir = question.checkpoint.and_then(Path::parent);
            let is_there = dir.is_some_and(|d| d.as_os_str().is_empty() || d.is_dir());
            // A missing directory may be misspelled: only a repository tells more.
            let known = is_there || question.repo.is_some();
            let verdict = if known { Verdict::Ok } else { Verdict::Unknown };
            remarks.add(verdict, "no pass has run yet".into());
        }
        (None, _) => {}
    }
    let (newest, proven, recoverable_until) = match question.repo {
        Some(path) => {
            let repo = Repository::open(path)?;
            let newest = newest(&repo, now, &mut remarks)?;
            judge_age(newest.as_ref(), question.max_age, &mut remarks);
            let proven = newest_proven(&repo, now)?;
            judge_proof(proven.as_ref(), question.max_proof_age, &mut remarks);
            let until = History::recoverable_until(&repo)?;
            let asked = question.max_lag.is_some() || repo.journals()?.is_some();
            let lag = until.filter(|_| asked).map(|until| until.seconds().age(now));
            judge_lag(lag, question.max_lag, &mut remarks);
            (newest, proven, until)
        }
        None => (None, None, None),
    };
    let Remarks { verdict, texts } = remarks;
    let text = texts.join("; ");
    Ok(Status { facts, alive, answers, newest, proven, recoverable_until, verdict, text })
}

/// The checkpoint, whether its process exists, and whether its mysqld greets. Observes again if the
/// pass changed meanwhile, because bad news may then be stale.
fn observe(question: &Question) -> Result<(Facts, Option<bool>, Option<bool>)> {
    let read = || match question.checkpoint {
        Some(path) => checkpoint::read(path).map(Option::unwrap_or_default).map_err(|why| {
            Error::config(format!("cannot read checkpoint {}: {why}", path.display()))
        }),
        None => Ok(Facts::new()),
    };
    let mut facts = read()?;
    for _ in 0..LOOKS {
        if !is_under_way(&facts) {
            break;
        }
        let lives = is_alive(&facts);
        let socket = facts.get("socket").filter(|_| lives);
        let answers = socket.map(|socket| greets(Path::new(socket)));
        let found = (lives, answers);
        let later = if found == (true, Some(true)) { facts.clone() } else { read()? };
        let same = |key| facts.get(key) == later.get(key);
        if ["state", "phase", "pid", "mysqld_pid", "socket"].into_iter().all(same) {
            return Ok((later, Some(lives), answers));
        }
        facts = later;
    }
    // It changes faster than we can observe.
    let alive = is_under_way(&facts).then_some(true);
    Ok((facts, alive, None))
}

struct Remarks {
    verdict: Verdict,
    texts: Vec<String>,
}

impl Default for Remarks {
    fn default() -> Remarks {
        Remarks { verdict: Verdict::Ok, texts: Vec::new() }
    }
}

impl Remarks {
    fn add(&mut self, verdict: Verdict, text: String) {
        self.verdict = self.verdict.max(verdict);
        self.texts.push(text);
    }
}

fn fact<'a>(facts: &'a Facts, key: &str) -> &'a str {
    facts.get(key).map_or("", String::as_str)
}

fn since(facts: &Facts, key: &str, now: Timestamp) -> Option<Duration> {
    Timestamp::parse(fact(facts, key)).map(|t| t.age(now))
}

/// True if the process that wrote the checkpoint is alive: it has that pid and holds a lock, as every
/// pass does from its first line to its last. Clocks are asked only where the system does not tell who
/// holds locks, since one that was set makes a pass that runs look like another one.
fn is_alive(facts: &Facts) -> bool {
    let Ok(pid) = fact(facts, "pid").parse::<u32>() else { return false };
    let Some(ticks) = start_time(pid) else { return false };
    holds_lock(pid).unwrap_or_else(|| is_no_younger(ticks, facts))
}

/// True if a process that started at `ticks` could have begun the pass.
fn is_no_younger(ticks: u64, facts: &Facts) -> bool {
    match (stamp::boot_time(), Timestamp::parse(fact(facts, "started"))) {
        // Both clocks are whole seconds, and the boot time is a rounded difference.
        (Some(boot), Some(started)) => {
            boot + (ticks / sys::ticks_per_second()) as i64 <= started.0 + 2
        }
        _ => true,
    }
}

/// True for a pass that runs or waits, as far as the checkpoint tells.
fn is_under_way(facts: &Facts) -> bool {
    matches!(fact(facts, "state"), "running" | "waiting")
}

/// A pass that waits for a slot: nothing moves, and that is right.
fn waiting(facts: &Facts, alive: bool, now: Timestamp, remarks: &mut Remarks) {
    let pid = fact(facts, "pid");
    let silent = since(facts, "updated", now).unwrap_or_default();
    let long = short(since(facts, "progressed", now).unwrap_or_default());
    let (verdict, text) = match alive {
        false => (Verdict::Critical, "died while it waited for a slot".into()),
        true if silent > SILENCE => {
            (Verdict::Critical, format!("waits for a slot, and is silent for {}", short(silent)))
        }
        true => (Verdict::Ok, format!("has waited for a slot for {long}")),
    };
    remarks.add(verdict, format!("the pass (pid {pid}) {text}"));
}

fn running(
    facts: &Facts,
    alive: bool,
    answers: Option<bool>,
    stall: Option<Duration>,
    now: Timestamp,
    remarks: &mut Remarks,
) {
    // There is none before the first phase, for example while a hook runs.
    let phase = facts.get("phase").map_or("starting", String::as_str);
    let pid = fact(facts, "pid");
    let for_long = |key: &str| since(facts, key, now).unwrap_or_default();
    if !alive {
        let text = format!("the pass (pid {pid}) died during {phase} without recording an outcome");
        return remarks.add(Verdict::Critical, text);
    }
    let who = if phase == "follow" { "a follower" } else { "a pass" };
    let mut text = format!("{who} (pid {pid}) is running, phase {phase}");
    if let (Some(position), Some(goal)) = (facts.get("position"), facts.get("goal")) {
        text += &format!(", at {position} of {goal}");
    }
    let (moved, silent) = (for_long("progressed"), for_long("updated"));
    text += &format!(", last progress {} ago", short(moved));
    let verdict = if silent > SILENCE {
        text += &format!(", silent for {}", short(silent));
        Verdict::Critical
    } else if answers == Some(false) && phase == "catch-up" {
        // A server that starts or shuts down does not listen; the pass has time-outs for that.
        text += ", and its mysqld does not answer";
        Verdict::Critical
    } else if stall.is_some_and(|s| moved >= s) {
        text += ", and is stalled";
        Verdict::Critical
    } else {
        Verdict::Ok
    };
    let failures = fact(facts, "failures");
    if !matches!(failures, "" | "0") {
        let failures = count(failures.parse::<u64>().unwrap_or_default(), "consecutive failure");
        text += &format!(", {failures} ({})", fact(facts, "cause"));
    }
    remarks.add(verdict, text);
}

fn ended(facts: &Facts, remarks: &mut Remarks) {
    let status = fact(facts, "exit_status");
    let when = fact(facts, "updated");
    let why = || {
        let message = fact(facts, "message").trim_matches('\'');
        let cause = fact(facts, "cause");
        format!("the last pass ended with status {status} at {when}: {cause}: {message}")
    };
    match status.parse::<u32>() {
        Ok(0) => remarks.add(Verdict::Ok, format!("the last pass succeeded at {when}")),
        Ok(3) => remarks.add(
            Verdict::Warning,
            format!(
                "the last pass ended with status 3 at {when}: backup stored, but it needs \
                 attention: {}: {}",
                fact(facts, "cause"),
                fact(facts, "message").trim_matches('\'')
            ),
        ),
        Ok(75 | 128..) => remarks.add(Verdict::Warning, why()),
        _ => remarks.add(Verdict::Critical, why()),
    }
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
                    let age = summary.header.data_as_of.age(now);
                    found = Some(Newest { name: name.clone(), age });
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
            Ok(None) => return Ok(Some(Newest { name, age: time.age(now) })),
            Ok(Some(_)) | Err(Error::NoBackup { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

fn judge_proof(proven: Option<&Newest>, max: Option<Duration>, remarks: &mut Remarks) {
    match (proven, max) {
        (None, None) => {}
        (None, Some(_)) => remarks.add(Verdict::Critical, "no backup is proven".into()),
        (Some(Newest { name, age }), max) => {
            let text = format!("newest proven backup {name} was proven {} ago", short(*age));
            judge(text, *age, max, remarks);
        }
    }
}

fn judge_lag(age: Option<Duration>, max: Option<Duration>, remarks: &mut Remarks) {
    match (age, max) {
        (None, None) => {}
        (None, Some(_)) => remarks.add(Verdict::Critical, "no moment can be restored".into()),
        (Some(age), max) => {
            judge(
                format!("any moment until {} ago can be restored", short(age)),
                age,
                max,
                remarks,
            );
        }
    }
}

fn judge_age(newest: Option<&Newest>, max_age: Option<Duration>, remarks: &mut Remarks) {
    match newest {
        None => remarks.add(Verdict::Critical, "no complete backup".into()),
        Some(Newest { name, age }) => {
            judge(format!("newest backup {name} is {} old", short(*age)), *age, max_age, remarks);
        }
    }
}

/// Says something of this age, which is too old from `max` on.
fn judge(mut text: String, age: Duration, max: Option<Duration>, remarks: &mut Remarks) {
    let too_old = max.filter(|max| age >= *max);
    text += &too_old.map_or(String::new(), |max| format!(", more than {}", short(max)));
    remarks.add(if too_old.is_some() { Verdict::Critical } else { Verdict::Ok }, text);
}
