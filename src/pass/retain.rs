//! The last step of a pass: what the policy does not keep goes.

use crate::error::{Cause, Error, Result, remedy};
use crate::pass::attempts::Attempts;
use crate::pass::run::Look;
use crate::report::keys::Phase;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::prune;

impl Attempts<'_> {
    /// Prunes. What fails is a reason to look, since the backup is stored all the same.
    ///
    /// # Errors
    /// A stop.
    pub(crate) fn prune(&mut self, repo: &Repository, lock: &RepoLock) -> Result<Option<Look>> {
        self.supervisor.checkpoint.phase(Phase::Prune);
        self.supervisor.check_stop()?;
        let mut crew = self.supervisor.crew("prune", 1);
        match prune::prune(repo, lock, self.plan.storage.policy, &mut crew) {
            Ok(pruned) => {
                prune::report(&pruned, false);
                Ok(pruned.doubt.map(|doubt| Look::At(Cause::Configuration, doubt)))
            }
            Err(stop @ Error::Interrupted { .. }) => Err(stop),
            Err(e) => {
                log::warn!("{}: {e}; old backups were not pruned", e.cause());
                Ok(Some(Look::At(e.cause(), remedy::with(&e))))
            }
        }
    }
}
