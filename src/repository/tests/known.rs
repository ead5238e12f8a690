//! Files that were not written since are not read, and any doubt is answered by reading.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::support::{Space, header, noise, snapshot};
use crate::os::stamp::{self, Conditions, Stamp};
use crate::os::workers::Crew;
use crate::repository::known::Known;
use crate::repository::manifest::BLOCK_SIZE;
use crate::repository::prune::prune;
use crate::repository::restore::{Destination, Into, Kept, Restored, restore};
use crate::repository::retention::Policy;
use crate::repository::store::{Data, Header, Stored, store};

const BLOCK: usize = BLOCK_SIZE as usize;

/// Waits until the times of all files are old enough to be trusted.
fn settle(s: &Space) {
    let newest = |paths: Vec<&PathBuf>| {
        let changed = |path: &&PathBuf| Stamp::of(&s.data.join(path).metadata().unwrap());
        paths.iter().map(changed).max_by_key(|stamp| stamp.ctime)
    };
    let files = snapshot(&s.data);
    let newest = newest(files.keys().collect());
    while newest.is_some_and(|stamp| !stamp.is_settled(stamp::now())) {
        std::thread::yield_now();
    }
}

/// Stores the data, and returns also how much of it was read.
fn grow(s: &Space, known: Option<&Known>) -> (Stored, u64) {
    settle(s);
    store_at_once(s, known)
}

/// The same, however young the times of its files are.
fn store_at_once(s: &Space, known: Option<&Known>) -> (Stored, u64) {
    let base = s.repo.names().unwrap().pop();
    let mut crew = Crew::unwatched(2);
    let data = Data { path: &s.data, known: known.cloned(), journal: &Default::default() };
    let stored =
        store(&s.repo, &s.lock(), data, Header { base, ..header() }, 1, &mut crew).unwrap();
    (stored, crew.gauge().done())
}

/// Restores the newest backup over the data, and returns also what it took.
fn over(s: &Space, known: Option<&Known>) -> (Restored, u64) {
    let held = s.repo.hold(&s.repo.names().unwrap().pop().unwrap()).unwrap();
    let into = Into::Existing;
    let to = Destination { path: &s.data, owner: None, into, kept: Kept::Cached, known };
    let mut crew = Crew::unwatched(2);
    let restored = restore(&s.repo, &held, to, &mut crew).unwrap();
    (restored, crew.gauge().done())
}

/// A place on a disk: in memory nothing is known.
fn on_disk() -> Option<Space> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let s = Space::below(&target);
    let known = Conditions::of(&File::open(&s.data).unwrap());
    known.map(|_| s)
}

fn three_files() -> Option<Space> {
    let s = on_disk()?;
    s.file("shop/a.ibd", 1, 2 * BLOCK + 77);
    s.file("shop/b.ibd", 2, 5000);
    fs::write(s.data.join("empty"), "").unwrap();
    let sparse = File::create(s.data.join("sparse")).unwrap();
    sparse.set_len(3 * BLOCK_SIZE).unwrap();
    sparse.write_all_at(b"island", BLOCK_SIZE + 5).unwrap();
    Some(s)
}

fn write(s: &Space, name: &str, bytes: &[u8]) {
    let file = File::options().write(true).open(s.data.join(name)).unwrap();
    file.write_all_at(bytes, 1000).unwrap();
}

#[test]
fn files_not_written_since_are_not_read() {
    let Some(s) = three_files() else { return };
    let (first, read) = grow(&s, None);
    assert!(read > 2 * BLOCK_SIZE);
    let known = first.known.unwrap();
    let (second, read) = grow(&s, Some(&known));
    assert_eq!((read, second.stored), (0, 0));
    // Of the backup that is the base, and of no other one.
    let (_, read) = grow(&s, Some(&known));
    assert!(read > 2 * BLOCK_SIZE);
    let (fourth, _) = grow(&s, None);
    write(&s, "shop/b.ibd", b"x");
    let (fifth, read) = grow(&s, fourth.known.as_ref());
    assert_eq!(read, 5000);
    for stored in [&second, &fourth, &fifth] {
        assert!(s.verify().backups.iter().all(|b| b.ok));
        let manifest = s.repo.load(&stored.name).unwrap();
        assert_eq!(manifest.files.len(), 4);
    }
    s.check(&fifth.name);
}

#[test]
fn what_was_restored_this_very_moment_is_not_read() {
    let Some(s) = three_files() else { return };
    for n in 0..40 {
        s.file(&format!("t{n}"), 10 + n, BLOCK + 1);
    }
    grow(&s, None);
    fs::remove_dir_all(&s.data).unwrap();
    let (restored, _) = over(&s, None);
    let (_, read) = store_at_once(&s, restored.known.as_ref());
    assert_eq!(read, 0);
}

#[test]
fn a_write_at_once_after_a_restore_is_noticed() {
    let Some(s) = on_disk() else { return };
    s.file("a.ibd", 1, 5000);
    grow(&s, None);
    for n in 0..40 {
        fs::remove_dir_all(&s.data).unwrap();
        let (restored, _) = over(&s, None);
        write(&s, "a.ibd", &[n, 255, n]);
        let (stored, read) = store_at_once(&s, restored.known.as_ref());
        assert_eq!(read, 5000);
        s.check(&stored.name);
    }
}

#[test]
fn a_restore_over_known_data_reads_what_was_written() {
    let Some(s) = three_files() else { return };
    let (stored, _) = grow(&s, None);
    let known = stored.known.unwrap();
    let before = snapshot(&s.data);
    let (restored, took) = over(&s, Some(&known));
    assert_eq!((restored.written, took), (0, 0));
    // What it knows serves the store that follows.
    let (_, read) = grow(&s, restored.known.as_ref());
    assert_eq!(read, 0);
    let (stored, _) = grow(&s, None);
    write(&s, "shop/a.ibd", b"changed");
    fs::remove_file(s.data.join("empty")).unwrap();
    let (restored, took) = over(&s, stored.known.as_ref());
    assert_eq!(restored.written, BLOCK_SIZE);
    assert!((2 * BLOCK_SIZE..9 * BLOCK_SIZE).contains(&took), "{took}");
    assert_eq!(snapshot(&s.data), before);
}

#[test]
fn a_doubt_is_answered_by_reading() {
    let Some(s) = three_files() else { return };
    let (stored, _) = grow(&s, None);
    let known = stored.known.unwrap();
    let text = known.to_text();
    assert_eq!(Known::parse(&text).as_ref(), Some(&known));
    // Another boot, another clock, another file system: each is a word of the second line.
    for word in 1..4 {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        let mut words: Vec<String> = lines[1].split(' ').map(String::from).collect();
        words[word] = format!("{}7", words[word]);
        lines[1] = words.join(" ");
        let other = Known::parse(&(lines.join("\n") + "\n")).unwrap();
        let (_, took) = over(&s, Some(&other));
        assert!(took > 2 * BLOCK_SIZE, "{}", lines[1]);
    }
    // The time of the last write is set back, as by tar or touch.
    let file = File::options().write(true).open(s.data.join("shop/b.ibd")).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"y", 1000).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    assert_eq!(over(&s, Some(&known)).0.written, 5000);
    // Another file of the same size and time in its place.
    fs::write(s.data.join("new"), noise(9, 5000)).unwrap();
    let new = File::options().write(true).open(s.data.join("new")).unwrap();
    new.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    fs::rename(s.data.join("new"), s.data.join("shop/b.ibd")).unwrap();
    assert_eq!(over(&s, Some(&known)).0.written, 5000);
    s.check(&stored.name);
}

#[test]
fn times_that_a_later_write_may_share_are_not_known() {
    let Some(s) = on_disk() else { return };
    let root = File::open(&s.data).unwrap();
    let now = (stamp::now() / 1_000_000_000) as i64;
    let stamp = |ctime| Some(Stamp { inode: 1, size: 1, mtime: (1, 1), ctime });
    // Whole seconds; of this moment; of a while ago.
    let files = vec![stamp((5, 0)), stamp((now + 1, 5)), stamp((now - 5, 5))];
    let name = "20261122T153000Z-8f3a";
    let known = Known::new(name, &root, Conditions::of(&root), files.clone()).unwrap();
    assert_eq!(known.stamps(name, &root), [None, None, files[2]]);
}

#[test]
fn texts_that_say_something_else_are_none() {
    let Some(s) = three_files() else { return };
    let text = grow(&s, None).0.known.unwrap().to_text();
    for end in 0..text.len() {
        let cut = Known::parse(&text[..end]);
        assert!(cut.is_none_or(|known| text.starts_with(&known.to_text())), "{end}");
    }
    for (from, to) in [("format 1", "format 2"), ("\n-\n", "\n+\n"), (" ", "  "), ("Z-", "Z/")] {
        if text.contains(from) {
            assert_eq!(Known::parse(&text.replacen(from, to, 1)), None, "{from} {to}");
        }
    }
}

#[test]
fn packs_empty_out_below_files_that_are_not_read() {
    let Some(s) = on_disk() else { return };
    for n in 0..10 {
        s.file(&format!("t{n}"), n + 1, 100_000);
    }
    let mut known = grow(&s, None).0.known;
    let first = s.packs();
    for round in 0..3 {
        for n in 0..6 {
            s.file(&format!("t{n}"), 100 * (round + 1) + n, 100_000);
        }
        known = grow(&s, known.as_ref()).0.known;
    }
    let keep = Policy { keep_count: Some(1), ..Policy::ALL };
    prune(&s.repo, &s.lock(), keep, &mut Crew::unwatched(1)).unwrap();
    known = grow(&s, known.as_ref()).0.known;
    assert!(known.is_some());
    prune(&s.repo, &s.lock(), keep, &mut Crew::unwatched(1)).unwrap();
    assert!(!s.packs().contains(&first[0]));
    s.check(&s.repo.names().unwrap().pop().unwrap());
}

/// What a server maps there changes without a trace.
#[test]
fn in_memory_nothing_is_known() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return;
    }
    let s = Space::below(shm);
    s.file("a.ibd", 1, 5000);
    let (stored, _) = grow(&s, None);
    assert_eq!(stored.known, None);
}
