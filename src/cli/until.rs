//! `restore --until`: says what became of the way to the moment.

use std::path::Path;
use std::time::Instant;

use crate::cli::next_steps;
use crate::cli::restore_dir;
use crate::error::{Place, Result};
use crate::journal::cut::Moment;
use crate::os::space::placed;
use crate::os::sys;
use crate::pass::means::Means;
use crate::pass::moment::{self, Sources, shown};
use crate::pass::until::Target;
use crate::replication::primary::Primary;
use crate::repository::directory::Repository;
use crate::repository::journals::Stores;
use crate::scratch::run_as;
use crate::supervisor::main_loop::Supervisor;
use crate::text::short;

/// Restores the data as it was at `moment` into the directory `to`. What is not stored is fetched from
/// `primary`, if there is one. Returns the exit status.
///
/// # Errors
/// Those of [`moment::restore`]; a directory that is not empty.
pub fn restore(
    repo: &Path,
    to: &Path,
    moment: &Moment,
    means: &Means,
    primary: Option<Result<Primary>>,
) -> Result<u8> {
    let began = Instant::now();
    let stores = Stores::new(Repository::open(repo)?)?;
    let mut supervisor = Supervisor::new(means.retries.poll)?;
    let target = restore_dir::Target::claim(to, stores.backups.root())?;
    let owner = target.owner();
    let named = means.server.user.as_deref();
    let user = run_as::choose(sys::is_root(), owner.unwrap_or_default(), named)?;
    let directory = Target { path: target.path(), owner, user };
    let clear = || {
        target.clear();
        Ok(())
    };
    let sources = Sources { stores: &stores, primary: primary.as_ref() };
    let taken = moment::restore(sources, &mut supervisor, moment, means, directory, &clear)
        .map_err(|e| placed(e, &[(target.path(), Place::Target)]))?;
    target.keep();
    log::info!(
        "restored the moment {} to {} in {}",
        shown(moment),
        to.display(),
        short(began.elapsed())
    );
    for line in taken.ends().into_iter().flatten() {
        log::info!("{line}");
    }
    for line in next_steps::lines(&taken.header(), to, next_steps::owner(to)) {
        log::info!("{line}");
    }
    Ok(0)
}
