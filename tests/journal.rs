//! The journal of a pass: complete from the base to the stored position through whatever happens, or
//! absent with a reason.

use std::path::Path;

use crate::support::repository::manifest;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    PATIENCE, Primary, Proxy, Replica, Running, Scene, Server, Writer, assert_same, flavor, kill,
    snapshot,
};

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
    for part in more.into_iter().chain(loaded_file(primary, number)) {
        primary.sql(&part);
    }
}

/// A file that is loaded by statement and by rows. MySQL's primary reads none.
fn loaded_file(primary: &Primary, number: u32) -> Option<String> {
    let file = format!("{}rows{number}.tsv", primary.value("SELECT @@datadir"));
    let load = format!("LOAD DATA INFILE '{file}' INTO TABLE shop.l{number} (t)");
    (!flavor::is_mysql()).then(|| {
        format!(
            "CREATE TABLE shop.l{number} (id INT PRIMARY KEY AUTO_INCREMENT, t TEXT) ENGINE=InnoDB; \
             SELECT id INTO OUTFILE '{file}' FROM shop.t0 WHERE id < 30; \
             SET SESSION binlog_format = 'STATEMENT'; {load}; SET SESSION binlog_format = 'ROW'; {load}"
        )
    })
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

/// The journal of the newest backup, applied to its base, gives what the newest backup holds: up to its
/// last transaction but one, which the replica has then, too.
#[track_caller]
fn assert_leads_on(scene: &Scene) {
    assert_journal(scene);
    let last = crate::until::gtids(&scene.primary);
    let backups = scene.backups();
    let newest = scene.manifest_value(backups.last().unwrap(), "position");
    // The last one that is in the newest backup.
    let replica = Replica::start(&scene.primary);
    replica.advance_to(&newest);
    let last = last.into_iter().rev().find(|gtid| has(&newest, gtid)).unwrap();
    let (ended, to) = crate::until::until(scene, &format!("before:{last}"));
    ended.expect(0).says("applied ");
    // It goes on from there by itself: what was left out is the one transaction, and nothing else.
    let copy = Replica::start_on(&scene.primary, &to);
    copy.advance_to(&newest);
    assert_same("the replayed copy", &snapshot(&copy), "the replica", &snapshot(&replica));
    let plain = Server::start_on(&scene.restore(None));
    assert_same("the replayed copy", &snapshot(&copy), "the backup", &snapshot(&plain));
}

/// True if a position has the transaction, as the server itself tells.
fn has(position: &str, gtid: &str) -> bool {
    if flavor::is_mysql() {
        // Of one source, whose numbers run from 1.
        let number = |text: &str| text.rsplit([':', '-']).next().unwrap().parse::<u64>().unwrap();
        return number(gtid) <= number(position);
    }
    let number = |text: &str| text.rsplit('-').next().unwrap().parse::<u64>().unwrap();
    number(gtid) <= number(position)
}

/// Waits until the private server has applied something of many, and returns its process.
#[track_caller]
fn wait_until_applying(scene: &Scene, pass: &mut Running) -> i32 {
    crate::faults::wait_until_moving(scene, pass)
}

#[test]
fn kills_of_the_server_lose_nothing_of_the_journal() {
    need_server!();
    let scene = Scene::seeded("killed");
    scene.primary.slow_backlog("shop", 1, 0.0);
    for number in 0..60 {
        scene.primary.slow_rows("shop", 2, 0.02);
        scene.primary.sql(&format!("INSERT INTO shop.slow (n) VALUES ({number})"));
    }
    let mut pass = scene.command("run").arg("--poll-interval=20ms").spawn();
    for _ in 0..3 {
        let mysqld = wait_until_applying(&scene, &mut pass);
        kill(mysqld, libc::SIGKILL);
        pass.wait_for_log("mysqld-died: ", PATIENCE);
    }
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("kept a journal from ");
    println!("{ended}");
    assert_leads_on(&scene);
}

#[test]
fn a_resumed_pass_keeps_what_the_first_received() {
    need_server!();
    let scene = Scene::seeded("resumed");
    scene.primary.slow_backlog("shop", 1, 0.0);
    for _ in 0..60 {
        scene.primary.slow_rows("shop", 2, 0.02);
    }
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGTERM] {
        let mut pass = scene.command("run").arg("--poll-interval=20ms").spawn();
        wait_until_applying(&scene, &mut pass);
        pass.kill(signal);
        let status = if signal == libc::SIGKILL { 256 + signal } else { 128 + signal };
        pass.finish(COMMAND_PATIENCE).expect(status);
        assert!(scene.scratch.join("journal").exists());
    }
    scene.run().expect(0).says("resuming the interrupted pass").says("kept a journal from ");
    assert_leads_on(&scene);
    assert!(!scene.scratch.join("journal").exists());
}

#[test]
fn a_lost_connection_and_another_candidate_leave_no_gap() {
    need_server!();
    let scene = Scene::seeded("candidates");
    let second = Replica::with_log(&scene.primary);
    let writer = Writer::start(&scene.primary, "live");
    writer.wait_for_more(200);
    scene.primary.slow_backlog("shop", 1, 0.0);
    for _ in 0..40 {
        scene.primary.slow_rows("shop", 1, 0.02);
        scene.primary.sql("INSERT INTO shop.t1 (n, text) SELECT n, text FROM shop.t1 LIMIT 500");
    }
    assert!(writer.stop() > 200);
    second.advance_to(&scene.primary.gtid_pos());
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(400_000);
    let candidates = format!("{},{}", proxy.address(), second.address());
    let program = scene.command("run").args(["--primary", &candidates, "--poll-interval=20ms"]);
    let mut pass = program.spawn();
    wait_until_applying(&scene, &mut pass);
    // In the middle of something, and the same again.
    proxy.cut();
    wait_until_applying(&scene, &mut pass);
    proxy.interrupt();
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("kept a journal from ");
    println!("{ended}");
    assert_leads_on(&scene);
}

#[test]
fn data_restored_again_begins_its_journal_anew() {
    need_server!();
    let scene = Scene::seeded("again");
    scene.primary.sql("CREATE TABLE shop.my (n INT) ENGINE=MyISAM; INSERT INTO shop.my VALUES (1)");
    scene.settle();
    scene.primary.slow_backlog("shop", 1, 0.0);
    for _ in 0..40 {
        scene.primary.slow_rows("shop", 4, 0.03);
        scene.primary.sql("UPDATE shop.my SET n = n + 1");
    }
    let mut pass = scene.command("run").arg("--poll-interval=20ms").spawn();
    let mysqld = wait_until_applying(&scene, &mut pass);
    kill(mysqld, libc::SIGKILL);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("kept a journal from ");
    assert_eq!(ended.stderr.matches("info: restored ").count(), 2, "{ended}");
    assert_leads_on(&scene);
}

#[test]
fn what_is_missing_is_said_and_not_passed_over() {
    need_server!();
    let scene = Scene::seeded("missing");
    load(&scene.primary, 0);
    // Interrupted by a pass that kept nothing.
    scene.primary.slow_backlog("shop", 1, 0.0);
    for _ in 0..60 {
        scene.primary.slow_rows("shop", 2, 0.02);
    }
    let mut pass = scene.command("run").args(["--no-journal", "--poll-interval=20ms"]).spawn();
    wait_until_applying(&scene, &mut pass);
    pass.kill(libc::SIGTERM);
    pass.finish(COMMAND_PATIENCE).expect(128 + libc::SIGTERM);
    let ended = scene.run().expect(0).says("warning: no journal leads from ");
    let newest = scene.backups().pop().unwrap();
    assert_eq!(journal_of(&scene.repo, &newest), None, "{ended}");
    let windows = scene.command("list").arg("--windows").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(windows.stdout.contains("what was received begins at"), "{windows}");
}
