//! Events for which the dumping clients look for a delimiter for ever.

use std::fs;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, find_program, flavor, wait_until};

/// Routines and triggers with the same text are dumped well.
#[test]
fn events_that_no_client_dumps_are_named_before() {
    need_server!();
    let scene = Scene::new("endless");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, s TEXT); \
         CREATE PROCEDURE p() SELECT ';;'; CREATE FUNCTION f() RETURNS TEXT DETERMINISTIC RETURN ';;'; \
         CREATE TRIGGER noted BEFORE INSERT ON t FOR EACH ROW SET NEW.s = ';;'; \
         CREATE EVENT swept ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT ';'",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    // A client of MariaDB 11.8 dumps them.
    let dumped = scene.primary.value("SELECT VERSION() LIKE '11.%MariaDB%'") == "1";
    for (name, text) in [
        ("a`b", "DISABLE DO SELECT ';;'"),
        ("c", "DISABLE COMMENT 'a;;b' DO SELECT 1"),
        ("d;;e", "DISABLE DO SELECT 1"),
    ] {
        let quoted = format!("`{}`", name.replace('`', "``"));
        scene.primary.sql(&format!("CREATE EVENT shop.{quoted} ON SCHEDULE EVERY 1 DAY {text}"));
        if dumped {
            continue;
        }
        let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2);
        ended.says(&format!("would never end at the event shop.{name}: ")).says("--from dir:PATH");
        assert!(!scene.scratch.join("data").exists());
        scene.primary.sql(&format!("DROP EVENT shop.{quoted}"));
    }
    scene.seed();
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// It uses a whole core, which says nothing.
#[test]
fn a_client_that_only_computes_has_stalled() {
    need_server!();
    let scene = Scene::new("computing");
    scene.primary.fill("shop", 1, 50);
    // The clients are looked for beside the server first. MySQL's must keep its process id, by which its
    // session is found: there it waits for such an event, which comes after ours has looked for them.
    let mysqld = scene.fake_mysqld("mariadbd", "exec MYSQLD \"$@\"");
    let (asks, made) = (scene.scratch.join("tmp/asks"), scene.path("made"));
    let (real, made_at) = (find_program("mariadb-dump").unwrap(), made.display());
    let real = real.display();
    let body = format!("mkdir tmp/asks; until [ -e {made_at} ]; do sleep 0.05; done; ")
        + &flavor::either(
            format!("{real} \"$@\"; while :; do :; done"),
            format!("exec {real} \"$@\""),
        );
    scene.fake_mysqld(flavor::program("mariadb-dump"), &body);
    let seed = scene.command("seed").args(["--from", "dump", "--max-failures=0"]);
    let seed = seed.arg("--stall-timeout=3s").arg("--mysqld").arg(&mysqld).spawn();
    wait_until("the dump to begin", COMMAND_PATIENCE, || asks.exists());
    if flavor::is_mysql() {
        scene.primary.sql("CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT ';;'");
    }
    fs::write(&made, "").unwrap();
    let ended = seed.finish(COMMAND_PATIENCE).expect(75);
    ended.says("stalled: no progress for 3s: the dump of the primary");
    scene.assert_nothing_left();
}
