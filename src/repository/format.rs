//! The file that makes a directory a repository: which format it has, and how an older one becomes
//! the current one.

use std::io::{self, Read as _};
use std::path::Path;

use crate::error::{Error, IoExt, Result};
use crate::os::files;

/// The format of new repositories. Format 1 lacks what is on record of a backup.
const CURRENT: u32 = 2;
const NAME: &str = "rollforward repository ";

/// The content of the file in a new repository.
pub(super) fn text() -> String {
    format!("{NAME}{CURRENT}\n")
}

/// The format of the repository at `root`, which messages call `shown`.
///
/// # Errors
/// [`Error::Configuration`] if it is none, or of a later format.
pub(super) fn read(root: &Path, shown: &Path) -> Result<u32> {
    let shown = shown.display();
    let mut text = Vec::new();
    let format = root.join("format");
    match files::open(&format).and_then(|f| f.take(100).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(e) if not_a_file(&e) => {
            let text = format!("{shown} is not a repository: its `format` is not a file");
            return Err(Error::config(text));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && root.exists() => {
            return Err(Error::config(format!("{shown} is not a repository: no file 'format'")));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::config(format!("no repository at {shown}")));
        }
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::config(format!("{shown} is not a directory")));
        }
        Err(e) => return Err(Error::io("read", &format, e)),
    }
    // The first line alone counts, whatever is appended.
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default();
    if let Some(known) = (1..=CURRENT).find(|n| line == format!("{NAME}{n}")) {
        return Ok(known);
    }
    Err(Error::config(match line.strip_prefix(NAME) {
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{shown} is a repository of the later format {n}; this program knows 1 and 2")
        }
        _ => format!("{shown} is not a repository: unexpected text in its file 'format'"),
    }))
}

/// Makes a repository of an older format one of the current format. Returns the older one, which is to
/// be told: see [`tell`].
pub(super) fn raise(root: &Path) -> Result<Option<u32>> {
    let format = read(root, root)?;
    if format == CURRENT {
        return Ok(None);
    }
    let path = root.join("format");
    files::replace(&path, &text(), 0o600, true).doing("write", &path)?;
    Ok(Some(format))
}

/// Says what [`raise`] has done. Not done there, since threads that store do not log.
pub(super) fn tell(root: &Path, raised: Option<u32>) {
    if let Some(format) = raised {
        log::info!(
            "repository {} had format {format} and has format {CURRENT} now: earlier versions of \
             this program refuse it",
            root.display()
        );
    }
}

/// True for the errors of opening something other than a file.
fn not_a_file(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::InvalidInput
        || matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::ELOOP))
}
