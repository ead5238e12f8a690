//! A first backup from a stream: of mariadb-backup, or a tar of a stopped directory.

mod failures;
mod hostile;
mod prepares;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::writer::Writer;
use crate::support::{
    Outcome, PATIENCE, Replica, Rollforward, Scene, Server, assert_same, find_program, flavor,
    run_helper, snapshot,
};

/// `seed` from the stream `from`, without an account and a primary.
fn seed(scene: &Scene, from: &str) -> Rollforward {
    Rollforward::new(["seed", &format!("--from=stream:{from}")])
        .arg("--repo")
        .arg(&scene.repo)
        .arg("--scratch")
        .arg(&scene.scratch)
        .args(scene.mysqld())
        .args(["--backoff-base=50ms", "--poll-interval=200ms"])
        .args(flavor::is_mysql().then_some("--mysqld-option=--innodb-redo-log-capacity=16M"))
        .scratch(&scene.scratch)
}

/// The same with the output of a shell script as standard input.
fn piped(scene: &Scene, script: &str) -> Rollforward {
    // The writer may outlive the program.
    seed(scene, "-").under(["bash", "-c", &format!("exec \"$@\" < <({script})"), "bash"])
}

fn shell(script: &str) {
    let mut command = Command::new("sh");
    flavor::path_for(&mut command);
    run_helper(command.args(["-ec", script]), "");
}

/// A script that writes a backup of the running primary.
fn backup(scene: &Scene) -> String {
    format!(
        "{} --no-defaults --backup --stream=mbstream --skip-ssl --user=root --socket={} --datadir={} \
         2>{}",
        find_program("mariadb-backup").unwrap().display(),
        scene.primary.socket().display(),
        scene.primary.datadir().display(),
        scene.path("backup.err").display()
    )
}

/// A file with a backup of the running primary; on MySQL an archive, since nothing else is there.
fn stream(scene: &mut Scene) -> PathBuf {
    let file = scene.path("a.stream");
    if flavor::is_mysql() {
        scene.primary.stop();
        archive(scene.primary.datadir(), ".", &file);
        scene.primary.restart();
    } else {
        shell(&format!("{} >{}", backup(scene), file.display()));
    }
    file
}

/// An archive of `what` in `dir`.
fn archive(dir: &Path, what: &str, to: &Path) {
    shell(&format!("tar -C {} -cf {} {what}", dir.display(), to.display()));
}

#[track_caller]
fn is_gone(scene: &Scene, outcome: Outcome) -> Outcome {
    assert!(!scene.scratch.join("data").exists(), "{outcome}");
    assert_eq!(scene.leftover_processes(), [] as [i32; 0], "{outcome}");
    outcome
}

#[test]
fn a_backup_of_a_live_primary_is_piped_in() {
    need_server!();
    if flavor::is_mysql() {
        prepared_by_xtrabackup();
        return;
    }
    let scene = Scene::new("live");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 2, 2000);
    scene
        .primary
        .sql("CREATE TABLE shop.isam (a INT) ENGINE=MyISAM; INSERT INTO shop.isam VALUES (1)");
    let load = Writer::start(&scene.primary, "busy");
    let before = scene.primary.gtid_pos();
    let ended = piped(&scene, &backup(&scene)).run_to_end(COMMAND_PATIENCE).expect(0);
    let ended = ended.says("reading stream:-: a backup of mariadb-backup");
    is_gone(&scene, ended.says("unpacked ").says("prepared it in ").says("adopted stream:- at "));
    assert_ne!(scene.newest_position(), before, "nothing was written meanwhile");
    drop(load);
    // What was streamed is what the primary had at that very position.
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

/// XtraBackup is in no package of the tests: programs of its names unpack and mark as prepared what is
/// a stopped server's directory in its format.
fn prepared_by_xtrabackup() {
    let mut scene = Scene::new("xtra");
    scene.primary.fill("shop", 2, 2000);
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    let copy = scene.path("copy");
    crate::support::repository::copy(scene.primary.datadir(), &copy);
    scene.primary.restart();
    let state = "backup_type = full-backuped\n";
    fs::write(copy.join("xtrabackup_checkpoints"), state).unwrap();
    fs::write(copy.join("xtrabackup_binlog_info"), format!("b.1\t7\t{position}\n")).unwrap();
    fs::write(copy.join("xtrabackup_info"), "end_time = 2026-01-02 03:04:05\n").unwrap();
    let file = scene.path("copy.xb");
    let streams = format!(
        "cd {} && find . -type f -printf '%P\\n' | grep -v xtrabackup_info | xargs mbstream -c >{f} && \
         mbstream -c xtrabackup_info >>{f}",
        copy.display(),
        f = file.display()
    );
    shell(&streams);
    let path = std::env::var("PATH").unwrap();
    let from = seed(&scene, file.to_str().unwrap());
    let missing = from.clone().run_to_end(COMMAND_PATIENCE).expect(2);
    missing.says("xtrabackup is not installed").says("install Percona XtraBackup");
    let bin = scene.path("bin");
    fs::create_dir(&bin).unwrap();
    let program = |name: &str, body: &str| {
        let (path, text) = (bin.join(name), format!("#!/bin/sh\n{body}\n"));
        fs::write(&path, text).unwrap();
        shell(&format!("chmod +x {}", path.display()));
    };
    program("xbstream", "exec mbstream \"$@\"");
    let with = |from: &Rollforward| {
        let from = from.clone().env("PATH", format!("{}:{path}", bin.display()));
        from.run_to_end(COMMAND_PATIENCE)
    };
    program(
        "xtrabackup",
        "echo '2026-11-29T10:13:59 0 [ERROR] [MY-011825] [Xtrabackup] no such log' >&2; exit 1",
    );
    is_gone(
        &scene,
        with(&from).expect(1).says("xtrabackup failed: it exited with status 1: no such log"),
    );
    program(
        "xtrabackup",
        "for a; do case $a in --target-dir=*) d=${a#*=};; esac; done; sed -i s/full-backuped/full-prepared/ \"$d\"/xtrabackup_checkpoints",
    );
    is_gone(&scene, with(&from).expect(0).says("a backup of xtrabackup"));
    assert_eq!(scene.newest_position(), position);
    let newest = scene.backups().pop().unwrap();
    assert!(scene.manifest_value(&newest, "data_as_of").starts_with("2026-01-0"));
    scene.primary.backlog("shop", 300);
    scene.run().expect(0);
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the copy", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
}

#[test]
fn an_archive_of_a_stopped_directory_is_adopted() {
    need_server!();
    let mut scene = Scene::new("archive");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 2, 2000);
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    let data = scene.primary.datadir().to_path_buf();
    let (flat, top) = (scene.path("flat.tar"), scene.path("top.tar"));
    archive(&data, ".", &flat);
    archive(data.parent().unwrap(), data.file_name().unwrap().to_str().unwrap(), &top);
    for file in [&flat, &top] {
        let ended = seed(&scene, file.to_str().unwrap()).run_to_end(COMMAND_PATIENCE).expect(0);
        is_gone(&scene, ended.says(": a tar archive"));
        assert_eq!(scene.newest_position(), position);
    }
    // A pipe with a name, whose writer comes later; the database `mysql` is in a directory of its name.
    let (pipe, renamed) = (scene.path("pipe"), scene.path("renamed"));
    fs::create_dir(&renamed).unwrap();
    shell(&format!(
        "cp -a {} {}/mysql && mkfifo {}",
        data.display(),
        renamed.display(),
        pipe.display()
    ));
    let running = seed(&scene, pipe.to_str().unwrap()).spawn();
    std::thread::sleep(std::time::Duration::from_millis(500));
    archive(&renamed, "mysql", &pipe);
    is_gone(&scene, running.finish(PATIENCE).expect(0));
    assert_eq!(scene.newest_position(), position);
    // Files have the modes of a private directory, whatever they had in the archive.
    let restored = scene.restore(None);
    assert!(restored.join("mysql").is_dir() && !restored.join("#rollforward-top").exists());
    scene.primary.restart();
    scene.primary.backlog("shop", 500);
    scene.run().expect(0);
    scene.assert_newest_equals(&replica);
}

#[test]
fn an_archive_of_files_in_use_is_refused() {
    need_server!();
    let mut scene = Scene::new("in-use");
    scene.primary.fill("shop", 1, 2000);
    if !flavor::is_mysql() {
        // It runs, and nothing is left to recover.
        scene.primary.sql("FLUSH TABLES; SET GLOBAL innodb_log_checkpoint_now = 1");
        let file = scene.path("running.tar");
        archive(scene.primary.datadir(), ".", &file);
        let from = seed(&scene, file.to_str().unwrap()).arg("--position=0-1-1");
        is_gone(&scene, from.run_to_end(COMMAND_PATIENCE).expect(2).says("was not shut down"));
    }
    scene.primary.kill9();
    let file = scene.path("killed.tar");
    archive(scene.primary.datadir(), ".", &file);
    let ended = seed(&scene, file.to_str().unwrap()).run_to_end(COMMAND_PATIENCE).expect(2);
    is_gone(&scene, ended.says("was not shut down"));
    assert!(scene.backups().is_empty());
    scene.primary.restart();
}

#[test]
fn a_stream_without_a_position_needs_one_given() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::new("told");
    scene.primary.fill("shop", 1, 100);
    let position = scene.primary.gtid_pos();
    scene.primary.stop();
    fs::remove_file(scene.primary.datadir().join("binlog.state")).unwrap();
    let file = scene.path("plain.tar");
    archive(scene.primary.datadir(), ".", &file);
    let from = seed(&scene, file.to_str().unwrap());
    let ended = from.run_to_end(COMMAND_PATIENCE).expect(2);
    is_gone(&scene, ended.says("the position of stream:").says("give it with --position"));
    let given = |at: &str| from.clone().args(["--position", at]).run_to_end(COMMAND_PATIENCE);
    for bad in ["nonsense", "", "0-1"] {
        given(bad).expect(2).says("--position");
    }
    given(&position).expect(0);
    assert_eq!(scene.newest_position(), position);
}

#[test]
fn a_stream_of_another_series_is_refused() {
    need_server!();
    let Some(newer) = flavor::newer_mariadbd() else { return };
    let mut scene = Scene::new("series");
    let file = stream(&mut scene);
    let by = seed(&scene, file.to_str().unwrap()).arg("--mysqld").arg(newer);
    let ended = by.run_to_end(COMMAND_PATIENCE).expect(2);
    is_gone(&scene, ended.says("of a newer series: use --mysqld to select"));
}

/// The options of the data are in the stream; who prepares it needs them.
#[test]
fn a_stream_of_unusual_layout_is_prepared_and_followed() {
    need_server!();
    if flavor::is_mysql() {
        return;
    }
    let files = "--innodb-data-file-path=ibdata1:16M;more.ibdata:16M:autoextend";
    let mut scene = Scene::with("layout", &["--innodb-page-size=8192", files]);
    scene.primary.fill("shop", 2, 2000);
    let file = stream(&mut scene);
    seed(&scene, file.to_str().unwrap()).run_to_end(COMMAND_PATIENCE).expect(0);
    scene.primary.backlog("shop", 100);
    scene.run().expect(0);
    let (restored, _) = crate::support::as_told(&scene);
    assert_same("ours", &snapshot(&restored), "the primary", &snapshot(&scene.primary));
}
