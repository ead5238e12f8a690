//! The private mysqld dies, hangs, is stopped or never starts: what the pass makes of it.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Outcome, PATIENCE, Replica, Running, Scene, alive, kill, wait_for, wait_until,
};

/// Waits until the pass is in the catch-up and has come beyond transaction `beyond` of domain
/// 0; its mysqld and how far it is.
#[track_caller]
fn wait_for_catch_up(pass: &mut Running, beyond: u64) -> (i32, u64) {
    pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
        let at: u64 = c.get("position")?.rsplit(['-', ':']).next()?.parse().ok()?;
        let pid = c.number("mysqld_pid")? as i32;
        let moves = c.get("phase") == Some("catch-up") && at > beyond && alive(pid);
        moves.then_some((pid, at))
    })
}

/// So many slow transactions for the pass to come, in a table that its base holds: one that was
/// made just before the kill would rightly cost a restore.
fn slow_rows(scene: &Scene, count: u32) {
    scene.primary.slow_backlog("shop", 1, 0.0);
    scene.settle();
    scene.primary.slow_rows("shop", count, 0.02);
}

/// The number of lines of the log that have `text` in them.
fn count(outcome: &Outcome, text: &str) -> usize {
    outcome.log().iter().filter(|l| l.contains(text)).count()
}

#[test]
fn a_killed_mysqld_is_noticed_at_once_and_recovered_from() {
    need_server!();
    let scene = Scene::seeded("killed");
    let replica = Replica::start(&scene.primary);
    slow_rows(&scene, 600);
    // More kills than failures are allowed: progress in between forgets them.
    let mut pass = scene.command("run").arg("--max-failures=3").spawn();
    let mut noticed = Vec::new();
    let mut at = 0;
    for kills in 1..=5 {
        let (pid, now) = wait_for_catch_up(&mut pass, at);
        at = now;
        kill(pid, libc::SIGKILL);
        let mut end = None;
        let seen = wait_for("the death to be noticed", PATIENCE, || {
            if end.is_none() && !alive(pid) {
                end = Some(Instant::now());
            }
            let said = pass.stderr().matches("mysqld-died: ").count();
            (said == kills).then(Instant::now)
        });
        noticed.push(end.map_or(Duration::ZERO, |e| seen - e));
    }
    noticed.sort();
    println!("a death is noticed within {:?} (median of {noticed:?})", noticed[2]);
    assert!(noticed[2] < Duration::from_millis(500), "{noticed:?}");
    let ended = pass.finish(COMMAND_PATIENCE).expect(0);
    let ended = ended.says("it was killed by signal 9 (KILL)").says("failure 1 of 4");
    assert_eq!(count(&ended, "restored "), 1, "restored once and then resumed; {ended}");
    assert_eq!(scene.checkpoint().get("state"), Some("done"));
    assert_eq!(scene.checkpoint().get("failures"), Some("0"));
    scene.assert_newest_equals(&replica);
    scene.assert_nothing_left();
}

/// How often a script that says so was started in the last pass.
fn starts(scene: &Scene) -> usize {
    fs::read_to_string(scene.scratch.join("mysqld.log")).unwrap().matches("one start").count()
}

#[test]
fn a_mysqld_dying_at_every_start_is_given_up_on() {
    need_server!();
    let scene = Scene::seeded("dying");
    // It may write into its log only.
    let fake = scene.fake_mysqld("dies", "echo one start >&2; kill -9 $$");
    let program = scene.command("run").arg("--mysqld").arg(&fake);
    let ended = program
        .args(["--max-failures=10", "--backoff-base=20ms", "--backoff-cap=300ms"])
        .run_to_end(COMMAND_PATIENCE)
        .expect(75)
        .says("mysqld-died: the private mysqld died: it was killed by signal 9 (KILL)");
    assert_eq!(starts(&scene), 11, "{ended}");
    // 20, 40, 80, 160 and then six times 300 ms.
    let ended = ended.says("11 consecutive failures without progress (at most 2.1s of back-off)");
    assert!(ended.wall >= Duration::from_millis(2100), "{ended}");
    assert!(ended.wall < Duration::from_secs(30), "{ended}");
    assert!(ended.log().len() < 60, "{ended}");
    let checkpoint = scene.checkpoint();
    for (key, value) in
        [("state", "failed"), ("cause", "mysqld-died"), ("exit_status", "75"), ("failures", "11")]
    {
        assert_eq!(checkpoint.get(key), Some(value), "{checkpoint:?}");
    }
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
    // The data is still good: the next pass needs no restore.
    let ended = scene.run().expect(0).says("resuming the interrupted pass");
    assert_eq!(count(&ended, "restored "), 0, "{ended}");
}

#[test]
fn a_mysqld_always_dying_on_one_transaction_is_abandoned() {
    need_server!();
    let scene = Scene::seeded("same-trx");
    scene.primary.slow_backlog("shop", 1, 5.0);
    let mut pass = scene.command("run").arg("--max-failures=2").spawn();
    for deaths in 1..=3 {
        let pid = pass.wait_for_checkpoint("a mysqld in the catch-up", PATIENCE, |c| {
            let pid = c.number("mysqld_pid")? as i32;
            (c.get("phase") == Some("catch-up") && alive(pid)).then_some(pid)
        });
        kill(pid, libc::SIGKILL);
        if deaths < 3 {
            pass.wait_for_log(&format!("failure {deaths} of 3"), PATIENCE);
        }
    }
    let ended = pass.finish(COMMAND_PATIENCE).expect(75).says("mysqld-died: ");
    assert!(ended.log().len() < 60, "{ended}");
    scene.assert_nothing_left();
    scene.run().expect(0);
}

#[test]
fn a_mysqld_shut_down_from_outside_is_restarted() {
    need_server!();
    let scene = Scene::new("shut-down");
    scene.primary.fill("shop", 6, 20_000);
    // By SQL, which is possible only while a dump is loaded.
    let mut seed = scene.command("seed").args(["--from", "dump"]).spawn();
    let socket = scene.scratch.join("mysqld.sock");
    let mut session = wait_for("a login to the private server", PATIENCE, || {
        assert!(!seed.has_ended(), "{}", seed.dump());
        let options = mysql::OptsBuilder::new()
            .socket(Some(socket.to_string_lossy()))
            .prefer_socket(false)
            .user(Some("root"));
        mysql::Conn::new(options).ok()
    });
    mysql::prelude::Queryable::query_drop(&mut session, "SHUTDOWN").unwrap();
    drop(session);
    let ended = seed.finish(COMMAND_PATIENCE).expect(0);
    // Whether before or after we were in ourselves is not settled.
    let early = "it exited with status 0 before it was ready";
    let how = if ended.stderr.contains(early) { early } else { "another process shut it down" };
    let ended = ended.says(&format!("mysqld-died: the private mysqld died: {how}"));
    assert_eq!(count(&ended, "failure 1 of 11, retrying in"), 1, "{ended}");
    // By a signal in the catch-up.
    scene.primary.slow_backlog("shop", 100, 0.02);
    // Not before it moves: MySQL hangs that is to end while it starts its replication threads.
    let base = scene.newest_position();
    let base = base.rsplit(['-', ':']).next().and_then(|n| n.parse().ok()).expect("a number");
    let mut pass = scene.command("run").spawn();
    let (pid, _) = wait_for_catch_up(&mut pass, base);
    kill(pid, libc::SIGTERM);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("another process shut it down");
    assert_eq!(count(&ended, "failure 1 of 11, retrying in"), 1, "{ended}");
    assert_eq!(count(&ended, "restored "), 1, "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn a_stopped_mysqld_is_hung_killed_and_restarted() {
    need_server!();
    let scene = Scene::seeded("stopped");
    slow_rows(&scene, 150);
    let mut pass = scene.command("run").arg("--ping-timeout=1s").spawn();
    let (pid, _) = wait_for_catch_up(&mut pass, 0);
    kill(pid, libc::SIGSTOP);
    let since = Instant::now();
    let seen = pass.wait_for_log("mysqld-hung: the private mysqld is hung: no answer", PATIENCE);
    assert!(seen - since >= Duration::from_millis(900), "{:?}", seen - since);
    assert!(seen - since < Duration::from_secs(10), "{:?}", seen - since);
    wait_until("the hung mysqld to be gone", PATIENCE, || !alive(pid));
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("failure 1 of 11");
    assert_eq!(count(&ended, "restored "), 1, "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn a_mysqld_that_is_deaf_at_every_start_is_hung() {
    need_server!();
    let scene = Scene::seeded("deaf");
    // Neither gets as far as to listen. One that listens and never greets is in tests/faults/starts.rs.
    let deaf = [
        ("stopped", "kill -STOP $$; exec MYSQLD \"$@\"", "no completed start for 0.7s"),
        ("idle", "exec tail -f /dev/null", "no completed start for 0.7s"),
    ];
    for (name, body, what) in deaf {
        let fake = scene.fake_mysqld(name, body);
        let ended = scene
            .command("run")
            .arg("--mysqld")
            .arg(&fake)
            .args(["--start-timeout=700ms", "--ping-timeout=700ms", "--max-failures=1"])
            .run_to_end(COMMAND_PATIENCE)
            .expect(75)
            .says(&format!("mysqld-hung: the private mysqld is hung: {what}"));
        assert_eq!(count(&ended, "mysqld-hung: "), 2, "{ended}");
        assert!(ended.wall < Duration::from_secs(15), "{ended}");
        assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-hung"));
        scene.assert_nothing_left();
    }
    assert_eq!(scene.backups().len(), 1);
    scene.run().expect(0);
}

#[test]
fn a_mysqld_refusing_to_start_is_quoted_and_final() {
    need_server!();
    let scene = Scene::seeded("refusing");
    let line = "2026-11-22 18:00:00 0 [ERROR] InnoDB: the dog ate ./ibdata1";
    let refusals = [(1, line), (3, line), (7, line), (1, "")];
    for (status, said) in refusals {
        let body = format!("echo one start >&2; echo '{said}' >&2; exit {status}");
        let fake = scene.fake_mysqld("refuses", &body);
        let ended = scene.command("run").arg("--mysqld").arg(&fake).run_to_end(COMMAND_PATIENCE);
        let ended = ended.expect(1).says("mysqld-start: the private mysqld did not start");
        let ended = ended.says(&format!("it exited with status {status}"));
        let quoted = ended.stderr.contains("InnoDB: the dog ate ./ibdata1");
        assert_eq!(quoted, !said.is_empty(), "{ended}");
        assert_eq!(starts(&scene), 1, "{ended}");
        assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-start"));
        assert!(!scene.has_scratch_data(), "scratch data goes after status 1");
        scene.assert_nothing_left();
    }
    assert_eq!(scene.backups().len(), 1);
    scene.run().expect(0);
}

#[test]
fn a_mysqld_that_crashes_at_every_start_has_died() {
    need_server!();
    let scene = Scene::seeded("crashing");
    for (body, how) in [
        ("kill -SEGV $$", "it was killed by signal 11 (SEGV)"),
        ("kill -ABRT $$", "it was killed by signal 6 (ABRT)"),
        ("exit 2", "it exited with status 2"),
        ("exit 0", "it exited with status 0 before it was ready"),
    ] {
        let fake = scene.fake_mysqld("crashes", body);
        let ended = scene
            .command("run")
            .arg("--mysqld")
            .arg(&fake)
            .arg("--max-failures=1")
            .run_to_end(COMMAND_PATIENCE)
            .expect(75)
            .says(how);
        assert_eq!(count(&ended, "mysqld-died: "), 2, "{ended}");
        assert_eq!(scene.checkpoint().get("failures"), Some("2"));
        scene.assert_nothing_left();
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_wrong_usage() {
    need_server!();
    let scene = Scene::new("no-program");
    let plain = scene.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    for path in [plain, scene.path("absent"), scene.path("")] {
        let program = scene.command("run").arg("--mysqld").arg(&path);
        let ended = program.run_to_end(COMMAND_PATIENCE).expect(2);
        let ended = ended.says("--mysqld").says(&path.to_string_lossy());
        assert_eq!(ended.log().len(), 1, "{ended}");
        assert!(!scene.scratch.exists() && !scene.repo.exists());
    }
}

#[test]
fn a_mysqld_ignoring_shutdown_is_killed_and_not_stored() {
    need_server!();
    let scene = Scene::seeded("ignores-term");
    let fake = scene.fake_mysqld("ignores", "trap '' TERM; MYSQLD \"$@\" & while :; do wait; done");
    let ended = scene
        .command("run")
        .arg("--mysqld")
        .arg(&fake)
        .args(["--shutdown-timeout=1s", "--max-failures=1"])
        .run_to_end(COMMAND_PATIENCE)
        .expect(75)
        .says("mysqld-hung: the private mysqld is hung: no clean exit for 1s");
    assert_eq!(count(&ended, "mysqld-hung: "), 2, "{ended}");
    assert_eq!(scene.backups().len(), 1, "{ended}");
    scene.assert_nothing_left();
    scene.run().expect(0);
}

#[test]
fn the_quiet_watch_costs_nearly_nothing() {
    need_server!();
    let scene = Scene::seeded("quiet");
    scene.primary.slow_backlog("shop", 1, 20.0);
    let mut pass = scene.command("run").args(["--poll-interval=1s", "--max-failures=0"]).spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    let pid = pass.pid();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|f| f.parse().unwrap())
            .collect();
        fields[0] + fields[1]
    };
    let (before, since) = (ticks(), Instant::now());
    wait_until("15 quiet seconds", PATIENCE, || since.elapsed() >= Duration::from_secs(15));
    let used = ticks() - before;
    assert_eq!(pass.checkpoint().get("phase"), Some("catch-up"), "{}", pass.dump());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // Its own memory: what is mapped of the program depends on how it was built.
    let (own, threads) = (value("RssAnon:"), value("Threads:"));
    println!("the watch: {used} ticks of CPU in 15 s, {own} KiB, {threads} thread(s)");
    assert!(used < 15, "{used} ticks, 15 are 1 % of a core");
    assert!(own < 8 << 10, "{own} KiB");
    assert_eq!(threads, 1);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(count(&ended, "failure"), 1, "the announcement and no failure; {ended}");
}
