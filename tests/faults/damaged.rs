//! What a pass makes of damage.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::LONG;
use crate::support::repository::{
    Json, copy, edit_manifest, flip_bit, frames_of, pack_path, packs_of, tree,
};
use crate::support::{Outcome, PATIENCE, Scene, Server, assert_same, flavor, snapshot};

/// A primary with two backups, the newer one with packs of its own, and copies to damage.
struct Stage {
    scene: Scene,
    older: String,
    newer: String,
    count: usize,
}

impl Stage {
    fn new() -> Stage {
        let scene = Scene::seeded("passes");
        scene.primary.fill("more", 1, 2000);
        scene.run().expect(0);
        let [older, newer] = scene.backups().try_into().unwrap();
        scene.primary.backlog("shop", 200);
        Stage { scene, older, newer, count: 0 }
    }

    /// A fresh copy of the repository.
    fn copy(&mut self) -> PathBuf {
        self.count += 1;
        let to = self.scene.path(&format!("repo-{}", self.count));
        copy(&self.scene.repo, &to);
        to
    }

    fn run(&self, repo: &Path) -> Outcome {
        self.scene.command("run").arg("--repo").arg(repo).run_to_end(LONG)
    }

    fn names(&self, repo: &Path) -> Vec<String> {
        let list = self.scene.command("list").arg("--json").arg("--repo").arg(repo);
        let json = Json::parse(&list.run_to_end(PATIENCE).expect(0).stdout);
        let entry = |e: &Json| format!("{} {}", e.get("name").str(), e.get("state").str());
        json.list().iter().map(entry).collect()
    }

    /// The pass stored a backup that grew from `base`, is good, and holds what the primary has.
    #[track_caller]
    fn stored_from(&self, repo: &Path, base: &str) {
        let newest = self.names(repo).pop().unwrap();
        let name = newest.strip_suffix(" complete").unwrap_or_else(|| panic!("{newest}"));
        assert!(name > self.newer.as_str(), "no new backup: {newest}");
        let command = |c: &str| self.scene.command(c).arg("--repo").arg(repo);
        command("verify").arg(name).run_to_end(PATIENCE).expect(0);
        let text = fs::read_to_string(repo.join("backups").join(name)).unwrap();
        assert!(text.contains(&format!("\nbase {base}\n")), "{text}");
        let to = repo.with_extension("restored");
        command("restore").arg("--to").arg(&to).run_to_end(PATIENCE).expect(0);
        let restored = Server::start_on(&to);
        let primary = snapshot(&self.scene.primary);
        assert_same("the restored copy", &snapshot(&restored), "the primary", &primary);
    }

    /// The frames of a pack that the newer backup alone uses, and the pack.
    fn own_pack(&self, repo: &Path) -> String {
        let older = packs_of(repo, &self.older);
        let own = packs_of(repo, &self.newer).into_iter().find(|p| !older.contains(p));
        own.expect("a pack of the newer backup")
    }
}

#[test]
fn an_older_backup_replaces_a_damaged_newest_one_loudly() {
    need_server!();
    let mut stage = Stage::new();
    let (older, newer) = (stage.older.clone(), stage.newer.clone());
    let passed_over = format!("skipping a backup: backup {newer} is damaged");

    // Seen by a look at the manifest.
    let repo = stage.copy();
    fs::write(repo.join("backups").join(&newer), "format 1\n").unwrap();
    stage.run(&repo).expect(3).says("backup-damaged").says(&passed_over);
    assert_eq!(stage.scene.checkpoint().get("exit_status"), Some("3"));
    assert_eq!(stage.scene.checkpoint().get("base_backup"), Some(older.as_str()));
    assert!(!stage.scene.path("scratch/data").exists(), "scratch data goes after 3");
    stage.stored_from(&repo, &older);
    assert_eq!(stage.names(&repo)[..2], [format!("{older} complete"), format!("{newer} damaged")]);

    // Seen only while it is restored; then the pack is out of the way by itself.
    let repo = stage.copy();
    let pack = stage.own_pack(&repo);
    let (offset, length) = *frames_of(&repo, &newer, &pack).last().unwrap();
    flip_bit(&pack_path(&repo, &pack), offset + length / 2);
    stage.run(&repo).expect(3).says("backup-damaged").says(&passed_over).says(&pack);
    stage.stored_from(&repo, &older);
    assert_eq!(stage.names(&repo)[..2], [format!("{older} complete"), format!("{newer} damaged")]);
    // Once is enough: the next pass has a good newest backup.
    stage.run(&repo).expect(0);

    // The same, found by verify beforehand: what the pack held is stored again.
    let repo = stage.copy();
    flip_bit(&pack_path(&repo, &pack), offset + length / 2);
    let verify = stage.scene.command("verify").arg("--repo").arg(&repo);
    verify.run_to_end(PATIENCE).expect(1).says(&pack).says("set aside");
    stage.run(&repo).expect(3).says(&passed_over);
    stage.stored_from(&repo, &older);
}

#[test]
fn rot_that_the_newest_backup_does_not_need_stops_nobody() {
    need_server!();
    let mut stage = Stage::new();
    let (older, newer) = (stage.older.clone(), stage.newer.clone());
    let repo = stage.copy();
    let packs = packs_of(&repo, &newer);
    let text = fs::read_to_string(repo.join("backups").join(&newer)).unwrap();
    let stale = packs.iter().enumerate().find_map(|(number, pack)| {
        let is_used = |(offset, length): &(usize, usize)| {
            text.contains(&format!(" {number} {offset} {length}\n"))
        };
        let shared = packs_of(&repo, &older).contains(pack);
        let of_older = if shared { frames_of(&repo, &older, pack) } else { Default::default() };
        Some((pack.clone(), of_older.into_iter().find(|frame| !is_used(frame))?))
    });
    let (pack, (offset, length)) = stale.expect("a frame that only the older backup needs");
    flip_bit(&pack_path(&repo, &pack), offset + length / 2);
    let verify = stage.scene.command("verify").arg("--repo").arg(&repo);
    verify.run_to_end(PATIENCE).expect(1).says(&pack).says("set aside");

    let run = stage.scene.command("run").args(["--min-interval", "1h", "--repo"]).arg(&repo);
    let says = format!("what {newer} needs of it is good; its content is stored again");
    run.run_to_end(LONG).expect(3).says(&pack).says(&says);
    stage.stored_from(&repo, &newer);
    let newest = stage.names(&repo).pop().unwrap();
    assert!(!packs_of(&repo, newest.strip_suffix(" complete").unwrap()).contains(&pack));
    stage.run(&repo).expect(0);
}

#[test]
fn a_false_manifest_does_not_spoil_the_next_backup() {
    need_server!();
    let mut stage = Stage::new();
    let repo = stage.copy();
    let (older, newer) = (stage.older.clone(), stage.newer.clone());
    // All is well formed and every pack whole, but each small block is said to be where
    // another one is.
    edit_manifest(&repo, &newer, |lines| {
        let small = |line: &String| {
            let length = line.rsplit(' ').next().and_then(|l| l.parse::<u64>().ok());
            line.starts_with("block ") && length.is_some_and(|l| l <= 1024)
        };
        let small: Vec<usize> = (0..lines.len()).filter(|at| small(&lines[*at])).collect();
        let places: Vec<String> = small.iter().map(|at| lines[*at][70..].to_string()).collect();
        assert!(small.len() > 10, "{small:?}");
        for (at, place) in small.iter().zip(places.iter().cycle().skip(1)) {
            lines[*at].truncate(70);
            lines[*at] += place;
        }
    });
    stage.run(&repo).expect(3).says(&newer);
    stage.stored_from(&repo, &older);

    // What no server is ever set to.
    let repo = stage.copy();
    edit_manifest(&repo, &newer, |lines| {
        let line = lines.iter_mut().find(|l| l.starts_with("setting innodb_page_size ")).unwrap();
        *line = "setting innodb_page_size none".into();
    });
    stage.run(&repo).expect(3).says(&newer).says("innodb_page_size that no server has");
    stage.stored_from(&repo, &older);
}

#[test]
fn all_backups_damaged_end_the_pass_for_good() {
    need_server!();
    let mut stage = Stage::new();
    let (older, newer) = (stage.older.clone(), stage.newer.clone());
    let first = packs_of(&stage.scene.repo, &older);
    let shared: Vec<String> =
        packs_of(&stage.scene.repo, &newer).into_iter().filter(|p| first.contains(p)).collect();
    let unsound: [fn(&Path); 2] = [|p| fs::remove_file(p).unwrap(), |p| flip_all(p)];
    for damage in unsound {
        let repo = stage.copy();
        shared.iter().for_each(|p| damage(&pack_path(&repo, p)));
        let before = stage.scene.backups();
        stage.run(&repo).expect(1).says("error: backup-damaged").says(&newer).says(&older);
        assert_eq!(stage.scene.checkpoint().get("cause"), Some("backup-damaged"));
        assert_eq!(stage.scene.checkpoint().get("state"), Some("failed"));
        assert!(!stage.scene.path("scratch/data").exists(), "scratch data goes after 1");
        assert_eq!(stage.scene.backups(), before);
        assert_eq!(stage.names(&repo), [format!("{older} damaged"), format!("{newer} damaged")]);
        // A new first backup is the way out.
        let seed = stage.scene.command("seed").args(["--from", "dump", "--repo"]).arg(&repo);
        seed.run_to_end(LONG).expect(0);
        stage.run(&repo).expect(0);
        let newest = stage.names(&repo).pop().unwrap();
        let verify = stage.scene.command("verify").arg("--repo").arg(&repo);
        verify.arg(newest.strip_suffix(" complete").unwrap()).run_to_end(PATIENCE).expect(0);
    }
}

/// Changes every byte.
fn flip_all(path: &Path) {
    let content: Vec<u8> = fs::read(path).unwrap().iter().map(|b| !b).collect();
    fs::write(path, content).unwrap();
}

#[test]
fn a_link_in_the_way_leads_nowhere() {
    need_server!();
    let stage = Stage::new();
    let scene = &stage.scene;
    let outside = scene.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();

    // As the target of a restore.
    let link = scene.path("link");
    symlink(&outside, &link).unwrap();
    let before = tree(&outside);
    scene.command("restore").arg("--to").arg(&link).run_to_end(PATIENCE).expect(2).says("link");
    assert_eq!(tree(&outside), before);

    // In the data that a pass left, among the files that the next one writes to.
    scene.command("run").arg("--keep-scratch").run_to_end(LONG).expect(0);
    let data = scene.scratch.join("data");
    fs::copy(data.join("ibdata1"), outside.join("ibdata1")).unwrap();
    fs::remove_file(data.join("ibdata1")).unwrap();
    symlink(outside.join("ibdata1"), data.join("ibdata1")).unwrap();
    fs::rename(data.join("shop"), outside.join("shop")).unwrap();
    symlink(outside.join("shop"), data.join("shop")).unwrap();
    // One that a server writes at each start, by whoever links to it.
    let linked = flavor::either("aria_log_control", "undo_001");
    fs::hard_link(data.join(linked), outside.join("linked")).unwrap();
    let before = tree(&outside);
    scene.primary.backlog("shop", 100);
    scene.command("run").arg("--keep-scratch").run_to_end(LONG).expect(0);
    assert_eq!(tree(&outside), before);
    scene.command("verify").run_to_end(PATIENCE).expect(0);

    // In place of the data itself.
    fs::remove_dir_all(&data).unwrap();
    symlink(&outside, &data).unwrap();
    let outcome = scene.run();
    assert_eq!(tree(&outside), before, "{outcome}");
    outcome.expect(2).says("scratch/data is a symbolic link to");
}
