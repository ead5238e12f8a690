//! Stored content comes back byte by byte and is stored once; existing content is not rewritten.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use super::support::{Space, header, noise, snapshot};
use crate::error::Error;
use crate::os::workers::{Crew, Gauge};
use crate::repository::manifest::BLOCK_SIZE;
use crate::repository::restore::{Destination, Into, Kept, restore};
use crate::repository::store::{Data, store};

const BLOCK: usize = BLOCK_SIZE as usize;

#[test]
fn a_restored_directory_is_equal_byte_by_byte() {
    let s = Space::new();
    for (n, size) in
        [0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12_345].iter().enumerate()
    {
        s.file(&format!("shop/t{n}.ibd"), n as u64 + 1, *size);
    }
    fs::create_dir(s.data.join("empty_database")).unwrap();
    fs::set_permissions(s.data.join("empty_database"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(s.data.join("shop/t1.ibd"), Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(s.data.join("déjà vu")).unwrap();
    let odd = s.data.join("déjà vu").join(OsStr::from_bytes(b"line\nbreak \\x41 \xff\x01"));
    fs::write(odd, "odd").unwrap();
    let sparse = File::create(s.data.join("sparse.ibd")).unwrap();
    sparse.set_len(9 * BLOCK_SIZE + 7).unwrap();
    sparse.write_all_at(b"island", 5 * BLOCK_SIZE + 100).unwrap();
    fs::write(s.data.join("zeros"), vec![0; 2 * BLOCK + 3]).unwrap();

    let stored = s.store();
    assert_eq!(stored.files, 10);
    s.check(&stored.name);
    assert!(s.verify().backups[0].ok);
    assert!(s.tmp_is_empty());
    let manifest = s.repo.load(&stored.name).unwrap();
    let lines = manifest.to_text().lines().filter(|l| l.starts_with("zeros")).count();
    assert_eq!(lines, 3, "two runs around the island, and one file of zeros");
}

#[test]
fn thousands_of_small_files_share_a_few_packs() {
    let s = Space::new();
    for n in 0..5000 {
        s.file(&format!("db{}/t{n}.ibd", n % 7), n + 1, 500 + n as usize % 900);
    }
    let stored = s.store();
    assert_eq!(stored.files, 5000);
    assert!(s.packs().len() <= 2);
    s.check(&stored.name);
}

#[test]
fn unchanged_data_adds_nothing_and_a_change_adds_itself() {
    let s = Space::new();
    s.file("shop/a.ibd", 1, 5 * BLOCK);
    fs::copy(s.data.join("shop/a.ibd"), s.data.join("shop/copy.ibd")).unwrap();
    let first = s.store();
    // The copy is deduplicated, or stored once more by the other worker at the same moment.
    assert!(first.stored >= 5 * BLOCK_SIZE && first.stored < 11 * BLOCK_SIZE);
    assert_eq!(s.store().stored, 0);
    let file = File::options().write(true).open(s.data.join("shop/a.ibd")).unwrap();
    file.write_all_at(b"changed", 2 * BLOCK_SIZE + 5).unwrap();
    let third = s.store();
    // With what else is in a pack of which half is needed no more, if the copy was stored twice.
    assert!(third.stored > BLOCK_SIZE / 2 && third.stored < 3 * BLOCK_SIZE, "{}", third.stored);
    s.check(&third.name);
    let names = s.repo.names().unwrap();
    assert_eq!((names.len(), names.last()), (3, Some(&third.name)));
}

#[test]
fn existing_data_gets_only_what_differs() {
    let s = Space::new();
    s.file("shop/a.ibd", 1, 8 * BLOCK);
    s.file("shop/b.ibd", 2, 1000);
    let holes = File::create(s.data.join("holes")).unwrap();
    holes.set_len(4 * BLOCK_SIZE).unwrap();
    fs::write(s.data.join("was_dir"), "file").unwrap();
    let name = s.store().name;

    let to = s.dir.join("to");
    s.restore(&name, &to, Into::Empty).unwrap();
    let again = s.restore(&name, &to, Into::Existing).unwrap();
    assert_eq!(again.written, 0);

    let outside = s.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    let file = File::options().write(true).open(to.join("shop/a.ibd")).unwrap();
    file.write_all_at(b"x", 3 * BLOCK_SIZE).unwrap();
    file.set_len(9 * BLOCK_SIZE).unwrap();
    File::options().write(true).open(to.join("holes")).unwrap().write_all_at(b"y", 77).unwrap();
    fs::remove_file(to.join("shop/b.ibd")).unwrap();
    symlink(outside.join("precious"), to.join("shop/b.ibd")).unwrap();
    symlink(&outside, to.join("surplus_link")).unwrap();
    fs::remove_file(to.join("was_dir")).unwrap();
    fs::create_dir_all(to.join("was_dir/deep")).unwrap();
    fs::write(to.join("was_dir/deep/file"), "").unwrap();
    fs::write(to.join("surplus"), "").unwrap();

    let third = s.restore(&name, &to, Into::Existing).unwrap();
    assert_eq!(third.written, BLOCK_SIZE + 1000 + 4);
    assert_eq!(snapshot(&to), snapshot(&s.data));
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
}

#[test]
fn a_hard_link_in_the_target_is_not_written_through() {
    let s = Space::new();
    s.file("a", 1, 1000);
    let name = s.store().name;
    let to = s.dir.join("to");
    fs::create_dir(&to).unwrap();
    fs::write(s.dir.join("precious"), "precious").unwrap();
    fs::hard_link(s.dir.join("precious"), to.join("a")).unwrap();
    s.restore(&name, &to, Into::Existing).unwrap();
    assert_eq!(fs::read(s.dir.join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read(to.join("a")).unwrap(), noise(1, 1000));
}

#[test]
fn a_directory_with_something_in_it_is_no_target() {
    let s = Space::new();
    s.file("a", 1, 1000);
    let name = s.store().name;
    let to = s.dir.join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("mine"), "mine").unwrap();
    let error = s.restore(&name, &to, Into::Empty).unwrap_err();
    assert!(matches!(error, Error::Configuration { text } if text.contains("'mine'")));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
}

#[test]
fn a_huge_sparse_file_costs_a_line_and_stays_sparse() {
    let s = Space::new();
    let file = File::create(s.data.join("huge.ibd")).unwrap();
    file.set_len(100 << 30).unwrap();
    file.write_all_at(b"middle", 50 << 30).unwrap();
    let stored = s.store();
    assert!(stored.stored < 4096 && stored.size == 100 << 30);
    let to = s.dir.join("to");
    s.restore(&stored.name, &to, Into::Empty).unwrap();
    let m = to.join("huge.ibd").metadata().unwrap();
    assert!(m.len() == 100 << 30 && m.blocks() * 512 <= 2 * BLOCK_SIZE);
    let text = fs::read_to_string(s.repo.backups().join(&stored.name)).unwrap();
    assert!(text.lines().count() < 25, "{text}");
}

#[test]
fn what_a_copy_cannot_hold_is_refused_by_name() {
    for make in [
        (|p| symlink("/elsewhere", p).unwrap()) as fn(&std::path::Path),
        |p| fs::write(p.with_extension("isl"), "/elsewhere").unwrap(),
        |p| drop(std::os::unix::net::UnixListener::bind(p).unwrap()),
    ] {
        let s = Space::new();
        s.file("shop/good.ibd", 1, 100);
        make(&s.data.join("shop/far"));
        let error = s.try_store(2).unwrap_err();
        assert!(matches!(error, Error::Configuration { text } if text.contains("shop/far")));
        assert!(s.repo.names().unwrap().is_empty() && s.tmp_is_empty());
    }
}

#[test]
fn a_file_changed_while_read_fails_the_backup_by_name() {
    let s = Space::new();
    s.file("a.ibd", 1, 40 * BLOCK);
    s.file("z.ibd", 2, 100);
    let lock = s.lock();
    // The small file is processed last; the walk is over once the watch is called.
    let grow = |_: &Gauge| {
        fs::write(s.data.join("z.ibd"), "another size").unwrap();
        Ok(())
    };
    let error = store(
        &s.repo,
        &lock,
        Data { path: &s.data, known: None, journal: &Default::default() },
        header(),
        1,
        &mut Crew::new(1, None, grow),
    )
    .unwrap_err();
    assert!(error.to_string().contains("z.ibd") && matches!(error, Error::Io { .. }), "{error}");
    assert!(s.repo.names().unwrap().is_empty() && s.tmp_is_empty() && s.packs().is_empty());
}

#[test]
fn content_is_equal_past_the_page_cache_and_in_it() {
    let s = Space::new();
    for (name, size) in [("a", 3 * BLOCK), ("b", 4096), ("c", 2 * BLOCK + 4096), ("d", BLOCK + 1)] {
        s.file(name, size as u64, size);
    }
    let held = s.repo.hold(&s.store().name).unwrap();
    for kept in [Kept::Cached, Kept::Synced, Kept::Direct, Kept::Uncached] {
        let to = s.dir.join("to");
        let destination =
            Destination { path: &to, owner: None, into: Into::Empty, kept, known: None };
        let restored = restore(&s.repo, &held, destination, &mut Crew::unwatched(2)).unwrap();
        assert_eq!(restored.written, (6 * BLOCK + 4096 + 4096 + 1) as u64, "{kept:?}");
        assert_eq!(snapshot(&to), snapshot(&s.data), "{kept:?}");
        std::fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn an_owner_gets_all_of_a_restored_directory() {
    let s = Space::new();
    s.file("shop/a.ibd", 1, BLOCK + 1);
    s.file("b", 2, 10);
    let held = s.repo.hold(&s.store().name).unwrap();
    // Only root can give files away; other users keep their own.
    let me = s.dir.metadata().unwrap();
    let owner = if crate::os::sys::is_root() { (4242, 4343) } else { (me.uid(), me.gid()) };
    let to = s.dir.join("to");
    let destination = Destination {
        path: &to,
        owner: Some(owner),
        into: Into::Empty,
        kept: Kept::Direct,
        known: None,
    };
    restore(&s.repo, &held, destination, &mut Crew::unwatched(2)).unwrap();
    for path in ["", "shop", "shop/a.ibd", "b"] {
        let m = to.join(path).metadata().unwrap();
        assert_eq!((m.uid(), m.gid()), owner, "{path}");
    }
}

/// A user other than root could neither start a server on it nor remove it again, each night.
#[test]
fn what_a_server_of_ours_works_on_can_be_removed() {
    let s = Space::new();
    s.file("shop/a.ibd", 1, 10);
    let name = s.store().name;
    s.falsify(&name, |m| m.dirs.iter_mut().for_each(|dir| dir.mode = 0));
    let held = s.repo.hold(&name).unwrap();
    for (kept, mode) in [(Kept::Cached, 0o700), (Kept::Uncached, 0o700), (Kept::Synced, 0)] {
        let to = s.dir.join(format!("{kept:?}"));
        let to = Destination { path: &to, owner: None, into: Into::Existing, kept, known: None };
        restore(&s.repo, &held, to, &mut Crew::unwatched(1)).unwrap();
        let shop = to.path.join("shop");
        assert_eq!(shop.metadata().unwrap().permissions().mode() & 0o777, mode, "{kept:?}");
        fs::set_permissions(shop, Permissions::from_mode(0o700)).unwrap();
    }
}
