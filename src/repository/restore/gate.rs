//! What keeps a server from a directory in which a restore is not finished, and marks it as ours.
//!
//! No server starts without the first file of its system tablespace, or makes a new one where there is
//! none. So as long as a restore has not ended, a text is in the place of that file: each server refuses
//! it, people can read it, and the next restore knows that it may go on. The file itself waits under
//! another name, and the rename that puts it in its place ends the restore. That is the only step after
//! which the directory is taken for a complete one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::mysql::settings::{find, value};
use crate::os::files;
use crate::os::in_use;
use crate::repository::manifest::Manifest;

/// Where the first file waits until all else is done.
pub const ASIDE: &str = "rollforward.first";
/// The text, before it gets its name.
const NEW_MARK: &str = "rollforward.mark";
/// How the text begins.
const BEGINS: &str = "rollforward: unfinished restore\n";
/// No text of ours is longer, bytes.
const LONGEST: u64 = 2000;
/// The usual first file, and its size and those of others.
const USUAL: &str = "ibdata1";

/// The place of the first file.
#[derive(Clone, Debug)]
pub struct Gate {
    name: PathBuf,
    /// The backup has such a file.
    stored: bool,
}

impl Gate {
    /// That of the data of a backup.
    pub fn of(manifest: &Manifest) -> Gate {
        let known = find("innodb_data_file_path");
        let files = value(&manifest.header.settings, "innodb_data_file_path");
        // A manifest may hold anything: what no server has could be below a link that is in our way.
        let files = files.filter(|files| known.is_some_and(|known| known.fits(files)));
        let first = files.and_then(|files| files.split(':').next());
        let is_stored = |name: &str| manifest.files.iter().any(|f| f.path == Path::new(name));
        let name = first.filter(|name| is_stored(name)).unwrap_or(USUAL);
        Gate { name: name.into(), stored: is_stored(name) }
    }

    /// The name of the first file.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Where the file `path` of the backup is until the restore is finished.
    pub fn place<'a>(&self, path: &'a Path) -> &'a Path {
        if self.stored && path == self.name { Path::new(ASIDE) } else { path }
    }

    /// True if the text is in its place in the open directory `root`.
    pub fn is_marked(&self, root: &File) -> bool {
        is_mark(root, &self.name)
    }

    /// Marks the open directory `root`, called `shown`, unless a server was started since it was looked
    /// at, which has the file open that was put aside.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it is in use; those of the system. Then it is as before.
    pub fn close(
        &self,
        root: &File,
        shown: &Path,
        backup: &str,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let fail = |e| Error::io("mark", shown, e);
        let again = self.is_marked(root);
        self.mark(root, backup, owner).map_err(fail)?;
        let first = files::open_no_link(&files::path_of(root).join(ASIDE)).ok();
        let Some(user) = in_use::user(root, first.as_slice()) else { return Ok(()) };
        // What was marked before is not fit for any server.
        if !again {
            self.unmark(root).map_err(fail)?;
        }
        Err(Error::config(format!("{} is in use by {user}: shut that down first", shown.display())))
    }

    /// Puts the text there, durably, and what was in its place aside. A file that was there is at no
    /// moment without a name, and there is always one or the other in that place.
    fn mark(&self, root: &File, backup: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
        let dir = files::path_of(root);
        let at = |name: &Path| dir.join(name);
        let (new, aside) = (at(Path::new(NEW_MARK)), at(Path::new(ASIDE)));
        let again = self.is_marked(root);
        remove_any(&new)?;
        let mut options = OpenOptions::new();
        let mut text = options.write(true).create_new(true).mode(0o600).open(&new)?;
        text.set_permissions(Permissions::from_mode(0o644))?;
        if let Some((uid, gid)) = owner {
            fchown(&text, Some(uid), Some(gid))?;
        }
        let name = self.name.display();
        text.write_all(
            format!(
                "{BEGINS}\nThis is not the file {name} of a server. Backup {backup} was being restored \
                 into this directory,\nand that has not ended: no server can start here. Give \
                 rollforward the same command\nagain, and it goes on with what is here.\n"
            )
            .as_bytes(),
        )?;
        text.sync_all()?;
        if !again {
            remove_any(&aside)?;
            match fs::symlink_metadata(at(&self.name)) {
                // Not every file system has links.
                Ok(m) if m.is_file() => fs::hard_link(at(&self.name), &aside)
                    .or_else(|_| fs::rename(at(&self.name), &aside))?,
                Ok(m) if m.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            root.sync_all()?;
        }
        fs::rename(&new, at(&self.name))?;
        root.sync_all()
    }

    /// Puts back what was put aside.
    fn unmark(&self, root: &File) -> io::Result<()> {
        let dir = files::path_of(root);
        match fs::rename(dir.join(ASIDE), dir.join(&self.name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::remove_file(dir.join(&self.name)),
            other => other,
        }
    }

    /// Ends the restore: all else is in its place and on the disk.
    pub fn finish(&self, root: &File) -> io::Result<()> {
        let dir = files::path_of(root);
        match self.stored {
            true => fs::rename(dir.join(ASIDE), dir.join(&self.name))?,
            false => fs::remove_file(dir.join(&self.name))?,
        }
        root.sync_all()
    }
}

fn remove_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// True if the file `name` of the open directory `root` is a text of ours.
pub fn is_mark(root: &File, name: &Path) -> bool {
    let path = files::path_of(root).join(name);
    let mut begins = [0; BEGINS.len()];
    files::open_no_link(&path).is_ok_and(|mut file| {
        file.metadata().is_ok_and(|m| m.len() <= LONGEST)
            && file.read_exact(&mut begins).is_ok()
            && begins == *BEGINS.as_bytes()
    })
}

/// True if the file `name` of the open directory `root` is a text of ours that has no place yet: a restore
/// was killed before it had changed anything else.
pub fn is_begun(root: &File, name: &Path) -> bool {
    let m = files::path_of(root).join(name).symlink_metadata();
    name == NEW_MARK && m.is_ok_and(|m| m.is_file() && m.len() <= LONGEST)
}

/// True if a restore into the open directory `root` has not ended.
///
/// # Errors
/// Those of listing it.
pub fn is_unfinished(root: &File) -> io::Result<bool> {
    if is_mark(root, Path::new(USUAL)) {
        return Ok(true);
    }
    for entry in files::list(root)? {
        let name = entry?.file_name();
        if name != NEW_MARK && is_mark(root, Path::new(&name)) {
            return Ok(true);
        }
    }
    Ok(false)
}
