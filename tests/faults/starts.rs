//! Groups 3 and 7: a real server that is killed by its own signals, that cannot read its data, or
//! that takes its time.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{LONG, count, wait_until_moving};
use crate::support::{PATIENCE, Replica, Scene, alive, flavor, kill, wait_until};

#[test]
fn a_crash_during_catch_up_names_its_signal_and_log() {
    need_server!();
    let scene = Scene::seeded("crashes");
    scene.primary.slow_backlog("shop", 150, 0.05);
    let mut pass = scene.command("run").args(["--max-failures=1", "--poll-interval=50ms"]).spawn();
    wait_until_moving(&scene, &mut pass);
    let mut last = 0;
    for (signal, name) in [(libc::SIGSEGV, "SEGV"), (libc::SIGABRT, "ABRT")] {
        // Progress forgets the one before.
        let mysqld = pass.wait_for_checkpoint("another mysqld that moves", PATIENCE, |c| {
            let pid = c.number("mysqld_pid")? as i32;
            (pid != last && c.number("failures") == Some(0) && alive(pid)).then_some(pid)
        });
        last = mysqld;
        kill(mysqld, signal);
        // MySQL's handler ends with a status of its own; the signal is in its log.
        let how = flavor::either(
            format!("it was killed by signal {signal} ({name})"),
            "it exited with status 2".to_string(),
        );
        let died = format!("mysqld-died: the private mysqld died: {how}; its log: ");
        pass.wait_for_log(&died, PATIENCE);
        pass.wait_for_log(&format!("got signal {signal}"), PATIENCE);
    }
    let ended = pass.finish(LONG).expect(0);
    println!("crashes\n{ended}");
    assert_eq!(count(&ended, "info: restored "), 1, "{ended}");
    assert!(ended.stderr.contains("got signal 11"), "{ended}");
    assert!(ended.log().len() < 15, "{ended}");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

/// The redo log that is in use.
pub fn redo_log(data: &Path) -> PathBuf {
    if !flavor::is_mysql() {
        return data.join("ib_logfile0");
    }
    let entries = fs::read_dir(data.join("#innodb_redo")).unwrap().flatten();
    let mut logs: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    logs.retain(|path| !path.to_string_lossy().ends_with("_tmp"));
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

/// The header of a redo log, of a later format, with the sum that belongs to it.
fn newer_header(log: &Path) -> Vec<u8> {
    let mut header = fs::read(log).unwrap()[..512].to_vec();
    header[..4].copy_from_slice(b"PHYZ");
    // CRC-32C, bit by bit.
    let sum = header[..508].iter().fold(!0u32, |sum, byte| {
        (0..8)
            .fold(sum ^ u32::from(*byte), |s, _| (s >> 1) ^ (0x82f6_3b78 & (s & 1).wrapping_neg()))
    });
    header[508..].copy_from_slice(&(!sum).to_be_bytes());
    header
}

#[test]
fn unreadable_data_is_reported_in_the_words_of_the_server() {
    need_server!();
    let scene = Scene::seeded("unreadable");
    let (newer, restored) = (scene.path("header"), scene.restore(None));
    fs::write(&newer, newer_header(&redo_log(&restored))).unwrap();
    let log = redo_log(&restored).strip_prefix(&restored).unwrap().display().to_string();
    let later = format!("dd if={} of='data/{log}' conv=notrunc", newer.display());
    // Between the restore and the start, as a bad disk or a wrong server program would.
    let innodb = flavor::either("InnoDB: ", "Failed to initialize DD Storage Engine");
    let spoilt = [
        // A redo log of a format that this server does not know, and all else right.
        ("newer", later.as_str(), "redo log format"),
        ("noise", "head -c 65536 /dev/urandom | dd of=data/ibdata1 conv=notrunc", innodb),
        ("short", "truncate -s 1M data/ibdata1", innodb),
        ("option", "set -- \"$@\" --innodb-buffer-pool-size=nonsense", "nonsense"),
    ];
    for (name, deed, says) in spoilt {
        let body = format!("{deed} 2>/dev/null; exec MYSQLD \"$@\"");
        let fake = scene.fake_mysqld(name, &body);
        let ended = scene.command("run").arg("--mysqld").arg(&fake).run_to_end(LONG);
        println!("{name}: {}", ended.log().last().unwrap());
        assert_eq!(ended.status, 1, "{name}: {ended}");
        let ended = ended.says("error: mysqld-start: ").says("its log: ").says(says);
        assert_eq!(count(&ended, "retrying in"), 0, "{name}: {ended}");
        assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-start"));
        assert!(!scene.has_scratch_data(), "{name}: scratch data goes after status 1");
        assert_eq!(scene.backups().len(), 1);
        scene.assert_nothing_left();
    }
    scene.run().expect(0);
}

#[test]
fn slow_starts_and_shutdowns_may_last_while_alive() {
    need_server!();
    let scene = Scene::seeded("slow");
    // Three times its patience each, with a log line now and then, as a long recovery has.
    let alive = "for i in 1 2 3 4 5 6; do sleep 0.5; echo \"InnoDB: $1 $i of 6\"; done";
    // The server itself is a child of what is watched, and some take seconds to start.
    let starting = "sleep 0.1; n=$((n + 1)); [ $n -gt 100 ] || echo \"InnoDB: at $n\"";
    let body = format!(
        "say() {{ {alive}; }}; say recovered; MYSQLD \"$@\" & pid=$!; n=0; \
         trap 'term=1' TERM; while [ -z \"$term\" ] && kill -0 $pid; do {starting}; done; \
         say flushed; kill -TERM $pid; wait $pid"
    );
    let fake = scene.fake_mysqld("slow", &body);
    let program = scene.command("run").arg("--mysqld").arg(&fake).arg("--max-failures=0");
    let program = program.args(["--start-timeout=1500ms", "--shutdown-timeout=1500ms"]);
    let ended = program.run_to_end(LONG).expect(0);
    assert!(ended.wall > Duration::from_secs(6), "{ended}");
    let ended = ended.says("info: mysqld is still starting, after ");
    let ended = ended.says("info: mysqld is still shutting down, after ");
    assert!(ended.log().len() < 20, "{ended}");
    assert_eq!(scene.backups().len(), 2);
    scene.assert_nothing_left();
}

#[test]
fn a_login_that_is_never_answered_is_a_hung_mysqld() {
    need_server!();
    let scene = Scene::seeded("silent");
    // It may write into its log only.
    let started = scene.scratch.join("mysqld.log");
    let fake = scene.fake_mysqld("silent", "echo started >&2; exec tail -f /dev/null");
    // It never gets to listen: this test does in its place, and never greets.
    let mut pass = scene
        .command("run")
        .arg("--mysqld")
        .arg(&fake)
        .args(["--ping-timeout=700ms", "--max-failures=1"])
        .spawn();
    let socket = scene.scratch.join("mysqld.sock");
    let mut listeners = Vec::new();
    for starts in 1..=2 {
        wait_until("a start", PATIENCE, || {
            fs::read_to_string(&started).is_ok_and(|s| s.matches("started").count() == starts)
        });
        let _ = fs::remove_file(&socket);
        listeners.push(UnixListener::bind(&socket).unwrap());
        let since = Instant::now();
        let said = format!("failure {starts} of 2");
        if starts == 1 {
            pass.wait_for_log(&said, PATIENCE);
            assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
        }
    }
    let ended = pass.finish(LONG).expect(75);
    let said = "mysqld-hung: the private mysqld is hung: no answer to a login for 0.7s";
    assert_eq!(count(&ended, said), 2, "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("mysqld-hung"));
    scene.assert_nothing_left();
    scene.run().expect(0);
}
