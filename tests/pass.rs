//! The pass from end to end: seed, run, and what is refused before any of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::repository::make_empty;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::writer::STEADY;
use crate::support::{
    Account, DUMP, NIGHTLY, PASSWORD, PATIENCE, Primary, Replica, Scene, Server, Writer, flavor,
    kill, server, snapshot, wait_for,
};

/// One of everything that a primary may hold.
const OBJECTS: &str = "\
    CREATE VIEW shop.v AS SELECT n, COUNT(*) AS many FROM shop.t0 GROUP BY n; \
    CREATE TABLE shop.audit (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(20)) ENGINE=InnoDB; \
    CREATE TRIGGER shop.tr AFTER INSERT ON shop.t0 FOR EACH ROW \
      INSERT INTO shop.audit (what) VALUES (CONCAT('new ', NEW.id)); \
    CREATE PROCEDURE shop.p (n INT) INSERT INTO shop.audit (what) VALUES (CONCAT('p ', n)); \
    CREATE FUNCTION shop.f (n INT) RETURNS INT DETERMINISTIC RETURN n * 2; \
    CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO \
      INSERT INTO shop.audit (what) VALUES ('event'); \
    CREATE TABLE shop.`Ünï côdé` (id INT PRIMARY KEY, j JSON, b BLOB) ENGINE=InnoDB \
      PARTITION BY HASH (id) PARTITIONS 3; \
    INSERT INTO shop.`Ünï côdé` VALUES (1, '{\"a\": 1}', x'00ff27'), (2, NULL, NULL); \
    CREATE DATABASE empty_one CHARACTER SET latin1; \
    CREATE TABLE shop.old (id INT PRIMARY KEY, t TEXT) ENGINE=MyISAM; \
    INSERT INTO shop.old VALUES (1, 'one'); \
    CREATE ROLE reader; GRANT SELECT ON shop.* TO reader; \
    CREATE USER app IDENTIFIED BY 'app-Passw0rd'; GRANT reader TO app; \
    GRANT SELECT (id), UPDATE (n) ON shop.t0 TO app; GRANT EXECUTE ON PROCEDURE shop.p TO app";

/// Runs statements that no body holds a `; ` of. In one call MySQL would take the semicolon
/// behind a trigger for a part of it, and dump it so that nobody can load it.
fn one_by_one(primary: &Primary, statements: &str) {
    for statement in statements.split("; ") {
        primary.sql(statement);
    }
}

#[test]
fn under_a_steady_load_two_passes_equal_a_second_replica() {
    need_server!();
    let scene = Scene::with("load", &["--event-scheduler=ON"]);
    let primary = &scene.primary;
    let replica = Replica::start(primary);
    primary.fill("shop", 3, 2000);
    one_by_one(primary, OBJECTS);
    primary.sql(flavor::either("CREATE SEQUENCE shop.s START WITH 5", "DO 1"));
    let writer = Writer::start(primary, "live");
    writer.wait_for_more(100);
    scene.seed();
    scene.assert_newest_equals(&replica);
    assert!(writer.stop() > 100);
    let writer = Writer::start_with(primary, "live", STEADY, true);
    for pass in 0..2 {
        // In several domains, with accounts, routines and the like in the stream.
        let domain = |name: u32| match name {
            0 => flavor::either("gtid_domain_id = 0", "gtid_next = 'AUTOMATIC'").to_string(),
            _ if flavor::is_mysql() => format!("gtid_next = 'AUTOMATIC:d{name}'"),
            _ => format!("gtid_domain_id = {name}"),
        };
        let more = format!(
            "SET SESSION {five}; CREATE TABLE shop.five{pass} (n INT) ENGINE=InnoDB; \
             INSERT INTO shop.five{pass} VALUES (1), (2); \
             SET SESSION {other}; CREATE DATABASE extra{pass}; \
             SET SESSION {zero}; \
             CREATE USER late{pass} IDENTIFIED BY 'late-Passw0rd'; GRANT ALL ON shop.* TO late{pass}; \
             DROP VIEW shop.v; CREATE VIEW shop.v AS SELECT id + {pass} AS x FROM shop.t1; \
             CREATE EVENT shop.e{pass} ON SCHEDULE EVERY 1 HOUR DO DELETE FROM shop.audit; \
             ALTER EVENT shop.e ON SCHEDULE EVERY 2 SECOND; \
             CREATE TRIGGER shop.tr{pass} BEFORE DELETE ON shop.t1 FOR EACH ROW SET @x = 1; \
             CREATE PROCEDURE shop.p{pass} () SELECT {pass}; CALL shop.p({pass}); \
             ALTER TABLE shop.t2 ADD COLUMN c{pass} INT DEFAULT 7; \
             INSERT INTO shop.t0 (n, text) VALUES (shop.f(4), 'more'); \
             INSERT INTO shop.old VALUES (10 + {pass}, 'more'); \
             ALTER USER app IDENTIFIED BY 'other-Passw0rd{pass}'; \
             DO {next}; FLUSH PRIVILEGES",
            five = domain(5),
            other = domain(6 + pass as u32),
            zero = domain(0),
            next = flavor::either("NEXTVAL(shop.s)", "1"),
        );
        one_by_one(primary, &more);
        writer.wait_for_more(300);
        let ended = scene.run().expect(0);
        assert_eq!(scene.backups().len(), pass + 2);
        let position = scene.assert_newest_equals(&replica);
        let has = |name: usize| match flavor::is_mysql() {
            true => position.contains(&format!(":d{name}:1")),
            false => position.contains(&format!(",{name}-")),
        };
        assert!(has(5) && has(6 + pass), "{position}");
        assert!(ended.log().len() < 12, "a screenful at most; {ended}");
    }
    assert!(writer.stop() > 600);
    assert!(!scene.has_scratch_data(), "scratch data goes after status 0");
    scene.assert_nothing_left();
    // The backup before is still what it was.
    let backups = scene.backups();
    let older = Server::start_on(&scene.restore(Some(&backups[1])));
    let position = older.value("SELECT @@global.gtid_slave_pos");
    assert_eq!(position, scene.manifest_value(&backups[1], "position"));
    assert!(snapshot(&older).keys().all(|k| !k.contains("extra1")));
}

#[test]
fn a_schema_change_during_a_dump_spoils_no_backup() {
    need_server!();
    let scene = Scene::new("ddl");
    let replica = Replica::start(&scene.primary);
    // Not as fast as it can: all that is written has to be applied again, several times.
    let pause = flavor::either(Duration::from_millis(1), STEADY);
    let writer = Writer::start_with(&scene.primary, "live", pause, true);
    for _ in 0..2 {
        writer.wait_for_more(200);
        let before = scene.backups().len();
        let program = scene.command("seed").args(["--from", "dump"]);
        let ended = program.run_to_end(COMMAND_PATIENCE);
        // It depends on the moment; what is stored is right, and a failure says what.
        if ended.status == 0 {
            scene.assert_newest_equals(&replica);
        } else {
            let ended = ended.expect(1).says("error: replication-error: ");
            assert_eq!(scene.backups().len(), before, "{ended}");
            assert!(!scene.has_scratch_data(), "{ended}");
        }
        scene.assert_nothing_left();
    }
    assert!(writer.stop() > 400);
    scene.seed();
    scene.assert_newest_equals(&replica);
}

#[test]
fn nothing_that_changed_last_night_changes_again() {
    need_server!();
    // It keeps the ids of transactions in its rows, and purges the rest of its own accord.
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("purge");
    scene.primary.fill("wide", 1, 30_000);
    scene.run().expect(0);
    scene.primary.sql("UPDATE wide.t0 SET n = n + 1000, text = REVERSE(text)");
    scene.run().expect(0);
    let table = |restored: &Path| fs::read(restored.join("wide/t0.ibd")).unwrap();
    let changed = table(&scene.restore(None));
    scene.run().expect(0);
    let same = table(&scene.restore(None)) == changed;
    assert!(same, "the server of a pass with nothing new changed the table");
}

#[test]
fn nothing_is_lost_by_a_kill_while_a_server_purges() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("purge-kill");
    scene.primary.fill("wide", 1, 30_000);
    let replica = Replica::start(&scene.primary);
    let log = scene.scratch.join("mysqld.log");
    let fake = scene
        .fake_mysqld("logs", "exec MYSQLD \"$@\" --general-log=1 --general-log-file=/dev/stderr");
    for (signal, status) in [(libc::SIGKILL, 0), (libc::SIGTERM, 128 + libc::SIGTERM)] {
        scene.primary.sql("UPDATE wide.t0 SET n = n + 1000, text = REVERSE(text)");
        let mut pass = scene.command("run").arg("--mysqld").arg(&fake).spawn();
        let mysqld = pass.wait_for_mysqld(PATIENCE);
        wait_for("the purge", PATIENCE, || {
            assert!(!pass.has_ended(), "{}", pass.dump());
            fs::read_to_string(&log).ok()?.contains("innodb_max_purge_lag_wait").then_some(())
        });
        match signal {
            libc::SIGKILL => kill(mysqld, signal),
            _ => pass.kill(signal),
        }
        let ended = pass.finish(COMMAND_PATIENCE).expect(status);
        if signal == libc::SIGKILL {
            ended.says("mysqld-died");
            scene.assert_newest_equals(&replica);
        }
    }
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    scene.assert_nothing_left();
}

#[test]
fn with_nothing_new_a_valid_new_backup_is_stored() {
    need_server!();
    let scene = Scene::seeded("nothing-new");
    let before = scene.newest_position();
    let ended = scene.run().expect(0).says("0 transactions");
    assert!(ended.wall < Duration::from_secs(30), "{ended}");
    assert_eq!(scene.backups().len(), 2);
    assert_eq!(scene.newest_position(), before);
    let checkpoint = scene.checkpoint();
    assert_eq!(checkpoint.get("goal"), Some(before.as_str()));
    assert_eq!(checkpoint.get("position"), Some(before.as_str()));
    assert_eq!(checkpoint.get("new_backup"), scene.backups().last().map(String::as_str));
    assert_eq!(checkpoint.get("base_backup"), scene.backups().first().map(String::as_str));
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // A young backup: nothing is due, and nothing is done.
    let program = scene.command("run").arg("--min-interval=1h");
    program.run_to_end(COMMAND_PATIENCE).expect(0).says("nothing is due");
    assert_eq!(scene.backups().len(), 2);
    scene.assert_nothing_left();
}

#[test]
fn a_first_pass_by_dump_stores_one_backup() {
    need_server!();
    let scene = Scene::new("first");
    scene.primary.fill("shop", 2, 500);
    scene.run().expect(2).says("no repository at ").says("rollforward seed");
    make_empty(&scene.repo);
    let refused = scene.run().expect(1).says("error: no-backup: ").says("rollforward seed --from");
    assert!(refused.wall < Duration::from_secs(10), "{refused}");
    assert!(!scene.scratch.join("mysqld.log").exists());
    let writer = Writer::start(&scene.primary, "live");
    writer.wait_for_more(100);
    let program = scene.command("run").arg("--first-backup=dump");
    let program = program.arg("--defaults-file").arg(&scene.dump);
    program.run_to_end(COMMAND_PATIENCE).expect(0);
    writer.stop();
    assert_eq!(scene.backups().len(), 1);
    let manifest = scene.repo.join("backups").join(&scene.backups()[0]);
    let manifest = String::from_utf8_lossy(&std::fs::read(manifest).unwrap()).into_owned();
    assert!(!manifest.lines().take(20).any(|l| l.starts_with("base 2")), "{manifest:.900}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
    // With a backup there it is a pass like any other.
    let program = scene.command("run").arg("--first-backup=dump");
    program.run_to_end(COMMAND_PATIENCE).expect(0).says("restored ");
}

#[test]
fn missing_dump_privileges_are_named_before_writing() {
    need_server!();
    let scene = Scene::new("lacks");
    scene.primary.fill("shop", 1, 10);
    for privilege in flavor::grants(DUMP.grants).split(", ") {
        scene.primary.sql(&format!("REVOKE {privilege} ON *.* FROM {}", DUMP.user));
        let seed = scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE);
        let first = scene.command("run").arg("--first-backup=dump");
        let first = first.arg("--defaults-file").arg(&scene.dump).run_to_end(COMMAND_PATIENCE);
        for ended in [seed, first] {
            let wanted = format!(
                "access-denied: primary 127.0.0.1:{} denies access: the account {} lacks \
                 {privilege}; run there: GRANT {privilege} ON *.* TO `{}`@",
                scene.primary.port(),
                DUMP.user,
                DUMP.user
            );
            let ended = ended.expect(1).says(&wanted);
            assert!(ended.wall < Duration::from_secs(10), "{ended}");
            assert_eq!(scene.checkpoint().get("cause"), Some("access-denied"));
            assert!(!scene.has_scratch_data() && scene.backups().is_empty(), "{ended}");
            assert!(!scene.scratch.join("mysqld.log").exists(), "{ended}");
            scene.assert_nothing_left();
        }
        scene.primary.sql(&format!("GRANT {privilege} ON *.* TO {}", DUMP.user));
    }
    scene.seed();
}

#[test]
fn a_table_written_outside_the_snapshot_is_refused_by_name() {
    need_server!();
    let scene = Scene::new("myisam");
    scene.primary.fill("shop", 4, 10_000);
    scene.primary.sql("CREATE TABLE shop.hits (n INT) ENGINE=MyISAM");
    let stop = Arc::new(AtomicBool::new(false));
    let mut session = scene.primary.open().unwrap();
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let text = "INSERT INTO shop.hits VALUES (1); DO SLEEP(0.005)";
            for statement in text.split(';') {
                server::query(&mut session, statement).unwrap();
            }
        }
    });
    let program = scene.command("seed").args(["--from", "dump"]);
    let ended = program.run_to_end(COMMAND_PATIENCE);
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    ended.expect(1).says("table shop.hits (MyISAM) was written while the dump ran");
    assert!(scene.backups().is_empty() && !scene.has_scratch_data());
    scene.assert_nothing_left();
    // Left in peace it is dumped like any other.
    scene.seed();
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn nothing_of_the_private_login_is_left_in_any_file() {
    need_server!();
    let scene = Scene::seeded("login");
    // In no binary log, so that its name cannot come by replication.
    scene.primary.sql("SET SESSION sql_log_bin = 0");
    let hidden = Account { user: "rf_unheard_of", grants: NIGHTLY.grants };
    scene.primary.create_account(hidden);
    scene.primary.sql("SET SESSION sql_log_bin = 1");
    scene.primary.write_option_file(&scene.nightly, hidden);
    scene.primary.backlog("shop", 500);
    scene.command("run").arg("--keep-scratch").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(scene.has_scratch_data());
    let restored = scene.restore(None);
    let data = scene.scratch.join("data");
    // The last one is how the names of accounts begin that a server is given in memory.
    for needle in [hidden.user, PASSWORD, "skip-grants", "rollforward-"] {
        for dir in [&data, &scene.repo, &restored] {
            let found = scene.files_with(dir, needle);
            assert!(found.is_empty(), "'{needle}' in {found:?}");
        }
    }
    assert!(scene.files_with(&scene.scratch, PASSWORD).is_empty());
    for dir in [&data, &restored] {
        assert!(dir.join("ibdata1").exists());
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let private = ["master", "relay", "multi-master", "auto.cnf"];
            assert!(!private.iter().any(|p| name.starts_with(p)), "{name} in {}", dir.display());
        }
    }
    // Kept scratch data is restored from, not gone on with; the private account is not there.
    scene.primary.backlog("shop", 10);
    scene.run().expect(0);
    let server = Server::start_on(&scene.restore(None));
    let accounts = server.value("SELECT GROUP_CONCAT(User) FROM mysql.global_priv");
    assert!(accounts.contains(NIGHTLY.user) && !accounts.contains(hidden.user), "{accounts}");
}

#[test]
fn a_primary_that_cannot_be_followed_is_wrong_configuration() {
    need_server!();
    let scene = Scene::new("no-log");
    scene.primary.fill("shop", 1, 10);
    let attempts = |primary: &Primary, says: &str| {
        let address = format!("127.0.0.1:{}", primary.port());
        for (command, how) in [("seed", "--from=dump"), ("run", "--first-backup=dump")] {
            let program = scene.command(command).args([how, "--primary", &address]);
            let program = program.arg("--defaults-file").arg(&scene.dump);
            let since = Instant::now();
            let ended = program.run_to_end(COMMAND_PATIENCE).expect(2).says(says);
            assert!(since.elapsed() < Duration::from_secs(10), "{ended}");
            assert!(ended.stderr.contains("error: configuration: "), "{ended}");
            assert!(!scene.has_scratch_data() && scene.backups().is_empty(), "{ended}");
            scene.assert_nothing_left();
        }
    };
    scene.primary.sql("RESET MASTER");
    attempts(&scene.primary, "has no position: its binary log is empty");
    let silent = Primary::without_binlog("silent");
    silent.create_account(DUMP);
    attempts(&silent, "writes no binary log: set log_bin there");
}
