//! Opening the repository of a pass, and who may make one.

use std::path::Path;

use crate::error::{Error, Result};
use crate::pass::plan::Plan;
use crate::repository::directory::Repository;
use crate::scratch::working_directory;

/// Opens the repository. Only a pass that `takes_first` backups makes one: for any other its absence
/// means a misspelled path, or a file system that is not mounted, and an empty directory below the
/// mount point must not become the place of tonight's backup.
///
/// # Errors
/// [`Error::Configuration`]: nothing was written.
pub(crate) fn repository(plan: &Plan, takes_first: bool) -> Result<Repository> {
    let path = &plan.places.repo;
    if Repository::exists(path) {
        return Repository::open(path);
    }
    if takes_first {
        refuse_to_lose(path, &plan.places.scratch)?;
        return Repository::open_or_create(path);
    }
    let hint = "is its file system mounted? Only rollforward seed and run --first-backup make one";
    match Repository::open(path) {
        Err(Error::Configuration { text }) => Err(Error::config(format!("{text}: {hint}"))),
        other => other,
    }
}

/// An interrupted pass left data that grew from a backup, so there was a repository. Beside a new one
/// that data would be thrown away.
fn refuse_to_lose(repo: &Path, scratch: &Path) -> Result<()> {
    let Some(base) = working_directory::interrupted_base(scratch) else { return Ok(()) };
    let (repo, scratch) = (repo.display(), scratch.display());
    Err(Error::config(format!(
        "there is no repository at {repo}, but {scratch} holds data that grew from its backup {base}: \
         mount the repository, or remove {scratch}/data"
    )))
}
