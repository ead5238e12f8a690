//! Names that the dumping clients do not tell apart where they are told what to leave out.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{DUMP, Replica, Scene, Server};

/// They know neither case nor where a schema ends, and take UTF-8 for latin1.
#[test]
fn tables_left_out_by_another_ones_name_are_carried() {
    need_server!();
    let scene = Scene::new("confused");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE a; CREATE DATABASE A; CREATE DATABASE `a.b`; \
         CREATE TABLE a.T (id INT PRIMARY KEY, x FLOAT); INSERT INTO a.T VALUES (1, 0.1); \
         CREATE TABLE a.t (id INT PRIMARY KEY, x INT); INSERT INTO a.t VALUES (1, 2); \
         CREATE TABLE A.t (id INT PRIMARY KEY, y FLOAT); INSERT INTO A.t VALUES (1, 0.3); \
         CREATE TRIGGER a.upper BEFORE INSERT ON a.T FOR EACH ROW SET NEW.x = NEW.x / 3; \
         CREATE TRIGGER a.lower BEFORE INSERT ON a.t FOR EACH ROW SET NEW.x = NEW.x + 1; \
         CREATE TRIGGER A.lower BEFORE INSERT ON A.t FOR EACH ROW SET NEW.y = NEW.y / 7; \
         CREATE TABLE `a.b`.c (id INT PRIMARY KEY, x FLOAT); INSERT INTO `a.b`.c VALUES (1, 0.1); \
         CREATE TABLE a.`b.c` (id INT PRIMARY KEY, x INT); INSERT INTO a.`b.c` VALUES (1, 1); \
         CREATE TABLE a.e (id INT PRIMARY KEY, x FLOAT); INSERT INTO a.e VALUES (1, 0.1); \
         CREATE TABLE a.`é` (id INT PRIMARY KEY, x FLOAT); INSERT INTO a.`é` VALUES (1, 0.7); \
         CREATE TABLE a.`©` (id INT PRIMARY KEY, x INT); INSERT INTO a.`©` VALUES (1, 8)",
    );
    scene.seed();
    scene.assert_newest_equals(&replica);
    // By row, where a value must be the same to the last bit.
    scene.primary.sql(
        "SET SESSION binlog_format = 'ROW'; INSERT INTO a.T VALUES (2, 0.1); INSERT INTO a.t VALUES (2, 1); \
         UPDATE a.`é` SET x = x / 3; UPDATE a.e SET x = x / 3; UPDATE a.`b.c` SET x = 2; \
         UPDATE `a.b`.c SET x = x / 3; UPDATE a.`©` SET x = 9; UPDATE A.t SET y = y / 3",
    );
    let run = scene.command("run").arg("--compare-time=20s");
    let run = run.arg(format!("--defaults-file={}", scene.dump.display()));
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!ended.stderr.contains("warning: "), "{ended}");
    scene.assert_newest_equals(&replica);
    let restored = Server::start_on(&scene.restore(None));
    for sum in [
        "SELECT GROUP_CONCAT(id, ' ', x ORDER BY id) FROM a.t",
        "SELECT GROUP_CONCAT(id, ' ', x) FROM a.`b.c`",
        "SELECT GROUP_CONCAT(id, ' ', x) FROM a.`©`",
        "SELECT GROUP_CONCAT(trigger_schema, trigger_name, event_object_table \
         ORDER BY action_statement) FROM information_schema.triggers WHERE trigger_schema <> 'sys'",
    ] {
        assert_eq!(restored.value(sum), scene.primary.value(sum));
    }
}

#[test]
fn views_left_out_by_a_tables_name_are_refused() {
    need_server!();
    let scene = Scene::new("hiding");
    scene.primary.sql(
        "CREATE DATABASE a; CREATE TABLE a.T (id INT PRIMARY KEY, x FLOAT); \
         CREATE VIEW a.t AS SELECT id, x FROM a.T",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2);
    ended.says("a dump would leave out a.t, ").says("--from dir:PATH");
    assert!(!scene.scratch.join("data").exists());
}

/// Views are made while only the accounts of definers are known.
#[test]
fn definers_that_differ_in_case_are_both_known() {
    need_server!();
    let scene = Scene::new("definers");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE USER app@localhost; CREATE USER App@localhost; GRANT ALL ON *.* TO app@localhost; \
         GRANT ALL ON *.* TO App@localhost; CREATE DATABASE a; CREATE TABLE a.t (id INT PRIMARY KEY); \
         CREATE DEFINER = app@localhost VIEW a.v AS SELECT id FROM a.t; \
         CREATE DEFINER = App@localhost VIEW a.w AS SELECT id FROM a.v; \
         CREATE DEFINER = app@localhost VIEW a.x AS SELECT id FROM a.w",
    );
    scene.seed();
    scene.assert_newest_equals(&replica);
}

#[test]
fn schemas_named_like_the_servers_own_are_refused() {
    need_server!();
    let mut scene = Scene::new("own");
    for name in ["SYS", "Performance_Schema", "sýs"] {
        let made =
            format!("CREATE DATABASE `{name}`; CREATE TABLE `{name}`.t (id INT PRIMARY KEY)");
        if scene.primary.try_sql(&made).is_err() {
            // MySQL keeps some to itself.
            continue;
        }
        let seed = scene.command("seed").args(["--from", "dump"]);
        let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("configuration: ");
        ended.says(&format!("a dump would leave out the schema {name}, "));
        assert_eq!(scene.backups().len(), 0);
        scene.primary.sql(&format!("DROP DATABASE `{name}`"));
    }
    // In a directory they are like any other, and compared.
    scene.primary.sql("CREATE DATABASE SYS; CREATE TABLE SYS.t (id INT PRIMARY KEY)");
    let source = scene.primary.datadir().to_path_buf();
    scene.primary.stop();
    let seed = scene.command("seed").arg(format!("--from=dir:{}", source.display()));
    seed.run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.restart();
    scene.primary.write_option_file(&scene.nightly, DUMP);
    scene.primary.sql("SET SESSION sql_log_bin = 0; ALTER TABLE SYS.t ADD COLUMN x INT");
    scene.run().expect(3).says("unequal: not as on the primary: table SYS.t: column x");
}
