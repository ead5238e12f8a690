//! How a pass reports: checkpoint, metrics, progress line, notifications.

pub mod checkpoint;
pub mod keys;
pub mod meter;
pub mod metrics;
pub mod progress;
pub mod sd_notify;
