//! What a server leaves in its data directory that must not stay as it is.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};
use crate::os::files;
use crate::os::sys::open_below;

/// Removes what replication leaves beside the data: MariaDB's `master.info` holds a password,
/// and after a power loss these files keep replication from being set up again. The position
/// is in the tables. Directories are closed to others.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget_replication(data: &Path) -> Result<()> {
    let dir = match files::open_dir(data) {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", data, e)),
    };
    for entry in files::list(&dir).map_err(|e| Error::io("read", data, e))?.flatten() {
        let file = entry.file_name();
        let name = file.to_string_lossy();
        let ours = ["master", "multi-master", "relay-log", "relay.", "relay-"];
        let kind = entry.file_type();
        let is_file = kind.as_ref().is_ok_and(|t| t.is_file());
        if is_file && (name == "auto.cnf" || ours.iter().any(|p| name.starts_with(p))) {
            files::remove(&dir, Path::new(&file), false)
                .map_err(|e| Error::io("remove", &data.join(&file), e))?;
        }
        if kind.is_ok_and(|t| t.is_dir()) {
            close(&dir, &file).map_err(|e| Error::io("chmod", &data.join(&file), e))?;
        }
    }
    Ok(())
}

/// Removes the password alone, in MariaDB's `master.info`: from data of a killed pass, whose relay
/// logs are still to be asked. Nothing happens where there is none.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget_login(data: &Path) -> std::io::Result<()> {
    let dir = match files::open_dir(data) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for entry in files::list(&dir)?.flatten() {
        let file = entry.file_name();
        let login =
            ["master", "multi-master"].iter().any(|p| file.to_string_lossy().starts_with(p));
        if login && entry.file_type()?.is_file() {
            files::remove(&dir, Path::new(&file), false)?;
        }
    }
    Ok(())
}

/// The directories of InnoDB's that MySQL makes, as `#innodb_redo`, have the group's x whatever
/// the umask and `UMASK_DIR` say.
fn close(dir: &File, name: &OsStr) -> std::io::Result<()> {
    let inner = open_below(dir, Path::new(name), libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mode = inner.metadata()?.mode();
    if mode & 0o077 != 0 {
        inner.set_permissions(Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}
