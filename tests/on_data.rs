//! `--on-data`: a program on the caught-up data before it is stored, and what becomes of the pass.

use std::fs;
use std::time::Duration;

use crate::support::small_disk::SmallDisk;
use crate::support::{
    Outcome, PATIENCE, Rollforward, Running, Scene, Server, alive, flavor, kill, wait_for,
};

/// The patience with one pass.
const LONG: Duration = Duration::from_secs(90);

/// A pass with a program by a shell, which has `$at`, the scene's directory, and `sql`, a client.
fn run(scene: &Scene, body: &str) -> Rollforward {
    let script = scene.path("on-data.sh");
    let at = script.parent().unwrap().display();
    let client = flavor::program("mariadb");
    let sql =
        format!("sql() {{ {client} --defaults-file=$ROLLFORWARD_DEFAULTS_FILE -N -e \"$1\"; }}");
    fs::write(&script, format!("at='{at}'\n{sql}\n{body}\n")).unwrap();
    scene.command("run").arg(format!("--on-data=/bin/sh '{}'", script.display()))
}

#[track_caller]
fn ended(command: Rollforward) -> Outcome {
    command.run_to_end(LONG)
}

/// A pass whose program has begun.
#[track_caller]
fn begun(scene: &Scene, command: &Rollforward) -> (Running, i32) {
    let _ = fs::remove_file(scene.path("begun"));
    let run = command.spawn();
    let pid = wait_for("the program to begin", LONG, || {
        let text = fs::read_to_string(scene.path("begun")).unwrap_or_default();
        text.strip_suffix('\n').map(|pid| pid.parse().unwrap())
    });
    (run, pid)
}

/// A program that waits.
const WAITS: &str = "sql 'DELETE FROM shop.t0'; echo $$ >$at/begun; sleep 60";

#[test]
fn a_program_changes_what_is_stored_and_not_the_position() {
    need_server!();
    let scene = Scene::seeded("on-data");
    scene.primary.backlog("shop", 20);
    let goal = scene.primary.value("SELECT @@global.gtid_binlog_pos");
    let body = "sql \"UPDATE shop.t0 SET text = 'masked'; SELECT COUNT(*) FROM shop.backlog; \
                ANALYZE TABLE shop.t1; CREATE USER 'added'@'localhost'\"";
    let pass = ended(run(&scene, body)).expect(0);
    let pass = pass.says("--on-data says: 20\n").says("info: ran --on-data /bin/sh in ");
    assert_eq!(scene.newest_position(), goal, "{pass}");
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0 WHERE text = 'masked'"), "2000");
    let accounts = "SELECT GROUP_CONCAT(User) FROM mysql.user WHERE User LIKE 'rollforward%' OR User = 'added'";
    assert_eq!(restored.value(accounts), "added");
    assert_eq!(restored.value("SELECT @@global.gtid_slave_pos"), goal);
    drop(restored);
    // A client needs no option file to be named.
    let client = format!("--on-data={} -N -e 'SELECT 1, 2'", flavor::program("mariadb"));
    ended(scene.command("run").arg(client)).expect(0).says("--on-data says: 1 2\n");
    // The next pass goes on from it, with and without.
    scene.primary.sql("INSERT INTO shop.backlog (text) VALUES ('more')");
    ended(run(&scene, ":")).expect(0);
    scene.primary.sql("INSERT INTO shop.backlog (text) VALUES ('more')");
    scene.run().expect(0);
    assert_eq!(scene.newest_position(), scene.primary.value("SELECT @@global.gtid_binlog_pos"));
}

#[test]
fn a_failure_ends_the_pass_and_nothing_is_stored() {
    need_server!();
    let scene = Scene::seeded("fails");
    let backups = scene.backups();
    let none_stored = || assert_eq!(scene.backups(), backups);
    let pass = ended(run(&scene, "echo one; echo two >&2; exit 3")).expect(1);
    let pass = pass.says("--on-data says: one").says("its last line was: two");
    let pass = pass.says("error: hook: --on-data /bin/sh: it exited with status 3; correct the");
    assert!(!pass.stderr.contains("retrying"), "{pass}");
    none_stored();
    assert_eq!(scene.checkpoint().get("cause"), Some("hook"));
    assert!(!scene.scratch.join("data").exists());
    // Its time is limited, whatever the server does.
    let busy = "sql 'SELECT BENCHMARK(10000000000, SHA2(1, 512))'";
    let pass = ended(run(&scene, busy).arg("--hook-timeout=2s")).expect(1);
    pass.says("error: hook: ").says("it took longer than 2s");
    none_stored();
    // It must not move the data.
    let moves = flavor::either(
        "sql \"SET GLOBAL gtid_slave_pos = '0-999-99999'\"",
        "sql \"RESET BINARY LOGS AND GTIDS\"",
    );
    ended(run(&scene, moves)).expect(1).says("error: hook: ").says("moved the position");
    none_stored();
    scene.command("run").arg("--on-data=/no/such/program").run_to_end(LONG).expect(2);
    let seed = scene.command("seed").args(["--from=dump", "--on-data=true"]);
    seed.run_to_end(LONG).expect(2).says("--on-data is not for seed");
    scene.run().expect(0);
}

#[test]
fn a_lost_server_is_restored_and_it_runs_again() {
    need_server!();
    let scene = Scene::seeded("lost");
    let first = "[ -e $at/begun ] && exit 0\n";
    for (signal, cause) in [(libc::SIGKILL, "mysqld-died"), (libc::SIGSTOP, "mysqld-hung")] {
        let command = run(&scene, &format!("{first}{WAITS}")).arg("--ping-timeout=2s");
        let (mut pass, program) = begun(&scene, &command);
        kill(pass.wait_for_mysqld(LONG), signal);
        let ended = {
            wait_for("the end", LONG, || pass.has_ended().then_some(()));
            pass.finish(LONG).expect(0)
        };
        let ended =
            ended.says(&format!("warning: {cause}: ")).says("mysqld was lost while --on-data");
        let ended = ended.says("restored ").says("ran --on-data");
        assert!(!alive(program), "{ended}");
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), "2000", "half of it: {ended}");
    }
}

#[test]
fn half_of_it_is_not_gone_on_with() {
    need_server!();
    let scene = Scene::seeded("half");
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let (pass, program) = begun(&scene, &run(&scene, WAITS));
        pass.kill(signal);
        let status = if signal == libc::SIGTERM { 128 + signal } else { 256 + signal };
        pass.finish(PATIENCE).expect(status);
        wait_for("the program's end", PATIENCE, || (!alive(program)).then_some(()));
        let next = scene.run().expect(0).says("not resuming the scratch data").says("restored ");
        assert!(!next.stderr.contains("info: resuming"), "{next}");
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), "2000", "{next}");
        let accounts = "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'rollforward%'";
        assert_eq!(restored.value(accounts), "0");
    }
}

#[test]
fn a_full_disk_under_it_ends_the_pass() {
    need_server!();
    let scene = Scene::seeded("full");
    let disk = SmallDisk::new("full", 400 << 20);
    let sql = "INSERT INTO shop.t0 (n, text) SELECT a.n, REPEAT(a.text, 9) \
               FROM shop.t0 a, shop.t0 b, shop.t0 c";
    let command = run(&scene, &format!("sql \"{sql}\"")).args(disk.server_options());
    let command = command.arg("--scratch").arg(disk.path("scratch"));
    let pass = ended(command.under(disk.wrapper())).expect(1).says("error: disk-full: ");
    assert!(!disk.path("scratch/data").exists(), "{pass}");
    assert_eq!(scene.backups().len(), 1);
    scene.run().expect(0);
}
