//! Removing a directory that may take minutes, which a stop interrupts.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{IoExt, Result};
use crate::os::files;
use crate::os::workers::Gauge;

/// Removes the directory `dir`, if it exists, unless the gauge is stopped meanwhile.
pub(super) fn remove_all(dir: &Path, gauge: &Gauge) -> Result<()> {
    if let Ok(open) = files::open_dir(dir) {
        files::empty(&open, &|| gauge.stopped()).doing("remove", dir)?;
    }
    if gauge.stopped() {
        return Ok(());
    }
    fs::remove_dir_all(dir).ignoring(io::ErrorKind::NotFound).doing("remove", dir)
}
