//! When passes that keep their scratch data last read which pack: a file beside the data. Without it
//! the rotation begins anew.

use std::path::Path;

use crate::os::clock::Timestamp;
use crate::os::files;
use crate::repository::manifest::{from_hex, hex};
use crate::repository::reread::LastRead;

const FILE: &str = "packs-read";
const LARGEST: u64 = 64 << 20;

/// Reads the file in the scratch directory `root`, as far as it can be read.
pub fn read(root: &Path) -> LastRead {
    let bytes = files::read(&root.join(FILE), LARGEST).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let (pack, time) = line.split_once(' ')?;
        Some((from_hex(pack)?, Timestamp::parse(time)?))
    };
    text.lines().filter_map(line).collect()
}

/// Replaces the file.
pub fn write(root: &Path, last: &LastRead) {
    let lines = last.iter().map(|(pack, time)| format!("{} {}\n", hex(pack), time.rfc3339()));
    let path = root.join(FILE);
    if let Err(e) = files::replace(&path, &lines.collect::<String>(), 0o600, false) {
        log::debug!("cannot write {}: {e}", path.display());
    }
}
