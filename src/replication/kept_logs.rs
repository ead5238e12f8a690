//! Relay logs that are to outlive the receiver that wrote them.

use crate::mysql::position::Position;

/// Keeps relay logs. A failure is noted for the end of the pass.
pub trait KeepLogs {
    /// Keeps those that are there, before a receiver is set up and they are removed. It begins at the
    /// position `from`, and what it will get is apart from what was got before.
    fn begin(&self, from: &Position);

    /// Keeps those that are there, before they are removed: the receiver that wrote them is no more.
    fn end(&self);
}

/// Keeps none.
pub struct NoLogs;

impl KeepLogs for NoLogs {
    fn begin(&self, _from: &Position) {}
    fn end(&self) {}
}
