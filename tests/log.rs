//! `log`: which transactions the journals hold, without a value; and the command that undoes the last one.

mod forged;
mod meanwhile;

use std::path::Path;
use std::process::Command;

use crate::follow::{parts, start, wait_for_end};
use crate::support::repository::Json;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Rollforward, Scene, Server, flavor, is_root};
use crate::until::gtids;

/// A part of every value and password.
const SECRET: &str = "s3cret";

/// `log` with these arguments, which must end 0 and say no value.
#[track_caller]
fn log(scene: &Scene, args: &[&str]) -> Outcome {
    let ended = scene.command("log").args(args).run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(!ended.stdout.contains(SECRET) && !ended.stderr.contains(SECRET), "{ended}");
    ended
}

/// What it did, of a transaction's line.
fn what(line: &str) -> &str {
    line.splitn(3, "  ").nth(2).unwrap()
}

fn objects(ended: &Outcome) -> Vec<Json> {
    ended.stdout.lines().map(Json::parse).collect()
}

/// Statements, and what the last transaction of each is shown as.
type Load = Vec<(String, &'static str)>;

/// Columns of every kind, and a value for each.
fn kinds() -> (Vec<&'static str>, Vec<&'static str>) {
    let mut columns = vec![
        ("a TINYINT", "1"),
        ("b SMALLINT", "2"),
        ("c MEDIUMINT", "3"),
        ("d BIGINT", "4"),
        ("e FLOAT", "5.5"),
        ("f DOUBLE", "6.5"),
        ("g DECIMAL(20,7)", "1234567.7654321"),
        ("h DECIMAL(3,0)", "123"),
        ("i BIT(13)", "b'1010101010101'"),
        ("j DATE", "'2026-11-28'"),
        ("k TIME(3)", "'10:13:59.123'"),
        ("l DATETIME", "'2026-11-28 10:13:59'"),
        ("m DATETIME(6)", "'2026-11-28 10:13:59.123456'"),
        ("n TIMESTAMP(2) NULL", "'2026-11-28 10:13:59.12'"),
        ("o YEAR", "2026"),
        ("p CHAR(20) CHARACTER SET utf8mb4", "'s3cret'"),
        ("q CHAR(255) CHARACTER SET utf8mb4", "REPEAT('s3cret', 30)"),
        ("r VARCHAR(60) CHARACTER SET latin1", "'s3cret'"),
        ("s VARCHAR(3000)", "REPEAT('s3cret', 100)"),
        ("t BINARY(5)", "'s3cr'"),
        ("u VARBINARY(300)", "'s3cret'"),
        ("v TINYBLOB", "'s3cret'"),
        ("w TEXT", "REPEAT('s3cret', 9000)"),
        ("x MEDIUMBLOB", "'s3cret'"),
        ("y LONGTEXT", "REPEAT('s3cret', 50000)"),
        ("z ENUM('s3cret','b')", "'b'"),
        ("aa SET('s3cret','b','c')", "'s3cret,c'"),
        ("bb JSON", "'{\"s3cret\": [1, 2, 3]}'"),
        ("cc POINT", "ST_GeomFromText('POINT(1 2)')"),
        ("dd INT GENERATED ALWAYS AS (a + 1) VIRTUAL", "DEFAULT"),
        ("ee INT", "NULL"),
    ];
    match flavor::is_mysql() {
        true => columns.extend([
            ("ff VECTOR(3)", "STRING_TO_VECTOR('[1,2,3]')"),
            ("gg JSON", "'[1, 2, 3]'"),
            ("KEY ((CAST(gg AS UNSIGNED ARRAY)))", ""),
            ("KEY ((a + b))", ""),
        ]),
        false => columns.extend([
            ("ff INET6", "'::1'"),
            ("gg UUID", "'123e4567-e89b-12d3-a456-426655440000'"),
            ("hh VARCHAR(2000) COMPRESSED", "REPEAT('s3cret', 200)"),
            ("ii MEDIUMTEXT COMPRESSED", "REPEAT('s3cret', 200)"),
        ]),
    }
    columns.into_iter().unzip()
}

fn load() -> Load {
    let (columns, values) = kinds();
    let values: Vec<&str> = values.into_iter().filter(|value| !value.is_empty()).collect();
    let values = values.join(", ");
    let mut load: Load = vec![
        ("CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(99) DEFAULT 's3cret')".into(),
            "CREATE TABLE shop.orders"),
        ("INSERT INTO shop.orders VALUES (1, 's3cret'), (2, 's3cret'), (3, NULL)".into(),
            "shop.orders 3"),
        ("UPDATE shop.orders SET note = 's3cret-2' WHERE id < 3".into(), "shop.orders 2"),
        ("BEGIN; DELETE FROM shop.orders WHERE id = 3; UPDATE shop.t0 SET n = 7 WHERE id <= 5; \
            INSERT INTO shop.orders VALUES (4, 's3cret'); COMMIT".into(),
            "shop.orders 2, shop.t0 5"),
        (format!("CREATE TABLE shop.kinds (id INT PRIMARY KEY AUTO_INCREMENT, {})", columns.join(", ")),
            "CREATE TABLE shop.kinds"),
        (format!("INSERT INTO shop.kinds VALUES (NULL, {values}), (NULL, {values})"), "shop.kinds 2"),
        ("UPDATE shop.kinds SET a = a + 1, ee = 4, y = 's3cret'".into(), "shop.kinds 2"),
        ("SET SESSION binlog_row_image = 'MINIMAL'; UPDATE shop.kinds SET w = 's3cret'; \
            SET SESSION binlog_row_image = DEFAULT".into(), "shop.kinds 2"),
        (
            flavor::either(
                "UPDATE shop.kinds SET bb = '[7]'",
                "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'; UPDATE shop.kinds SET \
                 bb = JSON_SET(bb, '$.s3cret[1]', 7), gg = JSON_SET(gg, '$[0]', 8)",
            )
            .into(),
            "shop.kinds 2",
        ),
        ("DELETE FROM shop.kinds".into(), "shop.kinds 2"),
        ("CREATE TABLE shop.copy AS SELECT * FROM shop.orders".into(), flavor::either(
            "CREATE TABLE shop.copy; shop.copy 3", "CREATE TABLE shop.copy; shop.copy 3")),
        ("CREATE TABLE shop.`it``s odd, 表` (id INT PRIMARY KEY)".into(),
            "CREATE TABLE shop.`it``s odd, 表`"),
        ("INSERT INTO shop.`it``s odd, 表` VALUES (1)".into(), "shop.`it``s odd, 表` 1"),
        ("CREATE USER 'bob'@'%' IDENTIFIED BY 's3cret'".into(), "CREATE USER bob@%"),
        ("ALTER USER 'bob'@'%' IDENTIFIED BY 's3cret-2'".into(), "ALTER USER bob@%"),
        ("GRANT SELECT ON shop.* TO bob".into(), "GRANT"),
        (flavor::either(
                "SET PASSWORD FOR bob = PASSWORD('s3cret-3')",
                "SET PASSWORD FOR bob = 's3cret-3'",
            )
            .into(), flavor::either("SET PASSWORD", "ALTER USER bob@%")),
        ("ALTER TABLE shop.orders ADD c VARCHAR(20) DEFAULT 's3cret'".into(), "ALTER TABLE shop.orders"),
        ("CREATE VIEW shop.v AS SELECT 's3cret' AS c".into(), "CREATE VIEW shop.v"),
        ("CREATE TRIGGER shop.tr BEFORE INSERT ON shop.orders FOR EACH ROW SET NEW.note = 's3cret'"
            .into(), "CREATE TRIGGER shop.tr ON shop.orders"),
        ("DROP TRIGGER shop.tr".into(), "DROP TRIGGER shop.tr"),
        ("CREATE INDEX ix ON shop.orders (note)".into(), "CREATE INDEX ix ON shop.orders"),
        ("SET SESSION binlog_format = 'STATEMENT'; UPDATE shop.orders SET note = 's3cret'; \
            SET SESSION binlog_format = DEFAULT".into(), "shop.orders ?"),
        ("SET SESSION binlog_format = 'MIXED'; INSERT INTO shop.orders VALUES (9, UUID(), 's3cret'); \
            INSERT INTO shop.orders VALUES (10, 's3cret', 's3cret'); \
            SET SESSION binlog_format = DEFAULT".into(), "shop.orders ?"),
    ];
    // What comes from now on is compressed.
    let on = flavor::either(
        "SET GLOBAL log_bin_compress = ON; SET GLOBAL log_bin_compress_min_len = 10",
        "SET SESSION binlog_transaction_compression = ON",
    );
    load.extend([
        (format!("{on}; INSERT INTO shop.t1 (n, text) SELECT n, CONCAT('s3cret', text) FROM shop.t0 \
            LIMIT 1500"), "shop.t1 1500"),
        ("UPDATE shop.t1 SET n = n + 1".into(), "shop.t1 3500"),
        ("CREATE TABLE shop.late (id INT PRIMARY KEY, c VARCHAR(200) DEFAULT 's3cret, a long one')"
            .into(), "CREATE TABLE shop.late"),
        ("USE shop; RENAME TABLE late TO later".into(), "RENAME TABLE shop.late TO shop.later"),
        ("TRUNCATE TABLE later".into(), "TRUNCATE TABLE shop.later"),
        ("DROP TABLE later, copy".into(), "DROP TABLE shop.later, shop.copy"),
        ("CREATE DATABASE other; CREATE TABLE other.x (id INT PRIMARY KEY); DROP DATABASE other".into(),
            "DROP DATABASE other"),
    ]);
    load
}

#[test]
fn what_happened_is_listed_and_no_value() {
    need_server!();
    // MariaDB's default is MIXED, with which hardly anything is logged by rows.
    let by_rows: &[&str] = if flavor::is_mysql() { &[] } else { &["--binlog-format=ROW"] };
    let scene = Scene::seeded_with("listed", by_rows);
    let mut expected = Vec::new();
    for (number, (statement, shown)) in load().into_iter().enumerate() {
        scene.primary.sql(&statement);
        expected.push((gtids(&scene.primary).pop().unwrap(), shown, statement));
        if number == 12 {
            scene.run().expect(0);
        }
    }
    scene.run().expect(0);
    let ended = log(&scene, &["-v"]);
    for (gtid, shown, statement) in &expected {
        let line = ended.stdout.lines().find(|line| line.contains(&format!("  {gtid}  ")));
        let line = line.unwrap_or_else(|| panic!("no {gtid}: {statement} in {ended}"));
        // A server may add to what it logs.
        let says = what(line).replace(" IF EXISTS", "");
        assert_eq!(says, *shown, "{statement}");
    }
    // All of them in order and once, as the primary has them.
    let all = gtids(&scene.primary);
    let first = all.iter().position(|gtid| ended.stdout.contains(&format!("  {gtid}  "))).unwrap();
    let json = log(&scene, &["--json"]);
    let objects = objects(&json);
    let shown: Vec<&str> = objects.iter().map(|object| object.get("gtid").str()).collect();
    assert_eq!(shown, all[first..].iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ended.stdout.lines().count(), shown.len());
    let rows = objects.iter().find(|object| {
        *object.get("tables")
            == Json::Object([("shop.t1".to_string(), Json::Number("1500".into()))].into())
    });
    let rows = rows.unwrap_or_else(|| panic!("{json}"));
    assert_eq!(*rows.get("ddl"), Json::Null);
    let Json::Number(bytes) = rows.get("bytes") else { panic!("{rows:?}") };
    assert!(bytes.parse::<u64>().unwrap() > 1000, "{rows:?}");
    let drop = objects.iter().find(|o| *o.get("ddl") == Json::Text("DROP DATABASE other".into()));
    assert_eq!(*drop.unwrap().get("tables"), Json::Object([].into()));
    // One table, and what is done to all of its database.
    let of = |args: &[&str]| -> Vec<String> {
        log(&scene, args).stdout.lines().map(|line| what(line).to_string()).collect()
    };
    let copy = of(&["--table", "shop.copy"]);
    assert_eq!(copy.len(), 2, "{copy:?}");
    assert!(copy[1].starts_with("DROP TABLE "), "{copy:?}");
    let other = of(&["--table=other.x"]);
    assert_eq!(other, ["CREATE DATABASE other", "CREATE TABLE other.x", "DROP DATABASE other"]);
    assert_eq!(of(&["--table", "shop.it`s odd, 表"]).len(), 2);
    assert_eq!(of(&["--table", "shop.none"]), [""; 0]);
    let ddl = of(&["--ddl"]);
    assert!(ddl.iter().all(|what| what.chars().next().unwrap().is_uppercase()), "{ddl:?}");
    let later = log(&scene, &["--table=shop.late", "--ddl", "--json"]);
    assert_eq!(later.stdout.lines().count(), 2, "{later}");
}

#[test]
fn the_last_line_restores_what_was_dropped() {
    need_server!();
    let scene = Scene::seeded("undone");
    let primary = &scene.primary;
    primary.sql("UPDATE shop.t0 SET n = 4711");
    primary.sql("USE shop; DROP TABLE IF EXISTS t0, t9");
    let dropped = gtids(primary).pop().unwrap();
    primary.sql("CREATE TABLE shop.t9 (id INT PRIMARY KEY)");
    scene.run().expect(0);
    // A repository whose path has to be quoted.
    let odd = scene.path("it's $here");
    std::os::unix::fs::symlink(&scene.repo, &odd).unwrap();
    let ended = Rollforward::new(["log", "--table", "shop.t0", "--ddl", "--repo"]).arg(&odd);
    // As root the owner of the directory is who runs the server; here that is root.
    let user = is_root().then_some("--mysqld-user=root");
    let ended = ended.args(scene.mysqld()).args(user);
    let ended = ended.run_to_end(COMMAND_PATIENCE).expect(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [drop, command] = lines.as_slice() else { panic!("{ended}") };
    assert_eq!(what(drop), "DROP TABLE IF EXISTS shop.t0, shop.t9");
    // On a terminal, where the log comes in between, too.
    let both = format!(
        "exec '{}' log --table shop.t0 --ddl --repo '{}' 2>&1",
        env!("CARGO_BIN_EXE_rollforward"),
        scene.repo.display()
    );
    let both = Command::new("sh").args(["-c", &both]).output().unwrap();
    let both = String::from_utf8(both.stdout).unwrap();
    assert!(both.lines().last().unwrap().starts_with("rollforward restore "), "{both}");
    let until = format!(" --to /var/lib/mysql-restored --until before:{dropped}");
    assert!(command.starts_with("rollforward restore --repo '") && command.contains(&until));
    let to = scene.path("undone");
    let command = command.replace("/var/lib/mysql-restored", to.to_str().unwrap());
    let mut shell = Command::new("sh");
    flavor::path_for(&mut shell);
    let bin = Path::new(env!("CARGO_BIN_EXE_rollforward")).parent().unwrap();
    let path = shell.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value);
    let path = path.map_or_else(|| std::env::var_os("PATH").unwrap(), |path| path.to_os_string());
    let all = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    shell.env("PATH", std::env::join_paths(all).unwrap());
    let ran = shell.args(["-c", &command]).output().unwrap();
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    let restored = Server::start_on(&to);
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0 WHERE n = 4711"), "2000");
}

#[test]
fn ranges_are_those_of_a_restore() {
    need_server!();
    let scene = Scene::seeded("ranges");
    let primary = &scene.primary;
    for number in 0..4 {
        primary.sql(&format!("CREATE DATABASE d{number}"));
    }
    let all = gtids(primary);
    let [.., a, b, c, d] = all.as_slice() else { panic!("{all:?}") };
    scene.run().expect(0);
    let shown = |args: &[&str]| -> Vec<String> {
        let ended = log(&scene, args);
        ended.stdout.lines().map(|l| l.split("  ").nth(1).unwrap().to_string()).collect()
    };
    assert_eq!(shown(&["--until", c]).last(), Some(c));
    assert_eq!(shown(&["--until", &format!("before:{c}")]).last(), Some(b));
    assert_eq!(shown(&["--since=1h"]).last(), Some(d));
    assert_eq!(shown(&["--since=1999-12-31T23:59:59Z", "--until", a]).last(), Some(a));
    // Up to the time of one: what is of that time is in, as in a restore.
    let time = log(&scene, &["--until", b]).stdout;
    let time = time.lines().last().unwrap().split("  ").next().unwrap().to_string();
    let until = shown(&["--until", &time, "--since", &time]);
    assert!(until.contains(b) && (!flavor::is_mysql() || until == [b.clone()]), "{until:?}");
    // What no journal has.
    let unknown = flavor::either("0-1-99999999", "3e11fa47-71ca-11e1-9e33-c80aa9429562:7");
    let foreign = flavor::either("3e11fa47-71ca-11e1-9e33-c80aa9429562:7", "0-1-7");
    for (args, status, says) in [
        (vec!["--since=2099-12-31T23:59:59Z"], 1, "no journal has anything since 2099"),
        (vec!["--until=1999-12-31T23:59:59Z"], 1, "no journal has anything until 1999"),
        (vec!["--until", unknown], 1, "no journal has "),
        (vec!["--until", foreign], 2, "is a GTID of"),
        (vec!["--until=yesterday"], 2, "malformed moment"),
        (vec!["--since=yesterday"], 2, "--since: 'yesterday' is neither"),
        (vec!["--since", unknown], 2, "is neither"),
        (vec!["--table=orders"], 2, "is not DB.TABLE"),
        (vec!["--table="], 2, "needs a value"),
    ] {
        let ended = scene.command("log").args(args).run_to_end(COMMAND_PATIENCE).expect(status);
        let ended = ended.says(says);
        assert_eq!((ended.log().len(), ended.stdout.as_str()), (1, ""), "{ended}");
        if status == 1 {
            ended.says("error: out-of-reach: ").says("there are journals from ");
        }
    }
    // A gap is said, and what is behind it is there.
    primary.sql("CREATE DATABASE gap");
    scene.command("run").arg("--no-journal").run_to_end(COMMAND_PATIENCE).expect(0);
    primary.sql("CREATE DATABASE behind");
    scene.run().expect(0);
    let ended = log(&scene, &[]).says("warning: no journal from ").says("--no-journal");
    assert!(ended.stdout.contains("CREATE DATABASE d3"), "{ended}");
    assert!(ended.stdout.contains("CREATE DATABASE behind"), "{ended}");
    assert!(!ended.stdout.contains("CREATE DATABASE gap"), "{ended}");
    // A damaged journal: all others, and one line.
    let first = scene.backups().remove(1);
    crate::support::repository::edit_manifest(&scene.repo, &first, |lines| {
        let at = lines.iter().position(|l| l.starts_with("journal ")).unwrap();
        let block = lines[at..].iter().position(|l| l.starts_with("block ")).unwrap();
        let mut words: Vec<String> = lines[at + block].split(' ').map(String::from).collect();
        words[1] = "ab".repeat(32);
        lines[at + block] = words.join(" ");
    });
    let ended = scene.command("log").args(["-q", "--until", &gtids(primary).pop().unwrap()]);
    let ended = ended.run_to_end(COMMAND_PATIENCE).expect(1).says("error: backup-damaged: ");
    assert!(ended.stderr.contains(&first), "{ended}");
    assert!(ended.stdout.contains("CREATE DATABASE behind"), "{ended}");
}

#[test]
fn a_repository_without_journals_says_so() {
    need_server!();
    let scene = Scene::seeded("none");
    let ended = scene.command("log").run_to_end(COMMAND_PATIENCE).expect(1);
    ended.says("error: out-of-reach: ").says("there is no journal yet");
}

/// What a follower has received is listed like what passes have.
#[test]
fn what_a_follower_received_is_listed() {
    need_server!();
    let scene = Scene::seeded("received");
    let before = gtids(&scene.primary).len();
    scene.primary.sql("CREATE DATABASE of_a_pass");
    scene.run().expect(0);
    let run = start(&scene);
    for number in 0..3 {
        scene.primary.sql(&format!("CREATE DATABASE part{number}"));
        wait_for_end(&scene, &scene.primary.gtid_pos());
    }
    assert!(parts(&scene).len() >= 2, "{:?}", parts(&scene));
    let listed = |args: &[&str]| -> Vec<String> {
        let list = log(&scene, args).stdout;
        list.lines().map(|line| line.split("  ").nth(1).unwrap().to_string()).collect()
    };
    let all = gtids(&scene.primary).split_off(before);
    assert_eq!(listed(&[]), all);
    assert_eq!(listed(&["--until", &all[2]]), all[..3]);
    assert_eq!(listed(&["--until", &format!("before:{}", all[2])]), all[..2]);
    run.kill(libc::SIGTERM);
    run.finish(COMMAND_PATIENCE).expect(128 + libc::SIGTERM);
    // The next pass has the same in its journal, and nothing is listed twice.
    scene.run().expect(0);
    assert_eq!(listed(&[]), all);
}
