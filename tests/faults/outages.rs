//! Groups 11 and 12: the primary is away for a while, and what the applier does meanwhile.

use std::time::{Duration, Instant};

use super::{LONG, count, wait_until_moving};
use crate::support::{PATIENCE, Proxy, Replica, Rollforward, Scene, flavor, wait_until};

/// `run` with no option that makes it quick to fail: all defaults.
fn run_by_default(scene: &Scene) -> Rollforward {
    let option = |name: &str, value: &std::path::Path| format!("--{name}={}", value.display());
    Rollforward::new(["run"])
        .arg(option("repo", &scene.repo))
        .arg(option("scratch", &scene.scratch))
        .arg(option("defaults-file", &scene.nightly))
        .args(scene.mysqld())
        .scratch(&scene.scratch)
}

#[test]
fn forty_seconds_that_swallow_everything_end_0_with_default_options() {
    need_server!();
    let scene = Scene::seeded("hole");
    scene.primary.backlog("shop", 4500);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let mut pass = run_by_default(&scene).args(["--primary", &proxy.address()]).spawn();
    wait_until_moving(&scene, &mut pass);
    proxy.swallow();
    let since = Instant::now();
    let first = pass.wait_for_log("primary-unreachable: ", PATIENCE) - since;
    wait_until("forty seconds to be over", PATIENCE, || since.elapsed().as_secs() >= 40);
    assert!(!pass.has_ended(), "{}", pass.dump());
    proxy.slow_down(u64::MAX);
    proxy.mend();
    let mended = Instant::now();
    let again = pass.wait_for_log("making progress again at ", LONG) - mended;
    let ended = pass.finish(LONG).expect(0);
    println!("swallowed: noticed after {first:?}, moves {again:?} after its end\n{ended}");
    assert!(first < Duration::from_secs(25), "{ended}");
    assert!(again < Duration::from_secs(75), "{ended}");
    assert_eq!(count(&ended, "started mysqld"), 1, "for an outage; {ended}");
    assert!(ended.log().len() < 20, "a screenful; {ended}");
    let checkpoint = scene.checkpoint();
    for (key, value) in [("state", "done"), ("failures", "0"), ("exit_status", "0")] {
        assert_eq!(checkpoint.get(key), Some(value), "{checkpoint:?}");
    }
    assert_eq!((checkpoint.get("cause"), checkpoint.get("message")), (None, None));
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

/// Gives the private server, and no other one, an ALTER to do for some `seconds` of its CPU: the
/// base has the rows, and the primary does no longer when it makes the change.
pub fn long_alter(scene: &Scene, rows: u32) {
    scene.primary.sql(&format!(
        "SET SESSION sql_log_bin = 0; TRUNCATE shop.large; SET SESSION sql_log_bin = 1; \
         ALTER TABLE shop.large ADD COLUMN digest CHAR(128) \
         AS (SHA2(REPEAT(text, {HEAVY}), 512)) PERSISTENT, ADD KEY (digest), ALGORITHM = COPY; \
         INSERT INTO shop.large (id, n, text) VALUES ({rows} + 1, 0, 'after')"
    ));
}

/// Rows whose ALTER takes longer than a ping may, so that a STOP that waits for it would be a hung
/// server; and longer than it takes until the second attempt has failed.
const ROWS: u32 = 3000;

/// How long a text each row's digest is of: a millisecond or two.
const HEAVY: u32 = 12_000;

/// A scene whose base has `shop.large` with so many rows.
pub fn scene_with_large(name: &str, rows: u32) -> Scene {
    let scene = Scene::seeded(name);
    scene.primary.sql(&format!(
        "CREATE TABLE shop.large (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, \
         text VARCHAR(200) NOT NULL) ENGINE=InnoDB; \
         INSERT INTO shop.large (n, text) SELECT seq, REPEAT(SHA2(seq, 256), 2) \
         FROM shop.seq_1_to_{rows}"
    ));
    scene.settle();
    scene
}

/// Is the private server at work on the ALTER?
pub fn alter_is_under_way(scene: &Scene) -> bool {
    let entries = std::fs::read_dir(scene.scratch.join("data/shop")).into_iter().flatten();
    let copy = flavor::either("#sql-alter", "#sql-");
    entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with(copy))
}

#[test]
fn a_brief_outage_does_not_disturb_a_long_alter() {
    need_server!();
    let scene = scene_with_large("alter", ROWS);
    long_alter(&scene, ROWS);
    scene.primary.backlog("shop", 4000);
    let proxy = Proxy::start(&scene.primary);
    // Slow, so that the primary is needed when it goes.
    proxy.slow_down(30_000);
    let mut pass = scene
        .command("run")
        .args(["--primary", &proxy.address(), "--ping-timeout=2s", "--max-failures=100"])
        .spawn();
    wait_until("the ALTER to be applied", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        alter_is_under_way(&scene)
    });
    // Away for two attempts, and back.
    proxy.cut();
    pass.wait_for_log("failure 2 of 101", PATIENCE);
    proxy.slow_down(u64::MAX);
    proxy.mend();
    assert!(alter_is_under_way(&scene), "the ALTER was too short to tell\n{}", pass.dump());
    let since = Instant::now();
    let ended = pass.finish(LONG).expect(0);
    println!("back under an ALTER: {:?} more\n{ended}", since.elapsed());
    assert!(ended.wall > Duration::from_secs(4), "too short to tell; {ended}");
    assert!(!ended.stderr.contains("mysqld-hung"), "{ended}");
    assert_eq!(count(&ended, "started mysqld"), 1, "{ended}");
    assert_eq!(count(&ended, "restored "), 1, "{ended}");
    scene.assert_nothing_left();
}

#[test]
fn another_candidate_is_followed_when_the_long_alter_is_done() {
    need_server!();
    let scene = scene_with_large("alter-other", ROWS);
    long_alter(&scene, ROWS);
    scene.primary.backlog("shop", 4000);
    let (first, second) = (Proxy::start(&scene.primary), Proxy::start(&scene.primary));
    // Slow, so that the first one is needed when it goes.
    first.slow_down(30_000);
    let candidates = format!("{},{}", first.address(), second.address());
    let mut pass =
        scene.command("run").args(["--primary", &candidates, "--ping-timeout=2s"]).spawn();
    wait_until("the ALTER to be applied", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        alter_is_under_way(&scene)
    });
    first.cut();
    pass.wait_for_log("failure 1 of 11", PATIENCE);
    assert!(alter_is_under_way(&scene), "the ALTER was too short to tell\n{}", pass.dump());
    let ended = pass.finish(LONG).expect(0);
    println!("another candidate after an ALTER\n{ended}");
    assert!(!ended.stderr.contains("mysqld-hung"), "{ended}");
    assert_eq!(count(&ended, "started mysqld"), 1, "{ended}");
    assert_eq!(scene.checkpoint().get("primary"), Some(second.address().as_str()));
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    scene.assert_nothing_left();
}

#[test]
fn a_primary_lost_under_a_long_alter_leaves_a_backup() {
    need_server!();
    let scene = scene_with_large("alter-gone", ROWS);
    scene.primary.backlog("shop", 20);
    long_alter(&scene, ROWS);
    scene.primary.backlog("shop", 4000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(30_000);
    let mut pass = scene
        .command("run")
        .args(["--primary", &proxy.address(), "--ping-timeout=2s", "--max-failures=0"])
        .spawn();
    wait_until_moving(&scene, &mut pass);
    wait_until("the ALTER to be applied", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        alter_is_under_way(&scene)
    });
    proxy.cut();
    let ended = pass.finish(LONG).expect(3).says("before the goal");
    println!("gone under an ALTER\n{ended}");
    assert_eq!(scene.backups().len(), 2);
    assert_eq!(scene.checkpoint().get("cause"), Some("primary-unreachable"));
    let restored = crate::support::Server::start_on(&scene.restore(None));
    let digests: u32 = restored.value("SELECT COUNT(digest) FROM shop.large").parse().unwrap();
    assert!(digests >= ROWS, "{digests}");
    scene.assert_nothing_left();
}

#[test]
fn a_connected_receiver_without_data_stalls_and_is_restarted() {
    need_server!();
    let scene = Scene::seeded("silent");
    scene.primary.backlog("shop", 3000);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let run = |max: &str| {
        let program = scene.command("run").args(["--primary", &proxy.address()]);
        program.args(["--stall-timeout=2s", max]).spawn()
    };
    // For less than the ten seconds after which a receiver gives up on a silent line.
    let mut pass = run("--max-failures=1000");
    wait_until_moving(&scene, &mut pass);
    proxy.swallow();
    let said = "stalled: no progress for 2s: replication from 127.0.0.1:";
    pass.wait_for_log(said, PATIENCE);
    proxy.slow_down(u64::MAX);
    proxy.mend();
    let ended = pass.finish(LONG).expect(0).says("making progress again at ").says(", short of ");
    println!("silent\n{ended}");
    assert_eq!(count(&ended, "started mysqld"), 1, "{ended}");
    assert_eq!(scene.checkpoint().get("failures"), Some("0"));
    // Given up on after progress: what was reached is stored.
    scene.primary.backlog("shop", 3000);
    proxy.slow_down(60_000);
    let mut pass = run("--max-failures=0");
    wait_until_moving(&scene, &mut pass);
    proxy.swallow();
    let ended = pass.finish(LONG).expect(3).says(said);
    assert_eq!(scene.checkpoint().get("cause"), Some("stalled"), "{ended}");
    assert_eq!(scene.backups().len(), 3);
    scene.run().expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}
