//! A repository from creation to pruning, with readers and locks in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Space, header};
use crate::error::Error;
use crate::os::clock::Timestamp;
use crate::os::workers::{Crew, Gauge};
use crate::repository::directory::Repository;
use crate::repository::prune::{Removal, foretell, prune};
use crate::repository::reread::{LastRead, reread};
use crate::repository::retention::Policy;
use crate::repository::store::{Data, store};
use crate::repository::verify::verify;

const KEEP_ONE: Policy = Policy { keep_count: Some(1), ..Policy::ALL };

#[test]
fn repositories_are_private_and_half_made_ones_are_completed() {
    let s = Space::new();
    let path = s.dir.join("deep/new");
    // A missing parent may be an unmounted disk.
    assert!(Repository::open_or_create(&path).is_err());
    fs::create_dir(s.dir.join("deep")).unwrap();
    Repository::open_or_create(&path).unwrap();
    for dir in ["", "backups", "packs", "tmp", "proofs"] {
        let mode = path.join(dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "rollforward repository 2\n");
    fs::rename(path.join("format"), path.join("tmp/format")).unwrap();
    fs::remove_dir(path.join("backups")).unwrap();
    assert!(Repository::open(&path).is_err());
    Repository::open_or_create(&path).unwrap();
    Repository::open(&path).unwrap();
}

#[test]
fn what_is_not_a_repository_is_refused_and_not_touched() {
    let s = Space::new();
    let path = s.dir.join("other");
    let says = |result: Result<Repository, Error>| match result {
        Err(Error::Configuration { text }) => text,
        other => panic!("{other:?}"),
    };
    assert!(says(Repository::open(&path)).contains("no repository at"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("photos"), "").unwrap();
    assert!(says(Repository::open(&path)).contains("not a repository"));
    assert!(says(Repository::open_or_create(&path)).contains("'photos'"));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    fs::write(path.join("format"), "rollforward repository 3\n").unwrap();
    assert!(says(Repository::open_or_create(&path)).contains("later format 3"));
    fs::write(path.join("format"), [0xff, 0xfe]).unwrap();
    assert!(says(Repository::open_or_create(&path)).contains("unexpected text"));
    fs::write(s.dir.join("plain"), "").unwrap();
    assert!(says(Repository::open(&s.dir.join("plain"))).contains("not a directory"));
    // A repository that lost its format file must not be started over.
    s.file("a", 1, 10);
    s.store();
    fs::remove_file(s.repo.root().join("format")).unwrap();
    assert!(says(Repository::open_or_create(s.repo.root())).contains("not empty"));
}

#[test]
fn names_stay_ordered_when_the_clock_is_set_back() {
    let s = Space::new();
    s.file("a", 1, 10);
    let name = s.store().name;
    let later = "21261122T153000Z-ffff";
    fs::rename(s.repo.backups().join(name), s.repo.backups().join(later)).unwrap();
    fs::write(s.repo.backups().join("notes.txt"), "not ours").unwrap();
    let next = s.store().name;
    assert!(next.starts_with("21261122T153001Z-"), "{next}");
    assert_eq!(s.repo.names().unwrap(), [later, &next]);
    assert!(matches!(s.repo.load("../../format"), Err(Error::NoBackup { .. })));
    assert!(matches!(s.repo.hold("20260101T000000Z-0000"), Err(Error::NoBackup { .. })));
}

/// Or a follower would be ahead of the clock before long.
#[test]
fn many_names_in_a_second_stay_in_it() {
    let s = Space::new();
    s.file("a", 1, 10);
    let names: Vec<String> = (0..20).map(|_| s.store().name).collect();
    assert_eq!(s.repo.names().unwrap(), names);
    let now = Timestamp(Timestamp::now().0 + 2).compact();
    assert!(names.iter().all(|name| *name < now), "{names:?}");
}

#[test]
fn a_backup_follows_the_last_time_that_has_a_name() {
    let s = Space::new();
    s.file("a", 1, 10);
    let name = s.store().name;
    let last = "99991231T235959Z-ffff";
    fs::rename(s.repo.backups().join(name), s.repo.backups().join(last)).unwrap();
    let next = s.store().name;
    assert_eq!(s.repo.names().unwrap(), [last, &next]);
}

#[test]
fn a_stop_while_storing_leaves_nothing_behind() {
    let s = Space::new();
    s.file("big.ibd", 1, 200 << 20);
    let lock = s.lock();
    let stop = |gauge: &Gauge| {
        // Until a pack is finished, so that there is something to remove.
        while s.packs().is_empty() && !gauge.finished() {
            std::thread::yield_now();
        }
        Err(Error::Interrupted { signal: 15 })
    };
    let result = store(
        &s.repo,
        &lock,
        Data { path: &s.data, known: None, journal: &Default::default() },
        header(),
        1,
        &mut Crew::new(2, None, stop),
    );
    assert!(matches!(result, Err(Error::Interrupted { signal: 15 })));
    assert!(s.repo.names().unwrap().is_empty() && s.tmp_is_empty() && s.packs().is_empty());
}

#[test]
fn an_unreadable_header_fails_before_the_work() {
    let s = Space::new();
    s.file("a", 1, 10);
    let lock = s.lock();
    let bad = crate::repository::store::Header { position: "two words".into(), ..header() };
    let never = |_: &Gauge| panic!("no worker runs");
    let error = store(
        &s.repo,
        &lock,
        Data { path: &s.data, known: None, journal: &Default::default() },
        bad,
        1,
        &mut Crew::new(1, None, never),
    )
    .unwrap_err();
    assert!(error.to_string().contains("position"), "{error}");
}

#[test]
fn packs_less_than_half_used_empty_out() {
    let s = Space::new();
    for n in 0..10 {
        s.file(&format!("t{n}"), n + 1, 100_000);
    }
    s.try_store(1).unwrap();
    let first = s.packs();
    for n in 0..4 {
        s.file(&format!("t{n}"), n + 100, 100_000);
    }
    // Six of ten are left: this backup reuses them and, since that is half or more, so does the
    // next.
    let second = s.try_store(1).unwrap();
    assert!((400_000..450_000).contains(&second.stored), "{}", second.stored);
    for n in 4..6 {
        s.file(&format!("t{n}"), n + 100, 100_000);
    }
    s.try_store(1).unwrap();
    // The newest uses four of ten: they are stored again, and the old pack can go.
    let fourth = s.try_store(1).unwrap();
    assert!((400_000..450_000).contains(&fourth.stored), "{}", fourth.stored);
    let pruned = prune(&s.repo, &s.lock(), KEEP_ONE, &mut Crew::unwatched(1)).unwrap();
    assert_eq!((pruned.removed.len(), pruned.packs), (3, 1), "{pruned:?}");
    assert!(!s.packs().contains(&first[0]));
    s.check(&fourth.name);
}

#[test]
fn prune_announces_spares_readers_and_then_removes() {
    let s = Space::new();
    let mut names = Vec::new();
    for n in 0..3 {
        s.file("a", n + 1, 100_000);
        names.push(s.store().name);
    }
    let lock = s.lock();
    let held = s.repo.hold(&names[0]).unwrap();
    let dry = foretell(&s.repo, KEEP_ONE, &mut Crew::unwatched(1)).unwrap();
    assert_eq!((dry.removed.as_slice(), dry.in_use.as_slice()), (&names[1..2], &names[..1]));
    assert_eq!((dry.packs, s.packs().len(), s.repo.names().unwrap().len()), (1, 3, 3));
    let wet = prune(&s.repo, &lock, KEEP_ONE, &mut Crew::unwatched(1)).unwrap();
    assert_eq!((wet.packs, wet.bytes, wet.in_use.len()), (dry.packs, dry.bytes, 1));
    assert_eq!(s.repo.remove(&lock, &names[0]).unwrap(), Removal::InUse);
    drop(held);
    assert_eq!(s.repo.remove(&lock, &names[0]).unwrap(), Removal::Removed);
    let sweep = s.repo.sweep_packs(&lock).unwrap();
    assert_eq!((sweep.removed, s.packs().len()), (1, 1));
    s.check(&names[2]);
}

#[test]
fn one_unreadable_manifest_stops_the_sweep_and_is_named() {
    let s = Space::new();
    s.file("a", 1, 1000);
    let bad = s.store().name;
    fs::write(s.repo.backups().join(&bad), "format 9\n").unwrap();
    s.file("a", 2, 1000);
    s.store();
    s.store();
    let pruned = prune(&s.repo, &s.lock(), KEEP_ONE, &mut Crew::unwatched(1)).unwrap();
    assert_eq!((pruned.unreadable, pruned.packs), (vec![bad.clone()], 0));
    assert_eq!(s.packs().len(), 2);
    assert!(s.repo.names().unwrap().contains(&bad));
    assert_eq!(s.repo.sweep_packs(&s.lock()).unwrap().stopped_by, [bad]);
}

#[test]
fn leftovers_in_tmp_are_swept_by_the_next_pass() {
    let s = Space::new();
    fs::write(s.repo.tmp().join("pack-0"), "half").unwrap();
    fs::create_dir_all(s.repo.tmp().join("dir/deep")).unwrap();
    s.file("a", 1, 1000);
    s.check(&s.store().name);
    assert!(s.tmp_is_empty());
}

#[test]
fn a_copy_without_its_empty_tmp_is_written_to() {
    let s = Space::new();
    fs::remove_dir(s.repo.tmp()).unwrap();
    s.file("a", 1, 1000);
    s.check(&s.store().name);
    assert!(s.tmp_is_empty());
}

#[test]
fn a_second_lock_names_the_first() {
    let s = Space::new();
    let _lock = s.lock();
    let again = Repository::open(s.repo.root()).unwrap();
    let error = again.lock("prune").unwrap_err();
    assert!(matches!(error, Error::Locked { holder, .. } if holder.contains("(test since")));
}

#[test]
fn only_the_first_line_of_format_counts() {
    let s = Space::new();
    let format = s.repo.root().join("format");
    fs::write(&format, b"rollforward repository 1\n\xff log of another program\n").unwrap();
    Repository::open(s.repo.root()).unwrap();
    fs::write(&format, "rollforward repository 10\n").unwrap();
    assert!(Repository::open(s.repo.root()).is_err());
}

#[test]
fn a_name_later_than_tomorrow_is_not_the_newest() {
    let s = Space::new();
    s.file("a", 1, 10);
    let good = s.store().name;
    let forged = "29990101T000000Z-0000";
    fs::copy(s.repo.backups().join(&good), s.repo.backups().join(forged)).unwrap();
    assert_eq!(s.repo.names().unwrap(), [forged, &good]);
    assert_eq!(s.repo.names().unwrap().pop(), Some(good));
    assert!(s.store().name.as_str() < forged);
}

#[test]
fn a_backup_pruned_beside_a_verify_is_no_damage() {
    let s = Space::new();
    s.file("a", 1, 10);
    let names = [s.store().name, s.store().name];
    s.repo.remove(&s.lock(), &names[0]).unwrap();
    let report = verify(&s.repo, &names, true, &mut Crew::unwatched(1)).unwrap();
    assert_eq!(
        report.backups.iter().map(|b| (&b.name, b.ok)).collect::<Vec<_>>(),
        [(&names[1], true)]
    );
    let named = verify(&s.repo, &names, false, &mut Crew::unwatched(1));
    assert!(matches!(named, Err(Error::NoBackup { .. })));
}

#[test]
fn a_glance_finds_missing_packs_and_truncated_manifests() {
    let s = Space::new();
    s.file("a", 1, 1000);
    let name = s.store().name;
    assert_eq!(s.repo.glance(&name).unwrap(), None);
    let manifest = s.repo.backups().join(&name);
    let text = fs::read_to_string(&manifest).unwrap();
    for (cut, what) in [
        (text[..text.len() - 1].to_string(), "last line is missing"),
        (text[..40].to_string(), "last line is missing"),
        (String::new(), "last line is missing"),
        (text.replacen("pack ", "pack x", 1), "does not parse"),
    ] {
        fs::write(&manifest, &cut).unwrap();
        let found = s.repo.glance(&name).unwrap().unwrap();
        assert!(found.contains(what), "{found}");
    }
    fs::write(&manifest, &text).unwrap();
    fs::remove_file(s.packs().pop().unwrap()).unwrap();
    assert!(s.repo.glance(&name).unwrap().unwrap().contains("missing"));
    assert!(matches!(s.repo.glance("20200101T000000Z-0000"), Err(Error::NoBackup { .. })));
}

/// As a kill between the reading and the storing would leave it.
#[test]
fn a_pack_found_damaged_stays_until_its_content_is_stored() {
    let s = Space::new();
    s.file("a", 1, 100_000);
    let old = s.store().name;
    let packs = s.repo.summary(&old).unwrap().packs;
    let path = s.packs().pop().unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&path, &bad).unwrap();
    let lock = s.lock();
    let read =
        reread(&s.repo, &lock, &packs, &mut LastRead::new(), &mut Crew::unwatched(1)).unwrap();
    assert_eq!((read.packs, read.damaged.len()), (1, 1));
    assert_eq!((s.repo.glance(&old).unwrap(), fs::read(&path).unwrap() == bad), (None, true));
    drop(lock);
    let new = s.store().name;
    let report = verify(&s.repo, &[new], false, &mut Crew::unwatched(1)).unwrap();
    assert!(report.backups[0].ok && fs::read(&path).unwrap() == good);
    let _lock = s.lock();
    s.repo.set_aside_distrusted();
    assert_eq!(s.packs(), [path]);
}
