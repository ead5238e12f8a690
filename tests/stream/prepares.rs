//! What becomes of a stream that was read whole, while it is prepared and first started on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{is_gone, seed, stream};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::{
    PATIENCE, Rollforward, Running, Scene, alive, find_program, flavor, kill, wait_for,
};

/// A stream, and programs that play the part of those that work on what it brought.
struct Brought {
    scene: Scene,
    file: PathBuf,
    mysqld: PathBuf,
}

impl Brought {
    fn new(name: &str) -> Brought {
        let mut scene = Scene::new(name);
        scene.primary.fill("shop", 1, 2000);
        let file = stream(&mut scene);
        let mysqld = scene.fake_mysqld("mariadbd", "exec MYSQLD \"$@\"");
        // The other programs are looked for beside it first.
        Brought { scene, file, mysqld }
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.scene.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn seed(&self) -> Rollforward {
        seed(&self.scene, self.file.to_str().unwrap()).arg("--mysqld").arg(&self.mysqld)
    }

    /// A pass that has come to a program that says its number and goes no further.
    fn halted(&self) -> (Running, i32) {
        let at = self.scene.scratch.join("tmp/halted");
        let _ = fs::remove_file(&at);
        let run = self.seed().spawn();
        let pid = wait_for("the program", PATIENCE, || {
            fs::read_to_string(&at).ok()?.strip_suffix('\n')?.parse().ok()
        });
        (run, pid)
    }

    fn halt(&self) -> String {
        let at = self.scene.scratch.join("tmp/halted");
        format!("echo $$ >{}; exec sleep 60", at.display())
    }

    /// Stopped and killed there, it leaves nothing behind that is of use or at work.
    fn assert_ends_well(&self) {
        let (run, pid) = self.halted();
        run.kill(libc::SIGTERM);
        let ended = run.finish(PATIENCE).expect(143).says("error: interrupted: ");
        assert!(!alive(pid), "{ended}");
        is_gone(&self.scene, ended);
        let (run, pid) = self.halted();
        run.kill(libc::SIGKILL);
        run.finish(PATIENCE);
        wait_for("the end of its child", PATIENCE, || (!alive(pid)).then_some(()));
        assert!(self.scene.backups().is_empty());
    }

    /// On a disk that something fills, too.
    fn assert_too_small(&self) {
        let disk = SmallDisk::new("prepare", 300 << 20);
        let scratch = disk.path("scratch");
        let full = self.seed().arg("--scratch").arg(&scratch).scratch(&scratch);
        let ended = full.under(disk.wrapper()).run_to_end(COMMAND_PATIENCE).expect(1);
        let ended = ended.says("error: disk-full: no space left on the file system of ");
        assert!(!scratch.join("data").exists() && self.scene.backups().is_empty(), "{ended}");
    }

    fn assert_seeds(&self, with: Rollforward) {
        is_gone(&self.scene, with.run_to_end(COMMAND_PATIENCE).expect(0));
        assert_eq!(self.scene.backups().len(), 1);
    }
}

#[test]
fn ended_while_it_is_prepared_nothing_is_stored() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let brought = Brought::new("prepare");
    let scene = &brought.scene;
    let real = find_program("mariadb-backup").unwrap();
    brought.program("mariadb-backup", &brought.halt());
    brought.assert_ends_well();
    // The program itself.
    let (run, pid) = brought.halted();
    kill(pid, libc::SIGKILL);
    let ended = run.finish(PATIENCE).expect(1).says("error: io-error: cannot ");
    is_gone(scene, ended.says("mariadb-backup failed: ").says("killed by signal 9"));
    let stalls = brought.seed().arg("--stall-timeout=1s").run_to_end(COMMAND_PATIENCE);
    is_gone(scene, stalls.expect(75).says("error: stalled: "));
    // A full disk below it, of which it sees nothing itself where a library plays that part.
    let fills = "for a; do case $a in --target-dir=*) d=${a#*=};; esac; done; \
                 dd if=/dev/zero of=\"$d\"/ib_logfile0 bs=1M count=400; exit 1";
    brought.program("mariadb-backup", fills);
    brought.assert_too_small();
    brought.program("mariadb-backup", &format!("exec {} \"$@\"", real.display()));
    brought.assert_seeds(brought.seed());
}

#[test]
fn ended_while_a_server_first_starts_nothing_is_stored() {
    need_server!();
    let brought = Brought::new("starts");
    let halting = brought.scene.fake_mysqld("mariadbd", &brought.halt());
    assert_eq!(halting, brought.mysqld);
    brought.assert_ends_well();
    // Killed there, it is the server that has died.
    let (mut run, pid) = brought.halted();
    kill(pid, libc::SIGKILL);
    run.wait_for_log("mysqld-died: ", PATIENCE);
    run.kill(libc::SIGTERM);
    is_gone(&brought.scene, run.finish(PATIENCE).expect(143));
    // The disk is full when it starts.
    let fills = "for a; do case $a in --datadir=*) d=${a#*=};; esac; done; \
                 dd if=/dev/zero of=\"$d\"/filler bs=1M count=400; exec MYSQLD \"$@\"";
    brought.scene.fake_mysqld("mariadbd", fills);
    brought.assert_too_small();
    brought.assert_seeds(seed(&brought.scene, path(&brought.file)));
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}
