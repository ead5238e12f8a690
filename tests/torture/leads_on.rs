//! The journal between the two newest backups, applied to the older one, gives the newer one.

use std::fs;
use std::process::Command;

use super::{Arena, command};
use crate::support::repository::{Json, edit_manifest, manifest};
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, assert_same, is_root, run_helper, snapshot};

impl Arena {
    /// Replays the journal of the newest backup, which equals the reference, on the one before. The
    /// number of its transactions; `None` where no journal leads from the one to the other.
    #[track_caller]
    pub fn replay_newest(&mut self) -> Option<usize> {
        let backups = self.scene.backups();
        let [.., older, newest] = &backups[..] else { return None };
        let text = manifest(&self.scene.repo, newest);
        if !text.contains("\njournal ") || !text.contains(&format!("\nbase {older}\n")) {
            return None;
        }
        let view = self.scene.path("view");
        let _ = fs::remove_dir_all(&view);
        run_helper(Command::new("cp").arg("-al").arg(&self.scene.repo).arg(&view), "");
        for name in &backups[..backups.len() - 2] {
            fs::remove_file(view.join("backups").join(name)).expect("remove a manifest");
        }
        // Its own data cannot be had, so there is no other way than along its journal. The file is
        // another one first: the link would change the repository.
        let path = view.join("backups").join(newest);
        fs::remove_file(&path).expect("remove a link");
        fs::write(&path, &text).expect("write a manifest");
        edit_manifest(&view, newest, |lines| {
            let at = lines.iter().rposition(|l| l.starts_with("pack ")).expect("a pack");
            lines.insert(at + 1, format!("pack {} 70000", "ab".repeat(32)));
        });
        let log = self.scene.command("log").args(["--json", "--repo"]).arg(&view);
        let said = log.run_to_end(COMMAND_PATIENCE).expect(0).stdout;
        let many = said.lines().count();
        if many > 0 {
            let last = Json::parse(said.lines().last().expect("a transaction"));
            let to = self.scene.path("replayed");
            let _ = fs::remove_dir_all(&to);
            let restore = command(&self.scene, "restore").args(["--until", last.get("gtid").str()]);
            let restore = restore.arg("--repo").arg(&view).arg("--to").arg(&to);
            let user = is_root().then_some("--mysqld-user=root");
            let restore = restore.args(self.scene.mysqld()).args(user);
            let restored = restore.run_to_end(COMMAND_PATIENCE).expect(0);
            restored.says(&format!(" after {older} in "));
            let server = Replica::start_on(&self.scene.primary, &to);
            let (at, reference) = &self.reference;
            assert_eq!(server.advance(at), *at, "the position of the replayed {newest}");
            let what = format!("the journal of {newest} on {older}");
            assert_same(&what, &snapshot(&server), "the replica", reference);
            drop(server);
            fs::remove_dir_all(&to).expect("remove what was replayed");
        }
        fs::remove_dir_all(&view).expect("remove the view");
        Some(many)
    }
}
