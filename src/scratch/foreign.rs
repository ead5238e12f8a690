//! What a scratch directory may contain, and what shows that it is not one. Changes nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::text::system_text;

/// What a scratch directory may hold.
const OURS: &[&str] = &[
    "data",
    "data.old",
    "tmp",
    "lock",
    "state",
    "state.new",
    "checkpoint",
    "checkpoint.new",
    "checkpoint.pass",
    "checkpoint.pass.new",
    "proof",
    "open",
    "mysqld.log",
    "mysqld.sock",
    "mysqld.sock.lock",
    "mysqld.pid",
    "dump.err",
    "load.err",
    "journal",
    "known-files",
    "known-files.new",
    "packs-read",
    "packs-read.new",
    "lost+found",
];

/// True for what a scratch directory holds of ours.
pub fn is_ours(name: &OsStr) -> bool {
    OURS.iter().any(|ours| name == *ours)
}

/// Checks whether [`super::Scratch::open`] could use `root`. Changes nothing, so that a refused
/// directory leaves no new repository behind.
///
/// # Errors
/// [`Error::Configuration`], as there.
pub fn check(root: &Path, others: &[PathBuf]) -> Result<()> {
    let fail = |e| Error::io("open", root, e);
    match fs::metadata(root) {
        Ok(m) if m.is_dir() => refuse_foreign(&root.canonicalize().map_err(fail)?, others)
            .and_then(|()| refuse_link(&root.join("data"))),
        Ok(_) => Err(cannot_be(root, "it is not a directory")),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot_be(root, &system_text(&e))),
        // A link to what is not there: a directory cannot be made in its place.
        Err(_) if root.is_symlink() => {
            Err(cannot_be(root, &format!("it {}", files::no_directory(root))))
        }
        Err(_) if root.parent().is_some_and(Path::is_dir) => Ok(()),
        Err(_) => Err(cannot_be(root, "its parent directory does not exist")),
    }
}

pub(super) fn cannot_be(root: &Path, why: &str) -> Error {
    Error::config(format!("{} cannot be the scratch directory: {why}", root.display()))
}

/// Files that may exist before the first state file.
fn is_early(root: &Path, name: &OsStr) -> bool {
    let early =
        ["lock", "checkpoint", "checkpoint.new", "checkpoint.pass", "state.new", "lost+found"];
    let is_empty = |dir: PathBuf| fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none());
    early.iter().any(|e| name == *e) || (name == "tmp" && is_empty(root.join("tmp")))
}

fn refuse_foreign(root: &Path, others: &[PathBuf]) -> Result<()> {
    let entries = fs::read_dir(root).doing("read", root)?;
    let others: Vec<_> = others
        .iter()
        .filter(|o| o.parent().and_then(|p| p.canonicalize().ok()).as_deref() == Some(root))
        .filter_map(|o| o.file_name())
        .collect();
    // The state file identifies a scratch directory. It starts with its format, whatever follows.
    let mut first = [0; 7];
    let state = root.join("state");
    let has_state = match files::open_no_link(&state) {
        Ok(mut file) => file.read_exact(&mut first).is_ok() && first == *b"format=",
        // This says nothing about whose directory it is.
        Err(e) if files::hides_file(&e) => return Err(Error::io("open", &state, e)),
        Err(_) => false,
    };
    for entry in entries {
        let name = entry.doing("read", root)?.file_name();
        let other = others.iter().any(|o| {
            name == *o || name.to_string_lossy() == format!("{}.new", o.to_string_lossy())
        });
        let ours = is_ours(&name) && (has_state || is_early(root, &name));
        if !ours && !other {
            let what = if root.join("ibdata1").exists() {
                "it looks like the data directory of a server"
            } else {
                "a scratch directory contains nothing else"
            };
            return Err(Error::config(format!(
                "scratch directory {} contains '{}', which is not ours: {what}",
                root.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

/// The data must be in the scratch directory itself: through a link we would empty a foreign
/// directory, or start a server on it.
fn refuse_link(data: &Path) -> Result<()> {
    match data.symlink_metadata() {
        Ok(m) if !m.is_dir() => Err(Error::config(format!(
            "{} {}: remove it, and use another --scratch if the data should be elsewhere",
            data.display(),
            files::no_directory(data)
        ))),
        _ => Ok(()),
    }
}
