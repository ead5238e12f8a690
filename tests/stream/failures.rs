//! What becomes of a stream that breaks off or stands still, and of a pass that is killed while it reads.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{archive, is_gone, piped, seed, stream};
use crate::support::repository::tree;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::{PATIENCE, Running, Scene, flavor, processes_under, wait_until};

const MIB: u64 = 1 << 20;

fn seeded(scene: &Scene, file: &Path) {
    let ended = seed(scene, file.to_str().unwrap()).run_to_end(COMMAND_PATIENCE).expect(0);
    is_gone(scene, ended);
    assert_eq!(scene.backups().len(), 1);
}

/// A pass that has read the beginning of a stream, and its unpacking program. The rest never comes.
fn halfway(scene: &Scene, file: &Path) -> (Running, i32) {
    let script = format!("head -c 3000000 {}; exec sleep 30", file.display());
    let mut running = piped(scene, &script).spawn();
    running.wait_for_log("reading stream", PATIENCE);
    let data = scene.scratch.join("data");
    wait_until("files", PATIENCE, || data.exists() && !tree(&data).is_empty());
    let unpacks = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ["tar", "mbstream", "mbstream.real", "ld-linux-x86-64"]
            .iter()
            .any(|n| name.trim().starts_with(n))
    };
    let children = processes_under(&data);
    let child = children.into_iter().find(unpacks).expect("an unpacking program");
    (running, child)
}

#[test]
fn a_stream_that_ends_early_is_no_backup() {
    need_server!();
    let mut scene = Scene::new("early");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    let archived = scene.path("a.tar");
    scene.primary.stop();
    archive(scene.primary.datadir(), ".", &archived);
    for file in [&file, &archived] {
        let all = fs::read(file).unwrap();
        // Between two chunks or two files nothing is torn.
        let magic: Vec<usize> = memchr::memmem::find_iter(&all, b"XBSTCK01").collect();
        let headers: Vec<usize> =
            memchr::memmem::find_iter(&all, b"ustar").map(|at| at - 257).collect();
        let borders = [magic, headers].concat();
        let half = borders.len() / 2;
        let cuts = [0, 1, 100, borders[1], borders[half], *borders.last().unwrap(), all.len() / 2];
        let cut = scene.path("cut");
        for length in cuts {
            fs::write(&cut, &all[..length]).unwrap();
            let ended =
                piped(&scene, &format!("cat {}", cut.display())).run_to_end(COMMAND_PATIENCE);
            if length == 1 || length == 100 {
                // Too little to be known for a stream.
                assert!(matches!(ended.status, 1 | 2), "{ended}");
                continue;
            }
            let ended =
                ended.expect(1).says("io-error: cannot read stream:-: it ends before the backup");
            is_gone(&scene, ended);
        }
        assert!(scene.backups().is_empty());
    }
    seeded(&scene, &file);
    scene.primary.restart();
}

#[test]
fn a_stream_that_stands_still_is_given_up() {
    need_server!();
    let mut scene = Scene::new("still");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    for script in
        ["exec sleep 30".to_string(), format!("head -c 3000000 {}; exec sleep 30", file.display())]
    {
        let ended = piped(&scene, &script).arg("--stall-timeout=2s").run_to_end(COMMAND_PATIENCE);
        assert!(ended.wall < Duration::from_secs(30), "{ended}");
        is_gone(&scene, ended.expect(75).says("stalled: no progress for 2s: stream:-"));
    }
    seeded(&scene, &file);
}

#[test]
fn a_killed_pass_leaves_nothing_that_reads_on() {
    need_server!();
    let mut scene = Scene::new("killed");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    let (running, child) = halfway(&scene, &file);
    running.kill(libc::SIGKILL);
    running.finish(PATIENCE);
    wait_until("the end of its child", PATIENCE, || !crate::support::alive(child));
    seeded(&scene, &file);
    let (running, child) = halfway(&scene, &file);
    let told = Instant::now();
    running.kill(libc::SIGTERM);
    let ended = running.finish(PATIENCE).expect(143).says("cannot be read again");
    assert!(told.elapsed() < Duration::from_secs(10), "{ended}");
    assert!(!crate::support::alive(child));
    is_gone(&scene, ended);
    assert_eq!(scene.backups().len(), 1);
}

#[test]
fn an_unpacking_program_that_dies_is_named() {
    need_server!();
    let mut scene = Scene::new("unpacker");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    let (running, child) = halfway(&scene, &file);
    crate::support::kill(child, libc::SIGKILL);
    let ended = running.finish(PATIENCE).expect(1).says("io-error: cannot unpack stream:-: ");
    is_gone(&scene, ended.says(flavor::either("mbstream", "tar")).says("killed by signal 9"));
    assert!(scene.backups().is_empty());
    seeded(&scene, &file);
}

#[test]
fn a_server_that_dies_on_it_is_started_again() {
    need_server!();
    let mut scene = Scene::new("dies");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    let mark = scene.scratch.join("tmp/mark");
    let once = format!(
        "case \"$*\" in *--version*) ;; *) [ -e {m} ] || {{ : >{m}; kill -KILL $$; }};; esac; \
         exec MYSQLD \"$@\"",
        m = mark.display()
    );
    let always = "case \"$*\" in *--version*) ;; *) kill -KILL $$;; esac; exec MYSQLD \"$@\"";
    let by = |name: &str, body: &str| {
        let fake = scene.fake_mysqld(name, body);
        let from = seed(&scene, file.to_str().unwrap()).arg("--mysqld").arg(fake);
        from.args(["--max-failures=2"]).run_to_end(COMMAND_PATIENCE)
    };
    let ended = by("always", always).expect(75).says("mysqld-died");
    is_gone(&scene, ended.says("a.stream brought is removed"));
    assert!(scene.backups().is_empty());
    let ended = by("once", &once).expect(0).says("starting a server on what was unpacked again");
    is_gone(&scene, ended);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
}

#[test]
fn a_disk_too_small_for_a_stream_is_named() {
    need_server!();
    let mut scene = Scene::new("full");
    scene.primary.fill("shop", 1, 2000);
    let file = stream(&mut scene);
    let disk = SmallDisk::new("small", 8 * MIB);
    let scratch = disk.path("scratch");
    let on = |from: &str| {
        let seed = seed(&scene, from).arg("--scratch").arg(&scratch).scratch(&scratch);
        let reads = format!("cat {} | \"$@\"", file.display());
        let wrapper = disk.wrapper();
        let shell = ["sh", "-c", &reads, "sh"]
            .map(|w| std::ffi::OsStr::from_bytes(w.as_bytes()).to_owned());
        seed.under(shell.into_iter().chain(wrapper)).run_to_end(COMMAND_PATIENCE)
    };
    for (from, told) in [("-", " free; free some space"), (file.to_str().unwrap(), " MiB needed; ")]
    {
        let ended = on(from).expect(1).says("disk-full: no space left on the file system of ");
        let ended = ended.says(told).says("or use another --scratch");
        assert!(!scratch.join("data").exists(), "{ended}");
    }
    assert!(scene.backups().is_empty());
    seeded(&scene, &file);
}
