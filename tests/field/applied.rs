//! What a plain replica applies, and passes that do not end for want of what one has.

use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, TempDir, flavor, snapshot, wait_until};

/// Statements in the binary log, where the server does not choose so by itself.
const STATEMENTS: &str = "--binlog-format=STATEMENT";

/// A session that holds a temporary table with rows in it.
fn with_table(primary: &Server, name: &str) -> mysql::Conn {
    let mut session = primary.open().unwrap();
    for sql in [
        format!("CREATE TEMPORARY TABLE shop.{name} (a INT PRIMARY KEY)"),
        format!("INSERT INTO shop.{name} VALUES (7001), (7002)"),
    ] {
        session.query_drop(sql).unwrap();
    }
    session
}

/// What the session put into its table goes on into a real one, and it ends.
fn use_table(mut session: mysql::Conn, name: &str) {
    let sql = format!("INSERT INTO shop.t0 (n, text) SELECT a, '{name}' FROM shop.{name}");
    session.query_drop(sql).unwrap();
}

#[test]
fn temporary_tables_are_outlasted_or_an_older_base_taken() {
    need_server!();
    let scene = Scene::seeded_with("temporary", &[STATEMENTS]);
    let seed = scene.newest_position();
    let replica = Replica::start(&scene.primary);
    // One that is closed soon.
    let short = with_table(&scene.primary, "short");
    let mut run = scene.command("run").spawn();
    run.wait_for_log("sessions of the primary have 1 temporary table open", COMMAND_PATIENCE);
    use_table(short, "short");
    run.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.assert_newest_equals(&replica), scene.primary.gtid_pos());
    // One that stays: what leads on is not pruned.
    let long = with_table(&scene.primary, "long");
    let run = scene.command("run").arg("--keep-count=1");
    let base = scene.backups().pop().unwrap();
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(3).says("1 temporary table");
    ended.says(&format!("the next pass starts from the older {base} again"));
    assert_eq!(scene.checkpoint().get("cause"), Some("replication-error"));
    assert!(scene.backups().contains(&base), "{:?}", scene.backups());
    let newest = scene.backups().pop().unwrap();
    assert_eq!(scene.manifest_value(&newest, "open_temporary_tables"), "1");
    use_table(long, "long");
    scene.primary.backlog("shop", 20);
    run.run_to_end(COMMAND_PATIENCE).expect(0).says(&format!("restored {base}: "));
    scene.assert_newest_equals(&replica);
    assert_eq!(replica.value("SELECT COUNT(*) FROM shop.t0 WHERE text IN ('short', 'long')"), "4");
    assert_ne!(scene.newest_position(), seed);
}

/// A server knows of it once it has read its privileges again.
#[test]
fn an_account_changed_in_its_table_gets_its_grant() {
    need_server!();
    let scene = Scene::seeded("changed");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE USER a@localhost; UPDATE mysql.global_priv SET Host = '%' WHERE User = 'a'; \
         FLUSH LOCAL PRIVILEGES; GRANT SELECT ON shop.* TO a@'%'",
    );
    scene.run().expect(0).says("reading the privileges again and trying again");
    // A plain replica stops there, and goes on when it is told to.
    replica.sql("START SLAVE");
    wait_until("the replica to stop", Duration::from_secs(30), || {
        replica.record("SHOW SLAVE STATUS").expect("a replica")["Last_SQL_Errno"] != "0"
    });
    replica.sql("STOP SLAVE; FLUSH LOCAL PRIVILEGES");
    scene.assert_newest_equals(&replica);
}

/// A server without a binary log changes it, and returns the error of the plugin that has none.
#[test]
fn the_password_beside_a_plugin_without_one_is_set() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("beside");
    scene.primary.sql(
        "CREATE USER a@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING \
         PASSWORD('one'); SET PASSWORD FOR a@localhost = PASSWORD('two'); CREATE USER b",
    );
    let ended = scene.run().expect(0);
    assert!(!ended.stderr.contains("trying again"), "{ended}");
    let all =
        "SELECT CONCAT(user, priv) FROM mysql.global_priv WHERE user IN ('a', 'b') ORDER BY 1";
    assert_eq!(Server::start_on(&scene.restore(None)).sql(all), scene.primary.sql(all));
}

/// No log event says that a session did without it.
#[test]
fn a_table_made_without_strict_mode_is_made() {
    need_server!();
    let scene = Scene::seeded("lenient");
    let columns: Vec<String> = (0..40).map(|n| format!("c{n} CHAR(250)")).collect();
    scene.primary.sql(&format!(
        "SET SESSION innodb_strict_mode = OFF; CREATE TABLE shop.wide ({}) ENGINE=InnoDB \
         CHARACTER SET latin1; CREATE TABLE shop.late (a INT) ENGINE=InnoDB",
        columns.join(", ")
    ));
    let ended = scene.run().expect(0);
    assert!(!ended.stderr.contains("trying again"), "{ended}");
    let made = "SHOW CREATE TABLE shop.wide";
    assert_eq!(Server::start_on(&scene.restore(None)).sql(made), scene.primary.sql(made));
}

/// The newest backup lacks a row that a later statement changes; the one before has it.
#[test]
fn a_backup_that_does_not_lead_on_is_passed_over() {
    need_server!();
    let scene = Scene::seeded("leads");
    let older = scene.backups().pop().unwrap();
    let wrong = scene.restore(None);
    let args = ["--skip-slave-start", "--event-scheduler=OFF"];
    let mut server = Server::start_on_with(&wrong, &args);
    server.sql("DELETE FROM shop.t0 WHERE id = 5");
    server.stop();
    let position = format!("--position={}", scene.newest_position());
    let adopt = scene.command("seed").arg(format!("--from=dir:{}", wrong.display()));
    let adopt = adopt.args((!flavor::is_mysql()).then_some(position));
    adopt.run_to_end(COMMAND_PATIENCE).expect(0);
    let newer = scene.backups().pop().unwrap();
    assert_ne!(older, newer);
    scene.primary.sql(
        "SET SESSION binlog_format = 'ROW'; UPDATE shop.t0 SET text = 'x' WHERE id = 5; \
         SET SESSION sql_log_bin = 0; \
         INSERT INTO shop.t1 (id, n, text) VALUES (900001, 1, 'hidden'); \
         SET SESSION sql_log_bin = 1",
    );
    let ended = scene.run().expect(3).says(&format!("{newer} does not lead on"));
    let ended = ended.says(&format!("going back to the older {older}")).says("error 1032");
    assert_eq!(ended.stderr.matches("started mysqld").count(), 2, "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("replication-error"));
    let newest = scene.backups().pop().unwrap();
    assert_eq!(scene.manifest_value(&newest, "base"), older);
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT text FROM shop.t0 WHERE id = 5"), "x");
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), "2000");
    // Nothing leads past a row that no backup has: one other is tried, and the end is told with its
    // ways out.
    scene
        .primary
        .sql("SET SESSION binlog_format = 'ROW'; UPDATE shop.t1 SET text = 'y' WHERE id = 900001");
    let backups = scene.backups();
    let ended = scene.run().expect(1).says("error 1032").says("rollforward seed");
    let ended = ended.says(&format!("{newest} can be restored, but no later one made from it"));
    ended.says(&format!("nor from the older {older} (replication-error)"));
    assert_eq!(scene.backups(), backups);
    scene.assert_nothing_left();
    assert!(!snapshot(&Server::start_on(&scene.restore(None))).is_empty());
}

/// A library with functions that servers load, in a directory of its own.
pub(super) fn library() -> TempDir {
    let dir = TempDir::new("plugins");
    let function = |name: &str| {
        format!(
            "int {name}_init(void *i, void *a, char *m) {{ return 0; }}\n\
             long long {name}(void *i, void *a, char *n, char *e) {{ return 7; }}\n"
        )
    };
    let source = dir.path().join("rf.c");
    std::fs::write(&source, function("rf_seven") + &function("rf_other")).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-nostdlib", "-o"]);
    compile.args([&dir.path().join("rf.so"), &source]);
    assert!(compile.status().unwrap().success());
    dir
}

/// A server without its grant tables, as the private one is by default, has no such functions.
#[test]
fn loadable_functions_come_used_and_go() {
    need_server!();
    let library = library();
    let plugins = format!("--plugin-dir={}", library.path().display());
    let scene = Scene::seeded_with("functions", &[STATEMENTS, &plugins]);
    let option = format!("--mysqld-option={plugins}");
    let run = scene.command("run").arg(&option);
    let all = |server: &Server| {
        server.sql(
            "SELECT CONCAT(name, ret, dl) FROM mysql.func UNION ALL \
             SELECT CONCAT(id, '-', n) FROM shop.t0 WHERE id > 9000 UNION ALL \
             SELECT CONCAT(user, '@', host) FROM mysql.user ORDER BY 1",
        )
    };
    scene.primary.sql(
        "INSERT INTO shop.t0 (id, n, text) VALUES (9000, 0, 'before'); \
         CREATE FUNCTION rf_seven RETURNS INTEGER SONAME 'rf.so'; \
         CREATE FUNCTION rf_other RETURNS INTEGER SONAME 'rf.so'; \
         INSERT INTO shop.t0 (id, n, text) VALUES (9001, rf_seven(), 'by a function'); \
         CREATE USER maker; FLUSH PRIVILEGES; \
         CREATE EVENT shop.e ON SCHEDULE EVERY 1 YEAR DO DELETE FROM shop.t1; \
         DROP FUNCTION rf_other",
    );
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(0);
    // MariaDB 11 is always started so.
    let always = scene.primary.value("SELECT VERSION()").starts_with("11.");
    assert_ne!(ended.stderr.contains("without its grant tables; starting it with them"), always);
    assert_eq!(all(&Server::start_on(&scene.restore(None))), all(&scene.primary));
    scene.primary.sql(
        "INSERT INTO shop.t0 (id, n, text) VALUES (9002, rf_seven(), 'again'); \
         DROP FUNCTION IF EXISTS rf_seven; DROP USER maker",
    );
    run.run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(all(&Server::start_on(&scene.restore(None))), all(&scene.primary));
    assert_eq!(scene.primary.value("SELECT COUNT(*) FROM mysql.func"), "0");
    scene.assert_nothing_left();
}
