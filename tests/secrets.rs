//! The password is in no argument, no environment, no log and no file that stays.

use std::collections::BTreeSet;
use std::fs;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{CLONE, PASSWORD, PATIENCE, Running, Scene, flavor, wait_until};

/// What was seen of the program and all that it started.
#[derive(Default)]
struct Seen {
    programs: BTreeSet<String>,
    samples: usize,
}

/// A process and its parent, from `/proc/PID/stat`.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The processes that descend from `root`, and itself.
fn family(root: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<i32> =
        pids.filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect();
    let mut family = vec![root];
    let pairs: Vec<(i32, i32)> =
        pids.iter().filter_map(|pid| Some((*pid, parent_of(*pid)?))).collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(pairs.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// Looks at the arguments and environments of the program and its children once.
#[track_caller]
fn sample(root: i32, seen: &mut Seen) {
    for pid in family(root) {
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let (cmdline, environ) = (read("cmdline"), read("environ"));
        for (what, content) in [("arguments", &cmdline), ("environment", &environ)] {
            let text = String::from_utf8_lossy(content).replace('\0', " ");
            assert!(!text.contains(PASSWORD), "in the {what} of {pid}: {text}");
        }
        // Behind the loader that runs a server which is not installed there are two names more.
        for word in cmdline.split(|b| *b == 0).take(6) {
            let word = String::from_utf8_lossy(word);
            let name = word.rsplit('/').next().unwrap_or_default();
            seen.programs.insert(name.trim_end_matches(".real").to_string());
        }
        seen.samples += usize::from(!environ.is_empty());
    }
}

/// Samples until the program has ended with status 0; its log has no password in it either.
#[track_caller]
fn watch(mut pass: Running, seen: &mut Seen) {
    while !pass.has_ended() {
        sample(pass.pid(), seen);
    }
    let ended = pass.finish(COMMAND_PATIENCE).expect(0);
    assert!(!ended.stderr.contains(PASSWORD) && !ended.stdout.contains(PASSWORD), "{ended}");
    assert!(ended.stderr.contains("debug"), "-vv says more; {ended}");
}

#[track_caller]
fn assert_in_no_file(scene: &Scene) {
    for dir in [&scene.repo, &scene.scratch] {
        let found = scene.files_with(dir, PASSWORD);
        assert!(found.is_empty(), "the password is in {found:?}");
        assert!(!scene.files_with(dir, "position").is_empty(), "nothing was looked at");
    }
}

#[test]
fn the_password_appears_nowhere_in_a_dump_or_pass() {
    need_server!();
    let scene = Scene::new("nowhere");
    scene.primary.fill("shop", 3, 10_000);
    let mut seen = Seen::default();
    let program = scene.command("seed").args(["--from", "dump", "-vv"]);
    watch(program.spawn(), &mut seen);
    for program in ["rollforward", "mariadbd", "mariadb-dump", "mariadb"] {
        let program = flavor::program(program);
        assert!(seen.programs.contains(program), "never saw {program}: {:?}", seen.programs);
    }
    assert_in_no_file(&scene);
    scene.primary.slow_backlog("shop", 50, 0.02);
    let mut seen = Seen::default();
    let program = scene.command("run").args(["-vv", "--keep-scratch"]);
    watch(program.spawn(), &mut seen);
    for program in ["rollforward", "mariadbd"].map(flavor::program) {
        assert!(seen.programs.contains(program), "never saw {program}: {:?}", seen.programs);
    }
    assert!(seen.samples > 20, "{}", seen.samples);
    assert!(scene.has_scratch_data());
    assert_in_no_file(&scene);
    scene.assert_nothing_left();
}

#[test]
fn the_password_is_nowhere_while_and_after_a_clone() {
    need_server!();
    let scene = Scene::new("clone");
    scene.primary.fill("shop", 2, 10_000);
    let program = scene.command("seed").args(["--from", "clone", "-vv"]);
    if !flavor::is_mysql() {
        let ended = program.run_to_end(COMMAND_PATIENCE).expect(2);
        assert!(ended.stderr.contains("debug") && !ended.stderr.contains(PASSWORD), "{ended}");
        assert!(scene.files_with(&scene.scratch, PASSWORD).is_empty(), "{ended}");
        return;
    }
    let sql = |text: &str| drop(scene.primary.sql(text));
    let options = scene.path("clone.cnf");
    scene.primary.create_account(CLONE);
    scene.primary.write_option_file(&options, CLONE);
    sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    sql("SET GLOBAL general_log = ON");
    let program = program.arg("--defaults-file").arg(&options);
    let mut seen = Seen::default();
    watch(program.spawn(), &mut seen);
    for program in ["rollforward", "mysqld"] {
        assert!(seen.programs.contains(program), "never saw {program}: {:?}", seen.programs);
    }
    assert!(seen.samples > 20, "{}", seen.samples);
    assert_in_no_file(&scene);
    // The primary's own log of statements, too.
    let datadir = scene.primary.datadir().to_path_buf();
    assert!(scene.files_with(&datadir, PASSWORD).is_empty());
    assert!(!scene.files_with(&datadir, CLONE.user).is_empty(), "nothing was looked at");
    scene.assert_nothing_left();
}

#[test]
fn stopped_and_killed_passes_leave_no_lasting_password() {
    need_server!();
    let scene = Scene::seeded("stopped");
    scene.primary.slow_backlog("shop", 400, 0.02);
    let base = scene.newest_position();
    let start = || {
        let mut pass = scene.command("run").arg("-vv").spawn();
        pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
            (c.get("phase") == Some("catch-up") && c.get("position")? != base).then_some(())
        });
        pass
    };
    let holders = || -> Vec<String> {
        let found = scene.files_with(&scene.scratch, PASSWORD);
        found.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    // While it replicates MariaDB keeps it in one file, which nobody else can read. MySQL in none.
    let pass = start();
    let holder = flavor::either(["master.info"].as_slice(), &[]);
    assert_eq!(holders(), holder);
    use std::os::unix::fs::PermissionsExt;
    let modes = [("data", 0o700), ("", 0o700), ("data/master.info", 0o600)];
    for (path, mode) in modes.into_iter().take(2 + holder.len()) {
        let meta = fs::metadata(scene.scratch.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "mode of '{path}'");
    }
    pass.kill(libc::SIGTERM);
    let ended = pass.finish(PATIENCE).expect(143);
    assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    assert!(scene.has_scratch_data());
    assert_in_no_file(&scene);
    // A kill -9 leaves that file; the next pass removes it, whatever becomes of it.
    let kill_one = || {
        // Enough to be seen at work.
        scene.primary.slow_backlog("shop", 300, 0.02);
        let pass = start();
        // What is gone on with is ahead of the base at once.
        wait_until("the login", PATIENCE, || holders() == holder);
        pass.kill(libc::SIGKILL);
        pass.finish(PATIENCE).expect(256 + libc::SIGKILL);
        assert_eq!(holders(), holder);
    };
    kill_one();
    // Even one that does not get as far as to use the data.
    let away = scene.command("run").args(["--primary=127.0.0.1:1", "--max-failures=0"]);
    away.run_to_end(COMMAND_PATIENCE).expect(75);
    assert!(scene.has_scratch_data());
    assert_in_no_file(&scene);
    kill_one();
    let mut pass = scene.command("run").args(["--mysqld", "/bin/false"]).spawn();
    pass.has_ended();
    pass.finish(COMMAND_PATIENCE).expect(1);
    assert_in_no_file(&scene);
    scene.run().expect(0);
    assert_in_no_file(&scene);
}
