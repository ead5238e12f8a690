//! Data that can be stored as a backup.
//!
//! A [`Finished`] is made only out of a [`CleanShutdown`], and storing consumes it: data whose
//! server still runs, or was killed, cannot be stored.

use std::path::PathBuf;

use crate::error::Result;
use crate::os::workers::Crew;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::pending::Header;
use crate::repository::store::{self, Stored};
use crate::server::lifecycle::CleanShutdown;

/// How far the data came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The goal, or what was adopted, dumped or cloned.
    Goal,
    /// Less: the pass gave up on the primary after progress.
    Short,
}

/// A data directory whose server was shut down cleanly, and what its manifest will say.
pub struct Finished {
    data: PathBuf,
    header: Header,
    reached: Reached,
}

impl Finished {
    /// The data in the directory `data`, whose server ended as `_proof` says.
    pub fn new(_proof: CleanShutdown, data: PathBuf, header: Header, reached: Reached) -> Finished {
        Finished { data, header, reached }
    }

    /// How far the data came.
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// The position of the data.
    pub fn position(&self) -> &str {
        &self.header.position
    }

    /// Stores it as a new backup.
    ///
    /// # Errors
    /// A full disk, or what the system says; a stop.
    pub fn store(
        self,
        repo: &Repository,
        lock: &RepoLock,
        level: i32,
        crew: &mut Crew<'_>,
    ) -> Result<Stored> {
        store::store(repo, lock, &self.data, self.header, level, crew)
    }
}
