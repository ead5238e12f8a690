//! A session lent to another thread for a statement that takes hours, and the end of a server
//! that such a statement brings about.

use crate::error::{Error, Result};
use crate::mysql::session::Session;
use crate::os::process::Exit;

use super::Mysqld;

/// What MySQL ends with when it wants to be started again by whoever watches it
/// (`MYSQLD_RESTART_EXIT` of its source). Without a watcher it shuts down with 0 instead.
const RESTART: i32 = 16;

impl Mysqld {
    /// The control session, for good: the spare one takes its place.
    ///
    /// # Errors
    /// When there are not two left.
    pub fn lend(&mut self) -> Result<Session> {
        let lent = self.control.take().filter(Session::is_alive);
        lent.ok_or(Error::MysqldHung { what: "session to it is left".into(), after: None })
    }

    /// Did it end to be started again?
    pub fn wants_a_restart(&mut self) -> bool {
        matches!(self.child.try_wait(), Some(Exit::Status(0 | RESTART)))
    }

    /// Closes our sessions: a server that is shutting down would wait for them.
    pub fn close_sessions(&mut self) {
        (self.control, self.pinger, self.spare) = (None, None, None);
    }
}
