//! The connection of a receiver to its primary, which may come back by itself.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::replication::primary::Facts;
use crate::replication::replica::{ReplicaStatus, net_timeout};

/// So long a receiver whose first try has failed may try again.
const AGAIN: Duration = Duration::from_secs(2);
/// So much longer than the server's own time-out its first try may take.
const GRACE: Duration = Duration::from_secs(5);

/// Since when the receiver has had no connection.
#[derive(Default)]
pub struct Connection {
    gone: Option<Instant>,
}

impl Connection {
    /// Looks at a receiver, and whether it `has_connected`.
    ///
    /// # Errors
    /// When it has had no connection to the primary of `facts` for too long.
    pub fn check(
        &mut self,
        status: &ReplicaStatus,
        has_connected: bool,
        facts: &Facts,
    ) -> Result<()> {
        let patience = match has_connected {
            true => {
                self.gone = None;
                return Ok(());
            }
            false if status.has_failed_to_connect() => AGAIN,
            false => net_timeout(facts) + GRACE,
        };
        if self.gone.get_or_insert_with(Instant::now).elapsed() >= patience {
            return Err(status.not_connected(&facts.address));
        }
        Ok(())
    }
}
