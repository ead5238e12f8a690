//! A restore that ends in its midst: killed, stopped, by a full or a failing disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::{LONG, Older, assert_refused_by_servers, content, expect_going_on};
use crate::support::repository::copy;
use crate::support::small_disk::SmallDisk;
use crate::support::{Outcome, Rollforward, Scene, Server, strace_missing};

const RENAME: &str = "?rename,?renameat,?renameat2";
const LINK: &str = "?link,?linkat";
const UNLINK: &str = "?unlink,?unlinkat";

/// Runs a command with a fault put into the nth of these calls, by thread.
fn with_fault(scene: &Scene, command: &Rollforward, calls: &str, fault: &str, nth: u32) -> Outcome {
    let log = scene.path("strace.log");
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:{fault}:when={nth}");
    let line = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject];
    command.clone().under(line).run_to_end(LONG)
}

fn is_unfinished(to: &Path) -> bool {
    fs::read(to.join("ibdata1")).is_ok_and(|text| text.starts_with(b"rollforward: unfinished"))
}

#[test]
fn killed_anywhere_it_is_gone_on_with() {
    need_server!();
    if strace_missing() {
        return;
    }
    let older = Older::new("killed");
    let scene = &older.scene;
    let expected = content(&scene.restore(None));
    let old = content(&older.to);
    let mut refused = false;
    let points: [(&str, &[u32]); 6] = [
        (RENAME, &[1, 2]),
        (LINK, &[1]),
        (UNLINK, &[1, 3, 6]),
        ("?pwrite64", &[1, 2, 5]),
        ("?syncfs", &[1]),
        ("?fchmod,?fchmodat", &[1]),
    ];
    for (calls, all) in points {
        for nth in all {
            let to = scene.path("killed");
            copy(&older.to, &to);
            let ended = with_fault(scene, &older.over(&to), calls, "signal=KILL", *nth);
            let what = format!("{calls} {nth}");
            println!("{what}: {}", ended.status);
            if ended.status == 0 {
                assert_eq!(content(&to), expected, "{what}");
            } else if is_unfinished(&to) {
                if !refused {
                    assert_refused_by_servers(&to);
                    refused = true;
                }
                // Also without being told that there is something.
                let plain = scene.command("restore").arg("--to").arg(&to);
                expect_going_on(plain.run_to_end(LONG));
            } else {
                // It had not begun, or was done.
                let mut is = content(&to);
                is.retain(|path, _| !path.starts_with("rollforward.mark"));
                is.remove(Path::new("rollforward.first"));
                assert!(is == old || is == expected, "{what}: {ended}");
                older.over(&to).run_to_end(LONG).expect(0);
            }
            assert_eq!(content(&to), expected, "{what}");
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(refused);
}

#[test]
fn stopped_or_failed_it_is_gone_on_with() {
    need_server!();
    if strace_missing() {
        return;
    }
    let older = Older::new("stopped");
    let scene = &older.scene;
    let expected = content(&scene.restore(None));
    let plain = |to: &PathBuf| scene.command("restore").arg("--jobs=1").arg("--to").arg(to);
    for over in [true, false] {
        for (fault, status, says) in [
            ("signal=TERM", 143, "error: interrupted: "),
            ("error=ENOSPC", 1, "error: disk-full: "),
            ("error=EIO", 1, "error: io-error: "),
        ] {
            let to = scene.path("stopped");
            let command = if over { older.over(&to) } else { plain(&to) };
            if over {
                copy(&older.to, &to);
            }
            let ended = with_fault(scene, &command, "?pwrite64", fault, 3).expect(status);
            let ended = ended.says(says).says("is unfinished, and no server starts on it");
            assert!(is_unfinished(&to), "{ended}");
            let told = command.clone().arg("--dry-run").run_to_end(LONG).expect(0);
            assert!(told.stdout.contains("would go on with a restore "), "{told}");
            assert!(told.stdout.contains("would write "), "{told}");
            let again = expect_going_on(command.run_to_end(LONG));
            let (left, all) = (
                super::size_after(&again.stderr, " and wrote "),
                super::size_after(&again.stderr, " files, "),
            );
            assert!(left < all, "{again}");
            assert_eq!(super::size_after(&told.stdout, "would write "), left, "{told}{again}");
            assert_eq!(content(&to), expected, "{again}");
            fs::remove_dir_all(&to).unwrap();
        }
    }
    // Another backup into what was interrupted, and a seed from it.
    let to = scene.path("other");
    with_fault(scene, &plain(&to), "?pwrite64", "signal=KILL", 3);
    let seed = scene.command("seed").arg("--from").arg(format!("dir:{}", to.display()));
    seed.run_to_end(LONG).expect(2).says("a restore that has not ended");
    let first = &scene.backups()[0];
    expect_going_on(scene.command("restore").arg(first).arg("--to").arg(&to).run_to_end(LONG));
    assert_eq!(content(&to), content(&scene.restore(Some(first))));
    Server::start_on(&to).sql("CHECK TABLE shop.t0");
}

/// What reads along does not make a half restored directory one that a server starts on.
#[test]
fn a_reader_of_an_unfinished_directory_opens_no_gate() {
    need_server!();
    if strace_missing() {
        return;
    }
    let older = Older::new("reader");
    let (scene, to) = (&older.scene, &older.to);
    with_fault(scene, &older.over(to), "?pwrite64", "signal=KILL", 3);
    let file = fs::File::open(to.join("rollforward.first")).unwrap();
    let mut reader = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    older.over(to).run_to_end(LONG).expect(2).says("is in use by sleep (pid ");
    assert_refused_by_servers(to);
    reader.kill().unwrap();
    reader.wait().unwrap();
    expect_going_on(older.over(to).run_to_end(LONG));
    assert_eq!(content(to), content(&scene.restore(None)));
}

#[test]
fn a_disk_without_room_keeps_the_older_data_whole() {
    need_server!();
    let older = Older::new("room");
    let disk = SmallDisk::new("small", 12 << 20);
    let to = disk.path("to");
    // A data directory that has lost most of its files.
    for name in ["mysql/db.opt", "ibdata1", "auto.cnf"] {
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::write(to.join(name), "x").unwrap();
    }
    let before = super::untouched(&to);
    for dry in [&["--dry-run"][..], &[]] {
        let ended = older.over(&to).args(dry).under(disk.wrapper()).run_to_end(LONG).expect(1);
        ended.says("error: disk-full: ").says(" MiB needed; ").says("another --to");
        assert_eq!(super::untouched(&to), before);
    }
}
