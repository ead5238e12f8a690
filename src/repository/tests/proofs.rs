//! What is on record of backups and passes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use super::support::Space;
use crate::os::clock::Timestamp;
use crate::os::stamp::boot_id;
use crate::os::workers::Crew;
use crate::repository::directory::Repository;
use crate::repository::proofs::{LONGEST, MOST, Record};
use crate::repository::prune::prune;
use crate::repository::retention::Policy;

const NAME: &str = "20261122T153000Z-8f3a";

fn proof(n: i64) -> Record {
    Record::new("proof", Timestamp(n)).with("result", "ok")
}

#[test]
fn any_text_survives_in_one_line() {
    let text = "a b\\c=d\n\u{e4}\u{2028}\x1b";
    let record = proof(0).with("table", text).with("empty", "").with("result", "unequal");
    let line = record.line();
    assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line}");
    assert!(line.starts_with("proof time=1970-01-01T00:00:00Z table=a\\x20b\\x5cc=d\\x0a"));
    assert_eq!(Record::parse(&line), Some(record.clone()));
    assert_eq!((record.get("table"), record.get("result")), (Some(text), Some("unequal")));
    let long = proof(0).with("message", "\u{e4}".repeat(9999));
    assert_eq!(Record::parse(&long.line()), Some(long));
    for bad in ["", " ", "Proof", "proof time", "proof =x", "proof a=\\x4", "proof a=1  b=2"] {
        assert_eq!(Record::parse(bad), None, "{bad:?}");
    }
    assert_eq!(Record::parse("proof a=1 a=2"), None);
    assert_eq!(Record::parse("proof a=\\xff"), None);
    assert_eq!(Record::parse(&format!("proof a={}", "x".repeat(LONGEST))), None);
}

#[test]
fn records_are_private_and_make_a_repository_of_format_two() {
    let s = Space::new();
    let root = s.repo.root();
    fs::write(root.join("format"), "rollforward repository 1\n").unwrap();
    let _ = fs::remove_dir(root.join("proofs"));
    assert_eq!(s.repo.records(NAME), []);
    s.repo.put_on_record(NAME, &[proof(1), proof(2)]).unwrap();
    s.repo.put_on_record(NAME, &[proof(3)]).unwrap();
    assert_eq!(s.repo.records(NAME), [proof(1), proof(2), proof(3)]);
    let format = fs::read_to_string(root.join("format")).unwrap();
    assert_eq!(format, "rollforward repository 2\n");
    Repository::open(root).unwrap();
    for (name, mode) in [("proofs", 0o700), (&*format!("proofs/{NAME}"), 0o600)] {
        let found = root.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    assert!(s.repo.put_on_record("../format", &[proof(1)]).is_err());
}

#[test]
fn lines_that_make_no_sense_are_passed_over_and_stay() {
    let s = Space::new();
    s.repo.put_on_record(NAME, &[proof(1)]).unwrap();
    let path = s.repo.root().join("proofs").join(NAME);
    let text = fs::read(&path).unwrap();
    fs::write(&path, [&text[..], b"\xff\xfe odd\nlater word=1\n"].concat()).unwrap();
    s.repo.put_on_record(NAME, &[proof(2)]).unwrap();
    let kinds: Vec<_> = s.repo.records(NAME).iter().map(|r| r.kind().to_string()).collect();
    assert_eq!(kinds, ["proof", "later", "proof"]);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    fs::write(&path, vec![b'x'; MOST as usize + 1]).unwrap();
    assert_eq!(s.repo.records(NAME), []);
    s.repo.put_on_record(NAME, &[proof(3)]).unwrap();
    assert_eq!(s.repo.records(NAME), [proof(3)]);
    // Nothing is read or written through a link.
    fs::remove_file(&path).unwrap();
    let victim = s.dir.join("victim");
    fs::write(&victim, "proof time=1\n").unwrap();
    symlink(&victim, &path).unwrap();
    assert_eq!(s.repo.records(NAME), []);
    s.repo.put_on_record(NAME, &[proof(4)]).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "proof time=1\n");
    assert_eq!(s.repo.records(NAME), [proof(4)]);
}

#[test]
fn a_file_that_grows_loses_its_oldest_lines() {
    let s = Space::new();
    let many: Vec<Record> = (0..5000).map(|n| proof(n).with("x", "y".repeat(1000))).collect();
    s.repo.put_on_record(NAME, &many).unwrap();
    let kept = s.repo.records(NAME);
    assert!(kept.len() > 3000 && kept.len() < 5000, "{}", kept.len());
    assert_eq!(kept.last(), many.last());
}

#[test]
fn a_pass_has_one_line_and_old_ones_go() {
    let s = Space::new();
    let pass = |n| Record::new("pass", Timestamp(n));
    let put = |pass: Record, since| {
        let time = pass.time();
        s.repo.put_pass_on_record(&pass, |old| old.time() == time, Timestamp(since)).unwrap();
    };
    put(pass(1), 0);
    put(pass(2), 0);
    put(pass(2).with("status", 0), 0);
    assert_eq!(s.repo.passes(), [pass(1), pass(2).with("status", 0)]);
    put(pass(3), 2);
    assert_eq!(s.repo.passes(), [pass(2).with("status", 0), pass(3)]);
}

#[test]
fn records_go_with_their_backups() {
    let s = Space::new();
    let other = "20261123T153000Z-8f3a";
    s.repo.put_on_record(NAME, &[proof(1)]).unwrap();
    s.repo.put_on_record(other, &[proof(1)]).unwrap();
    s.repo.put_pass_on_record(&proof(1), |_| false, Timestamp(0)).unwrap();
    s.repo.forget_records_but(&[other.to_string()]).unwrap();
    assert_eq!((s.repo.records(NAME).len(), s.repo.records(other).len()), (0, 1));
    assert_eq!(s.repo.passes().len(), 1);
}

#[test]
fn what_another_process_puts_on_record_is_not_waited_for() {
    let s = Space::new();
    s.repo.put_on_record(NAME, &[proof(1)]).unwrap();
    let held = fs::File::open(s.repo.root().join("proofs/lock")).unwrap();
    held.lock().unwrap();
    let refused = s.repo.put_on_record(NAME, &[proof(2)]);
    assert!(matches!(refused, Err(crate::error::Error::Locked { .. })), "{refused:?}");
    assert_eq!(s.repo.records(NAME), [proof(1)]);
    drop(held);
    s.repo.put_on_record(NAME, &[proof(2)]).unwrap();
    assert_eq!(s.repo.records(NAME), [proof(1), proof(2)]);
}

#[test]
fn a_pass_with_a_lying_clock_stops_no_prune() {
    let s = Space::new();
    s.file("a", 1, 10);
    s.store();
    let policy = Policy { keep_within: Some(Duration::from_secs(1)), ..Policy::ALL };
    for uptime in [i64::MIN, i64::MIN + 200_000, i64::MAX] {
        let pass = Record::new("pass", Timestamp(1_795_361_400)).with("boot", boot_id());
        s.repo.put_pass_on_record(&pass.with("uptime", uptime), |_| true, Timestamp(0)).unwrap();
        prune(&s.repo, &s.lock(), policy, &mut Crew::unwatched(1)).unwrap();
    }
}
