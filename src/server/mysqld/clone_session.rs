//! A session handed to another thread for a statement that takes hours, and the server's exit that
//! such a statement causes.

use crate::error::{Error, Result};
use crate::mysql::session::Session;
use crate::os::process::Exit;

use super::Mysqld;

/// The exit status of a MySQL server that expects its watcher to restart it (`MYSQLD_RESTART_EXIT`
/// in its source). Without a watcher it shuts down with 0 instead.
const RESTART: i32 = 16;

impl Mysqld {
    /// Hands over the control session for good; the spare one replaces it.
    ///
    /// # Errors
    /// If there are not two left.
    pub fn take_session(&mut self) -> Result<Session> {
        let session = self.control.take().filter(Session::is_alive);
        session.ok_or(Error::MysqldHung { what: "remaining session with it".into(), after: None })
    }

    /// True if it exited in order to be restarted.
    pub fn wants_restart(&mut self) -> bool {
        matches!(self.child.try_wait(), Some(Exit::Status(0 | RESTART)))
    }

    /// Closes our sessions, because a server that shuts down would wait for them.
    pub fn close_sessions(&mut self) {
        (self.control, self.pinger, self.spare) = (None, None, None);
    }
}
