//! What a primary gives each session of an account without SUPER: by init_connect, or by a global setting.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{DUMP, NIGHTLY, Replica, Scene, flavor};

impl Scene {
    /// A primary that runs this for each session from then on.
    fn greets_with(&self, statements: &str) {
        let text = statements.replace('\'', "''");
        self.primary.sql(&format!("SET GLOBAL init_connect = '{text}'"));
    }

    /// `seed --from dump`, which MariaDB's client cannot do as it is and MySQL's can be told to.
    fn seeds_or_names(&self, texts: &[&str]) {
        let seed = self.command("seed").args(["--from", "dump"]);
        if flavor::is_mysql() {
            seed.run_to_end(COMMAND_PATIENCE).expect(0);
            return;
        }
        let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2);
        assert!(!self.scratch.join("data").exists(), "{ended}");
        texts.iter().fold(ended, |ended, text| ended.says(text));
    }
}

#[test]
fn sessions_of_another_character_set_garble_no_dump() {
    need_server!();
    let scene = Scene::new("garbled");
    let replica = Replica::start(&scene.primary);
    scene.greets_with("SET NAMES latin1");
    // Text outside ASCII, and names in it.
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; SET NAMES utf8mb4; \
         CREATE TABLE t (id INT PRIMARY KEY COMMENT 'é日', s VARCHAR(20) CHARACTER SET utf8mb4 DEFAULT '日', \
         e ENUM('é', '日') CHARACTER SET utf8mb4, x FLOAT) COMMENT = 'é日'; \
         INSERT INTO t VALUES (1, 'é😀', '日', 0.1); \
         CREATE TABLE u (s VARCHAR(20) CHARACTER SET utf8mb4); INSERT INTO u VALUES ('日😀'); \
         CREATE PROCEDURE p() COMMENT 'é日' SELECT 'é日'; CREATE VIEW v AS SELECT 'é日' AS c FROM t; \
         CREATE TRIGGER noted BEFORE INSERT ON u FOR EACH ROW SET NEW.s = 'é日'; \
         CREATE TRIGGER counted BEFORE INSERT ON t FOR EACH ROW SET NEW.s = 'é日'; \
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 'é日'",
    );
    scene.seed();
    scene.assert_newest_equals(&replica);
    for (make, drop, name) in [
        ("CREATE DATABASE `bé`", "DROP DATABASE `bé`", "bé"),
        ("CREATE TABLE t2 (`cé` INT)", "DROP TABLE t2", "t2.cé"),
        ("CREATE PROCEDURE `日`() SELECT 1", "DROP PROCEDURE `日`", "shop.日"),
        (
            "CREATE EVENT `日e` ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
            "DROP EVENT `日e`",
            "shop.日e",
        ),
        ("CREATE TABLE `té` (x FLOAT); INSERT INTO `té` VALUES (0.1)", "DO 1", "shop.té"),
    ] {
        scene.primary.sql(&format!("USE shop; {make}"));
        scene.seeds_or_names(&[&format!("a dump would fail at {name}: "), "latin1"]);
        if flavor::is_mysql() {
            scene.assert_newest_equals(&replica);
        }
        scene.primary.sql(&format!("USE shop; {drop}"));
    }
    if !flavor::is_mysql() {
        scene.primary.sql(&format!("GRANT CONNECTION ADMIN ON *.* TO {}", DUMP.user));
        scene.seed();
    }
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// A client that is shown only so many rows dumps no more, and ends well.
#[test]
fn a_limit_of_rows_leaves_none_out_of_a_dump() {
    need_server!();
    let scene = Scene::new("limit");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 1, 100);
    scene.primary.sql(
        "CREATE TABLE shop.f (x FLOAT); INSERT INTO shop.f SELECT n / 7 FROM shop.t0; \
         CREATE TABLE shop.small (id INT); INSERT INTO shop.small VALUES (1), (2)",
    );
    let account = &format!("GRANT SELECT ON *.* TO {}", NIGHTLY.user);
    scene.primary.sql(account);
    scene.greets_with("SET sql_select_limit = 3");
    scene.seeds_or_names(&["no more than 3 rows of each table", "sql_select_limit"]);
    scene.greets_with("");
    scene.primary.sql("SET GLOBAL sql_select_limit = 4");
    scene.seeds_or_names(&["no more than 4 rows of each table", "sql_select_limit"]);
    if flavor::is_mysql() {
        scene.assert_newest_equals(&replica);
    }
    scene.primary.sql("SET GLOBAL sql_select_limit = DEFAULT");
    scene.primary.sql(
        "CREATE FUNCTION shop.same (s VARCHAR(9) CHARACTER SET latin1) RETURNS INT DETERMINISTIC RETURN 1",
    );
    scene.seed();
    // The end of a transaction is that of its session; a character set means another collation.
    scene.primary.sql(
        "SET GLOBAL sql_select_limit = 4, GLOBAL completion_type = 2 \
         /*M!110201 , GLOBAL character_set_collations = 'latin1=latin1_bin' */",
    );
    let run = scene.command("run").arg("--compare-time=20s").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!run.stderr.contains("warning: "), "{run}");
    scene.assert_newest_equals(&replica);
}

#[test]
fn what_init_connect_sets_changes_no_backup() {
    need_server!();
    let scene = Scene::new("sets");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE f (id INT PRIMARY KEY, x FLOAT, e ENUM('', 'a')); \
         INSERT INTO f VALUES (1, 0.1, ''), (2, 16777217, 'a'); \
         CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP NOT NULL, s VARCHAR(20)); \
         INSERT INTO t VALUES (1, '2026-07-01 12:00:00', 'a\\\\b''\"'); \
         CREATE VIEW v AS SELECT id, NOT id AS n, 'a' AS a FROM t",
    );
    if !flavor::is_mysql() {
        scene.primary.sql(
            "USE shop; CREATE SEQUENCE s; \
             CREATE TABLE h (id INT, x FLOAT) WITH SYSTEM VERSIONING; INSERT INTO h VALUES (1, 0.1)",
        );
    }
    let modes = flavor::either(
        "'ORACLE,EMPTY_STRING_IS_NULL,HIGH_NOT_PRECEDENCE'",
        "'ANSI,NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH'",
    );
    let greeting = format!(
        "SET sql_mode = {modes}, autocommit = 0, time_zone = '+05:30', wait_timeout = 1, \
         collation_connection = utf8mb4_bin, sql_big_selects = 0, character_set_results = NULL"
    );
    scene.primary.sql("SET GLOBAL max_join_size = 1000000");
    scene.greets_with(&greeting);
    scene.seed();
    // A replica of MariaDB that begins with nothing says so by an empty text, which is NULL then.
    scene.greets_with("");
    scene.assert_newest_equals(&replica);
    scene.primary.sql("SET SESSION binlog_format = 'ROW'; UPDATE shop.f SET x = x / 3");
    scene.greets_with(&greeting);
    scene.run().expect(0);
    scene.greets_with("");
    scene.assert_newest_equals(&replica);
}

/// The primary then lets nobody in but its administrators.
#[test]
fn an_init_connect_that_fails_is_said_at_once() {
    need_server!();
    let scene = Scene::seeded("failing");
    scene.greets_with("INSERT INTO audit.logins VALUES (1)");
    for command in ["run", "seed"] {
        let command = match command {
            "seed" => scene.command("seed").args(["--from", "dump"]),
            command => scene.command(command),
        };
        let ended = command.run_to_end(COMMAND_PATIENCE).expect(1);
        let ended = ended.says("access-denied: ").says("init_connect command failed");
        assert!(!ended.stderr.contains("retrying"), "{ended}");
    }
}

/// Servers refuse a query that may look at more rows than this, and a dump is full of such.
#[test]
fn a_largest_join_ends_neither_dumps_nor_passes() {
    need_server!();
    let scene = Scene::new("join");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 1, 5000);
    scene.primary.sql(&format!("GRANT SELECT ON *.* TO {}", NIGHTLY.user));
    scene.primary.sql("SET GLOBAL max_join_size = 100");
    scene.seeds_or_names(&["more rows than the max_join_size", "a dump would fail at "]);
    if !flavor::is_mysql() {
        scene.primary.sql("SET GLOBAL max_join_size = DEFAULT");
        scene.seed();
        scene.primary.sql("SET GLOBAL max_join_size = 100");
    }
    let run = scene.command("run").arg("--compare-time=20s").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!run.stderr.contains("warning: "), "{run}");
    scene.assert_newest_equals(&replica);
}
