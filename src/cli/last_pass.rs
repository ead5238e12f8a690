//! What the checkpoint tells of the pass that runs, or of the last one.

use std::path::Path;
use std::time::Duration;

use crate::cli::greeting::greets;
use crate::cli::verdict::{Remarks, Verdict};
use crate::os::clock::Timestamp;
use crate::os::process::{holds_lock, start_time};
use crate::os::{stamp, sys};
use crate::report::checkpoint::{self, Facts};
use crate::report::keys;
use crate::text::{count, short};

/// The loop writes the checkpoint every ten seconds, but a call may take up to a ping time-out.
const SILENCE: Duration = Duration::from_secs(90);
/// How often a pass is observed if it changes meanwhile.
const LOOKS: usize = 3;

/// A pass as it was observed.
#[derive(Default)]
pub struct Seen {
    /// The keys of the checkpoint.
    pub facts: Facts,
    /// Whether the process of the pass exists; `None` if no pass should be running.
    pub alive: Option<bool>,
    /// Whether mysqld greeted; `None` if none should be running.
    pub answers: Option<bool>,
}

/// The checkpoint, whether its process exists, and whether its mysqld greets. Observes again if the
/// pass changed meanwhile, because bad news may then be stale.
///
/// # Errors
/// Why the checkpoint cannot be read.
pub fn observe(path: &Path) -> Result<Seen, String> {
    let read = || {
        let facts = checkpoint::read(path).map(Option::unwrap_or_default)?;
        keys::check(&facts).map(|()| facts)
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
            return Ok(Seen { facts: later, alive: Some(lives), answers });
        }
        facts = later;
    }
    // It changes faster than we can observe.
    let alive = is_under_way(&facts).then_some(true);
    Ok(Seen { facts, alive, answers: None })
}

/// Judges what was observed. Returns false if no pass has run yet.
pub fn judge(seen: &Seen, stall: Option<Duration>, now: Timestamp, remarks: &mut Remarks) -> bool {
    let facts = &seen.facts;
    match (facts.get("state").map(String::as_str), seen.alive) {
        (Some("waiting"), Some(lives)) => waiting(facts, lives, now, remarks),
        (Some("running"), Some(lives)) => {
            running(facts, lives, seen.answers, stall, now, remarks);
        }
        (Some(_), _) => ended(facts, now, remarks),
        (None, _) => return false,
    }
    true
}

fn fact<'a>(facts: &'a Facts, key: &str) -> &'a str {
    facts.get(key).map_or("", String::as_str)
}

/// Time since then; the moment itself if that is in the future, since nothing is known by it: it would count
/// as just now until the clock gets there.
fn since(facts: &Facts, key: &str, now: Timestamp) -> Result<Duration, Timestamp> {
    match Timestamp::parse(fact(facts, key)) {
        Some(at) if at.is_future(now) => Err(at),
        at => Ok(at.map(|at| at.age(now)).unwrap_or_default()),
    }
}

/// What is said of the first of them that is in the future.
fn doubt(of: [Result<Duration, Timestamp>; 2]) -> Option<String> {
    let at = of.into_iter().find_map(Result::err)?.rfc3339();
    Some(format!(", and its checkpoint is dated in the future, {at}: a clock was or is wrong"))
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
    let (silence, waited) = (since(facts, "updated", now), since(facts, "progressed", now));
    let silent = silence.unwrap_or_default();
    let (mut verdict, mut text) = match alive {
        false => (Verdict::Critical, "died while it waited for a slot".into()),
        true if silent > SILENCE => {
            (Verdict::Critical, format!("waits for a slot, and is silent for {}", short(silent)))
        }
        true => match waited {
            Ok(long) => (Verdict::Ok, format!("has waited for a slot for {}", short(long))),
            Err(_) => (Verdict::Ok, "waits for a slot".into()),
        },
    };
    if verdict == Verdict::Ok
        && let Some(doubt) = doubt([silence, waited])
    {
        text += &doubt;
        verdict = Verdict::Warning;
    }
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
    if !alive {
        let text = format!("the pass (pid {pid}) died during {phase} without recording an outcome");
        return remarks.add(Verdict::Critical, text);
    }
    let who = if phase == "follow" { "a follower" } else { "a pass" };
    let mut text = format!("{who} (pid {pid}) is running, phase {phase}");
    if let (Some(position), Some(goal)) = (facts.get("position"), facts.get("goal")) {
        text += &format!(", at {position} of {goal}");
    }
    let (silence, rest) = (since(facts, "updated", now), since(facts, "progressed", now));
    if let Ok(moved) = rest {
        text += &format!(", last progress {} ago", short(moved));
    }
    let silent = silence.unwrap_or_default();
    let verdict = if silent > SILENCE {
        text += &format!(", silent for {}", short(silent));
        Verdict::Critical
    } else if answers == Some(false) && phase == "catch-up" {
        // A server that starts or shuts down does not listen; the pass has time-outs for that.
        text += ", and its mysqld does not answer";
        Verdict::Critical
    } else if stall.is_some_and(|s| rest.is_ok_and(|moved| moved >= s)) {
        text += ", and is stalled";
        Verdict::Critical
    } else if let Some(doubt) = doubt([silence, rest]) {
        text += &doubt;
        Verdict::Warning
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

fn ended(facts: &Facts, now: Timestamp, remarks: &mut Remarks) {
    let status = fact(facts, "exit_status");
    let when = fact(facts, "updated");
    let ended = format!("the last pass ended with status {status} at {when}");
    let why = [fact(facts, "cause"), fact(facts, "message").trim_matches('\'')];
    let why: String = why.iter().filter(|t| !t.is_empty()).map(|t| format!(": {t}")).collect();
    match status.parse::<u32>() {
        Ok(0) => remarks.add(Verdict::Ok, format!("the last pass succeeded at {when}")),
        Ok(3) => remarks
            .add(Verdict::Warning, format!("{ended}: backup stored, but it needs attention{why}")),
        Ok(75 | 128..) => remarks.add(Verdict::Warning, ended + &why),
        _ => remarks.add(Verdict::Critical, ended + &why),
    }
    if since(facts, "updated", now).is_err() {
        let text = format!(
            "the end of the last pass is dated in the future, {when}: a clock was or is wrong"
        );
        remarks.add(Verdict::Warning, text);
    }
}
