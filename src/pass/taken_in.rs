//! Older data in the target of a replay: taken into the directory that is worked in, so that only what
//! differs is written, and taken back if another way is gone or the next restore goes on with it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::error::{IoExt, Result};
use crate::os::files;
use crate::os::sys::open_below;
use crate::pass::until_files::{WORK, remove_work};
use crate::repository::held::Held;
use crate::repository::restore::gate::{self, ASIDE, Gate};
use crate::repository::restore::survey::is_foreign;

/// Marks the directory `target`, to be filled with what the backup `held` is brought to, and moves what
/// is data in it to `data`. Returns its gate, by which the data is handed over.
///
/// # Errors
/// [`Error::Configuration`](crate::error::Error::Configuration) if a server was started on it meanwhile;
/// those of the system.
pub(super) fn take_in(
    target: &Path,
    owner: Option<(u32, u32)>,
    data: &Path,
    held: &Held,
) -> Result<Gate> {
    let gate = Gate::of(&held.manifest);
    let root = files::open_dir(target).doing("open", target)?;
    gate.close(&root, target, &held.name, owner)?;
    let moved = (|| {
        let names = names(&root)?;
        let stays = |name: &OsString| {
            let name = Path::new(name);
            let m = fs::symlink_metadata(files::path_of(&root).join(name));
            name == gate.name() || name == WORK || m.is_ok_and(|m| is_foreign(&root, name, &m))
        };
        let names: Vec<OsString> = names.into_iter().filter(|name| !stays(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        DirBuilder::new().mode(0o700).create(data)?;
        let to = open_data(&root)?;
        for name in names {
            let new = if name == ASIDE { gate.name() } else { Path::new(&name) };
            fs::rename(files::path_of(&root).join(&name), files::path_of(&to).join(new))?;
        }
        Ok(())
    })();
    moved.doing("move to", data)?;
    Ok(gate)
}

/// Takes back what a replay that has not ended has left in the directory `target`, and removes the
/// directory it worked in.
///
/// # Errors
/// Those of the system.
pub fn take_back(target: &Path) -> Result<()> {
    let data = target.join(WORK).join("data");
    let taken = (|| {
        let root = files::open_dir(target)?;
        if !gate::is_unfinished(&root)? {
            return Ok(());
        }
        let from = match open_data(&root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        for name in names(&from)? {
            let (old, new) = (files::path_of(&from).join(&name), files::path_of(&root).join(&name));
            let new = match gate::is_mark(&root, Path::new(&name)) {
                true => files::path_of(&root).join(ASIDE),
                false => new,
            };
            if new.symlink_metadata().is_err() {
                fs::rename(old, new)?;
            }
        }
        Ok(())
    })();
    taken.doing("move back", &data)?;
    remove_work(target)
}

/// The data directory that is worked in, through no link: the target may belong to somebody else.
fn open_data(root: &File) -> io::Result<File> {
    open_below(root, &Path::new(WORK).join("data"), libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

fn names(dir: &File) -> io::Result<Vec<OsString>> {
    files::list(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}
