//! What every first backup has in common: an empty scratch directory, and a private server that
//! is started, asked and shut down.

use crate::error::{Error, Place, Result};
use crate::mysql::position::Position;
use crate::os::space::check_room;
use crate::os::sys;
use crate::report::keys::Key;
use crate::scratch::working_directory::Scratch;
use crate::server::initialize::install;
use crate::server::lifecycle::{CleanShutdown, Patience, explain, shut_down, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::Setup;
use crate::supervisor::main_loop::Supervisor;

/// The position of what was dumped or cloned, and the version of the server that holds it.
#[allow(missing_docs)]
pub struct Seeded {
    pub position: Position,
    pub version: String,
}

/// Where and how a first backup is made.
#[allow(missing_docs)]
pub struct Seeding<'a> {
    pub supervisor: &'a mut Supervisor,
    pub scratch: &'a mut Scratch,
    pub setup: Setup,
    pub patience: Patience,
}

impl Seeding<'_> {
    /// Puts an empty server into the scratch directory, if `needed` bytes fit there.
    ///
    /// # Errors
    /// [`Error::DiskFull`] before anything is written; what keeps the server from being made.
    pub fn make_empty(&mut self, needed: u64) -> Result<()> {
        self.scratch.discard(self.supervisor)?;
        check_room(self.scratch.root(), needed, Place::Scratch)?;
        self.scratch.make_data()?;
        install(self.supervisor, &self.setup, self.patience.start)
    }

    /// The bytes on disk that a load of `needed` bytes leaves.
    pub fn room_beside(&self, needed: u64) -> u64 {
        sys::free_bytes(self.scratch.root()).unwrap_or(0).saturating_sub(needed)
    }

    /// Starts the private server and waits until it is ready. See [`Mysqld::spawn`] for `fresh`.
    ///
    /// # Errors
    /// Those of a server that cannot be started.
    pub fn start(&mut self, fresh: bool) -> Result<Mysqld> {
        let mut mysqld = Mysqld::spawn(&self.setup, fresh)?;
        self.scratch.set_running(&mysqld, false)?;
        self.supervisor.checkpoint.set(Key::Socket, self.setup.socket().display());
        wait_until_ready(self.supervisor, &mut mysqld, self.patience.start)?;
        Ok(mysqld)
    }

    /// What `error`, met while `mysqld` was at work, really means.
    pub fn explain(&mut self, mysqld: &mut Mysqld, error: Error) -> Error {
        explain(self.supervisor, mysqld, error, self.patience.shutdown)
    }

    /// Shuts the private server down cleanly. Its data carries no trace of replication then.
    ///
    /// # Errors
    /// Those of a server that does not shut down.
    pub fn finish(&mut self, mut mysqld: Mysqld) -> Result<CleanShutdown> {
        let clean = shut_down(self.supervisor, &mut mysqld, self.patience.shutdown)?;
        self.scratch.set_clean()?;
        forget_replication(&self.scratch.data())?;
        Ok(clean)
    }
}
