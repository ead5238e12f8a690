//! `status` through the real binary: what it says of each state of a pass and of the backups,
//! and by which exit status. Each finding is a line of the table that the test prints.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::repository::{Json, all_packs, pack_path};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Checkpoint, Outcome, PATIENCE, Primary, Rollforward, Running, Scene, TempDir, alive, flavor,
    kill, wait_until,
};

mod doubts;

const SOON: Duration = Duration::from_secs(30);

/// `status` with these options.
fn status<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Rollforward {
    Rollforward::new(["status"]).args(args)
}

/// `status` of both directories of a scene.
fn both(scene: &Scene) -> Rollforward {
    status(["--repo"]).arg(&scene.repo).arg("--scratch").arg(&scene.scratch)
}

/// Runs it: the exit status, one line on standard output that begins with the verdict and has
/// `texts` in it, nothing on standard error. The line goes into the table.
#[track_caller]
fn says(what: &str, program: &Rollforward, expected: i32, texts: &[&str]) -> Outcome {
    let outcome = program.run_to_end(SOON).expect(expected);
    let verdict = ["ok", "warning", "critical", "unknown"][expected as usize];
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
    assert!(outcome.stdout.starts_with(&format!("{verdict}: ")), "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
    for text in texts {
        assert!(outcome.stdout.contains(text), "nothing about '{text}'; {outcome}");
    }
    eprintln!("| {what} | {expected} | {} |", outcome.stdout.trim_end());
    outcome
}

/// What `--json` says.
#[track_caller]
fn json(program: &Rollforward, expected: i32) -> Json {
    let outcome = program.clone().arg("--json").run_to_end(SOON).expect(expected);
    assert_eq!(outcome.stderr, "", "{outcome}");
    let json = Json::parse(&outcome.stdout);
    let verdict = ["ok", "warning", "critical", "unknown"][expected as usize];
    assert_eq!(json.get("verdict").str(), verdict, "{outcome}");
    json
}

fn keys(json: &Json) -> BTreeSet<String> {
    let Json::Object(members) = json else { panic!("no object: {json:?}") };
    members.keys().cloned().collect()
}

/// Replaces a value of a checkpoint, which no pass writes any more.
#[track_caller]
fn edit(scratch: &Path, key: &str, value: &str) {
    let path = scratch.join("checkpoint");
    let mut facts = Checkpoint::read(&path).expect("a checkpoint").0;
    facts.insert(key.into(), value.into());
    facts.remove("format");
    let lines: String = facts.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
    fs::write(path, format!("format=1\n{lines}")).unwrap();
}

/// A pass that is held up in the catch-up, with its mysqld.
#[track_caller]
fn catching_up(scene: &Scene, count: u32, seconds: f64, args: &[&str]) -> (Running, i32) {
    scene.primary.slow_backlog("shop", count, seconds);
    let mut pass = scene.command("run").args(args).spawn();
    let mysqld = pass.wait_for_checkpoint("a mysqld in the catch-up", PATIENCE, |c| {
        let pid = c.number("mysqld_pid")? as i32;
        (c.get("phase") == Some("catch-up") && c.get("goal").is_some() && alive(pid)).then_some(pid)
    });
    (pass, mysqld)
}

#[test]
fn before_any_pass_only_a_repository_gives_a_status() {
    let dir = TempDir::new("before");
    let at = |name: &str| dir.path().join(name);
    let repo = at("repo");
    for name in ["backups", "packs", "tmp"] {
        fs::create_dir_all(repo.join(name)).unwrap();
    }
    fs::write(repo.join("format"), "rollforward repository 1\n").unwrap();
    let with_repo = status(["--repo"]).arg(&repo);
    says("no backup (--repo)", &with_repo, 2, &["no complete backup"]);
    let none = &["no pass has run yet"];
    let with_both = with_repo.clone().arg("--scratch").arg(at("scratch"));
    says("no pass, no backup", &with_both, 2, &["no pass has run yet", "no complete backup"]);
    // Nobody knows whether it ever will: the path may be misspelt.
    says("no pass (--scratch)", &status(["--scratch"]).arg(at("scratch")), 3, none);
    let json = json(&with_both, 2);
    for key in ["alive", "answers", "newest", "newest_age_seconds"] {
        assert_eq!(json.get(key), &Json::Null, "{key}");
    }
    assert!(!at("scratch").exists() && !repo.join("lock").exists(), "status makes nothing");
}

#[test]
fn what_cannot_be_read_is_unknown_also_as_json() {
    let dir = TempDir::new("unknown");
    let at = |name: &str| dir.path().join(name);
    let repo = at("repo");
    fs::create_dir_all(&repo).unwrap();
    let with_repo = |path: &Path| status(["--repo"]).arg(path);
    says("no repository", &with_repo(&at("absent")), 3, &["no repository at", "absent"]);
    says("not a repository", &with_repo(&repo), 3, &["is not a repository"]);
    fs::write(repo.join("format"), "rollforward repository 7\n").unwrap();
    says("a later repository", &with_repo(&repo), 3, &["format 7"]);
    fs::write(repo.join("format"), "rollforward repository 1\n").unwrap();
    says("a repository with a part missing", &with_repo(&repo), 3, &["backups"]);
    fs::write(at("checkpoint"), "state=running\n").unwrap();
    let scratch = status(["--scratch"]).arg(dir.path());
    says("not a checkpoint", &scratch, 3, &["checkpoint", "begin with format=1"]);
    let json = json(&scratch, 3);
    assert!(json.get("text").str().contains("cannot read checkpoint"), "{json:?}");
    fs::remove_file(at("checkpoint")).unwrap();
    fs::create_dir(at("checkpoint")).unwrap();
    says("a directory for a checkpoint", &scratch, 3, &["it is not a checkpoint"]);
}

#[test]
fn wrong_usage_of_status_is_unknown() {
    let dir = TempDir::new("usage");
    let file = dir.path().join("scratch.cnf");
    fs::write(&file, "[rollforward]\nscratch = /tmp\nmax-age = 1d\n").unwrap();
    let file = format!("--defaults-file={}", file.display());
    let (repo, scratch) = ("--repo=/nonexistent", "--scratch=/tmp");
    for (args, word) in [
        (vec!["status"], "--repo"),
        (vec!["status", "--max-age=1h"], "--repo"),
        // Limits that nothing is judged by.
        (vec!["status", scratch, "--max-age=1d"], "--max-age needs --repo"),
        (vec!["status", scratch, "--max-age=1d", "--json"], "--max-age needs --repo"),
        (vec!["status", scratch, "--max-proof-age=1d"], "--max-proof-age needs --repo"),
        (vec!["status", "--checkpoint=/tmp/x", "--max-lag=1m"], "--max-lag needs --repo"),
        (vec!["status", &file], "--max-age needs --repo"),
        (vec!["status", repo, "--bogus"], "--bogus"),
        (vec!["status", repo, "--max-age=soon"], "--max-age"),
        (vec!["status", repo, "--stall-timeout="], "--stall-timeout"),
        (vec!["status", repo, "--keep-count=no"], "--keep-count"),
        (vec!["status", repo, "--dry-run"], "--dry-run"),
        (vec!["status", repo, "word"], "word"),
        (vec!["status", "--repo"], "--repo"),
        (vec!["--bogus", "status"], "--bogus"),
    ] {
        let outcome = Rollforward::new(&args).run_to_end(SOON).expect(3);
        assert_eq!((outcome.stdout.as_str(), outcome.log().len()), ("", 1), "{outcome}");
        let outcome = outcome.says(word);
        eprintln!("| {} | 3 | {} |", args.join(" "), outcome.stderr.trim_end());
    }
}

#[test]
fn stopped_mysqlds_and_killed_passes_are_critical() {
    need_server!();
    let scene = Scene::seeded("running");
    let (mut pass, mysqld) = catching_up(&scene, 1500, 0.02, &["--ping-timeout=1h"]);
    let goal = flavor::either(" of 0-", ":1-1");
    let texts = ["is running, phase catch-up", goal, "newest backup"];
    says("running", &both(&scene), 0, &texts);
    let alone = status(["--scratch"]).arg(&scene.scratch);
    says("running (--scratch)", &alone, 0, &texts[..2]);
    let by_file = status(["--checkpoint"]).arg(scene.scratch.join("checkpoint"));
    says("running (--checkpoint)", &by_file, 0, &texts[..2]);

    let found = json(&both(&scene), 0);
    assert_eq!(found.get("alive"), &Json::Bool(true));
    assert_eq!(found.get("answers"), &Json::Bool(true));
    assert_eq!(found.get("newest").str(), scene.backups()[0]);
    assert_eq!(found.get("pid"), &Json::Number(pass.pid().to_string()));
    let age = found.get("newest_age_seconds");
    assert!(matches!(age, Json::Number(n) if n.parse::<u64>().unwrap() < 300), "{age:?}");
    let mut expected: BTreeSet<String> = scene.checkpoint().0.into_keys().collect();
    expected.remove("format");
    let besides = [
        "alive",
        "answers",
        "newest",
        "newest_age_seconds",
        "newest_proven",
        "newest_proven_age_seconds",
        "recoverable_until",
        "verdict",
        "text",
    ];
    expected.extend(besides.map(String::from));
    assert_eq!(keys(&found), expected);

    // It does not lock anything, nor wait for the pass that holds both locks.
    let before = pass.checkpoint();
    for _ in 0..20 {
        let outcome = both(&scene).run_to_end(SOON).expect(0);
        assert!(outcome.wall < Duration::from_secs(3), "{outcome}");
    }
    assert_eq!(pass.checkpoint().get("failures"), Some("0"), "{before:?}");

    kill(mysqld, libc::SIGSTOP);
    let outcome = says("hung mysqld", &both(&scene), 2, &["its mysqld does not answer"]);
    assert!(outcome.wall < Duration::from_secs(7), "{outcome}");
    let found = json(&both(&scene), 2);
    assert_eq!(found.get("alive"), &Json::Bool(true));
    assert_eq!(found.get("answers"), &Json::Bool(false));
    kill(mysqld, libc::SIGCONT);
    says("mysqld goes on", &both(&scene), 0, &["is running"]);

    // A clock that was set meanwhile makes it no other process.
    pass.kill(libc::SIGSTOP);
    edit(&scene.scratch, "started", "2001-01-01T00:00:00Z");
    assert_eq!(json(&both(&scene), 0).get("alive"), &Json::Bool(true));
    pass.kill(libc::SIGKILL);
    wait_until("the end of the killed pass", PATIENCE, || pass.has_ended());
    let pid = pass.pid().to_string();
    let gone = format!("(pid {pid}) died during catch-up without recording an outcome");
    says("killed pass", &both(&scene), 2, &[&gone]);
    let found = json(&both(&scene), 2);
    assert_eq!(found.get("alive"), &Json::Bool(false));
    // Its number belongs to somebody else now.
    edit(&scene.scratch, "pid", &std::process::id().to_string());
    says("pid of another process", &both(&scene), 2, &["died during catch-up"]);
    assert_eq!(json(&both(&scene), 2).get("alive"), &Json::Bool(false));
    // The next pass is not in its way.
    scene.run();
    drop(pass);
}

#[test]
fn a_pass_in_which_nothing_moves_is_stalled() {
    need_server!();
    let scene = Scene::seeded("stalled");
    // One transaction that sleeps: no byte, no CPU.
    let (pass, _) = catching_up(&scene, 1, 60.0, &["--stall-timeout=0"]);
    let stalled = both(&scene).arg("--stall-timeout=3s");
    // Asked every second, as by an eager monitor: to be asked is no progress.
    let mut asked = Instant::now();
    wait_until("nothing to move for 3 s", PATIENCE, || {
        if asked.elapsed() < Duration::from_secs(1) {
            return false;
        }
        asked = Instant::now();
        stalled.run_to_end(SOON).status == 2
    });
    says("stalled", &stalled, 2, &["phase catch-up", "and is stalled"]);
    let found = json(&stalled, 2);
    assert_eq!(found.get("answers"), &Json::Bool(true));
    says("the same with patience", &both(&scene), 0, &["last progress"]);
    says("the same, 0 is off", &both(&scene).arg("--stall-timeout=0"), 0, &["last progress"]);
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(COMMAND_PATIENCE);
    assert_eq!(ended.status, 143, "{ended}");
    let texts = ["the last pass ended with status 143", "interrupted", "newest backup"];
    says("last pass stopped by a signal", &both(&scene), 1, &texts);
}

#[test]
fn status_tells_the_last_outcome_and_the_newest_age() {
    need_server!();
    let scene = Scene::seeded("ended");
    says("last pass 0", &both(&scene), 0, &["the last pass succeeded", "newest backup"]);
    let alone = status(["--repo"]).arg(&scene.repo);
    says("--repo alone", &alone, 0, &["newest backup"]);
    assert_eq!(json(&alone, 0).get("alive"), &Json::Null);
    says("young enough", &both(&scene).arg("--max-age=1h"), 0, &["old"]);
    says("too old", &both(&scene).arg("--max-age=0"), 2, &["old, more than 0s"]);
    let older = alone.clone().arg("--max-age=1s");
    wait_until("a backup of a second", PATIENCE, || older.run_to_end(SOON).status == 2);
    says("too old (--repo)", &older, 2, &["old, more than 1s"]);
    assert_eq!(json(&both(&scene), 0).get("alive"), &Json::Bool(false));

    // 75: nobody listens there.
    let pass = scene.command("run").args(["--max-failures=0", "--primary=127.0.0.1:1"]);
    pass.run_to_end(COMMAND_PATIENCE).expect(75);
    says("last pass 75", &both(&scene), 1, &["ended with status 75", "primary-unreachable: "]);
    says(
        "last pass 75, and too old",
        &both(&scene).arg("--max-age=0"),
        2,
        &["ended with status 75"],
    );
    // 1: the password is wrong.
    let wrong = scene.path("wrong.cnf");
    scene.primary.write_option_file_as(&wrong, "rf_nightly", "no");
    let pass = scene.command("run").arg("--defaults-file").arg(&wrong);
    pass.run_to_end(COMMAND_PATIENCE).expect(1);
    says(
        "last pass failed for good",
        &both(&scene),
        2,
        &["ended with status 1", "access-denied: "],
    );
    let found = json(&both(&scene), 2);
    assert_eq!(found.get("exit_status"), &Json::Number("1".into()));
    assert!(!found.get("message").str().contains('\''), "{found:?}");

    // Three: the newest one is damaged and passed over.
    scene.run().expect(0);
    let newest = scene.backups().pop().unwrap();
    let old: BTreeSet<String> =
        crate::support::repository::packs_of(&scene.repo, &scene.backups()[0])
            .into_iter()
            .collect();
    let new = all_packs(&scene.repo).into_iter().find(|p| !old.contains(p)).expect("a new pack");
    fs::remove_file(pack_path(&scene.repo, &new)).unwrap();
    let damaged = format!("backup {newest} is damaged: ");
    says("newest is damaged", &both(&scene), 1, &[&damaged, &scene.backups()[0]]);
    says("newest is damaged (--repo)", &alone, 1, &[&damaged]);
    assert_eq!(json(&alone, 1).get("newest").str(), scene.backups()[0]);
    scene.run().expect(3);
    let texts = ["ended with status 3", "needs attention: backup-damaged: backup ", &newest];
    says("last pass 3", &both(&scene), 1, &texts);
    // The pass made the same pack again.
    let manifest = scene.repo.join("backups").join(&newest);
    fs::write(&manifest, "format 1\n").unwrap();
    // It stays so when nothing is due, and the damaged one is named though it is not the newest.
    let checkpoint = fs::read(scene.scratch.join("checkpoint")).unwrap();
    let idle = scene.command("run").arg("--min-interval=1h").run_to_end(COMMAND_PATIENCE);
    idle.expect(0).says("nothing is due").says("stays on record: status 3");
    assert_eq!(fs::read(scene.scratch.join("checkpoint")).unwrap(), checkpoint);
    says("nothing was due after 3", &both(&scene), 1, &texts);
    says("an older one is damaged", &alone, 1, &[&damaged]);
    scene.run().expect(0);
    says("a pass ended well", &both(&scene), 1, &["the last pass succeeded", &damaged]);
    fs::remove_file(&manifest).unwrap();
    scene.command("run").arg("--min-interval=1h").run_to_end(COMMAND_PATIENCE).expect(0);
    says("all is well", &both(&scene), 0, &["the last pass succeeded"]);
}

#[test]
fn a_status_never_keeps_a_pass_from_its_locks() {
    need_server!();
    let scene = Scene::seeded("locks");
    let since = Instant::now();
    for _ in 0..5 {
        let looks: Vec<Running> = (0..4).map(|_| both(&scene).spawn()).collect();
        let pass = scene.command("run").arg("--min-interval=1h").spawn();
        pass.finish(COMMAND_PATIENCE).expect(0);
        for look in looks {
            look.finish(SOON).expect(0);
        }
    }
    eprintln!("20 looks at 5 passes in {:?}", since.elapsed());
}

#[test]
fn a_base_nearing_the_log_expiry_is_warned_of() {
    need_server!();
    let scene = Scene::seeded("keeps");
    let warning = "and the primary keeps its binary logs for";
    // For ever is what it does unless told otherwise.
    let ended = scene.run().expect(0);
    assert!(!ended.stderr.contains(warning), "{ended}");
    let variable = "SHOW GLOBAL VARIABLES LIKE 'binlog_expire_logs_seconds'";
    let in_seconds = !scene.primary.sql(variable).is_empty();
    let keep = |primary: &Primary, days: u32| match in_seconds {
        true => primary.sql(&format!("SET GLOBAL binlog_expire_logs_seconds = {}", days * 86_400)),
        false => primary.sql(&format!("SET GLOBAL expire_logs_days = {days}")),
    };
    keep(&scene.primary, 1);
    let ended = scene.run().expect(0);
    assert!(!ended.stderr.contains(warning), "young; {ended}");
    // Thirteen hours old by its manifest, which is more than half a day.
    let newest = scene.backups().pop().unwrap();
    crate::support::repository::set_age(&scene.repo, &newest, 13 * 3600);
    keep(&scene.primary, 2);
    let ended = scene.command("run").args(["--max-failures=0", "--mysqld=/bin/false"]);
    let ended = ended.run_to_end(COMMAND_PATIENCE).expect(1);
    assert!(!ended.stderr.contains(warning), "less than half of two days; {ended}");
    keep(&scene.primary, 1);
    let ended = scene.run().expect(0).says(&format!("{newest} is 13h"));
    let ended = ended.says("and the primary keeps its binary logs for 1d: ");
    assert_eq!(ended.stderr.matches(warning).count(), 1, "{ended}");
}
