//! `unpack`: one step of `rollforward-mirror restore`, which brings the packs. Not for people, and in no
//! list of commands: rollforward-mirror(8) is what they use.
//!
//! All happens in `rollforward.tmp` within the target, which the script has made: the few packs that are
//! there are in `repo`, and the files grow in `data`. When they are complete, they get their names in the
//! target by renames, and no server starts before the last of them: see [`Gate`]. Meanwhile there is a
//! mark, by which the next call takes them back if this one was killed in between.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::next_steps;
use crate::cli::print::print;
use crate::error::{Error, IoExt as _, Place, Result};
use crate::os::files;
use crate::os::space::placed;
use crate::os::sys;
use crate::repository::directory::Repository;
use crate::repository::manifest::{Manifest, PackRef, hex};
use crate::repository::restore::gate::{Gate, is_mark};
use crate::repository::restore::piecemeal;
use crate::repository::restore::{Destination, Into, Kept};
use crate::seed::layout;
use crate::supervisor::main_loop::Supervisor;
use crate::text::{bytes, count};

/// The directory within the target, and what is in it.
const WORK: &str = "rollforward.tmp";
const DATA: &str = "data";
const MARK: &str = "handover";

/// Takes out of the packs in `repo` what the backup needs, and removes these packs. Prints the packs that
/// are still needed, `SHA-256 SIZE`, or hands the complete data over. Returns the exit status.
///
/// # Errors
/// Those of [`piecemeal::step`]; those of the system.
pub fn unpack(repo: &Path, backup: Option<String>, to: &Path, jobs: usize) -> Result<u8> {
    let repo = Repository::open(repo)?;
    let mut supervisor = Supervisor::new(Duration::from_secs(1))?;
    let name = backup.map_or_else(|| repo.find(None), Ok)?;
    let held = repo.hold(&name)?;
    let work = to.join(WORK);
    if !work.is_dir() {
        return Err(Error::config(format!("{} is not a directory", work.display())));
    }
    take_back(to)?;
    if has_work(&held.manifest) {
        let what = format!("it has a file or directory named {WORK}");
        return Err(Error::BackupDamaged { backup: name, what });
    }
    let meta = fs::metadata(to).doing("open", to)?;
    let destination = Destination {
        path: &work.join(DATA),
        owner: sys::is_root().then(|| (meta.uid(), meta.gid())),
        into: Into::Existing,
        kept: Kept::Synced,
        known: None,
    };
    let mut crew = supervisor.crew("restore", jobs);
    let left = piecemeal::step(&repo, &held, destination, &mut crew)
        .map_err(|e| placed(e, &[(to, Place::Target)]))?;
    if !left.packs.is_empty() {
        let line = |pack: &PackRef| format!("{} {}\n", hex(&pack.hash), pack.size);
        return Ok(print(&left.packs.iter().map(line).collect::<String>()));
    }
    let manifest = &held.manifest;
    drop(crew);
    // A few renames: a stop meanwhile is too late.
    hand_over(to, &name, &Gate::of(manifest), destination.owner)?;
    log::info!(
        "restored {name} to {}: {}, {}",
        to.display(),
        count(manifest.files.len() as u64, "file"),
        bytes(manifest.size)
    );
    for line in next_steps::lines(&manifest.header, to, next_steps::owner(to)) {
        log::info!("{line}");
    }
    log::info!("{}", next_steps::replica(&manifest.header));
    Ok(0)
}

/// True if a file would get in our way. No server makes one of that name.
fn has_work(manifest: &Manifest) -> bool {
    let files = manifest.files.iter().map(|file| &file.path);
    let mut paths = files.chain(manifest.dirs.iter().map(|dir| &dir.path));
    paths.any(|path| path.as_os_str() == WORK)
}

/// Moves the complete data into the target, and removes everything else of ours.
fn hand_over(to: &Path, backup: &str, gate: &Gate, owner: Option<(u32, u32)>) -> Result<()> {
    let work = to.join(WORK);
    let (mark, data) = (work.join(MARK), work.join(DATA));
    files::replace(&mark, "", 0o600, true).doing("write", &mark)?;
    let target = files::open_dir(to).doing("open", to)?;
    gate.close(&target, to, backup, owner)?;
    move_all(&data, to, |name| name != gate.name())?;
    let open = files::open_dir(&work).doing("open", &work)?;
    for entry in files::list(&open).doing("read", &work)? {
        let entry = entry.doing("read", &work)?;
        let (name, is_dir) = (entry.file_name(), entry.file_type().doing("read", &work)?.is_dir());
        if name != MARK && name != DATA {
            files::remove(&open, Path::new(&name), is_dir).doing("remove", &work.join(&name))?;
        }
    }
    // From here on a server starts on it.
    move_all(&data, to, |_| true)?;
    remove_mark(&target, to)?;
    // The mark goes last: without it, the directory is one that is not ours.
    fs::remove_dir(&data).doing("remove", &data)?;
    fs::remove_dir_all(&work).doing("remove", &work)
}

/// Undoes a hand-over that was interrupted.
fn take_back(to: &Path) -> Result<()> {
    let work = to.join(WORK);
    let (mark, data) = (work.join(MARK), work.join(DATA));
    if mark.symlink_metadata().is_err() {
        return Ok(());
    }
    // It was complete but for this mark, and somebody has started a server on it.
    if let Some(user) = layout::user(to) {
        let to = to.display();
        return Err(Error::config(format!("{to} is in use by {user}: shut that down first")));
    }
    fs::create_dir(&data).ignoring(io::ErrorKind::AlreadyExists).doing("create", &data)?;
    let target = files::open_dir(to).doing("open", to)?;
    // The text in the place of a file, which is still in `data`.
    move_all(to, &data, |name| !is_mark(&target, name))?;
    remove_mark(&target, to)?;
    fs::remove_file(&mark).doing("remove", &mark)
}

/// Removes the text that keeps servers away, if it is there.
fn remove_mark(target: &File, to: &Path) -> Result<()> {
    for entry in files::list(target).doing("read", to)? {
        let name = PathBuf::from(entry.doing("read", to)?.file_name());
        if is_mark(target, &name) {
            files::remove(target, &name, false).doing("remove", &to.join(&name))?;
        }
    }
    Ok(())
}

/// Moves all entries that are `wanted` from one directory to the other, but for what stays where it is.
fn move_all(from: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) -> Result<()> {
    let source = files::open_dir(from).doing("open", from)?;
    let target = files::open_dir(to).doing("open", to)?;
    for entry in files::list(&source).doing("read", from)? {
        let name = entry.doing("read", from)?.file_name();
        if name != OsStr::new(WORK) && name != OsStr::new("lost+found") && wanted(Path::new(&name))
        {
            let (old, new) =
                (files::path_of(&source).join(&name), files::path_of(&target).join(&name));
            fs::rename(old, new).doing("rename to", &to.join(&name))?;
        }
    }
    target.sync_all().doing("write", to)?;
    source.sync_all().doing("write", from)
}
