//! Files that a server leaves in its data directory and that must be removed or closed.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::sys::open_below;
use crate::repository::data_dir::is_tablespace;

/// Removes replication's files: MariaDB's `master.info` contains a password, and after a power loss
/// these files keep replication from being set up again. The position is in the tables. Closes
/// directories to other users.
pub fn forget_replication(data: &Path) -> Result<()> {
    let dir = match files::open_dir(data) {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", data, e)),
    };
    for entry in files::list(&dir).doing("read", data)?.flatten() {
        let file = entry.file_name();
        let name = file.to_string_lossy();
        let ours = ["master", "multi-master", "relay-log", "relay.", "relay-"];
        let kind = entry.file_type();
        let is_file = kind.as_ref().is_ok_and(|t| t.is_file()) && !is_tablespace(Path::new(&file));
        if is_file && (name == "auto.cnf" || ours.iter().any(|p| name.starts_with(p))) {
            files::remove(&dir, Path::new(&file), false).doing("remove", &data.join(&file))?;
        }
        if kind.is_ok_and(|t| t.is_dir()) {
            close(&dir, &file).doing("chmod", &data.join(&file))?;
        }
    }
    Ok(())
}

/// Removes only the password, in MariaDB's `master.info`, from data of a killed pass whose relay
/// logs are still needed. Does nothing where there is none.
pub fn forget_login(data: &Path) -> std::io::Result<()> {
    let dir = match files::open_dir(data) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for entry in files::list(&dir)?.flatten() {
        let file = entry.file_name();
        let login =
            ["master", "multi-master"].iter().any(|p| file.to_string_lossy().starts_with(p));
        if login && !is_tablespace(Path::new(&file)) && entry.file_type()?.is_file() {
            files::remove(&dir, Path::new(&file), false)?;
        }
    }
    Ok(())
}

/// InnoDB directories that MySQL creates, such as `#innodb_redo`, are searchable by the group
/// whatever the umask and `UMASK_DIR` are.
fn close(dir: &File, name: &OsStr) -> std::io::Result<()> {
    let inner = open_below(dir, Path::new(name), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mode = inner.metadata()?.mode();
    if mode & 0o077 != 0 {
        inner.set_permissions(Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}
