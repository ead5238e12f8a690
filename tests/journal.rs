//! The journal of a pass: complete from the base to the stored position through whatever happens, or
//! absent with a reason.

use std::path::Path;

use crate::support::repository::manifest;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Primary, Scene, flavor};

/// One of everything that makes a log interesting, each part a session's worth of statements.
pub(crate) fn load(primary: &Primary, number: u32) {
    let domain = |n: u32| match n {
        0 => flavor::either("gtid_domain_id = 0", "gtid_next = 'AUTOMATIC'").to_string(),
        _ if flavor::is_mysql() => format!("gtid_next = 'AUTOMATIC:d{n}'"),
        _ => format!("gtid_domain_id = {n}"),
    };
    let statement = format!(
        "SET SESSION binlog_format = 'STATEMENT'; \
         CREATE TEMPORARY TABLE shop.x{number} (id INT PRIMARY KEY) ENGINE=InnoDB"
    );
    // MySQL lets no transaction write to tables of both kinds.
    let both = flavor::either(format!("REPLACE INTO shop.my{number} VALUES (3)"), "DO 1".into());
    let more = [
        format!(
            "CREATE TABLE shop.j{number} (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB) ENGINE=InnoDB"
        ),
        format!("INSERT INTO shop.j{number} (b) VALUES (REPEAT('a', 3000000)), (NULL)"),
        format!("SET @v = 7; INSERT INTO shop.j{number} (id, b) VALUES (100 + @v, RAND())"),
        format!("CREATE TABLE shop.copy{number} AS SELECT id FROM shop.t0 WHERE id < 50"),
        format!("CREATE TABLE shop.my{number} (id INT PRIMARY KEY) ENGINE=MyISAM"),
        format!("INSERT INTO shop.my{number} VALUES (1), (2)"),
        format!(
            "BEGIN; INSERT INTO shop.j{number} (b) VALUES ('x'); SAVEPOINT a; \
                 DELETE FROM shop.j{number}; ROLLBACK TO a; {both}; COMMIT"
        ),
        format!("BEGIN; {both}; INSERT INTO shop.j{number} (b) VALUES ('rolled back'); ROLLBACK"),
        format!(
            "XA START 'x{number}'; INSERT INTO shop.j{number} (b) VALUES ('xa'); XA END 'x{number}'; \
                 XA PREPARE 'x{number}'; XA COMMIT 'x{number}'"
        ),
        format!(
            "XA START 'y{number}'; INSERT INTO shop.j{number} (b) VALUES ('gone'); XA END 'y{number}'; \
                 XA PREPARE 'y{number}'; XA ROLLBACK 'y{number}'"
        ),
        format!("SET SESSION {}; CREATE DATABASE d{number}; SET SESSION {}", domain(5), domain(0)),
        format!(
            "SET SESSION {}; DELETE FROM shop.t0 WHERE id % 40 = {number}; SET SESSION {}",
            domain(6),
            domain(0)
        ),
        format!(
            "CREATE USER u{number} IDENTIFIED BY 'late-Passw0rd'; GRANT SELECT ON shop.* TO u{number}"
        ),
        "FLUSH BINARY LOGS".into(),
        format!(
            "{statement}; INSERT INTO shop.x{number} VALUES (1), (2); \
                 INSERT INTO shop.j{number} (id, b) SELECT 200 + id, 'temporary' FROM shop.x{number}; \
                 DROP TEMPORARY TABLE shop.x{number}; SET SESSION binlog_format = DEFAULT"
        ),
        format!("ALTER TABLE shop.j{number} ADD COLUMN late INT DEFAULT 7; FLUSH PRIVILEGES"),
        format!("UPDATE shop.t1 SET n = n + {number} WHERE id < 100"),
    ];
    for part in more {
        primary.sql(&part);
    }
}

/// From where to where the logs of a backup's journal lead, which must be without a gap.
#[track_caller]
fn journal_of(repo: &Path, backup: &str) -> Option<(String, String)> {
    let text = manifest(repo, backup);
    let lines = text.lines().filter_map(|l| l.strip_prefix("journal "));
    let spans: Vec<Vec<&str>> = lines.map(|l| l.split(' ').collect()).collect();
    for two in spans.windows(2) {
        assert_eq!(two[0][2], two[1][1], "{text}");
    }
    Some((spans.first()?[1].to_string(), spans.last()?[2].to_string()))
}

/// The newest backup's journal leads to it from the one before.
#[track_caller]
fn assert_journal(scene: &Scene) {
    let backups = scene.backups();
    let [.., base, newest] = backups.as_slice() else { panic!("{backups:?}") };
    let position = |backup: &str| scene.manifest_value(backup, "position");
    let expected = (position(base), position(newest));
    assert_eq!(journal_of(&scene.repo, newest), Some(expected));
}

#[test]
fn a_pass_keeps_what_led_to_its_backup() {
    need_server!();
    let scene = Scene::seeded("kept");
    for number in 0..2 {
        load(&scene.primary, number);
        let ended = scene.run().expect(0).says("kept a journal from ");
        assert_journal(&scene);
        assert!(!scene.has_scratch_data() && !scene.scratch.join("journal").exists(), "{ended}");
    }
    // With nothing new there is nothing to keep, and no gap.
    let ended = scene.run().expect(0).says("kept a journal from ");
    let newest = scene.backups().pop().unwrap();
    assert_eq!(journal_of(&scene.repo, &newest), None, "{ended}");
    assert!(!manifest(&scene.repo, &newest).contains("no_journal"), "{ended}");
    load(&scene.primary, 7);
    scene.command("run").arg("--no-journal").run_to_end(COMMAND_PATIENCE).expect(0);
    let newest = scene.backups().pop().unwrap();
    assert_eq!(journal_of(&scene.repo, &newest), None);
    assert!(scene.manifest_value(&newest, "no_journal").contains("--no-journal"));
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
}
