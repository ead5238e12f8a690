//! The files of a replay: the directory it works in, the logs to be applied, and the hand-over.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown, fchown, lchown};
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::journal::cut::Cut;
use crate::journal::tail::write_slice;
use crate::os::files;
use crate::os::sys;
use crate::repository::data_dir::is_left_out;
use crate::repository::restore::gate::Gate;

/// The directory within the target in which all happens.
pub const WORK: &str = "rollforward.tmp";

type User = Option<(u32, u32)>;

/// Makes the directory to work in, `root`, in which the server of `user` has to write, and which it has
/// to reach through the target.
pub(super) fn make_dir(target: &Path, root: &Path, user: User) -> Result<()> {
    DirBuilder::new().mode(0o700).create(root).doing("create", root)?;
    if let Some((uid, gid)) = user {
        for dir in [target, root] {
            let open = files::open_dir(dir).doing("open", dir)?;
            fchown(&open, Some(uid), Some(gid)).doing("chown", dir)?;
        }
    }
    Ok(())
}

/// Moves the logs that `cut` leaves into the data directory, with the index by which a server finds them.
pub(super) fn place_logs(logs: &[PathBuf], cut: &Cut, data: &Path, user: User) -> Result<()> {
    let (begin, end) = (cut.begin, cut.end);
    let mut index = String::new();
    for (number, log) in logs.iter().enumerate().take(end.log + 1).skip(begin.log) {
        let name = format!("relay.{:06}", number - begin.log + 1);
        let to = data.join(&name);
        let is_last = number == end.log;
        if number == begin.log && begin.offset > 0 {
            let length = log.metadata().doing("read", log)?.len();
            let until = if is_last { end.offset } else { length };
            write_slice(log, (begin.offset, until), &cut.mark, &to)?;
            if let Some((uid, gid)) = user {
                lchown(&to, Some(uid), Some(gid)).doing("chown", &to)?;
            }
        } else {
            if is_last {
                let mut options = OpenOptions::new();
                let open = options.write(true).custom_flags(libc::O_NOFOLLOW).open(log);
                open.and_then(|log| log.set_len(end.offset)).doing("write", log)?;
            }
            fs::rename(log, &to).doing("rename to", &to)?;
        }
        index += &format!("./{name}\n");
    }
    let path = data.join("relay.index");
    files::replace(&path, &index, 0o600, false).doing("write", &path)?;
    match user {
        Some((uid, gid)) => chown(&path, Some(uid), Some(gid)).doing("chown", &path),
        None => Ok(()),
    }
}

/// Moves the data, whose server was shut down, from the directory `work` into the target, as a plain
/// restore leaves it: without what is in no backup, and with its owner. The file that the `gate` is for
/// comes last.
pub(super) fn hand_over(work: &Path, target: &Path, owner: User, gate: &Gate) -> Result<()> {
    let data = work.join("data");
    let from = files::open_dir(&data).doing("open", &data)?;
    let to = files::open_dir(target).doing("open", target)?;
    for entry in files::list(&from).doing("read", &data)? {
        let entry = entry.doing("read", &data)?;
        let name = PathBuf::from(entry.file_name());
        let is_dir = entry.file_type().doing("read", &data)?.is_dir();
        if is_left_out(&name, is_dir) {
            files::remove(&from, &name, is_dir).doing("remove", &data.join(&name))?;
        }
    }
    if let Some(owner) = owner {
        own(&data, owner).doing("chown", &data)?;
        fchown(&to, Some(owner.0), Some(owner.1)).doing("chown", target)?;
    }
    // On the disk before it has the names under which a server looks for it.
    sys::sync_file_system(&from).doing("write", &data)?;
    let hand = |name: &Path| {
        let (old, new) = (files::path_of(&from).join(name), files::path_of(&to).join(name));
        fs::rename(old, new).doing("rename to", &target.join(name))
    };
    for entry in files::list(&from).doing("read", &data)? {
        let name = entry.doing("read", &data)?.file_name();
        if Path::new(&name) != gate.name() {
            hand(Path::new(&name))?;
        }
    }
    to.sync_all().doing("write", target)?;
    hand(gate.name())?;
    to.sync_all().doing("write", target)
}

/// Gives a directory and all in it to a user, following no link.
fn own(dir: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    lchown(dir, Some(uid), Some(gid))?;
    let open = files::open_dir(dir)?;
    for entry in files::list(&open)? {
        let entry = entry?;
        let path = files::path_of(&open).join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => own(&path, (uid, gid))?,
            false => lchown(path, Some(uid), Some(gid))?,
        }
    }
    Ok(())
}

/// Removes the directory that was worked in.
pub fn remove_work(target: &Path) -> Result<()> {
    let work = target.join(WORK);
    fs::remove_dir_all(&work).ignoring(io::ErrorKind::NotFound).doing("remove", &work)
}
