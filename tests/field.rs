//! Inputs that people met with tools of this kind: carried, or refused by name before the work.

mod applied;
mod binary_log;
mod bodies;
mod carried;
mod dump;
mod events;
mod init_connect;
mod layout;
mod mandatory_roles;
mod modes;
mod names;
mod partial_revokes;
mod prepared;
mod sessions;
mod settings;
mod spatial;
mod sys_schema;

use std::fs;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{NIGHTLY, PASSWORD, Replica, Scene, Server, flavor, wait_until};

#[test]
fn broken_views_are_named_at_once_before_the_dump() {
    need_server!();
    let scene = Scene::new("views");
    scene.primary.fill("shop", 1, 50);
    scene.primary.sql(
        "CREATE VIEW shop.good AS SELECT id FROM shop.t0; \
         CREATE TABLE shop.base (a INT, b INT); \
         CREATE VIEW shop.lost_column AS SELECT b FROM shop.base; \
         CREATE VIEW shop.lost_table AS SELECT a FROM shop.base; \
         CREATE USER gone; GRANT ALL ON shop.* TO gone; \
         CREATE DEFINER = gone SQL SECURITY DEFINER VIEW shop.lost_definer AS SELECT id FROM shop.t0; \
         ALTER TABLE shop.base DROP COLUMN b; RENAME TABLE shop.base TO shop.other; DROP USER gone",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("configuration: ");
    for name in ["shop.lost_column", "shop.lost_table"] {
        assert!(ended.stderr.contains(name), "{name}: {ended}");
    }
    assert!(!ended.stderr.contains("shop.good"), "{ended}");
    assert!(!scene.scratch.join("data").exists(), "{ended}");
    scene.primary.sql("DROP VIEW shop.lost_column, shop.lost_table");
    seed.run_to_end(COMMAND_PATIENCE).expect(0);
}

#[test]
fn the_directory_of_a_file_system_is_no_database() {
    need_server!();
    let scene = Scene::new("root");
    scene.primary.fill("shop", 1, 50);
    fs::create_dir(scene.primary.datadir().join("lost+found")).unwrap();
    scene.seed();
    scene.run().expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

/// Its binary log holds nothing of what it replicates: each pass would end well, without that.
#[test]
fn a_replica_that_logs_nothing_is_no_primary() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("relay");
    let second = Server::start("second", true, &["--skip-slave-start", "--log-bin=binlog"]);
    second.sql(&flavor::change_master(&format!(
        "MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{PASSWORD}', \
         MASTER_CONNECT_RETRY=1",
        scene.primary.port(),
        NIGHTLY.user
    )));
    second.sql("START SLAVE");
    let wait = || {
        let position = scene.primary.gtid_pos();
        wait_until("the replica to have it", Duration::from_secs(30), || {
            second.value("SELECT @@global.gtid_slave_pos") == position
        });
    };
    wait();
    second.sql("CREATE DATABASE own");
    scene.primary.backlog("shop", 20);
    wait();
    let address = format!("--primary=127.0.0.1:{}", second.port.expect("it listens"));
    let ended = scene.command("run").arg(address).run_to_end(COMMAND_PATIENCE).expect(2);
    ended.says("log_slave_updates").says("nothing of that would arrive");
}

#[test]
fn a_password_too_long_for_replication_is_refused() {
    need_server!();
    let scene = Scene::seeded("long");
    let long = "p".repeat(40);
    scene.primary.sql(&format!("ALTER USER {} IDENTIFIED BY '{long}'", NIGHTLY.user));
    scene.primary.write_option_file_as(&scene.nightly, NIGHTLY.user, &long);
    let ended = scene.run();
    match flavor::is_mysql() {
        true => drop(ended.expect(2).says("longer than 32 characters")),
        false => drop(ended.expect(0)),
    }
}

/// Patterns for what a server recreates must take none of these.
#[test]
fn tablespaces_are_kept_whatever_they_are_called() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::new("spaces");
    for (n, file) in ["core", "master_data", "relay-archive", "ib_buffer_pool"].iter().enumerate() {
        scene.primary.sql(&format!(
            "CREATE DATABASE IF NOT EXISTS shop; CREATE TABLESPACE s{n} ADD DATAFILE '{file}.ibd'; \
             CREATE TABLE shop.in{n} (a INT PRIMARY KEY) TABLESPACE s{n}; \
             INSERT INTO shop.in{n} VALUES ({n})"
        ));
    }
    let seed = scene.command("seed").args(["--from", "dump"]);
    let refused = seed.run_to_end(COMMAND_PATIENCE).expect(2).says("s0, s1, s2, s3");
    refused.says("--from clone");
    let source = scene.primary.datadir().to_path_buf();
    scene.primary.stop();
    let seed = scene.command("seed").arg(format!("--from=dir:{}", source.display()));
    seed.run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.restart();
    scene.primary.sql("INSERT INTO shop.in0 VALUES (100)");
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT GROUP_CONCAT(a) FROM shop.in0"), "0,100");
    assert_eq!(restored.value("SELECT a FROM shop.in3"), "3");
}

/// What a literal means as a TIMESTAMP depends on the machine of the server that applies it.
#[test]
fn the_time_zone_of_the_primary_is_taken_over() {
    need_server!();
    for zone in ["America/New_York", "Asia/Kathmandu"] {
        let variable = format!("env:TZ={zone}");
        let scene = Scene::with("zone", &[&variable]);
        scene.primary.sql("CREATE DATABASE shop; CREATE TABLE shop.ts (t TIMESTAMP NOT NULL)");
        scene.seed();
        scene.primary.sql(
            "SET SESSION binlog_format = 'STATEMENT'; \
             INSERT INTO shop.ts VALUES ('2026-01-01 12:00:00'), ('2026-07-01 12:00:00'); \
             SET SESSION binlog_format = 'ROW'; \
             ALTER TABLE shop.ts ADD since TIMESTAMP NOT NULL DEFAULT '2026-01-01 00:00:00'; \
             CREATE TABLE shop.dt (a INT PRIMARY KEY, d DATETIME NOT NULL); \
             INSERT INTO shop.dt VALUES (1, '2026-08-01 00:00:00'), (2, '2026-02-01 00:00:00'); \
             ALTER TABLE shop.dt MODIFY d TIMESTAMP NOT NULL",
        );
        scene.run().expect(0);
        let to = scene.path("told");
        let told = scene.command("restore").arg("--to").arg(&to).run_to_end(COMMAND_PATIENCE);
        // The machine of the tests is in UTC.
        told.expect(0).says("times without a zone mean others").says(": TZ=");
        let restored = Server::start_on(&to);
        for moments in [
            "SELECT GROUP_CONCAT(CONCAT(UNIX_TIMESTAMP(t), ' ', UNIX_TIMESTAMP(since)) ORDER BY 1) \
             FROM shop.ts",
            "SELECT GROUP_CONCAT(UNIX_TIMESTAMP(d) ORDER BY a) FROM shop.dt",
        ] {
            assert_eq!(restored.value(moments), scene.primary.value(moments), "{zone}");
        }
    }
}
