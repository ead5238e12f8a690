//! A data directory becomes the first backup: of a stopped server, or prepared by mariadb-backup.
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::scene::COMMAND_PATIENCE;
use support::{
    Outcome, Replica, Rollforward, Scene, Server, assert_same, find_program, flavor, run_helper,
    snapshot,
};

fn adopt(scene: &Scene, source: &Path, more: &[&str]) -> Outcome {
    // No account and no primary: none is needed.
    let from = format!("--from=dir:{}", source.display());
    Rollforward::new(["seed", &from])
        .arg("--repo")
        .arg(&scene.repo)
        .arg("--scratch")
        .arg(&scene.scratch)
        .args(scene.mysqld())
        .args(more)
        .scratch(&scene.scratch)
        .run_to_end(COMMAND_PATIENCE)
}

/// Every file's size and times.
fn shape(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let m = entry.metadata().unwrap();
        all.insert(entry.path(), (m.len(), m.mtime(), m.mtime_nsec()));
        if m.is_dir() {
            all.extend(shape(&entry.path()));
        }
    }
    all
}

#[test]
fn a_stopped_primary_is_adopted_with_its_position_and_only_read() {
    need_server!();
    let mut scene = Scene::new("adopt");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 2, 2000);
    let source = scene.primary.datadir().to_path_buf();
    adopt(&scene, &source, &[]).expect(2).says("is in use by a running server");
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    let before = shape(&source);
    adopt(&scene, &source, &[]).expect(0).says("adopted");
    assert_eq!(shape(&source), before, "the source was written to");
    assert_eq!(scene.newest_position(), position);
    assert!(!scene.scratch.join("data").exists());
    scene.primary.restart();
    scene.primary.backlog("shop", 500);
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

#[test]
fn a_directory_that_does_not_know_its_position_must_be_told() {
    need_server!();
    let mut scene = Scene::new("told");
    scene.primary.fill("shop", 1, 500);
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    let source = scene.primary.datadir().to_path_buf();
    if flavor::is_mysql() {
        // It knows always; who says something else is believed all the same.
        let told = position.replace(":1-", ":1-9");
        adopt(&scene, &source, &[]).expect(0);
        assert_eq!(scene.newest_position(), position);
        adopt(&scene, &source, &["--position", "0-1-1"]).expect(2).says("--position");
        adopt(&scene, &source, &["--position", &told]).expect(0);
        assert_eq!(scene.newest_position(), told);
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(restored.value("SELECT @@global.gtid_slave_pos"), told);
        return;
    }
    let state = source.join("binlog.state");
    fs::rename(&state, scene.path("binlog.state")).unwrap();
    adopt(&scene, &source, &[]).expect(2).says("give it with --position");
    assert!(scene.backups().is_empty());
    for bad in ["nonsense", "0-1", ""] {
        adopt(&scene, &source, &["--position", bad]).expect(2).says("--position");
    }
    adopt(&scene, &source, &["--position", &position]).expect(0);
    assert_eq!(scene.newest_position(), position);
    let restored = Server::start_on(&scene.restore(None));
    assert_eq!(restored.value("SELECT @@global.gtid_slave_pos"), position);
    fs::rename(scene.path("binlog.state"), &state).unwrap();
    scene.primary.restart();
    scene.primary.backlog("shop", 100);
    scene.run().expect(0);
}

#[test]
fn what_is_no_data_directory_is_refused_by_name() {
    need_server!();
    let scene = Scene::new("foreign");
    fs::create_dir(scene.path("empty")).unwrap();
    adopt(&scene, &scene.path("empty"), &[]).expect(2).says("has no ibdata1");
    adopt(&scene, &scene.path("absent"), &[]).expect(2).says("is not a directory");
    let dump = scene.command("seed").args(["--from=dump", "--position=0-1-1"]);
    dump.run_to_end(COMMAND_PATIENCE).expect(2).says("--position is for --from dir:PATH");
    assert!(!scene.repo.exists() && !scene.scratch.exists());
}

#[test]
fn a_prepared_copy_of_mariadb_backup_brings_its_position() {
    need_server!();
    if flavor::is_mysql() {
        // There is no such tool in the packages: what it leaves is in the unit tests.
        return;
    }
    let scene = Scene::new("prepared");
    scene.primary.fill("shop", 2, 2000);
    let copy = scene.path("copy");
    let tool = |args: &[&str]| {
        let mut command = Command::new(find_program("mariadb-backup").unwrap());
        command.arg("--no-defaults").args(args);
        command.arg(format!("--target-dir={}", copy.display()));
        run_helper(&mut command, "");
    };
    let socket = format!("--socket={}", scene.primary.socket().display());
    let datadir = format!("--datadir={}", scene.primary.datadir().display());
    tool(&["--backup", "--user=root", &socket, &datadir]);
    adopt(&scene, &copy, &[]).expect(2).says("mariadb-backup --prepare");
    tool(&["--prepare"]);
    let position = scene.primary.gtid_pos();
    adopt(&scene, &copy, &[]).expect(0);
    assert_eq!(scene.newest_position(), position);
    scene.primary.backlog("shop", 500);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the copy", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
}
