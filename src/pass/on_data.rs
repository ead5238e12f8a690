//! `--on-data`: the user's program on the caught-up data, before it is stored.
//!
//! Replication is stopped by then, and what the program changes goes to no binary log, so the position
//! stays. From its beginning to its end the data is neither what it was nor what it shall be: where it does
//! not end well, nothing of the data is used again.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::pass::attempts::Attempts;
use crate::replication::catch_up;
use crate::replication::replica;
use crate::scratch::working_directory::Stage;
use crate::server::guest::{Guest, Rights};
use crate::server::lifecycle::explain;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};

use crate::server::mysqld::Mysqld;

impl Attempts<'_> {
    /// Runs the program, if there is one.
    ///
    /// # Errors
    /// [`Error::Hook`] if it fails; what became of the server; a stop.
    pub(crate) fn on_data(&mut self) -> Result<()> {
        if !self.plan.hooks.has_on_data() {
            return Ok(());
        }
        let (flavor, patience) = (self.flavor(), self.plan.patience.shutdown);
        let Some(mysqld) = self.hand.mysqld() else { return Ok(()) };
        catch_up::drain(self.supervisor, mysqld, flavor)
            .and_then(|()| stop_applier(self.supervisor, mysqld, flavor, patience))
            .map_err(|e| explain(self.supervisor, mysqld, e, patience))?;
        let base = self.bases.current().map(|base| base.name.clone());
        let upgraded = self.scratch.upgraded().map(String::from);
        // A later pass must not take it for data that it can go on with.
        self.scratch.set_stage(Stage::Partial, base.as_deref())?;
        match self.run_on_data(flavor) {
            Ok(()) => {
                self.scratch.set_stage(Stage::Ready, base.as_deref())?;
                upgraded.map_or(Ok(()), |version| self.scratch.set_upgraded(&version))
            }
            // The pass ends, and what is left is as it says.
            Err(e @ (Error::Hook { .. } | Error::Interrupted { .. })) => Err(e),
            Err(e) => {
                self.discard("mysqld was lost while --on-data ran")?;
                Err(e)
            }
        }
    }

    fn run_on_data(&mut self, flavor: Flavor) -> Result<()> {
        let patience = self.plan.patience.shutdown;
        let socket = self.scratch.root().join("mysqld.sock");
        let Some(mysqld) = self.hand.mysqld() else { return Ok(()) };
        let rights = Rights { write: true, alone: false };
        let done = replica::position(mysqld, flavor).and_then(|before| {
            let guest = Guest::admit(mysqld, flavor, rights, &socket)?;
            let file = guest.option_file();
            self.plan.hooks.on_data(self.supervisor, mysqld, &file)?;
            guest.dismiss(mysqld)?;
            let after = replica::position(mysqld, flavor)?;
            if after != before {
                let what = format!("--on-data: it moved the position from {before} to {after}");
                return Err(Error::Hook { what });
            }
            Ok(())
        });
        done.map_err(|e| match e {
            e @ (Error::Hook { .. } | Error::Interrupted { .. }) => e,
            e => match explain(self.supervisor, mysqld, e, patience) {
                // Of our own statements: what the program left of the server does not take them.
                e @ Error::ReplicationError { .. } => {
                    Error::Hook { what: format!("--on-data: {e}") }
                }
                e => e,
            },
        })
    }
}

/// Stops the applier, which has nothing left to do.
fn stop_applier(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    flavor: Flavor,
    patience: Duration,
) -> Result<()> {
    let wait = Wait { every: Duration::from_millis(200), patience: Some(patience) };
    let stopped = supervisor.wait_for(mysqld, wait, |mysqld, _| {
        let stopped = replica::stop_applier(mysqld, flavor)?;
        Ok(if stopped { Look::Done(()) } else { Look::Still })
    })?;
    let what = "end of replication".into();
    stopped.ok_or(Error::MysqldHung { what, after: Some(patience) })
}
