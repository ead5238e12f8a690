//! Room on file systems: whether there is enough, and what is left where it ran out.

use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::os::sys;

/// Is there room for `needed` bytes on the file system of `path`? Where that cannot be told, the
/// write will tell.
///
/// # Errors
/// [`Error::DiskFull`] with the numbers.
pub fn check_room(path: &Path, needed: u64, place: Place) -> Result<()> {
    match sys::free_bytes(path) {
        Ok(free) if free < needed => {
            let (path, free) = (path.to_path_buf(), Some(free));
            Err(Error::DiskFull { path, free, needed: Some(needed), place })
        }
        _ => Ok(()),
    }
}

/// Adds to a full disk what is not known where a write fails: what is free there now, and which of
/// the directories in `known` it is.
pub fn placed(mut error: Error, known: &[(&Path, Place)]) -> Error {
    if let Error::DiskFull { path, free, place, .. } = &mut error {
        *free = free.or_else(|| sys::free_bytes(path).ok());
        if *place == Place::Other
            && let Some((_, is)) = known.iter().find(|(dir, _)| path.starts_with(dir))
        {
            *place = *is;
        }
    }
    error
}
