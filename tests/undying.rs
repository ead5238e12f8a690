//! Processes that not even a kill ends: waited for only so long, and no second server beside them.

use std::time::Duration;

use crate::support::limits::Cgroup;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, PATIENCE, Replica, Running, Scene, alive, kill, trace, wait_until};

/// A pass in the catch-up and its mysqld.
#[track_caller]
fn in_catch_up(scene: &Scene, args: &[&str]) -> (Running, i32) {
    let mut pass = scene.command("run").args(args).spawn();
    let pid = pass.wait_for_checkpoint("the catch-up", PATIENCE, |c| {
        let pid = c.number("mysqld_pid")? as i32;
        (c.get("phase") == Some("catch-up") && alive(pid)).then_some(pid)
    });
    (pass, pid)
}

fn count(outcome: &Outcome, text: &str) -> usize {
    outcome.log().iter().filter(|l| l.contains(text)).count()
}

#[test]
fn an_unkillable_mysqld_keeps_a_second_one_away() {
    need_server!();
    let scene = Scene::seeded("frozen");
    scene.primary.slow_backlog("shop", 100, 0.02);
    let Some(freezer) = Cgroup::freezer() else {
        // What cannot be reaped, below, and a kill that does not arrive, in process.rs, are the
        // same to the program.
        println!("nothing can be frozen here");
        return;
    };
    let (pass, pid) = in_catch_up(&scene, &["--ping-timeout=1s", "--max-failures=1"]);
    freezer.take(pid);
    freezer.freeze();
    let ended = pass.finish(COMMAND_PATIENCE).expect(75);
    println!("frozen: {:?}, {}", ended.wall, ended.stderr);
    let named =
        format!("no exit of its process {pid}, which was killed but is stuck in the kernel");
    let ended = ended.says(&format!("pid {pid} was killed but has not exited for 30s"));
    let ended = ended.says("mysqld-hung: ").says(&named);
    assert_eq!(count(&ended, "started mysqld"), 1, "a second one on the same data: {ended}");
    assert!(ended.wall < Duration::from_secs(50), "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-hung"));
    assert!(scene.state().contains(&format!("mysqld_pid={pid}\n")), "{}", scene.state());
    assert_eq!(scene.backups().len(), 1);
    // It still is: the next pass does not touch the data either.
    let mut pass = scene.command("run").spawn();
    pass.wait_for_log(&format!("ending the mysqld (pid {pid})"), PATIENCE);
    assert!(scene.has_scratch_data());
    // Its disk answers again.
    freezer.thaw();
    wait_until("the killed mysqld to be gone", PATIENCE, || !alive(pid));
    pass.finish(COMMAND_PATIENCE).expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn an_unreapable_mysqld_blocks_nothing_forever() {
    need_server!();
    let scene = Scene::seeded("traced");
    scene.primary.slow_backlog("shop", 100, 0.02);
    let (pass, pid) = in_catch_up(&scene, &["--ping-timeout=1s", "--shutdown-timeout=1s"]);
    // Who is traced can be reaped by the tracer only, which we are and never do.
    if !trace(pid) {
        println!("nothing can be traced here");
        return;
    }
    kill(pid, libc::SIGKILL);
    let ended = pass.finish(COMMAND_PATIENCE);
    println!("traced: {:?}, {}", ended.wall, ended.stderr);
    let ended = ended.expect(0).says(&format!("pid {pid} was killed but has not exited for 30s"));
    assert!(ended.wall < Duration::from_secs(60), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}
