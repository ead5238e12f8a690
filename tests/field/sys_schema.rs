//! What is in schemas of the server itself: the clients leave `sys` out.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, flavor};

#[test]
fn what_was_added_to_sys_is_named_before_the_dump() {
    need_server!();
    let scene = Scene::new("sys");
    let seed = scene.command("seed").args(["--from", "dump"]);
    for (made, name) in [
        ("TABLE sys.mine (id INT PRIMARY KEY)", "table sys.mine"),
        ("EVENT sys.daily ON SCHEDULE EVERY 1 DAY DO SET @x = 1", "event sys.daily"),
        (
            "TRIGGER sys.noted BEFORE INSERT ON sys.sys_config FOR EACH ROW SET @x = 1",
            "trigger sys.noted",
        ),
    ] {
        scene.primary.sql(&format!("CREATE {made}"));
        let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("configuration: ");
        let ended = ended.says(&format!(": {name}; ")).says("dir:PATH");
        assert!(!scene.scratch.join("data").exists(), "{ended}");
        scene.primary.sql(&format!("DROP {name}"));
    }
    scene.primary.sql(
        "ALTER TABLE sys.sys_config ADD COLUMN more INT; CREATE VIEW sys.shown AS SELECT 1 AS one; \
         CREATE FUNCTION sys.thrice (n INT) RETURNS INT DETERMINISTIC NO SQL RETURN 3 * n; \
         CREATE PROCEDURE sys.nothing () SET @x = 1",
    );
    // Those of a fresh server must be known.
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("configuration: ");
    ended.says(
        "column sys.sys_config.more, function sys.thrice, procedure sys.nothing, view sys.shown; move it to another schema",
    );
    assert!(scene.backups().is_empty());
}

#[test]
fn changed_rows_of_sys_config_are_carried() {
    need_server!();
    let scene = Scene::new("sys_config");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "INSERT INTO sys.sys_config (variable, value, set_by) VALUES ('own', NULL, NULL), \
         ('é\\'\\\\', 'x\ny', 'me@here'); UPDATE sys.sys_config SET value = 'ON' WHERE variable = \
         'diagnostics.allow_i_s_tables'; DELETE FROM sys.sys_config WHERE variable = \
         'ps_thread_trx_info.max_length'",
    );
    // What belongs to a server of another version is not missed.
    scene.primary.sql(&format!(
        "DROP VIEW sys.version; CREATE DEFINER = {}@localhost VIEW sys.newer AS SELECT 1 AS one",
        flavor::either("`mariadb.sys`", "`mysql.sys`")
    ));
    scene.seed();
    scene.primary.sql(
        "SET SESSION binlog_format = 'ROW'; UPDATE sys.sys_config SET value = 2 WHERE variable = 'own'; \
         INSERT INTO sys.sys_config (variable, value) VALUES ('ps_thread_trx_info.max_length', 7)",
    );
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    let restored = Server::start_on(&scene.restore(None));
    let all = "SELECT GROUP_CONCAT(CONCAT_WS('|', variable, IFNULL(value, '-'), set_time, \
               IFNULL(set_by, '-')) ORDER BY variable) FROM sys.sys_config";
    assert_eq!(restored.value(all), scene.primary.value(all));
}

/// Whoever has no use for it may drop it.
#[test]
fn a_primary_without_a_schema_sys_is_dumped() {
    need_server!();
    let scene = Scene::new("no_sys");
    let replica = Replica::start(&scene.primary);
    scene
        .primary
        .sql("DROP SCHEMA sys; CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)");
    scene.seed();
    scene.primary.sql("INSERT INTO shop.t VALUES (1)");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// The clients dump these.
#[test]
fn what_was_added_to_mysql_comes_with_a_dump() {
    need_server!();
    let scene = Scene::new("added");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "USE mysql; CREATE TABLE mine (id INT PRIMARY KEY, x FLOAT); INSERT INTO mine VALUES (1, 0.1); \
         CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO SET @x = 1; \
         CREATE VIEW shown AS SELECT * FROM mine; CREATE PROCEDURE nothing () SET @x = 1",
    );
    scene.seed();
    scene.primary.sql("INSERT INTO mysql.mine VALUES (2, 2); ALTER EVENT mysql.daily DISABLE");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    let restored = Server::start_on(&scene.restore(None));
    let rows = "SELECT GROUP_CONCAT(id, ' ', x) FROM mysql.shown";
    assert_eq!(restored.value(rows), scene.primary.value(rows));
    let made = "SELECT COUNT(*) FROM information_schema.events WHERE event_name = 'daily'";
    assert_eq!(restored.value(made), "1");
    restored.sql("CALL mysql.nothing()");
}
