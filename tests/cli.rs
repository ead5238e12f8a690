//! The command line through the real binary: what is printed, what is refused, and how.
//!
//! Nothing here needs a server. A usage error is one line on standard error that names the word
//! that is wrong, status 2, nothing on standard output, and nothing new on the disk.

mod directories;
mod option_file;
mod streams;
mod words;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::repository::make_empty;
use crate::support::{Outcome, Rollforward, TempDir};

/// The patience with a command that has nothing to wait for.
const SOON: Duration = Duration::from_secs(30);

/// A directory of its own with an option file for a primary that nobody listens for.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(name: &str) -> Place {
        let place = Place { dir: TempDir::new(name) };
        place.write("db.cnf", "[client]\nhost=127.0.0.1\nport=1\nuser=u\npassword=p\n");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// `DIR/name`, as an argument.
    fn arg(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.at(name).display())
    }

    /// `run` with all that it needs: `repo`, empty unless the test made it, `scratch`, `db.cnf`; it
    /// tries once.
    fn run(&self) -> Rollforward {
        if self.at("repo").symlink_metadata().is_err() {
            self.make_repo("repo");
        }
        Rollforward::new(["run", "--max-failures=0"]).args([
            self.arg("repo", "repo"),
            self.arg("scratch", "scratch"),
            self.arg("defaults-file", "db.cnf"),
        ])
    }

    /// An empty repository.
    fn make_repo(&self, name: &str) -> PathBuf {
        make_empty(&self.at(name));
        self.at(name)
    }

    /// Every path below, with its size: to see that nothing changed.
    fn tree(&self) -> Vec<(PathBuf, u64)> {
        fn walk(dir: &Path, out: &mut Vec<(PathBuf, u64)>) {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                let meta = entry.metadata().unwrap();
                out.push((entry.path(), if meta.is_dir() { 0 } else { meta.len() }));
                if meta.is_dir() {
                    walk(&entry.path(), out);
                }
            }
        }
        let mut out = Vec::new();
        walk(self.dir.path(), &mut out);
        out.sort();
        out
    }

    /// Runs what must be refused: status 2 and one line with all of `words` in it, standard
    /// output empty, nothing changed here.
    #[track_caller]
    fn refuses(&self, command: &Rollforward, words: &[&str]) -> Outcome {
        let before = self.tree();
        let outcome = refused(command, words);
        assert_eq!(self.tree(), before, "it changed something; {outcome}");
        outcome
    }
}

/// As [`Place::refuses`], where there is no place that could change.
#[track_caller]
fn refused(command: &Rollforward, words: &[&str]) -> Outcome {
    let outcome = command.run_to_end(SOON).expect(2);
    assert_eq!(outcome.stdout, "", "standard output; {outcome}");
    assert_eq!(outcome.log().len(), 1, "one line; {outcome}");
    for word in words {
        assert!(outcome.stderr.contains(word), "nothing about {word}; {outcome}");
    }
    outcome
}

fn program<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Rollforward {
    Rollforward::new(args)
}
