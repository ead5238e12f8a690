//! Groups 18, 19 and 26: what the data may hold, and that the private server adds nothing to it.

use super::{LONG, wait_until_moving};
use crate::support::{
    PATIENCE, Primary, Proxy, Replica, Scene, Server, TempDir, assert_same, flavor, snapshot,
    wait_until,
};

/// What to run before and after a transaction, for it to be as if replicated from there. What is
/// a domain on MariaDB is a tag on MySQL, for some of them.
fn as_if_from(domain: u32, server: u32, number: u64) -> (String, &'static str) {
    if flavor::is_mysql() {
        let set = format!("SET SESSION gtid_next = '{}'", mysql_gtid(domain, server, number));
        return (set, "SET SESSION gtid_next = 'AUTOMATIC'");
    }
    let set = format!(
        "SET SESSION gtid_domain_id = {domain}; SET SESSION server_id = {server}; \
         SET SESSION gtid_seq_no = {number}"
    );
    (set, "DO 0")
}

fn mysql_gtid(domain: u32, server: u32, number: u64) -> String {
    let tag = if domain < 10 { String::new() } else { format!(":night_{domain}") };
    format!("0000000{server}-0000-0000-0000-000000000000{tag}:{number}")
}

/// Is this transaction in `position`? In the server's own arithmetic on MySQL.
fn holds(primary: &Primary, position: &str, domain: u32, server: u32, number: u64) -> bool {
    if flavor::is_mysql() {
        let gtid = mysql_gtid(domain, server, number);
        return primary.value(&format!("SELECT GTID_SUBSET('{gtid}', '{position}')")) == "1";
    }
    let prefix = format!("{domain}-");
    let newest = position.split(',').find_map(|p| p.strip_prefix(&prefix)?.rsplit('-').next());
    newest.is_some_and(|n| n.parse::<u64>().unwrap() >= number)
}

#[test]
fn several_domains_and_servers_with_gaps_are_compared_by_containment() {
    need_server!();
    let scene = Scene::seeded("domains");
    let primary = &scene.primary;
    // The order of domains, gaps in their numbers, several servers in one domain.
    let write = |domain: u32, server: u32, number: u64| {
        let (set, done) = as_if_from(domain, server, number);
        primary.sql(&format!(
            "{set}; INSERT INTO shop.t0 (n, text) VALUES ({domain}, '{server}-{number}'); {done}"
        ));
    };
    write(9, 3, 100);
    write(2, 3, 7);
    write(10, 4, 5);
    scene.settle();
    let base = scene.newest_position();
    // MySQL has a set for each server.
    assert_eq!(base.split(',').count(), flavor::either(4, 3), "{base}");
    // As numbers, not as text: 9 and 10, 99 and 100.
    write(9, 3, 1000);
    write(9, 5, 1001);
    write(10, 4, 99);
    write(10, 3, 100);
    write(11, 3, 1);
    scene.run().expect(0);
    let position = scene.newest_position();
    for (domain, server, number) in [(9, 5, 1001), (10, 3, 100), (11, 3, 1), (2, 3, 7)] {
        assert!(holds(primary, &position, domain, server, number), "{domain} in {position}");
    }
    // What was never written is in no gap.
    let holds_gap = holds(primary, &position, 9, 3, 500);
    assert_eq!(holds_gap, !flavor::is_mysql(), "{position}");
    scene.assert_newest_equals(&Replica::start(primary));
    // A goal in which one domain alone is ahead, and one with nothing new at all.
    write(2, 3, 8);
    scene.run().expect(0);
    assert!(holds(primary, &scene.newest_position(), 2, 3, 8));
    scene.run().expect(0).says("0 transactions");
    if !flavor::is_mysql() {
        // The transactions of every domain and server that it ever had.
        let state = primary.value("SELECT @@global.gtid_binlog_state");
        assert!(state.contains("9-3-1000"), "{state}");
    }
    scene.assert_newest_equals(&Replica::start(primary));
    scene.assert_nothing_left();
}

#[test]
fn events_and_triggers_write_nothing_on_the_private_server() {
    need_server!();
    // Scheduled on the primary, too, but with nothing due there before the private server runs.
    let scene = Scene::with("events", &["--event-scheduler=OFF"]);
    let primary = &scene.primary;
    primary.fill("shop", 1, 10);
    // Each by itself: in the middle of several MySQL takes the semicolon for a part of the event,
    // and its own dump of that cannot be loaded.
    for statement in [
        "CREATE TABLE shop.told (id INT PRIMARY KEY AUTO_INCREMENT, who VARCHAR(20)) ENGINE=InnoDB",
        "CREATE EVENT shop.every ON SCHEDULE EVERY 1 SECOND DO \
         INSERT INTO shop.told (who) VALUES ('event')",
        "CREATE TRIGGER shop.tr AFTER INSERT ON shop.t0 FOR EACH ROW \
         INSERT INTO shop.told (who) VALUES ('trigger')",
    ] {
        primary.sql(statement);
    }
    scene.seed();
    primary.sql(
        "CREATE EVENT shop.later ON SCHEDULE EVERY 1 SECOND DO \
           INSERT INTO shop.told (who) VALUES ('later event')",
    );
    // Long enough for either to run, were there a scheduler.
    primary.slow_backlog("shop", 50, 0.1);
    primary.sql("INSERT INTO shop.t0 (n, text) VALUES (1, 'x')");
    // By statement, the trigger runs where it is applied, and once.
    primary.sql(
        "SET SESSION binlog_format = 'STATEMENT'; \
         INSERT INTO shop.t0 (n, text) VALUES (2, 'y'); SET SESSION binlog_format = 'MIXED'",
    );
    let mut pass = scene.command("run").spawn();
    wait_until_moving(&scene, &mut pass);
    pass.finish(LONG).expect(0);
    assert_eq!(scene.newest_position(), primary.gtid_pos());
    let restored = Server::start_on(&scene.restore(None));
    let told = |server: &Server| {
        server.value("SELECT GROUP_CONCAT(who ORDER BY id) FROM shop.told").to_string()
    };
    assert_eq!(told(&restored), "trigger,trigger");
    assert_eq!(told(primary), "trigger,trigger");
    drop(restored);
    scene.assert_newest_equals(&Replica::start(primary));
    scene.assert_nothing_left();
}

#[test]
fn every_engine_odd_name_and_empty_database_comes_back() {
    need_server!();
    let scene = Scene::new("engines");
    let primary = &scene.primary;
    // MySQL has no Aria.
    let engine = flavor::either("Aria", "MyISAM ROW_FORMAT=FIXED");
    let objects = |n: u32| {
        format!(
            "CREATE DATABASE `päck{n}ung ☃`; CREATE DATABASE empty{n} CHARACTER SET latin1; \
             CREATE DATABASE `with.dot{n}`; CREATE DATABASE `#sharp{n}`; \
             CREATE TABLE `päck{n}ung ☃`.`tä/bel .x` (id INT PRIMARY KEY, t TEXT) ENGINE=MyISAM; \
             INSERT INTO `päck{n}ung ☃`.`tä/bel .x` VALUES (1, 'eins'), (2, 'zwei'); \
             CREATE TABLE `with.dot{n}`.`a b` (id INT PRIMARY KEY, t CHAR(9)) ENGINE={engine}; \
             INSERT INTO `with.dot{n}`.`a b` VALUES (1, 'one'); \
             CREATE TABLE `with.dot{n}`.csv (id INT NOT NULL) ENGINE=CSV; \
             INSERT INTO `with.dot{n}`.csv VALUES (7); \
             CREATE TABLE `#sharp{n}`.parts (id INT, y INT) ENGINE=InnoDB \
               PARTITION BY RANGE (y) (PARTITION `p#1` VALUES LESS THAN (10), \
               PARTITION p2 VALUES LESS THAN MAXVALUE); \
             INSERT INTO `#sharp{n}`.parts VALUES (1, 5), (2, 50); \
             CREATE TABLE `#sharp{n}`.generated (a INT, b INT AS (a * 2) PERSISTENT, \
               c INT AS (a + 1) VIRTUAL, KEY (c)) ENGINE=InnoDB; \
             INSERT INTO `#sharp{n}`.generated (a) VALUES (1), (2); \
             CREATE TABLE `#sharp{n}`.words (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY (t)) \
               ENGINE=InnoDB; INSERT INTO `#sharp{n}`.words VALUES (1, 'full text'); \
             CREATE TABLE `#sharp{n}`.tight (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB \
               ROW_FORMAT=COMPRESSED; INSERT INTO `#sharp{n}`.tight VALUES (1, 'tight')"
        )
    };
    primary.sql(&objects(0));
    let replica = Replica::start(primary);
    scene.seed();
    scene.assert_newest_equals(&replica);
    // And those that come by replication.
    primary.sql(&objects(1));
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the restored copy", &snapshot(&restored), "the primary", &snapshot(primary));
    scene.assert_nothing_left();
}

#[test]
fn a_csv_table_written_while_dumped_is_refused_by_name() {
    need_server!();
    let scene = Scene::new("csv");
    scene.primary.fill("aaa", 2, 4000);
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.`c, s` (id INT NOT NULL) ENGINE=CSV; \
         INSERT INTO shop.`c, s` VALUES (1), (2), (3)",
    );
    scene.seed();
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(1_500_000);
    let seed = scene.command("seed").args(["--from", "dump", "--primary", &proxy.address()]);
    let mut seed = seed.spawn();
    wait_until("the dump to be under way", PATIENCE, || {
        assert!(!seed.has_ended(), "{}", seed.dump());
        scene.scratch.join("data/aaa/t0.ibd").exists()
    });
    scene.primary.sql("INSERT INTO shop.`c, s` VALUES (4)");
    proxy.slow_down(u64::MAX);
    let ended = seed.finish(LONG).expect(1);
    ended.says("table shop.c, s (CSV) was written while the dump ran");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn tables_with_data_directory_come_along_or_are_refused() {
    need_server!();
    let far = TempDir::new("outside");
    let outside = far.path().display();
    if flavor::is_mysql() {
        return refused_outside(&far);
    }
    let scene = Scene::seeded("far");
    scene.primary.sql(&format!(
        "CREATE TABLE shop.far (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB \
         DATA DIRECTORY='{outside}'; INSERT INTO shop.far VALUES (1, 'far'); \
         CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE=MyISAM \
         DATA DIRECTORY='{outside}' INDEX DIRECTORY='{outside}'; INSERT INTO shop.old VALUES (1)"
    ));
    let files = || crate::support::repository::tree(far.path());
    let before = files();
    assert!(!before.is_empty());
    // By replication and by a dump: in the data directory, and the primary's files untouched.
    scene.run().expect(0);
    for _ in 0..2 {
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(restored.value("SELECT t FROM shop.far"), "far");
        assert_eq!(restored.value("SELECT id FROM shop.old"), "1");
        assert!(restored.datadir().join("shop/far.ibd").is_file());
        drop(restored);
        assert_eq!(files().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        scene.seed();
    }
    // In a directory that is adopted it stays outside, and is refused by name.
    let mut other = Primary::start("other");
    other.sql(&format!(
        "CREATE DATABASE shop; CREATE TABLE shop.remote (id INT PRIMARY KEY) ENGINE=InnoDB \
         DATA DIRECTORY='{outside}'"
    ));
    other.stop();
    let backups = scene.backups();
    let from = format!("dir:{}", other.datadir().display());
    let ended = scene.command("seed").args(["--from", &from]).run_to_end(LONG);
    println!("adopting a table outside: {}", ended.log().last().unwrap());
    let ended = ended.expect(2).says("remote.isl").says("DATA DIRECTORY");
    assert!(!scene.has_scratch_data(), "copied before it was refused: {ended}");
    assert_eq!(scene.backups(), backups);
    wait_until("nothing to be left", PATIENCE, || scene.leftover_processes().is_empty());
}

/// A dump on MySQL refuses a table outside the data directory. One that is replicated is made inside, since
/// the private server is told of no other directory, and the primary's file is left alone.
fn refused_outside(far: &TempDir) {
    let directory = format!("--innodb-directories={}", far.path().display());
    let scene = Scene::seeded_with("far", &[&directory]);
    scene.primary.sql(&format!(
        "CREATE TABLE shop.far (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB \
         DATA DIRECTORY='{}'; INSERT INTO shop.far VALUES (1, 'far')",
        far.path().display()
    ));
    let files = || crate::support::repository::tree(far.path());
    let before = files();
    assert!(!before.is_empty());
    let backups = scene.backups();
    let same_files =
        || assert_eq!(files().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let ended = scene.command("seed").args(["--from", "dump"]).run_to_end(LONG).expect(2);
    println!("a table outside: {}", ended.log().last().unwrap());
    let ended = ended.says("cannot bring shop/far, which the primary has outside");
    assert_eq!(scene.backups(), backups, "{ended}");
    scene.assert_nothing_left();
    for _ in 0..2 {
        scene.run().expect(0);
        same_files();
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(restored.value("SELECT GROUP_CONCAT(t) FROM shop.far"), "far");
        assert!(restored.datadir().join("shop/far.ibd").is_file());
    }
    scene.primary.sql("ALTER TABLE shop.far ADD n INT; UPDATE shop.far SET n = 7");
    scene.run().expect(0);
    same_files();
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT n FROM shop.far"), "7");
    assert_eq!(scene.primary.value("SELECT t FROM shop.far"), "far");
}
