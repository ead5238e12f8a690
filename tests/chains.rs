//! Moments that are had from an older backup, along several journals.

use std::fs;
use std::path::Path;

use crate::support::repository::{
    Json, edit_manifest, flip_bit, manifest, pack_path, packs_of, set_age,
};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Scene, Server};
use crate::until::{gtids, until};

/// A scene with passes of which each added a row, and the GTID of the last transaction of each.
struct Days {
    scene: Scene,
    ends: Vec<String>,
}

impl Days {
    fn new(name: &str, passes: usize) -> Days {
        let scene = Scene::seeded(name);
        scene.primary.sql("CREATE TABLE shop.days (n INT PRIMARY KEY) ENGINE=InnoDB");
        let mut ends = Vec::new();
        for number in 0..passes {
            // Some that are changed by each pass, and are stored anew.
            scene.primary.sql(&format!("UPDATE shop.t0 SET n = n + {number}"));
            for row in [2 * number, 2 * number + 1] {
                scene.primary.sql(&format!("INSERT INTO shop.days VALUES ({row})"));
            }
            ends.extend(gtids(&scene.primary).pop());
            scene.run().expect(0).says("kept a journal from ");
        }
        Days { scene, ends }
    }

    /// The numbers of the backups at both ends of each window.
    fn windows(&self) -> Vec<(usize, usize)> {
        let backups = self.scene.backups();
        let list = self.scene.command("list").args(["--windows", "--json"]);
        let windows = Json::parse(&list.run_to_end(COMMAND_PATIENCE).expect(0).stdout);
        let number = |name: &str| backups.iter().position(|b| b == name).unwrap();
        let ends = |window: &Json| {
            (number(window.get("from_backup").str()), number(window.get("to_backup").str()))
        };
        windows.list().iter().map(ends).collect()
    }

    /// Restores what was there just before the end of the pass `number`, by replay on the backup `base`.
    #[track_caller]
    fn assert_had(&self, number: usize, base: &str) -> String {
        let (ended, to) = until(&self.scene, &format!("before:{}", self.ends[number]));
        let ended = ended.expect(0);
        assert!(ended.stderr.contains(&format!(" after {base} in ")), "{ended}");
        assert_eq!(rows(&to), (2 * number + 1).to_string(), "{ended}");
        fs::remove_dir_all(&to).unwrap();
        ended.stderr
    }
}

fn rows(to: &Path) -> String {
    Server::start_on(to).value("SELECT COUNT(*) FROM shop.days")
}

#[test]
fn a_damaged_backup_is_gone_around_by_an_older_one() {
    need_server!();
    let days = Days::new("rotten", 3);
    let scene = &days.scene;
    let backups = scene.backups();
    days.assert_had(1, &backups[1]);
    days.assert_had(2, &backups[2]);
    // A block of the data that the first pass stored.
    let [before, text] = [0, 1].map(|n| manifest(&scene.repo, &backups[n]));
    let data = text.split("\njournal ").next().unwrap();
    let mut blocks = data.lines().filter(|l| l.starts_with("block "));
    let block = blocks.find(|l| !before.contains(l.split(' ').nth(1).unwrap())).unwrap();
    let number = |n: usize| block.split(' ').nth(n).unwrap().parse::<usize>().unwrap();
    let pack = &packs_of(&scene.repo, &backups[1])[number(2)];
    flip_bit(&pack_path(&scene.repo, pack), number(3) + number(4) / 2);
    let said = days.assert_had(1, &backups[0]);
    let warning = format!("warning: backup-damaged: backup {} is damaged: ", backups[1]);
    assert!(
        said.contains(&warning) && said.contains("; taking another way to that moment"),
        "{said}"
    );
    // What has no other way is an error, as before.
    let plain = scene.path("plain");
    let command = scene.command("restore").arg(&backups[1]).arg("--to").arg(&plain);
    command.run_to_end(COMMAND_PATIENCE).expect(1).says("backup-damaged");
}

#[test]
fn journals_lead_over_a_backup_without_its_data() {
    need_server!();
    let days = Days::new("lost", 3);
    let scene = &days.scene;
    let backups = scene.backups();
    assert_eq!(days.windows(), [(0, 3)]);
    // Packs of two backups' data are gone.
    for name in &backups[2..] {
        edit_manifest(&scene.repo, name, |lines| {
            let at = lines.iter().rposition(|l| l.starts_with("pack ")).unwrap();
            lines.insert(at + 1, format!("pack {} 70000", "ab".repeat(32)));
        });
    }
    let list = scene.command("list").run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(list.stdout.matches("  damaged  ").count(), 2, "{list}");
    assert_eq!(days.windows(), [(0, 3)]);
    days.assert_had(0, &backups[0]);
    days.assert_had(1, &backups[1]);
    days.assert_had(2, &backups[1]);
    // Their own moments are had along their journals, too.
    let (ended, to) = until(scene, &days.ends[2]);
    let ended = ended.expect(0);
    assert!(ended.stderr.contains(&format!(" after {} in ", backups[1])), "{ended}");
    assert_eq!(rows(&to), "6");
    // Without any good backup before them there is nothing.
    for name in &backups[..2] {
        fs::remove_file(scene.repo.join("backups").join(name)).unwrap();
    }
    assert_eq!(days.windows(), []);
    let (ended, to) = until(scene, &days.ends[2]);
    ended.expect(1).says("out-of-reach");
    assert!(!to.exists());
}

#[test]
fn prune_shortens_windows_at_their_old_end_only() {
    need_server!();
    let days = Days::new("pruned", 4);
    let scene = &days.scene;
    let backups = scene.backups();
    assert_eq!(days.windows(), [(0, 4)]);
    set_age(&scene.repo, &backups[0], 40 * 86400);
    let prune = |policy: &str| {
        scene.command("prune").arg(policy).run_to_end(COMMAND_PATIENCE).expect(0);
    };
    prune("--keep-within=30d");
    assert_eq!((scene.backups(), days.windows()), (backups[1..].to_vec(), vec![(0, 3)]));
    prune("--keep-count=3");
    assert_eq!((scene.backups(), days.windows()), (backups[2..].to_vec(), vec![(0, 2)]));
    scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
    // What the windows say is what can be had.
    days.assert_had(2, &backups[2]);
    days.assert_had(3, &backups[3]);
    let (ended, to) = until(scene, &format!("before:{}", days.ends[1]));
    let ended = ended.expect(1).says("error: out-of-reach: ");
    assert!(ended.stderr.contains(&format!("(backup {}, ", backups[2])), "{ended}");
    assert!(!to.exists());
}
