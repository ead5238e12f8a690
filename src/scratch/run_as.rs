//! The user that the private mysqld and all other programs of the server's package run as.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::sys;

/// Fails unless it is known whom the private mysqld of a scratch directory `root` may run as.
/// Changes nothing.
///
/// # Errors
/// [`Error::Configuration`].
pub fn check(root: &Path, name: Option<&str>) -> Result<()> {
    // One that is created belongs to us.
    let owner = fs::metadata(root).map_or((0, 0), |m| (m.uid(), m.gid()));
    choose(sys::is_root(), owner, name).map(drop)
}

/// The uid and gid for the private mysqld, which get the directory `root`; `None` for our own.
pub(super) fn run_as(root: &Path, name: Option<&str>) -> Result<Option<(u32, u32)>> {
    // By its descriptor: another user could put a link in its place.
    let dir = files::open_dir(root).doing("open", root)?;
    let meta = dir.metadata().doing("open", root)?;
    let user = choose(sys::is_root(), (meta.uid(), meta.gid()), name)?;
    if meta.mode() & 0o077 != 0 {
        let private = fs::Permissions::from_mode(0o700);
        dir.set_permissions(private).doing("make private", root)?;
    }
    if let Some((uid, gid)) = user {
        fchown(&dir, Some(uid), Some(gid)).doing("chown", root)?;
    }
    Ok(user)
}

/// Decides: `name` is `--mysqld-user`, `owner` that of the scratch directory.
///
/// # Errors
/// [`Error::Configuration`] where it is not clear.
pub fn choose(is_root: bool, owner: (u32, u32), name: Option<&str>) -> Result<Option<(u32, u32)>> {
    match (is_root, name) {
        (false, Some(_)) => Err(Error::config("--mysqld-user works only as root")),
        (false, None) => Ok(None),
        (true, Some(name)) => {
            let user = sys::user_by_name(name).ok_or_else(|| unknown(name))?;
            Ok(Some(user).filter(|(uid, _)| *uid != 0))
        }
        (true, None) if owner.0 == 0 => Err(Error::config(
            "the private mysqld would run as root: name its user with --mysqld-user, which may \
             be root",
        )),
        (true, None) => Ok(Some(owner)),
    }
}

/// A database that could not be read says nothing about the user.
fn unknown(name: &str) -> Error {
    let database = Path::new("/etc/passwd");
    match files::open(database) {
        Err(e) if files::hides_file(&e) => Error::io("open", database, e),
        _ => Error::config(format!("no user '{name}' for --mysqld-user")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_run_as_only_if_it_is_named() {
        let choose =
            |root, owner, name| choose(root, (owner, owner), name).map_err(|e| e.to_string());
        assert_eq!(choose(true, 7, None), Ok(Some((7, 7))));
        assert_eq!(choose(true, 0, Some("root")), Ok(None));
        assert!(choose(true, 0, None).unwrap_err().contains("--mysqld-user"));
        assert!(choose(true, 7, Some("no-such-user")).unwrap_err().contains("no-such-user"));
        assert_eq!(choose(false, 0, None), Ok(None));
        assert!(choose(false, 7, Some("root")).unwrap_err().contains("only as root"));
    }
}
