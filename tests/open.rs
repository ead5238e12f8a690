//! `open`: a program on a throw-away server, and nothing left of either.

mod tables;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::small_disk::SmallDisk;
use crate::support::{
    PATIENCE, Rollforward, Running, Scene, alive, find_program, flavor, kill, processes_under,
    run_helper, wait_for,
};
use crate::until::Accident;

/// The patience with one command.
const LONG: Duration = Duration::from_secs(60);

/// `open`, with a program.
pub(crate) fn open(scene: &Scene, options: &[&str], program: &[&str]) -> Rollforward {
    scene.command("open").args(options).arg("--").args(program)
}

/// A client of the chosen server.
fn client() -> &'static str {
    flavor::program("mariadb")
}

/// Runs one statement on an opened server; what it printed.
#[track_caller]
fn value(scene: &Scene, options: &[&str], sql: &str) -> String {
    let program = [client(), "--default-character-set=utf8mb4", "-N", "-e", sql];
    let ended = open(scene, options, &program).run_to_end(LONG).expect(0);
    ended.stdout.trim().to_string()
}

/// A program that says that it has begun, and where it finds its option file, and waits.
struct Waiting {
    run: Running,
    option_file: PathBuf,
    program: i32,
}

impl Waiting {
    #[track_caller]
    fn start(scene: &Scene, options: &[&str], script: &str) -> Waiting {
        let at = (0..).map(|n| scene.path(&format!("begun-{n}"))).find(|p| !p.exists()).unwrap();
        let begun = format!("echo $$ $ROLLFORWARD_DEFAULTS_FILE >{}; {script}", at.display());
        let run = open(scene, options, &["sh", "-c", &begun]).spawn();
        let said = wait_for("the program to begin", LONG, || {
            let text = fs::read_to_string(&at).unwrap_or_default();
            text.ends_with('\n').then_some(text)
        });
        let (pid, file) = said.trim().split_once(' ').unwrap();
        Waiting { run, option_file: file.into(), program: pid.parse().unwrap() }
    }

    fn option(&self, name: &str) -> String {
        let text = fs::read_to_string(&self.option_file).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_string()
    }

    /// The private server.
    fn mysqld(&self, scene: &Scene) -> i32 {
        let all = processes_under(&scene.scratch.join("open"));
        let is_server = |pid: &&i32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            !exe.to_string_lossy().contains("rollforward")
                && fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|c| String::from_utf8_lossy(&c).contains("--datadir="))
        };
        *all.iter().find(is_server).expect("a private server")
    }
}

#[track_caller]
fn assert_gone(scene: &Scene) {
    assert!(!scene.scratch.join("open").exists(), "something is left");
    assert!(processes_under(&scene.scratch).is_empty());
}

#[test]
fn a_program_logs_in_and_its_status_is_ours() {
    need_server!();
    let scene = Scene::seeded("open");
    let dumped = open(&scene, &[], &[flavor::program("mariadb-dump"), "--skip-dump-date", "shop"]);
    let dumped = dumped.run_to_end(LONG).expect(0);
    // MySQL's client has a warning of its own.
    assert_eq!(dumped.stderr.matches("Z ").count(), 1, "{dumped}");
    let dumped = dumped.says("info: opened ");
    assert_eq!(dumped.stdout.matches("CREATE TABLE").count(), 2, "{}", dumped.stderr);
    assert!(dumped.stdout.contains("INSERT INTO `t1`"));
    assert_gone(&scene);
    // Any program finds the file.
    let script =
        format!("{} --defaults-file=$ROLLFORWARD_DEFAULTS_FILE -N -e 'SELECT 7'", client());
    let ended = open(&scene, &[], &["sh", "-c", &script]).run_to_end(LONG).expect(0);
    assert_eq!(ended.stdout, "7\n");
    // What comes by standard input is the program's.
    let piped = open(&scene, &[], &[client(), "-N"]);
    let piped = piped.under(["sh", "-c", "echo 'SELECT 8' | exec \"$@\"", "sh"]);
    assert_eq!(piped.run_to_end(LONG).expect(0).stdout, "8\n");
    for (script, status) in [("exit 7", 7), ("exit 75", 75), ("kill -TERM $$", 143)] {
        open(&scene, &[], &["sh", "-c", script]).run_to_end(LONG).expect(status);
        assert_gone(&scene);
    }
    for (args, says) in [
        (&["--", "no-such-program"][..], "no-such-program is not in PATH"),
        (&["--"], "no command after --"),
        (&["--", ""], "no command after --"),
        (&["one", "two"], "unexpected argument 'two' for open"),
    ] {
        scene.command("open").args(args).run_to_end(LONG).expect(2).says(says);
    }
    let absent = scene.command("open").args(["20000101T000000Z-0000", "--", "true"]);
    absent.run_to_end(LONG).expect(1).says("error: no-backup: ");
    assert_gone(&scene);
}

#[test]
fn the_server_only_reads_unless_told_otherwise() {
    need_server!();
    let scene = Scene::seeded("reads");
    let insert = "INSERT INTO shop.t0 (n, text) VALUES (1, 'x')";
    for sql in [insert, "CREATE DATABASE d", "DROP TABLE shop.t0", "SET GLOBAL read_only = OFF"] {
        let ended = open(&scene, &[], &[client(), "-e", sql]).run_to_end(LONG).expect(1);
        let denied = ["denied", "read-only"].iter().any(|word| ended.stderr.contains(word));
        assert!(denied, "{ended}");
    }
    let say = "SELECT CONCAT_WS(' ', @@read_only, @@event_scheduler, @@time_zone)";
    assert_eq!(value(&scene, &[], say), flavor::either("ON OFF SYSTEM", "1 DISABLED SYSTEM"));
    assert_eq!(value(&scene, &[], "SELECT COUNT(*) FROM shop.t0"), "2000");
    let count = format!("{insert}; SELECT COUNT(*) FROM shop.t0");
    assert_eq!(value(&scene, &["--writable"], &count), "2001");
    // Nothing of it is in the backup, and nothing of the account in the tables.
    assert_eq!(value(&scene, &[], "SELECT COUNT(*) FROM shop.t0"), "2000");
    let accounts = "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'rollforward-%'";
    assert_eq!(value(&scene, &[], accounts), "0");
    let locked = flavor::either(
        "SELECT COUNT(*) FROM mysql.global_priv WHERE Priv LIKE '%account_locked%' \
         AND User <> 'mariadb.sys'",
        "SELECT COUNT(*) FROM mysql.user WHERE account_locked='Y' AND User NOT LIKE 'mysql.%'",
    );
    assert_eq!(value(&scene, &[], locked), "0");
}

#[test]
fn nobody_else_logs_in_and_the_password_is_nowhere() {
    need_server!();
    let scene = Scene::seeded("alone");
    let mut waiting = Waiting::start(&scene, &["-v", "-v"], "exec sleep 60");
    let (socket, password) = (waiting.option("socket"), waiting.option("password"));
    let client = find_program("mariadb").unwrap();
    for user in ["root", "mysql", "nobody", "mariadb.sys"] {
        let line = format!(
            "{} --no-defaults -S {socket} -u {user} -e 'SELECT 1' 2>&1 && exit 1; exit 0",
            client.display()
        );
        let said = run_helper(std::process::Command::new("sh").args(["-c", &line]), "");
        assert!(said.contains("ERROR"), "{user}: {said}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&waiting.option_file), 0o600);
    for dir in fs::read_dir(scene.scratch.join("open")).unwrap().flatten() {
        assert_eq!(mode(&dir.path()), 0o700);
    }
    for pid in [waiting.run.pid(), waiting.program, waiting.mysqld(&scene)] {
        for what in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{what}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(&password), "{what} of {pid}");
        }
    }
    assert!(scene.files_with(&scene.scratch, &password).is_empty());
    waiting.run.kill(libc::SIGTERM);
    wait_for("the end", LONG, || waiting.run.has_ended().then_some(()));
    let ended = waiting.run.finish(LONG).expect(143);
    assert!(!ended.stderr.contains(&password), "{ended}");
    assert!(!alive(waiting.program) && !waiting.option_file.exists());
    assert_gone(&scene);
}

#[test]
fn the_server_and_the_program_end_together() {
    need_server!();
    let scene = Scene::seeded("together");
    // The server is killed, and is hung.
    let waiting = Waiting::start(&scene, &[], "sleep 60; :");
    kill(waiting.mysqld(&scene), libc::SIGKILL);
    let ended = waiting.run.finish(PATIENCE).expect(75).says("mysqld-died: ");
    assert!(ended.wall < LONG, "{ended}");
    assert!(!alive(waiting.program));
    assert!(scene.scratch.join("open/mysqld.log").exists());
    let waiting = Waiting::start(&scene, &["--ping-timeout=1s"], "trap '' TERM; sleep 60; :");
    kill(waiting.mysqld(&scene), libc::SIGSTOP);
    // It does not heed the signal, and is killed.
    let ended = waiting.run.finish(PATIENCE);
    ended.expect(75).says("mysqld-hung: ");
    assert!(!alive(waiting.program));
    // A client that loses its server is not what failed.
    let waiting = Waiting::start(
        &scene,
        &[],
        &format!("{} --defaults-file=$ROLLFORWARD_DEFAULTS_FILE -e 'SELECT SLEEP(60)'", client()),
    );
    kill(waiting.mysqld(&scene), libc::SIGKILL);
    waiting.run.finish(PATIENCE).expect(75).says("mysqld-died: ");
    // The next one leaves nothing, and says nothing of it.
    let ended = open(&scene, &[], &["true"]).run_to_end(LONG).expect(0);
    assert_eq!(ended.log().len(), 1, "{ended}");
    assert_gone(&scene);
    // It goes without a word while it is started, and is started again.
    let mut run = open(&scene, &["--max-failures=1"], &["true"]).spawn();
    let first = wait_for("a private server", LONG, || {
        let all = processes_under(&scene.scratch.join("open"));
        all.into_iter().find(|pid| *pid != run.pid())
    });
    kill(first, libc::SIGKILL);
    wait_for("the end", LONG, || run.has_ended().then_some(()));
    run.finish(LONG).expect(0).says("restoring again in").says("failure 1 of 2");
    assert_gone(&scene);
}

#[test]
fn what_was_killed_or_stopped_is_swept() {
    need_server!();
    let scene = Scene::seeded("swept");
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let waiting = Waiting::start(&scene, &[], "sleep 60; :");
        waiting.run.kill(signal);
        waiting.run.finish(PATIENCE).expect(status).says("error: interrupted: ");
        assert!(!alive(waiting.program));
        assert_gone(&scene);
    }
    // Without a program it is what it waits for.
    let mut run = scene.command("open").spawn();
    run.wait_for_log("log in with --defaults-file=/proc/", LONG);
    run.kill(libc::SIGTERM);
    let ended = run.finish(PATIENCE).expect(143);
    assert!(!ended.stderr.contains("error") && !ended.stderr.contains("warning"), "{ended}");
    assert_gone(&scene);
    // Its terminal is closed.
    for (under, status) in [(&["env"][..], 129), (&["nohup"], 143)] {
        let mut run = scene.command("open").under(under).spawn();
        run.wait_for_log("log in with --defaults-file=/proc/", LONG);
        run.kill(libc::SIGHUP);
        if status == 143 {
            run.kill(libc::SIGTERM);
        }
        run.finish(PATIENCE).expect(status);
        assert_gone(&scene);
    }
    // A stop while it restores or starts.
    let mut run = open(&scene, &[], &["true"]).spawn();
    wait_for("its directory", LONG, || scene.scratch.join("open").exists().then_some(()));
    run.kill(libc::SIGTERM);
    wait_for("the end", LONG, || run.has_ended().then_some(()));
    run.finish(LONG).expect(143);
    assert_gone(&scene);
    // A kill: server and program die, and each command with the directory sweeps the rest.
    for sweep in ["open", "run", "prove"] {
        let waiting = Waiting::start(&scene, &[], "exec sleep 60");
        let (mysqld, program) = (waiting.mysqld(&scene), waiting.program);
        waiting.run.kill(libc::SIGKILL);
        waiting.run.finish(LONG);
        wait_for("the end of both", LONG, || (!alive(mysqld) && !alive(program)).then_some(()));
        assert!(scene.scratch.join("open").exists() && !waiting.option_file.exists());
        let more: &[&str] = if sweep == "open" { &["--", "true"] } else { &[] };
        scene.command(sweep).args(more).run_to_end(PATIENCE).expect(0);
        assert_gone(&scene);
    }
}

#[test]
fn several_are_open_beside_a_pass() {
    need_server!();
    let scene = Scene::seeded("beside");
    let oldest = scene.backups().pop().unwrap();
    let first = Waiting::start(&scene, &[], "exec sleep 60");
    let second = Waiting::start(&scene, &["--writable"], "exec sleep 60");
    scene.primary.sql("DROP TABLE shop.t0");
    scene.run().expect(0);
    scene.run().expect(0);
    // What is open is not pruned.
    let prune = || scene.command("prune").arg("--keep-count=1").run_to_end(LONG);
    prune().expect(0).says(&oldest);
    assert_eq!(scene.backups().len(), 3);
    assert_eq!(value(&scene, &[], "SELECT COUNT(*) FROM shop.t1"), "2000");
    assert!(alive(first.program) && alive(second.program));
    for waiting in [first, second] {
        waiting.run.kill(libc::SIGTERM);
        waiting.run.finish(PATIENCE).expect(143);
    }
    prune().expect(0);
    assert_eq!(scene.backups().len(), 2);
    assert_gone(&scene);
}

#[test]
fn a_moment_is_opened_like_a_backup() {
    need_server!();
    let Accident { scene, dropped, .. } = &Accident::new("moment");
    let when = format!("before:{dropped}");
    let sql =
        "SELECT CONCAT((SELECT COUNT(*) FROM shop.t0), ' ', (SELECT COUNT(*) FROM shop.backlog))";
    assert_eq!(value(scene, &["--until", &when], sql), "2000 300");
    assert_eq!(value(scene, &[], "SELECT COUNT(*) FROM shop.backlog"), "302");
    assert_gone(scene);
    let ended = open(scene, &["--until=1999-12-31T23:59:59Z"], &["true"]).run_to_end(LONG);
    ended.expect(1).says("error: out-of-reach: ");
    assert_gone(scene);
}

#[test]
fn a_full_disk_ends_it_and_nothing_is_left() {
    need_server!();
    let scene = Scene::seeded("full");
    let disk = SmallDisk::new("full", 400 << 20);
    let open = |script: &str| {
        let command = Rollforward::new(["open", "--repo"]).arg(&scene.repo).arg("--scratch");
        let command = command.arg(disk.path("scratch")).args(scene.mysqld());
        let command = command.args(disk.server_options()).args(["--writable", "--", "sh", "-c"]);
        command.arg(script).under(disk.wrapper()).run_to_end(PATIENCE)
    };
    // While the program runs, and while the backup is restored.
    let sql = "CREATE TABLE big (t LONGTEXT); INSERT INTO big SELECT REPEAT(text, 9000) FROM t0";
    let fill = format!("{} --defaults-file=$ROLLFORWARD_DEFAULTS_FILE shop -e '{sql}'", client());
    let ended = open(&fill).expect(1).says("error: disk-full: ");
    assert!(!disk.path("scratch/open").exists(), "{ended}");
    disk.leave(8 << 20);
    let ended = open("true").expect(1).says("error: disk-full: ");
    assert!(!disk.path("scratch/open").exists(), "{ended}");
}

/// The key for INT is the program's: it goes on, and so do we.
#[test]
fn on_a_terminal_the_keys_are_the_programs() {
    need_server!();
    if find_program("script").is_none() {
        return crate::support::skipped("script (bsdutils) is not installed");
    }
    let scene = Scene::seeded("keys");
    let (begun, program) = (scene.path("begun"), scene.path("program.sh"));
    let script = "trap 'echo got it' INT; touch \"$1\"; sleep 30; echo goes on; exit 9";
    fs::write(&program, script).unwrap();
    let mut line = format!(
        "{} open --repo {} --scratch {} ",
        env!("CARGO_BIN_EXE_rollforward"),
        scene.repo.display(),
        scene.scratch.display()
    );
    for word in scene.mysqld() {
        line += &format!("{} ", word.display());
    }
    if crate::support::is_root() {
        line += "--mysqld-user=root ";
    }
    line += &format!("-- sh {} {}", program.display(), begun.display());
    let typed = format!(
        "(until [ -e {} ]; do sleep 0.1; done; sleep 0.3; printf '\\003'; sleep 2) | \
         script -qec '{line}' /dev/null; echo status $?",
        begun.display()
    );
    let said = run_helper(std::process::Command::new("sh").args(["-c", &typed]), "");
    for text in ["got it", "goes on", "status 9"] {
        assert!(said.contains(text), "no '{text}': {said}");
    }
    assert_gone(&scene);
}

/// As root, for a directory of somebody else's: the server is theirs, and the program ours.
#[test]
fn as_root_the_server_belongs_to_the_directorys_owner() {
    need_server!();
    if !crate::support::is_root() {
        return;
    }
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    const NOBODY: u32 = 65534;
    let mut scene = Scene::seeded("owner");
    scene.scratch = scene.path("theirs");
    fs::create_dir(&scene.scratch).unwrap();
    chown(&scene.scratch, Some(NOBODY), Some(NOBODY)).unwrap();
    for dir in scene.scratch.ancestors().skip(1).take(2) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let script = "id -u; cd \"$1\"; stat -c %u open/*/mysqld.sock; stat -Lc %u:%a $ROLLFORWARD_DEFAULTS_FILE";
    let scratch = scene.scratch.display().to_string();
    let command = open(&scene, &[], &["sh", "-c", script, "sh", &scratch]).without_user();
    assert_eq!(command.run_to_end(LONG).expect(0).stdout, "0\n65534\n0:600\n");
    assert_gone(&scene);
    // What stays is theirs: a pass of theirs goes on in it.
    for entry in fs::read_dir(&scene.scratch).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().uid(), NOBODY, "{}", entry.path().display());
    }
}
