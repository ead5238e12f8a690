//! Action x location: what becomes of a damaged repository.
//!
//! `verify` and `restore` name the damage and end 1, the target is empty again and nothing
//! beside it was touched, and `list` says `damaged`. One small repository of two backups, of
//! which the newer one shares packs with the older, is made once and copied for each case.

mod manifests;
mod packs;
mod places;
mod races;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::repository::{self, Json, pack_path, packs_of, tree};
use crate::support::{Outcome, Rollforward, Scene, TempDir};

const PATIENCE: Duration = Duration::from_secs(30);

/// A repository of two backups and what is where in it.
struct Sample {
    _dir: TempDir,
    repo: PathBuf,
    older: String,
    newer: String,
    /// A pack that both use.
    shared: String,
    /// A pack that the newer one alone uses.
    own: String,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let scene = Scene::seeded("sample");
        scene.primary.backlog("shop", 100);
        scene.run().expect(0);
        let dir = TempDir::new("sample");
        let repo = dir.path().join("repo");
        repository::copy(&scene.repo, &repo);
        let [older, newer] = scene.backups().try_into().unwrap();
        let (first, second) = (packs_of(&repo, &older), packs_of(&repo, &newer));
        let size = |p: &&String| fs::metadata(pack_path(&repo, p)).unwrap().len();
        let shared = second.iter().filter(|p| first.contains(p)).max_by_key(size);
        // Of its data: no restore needs a pack of its journal.
        let text = repository::manifest(&repo, &newer);
        let data = text.lines().take_while(|line| !line.starts_with("journal "));
        let pack =
            |line: &str| second[line.split(' ').nth(2).unwrap().parse::<usize>().unwrap()].clone();
        let data: Vec<String> = data.filter(|l| l.starts_with("block ")).map(pack).collect();
        let own = second.iter().filter(|p| !first.contains(p) && data.contains(p));
        let own = own.max_by_key(size);
        let shared = shared.expect("a pack of both").clone();
        let own = own.expect("a pack of the newer one").clone();
        Sample { _dir: dir, repo, older, newer, shared, own }
    })
}

/// A copy of the sample to damage, with room for a target beside it.
struct Copy {
    dir: TempDir,
    repo: PathBuf,
    name: String,
}

impl Copy {
    fn new(name: &str) -> Copy {
        let dir = TempDir::new("case");
        let repo = dir.path().join("repo");
        repository::copy(&sample().repo, &repo);
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::write(dir.path().join("work/beside"), "not ours").unwrap();
        Copy { dir, repo, name: name.into() }
    }

    fn manifest(&self) -> PathBuf {
        self.repo.join("backups").join(&sample().newer)
    }

    fn pack(&self, name: &str) -> PathBuf {
        pack_path(&self.repo, name)
    }

    fn command(&self, name: &str) -> Rollforward {
        Rollforward::new([name]).arg("--repo").arg(&self.repo)
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.command(args[0]).args(&args[1..]).run_to_end(PATIENCE)
    }

    /// The states of both backups, as table and JSON say alike.
    #[track_caller]
    fn states(&self) -> [String; 2] {
        let table = self.run(&["list"]).expect(0).stdout;
        let json = Json::parse(&self.run(&["list", "--json"]).expect(0).stdout);
        let states: Vec<String> = json
            .list()
            .iter()
            .map(|entry| {
                let (name, state) = (entry.get("name").str(), entry.get("state").str());
                let line = table.lines().find(|l| l.starts_with(name));
                let line = line.unwrap_or_else(|| panic!("{}: no {name} in\n{table}", self.name));
                assert_eq!(line.split_whitespace().nth(1), Some(state), "{}: {line}", self.name);
                state.to_string()
            })
            .collect();
        states.try_into().unwrap_or_else(|s| panic!("{}: {s:?}\n{table}", self.name))
    }

    /// A restore that must find damage: said, and the target as it was.
    #[track_caller]
    fn restore_fails(&self, backup: Option<&str>, made: bool) -> Outcome {
        let work = self.dir.path().join("work");
        let to = work.join("to");
        if made {
            fs::create_dir(&to).unwrap();
        }
        let before = tree(self.dir.path());
        let mut command = self.command("restore").arg("--to").arg(&to);
        if let Some(backup) = backup {
            command = command.arg(backup);
        }
        let outcome = command.run_to_end(PATIENCE);
        assert_eq!(outcome.status, 1, "{}: {outcome}", self.name);
        assert_eq!(before, tree(self.dir.path()), "{}: what is on the disk", self.name);
        if made {
            fs::remove_dir(&to).unwrap();
        }
        outcome
    }

    /// The last line of the log gives the cause.
    #[track_caller]
    fn is_damage(&self, outcome: Outcome, names: &[&str]) {
        assert_eq!(outcome.status, 1, "{}: {outcome}", self.name);
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("backup-damaged:"), "{}: no cause; {outcome}", self.name);
        for name in names {
            assert!(outcome.stderr.contains(name), "{}: no {name}; {outcome}", self.name);
        }
    }
}
