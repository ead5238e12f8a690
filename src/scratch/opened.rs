//! The directories of throw-away servers, each of its own within `open` in the scratch directory: a pass
//! may run beside them, and several of them at a time.
//!
//! Their names are never used again, and each is locked for as long as its server is wanted. So what can be
//! locked was left by a process that was killed, and goes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::random::random_name;
use crate::scratch::foreign;
use crate::scratch::run_as::run_as;
use crate::scratch::working_directory::Scratch;
use crate::supervisor::main_loop::Supervisor;
use crate::text::system_text;

const NAME: &str = "open";
const LOG: &str = "mysqld.log";
/// A directory that was just made may be taken for one that was left, and be gone.
const TRIES: usize = 10;

type User = Option<(u32, u32)>;

/// A directory for a throw-away server in the scratch directory `root`, which is made if it is absent; no
/// other process keeps us from it. Removes what killed ones left.
///
/// # Errors
/// [`Error::Configuration`] if `root` is something else; when it cannot be written; a stop.
pub fn make(
    root: &Path,
    others: &[PathBuf],
    user: Option<&str>,
    supervisor: &mut Supervisor,
) -> Result<Scratch> {
    foreign::check(root, others)?;
    let made = DirBuilder::new().mode(0o700).create(root);
    made.ignoring(io::ErrorKind::AlreadyExists)
        .map_err(|e| foreign::cannot_be(root, &system_text(&e)))?;
    let root = root.canonicalize().doing("open", root)?;
    let user = run_as(&root, user)?;
    mark(&root.join("state"), user)?;
    sweep(&root, user, supervisor)?;
    let mut last = Error::config("no directory can be made");
    for _ in 0..TRIES {
        match make_one(&root.join(NAME), user) {
            Ok(scratch) => return Ok(scratch),
            Err(e) if is_gone(&e) || matches!(e, Error::Locked { .. }) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

/// Removes the directory of a throw-away server, which has ended. The log of one that `failed` stays
/// beside it, until the next one begins.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(mut scratch: Scratch, failed: bool, supervisor: &mut Supervisor) -> Result<()> {
    let root = scratch.root().to_path_buf();
    let all = root.parent().unwrap_or(Path::new("/"));
    if failed {
        let _ = fs::rename(root.join(LOG), all.join(LOG));
    }
    scratch.discard(supervisor)?;
    scratch.check_gone()?;
    fs::remove_dir_all(&root).ignoring(io::ErrorKind::NotFound).doing("remove", &root)?;
    // If it was the last one, and there is no log.
    let _ = fs::remove_dir(all);
    Ok(())
}

/// Removes what killed ones left in the scratch directory `root`.
///
/// # Errors
/// When it cannot be removed; a stop.
pub fn sweep(root: &Path, user: User, supervisor: &mut Supervisor) -> Result<()> {
    let all = root.join(NAME);
    let Ok(open) = files::open_dir(&all) else { return Ok(()) };
    let _ = fs::remove_file(all.join(LOG));
    for entry in files::list(&open).doing("read", &all)?.flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let dir = all.join(entry.file_name());
        let mut left = match Scratch::at(dir, user, "open") {
            Ok(left) => left,
            // In use, or another process has removed it.
            Err(Error::Locked { .. }) => continue,
            Err(e) if is_gone(&e) => continue,
            Err(e) => return Err(e),
        };
        left.sweep(supervisor)?;
        remove(left, false, supervisor)?;
    }
    let _ = fs::remove_dir(&all);
    Ok(())
}

/// Makes the state file that shows whose directory this is, if there is none: never in place of one that
/// a pass writes. Its owner is that of the directory, who may run the next pass.
fn mark(state: &Path, user: User) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(state);
    let written = file.and_then(|mut file| {
        file.write_all(b"format=1\n")?;
        user.map_or(Ok(()), |(uid, gid)| fchown(&file, Some(uid), Some(gid)))
    });
    written.ignoring(io::ErrorKind::AlreadyExists).doing("write", state)
}

fn make_one(all: &Path, user: User) -> Result<Scratch> {
    let name: String = random_name().doing("name a directory in", all)?.chars().take(8).collect();
    let root = all.join(name);
    for dir in [all, &root] {
        let made = DirBuilder::new().mode(0o700).create(dir);
        made.ignoring(io::ErrorKind::AlreadyExists).doing("create", dir)?;
        if let Some((uid, gid)) = user {
            let open = files::open_dir(dir).doing("open", dir)?;
            fchown(&open, Some(uid), Some(gid)).doing("chown", dir)?;
        }
    }
    Scratch::at(root, user, "open")
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
