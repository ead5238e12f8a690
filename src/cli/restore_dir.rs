//! The target of `restore --to`: empty before, and emptied again if the restore fails.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::os::files;
use crate::os::sys;
use crate::text::system_text;

/// A directory that was empty or absent. Unless it is kept, its content is removed on drop.
pub struct Target {
    path: PathBuf,
    /// The directory itself, even if its name is reused.
    dir: File,
    made: bool,
    owner: Option<(u32, u32)>,
    kept: bool,
}

impl Target {
    /// Claims or creates the directory `path`, which must not be inside the repository.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it is something else or not empty.
    pub fn claim(path: &Path, repo: &Path) -> Result<Target> {
        let wrong = |what: &str| Error::config(format!("--to {} {what}", path.display()));
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => Some(meta),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(wrong(&format!("cannot be opened: {}", system_text(&e)))),
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        let lies_in = |dir: &Path| {
            let repo = repo.canonicalize().unwrap_or_else(|_| repo.to_path_buf());
            dir.canonicalize().is_ok_and(|d| d.starts_with(repo))
        };
        if lies_in(if meta.is_some() { path } else { parent }) {
            return Err(wrong("is inside the repository"));
        }
        if let Some(meta) = &meta {
            if !meta.is_dir() {
                return Err(wrong("is not a directory"));
            }
            let mut entries = fs::read_dir(path)
                .map_err(|e| wrong(&format!("cannot be read: {}", system_text(&e))))?;
            // A file system's root has lost+found, and servers ignore it too.
            if entries.any(|e| e.map_or(true, |e| e.file_name() != "lost+found")) {
                return Err(wrong("is not empty"));
            }
        } else {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(|e| wrong(&format!("cannot be created: {}", system_text(&e))))?;
        }
        let owner = if sys::is_root() {
            let like = if meta.is_some() { path } else { parent };
            fs::metadata(like).ok().map(|m| (m.uid(), m.gid()))
        } else {
            None
        };
        let dir = files::open_dir(path)
            .map_err(|e| wrong(&format!("cannot be opened: {}", system_text(&e))))?;
        Ok(Target { path: path.to_path_buf(), dir, made: meta.is_none(), owner, kept: false })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The owner for its files, if we can set one.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// Removes what is in it.
    pub fn clear(&self) {
        for entry in files::list(&self.dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            if entry.file_name() != "lost+found" {
                let _ = files::remove(&self.dir, Path::new(&entry.file_name()), is_dir);
            }
        }
    }

    /// Keeps the completed directory.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.clear();
        if self.made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}
