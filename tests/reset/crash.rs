//! A primary that comes back from a crash without the end of its log.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::seen;
use crate::support::{Primary, Scene, flavor};
use crate::{follow, live};

/// A crash of its machine takes from a log that is not synced what it has sent already, and what it commits
/// after that has the same names. Here the data keeps it, which makes no difference.
#[test]
fn what_a_crash_took_from_a_log_is_missed() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = seen("crashed");
    let wait = Duration::from_secs(60);
    let end = |primary: &Primary| -> (PathBuf, u64) {
        let row = primary.sql("SHOW MASTER STATUS").swap_remove(0);
        (primary.datadir().join(&row[0]), row[1].parse().unwrap())
    };
    let lose = |primary: &mut Primary, (log, end): (PathBuf, u64)| {
        primary.kill9();
        File::options().write(true).open(log).unwrap().set_len(end).unwrap();
        primary.restart();
        primary.backlog("shop", 20);
    };
    let says = |lost: &str| format!("diverged: the base has {lost}, which the primary lacks");
    let follow_five = |scene: &Scene| {
        let run = follow::start(scene);
        scene.primary.backlog("shop", 5);
        follow::wait_for_end(scene, &scene.primary.gtid_pos());
        run.kill(libc::SIGTERM);
        run.finish(wait).expect(143);
        scene.primary.gtid_pos()
    };
    let before = end(&scene.primary);
    let lost = follow_five(&scene);
    lose(&mut scene.primary, before);
    follow::follower(&scene).run_to_end(wait).expect(1).says(&says(&lost));
    let (ended, _) = live::until(&scene, &scene.primary.gtid_pos(), &[]);
    ended.expect(1).says(&says(&lost));
    // The newest backup is from before, and leads on.
    scene.run().expect(0);
    follow_five(&scene);
    // Also where another log was begun, of which nothing was lost.
    scene.primary.sql("FLUSH BINARY LOGS");
    follow_five(&scene);
    let before = end(&scene.primary);
    scene.primary.backlog("shop", 5);
    scene.run().expect(0);
    let (backups, lost) = (scene.backups(), scene.newest_position());
    lose(&mut scene.primary, before);
    scene.command("run").run_to_end(wait).expect(1).says(&says(&lost));
    assert_eq!(scene.backups(), backups);
    follow::follower(&scene).run_to_end(wait).expect(1).says(&says(&lost));
}
