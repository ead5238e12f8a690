//! Programs of the user's before and after a pass: when they run, what they are told, and that
//! none of them holds a pass up or outlives it.
//!
//! Most of it needs no server: a pass whose primary does not answer ends 75 at once.

mod ends;
mod facts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Checkpoint, Rollforward, TempDir, wait_for};

const SOON: Duration = Duration::from_secs(30);

/// A directory of its own with what a pass needs, but for a primary that answers.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(name: &str) -> Place {
        let place = Place { dir: TempDir::new(name) };
        let client = "[client]\nhost=127.0.0.1\nport=1\nuser=u\npassword=hushhush\n";
        fs::write(place.at("db.cnf"), client).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A pass that fails once, 75, unless something comes before it.
    fn run(&self) -> Rollforward {
        let path = |option: &str, name: &str| format!("--{option}={}", self.at(name).display());
        Rollforward::new(["run", "--first-backup=dump", "--max-failures=0"])
            .args(["--mysqld=/bin/true", &path("repo", "repo"), &path("scratch", "scratch")])
            .arg(path("defaults-file", "db.cnf"))
            .scratch(&self.at("scratch"))
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::read(&self.at("scratch/checkpoint")).unwrap_or_default()
    }

    /// What was written below our directory by a hook; empty if nothing was.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// Waits for what a hook writes.
    #[track_caller]
    fn wait_for(&self, name: &str) -> String {
        wait_for(name, SOON, || {
            let text = self.read(name);
            text.ends_with('\n').then_some(text)
        })
    }
}

/// A command for `--before` and the like: `body` by a shell that works in `dir` and has `$at`.
fn shell(dir: &Path, name: &str, body: &str) -> String {
    let path = dir.join(format!("{name}.sh"));
    fs::write(&path, format!("at='{}'\n{body}\n", dir.display())).unwrap();
    format!("/bin/sh '{}'", path.display())
}

/// Notes that it ran and with which variables of ours, in `order` and `HOOK.env`.
const NOTE: &str = "env | grep ^ROLLFORWARD_ >\"$at/$ROLLFORWARD_HOOK.env\"
echo \"$ROLLFORWARD_HOOK\" >>\"$at/order\"";

/// The variables that [`NOTE`] has seen, without their prefix.
#[track_caller]
fn noted(dir: &Path, hook: &str) -> BTreeMap<String, String> {
    let path = dir.join(format!("{hook}.env"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let pairs = text.lines().filter_map(|l| l.strip_prefix("ROLLFORWARD_")?.split_once('='));
    // The harness has some of its own.
    let pairs = pairs.filter(|(k, _)| !k.starts_with("TEST_") && *k != "KEEP" && *k != "PASSES");
    pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
}
