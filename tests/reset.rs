//! A primary whose binary logs begin anew: reset, and further than before by the names of its
//! transactions; a replica; or for a good reason.

mod crash;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::repository::set_age;
use crate::support::{
    PATIENCE, Primary, Proxy, Replica, Scene, Server, flavor, template, wait_until,
};
use crate::until::gtids;
use crate::{follow, live};

/// A pass that has seen the primary's logs; those of the seed were another server's.
fn seen(name: &str) -> Scene {
    let scene = Scene::seeded(name);
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    scene
}

fn newest_log(scene: &Scene) -> String {
    scene.manifest_value(scene.backups().last().unwrap(), "primary_log")
}

#[test]
fn a_reset_primary_that_got_further_is_diverged() {
    need_server!();
    let scene = seen("reset");
    scene.primary.sql("FLUSH BINARY LOGS");
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    let (backups, base) = (scene.backups(), scene.newest_position());
    let log = newest_log(&scene);
    // A row is lost to every replica that takes the new transactions for the ones it knows.
    scene.primary.sql("RESET MASTER");
    scene.primary.backlog("shop", 2000);
    let pass = scene.run().expect(1);
    assert_eq!(scene.checkpoint().get("cause"), Some("diverged"), "{pass}");
    let pass = pass.says(&format!("the base has {base}, which the primary lacks"));
    pass.says(", whose binlog.000001 of ")
        .says(" begins after nothing")
        .says("rollforward seed --from dump");
    assert_eq!(scene.backups(), backups);
    // Reset again right after a seed, which leaves a log of the same name.
    scene.seed();
    assert_ne!(newest_log(&scene), log);
    scene.primary.sql("RESET MASTER");
    scene.primary.backlog("shop", 3000);
    scene.run().expect(1).says(" diverged: ");
    // What it says helps.
    scene.seed();
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
}

#[test]
fn a_night_with_nothing_new_records_the_log_it_saw() {
    need_server!();
    let scene = Scene::seeded("nothing-new");
    let others = newest_log(&scene);
    // The receiver has connected long before the first bytes of a log arrive.
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(4000);
    let run = scene.command("run").args(["--primary", &proxy.address()]);
    let pass = run.run_to_end(PATIENCE).expect(0);
    assert_ne!(newest_log(&scene), others, "{pass}");
}

#[test]
fn a_primary_whose_logs_go_on_is_followed() {
    need_server!();
    let mut scene = seen("goes-on");
    let write = |scene: &Scene| scene.primary.backlog("shop", 5);
    for change in [
        &|scene: &mut Scene| scene.primary.restart(),
        &|scene: &mut Scene| drop(scene.primary.sql("FLUSH BINARY LOGS")),
        &|scene: &mut Scene| scene.primary.flush_and_purge_logs(),
        // Nothing new.
        &|_: &mut Scene| {},
    ] as [&dyn Fn(&mut Scene); 4]
    {
        change(&mut scene);
        scene.run().expect(0);
        write(&scene);
        scene.run().expect(0);
        assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    }
}

#[test]
fn a_primary_rebuilt_from_the_newest_backup_is_followed() {
    need_server!();
    let mut scene = seen("rebuilt");
    let restored = scene.restore(None);
    scene.primary.stop();
    let data = scene.primary.datadir().to_path_buf();
    let before = scene.path("before");
    fs::rename(&data, &before).unwrap();
    template::copy(&restored, &data);
    // By its name, it is the same server.
    let _ = fs::copy(before.join("auto.cnf"), data.join("auto.cnf"));
    scene.primary.restart();
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    let log = newest_log(&scene);
    assert!(log.contains(" binlog.000001 "), "{log}");
}

/// Its transactions have the names of those that follow the backup, and are others.
#[test]
fn no_moment_comes_from_a_reset_primary() {
    need_server!();
    let scene = seen("moment");
    scene.primary.sql("RESET MASTER");
    scene.primary.backlog("shop", 2000);
    let last = gtids(&scene.primary).pop().unwrap();
    let (ended, _) = live::until(&scene, &last, &[]);
    ended.expect(1).says("error: diverged: the base has ").says(" begins after nothing");
    scene.seed();
    scene.primary.backlog("shop", 5);
    let last = gtids(&scene.primary).pop().unwrap();
    let (ended, _) = live::until(&scene, &last, &[]);
    ended.expect(0);
}

/// The chains before and after a reset have different transactions by the same names.
#[test]
fn transactions_of_one_name_are_told_apart() {
    need_server!();
    let scene = seen("names");
    let log = |args: &[&str]| {
        let log = scene.command("log").args(args).run_to_end(Duration::from_secs(60)).expect(0);
        let lines: Vec<String> = log.stdout.lines().map(String::from).collect();
        (lines, log)
    };
    scene.primary.sql("CREATE DATABASE was");
    scene.primary.sql("CREATE TABLE was.gone (id INT PRIMARY KEY)");
    std::thread::sleep(Duration::from_millis(1100));
    scene.primary.sql("DROP TABLE was.gone");
    let dropped = gtids(&scene.primary).pop().unwrap();
    let before = format!("before:{dropped}");
    scene.run().expect(0);
    let (old, _) = log(&[]);
    scene.primary.sql("RESET MASTER");
    scene.primary.sql("CREATE DATABASE anew");
    scene.seed();
    // It may be meant, or one that is to come.
    let (ended, to) = live::until(&scene, &before, &[]);
    ended.expect(0).says(&format!(" warning: {dropped} is in the journal of "));
    let has_it = |to: &Path| Server::start_on(to).try_sql("SELECT * FROM was.gone").is_ok();
    assert!(has_it(&to));
    scene.primary.backlog("shop", 300);
    scene.run().expect(0);
    // None of them is hidden.
    let (all, _) = log(&[]);
    assert_eq!(all.len(), old.len() + gtids(&scene.primary).len() - 1);
    let (some, _) = log(&["--until", &dropped]);
    assert!(some.len() > old.len() && some.last().unwrap().contains(&dropped), "{some:?}");
    assert!(some.starts_with(&old));
    let (ended, to) = live::until(&scene, &before, &[]);
    ended.expect(0).says(&format!("has another transaction {dropped}: "));
    assert!(!has_it(&to));
    // The command is for what is shown.
    let (lines, ended) = log(&["--table=was.gone", "--ddl"]);
    ended.says(" warning: a later transaction has the name ");
    let time = lines.last().unwrap().split(" --until ").nth(1).unwrap();
    let (ended, to) = live::until(&scene, time.split(' ').next().unwrap(), &[]);
    ended.expect(0);
    assert!(has_it(&to));
}

/// Restored to an earlier moment, under the same server id: it goes on with names that the base has.
#[test]
fn a_machine_with_earlier_data_is_diverged() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = seen("replaced");
    let restored = scene.restore(None);
    scene.primary.backlog("shop", 20);
    scene.run().expect(0);
    let (backups, base) = (scene.backups(), scene.newest_position());
    // It takes a while to set up another one.
    set_age(&scene.repo, backups.last().unwrap(), 60);
    let id = format!("--server-id={}", scene.primary.value("SELECT @@global.server_id"));
    let other = Primary::start_copy("replacement", &restored, &[&id]);
    other.backlog("shop", 50);
    let there = format!("--primary=127.0.0.1:{}", other.port());
    let wait = Duration::from_secs(60);
    let says = format!("diverged: the base has {base}, which the primary lacks");
    scene.command("run").arg(&there).run_to_end(wait).expect(1).says(&says);
    assert_eq!(scene.backups(), backups);
    follow::follower(&scene).arg(&there).run_to_end(wait).expect(1).says(&says);
    assert!(follow::parts(&scene).is_empty());
    let (ended, _) = live::until(&scene, &other.gtid_pos(), &[&there]);
    ended.expect(1).says(&says);
}

/// By its numbers, it would lead over the backups from before.
#[test]
fn what_a_follower_gets_leads_on_from_the_new_chain() {
    need_server!();
    let scene = seen("parts");
    let wait = Duration::from_secs(60);
    scene.primary.backlog("shop", 60);
    scene.run().expect(0);
    scene.primary.sql("RESET MASTER");
    scene.primary.sql("CREATE DATABASE anew");
    scene.seed();
    let mut follower = follow::follower(&scene).spawn();
    follower.wait_for_log("following ", wait);
    scene.primary.backlog("shop", 30);
    follow::wait_for_end(&scene, &scene.primary.gtid_pos());
    follower.kill(libc::SIGTERM);
    follower.finish(wait).expect(143);
    let last = gtids(&scene.primary).pop().unwrap();
    let (ended, to) = live::until(&scene, &last, &["--primary=127.0.0.1:1"]);
    ended.expect(0);
    let restored = Server::start_on(&to);
    assert_eq!(restored.sql("SHOW DATABASES LIKE 'anew'").len(), 1);
    let count = "SELECT COUNT(*) FROM shop.backlog";
    assert_eq!(restored.value(count), scene.primary.value(count));
}

/// MariaDB, unless it is strict, sends what comes later where it no longer has what follows.
#[test]
fn a_reset_replica_that_is_our_primary_hides_nothing() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("relay");
    let replica = Replica::with_log(&scene.primary);
    let run = || {
        let program = scene.command("run").args(["--primary", &replica.address()]);
        program.run_to_end(Duration::from_secs(60))
    };
    let write = || {
        scene.primary.backlog("shop", 5);
        replica.advance(&scene.primary.gtid_pos());
    };
    write();
    run().expect(0);
    let (backups, base) = (scene.backups(), scene.newest_position());
    write();
    replica.sql("RESET MASTER");
    // It has applied what it has no log of any more.
    run()
        .expect(1)
        .says(&format!("purged: the primary no longer has the binary logs after {base}"));
    // Nothing shows it any more but where the log begins.
    write();
    // Also where a stop comes before anybody has asked.
    let mut follower = follow::follower(&scene).args(["--every=60s", "--primary"]);
    follower = follower.arg(replica.address());
    let mut follower = follower.spawn();
    follower.wait_for_log("following ", Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(3));
    follower.kill(libc::SIGTERM);
    follower.finish(Duration::from_secs(60)).expect(143);
    assert!(follow::parts(&scene).is_empty());
    let begins = "its binlog.000001 begins with ";
    let last = replica.value("SELECT @@global.gtid_binlog_pos");
    let (ended, _) = live::until(&scene, &last, &["--primary", &replica.address()]);
    ended.expect(1).says(" purged: ").says(&base).says(begins);
    let pass = run().expect(1).says(" purged: ").says(&base).says(begins);
    assert_eq!(scene.checkpoint().get("cause"), Some("purged"), "{pass}");
    assert_eq!(scene.backups(), backups);
    // With all of it in the base, there is nothing to miss.
    let program = scene.command("seed").args(["--from=dump", "--primary", &replica.address()]);
    program.run_to_end(Duration::from_secs(60)).expect(0);
    replica.sql("RESET MASTER");
    write();
    run().expect(0);
    assert_eq!(scene.newest_position(), replica.value("SELECT @@global.gtid_binlog_pos"));
}

#[test]
fn a_follower_of_a_reset_primary_keeps_none_of_it() {
    need_server!();
    let scene = seen("followed");
    let wait = Duration::from_secs(60);
    // What the follower is connected to stays silent, so it has to ask.
    for (runs, further) in [(false, true), (true, false), (true, true)] {
        let follower = follow::follower(&scene).arg("--stall-timeout=3s");
        let mut running = follower.spawn();
        running.wait_for_log("following ", wait);
        scene.primary.backlog("shop", 5);
        let all = scene.primary.gtid_pos();
        wait_until("what was committed", wait, || {
            running.checkpoint().get("position") == Some(&all)
        });
        let parts = follow::parts(&scene);
        let reset = || {
            scene.primary.sql("RESET MASTER");
            scene.primary.backlog("shop", if further { 2000 } else { 1 });
        };
        let pass = if runs {
            reset();
            running.finish(wait)
        } else {
            running.kill(libc::SIGTERM);
            running.finish(wait).expect(143);
            reset();
            follower.run_to_end(wait)
        };
        let pass = pass.expect(1).says("diverged: the base has ");
        if further {
            pass.says(" begins after nothing");
        }
        assert_eq!(follow::parts(&scene), parts);
        scene.seed();
        scene.primary.backlog("shop", 5);
        scene.run().expect(0);
    }
}

/// Without strict mode, a session may pass over numbers. Nothing is missing, also in the first log.
#[test]
fn numbers_that_a_primary_passes_over_are_no_gap() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let scene = Scene::with("numbers", &["--gtid-strict-mode=OFF"]);
    scene.primary.fill("shop", 1, 10);
    scene.seed();
    let follower = follow::follower(&scene).spawn();
    for number in [1000, 5000] {
        scene.primary.sql(&format!("SET gtid_seq_no = {number}; DELETE FROM shop.t0 LIMIT 1"));
        let all = scene.primary.gtid_pos();
        wait_until("what was committed", Duration::from_secs(60), || {
            follower.checkpoint().get("position") == Some(&all)
        });
        scene.run().expect(0);
        assert_eq!(scene.newest_position(), all);
    }
    follower.kill(libc::SIGTERM);
    follower.finish(Duration::from_secs(60)).expect(143);
}

/// What its logs begin with is asked when they are first looked at, and then nobody answers.
#[test]
fn what_arrived_before_a_primary_went_for_good_is_kept() {
    need_server!();
    let mut scene = seen("gone");
    let wait = Duration::from_secs(60);
    let mut running = follow::follower(&scene).arg("--every=8s").spawn();
    running.wait_for_log("following ", wait);
    scene.primary.backlog("shop", 5);
    let all = scene.primary.gtid_pos();
    // It arrives at once, and is stored with the interval.
    std::thread::sleep(Duration::from_secs(2));
    assert!(follow::parts(&scene).is_empty());
    scene.primary.kill9();
    follow::wait_for_end(&scene, &all);
    running.kill(libc::SIGTERM);
    running.finish(wait).expect(143);
}
