//! A stop while the private server does not answer, or does not end.

use std::fs;
use std::time::{Duration, Instant};

use super::{assert_stopped, restored};
use crate::support::{PATIENCE, Scene, alive, kill, wait_until};

#[test]
fn a_stop_waits_for_one_answer_of_a_hung_server() {
    need_server!();
    let scene = Scene::seeded("hung");
    scene.primary.long_transaction("shop", 40);
    let mut pass = scene.command("run").arg("--ping-timeout=8s").spawn();
    let mysqld = pass.wait_for_mysqld(PATIENCE);
    pass.wait_for_phase("catch-up", PATIENCE);
    kill(mysqld, libc::SIGSTOP);
    let since = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE);
    assert!(since.elapsed() < Duration::from_secs(14), "{:?}\n{ended}", since.elapsed());
    ended.expect(128 + libc::SIGTERM).says("the scratch data was not shut down");
    assert!(!alive(mysqld));
}

#[test]
fn a_second_signal_ends_the_patience_with_mysqld() {
    need_server!();
    let scene = Scene::seeded("twice");
    // It may write into its log only.
    let log = scene.scratch.join("mysqld.log");
    let body = "trap 'echo asked to end >&2' TERM; MYSQLD \"$@\" & while :; do wait; done";
    let fake = scene.fake_mysqld("ignores", body);
    let program = || scene.command("run").arg("--mysqld").arg(&fake);
    // The first one arrives while mysqld is asked to end, and ends that no sooner ...
    let mut pass = program().arg("--shutdown-timeout=10m").spawn();
    wait_until("mysqld to be asked to end", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        fs::read_to_string(&log).is_ok_and(|text| text.contains("asked to end"))
    });
    pass.wait_for_phase("stop", PATIENCE);
    pass.kill(libc::SIGTERM);
    // ... which only a look at a clock could show: the next one must end it, and at once.
    pass.wait_for_checkpoint("a look after the signal", PATIENCE, {
        let mut first = None;
        move |c| {
            let updated = c.get("updated")?.to_string();
            (first.get_or_insert_with(|| updated.clone()) != &updated).then_some(())
        }
    });
    assert!(!pass.has_ended(), "the first signal ended the patience with mysqld");
    let since = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}\n{ended}", since.elapsed());
    assert_stopped(&scene, ended, libc::SIGTERM, "stop", 1);
    let ended = scene.run().expect(0);
    assert!(!restored(&ended), "{ended}");
}

#[test]
fn what_a_second_signal_kills_is_not_called_hung() {
    need_server!();
    let scene = Scene::seeded("impatient");
    let body = "trap : TERM; MYSQLD \"$@\" & while :; do wait; done";
    let fake = scene.fake_mysqld("ignores", body);
    scene.primary.long_transaction("shop", 40);
    let mut pass = scene.command("run").arg("--mysqld").arg(&fake).spawn();
    pass.wait_for_phase("catch-up", PATIENCE);
    pass.kill(libc::SIGTERM);
    pass.wait_for_phase("stop", PATIENCE);
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE).expect(128 + libc::SIGTERM);
    let ended = ended.says("it was killed, since a second signal arrived");
    assert!(!ended.stderr.contains("hung"), "{ended}");
    scene.assert_nothing_left();
}
