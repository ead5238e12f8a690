//! Progress and not time decides: what moves is never ended, what does not is.

use std::time::Duration;

use super::outages::{alter_is_under_way, long_alter, scene_with_large};
use super::{LONG, count, wait_until_moving};
use crate::support::{PATIENCE, Server, wait_until};

#[test]
fn work_lasting_many_stall_times_ends_0() {
    need_server!();
    let rows = 6000;
    let scene = scene_with_large("slow", rows);
    scene.primary.slow_backlog("shop", 12, 1.0);
    long_alter(&scene, rows);
    let mut pass = scene.command("run").args(["--stall-timeout=3s", "--max-failures=1"]).spawn();
    wait_until("the ALTER to be applied", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        alter_is_under_way(&scene)
    });
    let before = std::time::Instant::now();
    wait_until("the end of the ALTER", 3 * LONG, || {
        assert!(!pass.has_ended() || !alter_is_under_way(&scene), "{}", pass.dump());
        !alter_is_under_way(&scene)
    });
    let alter = before.elapsed();
    let ended = pass.finish(LONG).expect(0);
    println!("an ALTER of {alter:?} with a stall time of 3 s\n{ended}");
    assert!(alter > Duration::from_secs(9), "{alter:?} is too short to tell");
    assert_eq!(count(&ended, "failure"), 1, "the announcement and no failure; {ended}");
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    let restored = Server::start_on(&scene.restore(None));
    let digests = restored.value("SELECT COUNT(DISTINCT digest) FROM shop.large");
    assert_eq!(digests, (rows + 1).to_string());
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.slow"), "12");
    scene.assert_nothing_left();
}

#[test]
fn a_stalled_applier_without_progress_stores_nothing() {
    need_server!();
    let scene = crate::support::Scene::seeded("sleeps");
    scene.primary.slow_backlog("shop", 1, 0.0);
    scene.settle();
    scene.primary.slow_rows("shop", 1, 40.0);
    let program = scene.command("run").args(["--stall-timeout=2s", "--max-failures=0"]);
    let ended = program.arg("--ping-timeout=2s").run_to_end(LONG).expect(75);
    let ended = ended.says("error: stalled: no progress for 2s");
    assert_eq!(scene.checkpoint().get("cause"), Some("stalled"), "{ended}");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn a_new_transaction_clears_failures_also_in_the_checkpoint() {
    need_server!();
    let scene = crate::support::Scene::seeded("forgotten");
    scene.primary.slow_backlog("shop", 200, 0.05);
    let mut pass = scene.command("run").arg("--max-failures=1").spawn();
    let mysqld = wait_until_moving(&scene, &mut pass);
    crate::support::kill(mysqld, libc::SIGKILL);
    let failed = pass.wait_for_checkpoint("the failure in the checkpoint", PATIENCE, |c| {
        (c.number("failures") == Some(1)).then(|| c.clone())
    });
    assert_eq!(failed.get("cause"), Some("mysqld-died"), "{failed:?}");
    assert!(failed.get("message").is_some_and(|m| m.contains("signal 9")), "{failed:?}");
    let moving = pass.wait_for_checkpoint("the failure to be forgotten", PATIENCE, |c| {
        (c.number("failures") == Some(0)).then(|| c.clone())
    });
    assert_eq!(moving.get("phase"), Some("catch-up"), "{moving:?}");
    assert_eq!((moving.get("cause"), moving.get("message")), (None, None), "{moving:?}");
    // The old one is forgotten: another one is the first again.
    let mysqld = pass.wait_for_mysqld(PATIENCE);
    crate::support::kill(mysqld, libc::SIGKILL);
    let ended = pass.finish(LONG).expect(0);
    assert_eq!(count(&ended, "failure 1 of 2"), 2, "{ended}");
    scene.assert_nothing_left();
}
