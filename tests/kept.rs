//! Kept scratch data: what is known of it is not read, and what is in doubt is. On a disk, since
//! nothing is known of files in memory.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::repository::{flip_bit, frames_of, pack_path, packs_of};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Replica, Scene, run_helper};

fn pass(scene: &Scene) -> Outcome {
    scene.command("run").arg("--keep-scratch").run_to_end(COMMAND_PATIENCE).expect(0)
}

fn known(scene: &Scene) -> PathBuf {
    scene.scratch.join("known-files")
}

/// A scene with kept data, of which something is known.
fn kept(name: &str) -> Option<Scene> {
    let scene = Scene::seeded(name);
    scene.primary.fill("wide", 1, 30_000);
    // In the second one the table is no longer written to, so that it is known.
    pass(&scene);
    pass(&scene);
    if !known(&scene).exists() {
        println!("the file system of {} notes no change of a file", scene.scratch.display());
        return None;
    }
    Some(scene)
}

/// Changes bytes in the middle of a file, and sets the time of its last change back.
fn change_behind_the_back(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let m = file.metadata().unwrap();
    file.write_all_at(b"changed", m.len() / 2).unwrap();
    file.set_times(FileTimes::new().set_modified(m.modified().unwrap())).unwrap();
}

fn table(scene: &Scene) -> PathBuf {
    let dir = scene.scratch.join("data/wide");
    let mut files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    files.find(|path| path.extension().is_some_and(|e| e == "ibd")).expect("a table")
}

/// The newest backup equals the primary, and the kept data is what the backup says it is.
#[track_caller]
fn assert_right(scene: &Scene, replica: &Replica) {
    scene.assert_newest_equals(replica);
    let restored = scene.restore(None);
    let table = table(scene);
    let path = table.strip_prefix(scene.scratch.join("data")).unwrap();
    let same = fs::read(restored.join(path)).unwrap() == fs::read(&table).unwrap();
    assert!(same, "{} is not as in the newest backup", table.display());
}

#[test]
fn bytes_changed_behind_the_back_are_put_right() {
    need_server!();
    let Some(scene) = kept("behind") else { return };
    let replica = Replica::start(&scene.primary);
    change_behind_the_back(&table(&scene));
    scene.primary.backlog("shop", 20);
    pass(&scene);
    assert_right(&scene, &replica);
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
}

#[test]
fn data_of_a_pass_killed_before_its_end_is_read() {
    need_server!();
    let Some(scene) = kept("killed") else { return };
    let replica = Replica::start(&scene.primary);
    // As after a kill between the new backup and the last word of the pass.
    let state = scene.scratch.join("state");
    let text = fs::read_to_string(&state).unwrap();
    assert!(text.contains("stage=kept"), "{text}");
    fs::write(&state, text.replace("stage=kept", "stage=ready")).unwrap();
    change_behind_the_back(&table(&scene));
    pass(&scene);
    assert_right(&scene, &replica);
}

#[test]
fn packs_that_are_gone_are_stored_again_from_kept_data() {
    need_server!();
    let scene = Scene::seeded("gone");
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("wide", 1, 3000);
    pass(&scene);
    let [older, newest] = scene.backups().try_into().unwrap();
    let first = packs_of(&scene.repo, &older);
    let shared = |name: &str| packs_of(&scene.repo, name).into_iter().find(|p| first.contains(p));
    let run = |options: &[&str]| scene.command("run").args(options).run_to_end(COMMAND_PATIENCE);

    // All backups lack it, but the data is at hand; a pass that keeps its own another time, too.
    let pack = shared(&newest).unwrap();
    fs::remove_file(pack_path(&scene.repo, &pack)).unwrap();
    scene.primary.backlog("shop", 20);
    let says = format!("{pack} is missing, but the scratch directory has the data of {newest}");
    run(&["--keep-scratch"]).expect(3).says(&says);
    scene.assert_newest_equals(&replica);
    let third = scene.backups().pop().unwrap();
    scene.command("verify").arg(&third).run_to_end(COMMAND_PATIENCE).expect(0);
    pass(&scene);

    // What verify found and set aside.
    let newest = scene.backups().pop().unwrap();
    let pack = packs_of(&scene.repo, &newest).into_iter().max_by_key(|pack| {
        frames_of(&scene.repo, &newest, pack).iter().map(|(_, length)| *length).sum::<usize>()
    });
    let pack = pack.unwrap();
    let (offset, length) = *frames_of(&scene.repo, &newest, &pack).last().unwrap();
    flip_bit(&pack_path(&scene.repo, &pack), offset + length / 2);
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(1).says("it was set aside");
    scene.primary.backlog("shop", 20);
    run(&[]).expect(3).says(&format!("the scratch directory has the data of {newest}"));
    scene.assert_newest_equals(&replica);
    run(&[]).expect(0);

    // Data in which a block differs that is nowhere else is of no use.
    let newest = scene.backups().pop().unwrap();
    pass(&scene);
    let table = table(&scene);
    change_behind_the_back(&table);
    for pack in packs_of(&scene.repo, &newest) {
        let _ = fs::remove_file(pack_path(&scene.repo, &pack));
    }
    run(&[]).expect(1).says("no other one is good either").says(&older);
}

#[test]
fn rubbish_in_place_of_what_is_known_is_no_harm() {
    need_server!();
    let Some(scene) = kept("rubbish") else { return };
    let replica = Replica::start(&scene.primary);
    let text = fs::read_to_string(known(&scene)).unwrap();
    let line = text.lines().nth(1).unwrap();
    // Of another backup; cut short; endless; a pipe that nobody writes to; a directory.
    let other = text.replacen(&line[..21], "20200101T000000Z-0000", 1);
    let half = text[..text.len() / 2].to_string();
    for content in [other, half, "format 1\n".into(), String::new()] {
        fs::write(known(&scene), content).unwrap();
        change_behind_the_back(&table(&scene));
        pass(&scene);
        assert_right(&scene, &replica);
    }
    fs::remove_file(known(&scene)).unwrap();
    run_helper(Command::new("mkfifo").arg(known(&scene)), "");
    pass(&scene);
    fs::remove_file(known(&scene)).unwrap();
    fs::create_dir(known(&scene)).unwrap();
    pass(&scene);
    assert!(known(&scene).is_dir());
    let huge = scene.scratch.join("known-files.new");
    File::create(huge).unwrap().set_len(2 << 30).unwrap();
    pass(&scene);
    assert_right(&scene, &replica);
}
