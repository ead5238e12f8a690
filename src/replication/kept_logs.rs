//! Relay logs that are to outlive the receiver that wrote them.

use crate::mysql::position::Position;

/// Keeps relay logs. A failure is noted for the end of the pass.
pub trait KeepLogs {
    /// Keeps those that are there, before a receiver is set up and they are removed. It begins at the
    /// position `from`, and what it will get is apart from what was got before.
    fn begin(&self, from: &Position);

    /// Keeps those that are there, before they are removed: the receiver that wrote them is no more.
    fn end(&self);

    /// Gives up what is kept if the room that it takes is needed. `applying` is the log that the applier
    /// is at; those before it are only kept. True if the server is to remove its logs by itself from now
    /// on.
    fn give_way(&self, applying: &str) -> bool;
}

/// Keeps none.
pub struct NoLogs;

impl KeepLogs for NoLogs {
    fn begin(&self, _from: &Position) {}
    fn end(&self) {}
    fn give_way(&self, _applying: &str) -> bool {
        false
    }
}
