//! Free space on file systems: checks before writing, and facts for a disk that is full.

use std::path::Path;

use crate::error::{Error, Place, Result};
use crate::os::sys;

/// Checks that the file system of `path` has `needed` bytes free. Passes if that is unknown, since
/// the write will tell.
///
/// # Errors
/// [`Error::DiskFull`] with the numbers.
pub fn check_room(path: &Path, needed: u64, place: Place) -> Result<()> {
    match sys::free_bytes(path) {
        Ok(free) if free < needed => {
            let (path, free) = (path.to_path_buf(), Some(free));
            Err(Error::DiskFull { path, free, needed: Some(needed), inodes: false, place })
        }
        _ => Ok(()),
    }
}

/// Completes the error of a full disk with the free space, and with the directory in `known` that
/// it is about.
pub fn placed(mut error: Error, known: &[(&Path, Place)]) -> Error {
    if let Error::DiskFull { path, free, needed, inodes, place } = &mut error {
        *free = free.or_else(|| sys::free_bytes(path).ok());
        *inodes = needed.is_none() && sys::lacks_inodes(path);
        if *place == Place::Other
            && let Some((_, is)) = known.iter().find(|(dir, _)| path.starts_with(dir))
        {
            *place = *is;
        }
    }
    error
}
