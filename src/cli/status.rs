//! What a monitor asks: is a pass running, alive and moving; how old is the newest backup.
//!
//! It takes no lock and logs in nowhere. The proof that mysqld lives is its greeting, which it
//! sends before it asks who we are. It follows the convention of monitoring plugins: ok,
//! warning, critical, unknown are the exit statuses 0 to 3.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::os::process::{holds_a_lock, start_time};
use crate::os::sys;
use crate::report::checkpoint::{self, Facts};
use crate::repository::directory::Repository;
use crate::text::short;

/// A living mysqld greets at once; so does a busy one.
const GREETING: Duration = Duration::from_secs(5);
/// The loop writes the checkpoint every ten seconds; a call of its own may take a ping's time.
const SILENCE: Duration = Duration::from_secs(90);
/// Looks at a pass that changes while it is looked at.
const LOOKS: usize = 3;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Look when there is time.
    Warning,
    /// Look now.
    Critical,
    /// It cannot be told.
    Unknown,
}

impl Verdict {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        ["ok", "warning", "critical", "unknown"][self as usize]
    }

    /// The exit status of a monitoring plugin.
    pub fn exit_status(self) -> u8 {
        self as u8
    }
}

/// The newest complete backup.
pub struct Newest {
    /// Its name.
    pub name: String,
    /// Since its data was current.
    pub age: Duration,
}

/// What was found.
pub struct Status {
    /// The checkpoint's keys, if a scratch directory was named and has one.
    pub facts: Facts,
    /// Does the process of the pass exist? `None` if no pass should be running.
    pub alive: Option<bool>,
    /// Did mysqld greet? `None` if none should be running.
    pub answers: Option<bool>,
    /// The newest complete backup, if a repository was named and has one.
    pub newest: Option<Newest>,
    /// How bad it is.
    pub verdict: Verdict,
    /// Why, for people.
    pub text: String,
}

/// Where to look, and when to worry.
pub struct Question<'a> {
    /// `--repo`.
    pub repo: Option<&'a Path>,
    /// The checkpoint of `--scratch` or `--checkpoint`.
    pub checkpoint: Option<&'a Path>,
    /// `--max-age`.
    pub max_age: Option<Duration>,
    /// `--stall-timeout`, if it is not off.
    pub stall: Option<Duration>,
}

/// Looks at everything that was named.
///
/// # Errors
/// What cannot be read: then nothing can be told.
pub fn look(question: &Question) -> Result<Status> {
    let now = Timestamp::now();
    let mut remarks = Remarks::default();
    let (facts, alive, answers) = seen(question)?;
    match (facts.get("state").map(String::as_str), alive) {
        (Some("running"), Some(lives)) => {
            running(&facts, lives, answers, question.stall, now, &mut remarks);
        }
        (Some(_), _) => ended(&facts, &mut remarks),
        (None, _) if question.checkpoint.is_some() => {
            let dir = question.checkpoint.and_then(Path::parent);
            let is_there = dir.is_some_and(|d| d.as_os_str().is_empty() || d.is_dir());
            // A directory that is not there may be misspelt: only a repository tells more.
            let known = is_there || question.repo.is_some();
            let verdict = if known { Verdict::Ok } else { Verdict::Unknown };
            remarks.add(verdict, "no pass has run yet".into());
        }
        (None, _) => {}
    }
    let newest = match question.repo {
        Some(path) => {
            let newest = newest(&Repository::open(path)?, now, &mut remarks)?;
            judge_age(newest.as_ref(), question.max_age, &mut remarks);
            newest
        }
        None => None,
    };
    let Remarks { verdict, texts } = remarks;
    Ok(Status { facts, alive, answers, newest, verdict, text: texts.join("; ") })
}

/// The checkpoint, whether its process exists, and whether its mysqld greets. Bad news that a
/// pass outran while we looked is no news: it is looked for again.
fn seen(question: &Question) -> Result<(Facts, Option<bool>, Option<bool>)> {
    let read = || match question.checkpoint {
        Some(path) => checkpoint::read(path).map(Option::unwrap_or_default).map_err(|why| {
            Error::config(format!("checkpoint {} cannot be read: {why}", path.display()))
        }),
        None => Ok(Facts::new()),
    };
    let mut facts = read()?;
    for _ in 0..LOOKS {
        if fact(&facts, "state") != "running" {
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
    Ok(match fact(&facts, "state") {
        // It changes faster than we look.
        "running" => (facts, Some(true), None),
        _ => (facts, None, None),
    })
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

/// The process that wrote the checkpoint: of that pid, not started after the pass was, and
/// with a lock, since a pass holds two from before its first word to after its last.
fn is_alive(facts: &Facts) -> bool {
    let Ok(pid) = fact(facts, "pid").parse::<u32>() else { return false };
    let Some(ticks) = start_time(pid) else { return false };
    let started = Timestamp::parse(fact(facts, "started"));
    let in_time = match (sys::boot_time(), started) {
        // Both clocks are whole seconds, and the boot time is a rounded difference.
        (Some(boot), Some(started)) => {
            boot + (ticks / sys::ticks_per_second()) as i64 <= started.0 + 2
        }
        _ => true,
    };
    in_time && holds_a_lock(pid).unwrap_or(true)
}

/// Does the server behind the socket greet? On a thread of its own, which may be left behind: a
/// server that accepts nobody any more keeps us waiting in the connect, which has no time-out.
fn greets(socket: &Path) -> bool {
    let (sender, receiver) = mpsc::channel();
    let socket = socket.to_path_buf();
    let spawned = thread::Builder::new().spawn(move || sender.send(is_greeted(socket)));
    spawned.is_ok() && receiver.recv_timeout(GREETING).unwrap_or(false)
}

fn is_greeted(socket: PathBuf) -> bool {
    let Some(dir) = socket.parent().and_then(|d| File::open(d).ok()) else { return false };
    let Some(name) = socket.file_name() else { return false };
    // Through the directory's descriptor: a socket's path may be too long to connect to.
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let Ok(mut stream) = UnixStream::connect(short) else { return false };
    let mut header = [0; 5];
    stream.set_read_timeout(Some(GREETING)).is_ok() && stream.read_exact(&mut header).is_ok()
}

fn running(
    facts: &Facts,
    alive: bool,
    answers: Option<bool>,
    stall: Option<Duration>,
    now: Timestamp,
    remarks: &mut Remarks,
) {
    // None before its first one, as when a hook runs.
    let phase = facts.get("phase").map_or("starting", String::as_str);
    let pid = fact(facts, "pid");
    let for_long = |key: &str| since(facts, key, now).unwrap_or_default();
    if !alive {
        let text = format!("the pass (pid {pid}) is gone in its phase {phase} without a last word");
        return remarks.add(Verdict::Critical, text);
    }
    let mut text = format!("a pass (pid {pid}) is running, phase {phase}");
    if let (Some(position), Some(goal)) = (facts.get("position"), facts.get("goal")) {
        text += &format!(", at {position} of {goal}");
    }
    let (moved, silent) = (for_long("progressed"), for_long("updated"));
    text += &format!(", moved {} ago", short(moved));
    let verdict = if silent > SILENCE {
        text += &format!(", and says nothing for {}", short(silent));
        Verdict::Critical
    } else if answers == Some(false) && phase == "catch-up" {
        // One that starts or shuts down does not listen: there the pass has its own patience.
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
        text += &format!(", {failures} failures in a row ({})", fact(facts, "cause"));
    }
    remarks.add(verdict, text);
}

fn ended(facts: &Facts, remarks: &mut Remarks) {
    let status = fact(facts, "exit_status");
    let when = fact(facts, "updated");
    let why = || {
        let message = fact(facts, "message").trim_matches('\'');
        format!("the last pass ended {status} at {when}: {}: {message}", fact(facts, "cause"))
    };
    match status.parse::<u32>() {
        Ok(0) => remarks.add(Verdict::Ok, format!("the last pass ended well at {when}")),
        Ok(3) => remarks.add(
            Verdict::Warning,
            format!("the last pass ended 3 at {when}: a backup is stored, but look at its log"),
        ),
        Ok(75 | 128..) => remarks.add(Verdict::Warning, why()),
        _ => remarks.add(Verdict::Critical, why()),
    }
}

/// The newest complete backup; damaged ones before it are a warning.
fn newest(repo: &Repository, now: Timestamp, remarks: &mut Remarks) -> Result<Option<Newest>> {
    let mut damaged = Vec::new();
    let mut found = None;
    for name in repo.names()?.into_iter().rev() {
        match repo.load(&name) {
            Ok(manifest) => match repo.state(&manifest) {
                None => {
                    found = Some(Newest { name, age: manifest.data_as_of.age(now) });
                    break;
                }
                // Pruned between the look at it and at its packs.
                Some(_) if matches!(repo.load(&name), Err(Error::NoBackup { .. })) => {}
                Some(what) => damaged.push((name, what)),
            },
            Err(Error::BackupDamaged { what, .. }) => damaged.push((name, what)),
            // Pruned between the listing and the look.
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

fn judge_age(newest: Option<&Newest>, max_age: Option<Duration>, remarks: &mut Remarks) {
    match newest {
        None => remarks.add(Verdict::Critical, "there is no complete backup".into()),
        Some(Newest { name, age }) => {
            let mut text = format!("newest backup {name} is {} old", short(*age));
            let too_old = max_age.is_some_and(|m| *age >= m);
            if let (true, Some(max)) = (too_old, max_age) {
                text += &format!(", more than {}", short(max));
            }
            remarks.add(if too_old { Verdict::Critical } else { Verdict::Ok }, text);
        }
    }
}
