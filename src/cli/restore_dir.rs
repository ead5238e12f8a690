//! The target of `restore --to`: an empty directory, one in which a restore has not ended, or with
//! `--over` one that holds older data. Claimed before anything in it is changed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cli::older_data;
use crate::error::{Error, Result};
use crate::os::files;
use crate::os::sys;
use crate::pass::taken_in;
use crate::pass::until_files::WORK;
use crate::repository::restore::gate;
use crate::text::system_text;

/// What the directory was when it was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// Absent.
    Absent,
    /// Empty, but for what a file system puts there.
    Empty,
    /// One of ours, in which a restore has not ended.
    Unfinished,
    /// The data directory of a stopped server.
    Older,
}

/// A directory that may be filled. What was put into an empty one is removed on drop, unless it is kept.
pub struct Target {
    path: PathBuf,
    /// The directory itself, even if its name is reused; locked against other restores.
    dir: File,
    was: Was,
    owner: Option<(u32, u32)>,
    kept: bool,
}

impl Target {
    /// Claims or creates the directory `path`, which must not be inside the repository. With `over` it
    /// may hold older data.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it is something else or not empty; [`Error::Locked`].
    pub fn claim(path: &Path, repo: &Path, over: bool) -> Result<Target> {
        let was = look(path, repo, over)?;
        let wrong = |what: &str| Error::config(format!("--to {} {what}", path.display()));
        if was == Was::Absent {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(|e| wrong(&format!("cannot be created: {}", system_text(&e))))?;
        }
        let dir = files::open_dir(path)
            .map_err(|e| wrong(&format!("cannot be opened: {}", system_text(&e))))?;
        if let Err(TryLockError::WouldBlock) = dir.try_lock() {
            let holder = "another restore into it".into();
            return Err(Error::Locked { path: path.to_path_buf(), holder });
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        let owner = if sys::is_root() {
            let like = if was == Was::Absent { parent } else { path };
            fs::metadata(like).ok().map(|m| (m.uid(), m.gid()))
        } else {
            None
        };
        let target = Target { path: path.to_path_buf(), dir, was, owner, kept: false };
        match was {
            Was::Unfinished | Was::Older => taken_in::take_back(path)?,
            Was::Absent | Was::Empty => {}
        }
        if was == Was::Unfinished {
            log::info!("{} holds a restore that has not ended: going on with it", path.display());
        }
        Ok(target)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The owner for its files, if we can set one.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// True if there was something in it that is made use of.
    pub fn has_older_data(&self) -> bool {
        matches!(self.was, Was::Unfinished | Was::Older)
    }

    /// Makes it fit for another attempt: removes what was put into an empty one.
    ///
    /// # Errors
    /// Those of the system.
    pub fn clear(&self) -> Result<()> {
        if self.has_older_data() {
            return taken_in::take_back(&self.path);
        }
        for entry in files::list(&self.dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            if entry.file_name() != "lost+found" {
                let _ = files::remove(&self.dir, Path::new(&entry.file_name()), is_dir);
            }
        }
        Ok(())
    }

    /// Keeps the completed directory.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// After `error`: what was restored so far stays if the same command can go on with it. Returns the
    /// error.
    pub fn keep_what_helps(&mut self, error: Error) -> Error {
        let helps =
            matches!(error, Error::Interrupted { .. } | Error::DiskFull { .. } | Error::Io { .. });
        let is_unfinished = gate::is_unfinished(&self.dir).unwrap_or(false);
        if is_unfinished && (helps || self.has_older_data()) {
            self.kept = true;
            log::warn!(
                "{} is unfinished, and no server starts on it: the same command goes on with it",
                self.path.display()
            );
        }
        error
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.kept || self.has_older_data() {
            return;
        }
        let _ = self.clear();
        if self.was == Was::Absent {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// What the directory `path` is. Changes nothing.
///
/// # Errors
/// [`Error::Configuration`] if it is none that may be filled.
pub fn look(path: &Path, repo: &Path, over: bool) -> Result<Was> {
    let wrong = |what: &str| Error::config(format!("--to {} {what}", path.display()));
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(wrong(&format!("cannot be opened: {}", system_text(&e)))),
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let repo = repo.canonicalize().unwrap_or_else(|_| repo.to_path_buf());
    let real = if meta.is_some() { path } else { parent }.canonicalize().ok();
    if real.as_ref().is_some_and(|dir| dir.starts_with(&repo)) {
        return Err(wrong("is inside the repository"));
    }
    let Some(meta) = meta else { return Ok(Was::Absent) };
    if !meta.is_dir() {
        return Err(wrong("is not a directory"));
    }
    let unreadable = |e: io::Error| wrong(&format!("cannot be read: {}", system_text(&e)));
    let dir = files::open_dir(path).map_err(unreadable)?;
    let mut names = Vec::new();
    for entry in files::list(&dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // A file system's root has lost+found, and servers ignore it too.
        if name != "lost+found" {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(Was::Empty);
    }
    let only_work = names.iter().all(|name| name == WORK) && path.join(WORK).is_dir();
    let was = if only_work || gate::is_unfinished(&dir).map_err(unreadable)? {
        Was::Unfinished
    } else if over {
        Was::Older
    } else if older_data::is_data_directory(path) {
        return Err(wrong("is not empty: it holds data, of which --over writes only what differs"));
    } else {
        return Err(wrong("is not empty"));
    };
    if real.is_some_and(|dir| repo.starts_with(dir)) {
        return Err(wrong("holds the repository"));
    }
    older_data::check(path, &dir, was == Was::Older).map_err(|what| wrong(&what))?;
    Ok(was)
}
