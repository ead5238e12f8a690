//! A backup in use: it is read, and no prune removes it meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::repository::manifest::journal::{Journal, LogEntry};
use crate::repository::manifest::{DirEntry, FileEntry, Manifest};

/// A backup that cannot be pruned while this exists.
#[derive(Debug)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
    pub(super) file: File,
}

impl Held {
    /// The manifest, and the open file whose lock protects the backup.
    pub(crate) fn into_parts(self) -> (Manifest, File) {
        (self.manifest, self.file)
    }

    /// The logs of its journal, the files `names` in this order, as if they were its data.
    pub fn logs(&self, names: &[PathBuf]) -> Result<Held> {
        let logs = self.manifest.journal.logs.iter().zip(names);
        let file = |(log, name): (&LogEntry, &PathBuf)| FileEntry {
            path: name.clone(),
            ..log.file.clone()
        };
        let files: Vec<FileEntry> = logs.map(file).collect();
        self.with(files, Vec::new())
    }

    /// The same backup with some of its files only.
    pub fn with_files(&self, files: Vec<FileEntry>) -> Result<Held> {
        self.with(files, self.manifest.dirs.clone())
    }

    fn with(&self, files: Vec<FileEntry>, dirs: Vec<DirEntry>) -> Result<Held> {
        let Manifest { header, packs, links, .. } = &self.manifest;
        let manifest = Manifest {
            header: header.clone(),
            size: files.iter().map(|file| file.size).sum(),
            packs: packs.clone(),
            dirs,
            files,
            journal: Journal::default(),
            links: links.clone(),
            ..self.manifest
        };
        let file = self.file.try_clone().doing("open", Path::new(&self.name))?;
        Ok(Held { name: self.name.clone(), manifest, file })
    }
}
