//! Backups on disk, of no database in particular.

mod aside;
pub mod contents;
pub mod data_dir;
pub mod directory;
mod format;
pub mod held;
pub mod journals;
pub mod known;
pub mod manifest;
mod names;
pub mod packs;
pub mod parcels;
pub mod pending;
pub mod pins;
pub mod proofs;
pub mod prune;
pub mod reread;
pub mod restore;
pub mod retention;
pub mod store;
pub mod verify;

#[cfg(test)]
mod tests;
