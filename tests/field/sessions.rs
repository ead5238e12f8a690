//! What sessions with other settings make is equal, however the servers write it.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, flavor};

/// Settings of a session, and the table that it makes.
const SESSIONS: [(&str, &str); 14] = [
    (
        "SET NAMES utf8mb4",
        "g (id INT PRIMARY KEY, b CHAR(10), s VARCHAR(40) AS (CONCAT(b, '-', id)) STORED)",
    ),
    (
        "SET NAMES utf8mb4",
        "a (id INT PRIMARY KEY, b CHAR(10), s VARCHAR(40) AS (CONCAT(b, 'é', id)) STORED)",
    ),
    (
        "SET NAMES utf8mb4",
        "f (id INT PRIMARY KEY, b CHAR(10), x FLOAT, s VARCHAR(40) AS (CONCAT(b, 'é\\n''€')))",
    ),
    (
        "SET SESSION time_zone = '+09:00'",
        "z (id INT PRIMARY KEY, t TIMESTAMP NOT NULL DEFAULT '2026-01-01 00:00:00', \
         u TIMESTAMP NOT NULL DEFAULT ('2026-01-01 00:00:00'))",
    ),
    (
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "q (id INT PRIMARY KEY, y CHAR(10) DEFAULT 'a\\', z CHAR(10) DEFAULT ('a\\'), \
         g CHAR(20) AS (CONCAT(id, 'b\\n')), e ENUM('a\\b') COMMENT 'x\\y')",
    ),
    (
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "r (y CHAR(9) PRIMARY KEY, CHECK (y <> 'c\\d'))",
    ),
    (
        "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'",
        "n (id INT PRIMARY KEY, \"y\"\"q\" CHAR(10) DEFAULT ('a\"b'), g CHAR(20) AS (\"y\"\"q\" || '\"'), \
         CHECK (\"y\"\"q\" <> 'c\"d'))",
    ),
    (
        "SET NAMES latin1",
        "w (id INT PRIMARY KEY, d CHAR(9) DEFAULT ('é'), g CHAR(20) AS (CONCAT(d, 'é')), CHECK (d <> 'e'), \
         m CHAR(9) CHARACTER SET utf8mb4 DEFAULT 'é')",
    ),
    (
        "SET NAMES utf8mb3",
        "o (id INT PRIMARY KEY, d CHAR(9) DEFAULT ('é'), g CHAR(20) AS (CONCAT(d, 'é')), CHECK (d <> 'é'))",
    ),
    (
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "c (id INT PRIMARY KEY, g INT AS ('É' = 'é'), h INT AS (_latin1'a' = x'41'), i INT AS (n'a' = 'A'))",
    ),
    (
        "SET NAMES cp932",
        "j (id INT PRIMARY KEY, d CHAR(9) DEFAULT ('a'), g CHAR(20) AS (CONCAT(d, '-')))",
    ),
    (
        "SET NAMES utf8mb4, SESSION collation_connection = ucs2_bin",
        "k (id INT PRIMARY KEY, d CHAR(9) DEFAULT ('a'), g CHAR(20) AS (CONCAT(d, '-')))",
    ),
    (
        "SET NAMES utf8mb4",
        "p (x VARCHAR(9), id INT, g CHAR(9) AS (CONCAT(id, '-'))) \
         PARTITION BY LIST COLUMNS (x) (PARTITION p VALUES IN ('a', 'é'))",
    ),
    (
        "SET SESSION sql_mode = 'HIGH_NOT_PRECEDENCE,REAL_AS_FLOAT'",
        "h (id INT PRIMARY KEY, `a\nb` INT, r REAL, g INT AS (NOT id BETWEEN 1 AND 3))",
    ),
];

/// MySQL shows the text of a literal as the session had it that made the table.
#[test]
fn text_from_another_session_is_no_difference() {
    need_server!();
    let scene = Scene::new("sessions");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql("CREATE DATABASE l CHARACTER SET latin1");
    let virtually =
        |text: &str| if flavor::is_mysql() { text.into() } else { text.replace("STORED", "") };
    for (settings, table) in SESSIONS {
        let table = virtually(table);
        scene.primary.sql(&format!("USE l; {settings}; CREATE TABLE {table}"));
        scene
            .primary
            .sql("SET NAMES utf8mb4, SESSION sql_mode = DEFAULT, SESSION time_zone = DEFAULT");
    }
    if flavor::is_mysql() {
        scene.primary.sql(
            "CREATE TABLE l.v (id INT PRIMARY KEY, c VARCHAR(9), d VARCHAR(9) DEFAULT (CONCAT('é', id)), \
             KEY k ((CONCAT(c, 'é')), id)) CHARACTER SET latin1",
        );
        scene.primary.sql("ALTER TABLE l.v CONVERT TO CHARACTER SET utf8mb4");
    }
    let printed = |server: &Server| {
        server.sql("SET NAMES utf8mb4, SESSION time_zone = '+00:00'");
        SESSIONS.map(|(_, table)| {
            let name = table.split(' ').next().unwrap();
            server.sql(&format!("SHOW CREATE TABLE l.{name}")).concat()
        })
    };
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!ended.stderr.contains("warning: "), "{ended}");
    scene.assert_newest_equals(&replica);
    {
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(printed(&restored), printed(&scene.primary));
        let insert = "INSERT INTO l.f (id, b) VALUES (1, 'b')";
        assert_eq!(restored.sql(insert), scene.primary.sql(insert));
        let value = "SELECT HEX(s) FROM l.f";
        assert_eq!(restored.value(value), scene.primary.value(value));
    }

    // Behind the back of its binary log, while the dump is on its way.
    let mut running = seed.spawn();
    running.wait_for_log("dumped and loaded", COMMAND_PATIENCE);
    let index = "v DROP KEY k, ADD KEY k ((CONCAT(c, 'ö')), id)";
    for change in [
        flavor::either("g COMMENT ''", index),
        "g MODIFY s VARCHAR(40) AS (CONCAT(b, '+', id)) STORED",
        "a MODIFY s VARCHAR(40) AS (CONCAT(b, 'ö', id)) STORED",
        "z ALTER t SET DEFAULT '2026-01-01 00:00:00'",
        "q ALTER y SET DEFAULT 'a'",
    ] {
        let change = virtually(&format!("ALTER TABLE l.{change}"));
        scene.primary.sql(&format!(
            "SET SESSION sql_log_bin = 0; SET SESSION time_zone = '+00:00'; {change}; \
             SET SESSION sql_log_bin = 1"
        ));
    }
    let ended = running.finish(COMMAND_PATIENCE).expect(3);
    let mut names = vec!["l.g: column s", "l.a: column s", "l.z: column t", "l.q: column y"];
    names.extend(flavor::is_mysql().then_some("l.v: index k"));
    let found = ended.stderr.matches("warning: unequal: not as on the primary").count();
    assert_eq!(found, names.len(), "{ended}");
    for name in names {
        let line = format!("unequal: not as on the primary: table {name} differs\n");
        assert!(ended.stderr.contains(&line), "{name}: {ended}");
    }
}
