//! A data directory that came out of a stream: brought into its place, looked through, made ours.
//!
//! Nothing in it is trusted. All is done below the descriptor of the directory, through no link, and
//! what is neither a file nor a directory, or has another name elsewhere, is refused.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt as _, Result};
use crate::os::files::{self, path_of};
use crate::os::sys::open_below;
use crate::os::workers::Gauge;
use crate::repository::data_dir::{Tree, is_left_out, walk};
use crate::seed::layout::first_file;

/// What the only directory of an archive is called while what is in it takes its place. No database and
/// no file of a server has such a name.
const TOP: &str = "#rollforward-top";
/// The tablespace of temporary tables.
const TEMPORARY: &str = "ibtmp1";

/// Takes what the only directory in `data` holds out of it, if that is the data directory.
///
/// # Errors
/// When it cannot be read or renamed.
pub fn lift(data: &Path) -> Result<()> {
    if first_file(data).is_some() {
        return Ok(());
    }
    let root = files::open_dir(data).doing("open", data)?;
    let fail = |e| Error::io("unpack", data, e);
    let mut dirs = Vec::new();
    for entry in files::list(&root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            dirs.push(entry.file_name());
        }
    }
    let found: Vec<_> = dirs.iter().filter(|d| first_file(&data.join(d)).is_some()).collect();
    let [name] = found.as_slice() else { return Ok(()) };
    let (at, top) = (path_of(&root), path_of(&root).join(TOP));
    std::fs::rename(at.join(name), &top).map_err(fail)?;
    let inner = open_below(&root, Path::new(TOP), libc::O_DIRECTORY, 0).map_err(fail)?;
    for entry in files::list(&inner).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        std::fs::rename(path_of(&inner).join(&name), at.join(&name)).map_err(fail)?;
    }
    std::fs::remove_dir(top).map_err(fail)
}

/// True if the data has a file that servers make when they start and remove when they are shut down.
pub fn is_in_use(data: &Path) -> bool {
    data.join(TEMPORARY).symlink_metadata().is_ok()
}

/// Removes what no backup has, and makes the rest private. `shown` is said for `data`.
///
/// # Errors
/// [`Error::Configuration`] when it holds what a backup cannot.
pub fn own(data: &Path, shown: &Path, gauge: &Gauge) -> Result<Tree> {
    let root = files::open_dir(data).doing("open", data)?;
    let fail = |e| Error::io("look through", data, e);
    let mut goes: Vec<(PathBuf, bool)> = Vec::new();
    for entry in files::list(&root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (name, is_dir) =
            (PathBuf::from(entry.file_name()), entry.file_type().map_err(fail)?.is_dir());
        if is_left_out(&name, is_dir) {
            goes.push((name, is_dir));
        }
    }
    for (name, is_dir) in goes {
        files::remove(&root, &name, is_dir).map_err(fail)?;
    }
    let tree = walk(&root, shown, gauge)?;
    for dir in &tree.dirs {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        open_below(&root, &dir.path, flags, 0).and_then(|d| private(&d, 0o700)).map_err(fail)?;
    }
    for found in &tree.files {
        if gauge.stopped() {
            break;
        }
        let file = open_below(&root, &found.path, libc::O_RDONLY | libc::O_NONBLOCK, 0);
        let file = file.map_err(fail)?;
        if file.metadata().map_err(fail)?.nlink() != 1 {
            let path = shown.join(&found.path);
            return Err(Error::config(format!(
                "{} has several names, by hard links, of which a backup would make several files",
                path.display()
            )));
        }
        private(&file, 0o600).map_err(fail)?;
    }
    Ok(tree)
}

fn private(file: &File, mode: u32) -> io::Result<()> {
    match file.metadata()?.mode() & 0o7777 == mode {
        true => Ok(()),
        false => file.set_permissions(Permissions::from_mode(mode)),
    }
}
