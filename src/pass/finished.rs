//! Data that can be stored as a backup.
//!
//! Making a [`Finished`] takes a [`CleanShutdown`], and storing consumes it: data whose server still
//! runs, or was killed, cannot be stored.

use std::path::PathBuf;

use crate::error::Result;
use crate::os::workers::Crew;
use crate::repository::directory::{RepoLock, Repository};
use crate::repository::known::Known;
use crate::repository::manifest::Header;
use crate::repository::store::{self, Journal, Stored};
use crate::server::lifecycle::CleanShutdown;

/// How far the data has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// To the goal, or adopted as it is.
    Goal,
    /// Less far: the pass gave up on the primary after progress.
    Short,
}

/// A data directory whose server was shut down cleanly, and the header of its manifest.
pub struct Finished {
    data: PathBuf,
    known: Option<Known>,
    header: Header,
    journal: Journal,
    reached: Reached,
}

impl Finished {
    /// The data in the directory `data`, whose server was shut down: `_proof`.
    pub fn new(_proof: CleanShutdown, data: PathBuf, header: Header, reached: Reached) -> Finished {
        Finished { data, known: None, header, journal: Journal::default(), reached }
    }

    /// What is known of its files since the base was restored.
    pub fn with_known(self, known: Option<Known>) -> Finished {
        Finished { known, ..self }
    }

    /// What led to it from its base.
    pub fn with_journal(self, journal: Journal) -> Finished {
        Finished { journal, ..self }
    }

    /// How far the data has come.
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// The position of the data.
    pub fn position(&self) -> &str {
        &self.header.position
    }

    /// Stores the data as a new backup.
    pub fn store(
        self,
        repo: &Repository,
        lock: &RepoLock,
        level: i32,
        crew: &mut Crew<'_>,
    ) -> Result<Stored> {
        let data = store::Data { path: &self.data, known: self.known, journal: &self.journal };
        store::store(repo, lock, data, self.header, level, crew)
    }
}
