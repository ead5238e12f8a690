//! The user that the private mysqld runs as.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::error::{Error, IoExt, Result};
use crate::os::sys;

/// The uid and gid for the private mysqld; `None` for our own.
pub(super) fn run_as(root: &Path, name: Option<&str>) -> Result<Option<(u32, u32)>> {
    let meta = fs::metadata(root).doing("open", root)?;
    let private = || fs::set_permissions(root, fs::Permissions::from_mode(0o700));
    if !sys::is_root() {
        if meta.mode() & 0o077 != 0 {
            private().doing("make private", root)?;
        }
        return match name {
            Some(_) => Err(Error::config("--mysqld-user works only as root")),
            None => Ok(None),
        };
    }
    private().doing("make private", root)?;
    let (uid, gid) = match name {
        Some(name) => sys::user_by_name(name)
            .ok_or_else(|| Error::config(format!("no user '{name}' for --mysqld-user")))?,
        None => (meta.uid(), meta.gid()),
    };
    if uid == 0 {
        log::warn!("the private mysqld runs as root: set another user with --mysqld-user");
        return Ok(None);
    }
    chown(root, Some(uid), Some(gid)).doing("chown", root)?;
    Ok(Some((uid, gid)))
}
