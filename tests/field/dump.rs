//! What the text of a dump does not carry is carried otherwise, or refused by name before the dump.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::server::free_port;
use crate::support::{
    Replica, Scene, Server, Writer, assert_same, flavor, kill, processes_under, snapshot, wait_for,
};

/// Values that six digits do not tell, and a bit pattern of their own.
const FLOATS: &str = "(1, 0.010516252390057362), (2, 16777217), (3, 123456.789), (4, 3.4028234e37), \
    (5, 1.4e-45), (6, '-0'), (7, NULL)";

/// Among them a table without a key, whose rows a change by row finds by all values.
fn float_tables(scene: &Scene) {
    let generated = "g FLOAT AS (x * 3) PERSISTENT";
    scene.primary.sql(&format!(
        "SET SESSION sql_mode = ''; CREATE DATABASE shop; USE shop; \
         CREATE TABLE keyed (id INT PRIMARY KEY, x FLOAT, {generated}, KEY (x)); \
         INSERT INTO keyed (id, x) VALUES {FLOATS}; DELETE FROM keyed WHERE x IS NULL; \
         CREATE TABLE bare (id INT, x FLOAT); INSERT INTO bare VALUES {FLOATS}; \
         CREATE TABLE `by it.self` (x FLOAT PRIMARY KEY, `a``b` TEXT INVISIBLE); \
         INSERT INTO `by it.self` (x) SELECT x FROM keyed WHERE x IS NOT NULL; \
         CREATE TABLE parent (id INT PRIMARY KEY); INSERT INTO parent VALUES (1), (2); \
         CREATE TABLE every (id INT AUTO_INCREMENT PRIMARY KEY, r INT, f FLOAT(7,3), w FLOAT(20,2), \
           p FLOAT UNSIGNED, d DOUBLE, n DECIMAL(40,10), i BIGINT UNSIGNED, y YEAR, b BIT(33), \
           t TIMESTAMP(6) NULL, dt DATETIME(3), ti TIME(6), da DATE, e ENUM('', 'x', 'é'), \
           s SET('a', 'b'), c CHAR(20) CHARACTER SET latin1, u VARCHAR(40) CHARACTER SET utf8mb4, \
           z VARCHAR(20) CHARACTER SET ucs2, vb VARBINARY(20), bl LONGBLOB, j JSON, g GEOMETRY, \
           FOREIGN KEY (r) REFERENCES parent (id), CHECK (r > 0)); \
         INSERT INTO every VALUES \
           (NULL, 1, 1234.567, 123456789.12, 3e38, '-0', '123456789012345678901234567890.0123456789', \
            18446744073709551615, 2155, b'101010101010101010101010101010101', \
            '2026-03-29 01:30:00.123456', '0000-00-00 00:00:00', '-838:59:59.000001', '2026-00-00', \
            0, 'a,b', _latin1 x'fc27', _utf8mb4 x'f09f9880', 'a\\'b', x'00275c0a1aff', \
            REPEAT(CHAR(0), 3000000), '{{\"a\": [1, 1.5, \"\\\\u00e9\"]}}', \
            ST_GeomFromText('POINT(1 2)')), \
           (NULL, 2, 0.1, 0.1, 1e-45, 4.9e-324, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, 1, '', '', \
            '', '', '', '', NULL, NULL); \
         CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, x FLOAT, word TEXT); \
         CREATE TRIGGER noted AFTER INSERT ON keyed FOR EACH ROW \
           INSERT INTO log (x, word) VALUES (NEW.x, 'früh'); \
         CREATE TRIGGER kept BEFORE DELETE ON parent FOR EACH ROW INSERT INTO log (word) VALUES ('a'); \
         CREATE EVENT swept ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM log; \
         CREATE VIEW seen AS SELECT id, x FROM bare WHERE x > 1"
    ));
    if flavor::is_mysql() {
        scene.primary.sql(
            "USE shop; CREATE TABLE own (d DOUBLE, v VECTOR(3), g POINT SRID 4326 NOT NULL, j JSON); \
             INSERT INTO own VALUES ('-0', STRING_TO_VECTOR('[0.1,2,-0]'), \
               ST_GeomFromText('POINT(1 2)', 4326), \
               '{\"a\": [1.0, 1e3, 18446744073709551615, -0.0, null, true, 4294967295, 4294967296, \
                1764522000000, -1764522000000]}')",
        );
        return;
    }
    scene.primary.sql(
        "USE shop; CREATE TABLE own (d DOUBLE, a INET6, u UUID, c TEXT COMPRESSED); \
         INSERT INTO own VALUES ('-0', '::1', '123e4567-e89b-12d3-a456-426655440000', REPEAT('é', 999)); \
         CREATE SEQUENCE shop.counter; \
         CREATE TABLE shop.counted (id INT PRIMARY KEY DEFAULT (NEXTVAL(shop.counter)), x FLOAT); \
         INSERT INTO shop.counted (x) VALUES (0.3), (0.7)",
    );
}

const HISTORY: [(&str, &str); 6] = [
    ("plain", "(id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING"),
    ("bare", "(id INT, x INT) WITH SYSTEM VERSIONING"),
    (
        "named",
        "(id INT PRIMARY KEY, x INT, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, \
         e TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (s, e)) \
         WITH SYSTEM VERSIONING",
    ),
    (
        "split",
        "(id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME \
         (PARTITION h HISTORY, PARTITION n CURRENT)",
    ),
    ("floats", "(id INT, x FLOAT) WITH SYSTEM VERSIONING"),
    ("some", "(id INT PRIMARY KEY, x INT, y INT WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING"),
];

fn versions(server: &Server) -> Vec<String> {
    let all = HISTORY.map(|(table, _)| {
        let (start, end) = if table == "named" { ("s", "e") } else { ("row_start", "row_end") };
        let sum = format!(
            "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, CAST(x AS DOUBLE), {start}, {end}) \
             ORDER BY id, {end} SEPARATOR '; ') FROM past.{table} FOR SYSTEM_TIME ALL"
        );
        format!("{table}: {}", server.value(&sum))
    });
    all.into()
}

#[test]
fn floats_history_and_large_rows_survive_dumps() {
    need_server!();
    let scene = Scene::with("carried", &["--max-allowed-packet=4M", "--binlog-format=ROW"]);
    let replica = Replica::start(&scene.primary);
    float_tables(&scene);
    if !flavor::is_mysql() {
        scene.primary.sql("CREATE DATABASE past");
        for (table, columns) in HISTORY {
            scene.primary.sql(&format!(
                "USE past; CREATE TABLE {table} {columns}; \
                 INSERT INTO {table} (id, x) VALUES (1, 1.1), (2, 2.3); UPDATE {table} SET x = 10.7; \
                 DELETE FROM {table} WHERE id = 1; UPDATE {table} SET x = x / 3"
            ));
        }
    }
    scene.seed();
    scene.assert_newest_equals(&replica);
    // By row: where a value is not the same to the last bit, no row is found.
    scene.primary.sql(
        "USE shop; DELETE FROM own; DELETE FROM bare WHERE id IN (1, 3, 5); UPDATE bare SET x = x / 3; \
         DELETE FROM `by it.self` WHERE x > 1e10; INSERT INTO keyed (id, x) VALUES (20, 0.1); \
         UPDATE every SET f = f / 7, p = p / 3",
    );
    if !flavor::is_mysql() {
        for (table, _) in HISTORY {
            scene.primary.sql(&format!("UPDATE past.{table} SET x = x + 1"));
        }
    }
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    if flavor::is_mysql() {
        for value in [
            "CAST(1.5 AS JSON)",
            "JSON_OBJECT('a', JSON_ARRAY(CAST('2026-01-01 00:00:00' AS DATETIME)))",
            "JSON_ARRAY(JSON_OBJECT('n', CAST(1 AS UNSIGNED)))",
            "JSON_OBJECT('n', CAST(4294967295 AS UNSIGNED))",
            "JSON_OBJECT('at', 1764522000000)",
        ] {
            scene.primary.sql(&format!(
                "DROP TABLE IF EXISTS shop.typed; \
                 CREATE TABLE shop.typed (id INT PRIMARY KEY, j JSON); \
                 INSERT INTO shop.typed VALUES (1, '[1]'), (2, {value})"
            ));
            let refused = scene.command("seed").args(["--from", "dump"]);
            refused
                .run_to_end(COMMAND_PATIENCE)
                .expect(2)
                .says("shop.typed.j")
                .says("--from clone");
        }
        return;
    }
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(versions(&restored), versions(&scene.primary));
    scene.primary.sql(
        "CREATE TABLE past.precise (id INT PRIMARY KEY, \
         s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
         e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) \
         WITH SYSTEM VERSIONING",
    );
    let refused = scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE);
    refused.expect(2).says("past.precise").says("--from dir:PATH");
}

/// A loader that is busy, a statement that runs for long, writers: none is held up, and none is blamed.
#[test]
fn seeds_neither_lock_the_primary_nor_depend_on_patience() {
    need_server!();
    // It tells how far a client is; without it commits wait for a moment, unless a statement runs for long.
    let told = flavor::either("--net-read-timeout=30", "--performance-schema=ON");
    let scene = Scene::with("patient", &["--net-write-timeout=1", told]);
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 1, 20);
    scene.primary.sql(
        "CREATE TABLE shop.f (id INT PRIMARY KEY, x FLOAT); INSERT INTO shop.f VALUES (1, 0.1); \
         CREATE TABLE shop.large (id INT AUTO_INCREMENT PRIMARY KEY, a LONGTEXT)",
    );
    for _ in 0..30 {
        scene.primary.sql("INSERT INTO shop.large (a) VALUES (REPEAT('abcdefgh', 100000))");
    }
    // MySQL's position must stand still while a client begins, which takes long on a busy machine.
    let (pause, between) = if flavor::is_mysql() { (150, 250) } else { (25, 50) };
    let writer = Writer::start_with(&scene.primary, "live", Duration::from_millis(pause), false);
    let slept = std::thread::spawn({
        let socket = scene.primary.socket().to_string_lossy().into_owned();
        let options = OptsBuilder::new().socket(Some(socket)).prefer_socket(false);
        // Without patience, unlike the other sessions of the tests.
        let mut session = Conn::new(options.user(Some("root"))).unwrap();
        move || session.query::<u8, _>("SELECT SLEEP(9) FROM shop.t0, shop.f")
    });
    let ended = Arc::new(AtomicBool::new(false));
    let longest = std::thread::spawn({
        let (mut session, ended) = (scene.primary.open().unwrap(), ended.clone());
        move || {
            let mut longest = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                let _: Vec<u64> = session.query("SELECT COUNT(*) FROM shop.t0").unwrap();
                session
                    .query_drop("INSERT INTO shop.f SELECT MAX(id) + 1, 0.1 FROM shop.f")
                    .unwrap();
                longest = longest.max(began.elapsed());
                std::thread::sleep(Duration::from_millis(between));
            }
            longest
        }
    });
    let mut seed = scene.command("seed").args(["--from", "dump"]).spawn();
    let loader = wait_for("the loader", COMMAND_PATIENCE, || {
        assert!(!seed.has_ended(), "{}", seed.dump());
        let name = flavor::program("mariadb");
        processes_under(&scene.scratch).into_iter().chain(all_processes()).find(|pid| {
            let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let place = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            place == scene.scratch
                && text.contains("--binary-mode")
                && text.split('\0').any(|a| a.ends_with(&format!("/{name}")))
        })
    });
    kill(loader, libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(4));
    kill(loader, libc::SIGCONT);
    let ended_seed = seed.finish(COMMAND_PATIENCE).expect(0);
    assert!(!ended_seed.stderr.contains("primary-unreachable"), "{ended_seed}");
    assert!(!slept.is_finished(), "the long statement ended too early");
    ended.store(true, Ordering::Relaxed);
    let longest = longest.join().unwrap();
    assert!(longest < Duration::from_secs(3), "{longest:?}: {ended_seed}");
    writer.stop();
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    let long = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
    scene.primary.sql(&format!("KILL {}", scene.primary.value(long)));
    let _ = slept.join();
}

/// A limit of the primary for statements is for its applications.
#[test]
fn a_limit_for_statements_does_not_end_a_dump() {
    need_server!();
    let limit = flavor::either("--max-statement-time=0.02", "--max-execution-time=20");
    let scene = Scene::with("limited", &[limit]);
    let unlimited = flavor::either("max_statement_time = 0", "max_execution_time = 0");
    scene.primary.sql(&format!("SET SESSION {unlimited}"));
    scene.primary.fill("shop", 1, 60_000);
    scene.primary.sql(
        "CREATE TABLE shop.f (id INT PRIMARY KEY, x FLOAT, text VARCHAR(200)); \
         INSERT INTO shop.f SELECT id, n / 7, text FROM shop.t0",
    );
    scene.seed();
    let restored = Server::start_on(&scene.restore(None));
    for table in ["t0", "f"] {
        let sum = format!("CHECKSUM TABLE shop.{table}");
        assert_eq!(restored.sql(&sum), scene.primary.sql(&sum));
    }
}

fn all_processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect()
}

/// MariaDB then cannot tell where it is, and its client dies of that.
#[test]
fn a_binary_log_with_too_large_an_event_is_named() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::with("event", &["--max-allowed-packet=2M", "--binlog-format=ROW"]);
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, b LONGBLOB); \
         INSERT INTO shop.t VALUES (1, REPEAT('x', 1500000)); UPDATE shop.t SET id = 2",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended =
        seed.run_to_end(COMMAND_PATIENCE).expect(2).says("larger than its max_allowed_packet");
    ended.says("FLUSH BINARY LOGS");
    scene.primary.sql("FLUSH BINARY LOGS");
    scene.seed();
}

/// The threads of a group look as if they always committed something, and ran a statement.
#[test]
fn a_member_of_a_group_is_dumped_and_followed() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let name = "cccccccc-1111-2222-3333-444444444444";
    let scene = Scene::with(
        "group",
        &[
            "--plugin-load-add=group_replication.so",
            &format!("--loose-group-replication-group-name={name}"),
            "--loose-group-replication-start-on-boot=OFF",
        ],
    );
    let join = || {
        let address = format!("127.0.0.1:{}", free_port());
        scene.primary.sql(&format!(
            "SET GLOBAL group_replication_local_address = '{address}'; \
             SET GLOBAL group_replication_bootstrap_group = ON; START GROUP_REPLICATION"
        ));
    };
    join();
    scene.primary.fill("shop", 1, 100);
    scene.seed();
    scene.primary.backlog("shop", 5);
    // As after a failover: a new view, and transactions of its own in between.
    scene.primary.sql("STOP GROUP_REPLICATION; SET GLOBAL super_read_only = OFF");
    scene.primary.backlog("shop", 5);
    join();
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert!(restored.value("SELECT @@global.gtid_executed").contains(name));
    assert_same("ours", &snapshot(&restored), "the member", &snapshot(&scene.primary));
}
