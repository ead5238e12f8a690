//! What the loop watches while it waits: a mysqld, another child, or nothing.

use crate::error::{Error, Result};
use crate::os::process::VitalSigns;

/// Something that may end, hang or need attention during a wait. By default it does none of it.
pub trait Watched {
    /// The error that its end means, once it has ended.
    fn ended(&mut self) -> Option<Error> {
        None
    }

    /// Asks for a sign of life, bounded by the session's own time-out.
    ///
    /// # Errors
    /// When it does not answer.
    fn ping(&mut self) -> Result<()> {
        Ok(())
    }

    /// What it has used so far; `None` if that does not count.
    fn vital_signs(&self) -> Option<VitalSigns> {
        None
    }

    /// Chores at each look: keep its log short, see whether its disk is full.
    ///
    /// # Errors
    /// A full disk.
    fn look_after(&mut self) -> Result<()> {
        Ok(())
    }
}

/// No process at all: for waits on time or on worker threads.
pub struct Nothing;

impl Watched for Nothing {}
