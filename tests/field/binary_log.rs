//! What is in the primary's binary log, in which order, and what a replica of it gets.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    DUMP, NIGHTLY, Replica, Rollforward, Scene, Server, assert_same, flavor, snapshot,
};

/// What it leaves out would stay as it was in the first backup, with status 0 every night.
#[test]
fn a_filtered_binary_log_is_refused_by_name() {
    need_server!();
    let options = ["--binlog-do-db=shop", "--binlog-ignore-db=audit", "--binlog-ignore-db=mysql"];
    let mut scene = Scene::seeded_with("filter", &options[..1]);
    let privilege = "REPLICATION CLIENT";
    // MariaDB has had variables for it since 11.7, which anybody may see.
    let seen = !scene.primary.sql("SHOW GLOBAL VARIABLES LIKE 'binlog_do_db'").is_empty();
    if !seen {
        scene.run().expect(0).says("may not see whether").says(privilege);
        for account in [NIGHTLY, DUMP] {
            scene.primary.sql(&format!("GRANT {privilege} ON *.* TO {}", account.user));
        }
    }
    let before = scene.backups();
    scene.run().expect(2).says("configuration: primary").says("binlog-do-db=shop");
    options[1..].iter().for_each(|option| scene.primary.add_option(option));
    scene.primary.restart();
    for command in [scene.command("run"), scene.command("seed").arg("--from=dump")] {
        let ended = command.run_to_end(COMMAND_PATIENCE).expect(2);
        ended.says("binlog-do-db=shop and binlog-ignore-db=audit,mysql").says("remove it there");
    }
    assert_eq!(scene.backups(), before);
}

/// A replica of MySQL that does not log what it applies counts it as purged.
#[test]
fn a_mysql_replica_that_logs_nothing_is_no_primary() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("silent");
    let args = ["--skip-slave-start", "--log-bin=binlog", "--log-replica-updates=OFF"];
    let second = Server::start("second", true, &args);
    second.sql(&flavor::change_master(&format!(
        "MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{}'",
        scene.primary.port(),
        NIGHTLY.user,
        crate::support::PASSWORD
    )));
    second.sql("START SLAVE");
    scene.primary.backlog("shop", 20);
    let position = scene.primary.gtid_pos();
    crate::support::wait_until("the replica", crate::support::PATIENCE, || {
        second.value("SELECT @@global.gtid_slave_pos") == position
    });
    let address = format!("--primary=127.0.0.1:{}", second.port.expect("it listens"));
    scene.command("run").arg(address).run_to_end(COMMAND_PATIENCE).expect(1).says("purged: ");
}

/// One of MariaDB that ceased to log it and was promoted has the base in its log, and goes on from there
/// without what it applied meanwhile.
#[test]
fn what_a_promoted_replica_did_not_log_is_purged() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("promoted");
    let args = ["--skip-slave-start", "--log-bin=binlog", "--log-slave-updates=ON"];
    let mut second = Server::start("second", true, &args);
    second.sql(&flavor::change_master(&format!(
        "MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{}'",
        scene.primary.port(),
        NIGHTLY.user,
        crate::support::PASSWORD
    )));
    let follow = |second: &Server| {
        second.sql("START SLAVE");
        scene.primary.backlog("shop", 5);
        let position = scene.primary.gtid_pos();
        crate::support::wait_until("the replica", crate::support::PATIENCE, || {
            second.value("SELECT @@global.gtid_slave_pos") == position
        });
    };
    let run = |second: &Server, command: &str| {
        let address = format!("--primary=127.0.0.1:{}", second.port.expect("it listens"));
        scene.command(command).arg(address)
    };
    follow(&second);
    run(&second, "run").run_to_end(COMMAND_PATIENCE).expect(0);
    second.add_option("--log-slave-updates=OFF");
    second.restart();
    follow(&second);
    let applied = scene.primary.gtid_pos();
    second.sql("STOP SLAVE; RESET SLAVE ALL; CREATE DATABASE promoted");
    let before = scene.backups();
    let ended = run(&second, "run").run_to_end(COMMAND_PATIENCE).expect(1);
    ended.says("purged: ").says(&format!("it has {applied} and no log of it"));
    assert_eq!(scene.backups(), before);
    // What it says helps.
    run(&second, "seed").arg("--from=dump").run_to_end(COMMAND_PATIENCE).expect(0);
    second.sql("CREATE DATABASE later");
    run(&second, "run").run_to_end(COMMAND_PATIENCE).expect(0);
}

/// Two writers in one domain, a stopped primary of that kind adopted, and a domain that is deleted
/// and used again: all as on a plain replica.
#[test]
fn transactions_of_any_order_and_domain_arrive_once() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::with("order", &["--gtid-strict-mode=OFF"]);
    let replica = Replica::start(&scene.primary);
    let write = |scene: &Scene, session: &str, value: u32| {
        // A number alone says nothing about a row that came twice.
        scene.primary.sql(&format!("SET {session}; INSERT INTO shop.log (n) VALUES ({value})"));
        scene.primary.sql("SET server_id = DEFAULT, gtid_domain_id = DEFAULT, gtid_seq_no = 0");
    };
    let pass = |scene: &Scene| {
        scene.run().expect(0);
        let at = scene.assert_newest_equals(&replica);
        let count = "SELECT GROUP_CONCAT(n ORDER BY n) FROM shop.log";
        assert_eq!(replica.value(count), scene.primary.value(count), "{at}");
        at
    };
    scene.primary.sql("CREATE DATABASE shop; CREATE TABLE shop.log (n INT)");
    write(&scene, "gtid_seq_no = 1000", 1);
    write(&scene, "gtid_domain_id = 7", 2);
    scene.seed();
    write(&scene, "server_id = 2, gtid_seq_no = 990", 3);
    assert!(pass(&scene).contains("0-2-990"));
    // Nothing new, and nothing twice.
    assert!(pass(&scene).contains("0-2-990"));
    write(&scene, "server_id = 3, gtid_seq_no = 1000", 4);
    write(&scene, "server_id = 2, gtid_seq_no = 995", 5);
    pass(&scene);
    scene.primary.flush_and_purge_logs();
    scene.primary.sql("FLUSH BINARY LOGS DELETE_DOMAIN_ID = (7)");
    write(&scene, "server_id = 2, gtid_seq_no = 996", 6);
    scene.run().expect(0);
    // Where a plain replica goes on, its position keeps the domain.
    assert!(replica.advance(&scene.primary.gtid_pos()).contains(",7-"));
    assert!(!scene.newest_position().contains("7-"));
    let restored = Server::start_on(&scene.restore(None));
    assert_same("ours", &snapshot(&restored), "the replica", &snapshot(&replica));
    write(&scene, "gtid_domain_id = 7", 7);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("ours", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
    write(&scene, "server_id = 2, gtid_seq_no = 997", 8);
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    Rollforward::new(["seed", &format!("--from=dir:{}", scene.primary.datadir().display())])
        .args([format!("--repo={}", scene.repo.display())])
        .args([format!("--scratch={}", scene.scratch.display())])
        .args(scene.mysqld())
        .run_to_end(COMMAND_PATIENCE)
        .expect(0);
    assert_eq!(scene.newest_position(), position);
    scene.primary.restart();
    write(&scene, "server_id = 2, gtid_seq_no = 998", 9);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("ours", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
}
