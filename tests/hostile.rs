//! A primary that answers with anything: each command ends by its own words, and writes nothing
//! outside of repository and scratch directory.

mod fuzz;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::hostile::{Lie, head, listen, packet};
use crate::support::{Outcome, PATIENCE, Rollforward, TempDir};

const COMMANDS: [&[&str]; 2] = [&["seed", "--from=dump"], &["run", "--first-backup=dump"]];

/// A command against a primary on `port`, in a directory of its own.
fn command(words: &[&str], dir: &TempDir, port: u16) -> Rollforward {
    let account = dir.path().join("account.cnf");
    fs::write(&account, "[client]\nuser=u\npassword=secret\nssl-mode=DISABLED\n").unwrap();
    fs::set_permissions(&account, fs::Permissions::from_mode(0o600)).unwrap();
    Rollforward::new(words)
        .arg("--repo")
        .arg(dir.path().join("repo"))
        .arg("--scratch")
        .arg(dir.path().join("scratch"))
        .arg("--defaults-file")
        .arg(&account)
        .arg(format!("--primary=127.0.0.1:{port}"))
}

/// Runs `seed` and a first `run` against `lie`.
fn against(lie: Lie) -> Vec<Outcome> {
    let dir = TempDir::new("hostile");
    let port = listen(lie.clone());
    let ended = COMMANDS.map(|words| {
        let ended = command(words, &dir, port)
            .args(["--max-failures=1", "--backoff-base=20ms", "--backoff-cap=20ms"])
            .arg("--connect-timeout=5s")
            .run_to_end(PATIENCE);
        assert!(matches!(ended.status, 1 | 2 | 75), "{lie:?}: {ended}");
        // A panic of the protocol's library is a trouble of the session, not one of ours.
        let panic = ["panicked", "internal error"].iter().any(|p| ended.stderr.contains(p));
        assert!(!panic, "{lie:?}: {ended}");
        let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{2028}' || c == '\u{202e}');
        assert!(!ended.stderr.contains(harmful), "{lie:?}: {ended}");
        assert!(ended.stderr.lines().all(|l| l.starts_with("20")), "{lie:?}: {ended}");
        ended
    });
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["account.cnf", "repo", "scratch"], "{lie:?}");
    ended.into()
}

#[test]
fn malformed_answers_are_a_primary_that_is_unreachable() {
    let junk = [
        // Nothing, where a first byte is needed.
        packet(1, b""),
        // An error without its number, and one without text.
        packet(1, &[0xff]),
        packet(1, &[0xff, 0x15]),
        // Counts of columns that no memory holds, and that do not end.
        packet(1, &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255]),
        packet(1, &[0xfe, 0, 0, 0, 0, 0, 1, 0, 0]),
        packet(1, &[0xfe, 0, 0, 0, 0, 1, 0, 0, 0]),
        packet(1, &[0xfd, 255, 255, 255]),
        packet(1, &[0xfc]),
        packet(1, &[0xfb, b'/', b'x']),
        // A column that is none, a row that is none.
        [packet(1, &[1]), packet(2, &[3, b'd'])].concat(),
        [head("a"), packet(4, b"")].concat(),
        [head("a"), packet(4, &[0xfc, 0xff])].concat(),
        // A wrong number, and half a packet.
        packet(9, &[0, 0, 0, 2, 0, 0, 0]),
        vec![200, 0, 0, 1, 1, 2, 3],
        packet(1, &[0]),
    ];
    for bytes in junk {
        for ended in against(Lie::Bytes(bytes)) {
            ended.says("exit status");
        }
    }
}

#[test]
fn malformed_greetings_are_a_primary_that_is_unreachable() {
    for bytes in [&b""[..], b"\x0a", b"\x0a8.0\0", b"\xff\x10\x04Too many\x1b[2J", b"\x09x\0\0\0"] {
        for ended in against(Lie::Greeting(packet(0, bytes))) {
            ended.says("exit status");
        }
    }
}

#[test]
fn an_ed25519_account_is_refused_in_one_line() {
    for ended in against(Lie::Switch("client_ed25519")) {
        let ended = ended.expect(1).says("access-denied: ").says("client_ed25519");
        assert!(!ended.stderr.contains("retrying"), "{ended}");
    }
}

#[test]
fn a_password_is_not_sent_readable_to_who_asks() {
    for plugin in ["mysql_clear_password", "dialog"] {
        for ended in against(Lie::Switch(plugin)) {
            assert!(!ended.stderr.contains("LEAKED"), "{ended}");
        }
    }
}

/// The whole call has a limit, not each of its reads.
fn end_in_time(lie: Lie) {
    let began = Instant::now();
    for ended in against(lie) {
        ended.expect(75).says("no answer in time");
    }
    assert!(began.elapsed() < Duration::from_secs(70), "{:?}", began.elapsed());
}

#[test]
fn a_stop_waits_for_no_primary() {
    let slow = Duration::from_secs(2);
    for lie in [Lie::Slow(slow), Lie::Trickle(slow)] {
        let dir = TempDir::new("silent");
        let port = listen(lie.clone());
        for words in COMMANDS {
            let pass = command(words, &dir, port).spawn();
            std::thread::sleep(Duration::from_secs(1));
            let told = Instant::now();
            pass.kill(libc::SIGTERM);
            let ended = pass.finish(PATIENCE).expect(143);
            assert!(told.elapsed() < Duration::from_secs(1), "{lie:?}: {ended}");
        }
    }
}

#[test]
fn a_row_now_and_then_does_not_hold_a_pass() {
    end_in_time(Lie::Trickle(Duration::from_secs(3)));
}

#[test]
fn a_byte_now_and_then_does_not_hold_a_login() {
    end_in_time(Lie::Slow(Duration::from_secs(2)));
}

#[test]
fn values_that_no_server_has_are_refused_by_name() {
    let forged = "8.4.3\n2026-01-01T00:00:00Z error: forged\x1b[2J\u{2028}\u{202e}\u{9b}";
    for value in [forged.as_bytes().to_vec(), b"8.4.3'; DROP".to_vec(), vec![b'8'; 4000]] {
        for ended in against(Lie::Value(value)) {
            ended.expect(2).says("version that no server has");
        }
    }
}

/// They go into options, statements and scripts.
#[test]
fn settings_that_no_server_has_are_refused_by_name() {
    for (name, value) in [
        ("lower_case_table_names", "3"),
        ("innodb_page_size", "16384 --user=root"),
        ("character_set_server", "utf8mb4\nplugin-load=x"),
        ("collation_server", "utf8mb4'"),
        ("sql_mode", "ANSI'; DROP"),
        ("explicit_defaults_for_timestamp", "ON --x"),
        ("max_allowed_packet", "1G;"),
        ("server_id", "1 --x"),
    ] {
        for ended in against(Lie::Fact(name, value)) {
            ended.expect(2).says(&format!("gives a {name} that no server has"));
        }
    }
    for (name, value) in [("position", "0-1-5'; DROP"), ("state", "0-1-5 --x")] {
        for ended in against(Lie::Fact(name, value)) {
            ended.expect(1).says("replication-error: ").says("is not a GTID");
        }
    }
}
