//! Removing a directory that may take minutes, which a stop interrupts.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{IoExt, Result};
use crate::os::files;
use crate::os::workers::Crew;

/// How many threads do it: what takes long is to free what a file had, in memory and on the disk.
pub(super) const THREADS: usize = 2;

/// Removes the directory `dir`, if it exists, unless the crew is stopped meanwhile.
pub(super) fn remove_all(dir: &Path, crew: &mut Crew<'_>) -> Result<()> {
    let gauge = crew.gauge();
    crew.work(|| match files::open_dir(dir) {
        Ok(open) => files::empty(&open, &|| gauge.stopped()).doing("remove", dir),
        Err(_) => Ok(()),
    })?;
    fs::remove_dir_all(dir).ignoring(io::ErrorKind::NotFound).doing("remove", dir)
}
