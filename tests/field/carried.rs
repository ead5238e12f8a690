//! What the clients that dump and load get wrong by themselves: found by random schemas.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{DUMP, Replica, Scene, Server, flavor};

/// Names with a backslash or a line break; a session's own settings, by which things were made.
#[test]
fn what_a_client_would_lose_or_reject_is_carried() {
    need_server!();
    let scene = Scene::new("rejected");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; \
         CREATE TABLE `a\\b` (id INT PRIMARY KEY, x FLOAT); INSERT INTO `a\\b` VALUES (1, 0.1), (2, 0.3); \
         CREATE TABLE `a\nb` (`c\nd` INT PRIMARY KEY, x DOUBLE); INSERT INTO `a\nb` VALUES (7, 0.7); \
         CREATE TABLE `e\nf` (`c\nd` INT PRIMARY KEY); INSERT INTO `e\nf` VALUES (8); \
         CREATE VIEW `g\nh` AS SELECT * FROM `e\nf`; \
         CREATE DATABASE `-- x`; CREATE TABLE `-- x`.t (id INT PRIMARY KEY, x FLOAT); \
         CREATE TRIGGER `-- x`.noted BEFORE INSERT ON `-- x`.t FOR EACH ROW SET NEW.x = 0.1",
    );
    if flavor::is_mysql() {
        scene.primary.sql(
            "USE shop; CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, n INT) ENGINE=ARCHIVE; \
             INSERT INTO counted (n) VALUES (1), (2), (3)",
        );
        scene.primary.sql(
            "CREATE DATABASE other CHARACTER SET binary; USE other; \
             CREATE PROCEDURE shop.p (OUT b TEXT, IN c VARCHAR(9)) SET b = c",
        );
        scene.primary.sql(
            "CREATE TABLE shop.stamp (id INT PRIMARY KEY, t TIMESTAMP NOT NULL); \
             SET SESSION explicit_defaults_for_timestamp = OFF; \
             ALTER TABLE shop.stamp CONVERT TO CHARACTER SET cp932; \
             SET SESSION sql_mode = 'HIGH_NOT_PRECEDENCE'",
        );
        scene
            .primary
            .sql("CREATE EVENT shop.`a``b` ON SCHEDULE EVERY 1 DAY DO BEGIN SELECT NOT 1; END");
    } else {
        scene.primary.sql(
            "USE shop; CREATE TABLE `v\\w` (id INT PRIMARY KEY, x FLOAT) WITH SYSTEM VERSIONING; \
             INSERT INTO `v\\w` VALUES (1, 0.1); UPDATE `v\\w` SET x = 0.2; \
             CREATE TABLE document (id INT PRIMARY KEY, j JSON); \
             ALTER TABLE document RENAME COLUMN j TO k",
        );
    }
    scene.seed();
    // No plain replica is told how a session takes a TIMESTAMP.
    scene.primary.sql("DROP TABLE IF EXISTS shop.stamp");
    scene.primary.sql("SET SESSION binlog_format = 'ROW'; DELETE FROM shop.`a\\b` WHERE id = 2");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// The client dumps one schema after the other.
#[test]
fn what_uses_another_schemas_things_is_carried() {
    need_server!();
    let scene = Scene::new("later");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE a; CREATE DATABASE m; CREATE DATABASE z CHARACTER SET latin1; \
         CREATE TABLE z.parent (id INT PRIMARY KEY); INSERT INTO z.parent VALUES (1), (2); \
         CREATE TABLE a.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES z.parent (id)); \
         INSERT INTO a.child VALUES (1, 1), (2, 2); CREATE TABLE z.log (id INT, note TEXT); \
         CREATE TABLE a.floats (x FLOAT, p INT, FOREIGN KEY (p) REFERENCES z.parent (id)); \
         INSERT INTO a.floats VALUES (0.1, 1); CREATE VIEW z.seen AS SELECT id FROM z.parent; \
         CREATE VIEW m.seen AS SELECT id, p FROM a.child WHERE id IN (SELECT id FROM z.seen); \
         CREATE VIEW a.seen AS SELECT s.id, c.p FROM z.seen s JOIN m.seen c ON c.id = s.id; \
         CREATE FUNCTION a.counted () RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM z.seen); \
         CREATE TRIGGER a.noted AFTER INSERT ON a.child FOR EACH ROW \
         INSERT INTO z.log SELECT id, 'x' FROM z.seen; \
         CREATE EVENT a.swept ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM z.log",
    );
    if !flavor::is_mysql() {
        scene.primary.sql(
            "CREATE SEQUENCE z.`s é` START WITH 5 INCREMENT BY 3 CACHE 4; SELECT NEXTVAL(z.`s é`); \
             CREATE SEQUENCE m.s CYCLE MAXVALUE 9; SELECT SETVAL(m.s, 7); CREATE SEQUENCE a.own; \
             CREATE TABLE a.numbered (id INT PRIMARY KEY DEFAULT (NEXTVAL(z.`s é`) * 2), n INT); \
             INSERT INTO a.numbered (n) VALUES (1); \
             CREATE TABLE a.owned (id INT DEFAULT NEXTVAL(a.own), m INT DEFAULT NEXTVAL(m.s)); \
             CREATE TABLE a.both (id INT PRIMARY KEY DEFAULT NEXTVAL(z.`s é`), x FLOAT); \
             INSERT INTO a.both (x) VALUES (0.3); CREATE VIEW a.next AS SELECT NEXTVAL(z.`s é`) AS n; \
             CREATE TABLE a.past (id INT DEFAULT NEXTVAL(m.s)) WITH SYSTEM VERSIONING",
        );
    }
    scene.seed();
    scene.assert_newest_equals(&replica);
    if !flavor::is_mysql() {
        scene
            .primary
            .sql("INSERT INTO a.numbered (n) VALUES (2); INSERT INTO a.both (x) VALUES (0.7)");
    }
    scene.primary.sql("INSERT INTO a.child VALUES (3, 1)");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// Clients pass text as Unicode, from which not all of it comes back.
#[test]
fn text_of_any_character_set_keeps_its_bytes() {
    need_server!();
    let scene = Scene::new("charsets");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql("CREATE DATABASE shop");
    for (charset, bytes) in [
        ("cp932", "fa4a8754815f"),
        ("sjis", "5c815f8160"),
        ("cp1251", "98c0"),
        ("greek", "d2e1"),
        ("big5", "a1c3c6a1"),
        ("gbk", "a2a2"),
        ("latin1", "81a4"),
    ] {
        scene.primary.sql(&format!(
            "CREATE TABLE shop.{charset} (id INT PRIMARY KEY, t TEXT CHARACTER SET {charset}, \
             v VARCHAR(9) CHARACTER SET {charset}, e ENUM('a', '') CHARACTER SET {charset}); \
             INSERT INTO shop.{charset} VALUES (1, _{charset} x'{bytes}', _{charset} x'{bytes}', 1), \
             (2, '', NULL, 2)"
        ));
    }
    scene.seed();
    scene.assert_newest_equals(&replica);
}

/// There are ways: a session's setting, or rows from before.
#[test]
fn rows_against_a_constraint_are_carried() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::new("constraint");
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE a (id INT PRIMARY KEY, CHECK (id > 5)); \
         CREATE TABLE b (id INT PRIMARY KEY, x FLOAT, CHECK (x > 5)); \
         SET SESSION check_constraint_checks = 0; INSERT INTO a VALUES (1), (9); \
         INSERT INTO b VALUES (1, 0.1)",
    );
    scene.seed();
    let restored = Server::start_on(&scene.restore(None));
    for sum in ["SELECT GROUP_CONCAT(id) FROM shop.a", "SELECT CONCAT(id, ' ', x) FROM shop.b"] {
        assert_eq!(restored.value(sum), scene.primary.value(sum));
    }
}

#[test]
fn what_no_client_dumps_is_named_before_the_dump() {
    need_server!();
    let scene = Scene::new("undumped");
    let seed = scene.command("seed").args(["--from", "dump"]);
    for name in ["a'b", "a\"b", "a\\b", "a\nb"] {
        scene.primary.sql(&format!("CREATE DATABASE `{name}`"));
        let ended =
            seed.run_to_end(COMMAND_PATIENCE).expect(2).says("a dump would fail at the schema a");
        ended.says("--from dir:PATH");
        scene.primary.sql(&format!("DROP DATABASE `{name}`"));
    }
    if !flavor::is_mysql() {
        let make = "CREATE DATABASE a; CREATE TABLE a.t (e ENUM(x'80', 'b') CHARACTER SET binary)";
        scene.primary.sql(make);
        seed.run_to_end(COMMAND_PATIENCE).expect(2).says("change the members of a.t.e");
        scene.primary.sql("DROP DATABASE a");
    }
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); \
         CREATE FUNCTION shop.f (n INT) RETURNS INT DETERMINISTIC RETURN n; \
         CREATE SQL SECURITY INVOKER VIEW shop.calling AS SELECT shop.f(id) AS f FROM shop.t",
    );
    if flavor::is_mysql() {
        // It shows and dumps that one, but none that fails with the collation of the client.
        let set =
            "SET SESSION default_collation_for_utf8mb4 = 'utf8mb4_general_ci'; SET NAMES utf8mb4";
        scene.primary.sql(set);
        scene.primary.sql(
            "CREATE VIEW shop.mixed AS SELECT 'é' AS c FROM shop.t UNION ALL SELECT _utf8mb4 x'f09f9880'",
        );
    }
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("EXECUTE");
    let ended = ended.says(flavor::either("fail at shop.calling: ", "fail at shop.mixed: "));
    assert!(!scene.scratch.join("data").exists(), "{ended}");
}

/// A key of MySQL's making that the primary does not show.
#[test]
fn hidden_keys_are_carried_and_raise_no_alarm() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::with(
        "hidden",
        &[
            "--sql-generate-invisible-primary-key=ON",
            "--show-gipk-in-create-table-and-information-schema=OFF",
        ],
    );
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE f (x FLOAT); CREATE TABLE i (x INT); \
         INSERT INTO f VALUES (0.1), (0.1), (0.3); INSERT INTO i VALUES (1), (1), (3)",
    );
    scene.seed();
    scene.primary.sql(
        "SET SESSION binlog_row_image = 'MINIMAL'; \
         DELETE FROM shop.f WHERE x > 0.2; UPDATE shop.i SET x = 2 WHERE my_row_id = 2",
    );
    let run = scene.command("run").arg("--compare-time=20s");
    let run = run.arg(format!("--defaults-file={}", scene.dump.display()));
    run.run_to_end(COMMAND_PATIENCE).expect(0);
    scene.assert_newest_equals(&replica);
}

/// Views are made when nothing else is left to be made, and what they call acts for its definer.
#[test]
fn a_view_finds_the_account_of_its_function() {
    need_server!();
    let scene = Scene::new("definers");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE DATABASE zoo; CREATE TABLE shop.t (id INT PRIMARY KEY); \
         INSERT INTO shop.t VALUES (1), (2); CREATE USER `a``b`@`%`; \
         CREATE DEFINER = `a``b`@`%` FUNCTION shop.thrice (n INT) RETURNS INT DETERMINISTIC NO SQL \
         RETURN 3 * n; GRANT EXECUTE ON FUNCTION shop.thrice TO `a``b`@`%`; \
         CREATE DEFINER = `a``b`@`%` SQL SECURITY INVOKER VIEW zoo.v AS \
         SELECT shop.thrice(id) AS n FROM shop.t; GRANT SELECT ON zoo.v TO `a``b`@`%`; \
         CREATE VIEW shop.w AS SELECT * FROM zoo.v; GRANT SELECT ON shop.t TO `a``b`@`%`; \
         CREATE DEFINER = `a``b`@`%` VIEW zoo.a AS SELECT id FROM shop.t; \
         CREATE VIEW shop.x AS SELECT * FROM zoo.a; \
         CREATE TABLE shop.f (id INT PRIMARY KEY, x FLOAT); INSERT INTO shop.f VALUES (1, 0.1); \
         CREATE TRIGGER shop.noted BEFORE INSERT ON shop.f FOR EACH ROW SET NEW.x = 0.3",
    );
    if flavor::is_mysql() {
        // The root of a hosted server cannot do everything.
        scene
            .primary
            .sql("REVOKE SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER ON *.* FROM root@localhost");
    }
    scene.primary.sql(&format!("GRANT EXECUTE ON *.* TO {}", DUMP.user));
    scene.seed();
    scene.primary.sql("INSERT INTO shop.t VALUES (3)");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// The triggers of a table that our own session carries come last, by a client that logs in once more.
#[test]
fn triggers_come_although_root_has_a_password() {
    need_server!();
    let scene = Scene::new("root");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.f (id INT PRIMARY KEY, x FLOAT); \
         INSERT INTO shop.f VALUES (1, 0.1); CREATE TABLE shop.log (x FLOAT); \
         CREATE TRIGGER shop.noted AFTER INSERT ON shop.f FOR EACH ROW \
         INSERT INTO shop.log VALUES (NEW.x); \
         ALTER USER root@localhost IDENTIFIED BY 'another'",
    );
    scene.seed();
    scene.primary.sql("INSERT INTO shop.f VALUES (2, 0.3)");
    scene.run().expect(0);
    scene.primary.sql("ALTER USER root@localhost IDENTIFIED BY ''");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

#[test]
fn memory_tables_with_rows_are_named_in_a_warning() {
    need_server!();
    let scene = Scene::new("memory");
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.mem (id INT PRIMARY KEY) ENGINE=MEMORY; \
         CREATE TABLE shop.none (id INT PRIMARY KEY) ENGINE=MEMORY; INSERT INTO shop.mem VALUES (1)",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(0);
    let line = ended.stderr.lines().find(|line| line.contains("MEMORY"));
    let line = line.unwrap_or_else(|| panic!("no warning: {ended}"));
    assert!(line.contains("warning: ") && line.contains("shop.mem: "), "{line}");
    assert!(line.contains("1032") && !line.contains("none"), "{line}");
    scene.primary.sql("SET SESSION binlog_format = 'ROW'; DELETE FROM shop.mem");
    let ended =
        scene.run().expect(1).says("replication-error: replication failed with error 1032: ");
    ended.says(" shop.mem").says("; if it is a table of the MEMORY engine, ");
}

#[test]
fn a_schema_that_is_read_only_stays_so() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::new("readonly");
    scene.primary.sql(
        "CREATE DATABASE `sh%op`; CREATE TABLE `sh%op`.t (id INT PRIMARY KEY); CREATE DATABASE other; \
         INSERT INTO `sh%op`.t VALUES (1); ALTER DATABASE `sh%op` READ ONLY = 1",
    );
    scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE).expect(0);
    let options = "SELECT GROUP_CONCAT(schema_name) FROM information_schema.schemata_extensions \
        WHERE options LIKE '%READ ONLY=1%'";
    let restored = scene.restore(None);
    assert_eq!(Server::start_on(&restored).value(options), "sh%op");
    scene.primary.sql(
        "ALTER DATABASE `sh%op` READ ONLY = 0; INSERT INTO `sh%op`.t VALUES (2); \
         ALTER DATABASE `sh%op` READ ONLY = 1",
    );
    scene.run().expect(0);
}

/// A replica has them, and the client leaves them out.
#[test]
fn histograms_come_with_a_dump() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::new("histograms");
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE DATABASE still; \
         CREATE TABLE t (id INT PRIMARY KEY, `a``b` VARCHAR(9), x FLOAT, d DECIMAL(9,3)); \
         INSERT INTO t VALUES (1, 'a\\\\''é', 0.25, 1.5), (2, NULL, -7, 2.5), (3, '', 1e30, NULL); \
         ANALYZE TABLE t UPDATE HISTOGRAM ON `a``b`, x, d WITH 2 BUCKETS; \
         CREATE TABLE still.t (n INT); INSERT INTO still.t VALUES (1), (2); \
         ANALYZE TABLE still.t UPDATE HISTOGRAM ON n WITH 3 BUCKETS; \
         ALTER DATABASE still READ ONLY = 1",
    );
    scene.seed();
    let restored = Server::start_on(&scene.restore(None));
    let all = "SELECT CONCAT(COUNT(*), ' ', GROUP_CONCAT(schema_name, column_name, \
        JSON_LENGTH(histogram->'$.buckets'), histogram->'$.\"histogram-type\"', \
        histogram->'$.\"null-values\"', histogram->'$.\"number-of-buckets-specified\"' \
        ORDER BY schema_name, column_name)) FROM information_schema.column_statistics";
    let there = scene.primary.value(all);
    assert!(there.starts_with("4 "), "{there}");
    assert_eq!(restored.value(all), there);
}
