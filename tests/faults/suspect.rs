//! Data that may be at fault: what a kill left behind is resumed only where that is right,
//! and an error on it is answered by a fresh restore. The same for what a dump brought.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::starts::redo_log;
use super::{LONG, count, wait_until_moving};
use crate::support::{
    PATIENCE, Primary, Proxy, Replica, Scene, Server, flavor, kill, run_helper, wait_until,
};

/// A copy of the scratch data, to look into without touching it.
fn copy_of_data(scene: &Scene, name: &str) -> PathBuf {
    let to = scene.path(name);
    run_helper(Command::new("cp").arg("-a").arg(scene.scratch.join("data")).arg(&to), "");
    to
}

/// `count` transactions, each of which adds one to `shop.counter`: applied twice, it counts twice.
fn count_up(primary: &Primary, count: u32) {
    primary.sql("SET SESSION binlog_format = 'STATEMENT'");
    for part in flavor::repeat(count, "UPDATE shop.counter SET n = n + 1") {
        primary.sql(&part);
    }
    primary.sql("SET SESSION binlog_format = 'MIXED'");
}

#[test]
fn a_counter_outside_innodb_is_right_after_a_kill() {
    need_server!();
    let scene = Scene::seeded("counter");
    scene.primary.sql(
        "CREATE TABLE shop.counter (n BIGINT) ENGINE=MyISAM; INSERT INTO shop.counter VALUES (0)",
    );
    scene.settle();
    count_up(&scene.primary, 6000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(300_000);
    let mut pass = scene.command("run").args(["--primary", &proxy.address()]).spawn();
    let mysqld = wait_until_moving(&scene, &mut pass);
    // Both at once: the data stays as the kill left it.
    pass.kill(libc::SIGSTOP);
    kill(mysqld, libc::SIGKILL);
    pass.kill(libc::SIGKILL);
    pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
    // What the check is for: a replica that goes on from the position in this data.
    let copy = copy_of_data(&scene, "naive");
    for entry in fs::read_dir(&copy).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["master", "multi-master", "relay"].iter().any(|p| name.starts_with(p)) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let naive = Replica::start_on(&scene.primary, &copy);
    naive.advance_to(&scene.primary.gtid_pos());
    let twice: u32 = naive.value("SELECT n FROM shop.counter").parse().unwrap();
    println!("a replica that goes on after the kill counts {twice} of 6000");
    assert!(twice > 6000, "{twice}: the kill hit between two transactions, of thousands");
    let ended = scene.run().expect(0).says("shop/counter").says("its mysqld did not shut down");
    assert_eq!(count(&ended, "info: restored "), 1, "{ended}");
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT n FROM shop.counter"), "6000");
    scene.assert_nothing_left();
}

#[test]
fn ddl_around_a_kill_ends_well() {
    need_server!();
    let scene = Scene::seeded("ddl");
    scene.primary.slow_backlog("shop", 1, 0.0);
    for i in 0..120 {
        // Else a quick machine is done before it is looked at.
        scene.primary.slow_rows("shop", 1, 0.03);
        scene.primary.sql(&format!(
            "CREATE TABLE shop.d{i} (id INT PRIMARY KEY) ENGINE=InnoDB; \
             INSERT INTO shop.d{i} VALUES (1); ALTER TABLE shop.d{i} ADD COLUMN n INT"
        ));
    }
    let mut pass = scene.command("run").arg("--poll-interval=20ms").spawn();
    for _ in 0..2 {
        let mysqld = wait_until_moving(&scene, &mut pass);
        kill(mysqld, libc::SIGKILL);
        pass.wait_for_log("mysqld-died: ", PATIENCE);
    }
    let ended = pass.finish(LONG).expect(0);
    println!("DDL around a kill\n{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

/// Changes the data that a stopped pass left, by a server of our own.
fn change(scene: &Scene, sql: &str) {
    Server::start_on_with(&scene.scratch.join("data"), &["--skip-slave-start"]).also(sql);
}

impl Server {
    /// Runs statements and shuts down cleanly.
    fn also(mut self, sql: &str) {
        self.sql(sql);
        self.stop();
    }
}

#[test]
fn an_error_on_resumed_data_leads_to_a_fresh_restore() {
    need_server!();
    type Spoil = fn(&Scene);
    let errant = flavor::either(
        "the base has 0-77-1000000",
        "the base has 77777777-7777-7777-7777-777777777777:1-5",
    );
    let ways: [(&str, &str, Spoil); 3] = [
        // As a kill between an ALTER TABLE and the note of its position leaves it. (A CREATE TABLE
        // that is there already is applied as CREATE OR REPLACE.)
        ("replication-error: ", "replication failed with error 1060", |scene| {
            change(scene, "ALTER TABLE shop.t0 ADD COLUMN late0 INT");
        }),
        ("mysqld-start: ", "it exited with status 1", |scene| {
            let log = redo_log(&scene.scratch.join("data"));
            fs::File::options().write(true).open(log).unwrap().set_len(4096).unwrap();
        }),
        ("diverged: ", errant, |scene| {
            let more = flavor::either(
                "SET GLOBAL gtid_slave_pos = '0-77-1000000'",
                "SET GLOBAL gtid_purged = '+77777777-7777-7777-7777-777777777777:1-5'",
            );
            change(scene, more);
        }),
    ];
    let scene = Scene::seeded("answered");
    let replica = Replica::start(&scene.primary);
    for (n, (cause, what, spoil)) in ways.into_iter().enumerate() {
        scene.primary.slow_backlog("shop", 40, 0.05);
        scene.primary.sql(&format!(
            "CREATE TABLE shop.late{n} (id INT PRIMARY KEY) ENGINE=InnoDB; \
             ALTER TABLE shop.t0 ADD COLUMN late{n} INT"
        ));
        let mut pass = scene.command("run").spawn();
        wait_until_moving(&scene, &mut pass);
        pass.kill(libc::SIGTERM);
        pass.finish(PATIENCE).expect(143);
        spoil(&scene);
        let ended = scene.run().expect(0).says("resuming the interrupted pass").says(what);
        let ended = ended.says(&format!("{cause}the scratch data may be at fault"));
        assert_eq!(count(&ended, "failure 1 of 11"), 1, "{ended}");
        assert_eq!(count(&ended, "info: restored "), 1, "{ended}");
        assert_eq!(scene.checkpoint().get("failures"), Some("0"));
        scene.assert_newest_equals(&replica);
        scene.assert_nothing_left();
    }
}

/// Lets accounts be in every dump from here on where a dump's snapshot holds them, on MySQL: they
/// are in no binary log.
fn in_the_dump(scene: &Scene, names: &[&str]) {
    for name in names.iter().filter(|_| flavor::is_mysql()) {
        scene.primary.sql(&format!("SET SESSION sql_log_bin = 0; CREATE USER {name}"));
    }
    scene.primary.sql("SET SESSION sql_log_bin = 1");
}

/// Makes an account while a dump runs that has it: on MariaDB they take no part in its snapshot.
fn make_meanwhile(scene: &Scene, name: &str) {
    if flavor::is_mysql() {
        scene.primary.sql(&format!("SET SESSION sql_log_bin = 0; DROP USER {name}"));
        scene.primary.sql("SET SESSION sql_log_bin = 1");
    }
    scene.primary.sql(&format!("CREATE USER {name} IDENTIFIED BY 'telltale'"));
}

#[test]
fn an_account_created_during_the_dump_costs_another_dump() {
    need_server!();
    let scene = Scene::new("dumped");
    // Before the accounts, by its name.
    scene.primary.fill("aaa", 2, 4000);
    in_the_dump(&scene, &["dup"]);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(1_500_000);
    let seed = scene.command("seed").args(["--from", "dump", "--primary", &proxy.address()]);
    let mut seed = seed.spawn();
    let begun = scene.scratch.join("data/aaa/t0.ibd");
    wait_until("the dump to be under way", PATIENCE, || {
        assert!(!seed.has_ended(), "{}", seed.dump());
        begun.exists()
    });
    make_meanwhile(&scene, "dup");
    seed.wait_for_log("replication-error: ", PATIENCE);
    proxy.slow_down(u64::MAX);
    let ended = seed.finish(LONG).expect(0).says("dumping again").says("error 1396");
    assert_eq!(count(&ended, "dumped and loaded "), 2, "{ended}");
    assert!(!ended.stderr.contains("telltale"), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn a_dump_that_never_fits_is_given_up_after_three() {
    need_server!();
    let scene = Scene::new("never");
    scene.primary.fill("aaa", 2, 4000);
    in_the_dump(&scene, &["dup1", "dup2", "dup3"]);
    let proxy = Proxy::start(&scene.primary);
    let seed = scene.command("seed").args(["--from", "dump", "--primary", &proxy.address()]);
    let mut seed = seed.spawn();
    let begun = scene.scratch.join("data/aaa/t0.ibd");
    for n in 1..=3 {
        proxy.slow_down(1_500_000);
        wait_until("the dump to be under way", PATIENCE, || {
            assert!(!seed.has_ended(), "{}", seed.dump());
            begun.exists()
        });
        make_meanwhile(&scene, &format!("dup{n}"));
        proxy.slow_down(u64::MAX);
        if n < 3 {
            wait_until("the next dump", PATIENCE, || {
                let failed = seed.stderr().matches("replication failed with error 1396").count();
                seed.has_ended() || (failed == n && !begun.exists())
            });
        }
    }
    let ended = seed.finish(LONG).expect(1).says("error: replication-error: ");
    assert_eq!(count(&ended, "dumped and loaded "), 3, "{ended}");
    assert!(scene.backups().is_empty());
    scene.assert_nothing_left();
    scene.seed();
}
