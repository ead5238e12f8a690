//! Data of an older series is upgraded by a newer server, if and only if that is allowed.
//!
//! On the system's MariaDB a real newer one does it. On every server one that only says that it is
//! newer stands in for it, in front of the real one: the steps are the same then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::compare::checksums;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::writer::STEADY;
use crate::support::{
    Outcome, Replica, Rollforward, Scene, Server, Writer, assert_same, find_program, flavor,
    run_helper,
};

/// What the upgrade of MariaDB's system tables is done with.
const TOOL: &str = "mariadb-upgrade";

/// An executable script in a directory of its own.
fn script(scene: &Scene, dir: &str, name: &str, body: &str) -> PathBuf {
    let dir = scene.path(dir);
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A server program in `dir` that says its series is the real one's with `add` on the last number,
/// and does `else_` when it is started in earnest.
fn poses(scene: &Scene, dir: &str, add: i32, else_: &str) -> PathBuf {
    let version = scene.primary.value("SELECT VERSION()");
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse::<i32>().unwrap();
    let series = format!("{}.{}", next(), next() + add);
    let suffix = flavor::either("-MariaDB", "");
    let says = format!(
        "case \" $* \" in *' --version '*) echo 'x Ver {series}.1{suffix} for x'; exit 0 ;; esac"
    );
    script(scene, dir, "server", &format!("{says}\n{else_}"))
}

/// The same, and it is the real one, which writes down what it is told: into its log, since it may
/// write nowhere else that stays.
fn newer(scene: &Scene, dir: &str) -> PathBuf {
    let real = find_program("mariadbd").unwrap();
    let body = format!(
        "echo one start >&2\nexec {} \"$@\" --general-log=1 --general-log-file={}",
        real.display(),
        scene.scratch.join("mysqld.log").display()
    );
    poses(scene, dir, 1, &body)
}

/// What it was told in the last pass.
fn told(scene: &Scene) -> String {
    let log = fs::read(scene.scratch.join("mysqld.log")).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// How often it was started in earnest.
fn starts(scene: &Scene) -> usize {
    told(scene).matches("one start").count()
}

fn run(scene: &Scene, program: &Path) -> Rollforward {
    scene.command("run").arg("--mysqld").arg(program)
}

fn allowed(scene: &Scene, program: &Path) -> Outcome {
    run(scene, program).arg("--allow-upgrade").run_to_end(COMMAND_PATIENCE)
}

/// The one backup is what it was: a pass with its own server goes well from it.
#[track_caller]
fn assert_unharmed(scene: &Scene, backups: &[String]) {
    assert_eq!(scene.backups(), backups);
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
    scene.run().expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn older_data_is_upgraded_by_a_real_newer_server() {
    need_server!();
    let Some(newer) = flavor::newer_mariadbd() else { return };
    let scene = Scene::with("upgrade", &["--event-scheduler=ON"]);
    let primary = &scene.primary;
    let replica = Replica::start(primary);
    primary.fill("shop", 3, 2000);
    for statement in [
        "CREATE VIEW shop.v AS SELECT n, COUNT(*) AS many FROM shop.t0 GROUP BY n",
        "CREATE TABLE shop.old (id INT PRIMARY KEY, t TEXT) ENGINE=MyISAM",
        "CREATE TABLE shop.parts (id INT PRIMARY KEY, t VARCHAR(9)) ENGINE=InnoDB \
         PARTITION BY HASH (id) PARTITIONS 3",
        "CREATE EVENT shop.e ON SCHEDULE EVERY 1 HOUR DO DELETE FROM shop.old WHERE id < 0",
        "CREATE ROLE reader",
        "GRANT SELECT ON shop.* TO reader",
    ] {
        primary.sql(statement);
    }
    scene.seed();
    let writer = Writer::start_with(primary, "live", STEADY, true);
    writer.wait_for_more(200);
    for statement in [
        "CREATE EVENT shop.late ON SCHEDULE EVERY 1 HOUR DO DELETE FROM shop.old WHERE id < 0",
        "CREATE USER late IDENTIFIED BY 'late-Passw0rd'",
        "GRANT reader TO late",
        "INSERT INTO shop.old VALUES (1, 'one')",
    ] {
        primary.sql(statement);
    }
    // Not by mistake.
    let refused = run(&scene, &newer).run_to_end(COMMAND_PATIENCE).expect(2);
    refused
        .says("of a newer series: use --mysqld to select a 10.11 server")
        .says("with --allow-upgrade");
    assert!(!scene.has_scratch_data());

    // Once, and what the policy would remove stays.
    let program = run(&scene, &newer).args(["--allow-upgrade", "--keep-count=1"]);
    let ended = program.run_to_end(COMMAND_PATIENCE).expect(0);
    ended.says("upgrading the data of ").says("this pass upgraded the data, so it prunes nothing");
    let backups = scene.backups();
    assert_eq!(backups.len(), 2);
    let version = |backup: &str| scene.manifest_value(backup, "version");
    assert!(version(&backups[0]).starts_with("10.11."), "{}", version(&backups[0]));
    assert!(version(&backups[1]).starts_with("11.8."), "{}", version(&backups[1]));
    assert_eq!(scene.manifest_value(&backups[1], "base"), backups[0]);
    // The old server still starts on the old one.
    let old = Server::start_on(&scene.restore(Some(&backups[0])));
    let position = scene.manifest_value(&backups[0], "position");
    assert_eq!(old.value("SELECT @@global.gtid_slave_pos"), position);
    drop(old);

    // From there on it is a pass like any other, after a primary of the older series.
    writer.wait_for_more(200);
    let program = run(&scene, &newer).arg("--keep-count=1");
    let ended = program.run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!ended.stderr.contains("upgrad"), "{ended}");
    assert!(writer.stop() > 400);
    assert_eq!(scene.backups()[0], backups[1], "the old series went, by the policy");
    let upgraded = Server::start_on_by(&newer, &scene.restore(None));
    assert!(upgraded.value("SELECT VERSION()").starts_with("11.8."));
    let position = scene.newest_position();
    assert_eq!(upgraded.value("SELECT @@global.gtid_slave_pos"), position);
    replica.advance_to(&position);
    assert_same("the upgraded copy", &checksums(&upgraded), "the replica", &checksums(&replica));
    for query in [
        "SELECT GROUP_CONCAT(event_name ORDER BY 1) FROM information_schema.events",
        "SELECT GROUP_CONCAT(User, '@', Host ORDER BY 1) FROM mysql.global_priv",
        "SELECT GROUP_CONCAT(Role, '@', User ORDER BY 1) FROM mysql.roles_mapping",
        "SELECT SUM(many) FROM shop.v",
    ] {
        assert_eq!(upgraded.value(query), replica.value(query), "{query}");
    }
    // What it is for: nothing is left to be upgraded. The tool's status for that is 1.
    let check = format!(
        "{} --no-defaults --user=root --check-if-upgrade-is-needed --socket={}; echo status $?",
        newer.with_file_name(TOOL).display(),
        upgraded.socket().display()
    );
    let said = run_helper(Command::new("sh").arg("-c").arg(check), "");
    assert!(said.contains("status 1\n"), "an upgrade is needed: {said}");
    drop(upgraded);

    // There is no way back.
    let ended = scene.command("run").arg("--allow-upgrade").run_to_end(COMMAND_PATIENCE);
    ended.expect(2).says("of an older series: use --mysqld to select an 11.8 server");
    scene.assert_nothing_left();
}

#[test]
fn an_upgrade_ends_with_a_slow_shutdown_and_a_restart() {
    need_server!();
    let scene = Scene::seeded("steps");
    scene.primary.backlog("shop", 300);
    let newer = newer(&scene, "new");
    let ended = allowed(&scene, &newer).expect(0);
    let ended = ended.says("upgrading the data of ").says("upgraded the data of ");
    assert_eq!(starts(&scene), 2, "{ended}");
    assert_eq!(scene.backups().len(), 2);
    let told = told(&scene);
    let (before, after) = told.split_once("SET GLOBAL innodb_fast_shutdown = 0").expect(&told);
    let starts_replication = flavor::either("START SLAVE", "START REPLICA");
    assert!(!before.contains(starts_replication) && after.contains(starts_replication), "{told}");
    assert!(!after.contains("SET GLOBAL innodb_fast_shutdown"), "{told}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
    // Nothing to upgrade: the switch has no effect, and the policy has.
    for _ in 0..2 {
        let program = scene.command("run").args(["--allow-upgrade", "--keep-count=1"]);
        let ended = program.run_to_end(COMMAND_PATIENCE).expect(0);
        assert!(!ended.stderr.contains("upgrad"), "{ended}");
    }
    assert_eq!(scene.backups().len(), 2);
    // An older one is refused with it, too.
    let older = poses(&scene, "old", -1, "exit 1");
    allowed(&scene, &older).expect(2).says("of an older series");
}

#[test]
fn an_upgrade_that_fails_harms_nothing() {
    need_server!();
    let scene = Scene::seeded("fails");
    let before = scene.backups();
    // A server that refuses to start on such data.
    let refuses = poses(&scene, "refuses", 1, "echo '0 [ERROR] Cannot upgrade that' >&2; exit 1");
    let ended = allowed(&scene, &refuses).expect(1);
    let ended = ended.says("warning: mysqld-start: the upgrade of ").says("error: mysqld-start: ");
    assert!(ended.stderr.contains("Cannot upgrade that"), "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-start"));
    assert!(!scene.has_scratch_data(), "{ended}");
    scene.assert_nothing_left();
    assert_eq!(scene.backups(), before);
    // One that dies in it: counted, and each time it begins with restored data.
    let real = find_program("mariadbd").unwrap();
    let dies = format!("mkdir tmp/once 2>/dev/null && kill -9 $$\nexec {} \"$@\"", real.display());
    let dies = poses(&scene, "dies", 1, &dies);
    let ended = allowed(&scene, &dies).expect(0).says("mysqld-died: the upgrade of ");
    assert_eq!(ended.stderr.matches("info: restored ").count(), 2, "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_failing_tool_is_named_and_stopped_upgrades_start_over() {
    need_server!();
    let scene = Scene::seeded("tool");
    let before = scene.backups();
    let newer = newer(&scene, "new");
    if flavor::is_mysql() {
        // It upgrades itself, and asks for no tool.
        script(&scene, "new", TOOL, "exit 5");
        allowed(&scene, &newer).expect(0);
        return;
    }
    let real = find_program(TOOL).unwrap();
    script(&scene, "new", TOOL, "echo 'FATAL ERROR: Upgrade failed' >&2; exit 5");
    let ended = allowed(&scene, &newer).expect(1).says("mariadb-upgrade failed: ");
    let ended = ended.says("FATAL ERROR: Upgrade failed");
    assert!(!scene.has_scratch_data() && scene.backups() == before, "{ended}");
    scene.assert_nothing_left();
    // Stopped in the middle, by a signal and by a kill.
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGKILL, 256 + libc::SIGKILL)] {
        let here = scene.scratch.join("tmp/here");
        script(&scene, "new", TOOL, "mkdir tmp/here\nexec sleep 100");
        let mut pass = run(&scene, &newer).arg("--allow-upgrade").spawn();
        crate::support::wait_until("the tool to be at work", crate::support::PATIENCE, || {
            assert!(!pass.has_ended(), "{}", pass.dump());
            here.exists()
        });
        pass.kill(signal);
        let ended = pass.finish(COMMAND_PATIENCE).expect(status);
        let ended = ended.says("upgrading the data of ");
        assert_eq!(scene.backups(), before, "{ended}");
        let state = fs::read_to_string(scene.scratch.join("state")).unwrap();
        assert!(state.contains("stage=partial\n"), "{state}");
    }
    let body = format!("exec {} \"$@\"", real.display());
    script(&scene, "new", TOOL, &body);
    let ended = allowed(&scene, &newer).expect(0).says("info: restored ");
    ended.says("not resuming the scratch data: ").says("upgraded the data of ");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    run_helper(Command::new("rm").arg("-rf").arg(&scene.repo), "");
    scene.seed();
    assert_unharmed(&scene, &scene.backups());
}

#[test]
fn upgraded_data_is_resumed_by_its_new_server_only() {
    need_server!();
    let scene = Scene::seeded("resumed");
    let before = scene.backups();
    let newer = newer(&scene, "new");
    scene.primary.backlog("shop", 30_000);
    let proxy = crate::support::Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let stopped = || {
        let program = run(&scene, &newer).args(["--allow-upgrade", "--primary", &proxy.address()]);
        let mut pass = program.spawn();
        pass.wait_for_phase("catch-up", COMMAND_PATIENCE);
        pass.kill(libc::SIGTERM);
        pass.finish(COMMAND_PATIENCE).expect(143)
    };
    stopped().says("upgraded the data of ");
    // The old server does not touch it.
    let ended = scene.run().expect(0).says("it belongs to another series of the server");
    let ended = ended.says("info: restored ");
    assert!(!ended.stderr.contains("upgrad"), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    fs::remove_file(scene.repo.join("backups").join(scene.backups().pop().unwrap())).unwrap();
    assert_eq!(scene.backups(), before);
    // Its own goes on with it, and there is nothing to upgrade any more.
    stopped().says("upgraded the data of ");
    let ended = stopped().says("resuming the interrupted pass");
    assert!(!ended.stderr.contains("upgrading"), "{ended}");
    let ended = allowed(&scene, &newer).expect(0).says("it prunes nothing");
    assert!(!ended.stderr.contains("info: restored "), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}
