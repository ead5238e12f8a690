//! `restore --until`: says what became of the way to the moment.

use std::time::Instant;

use crate::cli::restore::{self, How};
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

/// Restores the data as it was at `moment`. What is not stored is fetched from `primary`, if there is one.
/// Returns the exit status.
///
/// # Errors
/// Those of [`moment::restore`]; a directory that may not be filled.
pub fn restore(
    how: &How,
    moment: &Moment,
    means: &Means,
    primary: Option<Result<Primary>>,
) -> Result<u8> {
    let began = Instant::now();
    let stores = Stores::new(Repository::open(&how.repo)?)?;
    let mut supervisor = Supervisor::new(means.retries.poll)?;
    let mut target = restore_dir::Target::claim(&how.to, stores.backups.root(), how.over)?;
    let owner = target.owner();
    let named = means.server.user.as_deref();
    let user = run_as::choose(sys::is_root(), owner.unwrap_or_default(), named)?;
    let directory = Target { path: &how.to, owner, user };
    let clear = || target.clear();
    let sources = Sources { stores: &stores, primary: primary.as_ref() };
    let taken = moment::restore(sources, &mut supervisor, moment, means, directory, &clear);
    let taken = taken.map_err(|e| {
        let e = placed(e, &[(target.path(), Place::Target)]);
        if target.has_older_data() { target.keep_what_helps(e) } else { e }
    })?;
    target.keep();
    log::info!(
        "restored the moment {} to {} in {}",
        shown(moment),
        how.to.display(),
        short(began.elapsed())
    );
    for line in taken.ends().into_iter().flatten() {
        log::info!("{line}");
    }
    restore::conclude(how, &taken.header(), owner, &mut supervisor)?;
    Ok(0)
}
