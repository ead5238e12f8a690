//! The primary is away, is another one, has lost its logs, refuses us, or conflicts with the base.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Account, NIGHTLY, Outcome, PASSWORD, PATIENCE, Primary, Proxy, Replica, Running, Scene, Writer,
    flavor, server, wait_until,
};

/// Waits until the pass has gone beyond its base.
#[track_caller]
fn wait_until_moving(scene: &Scene, pass: &mut Running) {
    let base = scene.newest_position();
    pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
        (c.get("phase") == Some("catch-up") && c.get("position")? != base).then_some(())
    });
}

/// It ended for good before the private server was ever started, and with no word to spare.
#[track_caller]
fn assert_refused_at_once(scene: &Scene, ended: &Outcome, cause: &str) {
    assert!(ended.stderr.contains(&format!("error: {cause}: ")), "{ended}");
    assert!(ended.wall < Duration::from_secs(10), "{ended}");
    assert!(!ended.stderr.contains("restored "), "{ended}");
    assert!(!scene.scratch.join("mysqld.log").exists(), "the private server was started");
    assert!(!scene.has_scratch_data(), "something was written before the verdict");
    assert_eq!(scene.checkpoint().get("cause"), Some(cause), "{ended}");
    assert_eq!(scene.checkpoint().get("state"), Some("failed"));
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn a_primary_down_costs_attempts_and_starts_no_mysqld() {
    need_server!();
    let mut scene = Scene::seeded("down");
    scene.primary.kill9();
    let ended = scene.command("run").arg("--max-failures=3").run_to_end(COMMAND_PATIENCE);
    let ended = ended.expect(75).says("failure 3 of 4, retrying in");
    assert_refused_at_once(&scene, &ended, "primary-unreachable");
    assert_eq!(scene.checkpoint().get("failures"), Some("4"));
    assert!(ended.log().len() < 12, "{ended}");
    // None allowed: the first one ends it.
    let ended = scene.command("run").arg("--max-failures=0").run_to_end(COMMAND_PATIENCE);
    let ended = ended.expect(75);
    assert_refused_at_once(&scene, &ended, "primary-unreachable");
    assert_eq!(scene.checkpoint().get("failures"), Some("1"));
    assert!(!ended.stderr.contains("retrying in"), "{ended}");
    // It comes back between two attempts.
    let mut pass = scene.command("run").arg("--max-failures=1000").spawn();
    pass.wait_for_log("primary-unreachable: ", PATIENCE);
    scene.primary.restart();
    pass.finish(COMMAND_PATIENCE).expect(0);
    scene.run().expect(0);
}

#[test]
fn a_primary_restarted_during_catch_up_is_waited_for() {
    need_server!();
    let mut scene = Scene::seeded("back");
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let mut pass =
        scene.command("run").args(["--primary", &proxy.address(), "--max-failures=1000"]).spawn();
    wait_until_moving(&scene, &mut pass);
    // Cut first: what the line still holds would arrive after the primary's end.
    proxy.cut();
    scene.primary.kill9();
    pass.wait_for_log("primary-unreachable: ", PATIENCE);
    scene.primary.restart();
    proxy.slow_down(u64::MAX);
    proxy.mend();
    pass.wait_for_log("making progress again at ", PATIENCE);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(ended.stderr.matches("started mysqld").count(), 1, "for an outage; {ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn a_primary_lost_after_progress_leaves_a_backup() {
    need_server!();
    let scene = Scene::seeded("gone");
    let goal_of_first = scene.newest_position();
    scene.primary.backlog("shop", 50);
    scene.run().expect(0);
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let mut pass = scene
        .command("run")
        .args(["--primary", &proxy.address(), "--max-failures=1", "--keep-count=1"])
        .spawn();
    wait_until_moving(&scene, &mut pass);
    proxy.cut();
    let ended = pass.finish(COMMAND_PATIENCE).expect(3);
    let ended = ended.says("failure 2 of 2").says("before the goal");
    assert_eq!(scene.backups().len(), 3, "stored, and nothing pruned; {ended}");
    let checkpoint = scene.checkpoint();
    for (key, value) in [("state", "done"), ("exit_status", "3"), ("cause", "primary-unreachable")]
    {
        assert_eq!(checkpoint.get(key), Some(value), "{checkpoint:?}");
    }
    assert!(!scene.has_scratch_data(), "scratch data goes after status 3");
    let reached = scene.newest_position();
    assert!(reached != goal_of_first && reached != scene.primary.gtid_pos(), "{reached}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // And the next pass goes on from there.
    scene.command("run").arg("--keep-count=1").run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
}

#[test]
fn the_first_candidate_that_answers_is_followed() {
    need_server!();
    let scene = Scene::seeded("candidates");
    scene.primary.backlog("shop", 20);
    let dead = server::free_port();
    let alive = scene.primary.port();
    let candidates = format!("127.0.0.1:{dead},localhost:{alive}");
    let program = scene.command("run").args(["--primary", &candidates, "--max-failures=0"]);
    program.run_to_end(COMMAND_PATIENCE).expect(0);
    let followed = scene.checkpoint().get("primary").unwrap().to_string();
    assert!(followed.ends_with(&format!(":{alive}")), "{followed}");
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    // The first one goes away in the catch-up: the second one is asked.
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let candidates = format!("{},127.0.0.1:{alive}", proxy.address());
    let mut pass = scene.command("run").args(["--primary", &candidates]).spawn();
    wait_until_moving(&scene, &mut pass);
    proxy.cut();
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("failure 1 of 11");
    assert_eq!(ended.stderr.matches("retrying in").count(), 1, "{ended}");
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
}

#[test]
fn purged_logs_of_a_base_name_both_positions() {
    need_server!();
    let scene = Scene::seeded("purged");
    let base = scene.newest_position();
    scene.primary.backlog("shop", 20);
    scene.primary.flush_and_purge_logs();
    scene.primary.backlog("shop", 20);
    let ended = scene.run().expect(1).says("error: purged: ");
    assert!(ended.wall < Duration::from_secs(15), "{ended}");
    let last = ended.log().last().unwrap().to_string();
    for part in [base.as_str(), &scene.primary.gtid_pos(), "rollforward seed"] {
        assert!(last.contains(part), "no '{part}' in the last line; {ended}");
    }
    assert_eq!(scene.checkpoint().get("cause"), Some("purged"));
    assert!(!scene.has_scratch_data(), "scratch data goes after status 1");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
    // What it says helps.
    scene.seed();
    scene.primary.backlog("shop", 20);
    scene.run().expect(0);
    scene.assert_newest_equals(&restored_replica(&scene));
}

/// A replica that cannot begin at the first log: on a copy of the newest backup.
fn restored_replica(scene: &Scene) -> Replica {
    let oldest_of_chain = scene.backups()[1].clone();
    Replica::start_on(&scene.primary, &scene.restore(Some(&oldest_of_chain)))
}

#[test]
fn a_primary_behind_the_base_is_diverged_before_writing() {
    need_server!();
    let scene = Scene::seeded("diverged");
    let base = scene.newest_position();
    // Reset, and it has written less since than before.
    scene.primary.sql("RESET MASTER; CREATE DATABASE other");
    // MySQL knows exactly what the base has and the primary lacks: all but the first.
    let errant = flavor::either(base.clone(), base.replace(":1-", ":2-"));
    let ended = scene.run().expect(1).says(&errant).says(&scene.primary.gtid_pos());
    assert_refused_at_once(&scene, &ended, "diverged");
    // Reset, and it has written in another domain only.
    scene.primary.sql("RESET MASTER");
    let other = flavor::either("gtid_domain_id = 7", "gtid_next = 'AUTOMATIC:d7'");
    scene.primary.sql(&format!("SET {other}"));
    scene.primary.backlog("shop", 2000);
    let ended = scene.run().expect(1);
    assert_refused_at_once(&scene, &ended, "diverged");
    // Another server altogether, with more transactions.
    let other = Primary::start("other");
    other.create_account(NIGHTLY);
    other.backlog("shop", 2000);
    let address = format!("127.0.0.1:{}", other.port());
    let program = scene.command("run").args(["--primary", &address]);
    let ended = program.run_to_end(COMMAND_PATIENCE).expect(1);
    assert_refused_at_once(&scene, &ended, "diverged");
}

#[test]
fn a_conflict_is_reported_by_number_without_its_statement() {
    need_server!();
    for (error, before, after) in [
        // Only the base has the row that the primary inserts.
        (
            "1062 Duplicate entry '900001' for key '",
            "INSERT INTO shop.t0 (id, n, text) VALUES (900001, 1, 'of-the-base')",
            "SET SESSION sql_log_bin = 0; DELETE FROM shop.t0 WHERE id = 900001; \
             SET SESSION sql_log_bin = 1; \
             INSERT INTO shop.t0 (id, n, text) VALUES (900001, 1, 'telltale')",
        ),
        // Only the primary has the row that it changes.
        (
            "1032  event on table shop.t0",
            "DO 0",
            "SET SESSION sql_log_bin = 0; \
             INSERT INTO shop.t0 (id, n, text) VALUES (900001, 1, 'telltale'); \
             SET SESSION sql_log_bin = 1; SET SESSION binlog_format = 'ROW'; \
             UPDATE shop.t0 SET text = 'telltale-2' WHERE id = 900001",
        ),
        // Only the base has the account that the primary makes.
        (
            "1396 Operation CREATE USER failed",
            "CREATE USER dup",
            "SET SESSION sql_log_bin = 0; DROP USER dup; SET SESSION sql_log_bin = 1; \
             CREATE USER dup IDENTIFIED BY 'telltale'",
        ),
    ] {
        let scene = Scene::seeded("conflict");
        scene.primary.sql(before);
        scene.settle();
        scene.primary.sql(after);
        let ended = scene.command("run").arg("-vv").run_to_end(COMMAND_PATIENCE).expect(1);
        let (number, reason) = error.split_once(' ').unwrap();
        let ended = ended.says(&format!("failed with error {number}: ")).says(reason);
        assert!(!ended.stderr.contains("See error log"), "{ended}");
        assert_eq!(ended.stderr.matches("started mysqld").count(), 1, "no retry; {ended}");
        let checkpoint = scene.checkpoint();
        let message = checkpoint.get("message").filter(|m| m.contains(number)).unwrap();
        assert!(!format!("{message}{}", ended.stderr).contains("telltale"), "{message} {ended}");
        assert_eq!(checkpoint.get("cause"), Some("replication-error"));
        assert_eq!(scene.backups().len(), 1);
        scene.assert_nothing_left();
    }
}

#[test]
fn an_account_that_is_refused_ends_the_pass_at_once() {
    need_server!();
    let scene = Scene::seeded("refused");
    let primary = &scene.primary;
    let run = |says: &str| {
        let ended = scene.run().expect(1).says(says);
        assert_refused_at_once(&scene, &ended, "access-denied");
        assert!(!ended.stderr.contains(PASSWORD) && !ended.stderr.contains("telltale"), "{ended}");
        assert_eq!(ended.log().len(), ended.stderr.matches("Z ").count(), "{ended}");
    };
    primary.write_option_file_as(&scene.nightly, NIGHTLY.user, "telltale");
    run("1045");
    primary.write_option_file_as(&scene.nightly, "nobody_of_ours", PASSWORD);
    // MySQL lets nobody know, and asks for any kind of login.
    run(flavor::either("1045", "access-denied"));
    let account = |user, grants| {
        primary.create_account(Account { user, grants });
        primary.write_option_file_as(&scene.nightly, user, PASSWORD);
    };
    account("rf_poor", "SELECT");
    run("lacks REPLICATION SLAVE; run there: GRANT REPLICATION SLAVE ON *.* TO `rf_poor`@");
    account("rf_locked", NIGHTLY.grants);
    primary.sql("ALTER USER rf_locked ACCOUNT LOCK");
    run(flavor::either("4151", "3118"));
    account("rf_expired", NIGHTLY.grants);
    primary.sql("ALTER USER rf_expired PASSWORD EXPIRE");
    run(flavor::either("1820", "1862"));
    account("rf_tls", NIGHTLY.grants);
    primary.sql("ALTER USER rf_tls REQUIRE SSL");
    let without_tls = || {
        let text = fs::read_to_string(&scene.nightly).unwrap();
        fs::write(&scene.nightly, format!("{text}ssl-mode=DISABLED\n")).unwrap();
    };
    without_tls();
    run("1045");
    primary.write_option_file(&scene.nightly, NIGHTLY);
    without_tls();
    primary.sql("SET GLOBAL require_secure_transport = ON");
    // MariaDB says so since 11.
    let old = primary.value("SELECT VERSION()").starts_with("10.");
    run(if old { "1045" } else { "3159" });
    primary.sql("SET GLOBAL require_secure_transport = OFF");
    scene.run().expect(0);
}

#[test]
fn a_privilege_revoked_during_catch_up_is_not_waited_for() {
    need_server!();
    let scene = Scene::seeded("revoked");
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let program = scene.command("run").args(["--primary", &proxy.address()]);
    let mut pass = program.arg("--max-failures=1000").spawn();
    wait_until_moving(&scene, &mut pass);
    scene.primary.sql(&format!("DROP USER {}", NIGHTLY.user));
    proxy.cut();
    pass.wait_for_log("primary-unreachable: ", PATIENCE);
    let since = Instant::now();
    proxy.mend();
    let ended = pass.finish(COMMAND_PATIENCE).expect(1).says("error: access-denied: ");
    assert!(since.elapsed() < Duration::from_secs(15), "{ended}");
    scene.assert_nothing_left();
}

#[test]
fn endless_writes_on_the_primary_do_not_prolong_the_pass() {
    need_server!();
    let scene = Scene::seeded("endless");
    let writer = Writer::start_with(&scene.primary, "live", Duration::ZERO, false);
    writer.wait_for_more(500);
    let mut pass = scene.command("run").spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0);
    let goal = scene.checkpoint().get("goal").unwrap().to_string();
    let sequence = |gtid: &str| gtid.rsplit('-').next().unwrap().parse::<u64>().unwrap();
    assert!(sequence(&scene.newest_position()) >= sequence(&goal), "{ended}");
    wait_until("the primary to be ahead", PATIENCE, || {
        sequence(&scene.primary.gtid_pos()) > sequence(&scene.newest_position())
    });
    assert!(writer.stop() > 500);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_replica_of_the_same_name_is_told_from_purged() {
    need_server!();
    let scene = Scene::seeded("twins");
    let twin = Replica::start(&scene.primary);
    // As with a copied auto.cnf, or a server id given twice. Our own are new at each start.
    let (uuid, id) = ("@@global.server_uuid", "@@global.server_id");
    let name = twin.value(&format!("SELECT {}", flavor::either(id, uuid)));
    let deed = flavor::either(
        format!("set -- \"$@\" --server-id={name}"),
        format!("printf '[auto]\\nserver-uuid={name}\\n' >data/auto.cnf"),
    );
    let fake = scene.fake_mysqld("twin", &format!("{deed}; exec MYSQLD \"$@\""));
    scene.primary.slow_backlog("shop", flavor::either(100, 600), 0.05);
    let mut pass = scene.command("run").arg("--mysqld").arg(&fake).spawn();
    wait_until_moving(&scene, &mut pass);
    let since = Instant::now();
    // The later one is sent what there is, and the earlier one nothing more.
    twin.sql("START SLAVE");
    if flavor::is_mysql() {
        let ended = pass.finish(COMMAND_PATIENCE).expect(1);
        assert!(since.elapsed() < Duration::from_secs(15), "{ended}");
        let ended = ended.says("error: replication-error: ").says("error 13114").says("uuid");
        let ended = ended.says("run again, since each run uses a new one");
        for other in ["purged: ", "diverged: "] {
            assert!(!ended.stderr.contains(other), "{ended}");
        }
        assert_eq!(scene.checkpoint().get("cause"), Some("replication-error"));
        assert_eq!(scene.backups().len(), 1);
    } else {
        // Both come back again and again, and get on.
        let ended = pass.finish(COMMAND_PATIENCE).expect(0);
        assert_eq!(scene.newest_position(), scene.primary.gtid_pos(), "{ended}");
    }
    scene.assert_nothing_left();
    // What it says helps, with the other one still there.
    scene.run().expect(0);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
}

#[test]
fn a_primary_without_gtids_is_wrong_configuration() {
    need_server!();
    let scene = Scene::seeded("no-gtids");
    // MariaDB cannot do without, only without a binary log.
    let silent = Primary::without_binlog("silent");
    silent.create_account(NIGHTLY);
    refused_as_configured(&scene, &silent).says("writes no binary log: set log_bin there");
    for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"] {
        if flavor::is_mysql() {
            scene.primary.sql(&format!("SET GLOBAL gtid_mode = {mode}"));
            let says = format!("has gtid_mode={mode}: set it to ON there");
            refused_as_configured(&scene, &scene.primary).says(&says);
        }
    }
}

#[track_caller]
fn refused_as_configured(scene: &Scene, primary: &Primary) -> Outcome {
    let address = format!("127.0.0.1:{}", primary.port());
    let program = scene.command("run").args(["--primary", &address]);
    let ended = program.run_to_end(COMMAND_PATIENCE).expect(2).says("error: configuration: ");
    assert!(ended.wall < Duration::from_secs(15), "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("configuration"), "{ended}");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
    ended
}
