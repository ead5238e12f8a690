//! Relay logs that are to outlive the receiver that wrote them.

use crate::mysql::position::Position;

/// Keeps relay logs.
pub trait KeepLogs {
    /// Keeps those that are there, before anything removes them; no receiver runs now. Where one is about
    /// to begin at the position `next`, what it will get is apart from what was got before. A failure is
    /// noted for the end of the pass.
    fn keep(&self, next: Option<&Position>);

    /// The same, and no receiver will write more of them.
    fn end(&self);
}

/// Keeps none.
pub struct NoLogs;

impl KeepLogs for NoLogs {
    fn keep(&self, _next: Option<&Position>) {}
    fn end(&self) {}
}
