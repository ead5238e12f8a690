//! The repository: a directory of backups and its lock.
//!
//! A backup exists exactly when its manifest is in `backups/`. There is no other index to disagree
//! with. Readers need only a shared lock on the manifest they use, which keeps prune from removing
//! it. Backups are made in [`super::pending`] and removed in [`super::prune`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::lock::{LockFile, lock_file};
use crate::repository::format;
use crate::repository::held::Held;
use crate::repository::manifest::glance;
use crate::repository::manifest::parse::parse;
use crate::repository::manifest::{Hash, Manifest, PackRef, Summary, is_backup_name};
use crate::repository::packs::{self, write::sync_dir};
use crate::text::system_text;

const DIRS: [&str; 4] = ["backups", "packs", "tmp", "proofs"];
/// Made with the first pin.
pub(super) const PINS: &str = "pins";

/// Seconds.
const DAY: i64 = 86_400;
/// A longer manifest is not read, to bound memory.
pub(super) const MAX_MANIFEST: u64 = 1 << 30;

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    /// True while this process holds the lock, or proves a backup.
    locked: Arc<AtomicBool>,
    /// Packs that were found damaged and are still in place: see [`super::reread`].
    pub(super) distrusted: Mutex<Vec<PackRef>>,
}

/// The repository lock, released on drop. Functions that change the repository require it.
#[derive(Debug)]
pub struct RepoLock {
    _file: LockFile,
    locked: Arc<AtomicBool>,
}

impl Drop for RepoLock {
    fn drop(&mut self) {
        self.locked.store(false, Ordering::Relaxed);
    }
}

impl Repository {
    /// Opens the repository at `path`.
    pub fn open(path: &Path) -> Result<Repository> {
        let root = std::path::absolute(path).doing("find", path)?;
        format::read(&root, path)?;
        Ok(Repository { root, locked: Arc::default(), distrusted: Mutex::default() })
    }

    /// True if there is a repository at `path`, of whatever format.
    pub fn exists(path: &Path) -> bool {
        path.join("format").symlink_metadata().is_ok()
    }

    /// Opens the repository at `path`, creating it in an absent or empty directory. Completes what
    /// an interrupted call left; refuses a directory that contains anything else.
    pub fn open_or_create(path: &Path) -> Result<Repository> {
        let fail = |e| Error::io("create", path, e);
        if Repository::exists(path) {
            return Repository::open(path);
        }
        if path.symlink_metadata().is_ok() {
            if !path.is_dir() {
                let what = files::no_directory(path);
                let text = format!("cannot create repository {}: it {what}", path.display());
                return Err(Error::config(text));
            }
            refuse_foreign(path)?;
            // It will hold only our own directories, which are private in any case.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        } else {
            // Create only the last component: an unmounted file system must not be filled below.
            DirBuilder::new().mode(0o700).create(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::config(format!(
                    "cannot create repository {}: its parent directory does not exist",
                    path.display()
                )),
                io::ErrorKind::NotADirectory => Error::config(format!(
                    "cannot create repository {}: its parent is not a directory",
                    path.display()
                )),
                _ => fail(e),
            })?;
            if let Some(parent) = std::path::absolute(path).map_err(fail)?.parent() {
                sync_dir(parent)?;
            }
        }
        for dir in DIRS {
            let made = DirBuilder::new().mode(0o700).create(path.join(dir));
            made.ignoring(io::ErrorKind::AlreadyExists).map_err(fail)?;
        }
        sync_dir(path)?;
        // Last: once this file exists, everything else does too.
        write_durably(&path.join("tmp/format"), format::text().as_bytes())?;
        fs::rename(path.join("tmp/format"), path.join("format")).map_err(fail)?;
        sync_dir(path)?;
        Repository::open(path)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Takes the lock for `command`, such as `rollforward run`, or fails naming the holder.
    pub fn lock(&self, command: &str) -> Result<RepoLock> {
        for dir in DIRS.into_iter().chain([PINS]).map(|d| self.root.join(d)) {
            check_directory(&dir)?;
        }
        let file = lock_file(&self.root.join("lock"), command)?;
        self.locked.store(true, Ordering::Relaxed);
        Ok(RepoLock { _file: file, locked: Arc::clone(&self.locked) })
    }

    /// Removes the leftovers of an interrupted pass, until `stopped` says so.
    pub fn sweep_tmp(&self, _lock: &RepoLock, stopped: &dyn Fn() -> bool) -> Result<()> {
        let tmp = self.tmp();
        // A copy of a repository may lack it, since it is empty between passes.
        self.make_dir(&tmp)?;
        let swept = files::open_dir(&tmp).and_then(|dir| files::empty(&dir, stopped));
        swept.doing("sweep", &tmp)
    }

    /// The names of all backups, oldest first. Other files are ignored. Names later than tomorrow
    /// come first, so that none of them is the newest: a clock was wrong, or the name is forged.
    pub fn names(&self) -> Result<Vec<String>> {
        let dir = self.backups();
        let fail = |e| Error::io("list", &dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().into_string();
            names.extend(name.ok().filter(|n| is_backup_name(n)));
        }
        let tomorrow = Timestamp(Timestamp::now().0 + DAY).compact();
        let is_later = |name: &String| name.get(..tomorrow.len()) > Some(tomorrow.as_str());
        names.sort_unstable_by_key(|name| (!is_later(name), name.clone()));
        if let Some(name) = names.first().filter(|name| is_later(name)) {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                log::warn!("backup {name} is dated in the future: it does not count as the newest");
            });
        }
        Ok(names)
    }

    /// Reads the manifest of the backup `name`.
    pub fn load(&self, name: &str) -> Result<Manifest> {
        self.read(name, &self.open_manifest(name, false)?)
    }

    /// Reads the manifest of the backup `name`, and keeps what is short.
    pub fn summary(&self, name: &str) -> Result<Summary> {
        self.load(name).map(Summary::from)
    }

    /// What is known of the backup `name`: its manifest, if that can be read, and what is damaged.
    /// `None` if it was pruned after it was listed.
    pub fn look_at(&self, name: &str) -> Result<Option<(Option<Summary>, Option<String>)>> {
        match self.summary(name) {
            Ok(manifest) => {
                let damage = self.state(&manifest.packs);
                Ok(Some((Some(manifest), damage)))
            }
            Err(Error::NoBackup { .. }) => Ok(None),
            Err(Error::BackupDamaged { what, .. }) => Ok(Some((None, Some(what)))),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn open_manifest(&self, name: &str, write: bool) -> Result<File> {
        let absent =
            || Error::NoBackup { what: format!("no backup {name} in {}", self.root.display()) };
        if !is_backup_name(name) {
            return Err(absent());
        }
        let path = self.backups().join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&path).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT) => absent(),
            Some(libc::ELOOP | libc::EISDIR | libc::EIO | libc::ENXIO | libc::ENODEV) => {
                damaged(name, format!("its manifest cannot be read: {}", system_text(&e)))
            }
            _ => Error::io("open", &path, e),
        })?;
        match file.metadata() {
            Ok(m) if !m.is_file() => Err(damaged(name, "its manifest is not a file".into())),
            Ok(_) => Ok(file),
            Err(e) => Err(Error::io("look at", &path, e)),
        }
    }

    fn read(&self, name: &str, file: &File) -> Result<Manifest> {
        let mut bytes = Vec::new();
        if file.metadata().is_ok_and(|m| m.len() > MAX_MANIFEST) {
            return Err(damaged(name, "its manifest is larger than 1 GiB".into()));
        }
        match file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes) {
            Ok(n) if n as u64 > MAX_MANIFEST => {
                Err(damaged(name, "its manifest is larger than 1 GiB".into()))
            }
            Ok(_) => parse(&bytes)
                .map_err(|what| damaged(name, format!("its manifest does not parse: {what}"))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EIO | libc::EISDIR)) => {
                Err(damaged(name, format!("its manifest cannot be read: {}", system_text(&e))))
            }
            Err(e) => Err(Error::io("read", &self.backups().join(name), e)),
        }
    }

    /// What a quick check finds missing: all packs must be there with their sizes.
    pub fn state(&self, packs: &[PackRef]) -> Option<String> {
        packs.iter().find_map(|pack| packs::look(&self.root, pack).err())
    }

    /// What an even quicker check finds wrong: it reads only what a manifest says before its files.
    pub fn glance(&self, name: &str) -> Result<Option<String>> {
        let file = match self.open_manifest(name, false) {
            Err(Error::BackupDamaged { what, .. }) => return Ok(Some(what)),
            file => file?,
        };
        Ok(match glance::packs(&file) {
            Ok(packs) => self.state(&packs),
            Err(what) => Some(what),
        })
    }

    /// The backup `name`, or the newest for `None`, which may be damaged.
    ///
    /// # Errors
    /// [`Error::NoBackup`].
    pub fn find(&self, name: Option<&str>) -> Result<String> {
        let mut names = self.names()?;
        let root = self.root.display();
        match name {
            Some(name) if names.iter().any(|n| n == name) => Ok(name.into()),
            Some(name) => Err(Error::NoBackup { what: format!("no backup {name} in {root}") }),
            None => names.pop().ok_or_else(|| Error::NoBackup {
                what: format!("repository {root} has no backup"),
            }),
        }
    }

    /// From now on packs that are found damaged are set aside, as by a pass.
    pub fn set_damage_aside(&self) {
        self.locked.store(true, Ordering::Relaxed);
    }

    /// Reads the backup `name` and protects it from removal.
    pub fn hold(&self, name: &str) -> Result<Held> {
        let file = self.open_manifest(name, false)?;
        let path = self.backups().join(name);
        // A process with the exclusive lock is about to unlink it, which takes no time.
        while let Err(e) = file.lock_shared() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(Error::io("lock", &path, e));
            }
        }
        let ours = file.metadata().doing("read", &path)?;
        let linked =
            path.symlink_metadata().is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
        if !linked {
            return Err(Error::NoBackup { what: format!("backup {name} was just removed") });
        }
        let manifest = self.read(name, &file)?;
        Ok(Held { name: name.into(), manifest, file })
    }

    /// Renames a pack that is proven damaged, so that the next pass stores its content again.
    /// `false` if that failed, for example on a read-only repository.
    pub(crate) fn set_aside(&self, pack: &Hash) -> bool {
        let from = packs::pack_path(&self.root, pack);
        let to = packs::damaged_path(&self.root, pack);
        let Some(dir) = to.parent() else { return false };
        // A reader gets here without the lock: nothing is renamed behind a link.
        let moved = dir.ancestors().take(2).all(|dir| check_directory(dir).is_ok())
            && fs::rename(from, &to).is_ok();
        if moved {
            // If the rename is lost with the power, the next reader finds the damage again.
            let _ = sync_dir(dir);
        }
        moved
    }

    /// Called for a pack with a bad block. If we are the pass, which would otherwise reuse its
    /// other blocks, or prove, and the pack really is damaged, sets it aside. A false manifest is not the
    /// pack's fault.
    pub(crate) fn suspect(&self, pack: &PackRef) {
        let gauge = crate::os::workers::Gauge::new(None);
        if self.locked.load(Ordering::Relaxed)
            && packs::look(&self.root, pack).is_ok()
            && let Err(packs::Fault::Damaged(_)) = packs::check_pack(&self.root, pack, &gauge)
        {
            self.set_aside(&pack.hash);
        }
    }
}

/// Refuses anything but a directory, such as a symbolic link to one: what we write and remove there must
/// not be elsewhere. One that is absent will do.
///
/// # Errors
/// [`Error::Configuration`].
pub(super) fn check_directory(dir: &Path) -> Result<()> {
    if dir.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
        let what = files::no_directory(dir);
        let text = format!("{} {what}: put the original directory back", dir.display());
        return Err(Error::config(text));
    }
    Ok(())
}

/// A [`Error::BackupDamaged`].
pub(crate) fn damaged(name: &str, what: String) -> Error {
    Error::BackupDamaged { backup: name.into(), what }
}

/// Writes a new file and syncs it.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    // Never write into an existing file, which may be a link.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| {
        f.write_all(content)?;
        f.sync_all()
    })
    .doing("write", path)
}

/// Refuses a directory that holds more than a partly created repository.
fn refuse_foreign(path: &Path) -> Result<()> {
    let fail = |e| Error::io("list", path, e);
    let empty = |p: &Path| fs::read_dir(p).map(|mut d| d.next().is_none());
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let harmless = match name.to_str() {
            Some("backups" | "packs" | "proofs" | "pins") => {
                empty(&path.join(&name)).map_err(fail)?
            }
            // A file system's root has lost+found.
            Some("lock" | "lost+found") => true,
            // Only what we create there first ourselves.
            Some("tmp") => fs::read_dir(path.join("tmp"))
                .map_err(fail)?
                .all(|e| e.is_ok_and(|e| e.file_name() == "format")),
            _ => false,
        };
        if !harmless {
            let (path, name) = (path.display(), name.to_string_lossy());
            let text = format!("{path} is not a repository and not empty: it contains '{name}'");
            return Err(Error::config(text));
        }
    }
    Ok(())
}
