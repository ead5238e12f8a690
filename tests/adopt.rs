//! A data directory becomes the first backup: of a stopped server, or prepared by mariadb-backup.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::intruder::{Swapper, outside};
use crate::support::repository::tree;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Outcome, Replica, Rollforward, Scene, Server, assert_same, find_program, flavor, is_root,
    run_helper, snapshot,
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
fn a_stopped_primary_is_adopted_read_only_with_its_position() {
    need_server!();
    let mut scene = Scene::new("adopt");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 2, 2000);
    let source = scene.primary.datadir().to_path_buf();
    adopt(&scene, &source, &[]).expect(2).says("is in use by ");
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
fn a_directory_without_a_position_needs_one_given() {
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
        let adopted = adopt(&scene, &source, &["--position", &told]).expect(0);
        adopted.says(&format!("says that it is at {position}; --position {told} is believed"));
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
    let adopted = adopt(&scene, &source, &["--position", "0-1-9999"]).expect(0);
    adopted.says(&format!("says that it is at {position}; --position 0-1-9999 is believed"));
    let adopted = adopt(&scene, &source, &["--position", &position]).expect(0);
    assert!(!adopted.stderr.contains("is believed"), "{adopted}");
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
fn a_prepared_copy_brings_its_position() {
    need_server!();
    if flavor::is_mysql() {
        prepared_by_xtrabackup();
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
    tool(&["--backup", "--skip-ssl", "--user=root", &socket, &datadir]);
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

/// XtraBackup is in no package of the tests. What it leaves is put into a copy of a stopped
/// server's data, in its format: a set of several sources as MySQL prints it, a line for each,
/// and more of it than the tables know, since the latest part is in the binary log alone.
fn prepared_by_xtrabackup() {
    let mut scene = Scene::new("prepared");
    scene.primary.fill("shop", 2, 2000);
    let known = scene.primary.gtid_pos();
    scene.primary.stop();
    let copy = scene.path("copy");
    crate::support::repository::copy(scene.primary.datadir(), &copy);
    scene.primary.restart();
    // Without any content, so that the copy holds what the whole position says.
    for other in ["00000000", "ffffffff"] {
        let gtid = format!("{other}-e6d8-11f1-aba8-02fc00000001:7");
        let empty = format!("SET gtid_next = '{gtid}'; BEGIN; COMMIT; SET gtid_next = AUTOMATIC");
        scene.primary.sql(&empty);
    }
    let raw = scene.primary.sql("SELECT @@global.gtid_executed").remove(0).remove(0);
    assert_eq!(raw.lines().count(), 3, "{raw}");
    let position = scene.primary.gtid_pos();
    assert!(position.contains(&known) && position.len() > known.len(), "{position}");

    let leave = |name: &str, text: &str| fs::write(copy.join(name), text).unwrap();
    let state = |kind: &str| {
        format!(
            "backup_type = {kind}\nfrom_lsn = 0\nto_lsn = 19876543\nlast_lsn = 19876543\n\
             flushed_lsn = 19876543\nredo_memory = 0\nredo_frames = 0\n"
        )
    };
    leave("xtrabackup_binlog_info", &format!("binlog.000002\t1371\t{raw}\n"));
    leave(
        "xtrabackup_info",
        &format!(
            "uuid = 7f1b0f3c-e6d8-11f1-aba8-02fc00000001\nname = \ntool_name = xtrabackup\n\
             binlog_pos = filename 'binlog.000002', position '1371', GTID of the last change \
             '{raw}'\ninnodb_from_lsn = 0\ninnodb_to_lsn = 19876543\npartial = N\n\
             incremental = N\nformat = file\ncompressed = N\nencrypted = N\n"
        ),
    );
    leave("xtrabackup_tablespaces", "{}\n");
    leave("backup-my.cnf", "[mysqld]\ninnodb_page_size=16384\n");
    leave("xtrabackup_checkpoints", &state("full-backuped"));
    adopt(&scene, &copy, &[]).expect(2).says("xtrabackup --prepare");
    leave("xtrabackup_checkpoints", &state("full-prepared"));
    adopt(&scene, &copy, &[]).expect(0);
    assert_eq!(scene.newest_position(), position);
    let restored = scene.restore(None);
    let left: Vec<_> = fs::read_dir(&restored).unwrap().flatten().map(|e| e.file_name()).collect();
    let foreign = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.contains("xtrabackup") || name == "backup-my.cnf"
    };
    assert!(!left.iter().any(foreign), "{left:?}");
    assert_eq!(Server::start_on(&restored).value("SELECT @@global.gtid_slave_pos"), position);
    scene.primary.backlog("shop", 500);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the copy", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
}

/// The scratch directory belongs to the private mysqld's user, who puts links in the place of what
/// root has just made.
#[test]
fn a_directory_swapped_for_a_link_misleads_no_adoption() {
    need_server!();
    let mut scene = Scene::new("swapped");
    // Time enough to swap, and a directory of which there are many files.
    scene.primary.sql("CREATE DATABASE many");
    let tables: String = (0..60).map(|n| format!("CREATE TABLE many.t{n} (a INT);")).collect();
    scene.primary.sql(&tables);
    scene.primary.stop();
    let source = scene.primary.datadir().to_path_buf();
    let (mut swaps, link) = (0, scene.path("link"));
    let outside = outside(&scene.path("."));
    symlink(&outside, &link).unwrap();
    let before = tree(&outside);
    for _ in 0..6 {
        let swapper = Swapper::start(&scene.scratch.join("data/many"), &link);
        let user = if is_root() { &["--mysqld-user=nobody"][..] } else { &[] };
        let outcome = adopt(&scene, &source, user);
        swaps += swapper.end();
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        assert_eq!(tree(&outside), before, "{outcome}");
    }
    println!("{swaps} swaps");
    assert!(swaps > 6, "{swaps}");
}

#[test]
fn an_adopted_replica_brings_no_login_of_its_primary() {
    need_server!();
    let scene = Scene::new("upstream");
    let mut replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 1, 100);
    let position = scene.primary.gtid_pos();
    replica.advance_to(&position);
    replica.stop();
    let source = replica.datadir().to_path_buf();
    adopt(&scene, &source, &["--position", &position]).expect(0);
    let restored = scene.restore(None);
    let files = [restored.join("master.info"), restored.join("relay-log.info")];
    assert!(files.iter().all(|f| !f.exists()), "{files:?}");
    let server = Server::start_on(&restored);
    assert_eq!(server.value("SELECT COUNT(*) FROM shop.t0"), "100");
    if flavor::is_mysql() {
        let logins = "SELECT COUNT(*) FROM mysql.slave_master_info WHERE host <> ''";
        assert_eq!(server.value(logins), "0");
    }
}

/// It may have applied more than it logged: its binary log alone would have that applied again.
#[test]
fn a_replica_that_logged_less_needs_a_position_given() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::new("two");
    scene.primary.fill("shop", 1, 100);
    let position = scene.primary.gtid_pos();
    let replicated = format!("{position},5-9-7");
    scene.primary.sql(&format!("SET GLOBAL gtid_slave_pos = '{replicated}'"));
    let source = scene.primary.datadir().to_path_buf();
    scene.primary.stop();
    let ended = adopt(&scene, &source, &[]).expect(2).says("has two positions");
    ended.says(&position).says(&replicated).says("give with --position");
    assert!(scene.backups().is_empty());
    adopt(&scene, &source, &["--position", &position]).expect(0);
    assert_eq!(scene.newest_position(), position);
    // The one in its table, where nothing was logged.
    fs::write(source.join("binlog.state"), "").unwrap();
    adopt(&scene, &source, &[]).expect(0);
    assert_eq!(scene.newest_position(), replicated);
}
