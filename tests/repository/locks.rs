//! Two at once.

use std::fs;
use std::time::Duration;

use super::{LONG, PATIENCE, on, states};
use crate::support::repository::copy;
use crate::support::{Scene, Server, alive, strace_missing, wait_until};

#[test]
fn a_second_pass_ends_at_once_and_readers_proceed() {
    need_server!();
    let scene = Scene::seeded("locks");
    let [backup] = scene.backups().try_into().unwrap();
    scene.primary.backlog("shop", 500);
    let mut first = scene.command("run").spawn();
    first.wait_for_phase("catch-up", LONG);
    // It stands still and holds both locks.
    first.kill(libc::SIGSTOP);
    let holder = format!("is locked by pid {} (run since 2", first.pid());
    let checkpoint = scene.path("scratch/checkpoint");
    let before = fs::read(&checkpoint).unwrap();
    let elsewhere = scene.path("elsewhere");
    let other = scene.path("other-repo");
    copy(&scene.repo, &other);

    for (what, command) in [
        ("both", scene.command("run")),
        ("the repository", scene.command("run").arg("--scratch").arg(&elsewhere)),
        ("the scratch", scene.command("run").arg("--repo").arg(&other)),
        ("both, by a seed", scene.command("seed").args(["--from", "dump"])),
        ("the repository, by a prune", scene.command("prune").arg("--keep-count=1")),
    ] {
        let outcome = command.run_to_end(PATIENCE);
        assert_eq!(outcome.status, 75, "{what}: {outcome}");
        assert!(outcome.wall < Duration::from_secs(2), "{what}: {outcome}");
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("error: locked: "), "{what}: {outcome}");
        assert!(last.contains(&holder), "{what}: {outcome}");
    }
    assert_eq!(fs::read(&checkpoint).unwrap(), before, "the checkpoint of the first");
    assert!(!elsewhere.join("checkpoint").exists());

    assert_eq!(states(&scene.repo), [format!("{backup} complete")]);
    scene.command("verify").run_to_end(PATIENCE).expect(0);
    let dry = ["--dry-run", "--keep-count=1"];
    scene.command("prune").args(dry).run_to_end(PATIENCE).expect(0).says("nothing to remove");
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT COUNT(*) FROM shop.t0"), "2000");

    first.kill(libc::SIGCONT);
    first.finish(LONG).expect(0);
    assert_eq!(scene.backups().len(), 2);
}

#[test]
fn the_lock_of_a_dead_process_blocks_nothing() {
    need_server!();
    let scene = Scene::seeded("dead");
    scene.primary.backlog("shop", 500);
    let mut first = scene.command("run").spawn();
    let mysqld = first.wait_for_mysqld(LONG);
    let pid = first.pid();
    first.kill(libc::SIGKILL);
    first.finish(PATIENCE).expect(256 + libc::SIGKILL);
    wait_until("its mysqld to be gone", Duration::from_secs(1), || !alive(mysqld));
    for lock in [scene.repo.join("lock"), scene.scratch.join("lock")] {
        let text = fs::read_to_string(&lock).unwrap();
        assert!(text.starts_with(&format!("pid {pid} (run since ")), "{text}");
    }
    // Nor does one of the records that another process holds for ever.
    let held = fs::File::create(scene.repo.join("proofs/lock")).unwrap();
    held.lock().unwrap();
    let ended = scene.run().expect(0).says("warning: locked: the pass is not on record in full: ");
    assert_eq!(scene.backups().len(), 2);
    assert!(ended.wall < LONG / 2, "{ended}");
    assert!(scene.leftover_processes().is_empty());
}

#[test]
fn a_backup_that_is_being_restored_is_not_pruned() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = Scene::seeded("in-use");
    scene.run().expect(0);
    scene.run().expect(0);
    let [oldest, second, newest] = scene.backups().try_into().unwrap();
    let to = scene.path("slow");
    // Each file of that directory takes a second, and they come in the order of their names.
    let slow = to.join("shop");
    let calls = "?open,?openat,?openat2";
    let mut line = vec!["strace".to_string(), "-f".into(), "-qq".into(), "--seccomp-bpf".into()];
    line.extend(["-o".into(), "/dev/null".into(), "-e".into(), format!("trace={calls}")]);
    line.extend(["-e".into(), format!("inject={calls}:delay_enter=1000000")]);
    line.extend(["-P".into(), slow.display().to_string()]);
    let restore = scene.command("restore").arg(&oldest).arg("--jobs=1").arg("--to").arg(&to);
    let mut running = restore.under(line).spawn();
    wait_until("the middle of it", PATIENCE, || slow.exists() || running.has_ended());

    let prune = || on(&scene, &scene.repo, "prune").arg("--keep-count=1");
    prune().run_to_end(PATIENCE).expect(0).says(&format!("keeping {oldest} until"));
    assert_eq!(scene.backups(), [oldest.clone(), second.clone(), newest.clone()]);
    assert!(!slow.join("t1.ibd").exists(), "it was no longer in the middle");
    scene.command("verify").run_to_end(PATIENCE).expect(0);

    running.finish(PATIENCE).expect(0);
    Server::start_on(&to).sql("CHECK TABLE shop.t0");
    prune().run_to_end(PATIENCE).expect(0).says(&oldest);
    assert_eq!(scene.backups(), [second, newest]);
}
