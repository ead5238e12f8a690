//! Querying the primary, and checking that private server, data and primary are compatible.

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::version::Version;
use crate::pass::attempts::Attempts;
use crate::replication::primary::{Facts, Primary};
use crate::replication::privileges;
use crate::report::keys::Key;
use crate::seed::adopt::Source;
use crate::server::compatibility::{self, With};
use crate::supervisor::watched::Nothing;

impl Attempts<'_> {
    /// The first candidate that answers and can be replicated from, starting at the data.
    pub(crate) fn ask_primary(&mut self) -> Result<Facts> {
        let base = self.bases.current().map(|b| b.position.clone());
        let at = self.supervisor.checkpoint.progress().at().cloned();
        let at = self.hand.data().and(at).or(base);
        let facts = self.ask_aside(move |primary| primary.choose(at.as_ref()))?;
        self.check_compatibility(&facts)?;
        if self.facts.is_none() {
            let asked = facts.clone();
            self.ask_aside(move |primary| primary.check_privileges(&asked, privileges::NIGHTLY))?;
            self.check_may_compare(&facts)?;
            self.bases.warn_if_old(facts.keeps);
            self.needs_attention(self.missing_setting(&facts));
            if !facts.unfiltered {
                log::info!(
                    "the account may not see whether {} keeps schemas out of its binary log: \
                     grant it {} to have that checked",
                    facts.address,
                    privileges::FILTERS
                );
            }
        }
        if !self.told_unencrypted
            && let Some(what) = self.plan.primary.unencrypted(&facts)
        {
            log::warn!("{what}");
            self.told_unencrypted = true;
        }
        self.supervisor.checkpoint.set(Key::Primary, &facts.address);
        self.facts = Some(facts.clone());
        Ok(facts)
    }

    pub(super) fn ask_aside<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&Primary) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let primary = &self.plan.primary;
        // A private server that runs meanwhile is not asked for signs of life: it may be dying, and
        // the next wait tells.
        primary.question(self.supervisor, &mut Nothing, question)
    }

    /// The flavor of the primary. Before it is known, any will do.
    pub(crate) fn flavor(&self) -> Flavor {
        self.facts.as_ref().map_or(Flavor::MariaDb, |facts| facts.flavor)
    }

    /// Fails unless private server, base and primary are compatible.
    fn check_compatibility(&mut self, facts: &Facts) -> Result<()> {
        self.ask_program_version()?;
        let program = &self.plan.server.program;
        let primary = facts.address.to_string();
        let base = self.bases.current();
        if let Some(base) = base {
            compatibility::check_settings(
                &base.name,
                &base.manifest.header.settings,
                &primary,
                &facts.settings,
            )?;
        }
        let Some(ours) = &self.program_version else { return Ok(()) };
        if let Some(base) = base
            && let Some(version) = Version::parse(&base.manifest.header.version)
        {
            let what = With::Backup(&base.name, self.plan.server.allow_upgrade);
            compatibility::check(program, ours, &what, &version)?;
        }
        if let Some(version) = Version::parse(&facts.version) {
            // A dump of an older server would include its system tables.
            let what = With::Primary(&primary, base.is_some());
            compatibility::check(program, ours, &what, &version)?;
        }
        self.check_upgrade(facts.flavor)
    }

    pub(super) fn ask_program_version(&mut self) -> Result<()> {
        if self.program_version.is_none() {
            self.program_version =
                compatibility::program_version(self.supervisor, &self.plan.server.program)?;
        }
        Ok(())
    }

    /// Fails unless the private server has the flavor of the data to be adopted.
    pub(crate) fn check_flavor(&mut self, source: &Source) -> Result<()> {
        self.ask_program_version()?;
        match &self.program_version {
            Some(ours) => compatibility::check_kind(
                &self.plan.server.program,
                ours,
                source.name().trim_start_matches("dir:"),
                source.flavor(),
            ),
            None => Ok(()),
        }
    }

    /// A MySQL primary may refuse for a reason that arose after its facts were read.
    pub(crate) fn judge_again(&mut self, error: Error) -> Error {
        if !matches!(error, Error::ReplicationError { errno: 13114, .. }) {
            return error;
        }
        match self.ask_primary() {
            Err(e @ (Error::Purged { .. } | Error::Diverged { .. })) => e,
            _ => error,
        }
    }
}
