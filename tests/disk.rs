//! Full disks: in a restore, at mysqld's start, in the catch-up, in a dump and while storing the
//! pass ends soon, with the numbers and what to do, and nothing half is listed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::limits::file_size;
use crate::support::repository::{all_packs, tree};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::{SmallDisk, space};
use crate::support::{
    Outcome, PATIENCE, Rollforward, Running, Scene, alive, flavor, is_root, wait_for,
};

const MIB: u64 = 1 << 20;

/// A command with its scratch directory on the disk.
pub(crate) fn on(scene: &Scene, disk: &SmallDisk, command: &str) -> Rollforward {
    let scratch = disk.path("scratch");
    let command = scene.command(command).arg("--scratch").arg(&scratch).scratch(&scratch);
    command.args(Scene::usual_log()).args(disk.server_options()).under(disk.wrapper())
}

#[track_caller]
fn assert_disk_full(what: &str, ended: Outcome, place: &Path, option: &str) -> Outcome {
    println!("{what}: {:?}, {}", ended.wall, ended.log().last().unwrap());
    let ended = ended.expect(1);
    let last = ended.log().last().unwrap().to_string();
    let begin =
        format!("error: disk-full: no space left on the file system of {}", place.display());
    assert!(last.contains(&begin), "{ended}");
    assert!(last.contains(" free") && last.contains("; free some space there, "), "{ended}");
    assert!(last.ends_with(&format!("or use another {option}; exit status 1")), "{ended}");
    assert_eq!(ended.stderr.matches("error: ").count(), 1, "{ended}");
    assert!(ended.wall < Duration::from_secs(60), "{ended}");
    ended
}

/// The checkpoint tells it, the scratch data is gone, and the backups are what they were.
#[track_caller]
fn assert_clean(scene: &Scene, scratch: &Path, backups: &[String]) {
    let text = fs::read_to_string(scratch.join("checkpoint")).unwrap();
    for line in ["state=failed", "cause=disk-full", "exit_status=1"] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    assert!(!scratch.join("data").exists(), "scratch data goes after 1");
    assert_eq!(scene.backups(), backups);
    assert_eq!(fs::read_dir(scene.repo.join("tmp")).unwrap().count(), 0);
    scene.assert_nothing_left();
}

/// There are bytes enough, and the message must not send people to look for them.
#[test]
fn used_up_inodes_are_named() {
    need_server!();
    let scene = Scene::seeded("inodes");
    if !is_root() {
        return;
    }
    let mount = "mount -t tmpfs -o nr_inodes=40,size=1g inodes \"$0\"; exec \"$@\"";
    let dir = scene.path("mounted");
    fs::create_dir(&dir).unwrap();
    let under = |command: Rollforward| {
        let dir = dir.to_str().unwrap();
        let ended = command.under(["unshare", "--mount", "sh", "-ec", mount, dir]);
        let ended = ended.run_to_end(COMMAND_PATIENCE).expect(1).says("disk-full: ");
        let ended = ended.says("all its inodes are used; remove files there, or use another --");
        assert!(!ended.stderr.contains(" free"), "{ended}");
    };
    under(scene.command("run").arg("--scratch").arg(dir.join("scratch")));
    under(scene.command("restore").arg("--to").arg(dir.join("to")));
}

/// The space that a restored copy takes.
pub(crate) fn restored_space(scene: &Scene) -> u64 {
    let to = scene.restore(None);
    let bytes = space(&to);
    fs::remove_dir_all(&to).unwrap();
    bytes
}

/// What a server takes besides, once it runs: MySQL fills its redo log, of which a backup has
/// only what is in it.
pub(crate) fn running() -> u64 {
    flavor::either(0, 110 * MIB)
}

#[test]
fn a_restore_without_room_names_the_need_and_writes_nothing() {
    need_server!();
    let scene = Scene::seeded("restore");
    let backups = scene.backups();
    let disk = SmallDisk::new("small", 12 * MIB);
    let ended = on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE);
    let ended = assert_disk_full("restore", ended, &disk.path("scratch"), "--scratch");
    ended.says(" MiB free, ").says(" MiB needed; ");
    assert_clean(&scene, &disk.path("scratch"), &backups);
    let to = disk.path("to");
    let restore = scene.command("restore").arg("--to").arg(&to).under(disk.wrapper());
    let ended = restore.run_to_end(COMMAND_PATIENCE);
    assert_disk_full("restore --to", ended, &to, "--to").says(" MiB needed; ");
    assert!(!to.exists());
}

#[test]
fn what_is_in_the_scratch_directory_counts_as_free() {
    need_server!();
    let scene = Scene::seeded("counted");
    let disk = SmallDisk::new("small", restored_space(&scene) + running() + 60 * MIB);
    let ended = on(&scene, &disk, "run").arg("--keep-scratch").run_to_end(COMMAND_PATIENCE);
    ended.expect(0);
    disk.leave(40 * MIB);
    scene.primary.backlog("shop", 100);
    on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE).expect(0);
}

#[test]
fn a_disk_full_at_the_start_ends_the_pass() {
    need_server!();
    let scene = Scene::seeded("start");
    let backups = scene.backups();
    let data = restored_space(&scene);
    for room in [MIB, 3 * MIB, 6 * MIB, 10 * MIB] {
        let disk = SmallDisk::new("small", data + room);
        let ended = on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE);
        let what = format!("start with {} MiB", room / MIB);
        assert_disk_full(&what, ended, &disk.path("scratch/data"), "--scratch");
        assert_clean(&scene, &disk.path("scratch"), &backups);
    }
    scene.run().expect(0);
}

/// Waits until the pass is in the catch-up and its mysqld runs.
#[track_caller]
fn wait_for_catch_up(pass: &mut Running) {
    pass.wait_for_checkpoint("the catch-up", PATIENCE, |c| {
        let pid = c.number("mysqld_pid")? as i32;
        (c.get("phase") == Some("catch-up") && alive(pid)).then_some(())
    });
}

#[test]
fn a_disk_filling_up_during_catch_up_ends_the_pass() {
    need_server!();
    let scene = Scene::seeded("catch-up");
    let backups = scene.backups();
    let data = restored_space(&scene);
    // By what it receives and applies.
    let disk = SmallDisk::new("small", data + running() + 40 * MIB);
    scene.primary.fill("much", 2, 100_000);
    let ended = on(&scene, &disk, "run").run_to_end(COMMAND_PATIENCE);
    assert_disk_full("catch-up by itself", ended, &disk.path("scratch/data"), "--scratch");
    assert_clean(&scene, &disk.path("scratch"), &backups);
    // By somebody else, down to nothing or nearly so.
    for room in [0, 4 * MIB] {
        let scene = Scene::seeded("catch-up");
        let backups = scene.backups();
        scene.primary.slow_backlog("shop", 40, 0.05);
        let disk = SmallDisk::new("small", data + running() + 100 * MIB);
        let mut pass = on(&scene, &disk, "run").spawn();
        wait_for_catch_up(&mut pass);
        disk.leave(room);
        scene.primary.fill("more", 2, 60_000);
        scene.primary.slow_backlog("shop", 1, 1.0);
        let ended = pass.finish(COMMAND_PATIENCE);
        if room > 0 && ended.status == 0 {
            // The goal was before what does not fit.
            continue;
        }
        let what = format!("catch-up with {} MiB left", room / MIB);
        assert_disk_full(&what, ended, &disk.path("scratch/data"), "--scratch");
        assert_clean(&scene, &disk.path("scratch"), &backups);
    }
    scene.run().expect(0);
}

#[test]
fn a_dump_without_room_ends_the_seed() {
    need_server!();
    let scene = Scene::new("dump");
    scene.primary.fill("shop", 3, 80_000);
    for bytes in [2 * MIB, 60 * MIB, 160 * MIB] {
        let disk = SmallDisk::new("small", bytes);
        let seed = on(&scene, &disk, "seed").args(["--from", "dump"]);
        let ended = seed.run_to_end(COMMAND_PATIENCE);
        let what = format!("dump on {} MiB", bytes / MIB);
        assert_disk_full(&what, ended, &disk.path("scratch"), "--scratch");
        assert_clean(&scene, &disk.path("scratch"), &[]);
    }
    scene.seed();
}

#[test]
fn a_full_repository_ends_the_pass_and_keeps_its_backups() {
    need_server!();
    let mut scene = Scene::new("repository");
    scene.primary.fill("shop", 2, 2000);
    let disk = SmallDisk::new("small", 640 << 10);
    let repo = disk.path("repo");
    scene.repo.clone_from(&repo);
    let seed = || scene.command("seed").args(["--from", "dump"]).under(disk.wrapper());
    let ended = seed().run_to_end(COMMAND_PATIENCE);
    assert_disk_full("store", ended, &repo, "--repo").says(" MiB needed; ");
    assert_clean(&scene, &scene.scratch, &[]);
    assert_eq!(all_packs(&repo).len(), 0);
    drop(disk);

    let mut scene = Scene::new("repository");
    scene.primary.fill("shop", 2, 2000);
    let disk = SmallDisk::new("small", 40 * MIB);
    let repo = disk.path("repo");
    scene.repo.clone_from(&repo);
    scene
        .command("seed")
        .args(["--from", "dump"])
        .under(disk.wrapper())
        .run_to_end(COMMAND_PATIENCE)
        .expect(0);
    let (backups, packs) = (scene.backups(), all_packs(&repo));
    scene.primary.fill("more", 2, 40_000);
    let run = || scene.command("run").under(disk.wrapper()).run_to_end(COMMAND_PATIENCE);
    for room in [0, 64 << 10, MIB] {
        disk.make_room();
        disk.leave(room);
        let ended = run();
        let what = format!("run with {} KiB for it", room >> 10);
        let ended = assert_disk_full(&what, ended, &repo, "--repo");
        assert_clean(&scene, &scene.scratch, &backups);
        assert_eq!(all_packs(&repo), packs);
        // What cannot be stored is not caught up with first.
        assert_eq!(ended.stderr.contains("restored "), room > 0, "{ended}");
    }
    disk.make_room();
    run().expect(0);
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
}

/// The backup matters more than what is on record of it.
#[test]
fn a_pass_without_room_for_its_record_stores_its_backup() {
    need_server!();
    let scene = Scene::seeded("records");
    scene.run().expect(0);
    let proofs = scene.repo.join("proofs");
    let on_record = || {
        let mut all = tree(&proofs);
        // Its text is for people, and may be missing.
        all.retain(|path, _| !path.ends_with("lock"));
        all
    };
    let before = on_record();
    let disk = SmallDisk::full(&proofs);
    scene.primary.backlog("shop", 20);
    let run = scene.command("run").arg("--check-time=1m").under(disk.wrapper());
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(0);
    let ended = ended.says("warning: disk-full: the pass is not on record in full: ");
    let ended = ended.says("what was checked is not on record");
    assert_eq!((scene.backups().len(), on_record()), (3, before.clone()), "{ended}");
    // What is not on record is not proven.
    let ended = run.arg("--prove").run_to_end(COMMAND_PATIENCE).expect(3).says("proved ");
    assert_eq!(scene.checkpoint().get("cause"), Some("disk-full"), "{ended}");
    assert_eq!((scene.backups().len(), on_record()), (4, before), "{ended}");
    let listed = scene.command("list").arg("--json").run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(listed.stdout.matches("\"proven\": null").count(), 4, "{listed}");
    scene.run().expect(0);
    let report = scene.command("report").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(report.stdout.contains("\n3 passes, 3 with status 0\n"), "{report}");
    assert_eq!(report.stderr, "", "{report}");
}

#[test]
fn the_log_of_mysqld_does_not_fill_the_disk() {
    need_server!();
    let scene = Scene::seeded("log");
    scene.primary.slow_backlog("shop", 200, 0.05);
    let disk = SmallDisk::new("small", restored_space(&scene) + running() + 200 * MIB);
    let line = "2026-11-22 18:00:00 0 [ERROR] the same again and again\n";
    fs::write(scene.path("lines"), line.repeat((1 << 20) / line.len())).unwrap();
    // A GiB, while it serves.
    let body = format!(
        "p=$$; (i=0; while [ $i -lt 1024 ] && kill -0 $p; do cat {}; sleep 0.005; i=$((i+1)); \
         done) & exec MYSQLD \"$@\"",
        scene.path("lines").display()
    );
    let fake = scene.fake_mysqld("floods", &body);
    let mut pass =
        on(&scene, &disk, "run").arg("--mysqld").arg(&fake).arg("--poll-interval=5s").spawn();
    let log = disk.path("scratch/mysqld.log");
    let mut longest = 0;
    wait_for("the end of the pass", COMMAND_PATIENCE, || {
        longest = longest.max(fs::metadata(&log).map_or(0, |m| m.len()));
        pass.has_ended().then_some(())
    });
    println!("mysqld.log had {} MiB at most", longest >> 20);
    pass.finish(PATIENCE).expect(0);
    assert!(longest > 16 * MIB, "it was never long: {longest}");
    assert!(longest < 120 * MIB, "{longest}");
}

#[test]
fn a_file_size_limit_is_an_error_and_no_kill() {
    need_server!();
    let scene = Scene::seeded("fsize");
    let backups = scene.backups();
    let data = |scene: &Scene| {
        scene.primary.sql("SET SESSION binlog_format = 'STATEMENT'; CREATE DATABASE big");
        scene.primary.sql(
            "CREATE TABLE big.t (id INT PRIMARY KEY, text CHAR(250)) ENGINE=InnoDB; \
             INSERT INTO big.t SELECT seq, 'x' FROM big.seq_1_to_400000",
        );
    };
    data(&scene);
    // Too little for the files of the backup; enough for them, and too little for a new one.
    for limit in [8 * MIB, 100 * MIB] {
        let run = scene.command("run").under(file_size(limit));
        let ended = run.run_to_end(COMMAND_PATIENCE);
        println!("no file above {} MiB: {:?}, {}", limit / MIB, ended.wall, ended.stderr);
        let ended = ended.expect(1).says("error: io-error: cannot ").says("file too large");
        ended.says("raise the file size limit (ulimit -f, LimitFSIZE=)");
        assert_eq!(scene.backups(), backups);
        assert_eq!(scene.checkpoint().get("cause"), Some("io-error"));
        assert!(!scene.has_scratch_data());
        scene.assert_nothing_left();
    }
    scene.run().expect(0);
}

#[test]
fn a_sparse_file_of_100_gib_costs_no_memory() {
    need_server!();
    let scene = Scene::seeded("sparse");
    let from = scene.restore(None);
    let huge = fs::File::create(from.join("shop/huge.bin")).unwrap();
    huge.set_len(100 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, b"middle", 50 << 30).unwrap();
    let flat = |what: &str, command: Rollforward| {
        let mut command = command.spawn();
        let mut most = 0;
        wait_for("its end", COMMAND_PATIENCE, || {
            let status = fs::read_to_string(format!("/proc/{}/status", command.pid()));
            let text = status.unwrap_or_default();
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok());
            most = most.max(kib.unwrap_or(0u64));
            command.has_ended().then_some(())
        });
        let ended = command.finish(PATIENCE).expect(0);
        println!("{what}: {:?}, {} MiB at most", ended.wall, most >> 10);
        assert!(most > 0 && most < 100 << 10, "{most} KiB; {ended}");
    };
    let source = format!("dir:{}", from.display());
    flat("seed", scene.command("seed").args(["--from", &source]));
    scene.primary.backlog("shop", 100);
    flat("run", scene.command("run"));
    flat("verify", scene.command("verify"));
    let to = scene.path("to");
    flat("restore", scene.command("restore").arg("--to").arg(&to));
    assert_eq!(fs::metadata(to.join("shop/huge.bin")).unwrap().len(), 100 << 30);
    assert!(space(&to.join("shop")) < 20 * MIB);
}
