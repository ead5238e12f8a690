//! What a pass is to do: the options of `run` and `seed` as plain values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pass::hooks::Hooks;
use crate::replication::primary::Primary;
use crate::repository::retention::Policy;
use crate::scratch::foreign;
use crate::scratch::run_as;
use crate::seed::dump::First;
use crate::seed::stream::Origin;
use crate::server::lifecycle::Patience;

/// What a pass is to do.
pub struct Plan {
    /// Where its files are.
    pub places: Places,
    /// Where to replicate from.
    pub primary: Primary,
    /// The private server.
    pub server: Server,
    /// How to make a first backup, where there is none or a new chain begins.
    pub first: Option<First>,
    /// `--from dir:PATH` or `stream:FILE`: what to adopt.
    pub source: Option<Origin>,
    /// When to give up, and how often to look.
    pub retries: Retries,
    /// The time-outs of the private server.
    pub patience: Patience,
    /// What is stored and kept.
    pub storage: Storage,
    /// How long the data is looked at before it is stored.
    pub examination: Examination,
    /// `--min-interval`.
    pub min_interval: Duration,
    /// `--slots`, with `--slot-wait`.
    pub slots: Option<Slots>,
    /// `--before` and the like.
    pub hooks: Hooks,
}

impl Plan {
    /// Checks that repository, scratch directory and what is adopted are apart, and that the scratch
    /// directory is ours and of a user that the private server may run as. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Configuration`].
    pub fn check_places(&self) -> Result<()> {
        let Places { repo, scratch, others, .. } = &self.places;
        let (in_repo, in_scratch) = (("repository", &**repo), ("scratch directory", &**scratch));
        check_apart(in_repo, in_scratch)?;
        if let Some(source) = self.source.as_ref().and_then(Origin::place) {
            check_apart(source, in_scratch)?;
            check_apart(source, in_repo)?;
        }
        foreign::check(scratch, others)?;
        run_as::check(scratch, self.server.user.as_deref())
    }
}

/// So many passes at most run at a time, of all that name the same directory.
pub struct Slots {
    /// Where the locks are.
    pub dir: PathBuf,
    /// How many.
    pub number: u32,
    /// How long a pass waits for one.
    pub wait: Duration,
}

/// Where the files of a pass are.
pub struct Places {
    /// `--repo`.
    pub repo: PathBuf,
    /// `--scratch`.
    pub scratch: PathBuf,
    /// `--checkpoint`.
    pub checkpoint: PathBuf,
    /// `--metrics-file`.
    pub metrics: Option<PathBuf>,
    /// Other files of ours that may be in the scratch directory.
    pub others: Vec<PathBuf>,
}

/// The private server of a pass.
#[derive(Clone)]
pub struct Server {
    /// The server program.
    pub program: PathBuf,
    /// `--mysqld-user`.
    pub user: Option<String>,
    /// `--mysqld-option`s.
    pub options: Vec<String>,
    /// `--allow-upgrade`.
    pub allow_upgrade: bool,
}

/// When a pass gives up, and how often it looks.
#[derive(Clone)]
pub struct Retries {
    /// `--max-failures`.
    pub max_failures: u32,
    /// `--backoff-base` and `--backoff-cap`.
    pub backoff: (Duration, Duration),
    /// `--poll-interval`.
    pub poll: Duration,
    /// `--ping-timeout`.
    pub ping_timeout: Duration,
}

/// How long a pass looks at the data that has reached the goal.
pub struct Examination {
    /// `--check-time`; zero for not at all.
    pub check: Duration,
    /// `--compare-time`; zero for not at all.
    pub compare: Duration,
}

/// What a pass stores and keeps.
pub struct Storage {
    /// `--keep-count`, `--keep-within`.
    pub policy: Policy,
    /// `--jobs`.
    pub jobs: usize,
    /// `--compression-level`.
    pub level: i32,
    /// `--keep-scratch`.
    pub keep_scratch: bool,
    /// `--prove`.
    pub prove: bool,
    /// Unless `--no-journal`: the relay logs of the pass are stored, too.
    pub journal: bool,
}

/// Checks that neither directory contains the other.
///
/// # Errors
/// [`Error::Configuration`].
pub fn check_apart((what, a): (&str, &Path), (other, b): (&str, &Path)) -> Result<()> {
    let (x, y) = (real(a), real(b));
    if x.starts_with(&y) || y.starts_with(&x) {
        let (a, b) = (a.display(), b.display());
        let text = format!("{what} {a} and {other} {b} must not contain one another");
        return Err(Error::config(text));
    }
    Ok(())
}

/// `path` with symbolic links resolved, as far as it exists.
pub fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for ancestor in path.ancestors() {
        if let Ok(found) = ancestor.canonicalize() {
            return found.join(path.strip_prefix(ancestor).unwrap_or(Path::new("")));
        }
    }
    path
}
