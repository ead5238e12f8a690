//! What the loop watches while it waits: a mysqld, another child, or nobody.

use crate::error::{Error, Result};
use crate::os::process::VitalSigns;

/// Whose death ends a wait.
pub trait Watched {
    /// The error that its end is, once it has ended.
    fn ended(&mut self) -> Option<Error>;
    /// Asks for a sign of life, bounded by the session's own time-out.
    fn ping(&mut self) -> Result<()>;
    /// What it has used so far; `None` if that does not count.
    fn vital_signs(&self) -> Option<VitalSigns>;
    /// Chores at each look: keep its log short, see whether its disk is full.
    fn look_after(&mut self) -> Result<()>;
}

/// No process at all: waits on time, or on worker threads.
pub struct Nobody;

impl Watched for Nobody {
    fn ended(&mut self) -> Option<Error> {
        None
    }
    fn ping(&mut self) -> Result<()> {
        Ok(())
    }
    fn vital_signs(&self) -> Option<VitalSigns> {
        None
    }
    fn look_after(&mut self) -> Result<()> {
        Ok(())
    }
}
