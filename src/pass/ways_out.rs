//! Ways past an error of the applier, before it ends the pass; and what is said of the chain when none
//! was left, or when one was taken.

use crate::error::{Cause, Error, Result, remedy};
use crate::pass::attempts::Attempts;
use crate::pass::run::Look;
use crate::replication::replica::{self, ReplicaStatus};
use crate::replication::temporary_tables;
use crate::server::{key_rotation, mandatory_roles};
use crate::text::count;

/// What keeps the next passes from needing what they cannot have.
const NO_OPEN_TABLES: &str = "run while no session of the primary has any, or set binlog_format=ROW \
    there, with which they are not in the binary log";

impl Attempts<'_> {
    /// True if `error` is that of the applier, at the statement after the position, which is read.
    pub(crate) fn applier_failed(&mut self, error: &Error) -> bool {
        let flavor = self.flavor();
        let (Error::ReplicationError { .. }, Some(mysqld)) = (error, self.hand.mysqld()) else {
            return false;
        };
        let read = ReplicaStatus::read(mysqld, flavor).and_then(|status| {
            let at = replica::position(mysqld, flavor)?;
            Ok((status.applier_failed(), at))
        });
        // One that does not answer fails again.
        let Ok((failed, at)) = read else { return false };
        self.supervisor.checkpoint.reach(at);
        failed
    }

    /// Lets the applier try once more, as an operator would: privileges that were changed in their
    /// tables count from now on, and what else stood in its way may be gone.
    pub(crate) fn try_again(&mut self, error: &Error) -> Result<()> {
        let flavor = self.flavor();
        self.tried_again = self.supervisor.checkpoint.progress().at().cloned();
        if let Some(mysqld) = self.hand.mysqld()
            && let Ok(true) = key_rotation::pass_over(mysqld, error)
        {
            // What is to be created encrypted needs it; but temporary tables would not survive that.
            return match temporary_tables::open(mysqld) {
                Ok(0) => self.restart(),
                _ => Ok(()),
            };
        }
        log::warn!("{}: {error}; reading the privileges again and trying again", error.cause());
        if let Some(mysqld) = self.hand.mysqld()
            && let Err(e) = mysqld
                .load_grant_tables(flavor)
                .and_then(|()| mandatory_roles::provide(mysqld, error))
        {
            log::debug!("cannot read the privileges again: {e}");
        }
        Ok(())
    }

    /// Starts the server again in the way in which it loads functions and plugins. Its data stays, but for
    /// temporary tables that would end with it.
    pub(crate) fn restart_with_grant_tables(&mut self, error: &Error) -> Result<()> {
        if let Error::ReplicationError { errno, .. } = error {
            log::info!("error {errno} at a mysqld without its grant tables; starting it with them");
        }
        self.grant_tables = true;
        self.restart()
    }

    /// Shuts the server down, for the next attempt to start it again.
    fn restart(&mut self) -> Result<()> {
        match self.shut_down() {
            Ok(_) => self.tables_lost().or_else(|why| self.discard(&why)),
            Err(stop @ Error::Interrupted { .. }) => Err(stop),
            Err(e) => self.discard(&e.to_string()),
        }
    }

    /// Gives up the base, and all that grew from it: the next attempt starts from an older backup.
    pub(crate) fn go_back(&mut self, error: Error) -> Result<()> {
        let base = self.bases.current().map(|b| b.name.clone()).unwrap_or_default();
        self.start_over()?;
        let cause = error.cause();
        let text = format!("{cause}: {error}; {base} does not lead on");
        self.bases.give_up(error);
        self.pick_base()?;
        let older = self.bases.current().map(|b| b.name.clone()).unwrap_or_default();
        log::warn!("{text}; going back to the older {older}");
        self.check_base()
    }

    /// Takes the newest backup as the base, for want of binary logs after a better one.
    pub(crate) fn take_newest(&mut self, error: &Error) -> Result<()> {
        self.start_over()?;
        self.bases.take_any();
        self.pick_base()?;
        let newest = self.bases.current().map(|b| b.name.clone()).unwrap_or_default();
        log::warn!(
            "{}: {error}; taking {newest}, although temporary tables were open in it",
            error.cause()
        );
        self.check_base()
    }

    /// The error that ends the pass for good, with what is left to be said of the backups.
    pub(crate) fn verdict(&mut self, error: Error) -> Error {
        if !error.may_blame_data() && !matches!(error, Error::Purged { .. }) {
            return error;
        }
        let name = self.bases.current().map(|b| b.name.clone());
        let (error, backup, tried) = match (self.bases.take_given_up(), name) {
            // The first error is what is to be mended; of the older base, that it did not help.
            (Some((newer, first)), Some(older)) => (first, newer, Some((older, error.cause()))),
            (_, Some(name)) => (error, name, None),
            (_, None) => return error,
        };
        Error::ChainEnds { error: Box::new(error), backup, tried }
    }

    /// Why data whose server has ended cannot be used further: the temporary tables ended with it.
    ///
    /// # Errors
    /// The reason, if there were any.
    pub(crate) fn tables_lost(&self) -> Result<(), String> {
        match self.open_tables.take() {
            0 => Ok(()),
            n => Err(format!("{} ended with its mysqld", count(n, "open temporary table"))),
        }
    }

    /// What somebody should know of how the chain goes on, although the goal is reached.
    pub(crate) fn chain_doubts(&self) -> Option<Look> {
        let base = self.bases.current();
        if let (Some((newer, error)), Some(base)) = (self.bases.given_up(), base) {
            let with = remedy::with(error);
            let text = format!("{newer} did not lead on, {} did: {with}", base.name);
            return Some(Look::At(error.cause(), text));
        }
        let open = self.open_tables.get();
        let text = match base {
            _ if open > 0 => {
                let next = match base.filter(|base| !base.has_open_tables()) {
                    Some(base) => {
                        format!("the next pass starts from the older {} again", base.name)
                    }
                    None => "a later statement that uses one fails, or goes wrong".into(),
                };
                let open = count(open, "temporary table");
                format!(
                    "{open} of the primary's sessions stayed open, and are in no backup: {next}"
                )
            }
            Some(base) if base.has_open_tables() => format!(
                "temporary tables were open in {}, the base: what later statements took from them \
                 is missing; compare the data, or start a new chain with rollforward seed --from dump",
                base.name
            ),
            _ => return None,
        };
        Some(Look::At(Cause::ReplicationError, format!("{text}; {NO_OPEN_TABLES}")))
    }
}
