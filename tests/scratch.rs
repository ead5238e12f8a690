//! What lies in the scratch directory, or is put there meanwhile, does no harm elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::intruder::{ALL, Swapper, outside};
use crate::support::repository::tree;
use crate::support::{PATIENCE, Replica, Rollforward, Running, Scene, strace_missing, wait_until};

/// No command may wait for what it is given.
const SOON: Duration = Duration::from_secs(10);

/// How often the race is run.
const TIMES: u32 = 20;

#[test]
fn odd_scratch_entries_never_block_or_lead_outside() {
    need_server!();
    let scene = Scene::seeded("places");
    let outside = outside(&scene.path(""));
    let before = tree(&outside);
    let places = ["lock", "state", "checkpoint", "tmp", "data", "mysqld.log", "mysqld.sock"];
    for place in places.into_iter().chain(["state.new", "checkpoint.new", "mysqld.pid"]) {
        for kind in ALL {
            let name = format!("{kind:?} as {place}");
            let _ = fs::remove_dir_all(&scene.scratch);
            fs::create_dir(&scene.scratch).unwrap();
            // Ours, so that it is not refused for what it holds.
            fs::write(scene.scratch.join("state"), "format=1\n").unwrap();
            kind.put(&scene.scratch.join(place), &outside);
            // Nothing is due: it looks at all there is and goes.
            let pass = scene.command("run").arg("--min-interval=1h").run_to_end(SOON);
            assert!(pass.status <= 2 && !pass.stderr.contains("panicked"), "{name}: {pass}");
            assert_eq!(tree(&outside), before, "{name}: {pass}");
            let status = scene.command("status").arg("--scratch").arg(&scene.scratch);
            let status = status.run_to_end(SOON);
            assert!(status.status <= 3 && !status.stderr.contains("panicked"), "{name}: {status}");
        }
    }
    // The ones that are only notes hold nobody up.
    for kind in ALL {
        for place in ["checkpoint", "checkpoint.new"] {
            let _ = fs::remove_dir_all(&scene.scratch);
            fs::create_dir(&scene.scratch).unwrap();
            fs::write(scene.scratch.join("state"), "format=1\n").unwrap();
            kind.put(&scene.scratch.join(place), &outside);
            scene.command("run").arg("--min-interval=1h").run_to_end(SOON).expect(0);
        }
    }
    assert_eq!(tree(&outside), before);
    scene.run().expect(0);
}

#[test]
fn a_checkpoint_without_an_end_is_not_read() {
    need_server!();
    let scene = Scene::seeded("endless");
    fs::remove_file(scene.scratch.join("checkpoint")).unwrap();
    let huge = fs::File::create(scene.scratch.join("checkpoint")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let limit = ["prlimit", "--as=300000000", "--"];
    let pass = scene.command("run").arg("--min-interval=1h").under(limit).run_to_end(SOON);
    pass.expect(0).says(": it is not a checkpoint");
}

#[test]
fn swapping_a_directory_for_a_link_misleads_no_clearing() {
    need_server!();
    let scene = Scene::seeded("races");
    let dir = scene.path("");
    let outside = outside(&dir);
    let before = tree(&outside);
    let link = scene.path("link");
    symlink(outside.join("shop"), &link).unwrap();
    // It is restored, and then the server does not start: the data goes.
    let no_server = scene.path("no-server");
    fs::write(&no_server, "#!/bin/sh\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&no_server, mode).unwrap();
    let data = scene.scratch.join("data");
    let mut swaps = 0;
    for _ in 0..TIMES {
        fs::create_dir_all(data.join("shop")).unwrap();
        fs::write(scene.scratch.join("state"), "format=1\nstage=kept\n").unwrap();
        for surplus in 0..300 {
            fs::write(data.join("shop").join(format!("surplus-{surplus}")), "x").unwrap();
        }
        fs::write(data.join("shop/surplus"), "x").unwrap();
        let swapper = Swapper::start(&data.join("shop"), &link);
        wait_until("the first swap", PATIENCE, || swapper.swaps.load(Ordering::Relaxed) > 0);
        let pass = scene.command("run").arg("--mysqld").arg(&no_server);
        let outcome = pass.arg("--max-failures=0").run_to_end(PATIENCE);
        swaps += swapper.end();
        assert!(outcome.status == 1 || outcome.status == 75, "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        assert_eq!(tree(&outside), before, "{outcome}");
        let _ = fs::remove_dir_all(&data);
        if link.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            // It was taken away between the two halves of an exchange.
            fs::remove_dir_all(&link).unwrap();
        }
        if link.symlink_metadata().is_err() {
            symlink(outside.join("shop"), &link).unwrap();
        }
    }
    println!("{swaps} swaps in {TIMES} passes");
    scene.run().expect(0);
    assert_eq!(tree(&outside), before);
}

/// Servers take a colon for the end of a directory, and their scripts a blank.
#[test]
fn any_name_will_do_for_the_directories() {
    need_server!();
    let mut scene = Scene::new("names");
    scene.primary.fill("shop", 1, 50);
    let name = "a:b 'c\"; $d * ä=e,f";
    scene.scratch = scene.path(&format!("scratch {name}"));
    scene.repo = scene.path(&format!("repo {name}"));
    scene.seed();
    scene.run().expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

/// A pass that waits so many milliseconds before each call of one of `calls`.
fn slowed(command: &Rollforward, calls: &str, wait: u32) -> Running {
    let slow = format!("inject={calls}:delay_enter={}", wait * 1000);
    let trace = format!("trace={calls}");
    let strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
    command.clone().under(strace.into_iter().chain(["-e", &trace, "-e", &slow])).spawn()
}

/// It ends within a second or two of what could take a minute.
#[track_caller]
fn stops_at_once(pass: Running) {
    let asked = Instant::now();
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE).expect(128 + libc::SIGTERM);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}; {ended}", asked.elapsed());
}

#[test]
fn a_stop_waits_for_no_removal_of_old_data() {
    need_server!();
    if strace_missing() {
        return;
    }
    let scene = Scene::seeded("removal");
    let old = scene.scratch.join("data.old");
    fs::create_dir_all(old.join("shop")).unwrap();
    for n in 0..600 {
        fs::write(old.join(format!("shop/t{n}.ibd")), "old").unwrap();
    }
    let left = || fs::read_dir(old.join("shop")).map_or(0, Iterator::count);
    let mut pass = slowed(&scene.command("run"), "?unlink,?unlinkat", 100);
    wait_until("the removal", PATIENCE, || (1..590).contains(&left()) || pass.has_ended());
    stops_at_once(pass);
    assert!((1..590).contains(&left()), "{} files are left", left());
    scene.run().expect(0);
    assert!(!old.exists());
}

#[test]
fn a_stop_waits_for_no_walk_through_a_source() {
    need_server!();
    if strace_missing() {
        return;
    }
    let mut scene = Scene::new("walk");
    scene.primary.stop();
    let source = scene.primary.datadir().to_path_buf();
    fs::create_dir(source.join("many")).unwrap();
    for n in 0..2000 {
        fs::write(source.join(format!("many/t{n}.ibd")), "").unwrap();
    }
    let seed = scene.command("seed").arg(format!("--from=dir:{}", source.display()));
    // The metadata of each entry is asked for; before that, of each file that a process of this machine has
    // open.
    let mut pass = slowed(&seed, "?statx,?newfstatat", 20);
    pass.wait_for_phase("seed", 5 * PATIENCE);
    let open = format!("/proc/{}/fd", pass.checkpoint().number("pid").unwrap());
    let is_below =
        |fd: &Path| fs::read_link(fd).is_ok_and(|p| p != source && p.starts_with(&source));
    wait_until("the walk to be below the top", PATIENCE, || {
        fs::read_dir(&open).into_iter().flatten().flatten().any(|fd| is_below(&fd.path()))
    });
    assert!(!scene.scratch.join("data/many").exists(), "it was no longer walking");
    stops_at_once(pass);
    assert!(!scene.scratch.join("data/many").exists());
}
