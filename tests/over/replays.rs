//! A restore of a moment over older data that ends in its midst: stopped, without its server, by a full
//! disk, or because somebody else has begun to use the data.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{LONG, Older, assert_refused_by_servers, content, expect_going_on};
use crate::support::repository::copy;
use crate::support::small_disk::SmallDisk;
use crate::support::{PATIENCE, Rollforward, Server, is_root, kill, processes_under, wait_for};

/// `restore --over --until` the moment before the last transaction.
fn until(older: &Older, to: &Path) -> Rollforward {
    let last = crate::until::gtids(&older.scene.primary).pop().unwrap();
    let command = older.over(to).args(["--until", &format!("before:{last}")]);
    let command = command.args(older.scene.mysqld()).arg("--backoff-base=50ms");
    command.args(is_root().then_some("--mysqld-user=root"))
}

/// The private server on it.
fn server(to: &Path) -> i32 {
    let data = to.join("rollforward.tmp/data");
    let is_server = |pid: &i32| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        !exe.as_os_str().is_empty() && !exe.to_string_lossy().contains("rollforward")
    };
    wait_for("the private server", PATIENCE, || processes_under(&data).into_iter().find(is_server))
}

#[track_caller]
fn assert_whole(older: &Older, to: &Path) {
    assert!(!to.join("rollforward.tmp").exists() && !to.join("own").exists());
    Server::start_on(to).sql("CHECK TABLE shop.t0, shop.t1");
    assert!(processes_under(to).is_empty());
    assert!(older.to.exists());
}

#[test]
fn a_stopped_replay_over_older_data_is_gone_on_with() {
    need_server!();
    let older = Older::new("stops");
    let to = &older.to;
    let command = until(&older, to);
    let run = command.spawn();
    server(to);
    run.kill(libc::SIGTERM);
    let ended = run.finish(LONG).expect(143).says("error: interrupted: ");
    ended.says("is unfinished, and no server starts on it");
    assert!(processes_under(to).is_empty());
    assert_refused_by_servers(to);
    expect_going_on(command.run_to_end(LONG));
    assert_whole(&older, to);
}

#[test]
fn a_server_that_dies_over_older_data_is_started_again() {
    need_server!();
    let older = Older::new("deaths");
    let to = &older.to;
    let command = until(&older, to);
    let run = command.spawn();
    kill(server(to), libc::SIGKILL);
    run.finish(LONG).expect(0).says("mysqld-died: ").says("restoring again in");
    assert_whole(&older, to);
    // Each of them.
    let fake = older.scene.fake_mysqld("dies", "kill -KILL $$");
    let given_up = command.clone().arg("--mysqld").arg(fake).arg("--max-failures=1");
    let ended = given_up.run_to_end(LONG).expect(75).says("error: mysqld-died: ");
    ended.says("is unfinished, and no server starts on it");
    assert_refused_by_servers(to);
    expect_going_on(command.run_to_end(LONG));
    assert_whole(&older, to);
}

#[test]
fn a_full_disk_under_a_replay_keeps_older_data_unfinished() {
    need_server!();
    let older = Older::new("fills");
    let disk = SmallDisk::new("fills", 600 << 20);
    let to = disk.path("to");
    copy(&older.to, &to);
    disk.leave(1 << 20);
    let command = until(&older, &to).args(disk.server_options()).under(disk.wrapper());
    let ended = command.run_to_end(LONG).expect(1).says("error: disk-full: ");
    if fs::read_to_string(to.join("ibdata1")).is_ok_and(|text| text.starts_with("rollforward: ")) {
        ended.says("is unfinished, and no server starts on it");
        assert_refused_by_servers(&to);
    } else {
        assert_eq!(content(&to), content(&older.to), "{ended}");
    }
    disk.make_room();
    command.run_to_end(LONG).expect(0);
    assert_whole(&older, &to);
}

/// Between the look at the directory and the first change, journals may be restored for minutes.
#[test]
fn data_that_came_into_use_meanwhile_is_left_alone() {
    need_server!();
    let older = Older::new("meanwhile");
    let (scene, to) = (&older.scene, &older.to);
    let before = content(to);
    let program: PathBuf = scene.fake_mysqld("mysqld-real", "exec MYSQLD \"$@\"");
    let slow = scene.path("mysqld");
    let text = format!(
        "#!/bin/sh\n[ -e {once} ] || {{ : >{once}; setsid sleep 3 <{to}/ibdata1 >/dev/null 2>&1 & }}\n\
         exec {real} \"$@\"\n",
        once = scene.path("once").display(),
        to = to.display(),
        real = program.display()
    );
    fs::write(&slow, text).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let command = until(&older, to).arg("--mysqld").arg(&slow);
    command.run_to_end(LONG).expect(2).says("is in use by sleep (pid ");
    assert_eq!(content(to), before);
    wait_for("its end", PATIENCE, || {
        let users = processes_under(to);
        std::thread::sleep(std::time::Duration::from_millis(100));
        let open = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let at = fs::read_link(entry.path().join("fd/0")).unwrap_or_default();
            comm.trim() == "sleep" && at.starts_with(to)
        });
        (users.is_empty() && !open).then_some(())
    });
    command.run_to_end(LONG).expect(0);
    assert_whole(&older, to);
}
