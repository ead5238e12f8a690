//! What must hold after each strike and after each rerun.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use super::plan::Round;
use super::{Arena, command};
use crate::support::repository::{Json, all_packs, packs_of};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Replica, assert_same, flavor, run_helper, snapshot, wait_until};

/// The backups there are: their names and their manifests.
pub type Backups = BTreeMap<String, Vec<u8>>;

impl Arena {
    /// All backups as their files are.
    pub fn backups(&self) -> Backups {
        let dir = self.scene.repo.join("backups");
        let content = |name: &String| fs::read(dir.join(name)).expect("a manifest");
        let names = self.scene.backups();
        names.into_iter().map(|name| (name.clone(), content(&name))).collect()
    }

    /// After a strike: nothing runs, nothing half is there, what was there is as it was, or was
    /// pruned as it might be, and the newest backup is good.
    #[track_caller]
    pub fn check_after_strike(&mut self, before: &Backups, keep: Option<usize>) -> String {
        wait_until("its processes to be gone", Duration::from_secs(5), || {
            self.scene.leftover_processes().is_empty()
        });
        self.check_complete();
        let now = self.backups();
        // At the least the newest ones of before stay, less one that a new one took the place of.
        let stay = keep.map_or(before.len(), |n| n.saturating_sub(1).max(1));
        for (age, (name, manifest)) in before.iter().rev().enumerate() {
            match now.get(name) {
                Some(same) => assert!(same == manifest, "the manifest of {name} has changed"),
                None => assert!(age >= stay, "backup {name} is gone"),
            }
        }
        let mut monitor = self.scene.command("status");
        monitor = monitor.arg("--scratch").arg(&self.scene.scratch);
        let said = monitor.run_to_end(COMMAND_PATIENCE);
        assert!(said.status <= 2, "{said}");
        self.prove_newest()
    }

    /// The rerun: ends 0, stores a backup, leaves nothing behind, and what it stored is good.
    #[track_caller]
    pub fn rerun(&mut self, next: Option<&Round>) -> (Outcome, String) {
        let before = self.backups();
        let mut program = command(&self.scene, "run").arg("--keep-count=3");
        let kept = next.is_some_and(|n| n.kept);
        if kept {
            program = program.arg("--keep-scratch");
        }
        let outcome = program.run_to_end(COMMAND_PATIENCE).expect(0);
        self.took("run", outcome.wall);
        let checkpoint = self.scene.checkpoint();
        assert_eq!(checkpoint.get("state"), Some("done"), "{checkpoint:?} {outcome}");
        self.check_stored(&checkpoint);
        let now = self.backups();
        assert!(now.keys().last() > before.keys().last(), "{before:?} {outcome}");
        self.check_complete();
        self.scene.assert_nothing_left();
        assert_eq!(self.scene.has_scratch_data(), kept, "{outcome}");
        let left = fs::read_dir(self.scene.repo.join("tmp")).unwrap().count();
        assert_eq!(left, 0, "files in the repository's tmp; {outcome}");
        let mut named: Vec<String> =
            now.keys().flat_map(|name| packs_of(&self.scene.repo, name)).collect();
        named.sort();
        named.dedup();
        assert_eq!(all_packs(&self.scene.repo), named, "packs that no backup names; {outcome}");
        self.scene.command("verify").run_to_end(COMMAND_PATIENCE).expect(0);
        let mut monitor = self.scene.command("status").arg("--max-age=1h");
        monitor = monitor.arg("--scratch").arg(&self.scene.scratch);
        monitor.run_to_end(COMMAND_PATIENCE).expect(0);
        self.check_no_password(&self.scene.scratch);
        let proven = self.prove_newest();
        (outcome, proven)
    }

    /// `list` names only complete backups.
    #[track_caller]
    fn check_complete(&self) {
        let list = self.scene.command("list").arg("--json").run_to_end(COMMAND_PATIENCE);
        let said = Json::parse(&list.expect(0).stdout);
        let names: Vec<&str> = said.list().iter().map(|e| e.get("name").str()).collect();
        assert_eq!(names, self.scene.backups());
        for entry in said.list() {
            assert_eq!(entry.get("state").str(), "complete", "{entry:?}");
        }
    }

    /// Restores the newest backup, starts a server on it, and compares all that it holds with
    /// what the reference replica holds, or held, at the manifest's position.
    #[track_caller]
    fn prove_newest(&mut self) -> String {
        let name = self.scene.backups().pop().expect("a backup");
        let position = self.scene.manifest_value(&name, "position");
        let to = self.scene.path("proof");
        let _ = fs::remove_dir_all(&to);
        let restore = self.scene.command("restore").arg("--to").arg(&to);
        let restored = restore.run_to_end(COMMAND_PATIENCE).expect(0);
        self.took("restore", restored.wall);
        let short = name.rsplit('-').next().unwrap_or(&name).to_string();
        let manifest = self.backups().remove(&name).expect("the newest");
        if manifest == self.proven {
            // Its blocks were checked against the hashes in that manifest: it is what it was.
            fs::remove_dir_all(&to).unwrap();
            return format!("{short} restores, proven before");
        }
        self.check_no_password(&to);
        let server = Replica::start_on(&self.scene.primary, &to);
        let at = server.value("SELECT @@global.gtid_slave_pos");
        assert_eq!(sorted(&at), sorted(&position), "the position of {name} and of its data");
        let key = sorted(&position).join(",");
        if self.reference.0 != key {
            let mut at = self.replica.advance(&position);
            // Where it went too far, both go on in turn until they meet.
            for _ in 0..20 {
                let copy = server.advance(&at);
                if copy == at {
                    break;
                }
                assert!(flavor::is_mysql(), "the replica is at {copy} or {at}, not at {position}");
                at = self.replica.advance(&copy);
            }
            self.reference = (at, snapshot(&self.replica));
        }
        let what = format!("the restored {name}");
        assert_same(&what, &snapshot(&server), "the replica", &self.reference.1);
        let tables = crate::support::compare::tables(&server).join(", ");
        for row in server.sql(&format!("CHECK TABLE {tables}")) {
            assert!(row[3] == "OK" || row[2] == "note", "{name}: {row:?}");
        }
        drop(server);
        fs::remove_dir_all(&to).unwrap();
        self.proven = manifest;
        format!("{short} at {key} equal")
    }

    /// The password of the login is in no file below `dir`.
    #[track_caller]
    pub fn check_no_password(&self, dir: &std::path::Path) {
        let mut grep = Command::new("sh");
        // Nothing found is status 1; a file may go while it is looked through.
        grep.args(["-c", "grep -rlaFs -- \"$1\" \"$2\" || :", "sh"]);
        let found = run_helper(grep.arg(crate::support::PASSWORD).arg(dir), "");
        assert_eq!(found, "", "the password is in a file");
    }
}

fn sorted(position: &str) -> Vec<String> {
    let mut parts: Vec<String> = position.split(',').map(|p| p.trim().to_string()).collect();
    parts.sort_unstable();
    parts
}
