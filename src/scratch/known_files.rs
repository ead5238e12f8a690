//! The files whose content a kept data directory is known to have: a file beside the data. Without it
//! the next restore reads them all.

use std::fs;
use std::path::Path;

use crate::os::files;
use crate::repository::known::Known;

const FILE: &str = "known-files";
const LARGEST: u64 = 1 << 30;

/// Reads the file in the scratch directory `root`, and removes it: what it says is true until the data
/// changes, which is about to happen.
pub fn take(root: &Path) -> Option<Known> {
    let path = root.join(FILE);
    let bytes = files::read(&path, LARGEST);
    let _ = fs::remove_file(&path);
    Known::parse(str::from_utf8(&bytes.ok()?).ok()?)
}

/// Replaces the file.
pub fn write(root: &Path, known: &Known) {
    let path = root.join(FILE);
    if let Err(e) = files::replace(&path, &known.to_text(), 0o600, false) {
        log::debug!("cannot write {}: {e}", path.display());
    }
}
