//! `restore --until` beyond what is stored: the live primary has it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::repository::rfc3339;
use crate::support::{
    Outcome, Primary, Proxy, Replica, Scene, Server, assert_same, flavor, processes_under,
    snapshot, wait_until,
};
use crate::until::gtids;

const LONG: Duration = Duration::from_secs(60);

/// `restore --until` with the option file of the nightly account, and where to.
pub fn until(scene: &Scene, when: &str, more: &[&str]) -> (Outcome, PathBuf) {
    let to = (0..).map(|n| scene.path(&format!("until-{n}"))).find(|p| !p.exists()).unwrap();
    let mut command = scene.command("restore").args(["--until", when]).arg("--to").arg(&to);
    command = command.arg("--defaults-file").arg(&scene.nightly).args(scene.mysqld());
    command = command.args(["--jobs=2", "--backoff-base=50ms", "--max-failures=2"]).args(more);
    if crate::support::is_root() {
        command = command.arg("--mysqld-user=root");
    }
    let ended = command.run_to_end(LONG);
    assert!(processes_under(&to).is_empty(), "{ended}");
    if ended.status != 0 {
        assert!(!to.exists(), "{ended}");
    }
    (ended, to)
}

fn clock(primary: &Primary) -> u64 {
    primary.value("SELECT CAST(UNIX_TIMESTAMP() AS CHAR)").parse().unwrap()
}

#[test]
fn a_live_primary_has_what_no_journal_has() {
    need_server!();
    let scene = Scene::seeded("live");
    let primary = &scene.primary;
    primary.sql("CREATE DATABASE first");
    std::thread::sleep(Duration::from_millis(1100));
    let time = clock(primary);
    std::thread::sleep(Duration::from_millis(1100));
    crate::journal::load(primary, 0);
    let rows = primary.value("SELECT COUNT(*) FROM shop.t0");
    primary.sql("DROP TABLE shop.t0");
    primary.sql("CREATE DATABASE late");
    let mut all = gtids(primary);
    let (late, dropped) = (all.pop().unwrap(), all.pop().unwrap());
    // By time, and nothing is left.
    let (ended, to) = until(&scene, &rfc3339(time), &[]);
    let ended = ended.expect(0).says("receiving from").says("received ").says("applied 1 trans");
    let restored = Server::start_on(&to);
    assert_eq!(restored.sql("SHOW DATABASES LIKE 'first'").len(), 1, "{ended}");
    assert!(restored.sql("SHOW DATABASES LIKE 'late'").is_empty());
    drop(restored);
    for entry in fs::read_dir(&to).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with("relay") && !name.starts_with("rollforward"), "{name}");
    }
    // Just before the accident, and just after it: the same as a replica stopped there.
    let replica = Replica::start(primary);
    let (ended, to) = until(&scene, &format!("before:{dropped}"), &[]);
    ended.expect(0).says(&format!("is not: {dropped} of "));
    let restored = Server::start_on(&to);
    let position = restored.value("SELECT @@global.gtid_slave_pos");
    if replica.advance(&position) == position {
        assert_same("the copy", &snapshot(&restored), "the replica", &snapshot(&replica));
    }
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), rows);
    let (ended, to) = until(&scene, &dropped, &[]);
    ended.expect(0).says(&format!("is not: {late} of "));
    assert!(Server::start_on(&to).try_sql("SELECT 1 FROM shop.t0").is_err());
    // The last one that there is.
    let (ended, to) = until(&scene, &late, &[]);
    ended.expect(0).says(&format!("is not: the first one after {late}"));
    assert_eq!(Server::start_on(&to).sql("SHOW DATABASES LIKE 'late'").len(), 1);
    // Behind a journal: the same server goes along it, and on.
    scene.run().expect(0);
    primary.sql("CREATE DATABASE later");
    let last = gtids(primary).pop().unwrap();
    let (ended, to) = until(&scene, &last, &[]);
    ended.expect(0).says("applied 1 transaction after");
    let restored = Server::start_on(&to);
    assert_eq!(restored.sql("SHOW DATABASES LIKE 'late%'").len(), 2);
}

#[test]
fn moments_that_a_primary_cannot_give_are_told() {
    need_server!();
    let scene = Scene::seeded("cannot");
    let primary = &scene.primary;
    primary.sql("CREATE DATABASE d0");
    let unknown = flavor::either("0-1-99999999", "3e11fa47-71ca-11e1-9e33-c80aa9429562:7");
    let gtid = gtids(primary).pop().unwrap();
    let wrong = scene.path("wrong.cnf");
    primary.write_option_file_as(&wrong, "nightly", "not-the-password");
    let wrong = format!("--defaults-file={}", wrong.display());
    let absent = format!("--defaults-file={}", scene.path("absent.cnf").display());
    for (when, more, status, says) in [
        ("2099-12-31T23:59:59Z", "-v", 1, "error: out-of-reach: "),
        (unknown, "-v", 1, "error: out-of-reach: "),
        (&gtid, &wrong, 1, "error: access-denied: "),
        (&gtid, &absent, 2, "absent.cnf"),
        (&gtid, "--primary=127.0.0.1:1", 75, "error: primary-unreachable: "),
    ] {
        let (ended, _) = until(&scene, when, &[more]);
        let ended = ended.expect(status).says(says);
        let errors = ended.log().iter().filter(|line| line.contains("error:")).count();
        assert!(errors <= 1, "{ended}");
    }
    // None is asked for what is stored.
    scene.run().expect(0);
    let (ended, _) = until(&scene, &gtid, &["--primary=127.0.0.1:1"]);
    ended.expect(0);
    // It has thrown away what follows.
    primary.sql("CREATE DATABASE d1");
    primary.flush_and_purge_logs();
    primary.sql("CREATE DATABASE d2");
    let gtid = gtids(primary).pop().unwrap();
    let (ended, _) = until(&scene, &gtid, &[]);
    ended.expect(1).says("error: purged: ");
    // It lacks what the backup has.
    let other = Primary::start("other");
    other.create_account(crate::support::NIGHTLY);
    other.sql("CREATE DATABASE d3");
    let later = flavor::either("0-9-99999999", gtid.as_str());
    let there = format!("--primary=127.0.0.1:{}", other.port());
    let (ended, _) = until(&scene, later, &[&there]);
    ended.expect(1).says("error: diverged: ");
}

#[test]
fn a_receiver_that_loses_its_primary_goes_on() {
    need_server!();
    let scene = Scene::seeded("lost");
    let primary = &scene.primary;
    primary.backlog("shop", 3000);
    primary.sql("CREATE DATABASE late");
    let last = gtids(primary).pop().unwrap();
    let proxy = Proxy::start(primary);
    proxy.slow_down(200_000);
    let to = scene.path("lost");
    let mut command = scene.command("restore").args(["--until", &last]).arg("--to").arg(&to);
    command = command.arg("--defaults-file").arg(&scene.nightly).args(scene.mysqld());
    command = command.arg(format!("--primary={}", proxy.address())).arg("--backoff-base=50ms");
    if crate::support::is_root() {
        command = command.arg("--mysqld-user=root");
    }
    let mut run = command.spawn();
    let relay = to.join("rollforward.tmp/receive/data/relay.000002");
    let first = to.join("rollforward.tmp/receive/data/relay.000001");
    let grown = |log: &PathBuf| fs::metadata(log).is_ok_and(|m| m.len() > 50_000);
    wait_until("some of it", LONG, || grown(&relay) || grown(&first));
    proxy.cut();
    run.wait_for_log("receiving on in", LONG);
    proxy.mend();
    run.finish(LONG).expect(0).says("primary-unreachable: ");
    let restored = Server::start_on(&to);
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.backlog"), "3000");
    assert_eq!(restored.sql("SHOW DATABASES LIKE 'late'").len(), 1);
}
