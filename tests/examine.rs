//! What a pass finds when it looks at its data: by `CHECK TABLE`, and beside the primary.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::server::query;
use crate::support::writer::Writer;
use crate::support::{Proxy, Replica, Scene, flavor, limits};

/// Inverts every bit of the bytes at `from` to `to` of a file.
fn spoil(path: &Path, from: usize, to: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[from..to].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(path, bytes).unwrap();
}

/// The lines of this kind on record of the newest backup.
fn on_record(scene: &Scene, kind: &str) -> Vec<String> {
    let newest = scene.backups().pop().expect("a backup");
    let text = fs::read_to_string(scene.repo.join("proofs").join(newest)).unwrap_or_default();
    let begin = format!("{kind} ");
    text.lines().filter(|line| line.starts_with(&begin)).map(String::from).collect()
}

/// The line of a table among them.
#[track_caller]
fn turn(scene: &Scene, kind: &str, table: &str) -> String {
    let mut lines = on_record(scene, kind);
    let name = format!(" schema=shop table={table} ");
    lines.retain(|line| line.contains(&name));
    assert_eq!(lines.len(), 1, "{table}: {:#?}", on_record(scene, kind));
    lines.remove(0)
}

/// A spoilt index, and a page of InnoDB that kills some servers when they read it.
#[test]
fn damage_in_tables_is_named_until_it_is_mended() {
    need_server!();
    let mut scene = Scene::new("damage");
    scene.primary.fill("shop", 1, 500);
    scene.primary.sql(
        "CREATE TABLE shop.isam (id INT PRIMARY KEY, n INT, KEY (n)) ENGINE=MyISAM; \
         INSERT INTO shop.isam SELECT id, n FROM shop.t0; \
         CREATE TABLE shop.page (id INT PRIMARY KEY, pad CHAR(200), KEY (pad)); \
         INSERT INTO shop.page SELECT id, CONCAT(SHA2(id, 224), REPEAT('x', 140)) FROM shop.t0; \
         CREATE VIEW shop.broken AS SELECT n FROM shop.isam; \
         ALTER TABLE shop.isam CHANGE n m INT",
    );
    let source = scene.primary.datadir().to_path_buf();
    scene.primary.stop();
    let spoilt =
        |file: &str, from: usize, to: usize| spoil(&source.join("shop").join(file), from, to);
    spoilt("isam.MYI", 2048, 2300);
    let pages = fs::metadata(source.join("shop/page.ibd")).unwrap().len() as usize / 16384;
    for page in 5..pages.min(14) {
        spoilt("page.ibd", page * 16384 + 200, page * 16384 + 264);
    }
    let seed = scene.command("seed").arg(format!("--from=dir:{}", source.display()));
    seed.run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.restart();
    // While something is wrong nothing is pruned: an older backup may be the last one that is right.
    let run = scene.command("run").args(["--check-time=1m", "--keep-count=1"]);
    for again in [false, true] {
        scene.primary.backlog("shop", 20);
        let ended = run
            .run_to_end(COMMAND_PATIENCE)
            .expect(3)
            .says("unequal: table shop.isam failed CHECK TABLE: ");
        let ended = ended.says("unequal: table shop.page failed CHECK TABLE: ");
        assert!(!ended.stderr.contains("shop.broken"), "{ended}");
        assert_eq!(scene.checkpoint().get("cause"), Some("unequal"), "{again}: {ended}");
        assert!(turn(&scene, "check-turn", "isam").contains(" result=wrong what="), "{ended}");
        assert!(turn(&scene, "check-turn", "t0").ends_with(" result=right"), "{ended}");
    }
    assert_eq!(scene.backups().len(), 3);
    scene.primary.sql("REPAIR TABLE shop.isam; DROP TABLE shop.page");
    run.run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.backups().len(), 2, "the newest and its base");
    assert!(turn(&scene, "check-turn", "isam").ends_with(" result=right"));
    assert!(on_record(&scene, "check-turn").iter().all(|line| !line.contains("table=page")));
}

/// The scratch directory is gone each night, and the time is not enough for one table.
#[test]
fn checks_take_turns_and_are_stopped_in_time() {
    need_server!();
    let scene = Scene::new("turns");
    scene.primary.fill("shop", 1, 100);
    scene.primary.sql(
        "CREATE DATABASE a; CREATE TABLE a.large (id INT PRIMARY KEY AUTO_INCREMENT, a CHAR(56), \
         b CHAR(56), c CHAR(56), KEY (a), KEY (b), KEY (c), KEY (a, b), KEY (b, c), KEY (c, a)); \
         INSERT INTO a.large (a, b, c) SELECT SHA2(id, 224), SHA2(n, 224), SHA2(-id, 224) \
         FROM shop.t0",
    );
    let double = "INSERT INTO a.large (a, b, c) SELECT SHA2(a, 224), SHA2(b, 224), SHA2(c, 224) \
                  FROM a.large";
    for _ in 0..8 {
        scene.primary.sql(double);
    }
    scene.seed();
    let run = |time: &str| {
        let pass = scene.command("run").args(["-v", &format!("--check-time={time}")]);
        let ended = pass.run_to_end(COMMAND_PATIENCE).expect(0);
        fs::remove_dir_all(&scene.scratch).unwrap();
        ended
    };
    // It comes first, and is killed; then it is passed over, and a few are checked in each pass.
    run("1ms").says("checking table a.large");
    let record = || on_record(&scene, "check-turn");
    let large = || record().into_iter().find(|line| line.contains(" table=large ")).unwrap();
    assert!(large().ends_with(" result=long than=1ms"), "{:?}", record());
    let before = record().len();
    run("1ms").says("takes longer than --check-time: a.large");
    assert!(
        large().ends_with(" result=long than=1ms") && record().len() > before,
        "{:?}",
        record()
    );
    run("10m").says("checked ");
    assert!(record().iter().all(|line| line.ends_with(" result=right")), "{:?}", record());
    assert!(record().len() > 20, "{:?}", record());
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

/// All that a first backup is compared in, of every kind of object.
const KINDS: &str = "\
    CREATE TABLE shop.parent (id INT PRIMARY KEY, `odd ``name` VARCHAR(20) DEFAULT 'a''b(c)'); \
    CREATE TABLE shop.child (id INT PRIMARY KEY AUTO_INCREMENT, p INT, e ENUM('x','y (z)') \
        DEFAULT 'x', d DECIMAL(10,2) NOT NULL DEFAULT 1.50, t TIMESTAMP NOT NULL DEFAULT \
        CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, g INT AS (p + 1) PERSISTENT, \
        v INT AS (p * 2) VIRTUAL, j JSON, f FLOAT, pt POINT NOT NULL, txt TEXT, \
        CONSTRAINT fk FOREIGN KEY (p) REFERENCES shop.parent (id) ON DELETE RESTRICT, \
        CONSTRAINT chk CHECK (d > 0 AND (f <> 3 OR d < 9.5)), KEY (e, d), SPATIAL KEY (pt), \
        FULLTEXT KEY ft (txt)) COMMENT = 'it''s' DEFAULT CHARSET latin1; \
    CREATE TABLE shop.parts (id INT, y INT, PRIMARY KEY (id, y)) ROW_FORMAT = COMPRESSED \
        PARTITION BY RANGE (y) (PARTITION old VALUES LESS THAN (2020) COMMENT = 'c', \
        PARTITION new VALUES LESS THAN MAXVALUE); \
    CREATE TABLE shop.isam (id INT PRIMARY KEY, n INT) ENGINE = MyISAM; \
    CREATE TABLE shop.memory (id INT PRIMARY KEY) ENGINE = MEMORY MAX_ROWS = 100; \
    CREATE VIEW shop.seen AS SELECT c.id, COUNT(*) AS n FROM shop.child c LEFT JOIN shop.parent p \
        ON ((c.p = p.id) AND (p.id > 3)) WHERE c.txt LIKE 'a%' GROUP BY c.id HAVING COUNT(*) > 1; \
    CREATE TRIGGER shop.trig BEFORE INSERT ON shop.child FOR EACH ROW SET NEW.p = NEW.p + 1; \
    CREATE FUNCTION shop.func (a INT, b VARCHAR(9)) RETURNS INT DETERMINISTIC COMMENT 'f' \
        RETURN a /* kept */ + LENGTH(b); \
    CREATE PROCEDURE shop.proc (IN a INT, OUT b INT) SELECT a INTO b; \
    CREATE EVENT shop.evt ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.isam; \
    CREATE USER 'reader'@'%' IDENTIFIED BY 'secret-word'; GRANT SELECT ON shop.* TO 'reader'@'%'; \
    GRANT UPDATE (n) ON shop.isam TO 'reader'@'%'; GRANT EXECUTE ON FUNCTION shop.func TO \
    'reader'@'%'; CREATE ROLE auditor; GRANT auditor TO 'reader'@'%'";

#[test]
fn what_a_first_backup_lacks_is_named() {
    need_server!();
    let scene = Scene::new("kinds");
    scene.primary.fill("shop", 1, 100);
    // Several at once, MySQL would take the semicolon for a part of a trigger, and dump it so.
    KINDS.split("; ").for_each(|statement| drop(scene.primary.sql(statement)));
    if !flavor::is_mysql() {
        scene.primary.sql(
            "CREATE SEQUENCE shop.seq START 5 INCREMENT 3; SELECT NEXTVAL(shop.seq); \
             CREATE TABLE shop.hist (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; \
             CREATE TABLE shop.aria (id INT PRIMARY KEY) ENGINE = Aria",
        );
    }
    let writer = Writer::start(&scene.primary, "shop");
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended =
        seed.run_to_end(COMMAND_PATIENCE).expect(0).says("compared definitions and accounts");
    assert!(!ended.stderr.contains("not compared"), "{ended}");
    writer.stop();
    let record = on_record(&scene, "definitions");
    assert!(record.len() == 1 && record[0].contains(" result=right"), "{record:?}");

    // Behind the back of its binary log, while the dump is on its way.
    let mut running = seed.spawn();
    running.wait_for_log("dumped and loaded", COMMAND_PATIENCE);
    // What the binary log has is no difference, whenever it is read.
    let writer = Writer::start_with(&scene.primary, "shop", Duration::from_millis(5), true);
    scene.primary.sql(
        "SET SESSION sql_log_bin = 0; ALTER TABLE shop.child MODIFY txt MEDIUMTEXT; \
         CREATE INDEX more ON shop.parent (id); ALTER TABLE shop.isam ENGINE = InnoDB; \
         ALTER TABLE shop.t0 COMMENT = 'changed'; ALTER TABLE shop.parts DROP PARTITION old; \
         CREATE TABLE shop.extra (id INT PRIMARY KEY); \
         ALTER VIEW shop.seen AS SELECT id FROM shop.child; DROP TRIGGER shop.trig; \
         CREATE TRIGGER shop.trig BEFORE INSERT ON shop.child FOR EACH ROW SET NEW.p = NEW.p + 2; \
         DROP PROCEDURE shop.proc; ALTER EVENT shop.evt COMMENT 'changed'; \
         ALTER DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
         ALTER USER 'reader'@'%' IDENTIFIED BY 'other-word'; GRANT DELETE ON shop.* TO auditor; \
         CREATE USER late; SET SESSION sql_log_bin = 1",
    );
    let mut names = vec![
        "table shop.child: column txt differs",
        "table shop.parent: index more differs",
        "table shop.isam: differs",
        "table shop.t0: differs",
        "table shop.parts: partition new, old differs",
        "table shop.extra: is missing in the backup",
        "view shop.seen: differs",
        "trigger shop.trig: differs",
        "routine shop.proc: is not on the primary",
        "event shop.evt: differs",
        "schema shop: differs",
        "account reader@%: ",
        "account auditor@",
        "account late@%: ",
    ];
    if !flavor::is_mysql() {
        scene.primary.sql("SET SESSION sql_log_bin = 0; SELECT SETVAL(shop.seq, 50000); SET SESSION sql_log_bin = 1");
        names.push("sequence shop.seq: differs");
    }
    let ended = running.finish(COMMAND_PATIENCE).expect(3);
    writer.stop();
    let found = ended.stderr.matches("warning: unequal: not as on the primary").count();
    assert_eq!(found, names.len(), "{ended}");
    for name in names {
        assert!(
            ended.stderr.contains(&format!("unequal: not as on the primary: {name}")),
            "{name}: {ended}"
        );
    }
    assert_eq!(scene.checkpoint().get("cause"), Some("unequal"));
    for secret in ["secret-word", "other-word", "caching_sha2", "SET NEW"] {
        assert!(!ended.stderr.contains(secret), "{ended}");
    }
    // An account that sees nothing can compare nothing, and says so.
    let ended = scene.run().expect(0).says("not compared with the primary");
    ended.says("schema, table, column");
}

/// Each type that rows are compared by, and keys of all kinds.
const TYPES: &str = "\
    CREATE TABLE shop.types (a TINYINT, b SMALLINT UNSIGNED, c BIGINT UNSIGNED PRIMARY KEY, \
        d DECIMAL(30,10), e FLOAT, f DOUBLE, g BIT(17), h ENUM('x','y'), i SET('p','q'), \
        j CHAR(9) CHARACTER SET latin1 COLLATE latin1_german1_ci, k VARCHAR(99) CHARACTER SET ucs2, \
        l TEXT, m LONGBLOB, n VARBINARY(9), o DATE, p DATETIME(6), q TIMESTAMP(3) NULL, r TIME(2), \
        s YEAR, t JSON, u POINT, v INT AS (a + 1) PERSISTENT, w INT AS (a + 2) VIRTUAL) \
        DEFAULT CHARSET utf8mb4; \
    INSERT INTO shop.types (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u) VALUES \
        (-1, 65535, 18446744073709551615, -12345678901234567890.0123456789, 0.25, \
         1e-300, b'10000000000000001', 'y', 'p,q', 'a  ', 'xyz', 'text', REPEAT('ab', 3000000), \
         'b', '2026-01-01', '2026-01-01 01:02:03.000001', '2026-07-01 01:02:03.004', '-12:00:00.5', \
         2026, '{\"b\": 1.5, \"a\": [null, \"x\"]}', POINT(1.1, -2)), \
        (NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
         NULL, NULL, NULL, NULL, NULL), \
        (1, 0, 7, 0, 0.5, 0.1, b'0', 'x', '', '', '', '', '', '', '2000-02-29', \
         '1999-12-31 23:59:59', NULL, '838:59:59', 1901, 'null', NULL); \
    CREATE TABLE shop.wide (id INT PRIMARY KEY, x DOUBLE, t VARCHAR(200), KEY (t)); \
    INSERT INTO shop.wide SELECT id * 3, SQRT(id), text FROM shop.t0; \
    CREATE TABLE shop.pair (b VARBINARY(20), s VARCHAR(20) COLLATE utf8mb4_unicode_ci, n INT, \
        d DATE, v CHAR(1) COLLATE utf8mb4_general_ci, PRIMARY KEY (s, b, d, n)) \
        DEFAULT CHARSET utf8mb4; \
    INSERT INTO shop.pair SELECT LEFT(SHA2(id, 224), 9), CONCAT('é''\\\\', id % 50), id, '2026-01-01', 'a' \
        FROM shop.t0; \
    CREATE TABLE shop.nokey (a INT, b VARCHAR(20), f FLOAT); \
    INSERT INTO shop.nokey SELECT id % 5, 'same', 0.3 FROM shop.t0 WHERE id < 300; \
    CREATE TABLE shop.isam (id INT PRIMARY KEY) ENGINE = MyISAM; \
    CREATE TABLE shop.empty (f FLOAT PRIMARY KEY, u INT NOT NULL UNIQUE)";

#[test]
fn rows_changed_behind_the_binary_log_are_found_by_key() {
    need_server!();
    let scene = Scene::new("rows");
    scene.primary.fill("shop", 1, 5000);
    scene.primary.sql(TYPES);
    let or_mysql = |text: &str| if flavor::is_mysql() { String::new() } else { text.to_string() };
    let history = "CREATE TABLE shop.hist (id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING; ";
    if !flavor::is_mysql() {
        scene.primary.sql(history);
    }
    scene.seed();
    let run = scene.command("run").arg("--compare-time=2m");
    let refused = run.run_to_end(COMMAND_PATIENCE).expect(2).says("--compare-time needs SELECT");
    refused.says("GRANT SELECT ON *.* TO `rf_nightly`");
    scene.primary.sql("GRANT SELECT ON *.* TO rf_nightly");
    scene.primary.sql(&format!(
        "{}DELETE FROM shop.pair WHERE n % 7 = 0; UPDATE shop.types SET e = e / 3, q = NOW(3)",
        or_mysql("INSERT INTO shop.hist VALUES (1, 1); UPDATE shop.hist SET x = 2; ")
    ));
    let writer = Writer::start_with(&scene.primary, "shop", Duration::from_millis(3), true);
    for _ in 0..2 {
        let ended = run.run_to_end(COMMAND_PATIENCE).expect(0).says("compared with the primary: ");
        println!("{}", ended.stderr);
        assert!(turn(&scene, "compare-turn", "types").ends_with(" result=right"), "{ended}");
        fs::remove_dir_all(&scene.scratch).unwrap();
    }
    scene.primary.sql(
        "SET SESSION sql_log_bin = 0; UPDATE shop.wide SET x = x + 1e-13 WHERE id IN (9000, 9030); \
         UPDATE shop.pair SET v = 'A' WHERE n = 3333; DELETE FROM shop.pair WHERE n = 3334; \
         UPDATE shop.types SET m = CONCAT(LEFT(m, 5999999), 'x') WHERE c > 7; \
         INSERT INTO shop.nokey VALUES (1, 'same', 0.3); INSERT INTO shop.empty VALUES (0.5, 1)",
    );
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(3);
    writer.stop();
    let found: Vec<&str> = ended
        .stderr
        .lines()
        .filter_map(|l| l.split_once("warning: unequal: "))
        .map(|l| l.1)
        .collect();
    let expected = [
        "table shop.empty differs from the primary: 1 row (1 missing here, 0 not on the primary) differ, key 1",
        "table shop.nokey differs from the primary: its rows differ (300 on the primary, 299 here); it has no key",
        "table shop.pair differs from the primary: 2 rows (0 missing here, 1 not on the primary) differ, keys ('é''\\33', 0x",
        "table shop.types differs from the primary: 1 row differ, key 18446744073709551615",
        "table shop.wide differs from the primary: 2 rows differ, keys 9000 to 9030",
    ];
    assert_eq!(found.len(), expected.len() + 1, "{ended}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&expected.replace("''", "'")), "{found}: {ended}");
    }
    assert!(turn(&scene, "compare-turn", "wide").contains(" result=wrong what="), "{ended}");
    // Its turn comes again, and until then it is not forgotten.
    let ended =
        scene.command("run").arg("--compare-time=1ms").run_to_end(COMMAND_PATIENCE).expect(3);
    ended.says("shop.wide differs from the primary on ").says("was not compared since");
}

/// MariaDB does not say where a snapshot is if it may not read the log up to there.
#[test]
fn an_event_beyond_max_allowed_packet_hides_no_snapshot() {
    need_server!();
    let scene = Scene::seeded("packet");
    scene.primary.sql("GRANT SELECT ON *.* TO rf_nightly; SET GLOBAL max_allowed_packet = 1048576");
    // The event has both images of the row.
    scene.primary.sql(
        "SET SESSION binlog_format = 'ROW'; CREATE TABLE shop.large (id INT PRIMARY KEY, x LONGTEXT); \
         INSERT INTO shop.large VALUES (1, REPEAT('a', 700000)); UPDATE shop.large SET x = REPEAT('b', 700000)",
    );
    let run = scene.command("run").arg("--compare-time=1m");
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(0);
    ended.says("compared with the primary: 3 tables of 3 equal");
}

/// A table that somebody holds on the primary, and a line on which nothing comes any more.
#[test]
fn a_slow_primary_costs_a_comparison_its_time_only() {
    need_server!();
    let scene = Scene::seeded("slow");
    scene.primary.sql("GRANT SELECT ON *.* TO rf_nightly");
    let mut session = scene.primary.open().unwrap();
    query(&mut session, "LOCK TABLES shop.t0 WRITE").unwrap();
    let run = |time: &str| scene.command("run").arg(format!("--compare-time={time}"));
    let ended = run("1m").run_to_end(COMMAND_PATIENCE).expect(0);
    let ended = ended.says("compared with the primary: 1 table of 2 equal, in ");
    ended.says("not compared: shop.t0: the primary answers with error 1205");
    query(&mut session, "UNLOCK TABLES").unwrap();
    let proxy = Proxy::start(&scene.primary);
    let run = run("2s").args(["--connect-timeout=2s", "--primary", &proxy.address()]);
    let mut pass = run.spawn();
    pass.wait_for_log("caught up", COMMAND_PATIENCE);
    proxy.swallow();
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("compared with the primary: ");
    assert!(!ended.stderr.contains("unequal"), "{ended}");
    assert!(ended.wall < COMMAND_PATIENCE / 4, "{ended}");
}

#[test]
fn a_table_that_lacks_files_is_not_called_damaged() {
    need_server!();
    let scene = Scene::seeded("files");
    let run = |limit| {
        let pass = scene.command("run").arg("--check-time=1m").under(limits::open_files(limit));
        pass.run_to_end(COMMAND_PATIENCE).expect(0)
    };
    // Ours goes up to the other limit by itself.
    let ended = run("64:4096");
    assert!(!ended.stderr.contains("could not be checked"), "{ended}");
    if !flavor::is_mysql() {
        // MySQL's needs fewer than it can start with.
        run("64:64").says(" could not be checked, such as ").says("oo many open files");
        // Nor is it proven.
        let prove = scene.command("prove").under(limits::open_files("64:64"));
        let ended =
            prove.run_to_end(COMMAND_PATIENCE).expect(1).says("let mysqld open the files of ");
        ended.says("raise the limit of open files");
        let list = scene.command("list").arg("--json").run_to_end(COMMAND_PATIENCE).expect(0);
        assert_eq!(list.stdout.matches("\"proven\": null").count(), 3, "{list}");
    }
}
