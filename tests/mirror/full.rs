//! A full disk: lists that were cut off must not make the mirror miss or remove anything.

use std::fs;

use sha2::{Digest as _, Sha256};

use super::{contents, word};
use crate::support::repository::{hex, pack_path, seal};
use crate::support::small_disk::SmallDisk;

const PACKS: usize = 120;

#[test]
fn a_full_disk_removes_nothing_but_pruned_backups() {
    let s3 = need_s3!();
    let disk = SmallDisk::new("small", 3 << 20);
    let repo = disk.path("repo");
    for dir in ["", "backups", "packs", "tmp"] {
        fs::create_dir(repo.join(dir)).unwrap();
    }
    fs::write(repo.join("format"), "rollforward repository 1\n").unwrap();
    let names = ["20261121T020000Z-8f3a", "20261122T020000Z-8f3b"];
    for name in names {
        let mut text = String::from("format 1\n");
        for n in 0..PACKS {
            let content = format!("{name} {n}");
            let pack = hex(&Sha256::digest(&content));
            fs::create_dir_all(pack_path(&repo, &pack).parent().unwrap()).unwrap();
            fs::write(pack_path(&repo, &pack), &content).unwrap();
            text += &format!("pack {pack} {}\n", content.len());
        }
        fs::write(repo.join("backups").join(name), seal(&text)).unwrap();
    }
    let wrapper = disk.wrapper();
    let env: Vec<(&str, &str)> =
        wrapper.iter().filter_map(|w| w.to_str().unwrap().split_once('=')).collect();
    let args = ["push", &word(&repo), "mirror:full"];
    let (status, said) = s3.spawn_mirror(args, &env).finish();
    assert_eq!(status, 0, "{said}");
    let before = s3.objects("full");
    assert_eq!(before.len(), 2 * PACKS + 3);

    fs::remove_file(repo.join("backups").join(names[0])).unwrap();
    let mut failed = 0;
    for kib in (0..=200).step_by(16) {
        disk.make_room();
        disk.leave(kib << 10);
        let (status, said) = s3.spawn_mirror(args, &env).finish();
        let there = s3.objects("full");
        if status == 0 {
            break;
        }
        failed += 1;
        assert_eq!(status, 1, "{said}");
        assert!(said.lines().last().unwrap().starts_with("error: io-error: "), "{said}");
        let newer = format!("backups/{}", names[1]);
        let packs = s3.assert_valid("full");
        assert!(there.contains_key(&newer) && packs.contains(&names[1].into()), "{kib}: {there:?}");
    }
    assert!(failed >= 3, "{failed}");
    disk.make_room();
    let (status, said) = s3.spawn_mirror(args, &env).finish();
    assert_eq!(status, 0, "{said}");
    let there = s3.objects("full");
    assert_eq!(there.len(), PACKS + 2);
    assert!(there.keys().all(|key| before.contains_key(key)));
    let lost = contents(&repo).keys().filter(|k| !there.contains_key(*k)).count();
    assert_eq!(lost, PACKS, "the packs that only the removed backup names");
}
