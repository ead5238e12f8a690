//! The journal of a backup: stored, verified, restored and pruned, and never part of its data.

use std::fs;
use std::path::PathBuf;

use super::support::{Space, header, noise};
use crate::os::clock::Micros;
use crate::os::workers::Crew;
use crate::repository::manifest::BLOCK_SIZE;
use crate::repository::prune::prune;
use crate::repository::restore::{Destination, Into, Kept, restore};
use crate::repository::retention::Policy;
use crate::repository::store::{Data, Journal, Span, Stored, store};

const LOGS: [(&str, usize); 2] = [("000001/relay.000002", 3_000), ("000002/relay.000001", 5 << 20)];

fn journal(s: &Space) -> Journal {
    let dir = s.dir.join("journal");
    let position = |n: u32| format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{n}");
    let mut logs = Vec::new();
    for (number, (name, size)) in LOGS.iter().enumerate() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(700 + number as u64, *size)).unwrap();
        let (from, to) = (position(3 + number as u32), position(4 + number as u32));
        logs.push((name.into(), Span { from, to, times: Some((Micros(1), Micros(2))) }));
    }
    Journal { dir, logs, as_of: Some(Micros(3_000_000)), ..Journal::default() }
}

fn store_with(s: &Space, journal: &Journal) -> Stored {
    let data = Data { path: &s.data, known: None, journal };
    store(&s.repo, &s.lock(), data, header(), 1, &mut Crew::unwatched(2)).unwrap()
}

#[test]
fn logs_come_back_and_are_no_data() {
    let s = Space::new();
    s.file("journal/t.ibd", 1, 100);
    let (journal, before) = (journal(&s), s.data.join("journal"));
    let stored = store_with(&s, &journal);
    // A database of that name is what it was, and nothing else is there.
    s.check(&stored.name);
    assert_eq!((stored.files, stored.size), (1, 100));
    assert!(before.exists());
    let held = s.repo.hold(&stored.name).unwrap();
    assert_eq!(held.manifest.journal.size(), LOGS.iter().map(|l| l.1 as u64).sum::<u64>());
    let (names, to) = (["a", "b"].map(PathBuf::from), s.dir.join("logs"));
    let into =
        Destination { path: &to, owner: None, into: Into::Empty, kept: Kept::Cached, known: None };
    let logs = held.logs(&names).unwrap();
    restore(&s.repo, &logs, into, &mut Crew::unwatched(2)).unwrap();
    for (name, (log, _)) in names.iter().zip(LOGS) {
        assert!(fs::read(to.join(name)).unwrap() == fs::read(journal.dir.join(log)).unwrap());
    }
    let summary = s.repo.summary(&stored.name).unwrap();
    let spans: Vec<Span> = journal.logs.into_iter().map(|(_, span)| span).collect();
    assert_eq!((summary.spans, summary.as_of), (spans, Some(Micros(3_000_000))));
}

#[test]
fn damage_in_a_journal_is_found_and_named() {
    let s = Space::new();
    s.file("t.ibd", 1, 100);
    let stored = store_with(&s, &journal(&s));
    assert!(s.verify().backups[0].ok);
    let manifest = s.repo.load(&stored.name).unwrap();
    let crate::repository::manifest::Block::Stored(chain) = manifest.journal.logs[0].file.blocks[0]
    else {
        panic!("it is no run of zeros")
    };
    let frame = chain.of(&manifest.links)[0].frame;
    let pack = s.pack(&manifest.packs[frame.pack as usize]);
    let mut content = fs::read(&pack).unwrap();
    content[frame.offset as usize + frame.length as usize / 2] ^= 1;
    fs::write(&pack, content).unwrap();
    let report = s.verify();
    assert!(!report.backups[0].ok);
    assert!(report.damaged[0].files.contains(&PathBuf::from("journal/000001")), "{report:?}");
}

#[test]
fn a_journal_has_packs_that_go_with_it() {
    let s = Space::new();
    s.file("t.ibd", 1, 10 * BLOCK_SIZE as usize);
    let first = store_with(&s, &journal(&s));
    let with_logs = s.packs().len();
    // The data did not change: nothing of it is stored again for what the journal took.
    let again = store_with(&s, &Journal::default());
    assert_eq!(again.stored, 0);
    assert_eq!(s.packs().len(), with_logs);
    let policy = Policy { keep_count: Some(1), ..Policy::ALL };
    let lock = s.lock();
    let pruned = prune(&s.repo, &lock, policy, &mut Crew::unwatched(1)).unwrap();
    assert_eq!(pruned.removed, [first.name]);
    assert!(pruned.packs > 0 && pruned.bytes > LOGS[1].1 as u64, "{pruned:?}");
    drop(lock);
    s.check(&again.name);
}

#[test]
fn a_reason_for_no_journal_is_kept() {
    let s = Space::new();
    s.file("t.ibd", 1, 100);
    let gap = Some("relay.000003 ends at byte 7: it is cut short".to_string());
    let stored = store_with(&s, &Journal { gap: gap.clone(), ..Journal::default() });
    assert_eq!(s.repo.summary(&stored.name).unwrap().gap, gap);
}

#[test]
fn a_log_that_is_gone_fails_the_backup_by_name() {
    let s = Space::new();
    s.file("t.ibd", 1, 100);
    let mut journal = journal(&s);
    journal.logs[1].0 = "000002/relay.000009".into();
    let data = Data { path: &s.data, known: None, journal: &journal };
    let said = store(&s.repo, &s.lock(), data, header(), 1, &mut Crew::unwatched(2)).unwrap_err();
    assert!(said.to_string().contains("relay.000009"), "{said}");
    assert!(s.repo.names().unwrap().is_empty() && s.tmp_is_empty());
}
