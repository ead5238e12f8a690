//! Is the data whole, and is it the primary's? `CHECK TABLE`, and comparisons with the primary.

pub mod aspects;
pub mod check;
pub mod columns;
pub mod definitions;
pub mod names;
pub mod printed;
pub mod records;
pub mod rotation;
pub mod rows;
pub mod sessions;
pub mod snapshot;
