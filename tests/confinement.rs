//! What the programs of the server's package may do: write below the scratch directory only, as
//! the user that was named, and leave no core file.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Scene, find_program, flavor, is_root};

/// Makes `path` readable and writable for everybody, so that only confinement protects it.
fn open_to_all(path: &Path) {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Tries each of `statements` in a function of an ordinary account, called by a statement that is
/// replicated as such. On the primary it does nothing.
fn attack(scene: &Scene, statements: &[String]) {
    let primary = &scene.primary;
    primary.sql("CREATE TABLE shop.attacked (id INT PRIMARY KEY AUTO_INCREMENT, x INT)");
    primary.sql(&format!(
        "CREATE FUNCTION shop.attack() RETURNS INT DETERMINISTIC NO SQL SQL SECURITY INVOKER \
         BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
         IF @@skip_networking THEN {}; END IF; RETURN 1; END",
        statements.join("; ")
    ));
    primary.sql("SET SESSION binlog_format = STATEMENT; INSERT INTO shop.attacked (x) VALUES (shop.attack())");
}

#[test]
fn a_replicated_statement_writes_no_file_elsewhere() {
    need_server!();
    if flavor::is_mysql() {
        // Its private server has secure_file_priv=NULL, and functions set no global variables.
        return;
    }
    let options = ["--log-bin-trust-function-creators=1"];
    let scene = Scene::seeded_with("attacked", &options);
    let victim = scene.path("victim");
    fs::create_dir(&victim).unwrap();
    open_to_all(&victim);
    let format = scene.repo.join("format");
    let format_before = fs::read(&format).unwrap();
    // Nor where it may write but has nothing to write to.
    let planted = [victim.join("outfile"), scene.scratch.join("planted"), victim.join("log")];
    let outfile = |path: &Path| format!("SELECT 'owned' INTO OUTFILE '{}'", path.display());
    let log = |path: &Path| {
        let path = path.display();
        format!("SET GLOBAL general_log_file = '{path}'; SET GLOBAL general_log = 1")
    };
    let statements = [outfile(&planted[0]), outfile(&planted[1]), log(&planted[2]), log(&format)];
    attack(&scene, &statements);
    let ended = scene.command("run").arg("--max-failures=0").run_to_end(COMMAND_PATIENCE);
    // Whatever becomes of the statement.
    for path in planted {
        assert!(!path.exists(), "{}: {ended}", path.display());
    }
    assert_eq!(fs::read(&format).unwrap(), format_before, "{ended}");
    assert!(ended.status != 101, "{ended}");
    scene.command("list").run_to_end(COMMAND_PATIENCE).expect(0);
    scene.assert_nothing_left();
}

#[test]
fn a_replicated_statement_changes_no_setting_unnoticed() {
    need_server!();
    if flavor::is_mysql() {
        // Functions set no global variables.
        return;
    }
    for (name, value) in [
        ("innodb_fast_shutdown", "2"),
        ("slave_exec_mode", "IDEMPOTENT"),
        ("slow_query_log", "ON"),
        ("default_week_format", "3"),
    ] {
        let scene = Scene::seeded_with("settings", &["--log-bin-trust-function-creators=1"]);
        attack(&scene, &[format!("SET GLOBAL {name} = {value}")]);
        let backups = scene.backups();
        let ended = scene.command("run").arg("--max-failures=0").run_to_end(COMMAND_PATIENCE);
        ended.expect(1).says("replication-error").says(&format!("has set {name} of the private"));
        assert_eq!(scene.backups(), backups);
        scene.assert_nothing_left();
    }
}

#[test]
fn a_setting_changed_before_a_stop_is_not_resumed() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded_with("resumed", &["--log-bin-trust-function-creators=1"]);
    // Within one transaction, so that no look at the position is between.
    let statements = ["DO SLEEP(2)", "SET GLOBAL slave_exec_mode = IDEMPOTENT", "DO SLEEP(4)"];
    attack(&scene, &statements.map(String::from));
    let mut pass = scene.command("run").spawn();
    pass.wait_for_checkpoint("the catch-up", COMMAND_PATIENCE, |c| {
        (c.get("phase") == Some("catch-up")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(4));
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(COMMAND_PATIENCE).expect(128 + libc::SIGTERM);
    ended.says("discarding the scratch data: a replicated statement has set slave_exec_mode");
    let ended = scene.command("run").arg("--max-failures=0").run_to_end(COMMAND_PATIENCE);
    ended.expect(1).says("has set slave_exec_mode of the private");
    scene.assert_nothing_left();
}

#[test]
fn a_forged_statement_follows_no_other_server_unnoticed() {
    need_server!();
    let scene = Scene::seeded_with("source", &["--binlog-checksum=NONE"]);
    let statements = flavor::either(
        ["CHANGE MASTER 'x' TO master_host = '127.0.0.1', master_port = 1", "START SLAVE 'x'"],
        [
            "CHANGE REPLICATION SOURCE TO source_host = '127.0.0.1', source_port = 1 FOR CHANNEL 'x'",
            "START REPLICA FOR CHANNEL 'x'",
        ],
    );
    // As if a primary that was broken into had logged them.
    for (at, statement) in statements.into_iter().enumerate() {
        let logged =
            format!("CREATE TABLE shop.forged{at} (id INT) COMMENT = '{}'", "-".repeat(80));
        scene.primary.sql(&logged);
        let mut logs = fs::read_dir(scene.primary.datadir()).unwrap().flatten().map(|e| e.path());
        let log = logs
            .find(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("binlog.0") && find(&fs::read(path).unwrap(), &logged).is_some()
            })
            .expect("a binary log with the statement");
        let from = find(&fs::read(&log).unwrap(), &logged).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        let forged = format!("{statement:width$}", width = logged.len());
        file.write_all_at(forged.as_bytes(), from as u64).unwrap();
    }
    let ended = scene.command("run").arg("--max-failures=0").run_to_end(COMMAND_PATIENCE);
    if flavor::is_mysql() {
        // It crashes.
        assert_ne!(ended.status, 0, "{ended}");
    } else {
        ended.expect(1).says("replication-error").says("from another server too");
    }
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

/// Where `text` begins.
fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[test]
fn a_file_loaded_by_a_replicated_statement_still_arrives() {
    need_server!();
    let scene = Scene::seeded_with("infile", &["--local-infile=1"]);
    let file = scene.path("rows.tsv");
    fs::write(&file, "1\ta\n2\tb\n").unwrap();
    open_to_all(&file);
    scene.primary.sql("CREATE TABLE shop.loaded (id INT PRIMARY KEY, t VARCHAR(9))");
    if !flavor::is_mysql() {
        scene.primary.sql(&format!(
            "SET SESSION binlog_format = STATEMENT; LOAD DATA INFILE '{}' INTO TABLE shop.loaded",
            file.display()
        ));
    }
    scene.run().expect(0);
    scene.assert_nothing_left();
}

#[test]
fn as_root_every_program_runs_as_the_named_user() {
    need_server!();
    if !is_root() || flavor::chosen().bin.is_some() {
        return;
    }
    let scene = Scene::new("named");
    scene.primary.fill("shop", 1, 100);
    // Reached by any user; the scratch directory itself becomes that of the named one.
    let dir = tempdir_for_all(&scene);
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["mariadbd", "mariadb", "mariadb-dump"] {
        let real = find_program(name).unwrap();
        let text =
            format!("#!/bin/sh\n[ $(id -u) != 0 ] || exit 99\nexec {} \"$@\"\n", real.display());
        fs::write(bin.join(name), text).unwrap();
    }
    for entry in [&dir, &bin]
        .into_iter()
        .cloned()
        .chain(fs::read_dir(&bin).unwrap().map(|e| e.unwrap().path()))
    {
        fs::set_permissions(entry, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let scratch = dir.join("scratch");
    for command in ["seed", "run"] {
        scene
            .command(command)
            .args((command == "seed").then_some("--from=dump"))
            .arg("--scratch")
            .arg(&scratch)
            .arg("--mysqld-user=nobody")
            .arg("--mysqld")
            .arg(bin.join("mariadbd"))
            .run_to_end(COMMAND_PATIENCE)
            .expect(0);
    }
    assert_eq!(scene.backups().len(), 2);
    fs::remove_dir_all(&dir).unwrap();
}

/// A directory that other users can reach.
fn tempdir_for_all(scene: &Scene) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!(
        "rf-test-all-{}-{}",
        std::process::id(),
        scene.primary.port()
    ));
    fs::create_dir(&dir).unwrap();
    open_to_all(&dir);
    dir
}

#[test]
fn root_is_not_used_unless_it_is_named() {
    need_server!();
    if !is_root() {
        return;
    }
    let scene = Scene::new("root");
    let program = scene.command("seed").args(["--from", "dump"]).without_user();
    let ended = program.run_to_end(COMMAND_PATIENCE).expect(2).says("--mysqld-user");
    assert!(!scene.repo.exists() && !scene.scratch.exists(), "{ended}");
    // Its owner is the default.
    fs::create_dir(&scene.scratch).unwrap();
    chown(&scene.scratch, Some(65534), Some(65534)).unwrap();
    let ended = program.run_to_end(COMMAND_PATIENCE);
    assert!(ended.status != 2, "{ended}");
}

#[test]
fn no_child_may_leave_a_core_file() {
    need_server!();
    let scene = Scene::seeded("core");
    scene.primary.slow_backlog("shop", 60, 0.05);
    let allowed = ["sh", "-c", "ulimit -S -c unlimited; exec \"$@\"", "sh"];
    let mut pass = scene.command("run").under(allowed).spawn();
    let pid = pass.wait_for_mysqld(COMMAND_PATIENCE);
    let core = |pid: i32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        core.split_whitespace().skip(4).take(2).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(core(pid), ["0", "0"]);
    // Nor may the program itself, which knows the passwords; it may be more for a hook.
    assert_eq!(core(pass.pid())[0], "0");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    pass.finish(COMMAND_PATIENCE).expect(0);
}
