//! Journals that are made up: many transactions, and lengths that lie. No server is needed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rollforward::journal::checksum::Crc32;
use rollforward::os::clock::{Micros, Timestamp};
use rollforward::os::workers::Crew;
use rollforward::repository::directory::Repository;
use rollforward::repository::manifest::Header;
use rollforward::repository::store::{Data, Journal, Span, store};

use crate::support::{PATIENCE, Rollforward, TempDir};

const BINARY: &str = env!("CARGO_BIN_EXE_rollforward");
const TIME: u32 = 1_795_361_400;

/// An event with its checksum.
fn event(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (19 + body.len() + 4) as u32;
    let head = [&TIME.to_le_bytes()[..], &[kind], &1_u32.to_le_bytes(), &length.to_le_bytes()];
    let bytes = [&head.concat()[..], &[0; 6], body].concat();
    let mut crc = Crc32::new();
    crc.add(&bytes);
    [bytes, crc.value().to_le_bytes().to_vec()].concat()
}

fn format() -> Vec<u8> {
    let body = [vec![4, 0], vec![0; 50 + 4], vec![19], vec![7; 40], vec![1]].concat();
    [b"\xfebin".to_vec(), event(15, &body)].concat()
}

fn gtid(number: u64) -> Vec<u8> {
    event(162, &[&number.to_le_bytes()[..], &[0; 4], &[0; 7]].concat())
}

fn map(name: &[u8]) -> Vec<u8> {
    let names = [&[1][..], b"d\0", &[name.len() as u8], name, b"\0"].concat();
    event(19, &[&[1, 0, 0, 0, 0, 0, 1, 0][..], &names, &[1, 3, 0, 0]].concat())
}

/// One INT.
const ROWS: &[u8] = &[1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 7, 0, 0, 0];

fn transaction(number: u64, name: &[u8], rows: &[u8]) -> Vec<u8> {
    [gtid(number), map(name), event(23, rows), event(16, &[0; 8])].concat()
}

/// A repository with a backup at 0-1-1, and one that a log leads to, at 0-1-`last`.
fn repository(dir: &Path, log: &[u8], last: u64) -> PathBuf {
    let (repo, data, logs) = (dir.join("repo"), dir.join("data"), dir.join("logs"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&logs).unwrap();
    fs::write(data.join("t.ibd"), b"data").unwrap();
    fs::write(logs.join("relay.000001"), log).unwrap();
    let repository = Repository::open_or_create(&repo).unwrap();
    let lock = repository.lock("test").unwrap();
    let header = |position: &str, base: Option<String>| Header {
        flavor: "mariadb".into(),
        version: "10.11.19-MariaDB".into(),
        position: position.into(),
        data_as_of: Timestamp(i64::from(TIME)),
        started: Timestamp(i64::from(TIME)),
        base,
        open_tables: 0,
        primary_log: None,
        settings: Vec::new(),
    };
    let add = |header, journal: &Journal| {
        let data = Data { path: &data, known: None, journal };
        store(&repository, &lock, data, header, 1, &mut Crew::unwatched(1)).unwrap().name
    };
    let base = add(header("0-1-1", None), &Journal::default());
    let time = Micros(i64::from(TIME) * 1_000_000);
    let to = format!("0-1-{last}");
    let span = Span { from: "0-1-1".into(), to: to.clone(), times: Some((time, time)) };
    let logs = Journal {
        dir: logs,
        logs: vec![("relay.000001".into(), span)],
        as_of: Some(time),
        ..Journal::default()
    };
    add(header(&to, Some(base)), &logs);
    repo
}

fn log(repo: &Path) -> Rollforward {
    Rollforward::new(["log", "--repo"]).arg(repo)
}

#[test]
fn lengths_that_lie_end_in_one_line() {
    let more = |at: usize, value: u8| {
        let mut rows = ROWS.to_vec();
        rows[at] = value;
        transaction(3, b"t", &rows)
    };
    let packed = |how: &[u8]| event(40, how);
    let query = |text: &[u8]| event(2, &[&[0; 13][..], &[0], text].concat());
    for (what, bad) in [
        ("a row that is cut short", transaction(3, b"t", &ROWS[..13])),
        ("another table", more(0, 9)),
        ("more columns", more(8, 2)),
        ("no number of columns", more(8, 251)),
        ("an endless name", [gtid(3), event(19, &[0, 0, 0, 0, 0, 0, 0, 0, 255, b'd'])].concat()),
        ("a short statement", [gtid(3), event(2, &[0; 12])].concat()),
        ("a database that is longer", [gtid(3), event(2, &[255; 40])].concat()),
        ("no frame", [gtid(3), packed(&[2, 1, 0, 3, 3, 253, 0, 0, 1, 0, 1, 2, 3])].concat()),
        ("a bomb", [gtid(3), packed(&bomb())].concat()),
        (
            "no zlib",
            [gtid(3), event(165, &[&[0; 14][..], &[0x84, 255, 255, 255, 255, 9]].concat())]
                .concat(),
        ),
        (
            "an event without end",
            [gtid(3), vec![0, 0, 0, 0, 2, 1, 0, 0, 0, 255, 255, 255, 255]].concat(),
        ),
        ("no goal", [query(b"x"), event(16, &[0; 8])].concat()),
    ] {
        let dir = TempDir::new("forged");
        let journal = [format(), transaction(2, b"t", ROWS), bad].concat();
        let repo = repository(dir.path(), &journal, 3);
        let ended = log(&repo).run_to_end(PATIENCE).expect(1);
        let ended = ended.says("error: backup-damaged: ");
        assert_eq!(ended.log().len(), 1, "{what}: {ended}");
        // What was whole before is there.
        assert_eq!(ended.stdout, "2026-11-22T15:30:00Z  0-1-2  d.t 1\n", "{what}");
    }
}

/// A transaction of few bytes that would be of many.
fn bomb() -> Vec<u8> {
    let head = [0, 0, 0, 0, 99, 1, 0, 0, 0, 255, 255, 255, 63, 0, 0, 0, 0, 0, 0];
    let plain = [&head[..], &vec![0; 32 << 20]].concat();
    let frame = zstd::encode_all(plain.as_slice(), 3).unwrap();
    [&[2, 1, 0, 3, 9, 254, 0, 0, 0, 64, 0, 0, 0, 0, 0][..], &frame].concat()
}

#[test]
fn odd_names_are_one_line_and_valid_json() {
    let dir = TempDir::new("odd");
    let name = b"a\n\x1b[31m\xff\"`\\\xe2\x80\xae";
    let journal = [format(), transaction(2, name, ROWS)].concat();
    let repo = repository(dir.path(), &journal, 2);
    let ended = log(&repo).run_to_end(PATIENCE).expect(0);
    let shown = "`a\\x0A\\x1B[31m\\xFF\"``\\\\xE2\\x80\\xAE`";
    assert_eq!(ended.stdout, format!("2026-11-22T15:30:00Z  0-1-2  d.{shown} 1\n"));
    let ended = log(&repo).arg("--json").run_to_end(PATIENCE).expect(0);
    let json = crate::support::repository::Json::parse(&ended.stdout);
    assert_eq!(crate::scripts::keys(&json), crate::scripts::page("log"));
    let crate::support::repository::Json::Object(tables) = json.get("tables") else { panic!() };
    assert_eq!(tables.keys().collect::<Vec<_>>(), [&format!("d.{shown}")]);
}

/// So many transactions, each of 60 bytes and more.
const MANY: u64 = 200_000;

fn many(dir: &Path) -> PathBuf {
    let mut journal = format();
    for number in 2..MANY + 2 {
        journal.extend(transaction(number, b"orders", ROWS));
    }
    repository(dir, &journal, MANY + 1)
}

#[test]
fn many_transactions_are_listed_quickly_in_little_memory() {
    let dir = TempDir::new("many");
    let repo = many(dir.path());
    let began = Instant::now();
    let mut child = Command::new(BINARY)
        .args(["log", "--repo"])
        .arg(&repo)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut lines, mut piece, mut peak) = (0, vec![0; 1 << 16], 0);
    while let length @ 1.. = out.read(&mut piece).unwrap() {
        lines += piece[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let now = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let now = now.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = now.unwrap_or(0).max(peak);
    }
    assert!(child.wait().unwrap().success());
    println!("{lines} lines in {:?}, {peak} kB", began.elapsed());
    assert_eq!(lines, MANY);
    assert!(began.elapsed() < Duration::from_secs(60) && peak < 64 << 10, "{peak} kB");
}

#[test]
fn a_reader_that_goes_and_a_stop_end_it_quietly() {
    let dir = TempDir::new("goes");
    let repo = many(dir.path());
    let mut command = Command::new(BINARY);
    command.args(["log", "--repo"]).arg(&repo).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap()),
        (Some(0), "".into())
    );
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut child = command.spawn().unwrap();
        // It has begun, and waits for a reader.
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        crate::support::kill(child.id() as i32, signal);
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal));
    }
}
