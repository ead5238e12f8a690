//! Group 28, and what of groups 9, 10 and 21 no other file shows: signals in every phase, a log
//! that nobody reads, and what a kill leaves behind.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{LONG, count, wait_until_moving};
use crate::support::{
    PASSWORD, PATIENCE, Replica, Scene, Server, alive, flavor, kill, strace_missing, wait_until,
};

#[test]
fn after_a_stop_in_any_phase_the_next_ends_0() {
    need_server!();
    let scene = Scene::new("phases");
    scene.primary.fill("shop", 3, 20_000);
    scene.seed();
    scene.primary.backlog("shop", 500);
    // The other halves of these pairs, and the catch-up, are in tests/stop.rs.
    for (phase, signal) in [
        ("restore", libc::SIGTERM),
        ("start", libc::SIGINT),
        ("stop", libc::SIGINT),
        ("backup", libc::SIGINT),
    ] {
        let mut pass = scene.command("run").arg("--jobs=1").spawn();
        pass.wait_for_phase(phase, PATIENCE);
        pass.kill(libc::SIGSTOP);
        assert_eq!(pass.checkpoint().get("phase"), Some(phase), "too late\n{}", pass.dump());
        let since = Instant::now();
        pass.kill(signal);
        pass.kill(libc::SIGCONT);
        let ended = pass.finish(PATIENCE).expect(128 + signal);
        assert!(since.elapsed() < Duration::from_secs(15), "{:?}; {ended}", since.elapsed());
        assert_eq!(count(&ended, "error: interrupted: "), 1, "{ended}");
        assert_eq!(scene.checkpoint().get("state"), Some("stopped"), "{ended}");
        assert_eq!(scene.backups().len(), 1);
        scene.assert_nothing_left();
    }
    scene.run().expect(0).says("resuming the interrupted pass");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_stop_while_pruning_leaves_whole_backups_only() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = Scene::seeded("pruning");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        while scene.backups().len() < 4 {
            scene.run().expect(0);
        }
        // The first removal takes its time.
        let oldest = scene.repo.join("backups").join(&scene.backups()[0]);
        let calls = "?unlink,?unlinkat";
        let (trace, slow) =
            (format!("trace={calls}"), format!("inject={calls}:delay_enter=1000000"));
        let oldest_path = oldest.to_string_lossy().into_owned();
        let mut pass =
            scene
                .command("run")
                .arg("--keep-count=1")
                .under(
                    ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"]
                        .into_iter()
                        .chain(["-e", &trace, "-e", &slow, "-P", oldest_path.as_str()]),
                )
                .spawn();
        pass.wait_for_phase("prune", PATIENCE);
        pass.kill(signal);
        let ended = pass.finish(LONG);
        assert!([0, 128 + signal].contains(&ended.status), "{ended}");
        assert!(!oldest.exists() || ended.status != 0, "{ended}");
        let list = scene.command("list").run_to_end(PATIENCE).expect(0);
        assert!(!list.stdout.contains("damaged"), "{list}");
        scene.command("verify").run_to_end(PATIENCE).expect(0);
        scene.assert_nothing_left();
    }
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_log_pipe_closing_midway_does_not_kill_the_pass() {
    need_server!();
    let scene = Scene::seeded("pipe");
    scene.primary.slow_backlog("shop", 60, 0.05);
    // Its reader takes one line and goes; the next line meets a closed pipe.
    let script = "{ \"$@\" 2>&1; echo $? >\"$STATUS\"; } | { read -r line; }";
    let status = scene.path("status");
    let mut pass =
        scene.command("run").under(["sh", "-c", script, "sh"]).env("STATUS", &status).spawn();
    let mysqld = pass.wait_for_mysqld(PATIENCE);
    // Something to say, when nobody listens: a failure.
    wait_until("the catch-up", PATIENCE, || {
        scene.checkpoint().get("phase") == Some("catch-up") && alive(mysqld)
    });
    kill(mysqld, libc::SIGKILL);
    wait_until("its end", LONG, || status.exists() && pass.has_ended());
    wait_until("its status", PATIENCE, || fs::read_to_string(&status).unwrap() == "0\n");
    assert_eq!(scene.checkpoint().get("state"), Some("done"));
    assert_eq!(scene.backups().len(), 2);
    scene.assert_nothing_left();
}

#[test]
fn hangups_in_every_phase_do_no_harm() {
    need_server!();
    let scene = Scene::seeded("hangups");
    scene.primary.slow_backlog("shop", 20, 0.05);
    let mut pass = scene.command("run").spawn();
    let mut phases = Vec::new();
    while !pass.has_ended() {
        let now = pass.checkpoint().get("phase").map(str::to_string);
        if let Some(now) = now
            && !pass.has_ended()
        {
            pass.kill(libc::SIGHUP);
            phases.push(now);
        }
        std::thread::yield_now();
    }
    phases.dedup();
    println!("hung up in {phases:?}");
    pass.finish(LONG).expect(0);
    assert!(phases.len() >= 3, "{phases:?}");
    assert_eq!(scene.backups().len(), 2);
}

#[test]
fn a_stop_after_an_outside_shutdown_leaves_no_login() {
    need_server!();
    let scene = Scene::seeded("login");
    scene.primary.slow_backlog("shop", 200, 0.05);
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let program = scene.command("run").args(["--backoff-base=1h", "--backoff-cap=1h"]);
        let mut pass = program.spawn();
        let mysqld = wait_until_moving(&scene, &mut pass);
        // MySQL is given it at each start of replication, and keeps it nowhere.
        let login = scene.scratch.join("data/master.info");
        wait_until("a login in the data", PATIENCE, || {
            let login = fs::read_to_string(&login);
            flavor::is_mysql() || login.is_ok_and(|text| text.contains(PASSWORD))
        });
        kill(mysqld, signal);
        pass.wait_for_log("failure 1 of 11, retrying in", PATIENCE);
        assert_eq!(scene.files_with(&scene.scratch, PASSWORD), [] as [&Path; 0], "in the wait");
        let since = Instant::now();
        pass.kill(libc::SIGTERM);
        let ended = pass.finish(PATIENCE).expect(143);
        assert!(since.elapsed() < Duration::from_secs(5), "{ended}");
        for entry in fs::read_dir(scene.scratch.join("data")).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with("master") && !name.starts_with("relay"), "{name} is left");
        }
        scene.assert_nothing_left();
    }
    scene.run().expect(0).says("resuming the interrupted pass");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

/// Is there anything else than directories in it?
fn has_a_file(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_type().is_ok_and(|t| t.is_file()))
}

#[test]
fn data_of_a_killed_restore_is_never_used() {
    need_server!();
    let scene = Scene::new("half");
    scene.primary.fill("shop", 6, 20_000);
    scene.seed();
    // Of a pass: stands still with some of its files there, and dies so.
    let mut pass = scene.command("run").arg("--jobs=1").spawn();
    pass.wait_for_phase("restore", PATIENCE);
    wait_until("the first file", PATIENCE, || {
        assert!(!pass.has_ended(), "{}", pass.dump());
        has_a_file(&scene.scratch.join("data"))
    });
    pass.kill(libc::SIGKILL);
    pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
    assert!(scene.state().contains("stage=partial\n"), "{}", scene.state());
    let ended = scene.run().expect(0);
    assert_eq!(count(&ended, "restored "), 1, "{ended}");
    assert_eq!(count(&ended, "resuming the interrupted"), 0, "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // Of a restore: the next one goes on with what is there.
    let to = scene.path("to");
    let restore = scene.command("restore").arg("--jobs=1").arg("--to").arg(&to);
    let mut running = restore.spawn();
    wait_until("the first file", PATIENCE, || has_a_file(&to) || running.has_ended());
    if !running.has_ended() {
        running.kill(libc::SIGKILL);
        if running.finish(PATIENCE).status != 0 {
            restore.run_to_end(PATIENCE).expect(0).says("going on with it");
            Server::start_on(&to).sql("CHECK TABLE shop.t0");
        }
    }
}

#[test]
fn leftovers_and_a_long_path_do_not_matter() {
    need_server!();
    let mut scene = Scene::seeded("leftovers");
    // Longer than the 107 bytes that a socket's path may have.
    let deep = scene.path(&"deep-".repeat(40));
    assert!(deep.join("mysqld.sock").as_os_str().len() > 200);
    fs::create_dir(&deep).unwrap();
    scene.scratch = deep;
    scene.primary.slow_backlog("shop", 60, 0.05);
    let mut pass = scene.command("run").spawn();
    wait_until_moving(&scene, &mut pass);
    pass.kill(libc::SIGKILL);
    pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
    // The pid that it noted is somebody else's by now: this test's own.
    let own = std::process::id();
    let state: String = scene
        .state()
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("mysqld_pid", _)) => format!("mysqld_pid={own}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(scene.scratch.join("state"), state).unwrap();
    for name in ["mysqld.pid", "lock"] {
        fs::write(scene.scratch.join(name), format!("{own}\n")).unwrap();
    }
    fs::write(scene.repo.join("lock"), format!("{own}\n")).unwrap();
    fs::write(scene.scratch.join("mysqld.sock.lock"), format!("{own}\n")).unwrap();
    let _ = fs::remove_file(scene.scratch.join("mysqld.sock"));
    fs::write(scene.scratch.join("mysqld.sock"), "no socket").unwrap();
    let ended = scene.run().expect(0).says("resuming the interrupted pass");
    assert!(!ended.stderr.contains("ending the mysqld"), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn a_socket_of_another_listener_is_not_spoken_to() {
    need_server!();
    let scene = Scene::seeded("taken");
    scene.run().expect(0);
    let socket = scene.scratch.join("mysqld.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    listener.set_nonblocking(true).unwrap();
    scene.primary.backlog("shop", 20);
    scene.run().expect(0);
    let spoken = listener.accept().map(|(mut s, _)| s.read(&mut [0; 8]).unwrap_or(0));
    assert!(spoken.is_err(), "{spoken:?}");
    scene.assert_nothing_left();
}

#[test]
fn a_mysqld_left_behind_is_ended_by_the_next_pass() {
    need_server!();
    let scene = Scene::seeded("orphan");
    scene.primary.slow_backlog("shop", 60, 0.05);
    // It may write into its log only.
    let log = scene.scratch.join("mysqld.log");
    // A server whose parent-death signal was lost, as by file capabilities: by one more fork.
    let fake = scene.fake_mysqld(
        "orphan",
        "MYSQLD \"$@\" & echo orphan $! >&2; while kill -0 $!; do wait $!; done 2>/dev/null",
    );
    let orphan = || {
        let text = fs::read_to_string(&log).ok()?;
        text.lines().find_map(|l| l.strip_prefix("orphan ")?.parse::<i32>().ok())
    };
    let program = scene.command("run").arg("--mysqld").arg(&fake);
    let mut pass = program.spawn();
    wait_until_moving(&scene, &mut pass);
    let orphan = orphan().unwrap();
    let shell = pass.wait_for_mysqld(PATIENCE);
    pass.kill(libc::SIGKILL);
    pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
    wait_until("the shell to be gone", PATIENCE, || !alive(shell));
    assert!(alive(orphan), "this one was to be left over");
    // As the state of a pass that had started it directly.
    let stat = fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_string();
    let state: String = scene
        .state()
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("mysqld_pid", _)) => format!("mysqld_pid={orphan}\n"),
            Some(("mysqld_start", _)) => format!("mysqld_start={start}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(scene.scratch.join("state"), state).unwrap();
    let ended = scene.run().expect(0).says(&format!("ending the mysqld (pid {orphan})"));
    assert!(!alive(orphan), "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}
