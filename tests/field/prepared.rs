//! Transactions that are prepared (XA) when a first backup is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable as _;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{CLONE, DUMP, Replica, Scene, flavor};

/// With a table that our own session reads, which begins in another way.
const TABLES: &str = "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, x INT); \
    CREATE TABLE shop.f (id INT PRIMARY KEY, x FLOAT)";

/// Prepares one and disconnects.
fn prepare(scene: &Scene, name: &str, row: u32) {
    let mut session = scene.primary.open().unwrap();
    for sql in [
        format!("XA START '{name}'"),
        format!("INSERT INTO shop.t VALUES ({row}, 2)"),
        format!("XA END '{name}'"),
        format!("XA PREPARE '{name}'"),
    ] {
        session.query_drop(sql).unwrap();
    }
}

#[test]
fn a_dump_waits_for_prepared_transactions_or_names_them() {
    need_server!();
    let scene = Scene::new("prepared");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(TABLES);
    prepare(&scene, "x1", 2);
    let seed = || scene.command("seed").args(["--from", "dump"]);
    let ended = seed().run_to_end(COMMAND_PATIENCE).expect(2);
    // MySQL hides the name from an account without a privilege that a dump does not need.
    let ended = ended.says(flavor::either("'x1'", "without a session"));
    ended.says("commit or roll them back there").says("dir:PATH");
    assert!(scene.backups().is_empty());
    if flavor::is_mysql() {
        scene.primary.sql(&format!("GRANT XA_RECOVER_ADMIN ON *.* TO {}", DUMP.user));
    }
    scene.primary.sql("XA COMMIT 'x1'; DROP TABLE shop.f");
    prepare(&scene, "x2", 3);
    // A short one passes by.
    let mut running = seed().spawn();
    running.wait_for_log("to end: 'x2'", COMMAND_PATIENCE);
    scene.primary.sql("XA ROLLBACK 'x2'");
    running.finish(COMMAND_PATIENCE).expect(0);
    prepare(&scene, "x3", 4);
    scene.run().expect(0);
    scene.primary.sql("XA COMMIT 'x3'");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

#[test]
fn a_dump_finds_its_moment_between_prepared_transactions() {
    need_server!();
    let scene = Scene::new("between");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(TABLES);
    let ended = Arc::new(AtomicBool::new(false));
    let application = thread::spawn({
        let (mut session, ended) = (scene.primary.open().unwrap(), ended.clone());
        move || {
            for row in 0.. {
                let transaction = [
                    "XA START 'x'".into(),
                    format!("INSERT INTO shop.t VALUES ({row}, 2)"),
                    "XA END 'x'".into(),
                    "XA PREPARE 'x'".into(),
                ];
                transaction.iter().for_each(|sql| session.query_drop(sql).unwrap());
                thread::sleep(Duration::from_millis(100));
                session.query_drop("XA COMMIT 'x'").unwrap();
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(700));
            }
        }
    });
    scene.seed();
    ended.store(true, Ordering::Relaxed);
    application.join().unwrap();
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// What the refusal advises.
#[test]
fn copies_carry_prepared_transactions() {
    need_server!();
    let mut scene = Scene::new("copied");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(TABLES);
    if flavor::is_mysql() {
        scene.primary.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
        scene.primary.create_account(CLONE);
        let options = scene.path("clone.cnf");
        scene.primary.write_option_file(&options, CLONE);
        prepare(&scene, "x1", 1);
        let seed = scene.command("seed").args(["--from", "clone", "--defaults-file"]).arg(options);
        seed.run_to_end(COMMAND_PATIENCE).expect(0);
        scene.primary.sql("XA COMMIT 'x1'");
        scene.run().expect(0);
        scene.assert_newest_equals(&replica);
    }
    prepare(&scene, "x2", 2);
    scene.primary.stop();
    let from = format!("--from=dir:{}", scene.primary.datadir().display());
    scene.command("seed").arg(from).run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.restart();
    scene.primary.sql("XA COMMIT 'x2'");
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}
