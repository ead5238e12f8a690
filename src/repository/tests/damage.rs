//! Damage of every kind in every place is named, and nothing outside is touched.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::support::{Space, flip};
use crate::error::Error;
use crate::repository::manifest::{BLOCK_SIZE, Block, DirEntry, Frame, hex};
use crate::repository::restore::Into;

/// A repository with one backup of two files, with one pack each.
fn two_files() -> (Space, String) {
    let s = Space::new();
    s.file("shop/a.ibd", 1, 100_000);
    s.file("shop/b.ibd", 2, BLOCK_SIZE as usize + 5);
    let name = s.try_store(1).unwrap().name;
    (s, name)
}

fn damage_text(result: Result<impl std::fmt::Debug, Error>, name: &str) -> String {
    match result {
        Err(Error::BackupDamaged { backup, what }) if backup == name => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_is_named_and_healed_by_storing() {
    let (s, name) = two_files();
    let manifest = s.repo.load(&name).unwrap();
    let a = &manifest.files[0];
    assert_eq!(a.path, std::path::Path::new("shop/a.ibd"));
    let Block::Stored(chain) = a.blocks[0] else { panic!("{a:?}") };
    let Frame { pack, offset, .. } = chain.of(&manifest.links)[0].frame;
    let pack = manifest.packs[pack as usize];
    let path = s.pack(&pack);
    flip(&path, offset + 50_000);
    assert_eq!(s.repo.state(&manifest.packs), None, "it still looks well");

    let what = damage_text(s.restore(&name, &s.dir.join("to"), Into::Empty), &name);
    assert!(what.contains(&hex(&pack.hash)) && what.contains("shop/a.ibd"), "{what}");

    let report = s.verify();
    assert!(!report.backups[0].ok && report.damaged.len() == 1, "{report:?}");
    let damage = &report.damaged[0];
    assert_eq!(damage.pack, hex(&pack.hash));
    assert_eq!(damage.backups, [name.as_str()]);
    assert_eq!(damage.files, [std::path::Path::new("shop/a.ibd")]);
    assert!(!path.exists() && path.with_extension("damaged").exists());
    assert!(s.repo.state(&manifest.packs).unwrap().contains("set aside"));

    let healed = s.try_store(1).unwrap();
    assert!(healed.stored > BLOCK_SIZE);
    s.check(&healed.name);
    s.check(&name);
    assert!(s.verify().backups.iter().all(|b| b.ok), "the same pack was made again");
}

#[test]
fn good_blocks_of_a_pack_set_aside_remain_readable() {
    let s = Space::new();
    s.file("a", 1, 100_000);
    s.try_store(1).unwrap();
    s.file("b", 2, 100_000);
    let both = s.try_store(1).unwrap().name;
    let old = s.repo.load(&both).unwrap().packs[0];
    // Only a frame header's unused space would do, so corrupt the pack behind its frames instead.
    s.falsify(&both, |m| m.packs[0].size += 1);
    fs::write(s.pack(&old), [fs::read(s.pack(&old)).unwrap(), vec![0]].concat()).unwrap();
    let report = s.verify();
    assert_eq!(report.damaged.len(), 2, "{report:?}");
    s.check(&both);
}

#[test]
fn a_pass_sets_bad_packs_aside_and_readers_do_not() {
    let (s, name) = two_files();
    let pack = s.repo.load(&name).unwrap().packs[0];
    flip(&s.pack(&pack), 50_000);
    damage_text(s.restore(&name, &s.dir.join("one"), Into::Empty), &name);
    assert!(s.pack(&pack).exists());
    let lock = s.lock();
    damage_text(s.restore(&name, &s.dir.join("two"), Into::Empty), &name);
    assert!(!s.pack(&pack).exists());
    drop(lock);
    let next = s.store();
    s.check(&next.name);
}

#[test]
fn a_pack_cut_short_deleted_or_replaced_is_named() {
    for (action, says) in [
        (
            (|p| File::options().write(true).open(p).unwrap().set_len(99).unwrap())
                as fn(&std::path::Path),
            "99 bytes",
        ),
        (|p| fs::remove_file(p).unwrap(), "is missing"),
        (
            |p| {
                fs::rename(p, p.with_extension("x")).unwrap();
                symlink(p.with_extension("x"), p).unwrap();
            },
            "is not a file",
        ),
    ] {
        let (s, name) = two_files();
        let manifest = s.repo.load(&name).unwrap();
        action(&s.pack(&manifest.packs[0]));
        assert!(s.repo.state(&manifest.packs).unwrap().contains(says));
        let what = damage_text(s.restore(&name, &s.dir.join("to"), Into::Empty), &name);
        assert!(what.contains(says), "{what}");
        assert!(!s.dir.join("to").exists(), "nothing was begun");
        let report = s.verify();
        assert!(report.damaged[0].what.contains(says), "{report:?}");
        assert_eq!(report.damaged[0].files.len(), 2);
        s.check(&s.store().name);
    }
}

#[test]
fn two_packs_swapped_are_both_named() {
    let s = Space::new();
    s.file("a", 1, 100_000);
    s.store();
    s.file("b", 2, 100_000);
    let name = s.store().name;
    let packs = s.repo.load(&name).unwrap().packs;
    let [a, b] = [s.pack(&packs[0]), s.pack(&packs[1])];
    assert_eq!(packs[0].size, packs[1].size, "sizes do not tell");
    fs::rename(&a, s.dir.join("x")).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(s.dir.join("x"), &b).unwrap();
    let report = s.verify();
    assert_eq!(report.damaged.len(), 2);
    assert!(report.backups.iter().all(|b| !b.ok));
}

#[test]
fn wrong_block_references_condemn_the_manifest_and_not_the_pack() {
    let (s, name) = two_files();
    s.falsify(&name, |m| {
        m.links[0].hash = [7; 32];
    });
    let lock = s.lock();
    damage_text(s.restore(&name, &s.dir.join("to"), Into::Empty), &name);
    drop(lock);
    let report = s.verify();
    assert!(report.damaged[0].what.contains("false manifest"), "{report:?}");
    assert!(s.packs().iter().all(|p| p.extension().is_none()));
}

#[test]
fn a_false_size_condemns_the_manifest_and_not_the_pack() {
    let s = Space::new();
    s.file("a", 1, 100_000);
    let good = s.store().name;
    s.file("b", 2, 100);
    let bad = s.store().name;
    s.falsify(&bad, |m| m.packs.iter_mut().for_each(|pack| pack.size += 1));
    let report = s.verify();
    let is_good: Vec<_> = report.backups.iter().map(|b| (b.name.as_str(), b.ok)).collect();
    assert_eq!(is_good, [(good.as_str(), true), (bad.as_str(), false)]);
    assert!(report.backups[1].what.contains("false manifest"), "{report:?}");
    assert!(report.damaged.iter().all(|damage| damage.backups == [bad.as_str()]), "{report:?}");
    assert!(s.packs().iter().all(|p| p.extension().is_none()));
    s.check(&s.store().name);
}

#[test]
fn a_frame_that_grows_beyond_its_block_is_stopped() {
    let (s, name) = two_files();
    // 300 bytes shorter in the manifest than in the frame.
    s.falsify(&name, |m| {
        m.files[0].size -= 300;
        m.size -= 300;
    });
    let what = damage_text(s.restore(&name, &s.dir.join("to"), Into::Empty), &name);
    assert!(what.contains("shop/a.ibd"), "{what}");
}

#[test]
fn truncated_or_newer_manifests_are_damaged_backups() {
    let (s, name) = two_files();
    let path = s.repo.backups().join(&name);
    let text = fs::read_to_string(&path).unwrap();
    for (bad, says) in [
        (text[..text.len() / 2].to_owned(), "truncated"),
        (text.replacen("format 1", "format 2", 1), "later format 2"),
        (String::new(), "not a manifest"),
    ] {
        fs::write(&path, bad).unwrap();
        let what = damage_text(s.repo.hold(&name), &name);
        assert!(what.contains(says), "{what}");
        let report = s.verify();
        assert!(!report.backups[0].ok && report.backups[0].what.contains(says));
    }
}

#[test]
fn a_symbolic_link_in_the_way_is_not_followed() {
    let (s, name) = two_files();
    s.falsify(&name, |m| m.dirs.push(DirEntry { path: "zoo".into(), mode: 0o777 }));
    let to = s.dir.join("to");
    let outside = s.dir.join("outside");
    fs::create_dir(&to).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, to.join("shop")).unwrap();
    s.restore(&name, &to, Into::Existing).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(to.join("shop").symlink_metadata().unwrap().is_dir());
}

#[test]
fn sizes_beyond_the_disk_are_refused_before_anything_is_written() {
    let (s, name) = two_files();
    s.falsify(&name, |m| {
        let block = m.files[1].blocks[0];
        m.files[1].blocks = vec![block; 1 << 20];
        m.size -= m.files[1].size;
        m.files[1].size = BLOCK_SIZE << 20;
        m.size += BLOCK_SIZE << 20;
    });
    let error = s.restore(&name, &s.dir.join("to"), Into::Empty).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: Some(n), .. } if n > 1 << 40), "{error}");
}
