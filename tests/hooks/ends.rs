//! How hooks end, well or not, and what a stop or a kill of the pass does to them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::{NOTE, Place, SOON, noted, shell};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Running, Scene, alive, processes_under, wait_until};

/// Notes its pid, and its child's, in `pids`, and runs on.
const HANGS: &str = "sleep 600 &\necho $$ $! >\"$at/pids\"\nwait";

fn pids(place: &Place) -> Vec<i32> {
    place.wait_for("pids").split_whitespace().map(|p| p.parse().unwrap()).collect()
}

#[track_caller]
fn assert_gone(pids: &[i32]) {
    wait_until("the end of the hook and its child", SOON, || !pids.iter().any(|p| alive(*p)));
}

#[test]
fn a_failing_before_ends_the_pass_before_any_work() {
    let place = Place::new("before");
    let after = shell(place.dir.path(), "after", NOTE);
    for (body, says) in [
        ("echo starting\necho no disk >&2\nexit 7", "it exited with status 7"),
        ("echo no disk\nkill -9 $$", "it was killed by signal 9 (KILL)"),
        ("echo no disk\nexit 75", "it exited with status 75"),
    ] {
        let before = shell(place.dir.path(), "before", body);
        let run = place.run().arg(format!("--before={before}"));
        let run = run.args([format!("--after={after}"), format!("--after-failure={after}")]);
        let ended = run.clone().arg("-q").run_to_end(SOON).expect(2);
        let error = format!("error: configuration: --before /bin/sh: {says}; the pass has not");
        let ended = ended.says(&error).says("warning: --before: its last line was: no disk");
        assert!(!ended.stderr.contains("primary"), "{ended}");
        let checkpoint = place.checkpoint();
        assert_eq!(checkpoint.get("state"), Some("failed"));
        assert_eq!(checkpoint.get("cause"), Some("configuration"));
        let message = checkpoint.get("message").unwrap();
        assert!(message.contains(says) && !message.contains("no disk"), "{message}");
        assert_eq!(place.read("order"), "after-failure\nafter\n");
        let told = noted(place.dir.path(), "after");
        assert_eq!((&*told["EXIT_STATUS"], &*told["CAUSE"]), ("2", "configuration"));
        fs::remove_file(place.at("order")).unwrap();
        assert_eq!(fs::read_dir(place.at("repo/backups")).unwrap().count(), 0);
        assert!(!place.at("scratch/data").exists());
    }
}

#[test]
fn interrupted_data_survives_a_failing_before() {
    need_server!();
    let scene = Scene::seeded("outlives");
    scene.primary.slow_backlog("shop", 150, 0.02);
    let mut pass = scene.command("run").spawn();
    pass.wait_for_phase("catch-up", COMMAND_PATIENCE);
    pass.kill(libc::SIGTERM);
    pass.finish(COMMAND_PATIENCE).expect(143);
    for _ in 0..2 {
        scene.command("run").arg("--before=false").run_to_end(COMMAND_PATIENCE).expect(2);
        assert!(scene.has_scratch_data());
    }
    // Nor does it matter that a pass is killed while its hook runs.
    let marker = scene.path("marker");
    let hook = shell(&scene.path(""), "hook", "echo >\"$at/marker\"; exec sleep 600");
    let pass = scene.command("run").arg(format!("--before={hook}")).spawn();
    wait_until("the hook", COMMAND_PATIENCE, || marker.exists());
    pass.kill(libc::SIGKILL);
    pass.finish(COMMAND_PATIENCE);
    let ended = scene.command("run").arg("--before=true").run_to_end(COMMAND_PATIENCE).expect(0);
    ended.says("resuming the interrupted pass");
}

#[test]
fn a_failing_after_is_a_warning_and_the_next_runs() {
    let place = Place::new("after");
    let fails = shell(place.dir.path(), "fails", "echo mail is down; exit 3");
    let note = shell(place.dir.path(), "note", NOTE);
    let broken = place.at("broken");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let path = broken.display().to_string();
    let unknown = format!("{path}: it cannot be executed: no such file or directory");
    for (hook, says) in [
        (fails, "/bin/sh: it exited with status 3; its last line was: mail is down"),
        (path, unknown.as_str()),
    ] {
        let run = place.run().args([format!("--after-failure={hook}"), format!("--after={note}")]);
        let ended = run.run_to_end(SOON).expect(75);
        let ended = ended.says(&format!("warning: --after-failure {says}\n"));
        assert!(ended.log().pop().unwrap().contains("error: primary-unreachable: "), "{ended}");
        assert_eq!(place.checkpoint().get("exit_status"), Some("75"));
        assert_eq!(place.read("order"), "after\n");
        fs::remove_file(place.at("order")).unwrap();
    }
    let ended = place.run().arg("--before").arg(&broken).run_to_end(SOON).expect(2);
    ended.says("error: configuration: --before ").says("it cannot be executed");
}

#[test]
fn a_hanging_hook_is_ended_with_all_its_processes() {
    let place = Place::new("hangs");
    let hangs = shell(place.dir.path(), "hangs", HANGS);
    for (option, status) in [("before", 2), ("after", 75), ("after-failure", 75)] {
        let run = place.run().args([format!("--{option}={hangs}"), "--hook-timeout=2s".into()]);
        let ended = run.run_to_end(SOON).expect(status);
        let says = format!("--{option} /bin/sh: it took longer than 2s and was ended");
        let ended = ended.says(&says);
        assert!(ended.wall < Duration::from_secs(9), "TERM was enough: {ended}");
        assert_gone(&pids(&place));
        fs::remove_file(place.at("pids")).unwrap();
    }
}

#[test]
fn a_hook_that_ignores_term_is_killed_after_a_while() {
    let place = Place::new("stubborn");
    let body = format!("trap '' TERM\n{HANGS}\nwait");
    let stubborn = shell(place.dir.path(), "stubborn", &body);
    let run = place.run().args([format!("--after={stubborn}"), "--hook-timeout=2s".into()]);
    let ended = run.run_to_end(SOON).expect(75).says("it took longer than 2s and was ended");
    assert!(ended.wall >= Duration::from_secs(10), "{ended}");
    assert_gone(&pids(&place));
}

/// Starts a pass with `hook`, and stops it when that runs.
#[track_caller]
fn stopped(place: &Place, option: &str, hook: &str) -> Running {
    let pass = place.run().arg(format!("--{option}={hook}")).spawn();
    place.wait_for("pids");
    pass.kill(libc::SIGTERM);
    pass
}

#[test]
fn a_stop_during_before_ends_the_pass_with_143() {
    let place = Place::new("stop");
    let body = format!("trap 'echo stopped >\"$at/told\"; exit 0' TERM\n{HANGS}");
    let hook = shell(place.dir.path(), "hook", &body);
    let note = shell(place.dir.path(), "note", NOTE);
    let pass = place.run().args([format!("--before={hook}"), format!("--after={note}")]).spawn();
    let both = pids(&place);
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(SOON).expect(143).says("error: interrupted: ");
    assert!(ended.wall < Duration::from_secs(9), "{ended}");
    assert_eq!(place.read("told"), "stopped\n");
    assert_gone(&both);
    assert_eq!(place.checkpoint().get("state"), Some("stopped"));
    assert_eq!(noted(place.dir.path(), "after")["EXIT_STATUS"], "143");
}

#[test]
fn a_stop_during_after_does_not_change_the_outcome() {
    let place = Place::new("late");
    let hook = shell(place.dir.path(), "hook", HANGS);
    let pass = stopped(&place, "after", &hook);
    let ended = pass
        .finish(SOON)
        .expect(75)
        .says("--after /bin/sh: it was terminated because the pass was stopped");
    assert!(ended.wall < Duration::from_secs(9), "{ended}");
    assert_gone(&pids(&place));
    assert_eq!(place.checkpoint().get("exit_status"), Some("75"));
}

#[test]
fn a_second_signal_kills_a_hook_and_skips_the_others() {
    let place = Place::new("second");
    let body = "trap '' TERM\nsleep 600 &\ntrap 'echo stopped >\"$at/told\"' TERM\n\
                echo $$ $! >\"$at/pids\"\nwhile kill -0 $!; do wait; done";
    for (option, status) in [("before", 143), ("after-failure", 75)] {
        let hook = shell(place.dir.path(), "hook", body);
        let note = shell(place.dir.path(), "note", NOTE);
        let run = place.run().args([format!("--{option}={hook}"), format!("--after={note}")]);
        let pass = run.spawn();
        let both = pids(&place);
        pass.kill(libc::SIGTERM);
        place.wait_for("told");
        assert!(both.iter().all(|p| alive(*p)), "a TERM is not enough");
        let again = Instant::now();
        pass.kill(libc::SIGINT);
        let ended = pass.finish(SOON).expect(status);
        assert!(again.elapsed() < Duration::from_secs(5), "{ended}");
        assert_gone(&both);
        ended.says("not running --after /bin/sh: a second signal arrived");
        assert_eq!(place.read("order"), "");
        for file in ["pids", "told"] {
            fs::remove_file(place.at(file)).unwrap();
        }
    }
}

#[test]
fn what_follows_a_stop_has_half_a_minute_in_all() {
    let place = Place::new("minute");
    let waits = shell(place.dir.path(), "waits", "echo $$ >\"$at/pids\"; exec sleep 600");
    let hook = shell(place.dir.path(), "hook", "exec sleep 600");
    let run = place.run().args([format!("--before={waits}"), format!("--after-failure={hook}")]);
    let pass = run.arg(format!("--after={hook}")).spawn();
    pids(&place);
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(2 * SOON).expect(143);
    let ended = ended.says("--after-failure /bin/sh: it took longer than 30s and was ended");
    let ended = ended.says("not running --after /bin/sh: no time is left after the stop");
    assert!(ended.wall < Duration::from_secs(45), "{ended}");
}

#[test]
fn a_killed_pass_takes_its_hook_along() {
    let place = Place::new("killed");
    for option in ["before", "after"] {
        let hook = shell(place.dir.path(), "hook", "echo $$ >\"$at/pids\"\nexec sleep 600");
        let pass = place.run().arg(format!("--{option}={hook}")).spawn();
        let hook = pids(&place);
        pass.kill(libc::SIGKILL);
        pass.finish(SOON).expect(256 + libc::SIGKILL);
        assert_gone(&hook);
        fs::remove_file(place.at("pids")).unwrap();
    }
}

#[test]
fn hook_output_is_logged_by_line_and_within_bounds() {
    let place = Place::new("says");
    let body = "printf 'one\\n\\ntwo \\033[31mred\\r\\n' >&2
head -c 300000 /dev/zero | tr '\\0' x
echo
printf '\\377\\376 bytes\\n'
echo to fd >/dev/stdout
seq 1500
printf 'no end'";
    let hook = shell(place.dir.path(), "hook", body);
    let run = place.run().arg(format!("--before={hook}"));
    let ended = run.run_to_end(SOON).expect(75);
    let ended = ended.says("info: --before says: one\n").says("--before says: two ?[31mred\n");
    let ended = ended.says(&format!("--before says: {}...\n", "x".repeat(1000)));
    let ended = ended.says("--before says: \u{fffd}\u{fffd} bytes\n").says("says: to fd\n");
    let ended = ended.says("--before said more than 1000 lines; the rest is not logged");
    let said = ended.log().iter().filter(|l| l.contains("--before says: ")).count();
    assert_eq!(said, 1000, "{ended}");
    let longest = ended.log().iter().map(|l| l.len()).max();
    assert!(longest.is_some_and(|l| l < 1100), "{longest:?}");

    // All of a last line without an end is there, also when it is all there is.
    let hook = shell(place.dir.path(), "hook", "printf 'no end'; exit 4");
    let ended = place.run().arg(format!("--after={hook}")).run_to_end(SOON).expect(75);
    ended.says("--after says: no end\n").says("status 4; its last line was: no end\n");
    // To the log file, if there is one.
    let log = place.at("log");
    let run = place.run().arg(format!("--after={hook}")).arg("--log-file").arg(&log);
    assert_eq!(run.run_to_end(SOON).expect(75).stderr, "");
    assert!(place.read("log").contains("--after says: no end\n"));
}

#[test]
fn background_processes_of_a_hook_are_not_waited_for() {
    let place = Place::new("background");
    let hook = shell(place.dir.path(), "hook", "echo begins\nsleep 600 &\necho $! >\"$at/pids\"");
    let ended = place.run().arg(format!("--before={hook}")).run_to_end(SOON).expect(75);
    ended.says("--before says: begins\n").says("ran --before /bin/sh in ");
    let left = pids(&place);
    assert!(left.iter().all(|p| alive(*p)));
    left.iter().for_each(|p| crate::support::kill(*p, libc::SIGKILL));
    assert_eq!(processes_under(&place.at("hook.sh")), [] as [i32; 0]);
}
