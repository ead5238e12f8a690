//! What the loop watches during a wait: a mysqld, another child, or nothing.

use crate::error::{Error, Result};
use crate::os::process::Activity;

/// Something that may exit, hang or need attention during a wait. By default it does none of these.
pub trait Watched {
    /// The error that its exit means, once it has exited.
    fn ended(&mut self) -> Option<Error> {
        None
    }

    /// Asks for a sign of life, within the time-out of the session.
    ///
    /// # Errors
    /// When it does not answer.
    fn ping(&mut self) -> Result<()> {
        Ok(())
    }

    /// What it has used so far; `None` if that is no sign of life.
    fn activity(&self) -> Option<Activity> {
        None
    }

    /// Regular chores: keeps its log short, checks for a full disk.
    ///
    /// # Errors
    /// A full disk.
    fn maintain(&mut self) -> Result<()> {
        Ok(())
    }
}

/// No process: for waits on time or on worker threads.
pub struct Nothing;

impl Watched for Nothing {}
