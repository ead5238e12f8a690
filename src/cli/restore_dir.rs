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
use crate::pass::until_files::{WORK, remove_work};
use crate::repository::restore::gate;
use crate::text::system_text;

/// In the directory that a restore out of a mirror works in: locked as long as that is at work.
const MIRROR_LOCK: &str = "mirror.lock";

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
        let lock = |dir: &File| match dir.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let holder = "another restore into it".into();
                Err(Error::Locked { path: path.to_path_buf(), holder })
            }
            _ => Ok(()),
        };
        // First, since another restore changes what is there.
        let found = files::open_dir(path).ok();
        found.as_ref().map_or(Ok(()), lock)?;
        // What a restore out of a mirror holds as long as it is at work.
        let mirror =
            found.is_some().then(|| files::open_no_link(&path.join(WORK).join(MIRROR_LOCK)));
        mirror.and_then(io::Result::ok).as_ref().map_or(Ok(()), lock)?;
        let was = look(path, repo, over)?;
        let wrong = |what: &str| Error::config(format!("--to {} {what}", path.display()));
        if was == Was::Absent {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(|e| wrong(&format!("cannot be created: {}", system_text(&e))))?;
        }
        let dir = match found {
            Some(dir) => dir,
            None => {
                let dir = files::open_dir(path)
                    .map_err(|e| wrong(&format!("cannot be opened: {}", system_text(&e))))?;
                lock(&dir)?;
                dir
            }
        };
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
        if self.kept {
            return;
        }
        if self.has_older_data() {
            // Nothing of it is touched yet, or it is gone on with.
            if gate::is_unfinished(&self.dir).is_ok_and(|is| !is) {
                let _ = remove_work(&self.path);
            }
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
    let Some(meta) = meta else {
        return match fs::metadata(parent) {
            Ok(m) if m.is_dir() => Ok(Was::Absent),
            Ok(_) => Err(wrong("cannot be created: what it would be in is not a directory")),
            Err(e) => Err(wrong(&format!("cannot be created: {}", system_text(&e)))),
        };
    };
    if !meta.is_dir() {
        let hint = if path.is_dir() { ": name the directory itself" } else { "" };
        return Err(wrong(&(files::no_directory(path) + hint)));
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
    names.retain(|name| !gate::is_begun(&dir, Path::new(name)));
    let only_work = names.iter().all(|name| name == WORK);
    if !names.is_empty() && only_work && !is_of_a_restore(&path.join(WORK)).map_err(unreadable)? {
        return Err(wrong(&format!("is not empty: it contains a '{WORK}' of something else")));
    }
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

/// True if the directory is one that restores work in.
fn is_of_a_restore(work: &Path) -> io::Result<bool> {
    const OURS: [&str; 10] = [
        "lock",
        "state",
        "tmp",
        "data",
        "receive",
        "repo",
        "next",
        "lists",
        "handover",
        MIRROR_LOCK,
    ];
    if !work.symlink_metadata()?.is_dir() {
        return Ok(false);
    }
    let mut is_empty = true;
    for entry in files::list(&files::open_dir(work)?)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if OURS.contains(&&*name) || name.starts_with("logs-") || name.starts_with("mysqld.") {
            return Ok(true);
        }
        is_empty = false;
    }
    Ok(is_empty)
}
