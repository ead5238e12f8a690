//! The private server of a catch-up, whose kept relay logs give way when its disk fills up.

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::os::process::Activity;
use crate::replication::kept_logs::KeepLogs;
use crate::replication::replica::ReplicaStatus;
use crate::server::mysqld::Mysqld;
use crate::supervisor::watched::Watched;

/// The private server of a catch-up. Its relay logs are looked at as often as the free space is.
pub struct Keeping<'a> {
    /// The server.
    pub mysqld: &'a mut Mysqld,
    logs: &'a dyn KeepLogs,
    /// The log that the applier was at when it was last asked: a server without room may not answer.
    applying: String,
}

impl<'a> Keeping<'a> {
    /// What `logs` keeps of it.
    pub fn new(mysqld: &'a mut Mysqld, logs: &'a dyn KeepLogs) -> Keeping<'a> {
        Keeping { mysqld, logs, applying: String::new() }
    }

    /// Queries the status of replication.
    ///
    /// # Errors
    /// Those of the server.
    pub fn status(&mut self, flavor: Flavor) -> Result<ReplicaStatus> {
        let status = ReplicaStatus::read(self.mysqld, flavor)?;
        self.applying.clone_from(&status.applying);
        Ok(status)
    }
}

impl Watched for Keeping<'_> {
    fn ended(&mut self) -> Option<Error> {
        self.mysqld.ended()
    }

    fn ping(&mut self) -> Result<()> {
        self.mysqld.ping()
    }

    fn activity(&self) -> Option<Activity> {
        self.mysqld.activity()
    }

    fn maintain(&mut self) -> Result<()> {
        if self.logs.give_way(&self.applying) {
            // Both servers heed it when the applier comes to its next log.
            self.mysqld.run("SET GLOBAL relay_log_purge = 1")?;
        }
        self.mysqld.maintain()
    }
}
