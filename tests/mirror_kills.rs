//! The mirror killed at each of its steps, and on a disk that is full at each of its sizes.

use std::fs;

use sha2::{Digest as _, Sha256};

use crate::mirror::{Sample, assert_verified, contents, rollforward, size_of_packs, stored, word};
use crate::support::repository::{hex, pack_path, seal};
use crate::support::small_disk::SmallDisk;
use crate::support::{PATIENCE, wait_until};

/// Packs of each backup.
const PACKS: usize = 120;

#[test]
fn a_push_killed_before_any_step_is_completed_later() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    let mut steps = 0;
    for first in [true, false] {
        let mut step = 1;
        loop {
            s3.forget_calls();
            let at = step.to_string();
            let args = ["push", &word(&repo), "mirror:steps"];
            let (status, said) = s3.spawn_mirror(args, &[("KILL_AT", &at)]).finish();
            let there = s3.assert_valid("steps");
            if status == 0 {
                break;
            }
            assert_eq!(status, 256 + libc::SIGKILL, "{said}");
            if first && there.is_empty() {
                let none = s3.mirror(["pull", "mirror:steps", &word(&s3.path("none"))]);
                assert_eq!(none.0, 1, "{}", none.1);
                assert!(!s3.path("none").exists());
            } else {
                s3.mirror_well(["check", "mirror:steps"]);
            }
            step += 1;
            steps += 1;
        }
        assert_eq!(s3.objects("steps"), contents(&repo));
        // Again, with backups and packs to be removed.
        let keep = rollforward("prune", &repo).arg("--keep-count=1");
        keep.run_to_end(PATIENCE).expect(0);
        assert!(!first || contents(&repo).len() < s3.objects("steps").len());
    }
    assert!(steps >= 8, "{steps}");
    assert_verified(&repo);
}

#[test]
fn a_push_killed_while_copying_packs_is_completed_later() {
    need_server!();
    let s3 = need_s3!();
    let sample = Sample::get();
    let repo = sample.copy(&s3);
    let total = size_of_packs(&repo);
    let mut killed = 0;
    for percent in [2, 50, 95] {
        let args = ["push", &word(&repo), "mirror:cut"];
        let mut push =
            s3.spawn_mirror(args, &[("RCLONE_BWLIMIT", "1M"), ("RCLONE_TRANSFERS", "2")]);
        wait_until("some of the packs", PATIENCE, || {
            push.has_ended() || stored(&s3) > total * percent / 100
        });
        killed += i32::from(!push.has_ended());
        push.kill_all();
        s3.assert_valid("cut");
    }
    assert!(killed >= 2, "{killed}");
    s3.mirror_well(["push", &word(&repo), "mirror:cut"]);
    assert_eq!(s3.objects("cut"), contents(&repo));
    s3.mirror_well(["check", "--read-data", "mirror:cut"]);

    // Back, killed again and again.
    let back = s3.path("back");
    for step in 1..100 {
        s3.forget_calls();
        let at = step.to_string();
        let args = ["pull", "mirror:cut", &word(&back)];
        let (status, _) = s3.spawn_mirror(args, &[("KILL_AT", &at)]).finish();
        if back.join("format").exists() {
            assert_verified(&back);
        }
        if status == 0 {
            break;
        }
    }
    assert_eq!(contents(&back), contents(&repo));
    assert_eq!(fs::read_dir(back.join("tmp")).unwrap().count(), 0);
    let whole = rollforward("list", &back).run_to_end(PATIENCE).expect(0).stdout;
    assert_eq!(whole.matches(" complete ").count(), sample.names.len(), "{whole}");
}

/// Lists that were cut off must not make the mirror miss or remove anything.
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
