//! Is a directory a stopped server's, which may be restored over? Changes nothing.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::os::files;
use crate::pass::until_files::WORK;
use crate::repository::restore::survey::{is_foreign_dir, is_of_table};
use crate::seed::layout;
use crate::text::system_text;

/// One of these is in each data directory, beside its system tables. A broken one may lack the others.
const SIGNS: [&str; 7] = [
    "ibdata1",
    "ib_logfile0",
    "#innodb_redo",
    "aria_log_control",
    "undo001",
    "undo_001",
    "auto.cnf",
];

/// True if the directory looks like a server's.
pub fn is_data_directory(path: &Path) -> bool {
    let has_tables = path.join("mysql").is_dir() || path.join("mysql.ibd").is_file();
    let has_signs = SIGNS.iter().any(|name| path.join(name).symlink_metadata().is_ok());
    has_tables && (has_signs || layout::first_file(path).is_some())
}

/// Checks that the open directory `dir` may be restored over; `older` unless it is one of ours.
///
/// # Errors
/// Why it may not.
pub fn check(path: &Path, dir: &File, older: bool) -> Result<(), String> {
    if older && !is_data_directory(path) {
        return Err(
            "is not empty, and not the data directory of a server: --over writes over none \
                    other"
                .into(),
        );
    }
    if let Some(user) = layout::user(path) {
        return Err(format!("is in use by {user}: shut that down first"));
    }
    // By whatever path it was named.
    if path.canonicalize().is_ok_and(|path| is_of_a_pass(&path)) {
        return Err("is the data of a scratch directory".into());
    }
    let unreadable = |e| format!("cannot be read: {}", system_text(&e));
    let device = dir.metadata().map_err(unreadable)?.dev();
    for entry in files::list(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let (m, shown) = (entry.metadata().map_err(unreadable)?, name.display());
        if !m.is_dir() || is_foreign_dir(Path::new(&name)) || name == WORK {
            continue;
        }
        if m.dev() != device {
            return Err(format!("has another file system in it, {shown}: unmount that first"));
        }
        if let Some(strange) = stranger_in(dir, Path::new(&name)) {
            return Err(format!(
                "has {strange} in it, which no server makes: move that elsewhere first"
            ));
        }
    }
    Ok(())
}

/// What makes the directory `name` none of a server's, in words: servers have no directories in it, but
/// for MyRocks and the like, and no other files alone.
fn stranger_in(dir: &File, name: &Path) -> Option<String> {
    let shown = name.display();
    if name.to_string_lossy().starts_with(['#', '.']) {
        return None;
    }
    let open = files::open_dir(&files::path_of(dir).join(name)).ok()?;
    let mut other = None;
    for entry in files::list(&open).ok()?.flatten() {
        let inner = PathBuf::from(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            return Some(format!("the directory {shown}/{}", inner.display()));
        }
        if is_of_table(&inner) {
            // There may be directories yet.
            other = Some(None);
        } else if other.is_none() {
            other = Some(Some(format!("the directory {shown} with {}", inner.display())));
        }
    }
    other.flatten()
}

/// True if it belongs to a scratch directory, in which passes work.
fn is_of_a_pass(path: &Path) -> bool {
    let state = path.parent().map(|scratch| files::read(&scratch.join("state"), 1 << 20));
    path.file_name().is_some_and(|name| name == "data")
        && state.is_some_and(|text| text.is_ok_and(|text| text.starts_with(b"format=")))
}
