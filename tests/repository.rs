//! The repository as a whole: who may be in it at once, what is kept, what is in a backup.

mod contents;
mod direct;
mod locks;
mod retention;
use std::path::Path;
use std::time::Duration;

use crate::support::repository::Json;
use crate::support::{Rollforward, Scene};

/// With one command of the program that has no server to wait for.
const PATIENCE: Duration = Duration::from_secs(30);

/// With a pass.
const LONG: Duration = Duration::from_secs(120);

/// A command on a repository, copied or the scene's own.
fn on(scene: &Scene, repo: &Path, command: &str) -> Rollforward {
    scene.command(command).arg("--repo").arg(repo)
}

/// `NAME STATE` of each backup, by `list --json`.
#[track_caller]
fn states(repo: &Path) -> Vec<String> {
    let list = Rollforward::new(["list", "--json", "--repo"]).arg(repo);
    let json = Json::parse(&list.run_to_end(PATIENCE).expect(0).stdout);
    let entry = |e: &Json| format!("{} {}", e.get("name").str(), e.get("state").str());
    json.list().iter().map(entry).collect()
}
