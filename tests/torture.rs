//! Torture: the program, its mysqld or both are killed, stopped and frozen at random moments and
//! at counted system calls, while the primary is written to in all ways. After each strike the
//! newest backup restores, starts and equals a reference replica; a rerun then ends 0.
//!
//! `ROUNDS` says how many rounds there are, `SEED` what is drawn, `ROUND` names a single one, `PARALLEL`
//! the threads of the replay. A
//! round is drawn from the seed and its number alone, so what is started, what is done to it and
//! when is the same again: system calls are counted, times and delays are drawn. How far a
//! program has come at a time, and what the primary's writer has said by then, is up to the
//! machine.

mod leads_on;
mod load;
pub mod plan;
mod proof;
mod strike;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Rollforward, Scene, Snapshot, find_program, flavor};
use load::Load;
use plan::Round;

/// Rounds when nobody says how many.
const ROUNDS: u64 = 20;
/// Statements on the primary for each command, which should take some seconds.
const STATEMENTS: u64 = 120;
/// The primary's binary logs are purged that often.
const PURGE_EVERY: u64 = 25;

/// One primary, one repository, one reference replica, for all rounds.
pub struct Arena {
    // Before the primary, which it writes to.
    load: Load,
    replica: Replica,
    scene: Scene,
    /// What the replica holds, at which position.
    reference: (String, Snapshot),
    /// The manifest of the backup that was proven last.
    proven: Vec<u8>,
    /// How long a command took the last time that nothing befell it.
    usual: HashMap<&'static str, Duration>,
    /// The binary log of the primary as of the last purge.
    log: Option<String>,
    tally: Tally,
}

/// How often what was.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, BTreeMap<String, u32>>);

impl Tally {
    fn count(&mut self, kind: &'static str, what: impl Into<String>) {
        *self.0.entry(kind).or_default().entry(what.into()).or_default() += 1;
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (kind, counts) in &self.0 {
            let all: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
            let _ = writeln!(text, "  {kind}: {}", all.join(", "));
        }
        text
    }
}

impl Arena {
    fn new(seed: u64) -> Arena {
        let scene = Scene::with("torture", &["--event-scheduler=ON", "--max-binlog-size=64M"]);
        let replica = Replica::start(&scene.primary);
        let load = Load::start(&scene.primary, seed);
        load.calm(true);
        load.grant(STATEMENTS);
        let seed = command(&scene, "seed").args(["--from", "dump"]);
        let seeded = seed.run_to_end(COMMAND_PATIENCE).expect(0);
        load.calm(false);
        let guess = seeded.wall / 2;
        let usual = HashMap::from([
            ("seed", seeded.wall),
            ("run", guess),
            ("restore", guess / 4),
            ("prune", Duration::from_millis(60)),
        ]);
        let (reference, proven, tally) = Default::default();
        Arena { load, replica, scene, reference, proven, usual, log: None, tally }
    }

    fn usual(&self, command: &str) -> Duration {
        self.usual[command]
    }

    fn took(&mut self, command: &'static str, time: Duration) {
        self.usual.insert(command, time);
    }

    /// One round; its line.
    fn round(&mut self, round: &Round, next: Option<&Round>) -> String {
        let began = Instant::now();
        self.load.odd(&self.scene.primary, round.odd);
        let mut line = format!("round {}:", round.number);
        for (word, is) in [(" kept scratch data;", round.kept), (" odd tables;", round.odd)] {
            line += if is { word } else { "" };
        }
        for strike in &round.strikes {
            let before = self.backups();
            self.load.grant(STATEMENTS);
            self.load.calm(strike.command == "seed");
            let struck = self.strike(strike);
            self.load.calm(false);
            let proven = self.check_after_strike(&before, strike.keep);
            let late = if struck.landed { "" } else { ", too late" };
            let _ = write!(line, " {strike}: {} in {}{late}; {proven};", struck.end, struck.phase);
            self.tally.count("what", strike.blow.kind());
            self.tally.count("when", strike.moment.kind());
            self.tally.count("command", strike.command);
            self.tally.count("end", struck.end);
            let missed = if struck.landed { struck.phase } else { "too late".into() };
            self.tally.count("struck in", missed);
        }
        let writes = self.load.count();
        self.load.grant(STATEMENTS);
        let (outcome, proven) = self.rerun(next);
        let how = match (
            outcome.stderr.contains("resuming the interrupted"),
            outcome.stderr.contains("restored "),
        ) {
            (true, true) => "went on, then restored",
            (true, false) => "went on",
            _ => "restored",
        };
        self.tally.count("rerun", how);
        let led = match self.replay_newest() {
            Some(0) => "an empty journal".into(),
            Some(many) => format!("its journal of {many} leads there"),
            None => "no journal".into(),
        };
        let kind = if led.starts_with("its") { "leads from the one before" } else { &led };
        self.tally.count("journal", kind);
        let spent = began.elapsed().as_secs_f64();
        let _ = write!(line, " rerun 0 ({how}); {proven}; {led}; {writes} writes; {spent:.1}s");
        line
    }

    /// The primary forgets the binary logs of long ago.
    fn purge_logs(&mut self) {
        let primary = &self.scene.primary;
        if let Some(log) = self.log.take() {
            primary.sql(&format!("PURGE BINARY LOGS TO '{log}'"));
        }
        primary.sql("FLUSH BINARY LOGS");
        self.log = Some(primary.sql("SHOW MASTER STATUS")[0][0].clone());
    }
}

/// A command with a log of the size that other servers of the tests have: half the data.
fn command(scene: &Scene, name: &str) -> Rollforward {
    let program = scene.command(name);
    let alters = matches!(name, "run" | "seed") && !flavor::is_mysql();
    let program = program.args(alters.then_some("--mysqld-option=--innodb-log-file-size=16M"));
    let threads = number("PARALLEL").filter(|_| name == "run");
    let option = threads.and_then(|n| flavor::option(&format!("--slave-parallel-threads={n}")));
    program.args(option.map(|option| format!("--mysqld-option={option}")))
}

/// Says how to have the same again, when a round fails.
struct Failing<'a>(u64, &'a Round);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Failing(seed, round) = self;
            eprintln!("--- FAILED: {round:?}");
            eprintln!(
                "--- again: make torture FLAVOR={} SEED={seed} ROUND={}",
                flavor::name(),
                round.number
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|v| !v.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is not a number")))
}

#[test]
fn after_any_kill_the_backup_holds_and_a_rerun_succeeds() {
    need_server!();
    if find_program("strace").is_none() {
        assert!(std::env::var_os("CI").is_none(), "strace is not installed: 'make deps'");
        println!("*** SKIPPED, strace is not installed ('make deps') ***");
        return;
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let seed = number("SEED").unwrap_or_else(clock);
    let (first, last) = match number("ROUND") {
        Some(one) => (one, one),
        None => (1, number("ROUNDS").unwrap_or(ROUNDS)),
    };
    println!("torture: SEED={seed}, rounds {first} to {last}");
    let began = Instant::now();
    let mut arena = Arena::new(seed);
    let rounds: Vec<Round> = (first..=last).map(|n| Round::of(seed, n)).collect();
    // So that even the first round finds what it is to begin with.
    {
        let _failing = Failing(seed, &rounds[0]);
        arena.rerun(rounds.first());
    }
    for (at, round) in rounds.iter().enumerate() {
        let _failing = Failing(seed, round);
        let line = arena.round(round, rounds.get(at + 1));
        println!("{line}");
        if round.number.is_multiple_of(PURGE_EVERY) {
            arena.purge_logs();
        }
    }
    print!("{}", arena.tally.text());
    let (many, spent) = (rounds.len(), began.elapsed().as_secs());
    println!("torture: SEED={seed}: {many} rounds, all well, in {spent}s");
}
