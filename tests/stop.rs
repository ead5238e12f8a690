//! TERM, INT, HUP and kill -9, in every phase: the pass ends soon, says so, and can be resumed.

mod hung;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Outcome, PATIENCE, Replica, Running, Scene, Server, alive, flavor, kill, run_helper, wait_until,
};

/// Stops the program itself as soon as it is in `phase`, so that it stays there; sends it
/// `signal`, lets it go on, and waits for its end.
#[track_caller]
fn signal_in(phase: &str, mut pass: Running, signal: i32) -> Outcome {
    pass.wait_for_phase(phase, PATIENCE);
    pass.kill(libc::SIGSTOP);
    let checkpoint = pass.checkpoint();
    assert_eq!(checkpoint.get("phase"), Some(phase), "too late: {checkpoint:?}");
    pass.kill(signal);
    pass.kill(libc::SIGCONT);
    pass.finish(PATIENCE)
}

/// The pass ended by `signal` in `phase` as a stop has to: with its status, its checkpoint,
/// nothing new in the repository, and nothing left behind.
#[track_caller]
fn assert_stopped(scene: &Scene, ended: Outcome, signal: i32, phase: &str, backups: usize) {
    let ended =
        ended.expect(128 + signal).says(&format!("interrupted: stopped by signal {signal}"));
    assert!(ended.wall < Duration::from_secs(45), "{ended}");
    let checkpoint = scene.checkpoint();
    let status = (128 + signal).to_string();
    for (key, value) in [
        ("state", "stopped"),
        ("cause", "interrupted"),
        ("phase", phase),
        ("exit_status", status.as_str()),
    ] {
        assert_eq!(checkpoint.get(key), Some(value), "{checkpoint:?}\n{ended}");
    }
    assert_eq!(scene.backups().len(), backups, "{ended}");
    scene.assert_nothing_left();
}

/// Waits until the slow catch-up has moved beyond where it began.
#[track_caller]
fn wait_until_moving(pass: &mut Running) -> i32 {
    let mut first: Option<String> = None;
    pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
        if c.get("phase") != Some("catch-up") {
            return None;
        }
        let at = c.get("position")?;
        let moved = first.get_or_insert_with(|| at.to_string()) != at;
        let pid = c.number("mysqld_pid")? as i32;
        (moved && alive(pid)).then_some(pid)
    })
}

fn restored(outcome: &Outcome) -> bool {
    outcome.stderr.contains("restored ")
}

/// The position in the data of the scratch directory, as a server says that starts on a copy.
fn position_of_scratch(scene: &Scene) -> String {
    let copy = scene.path("copy");
    let data = scene.scratch.join("data");
    run_helper(Command::new("cp").arg("-a").arg(data).arg(&copy), "");
    let position = Server::start_on(&copy).value("SELECT @@global.gtid_slave_pos");
    fs::remove_dir_all(copy).unwrap();
    position
}

#[test]
fn a_stopped_seed_leaves_nothing_and_can_be_repeated() {
    need_server!();
    let scene = Scene::new("seed");
    scene.primary.fill("shop", 6, 20_000);
    let seed = || scene.command("seed").args(["--from", "dump"]).spawn();
    // While the system tables are made.
    assert_stopped(&scene, signal_in("seed", seed(), libc::SIGTERM), libc::SIGTERM, "seed", 0);
    // While the dump is loaded.
    let mut loading = seed();
    let table = scene.scratch.join("data/shop/t1.ibd");
    wait_until("the dump to be loaded", PATIENCE, || {
        assert!(!loading.has_ended(), "{}", loading.dump());
        table.exists()
    });
    let mysqld = loading.wait_for_mysqld(PATIENCE);
    let stopped = signal_in("seed", loading, libc::SIGINT);
    assert_stopped(&scene, stopped, libc::SIGINT, "seed", 0);
    assert!(!alive(mysqld));
    scene.seed();
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_stop_while_restoring_or_storing_acts_between_blocks() {
    need_server!();
    let scene = Scene::new("blocks");
    scene.primary.fill("shop", 6, 40_000);
    scene.seed();
    let run = || scene.command("run").args(["--jobs=1"]).spawn();
    let stopped = signal_in("restore", run(), libc::SIGINT);
    assert_stopped(&scene, stopped, libc::SIGINT, "restore", 1);
    assert!(scene.state().contains("stage=partial\n"), "{}", scene.state());
    // Half a restore is never resumed.
    scene.primary.backlog("shop", 100);
    let stopped = signal_in("backup", run(), libc::SIGTERM);
    let again = restored(&stopped);
    assert_stopped(&scene, stopped, libc::SIGTERM, "backup", 1);
    assert!(again, "half restored data was resumed");
    let at = scene.checkpoint().get("position").unwrap().to_string();
    assert_eq!(at, scene.primary.gtid_pos());
    // Whatever else would end it without a word.
    for signal in [libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
        let stopped = signal_in("backup", run(), signal);
        assert_stopped(&scene, stopped, signal, "backup", 1);
    }
    // All that was replicated is still there.
    let ended = scene.run().expect(0).says("resuming the interrupted pass");
    assert!(!restored(&ended), "{ended}");
    assert_eq!(scene.newest_position(), at);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    let left = fs::read_dir(scene.repo.join("tmp")).unwrap().count();
    assert_eq!(left, 0, "files of the interrupted pass in the repository's tmp");
}

#[test]
fn a_stop_during_a_start_does_not_wait_for_it() {
    need_server!();
    let scene = Scene::seeded("start");
    // It loses the first TERM, and the next one would kill it, which is no server yet.
    let slow = "trap 'trap - TERM; t=1' TERM; until [ $t ]; do sleep 0.1; done; \
                sleep 1.5; exec MYSQLD \"$@\"";
    let hanging = [
        ("slow", slow, 25, "--shutdown-timeout=30s"),
        // TERM ends this one, and these heed nothing but KILL.
        ("idle", "trap 'exit 1' TERM; while :; do sleep 0.1; done", 5, "--shutdown-timeout=1h"),
        ("deaf", "exec tail -f /dev/null", 5, "--shutdown-timeout=2s"),
        ("stopped", "kill -STOP $$", 12, "--shutdown-timeout=2s"),
    ];
    for (name, body, limit, patience) in hanging {
        let fake = scene.fake_mysqld(name, body);
        let program = scene.command("run").arg("--mysqld").arg(&fake);
        let mut pass = program.args(["--start-timeout=1h", patience]).spawn();
        pass.wait_for_mysqld(PATIENCE);
        let since = Instant::now();
        pass.kill(libc::SIGTERM);
        let ended = pass.finish(PATIENCE);
        assert!(since.elapsed().as_secs() < limit, "{:?} for a stop\n{ended}", since.elapsed());
        assert_eq!(ended.stderr.contains("not shut down cleanly"), name != "slow", "{ended}");
        assert_stopped(&scene, ended, libc::SIGTERM, "stop", 1);
    }
    let ended = scene.run().expect(0);
    assert!(!restored(&ended), "{ended}");
}

#[test]
fn term_during_catch_up_leaves_a_checkpoint_to_resume_from() {
    need_server!();
    let scene = Scene::seeded("catch-up");
    let base = scene.newest_position();
    scene.primary.slow_backlog("shop", 300, 0.02);
    let mut pass = scene.command("run").spawn();
    let mysqld = wait_until_moving(&mut pass);
    let since = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert_stopped(&scene, ended, libc::SIGTERM, "stop", 1);
    assert!(!alive(mysqld));
    let at = scene.checkpoint().get("position").unwrap().to_string();
    assert!(at != base && at != scene.primary.gtid_pos(), "{base} {at}");
    assert_eq!(position_of_scratch(&scene), at, "the checkpoint's position is true");
    // And once more by INT, which is the same.
    let mut pass = scene.command("run").spawn();
    wait_until_moving(&mut pass);
    pass.kill(libc::SIGINT);
    let ended = pass.finish(PATIENCE);
    assert!(!restored(&ended), "{ended}");
    let ended = ended.says(&format!("resuming the interrupted pass at {at}"));
    assert_stopped(&scene, ended, libc::SIGINT, "stop", 1);
    let ended = scene.run().expect(0);
    assert!(!restored(&ended), "{ended}");
    let newest = scene.backups().pop().unwrap();
    assert_eq!(scene.manifest_value(&newest, "base"), scene.backups()[0]);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_stop_waits_a_ping_at_most_for_a_transaction() {
    need_server!();
    let scene = Scene::seeded("long-trx");
    let before = scene.primary.long_transaction("shop", 40);
    // Longer than the four seconds after which MySQL answers that it goes on stopping.
    let mut pass = scene.command("run").arg("--ping-timeout=6s").spawn();
    let mysqld = pass.wait_for_mysqld(PATIENCE);
    wait_until("the applier to be in the middle", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        scene.is_in_long_transaction("shop")
            && pass.checkpoint().get("position") == Some(&before[..])
    });
    let since = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}\n{ended}", since.elapsed());
    let waited_for = flavor::either("answer to a statement", "end of replication");
    let ended = ended.says(&format!("no {waited_for} for 6s; the scratch data was not shut down"));
    assert_stopped(&scene, ended, libc::SIGTERM, "stop", 1);
    assert_eq!(scene.checkpoint().get("position"), Some(&before[..]));
    assert!(!alive(mysqld));
}

#[test]
fn a_killed_program_takes_mysqld_along_and_the_next_resumes() {
    need_server!();
    let scene = Scene::seeded("kill-9");
    scene.primary.slow_backlog("shop", 400, 0.02);
    for both in [false, true] {
        let mut pass = scene.command("run").spawn();
        let mysqld = wait_until_moving(&mut pass);
        let since = Instant::now();
        if both {
            kill(mysqld, libc::SIGKILL);
        }
        pass.kill(libc::SIGKILL);
        wait_until("mysqld to be gone", PATIENCE, || !alive(mysqld));
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        let ended = pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
        assert_eq!(restored(&ended), !both, "{ended}");
        assert_eq!(scene.checkpoint().get("state"), Some("running"));
        assert_eq!(scene.backups().len(), 1);
    }
    let ended = scene.run().expect(0).says("resuming the interrupted pass");
    assert!(!restored(&ended), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn data_of_another_boot_is_restored_again() {
    need_server!();
    let scene = Scene::seeded("boot");
    scene.primary.slow_backlog("shop", 150, 0.02);
    let mut pass = scene.command("run").spawn();
    wait_until_moving(&mut pass);
    pass.kill(libc::SIGTERM);
    pass.finish(PATIENCE).expect(143);
    let changed = |line: &str| match line.strip_prefix("boot=") {
        Some(_) => "boot=00000000-0000-4000-8000-000000000000".to_string(),
        None => line.to_string(),
    };
    let state: Vec<String> = scene.state().lines().map(changed).collect();
    assert!(state.join("\n").contains("boot=00000000-"), "{state:?}");
    fs::write(scene.scratch.join("state"), state.join("\n") + "\n").unwrap();
    let ended = scene.run().expect(0).says("the machine was restarted since");
    assert!(restored(&ended), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_stop_between_attempts_does_not_wait_for_the_next() {
    need_server!();
    let mut scene = Scene::seeded("between");
    scene.primary.kill9();
    let program = scene.command("run").args(["--backoff-base=1h", "--backoff-cap=1h"]);
    let mut pass = program.spawn();
    pass.wait_for_log("failure 1 of 11, retrying in", PATIENCE);
    let since = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE).expect(143);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}\n{ended}", since.elapsed());
    let checkpoint = scene.checkpoint();
    assert_eq!(checkpoint.get("state"), Some("stopped"));
    assert_eq!(checkpoint.get("cause"), Some("interrupted"));
    scene.assert_nothing_left();
}

#[test]
fn a_hangup_does_no_harm() {
    need_server!();
    let scene = Scene::seeded("hup");
    scene.primary.slow_backlog("shop", 100, 0.02);
    let mut pass = scene.command("run").spawn();
    wait_until_moving(&mut pass);
    pass.kill(libc::SIGHUP);
    pass.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.checkpoint().get("state"), Some("done"));
}

#[test]
fn a_table_outside_innodb_is_not_resumed_after_a_kill() {
    need_server!();
    let scene = Scene::seeded("myisam");
    scene
        .primary
        .sql("CREATE TABLE shop.log (n INT) ENGINE=MyISAM; INSERT INTO shop.log VALUES (1), (2)");
    scene.settle();
    scene.primary.slow_backlog("shop", 200, 0.02);
    let file = Path::new("shop/log");
    // Of mysqld: restored within the same pass.
    let mut pass = scene.command("run").spawn();
    kill(wait_until_moving(&mut pass), libc::SIGKILL);
    pass.wait_for_log("discarding the scratch data", PATIENCE);
    // Of both: restored by the next one.
    wait_until_moving(&mut pass);
    pass.kill(libc::SIGKILL);
    let killed = pass.finish(PATIENCE);
    assert_eq!(killed.stderr.matches("restored ").count(), 2, "{killed}");
    let ended = scene.run().expect(0).says(&file.to_string_lossy());
    assert!(restored(&ended), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

/// The number of the newest transaction in a position of one domain or server.
fn sequence(position: &str) -> u64 {
    position.rsplit(['-', ':']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn a_statement_applied_but_unrecorded_is_not_applied_twice() {
    need_server!();
    let scene = Scene::seeded("twice");
    scene.primary.sql("INSERT INTO shop.t1 (n, text) VALUES (7, 'only here')");
    scene.primary.slow_backlog("shop", 1, 0.0);
    scene.settle();
    let (replica, mut doubted) = (Replica::start(&scene.primary), 0);
    // Done twice, these end well and are not what they were: the first swaps back.
    let changes = [
        "RENAME TABLE shop.t0 TO shop.x, shop.t1 TO shop.t0, shop.x TO shop.t1",
        "ALTER TABLE shop.t0 ADD KEY (n)",
        "ALTER TABLE shop.t0 ADD CHECK (n < 1000000)",
    ];
    // Where the log happens to be written just then, the position knows of the change.
    for change in changes.iter().cycle().take(flavor::either(12, 3)) {
        if doubted > 0 && *change == changes[0] {
            break;
        }
        scene.primary.slow_backlog("shop", 40, 0.02);
        scene.primary.sql(change);
        let done = sequence(&scene.primary.gtid_pos());
        // MySQL applies four of them at a time.
        scene.primary.slow_backlog("shop", flavor::either(30, 400), 0.02);
        let shop = scene.scratch.join("data/shop");
        let changed = || fs::metadata(&shop).and_then(|m| m.modified()).ok();
        let mut pass = scene.command("run").spawn();
        pass.wait_for_phase("catch-up", PATIENCE);
        let (mysqld, before) = (pass.wait_for_mysqld(PATIENCE), changed());
        // MySQL's dictionary is in its tables: not every change shows in the directory.
        wait_until("the change", PATIENCE, || {
            assert!(!pass.has_ended(), "{}", pass.dump());
            let at = pass.checkpoint().get("position").map_or(0, sequence);
            changed() != before || (flavor::is_mysql() && at >= done)
        });
        // It is over in a moment; the log is written once a second.
        let since = Instant::now();
        wait_until("its end", PATIENCE, || since.elapsed() > Duration::from_millis(60));
        kill(mysqld, libc::SIGKILL);
        pass.kill(libc::SIGKILL);
        pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
        let ended = scene.run().expect(0).says("resuming the interrupted pass");
        doubted += ended.stderr.matches("may not be those of ").count();
        scene.assert_newest_equals(&replica);
    }
    // In MySQL a change of a definition and its position are one transaction.
    assert_eq!(doubted == 0, flavor::is_mysql(), "{doubted} changes were in doubt");
}
