//! The repository of backups: a directory, its lock, and the list of what is in it.
//!
//! A backup exists exactly when its manifest is in `backups/`; nothing else is an index, so
//! nothing can disagree with it. Readers need no lock but a shared one on the manifest they
//! use, which keeps a prune from taking it away under them. Making a backup is in `partial`,
//! removing one in `prune`; what a manifest says is `manifest`'s.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::os::files;
use crate::os::lock::{LockFile, lock_file};
use crate::repository::manifest::parse::parse;
use crate::repository::manifest::{Hash, Manifest, PackRef, is_backup_name};
use crate::repository::packs::{self, write::sync_dir};

const FORMAT: &str = "rollforward repository 1";
const DIRS: [&str; 3] = ["backups", "packs", "tmp"];

/// A longer manifest is not read: nobody has made one, and memory has an end.
const MAX_MANIFEST: u64 = 1 << 30;

/// A repository that was found to be one.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    /// Does this process hold the lock?
    locked: Arc<AtomicBool>,
}

/// The repository's lock, held until this is dropped. What changes the repository asks for it.
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

/// A backup that no prune removes as long as this lives.
#[derive(Debug)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub manifest: Manifest,
    file: File,
}

impl Held {
    /// The manifest, and what alone keeps the backup from being removed.
    pub(crate) fn into_parts(self) -> (Manifest, File) {
        (self.manifest, self.file)
    }
}

impl Repository {
    /// Opens the repository at `path`.
    pub fn open(path: &Path) -> Result<Repository> {
        let root = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        let shown = path.display();
        let mut text = String::new();
        let format = root.join("format");
        match files::open(&format).and_then(|f| f.take(100).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(e) if not_a_file(&e) => {
                let text = format!("{shown} is not a repository: its `format` is not a file");
                return Err(Error::config(text));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && root.exists() => {
                return Err(Error::config(format!(
                    "{shown} is not a repository: no file 'format'"
                )));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::config(format!("there is no repository {shown}")));
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::config(format!("{shown} is not a directory")));
            }
            Err(e) => return Err(Error::io("read", &format, e)),
        }
        let line = text.trim_end_matches('\n');
        if line == FORMAT {
            return Ok(Repository { root, locked: Arc::default() });
        }
        Err(Error::config(match line.strip_prefix("rollforward repository ") {
            Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                format!("{shown} is a repository of the later format {n}; this program knows 1")
            }
            _ => format!("{shown} is not a repository: its file 'format' says something else"),
        }))
    }

    /// Opens the repository at `path`, making it where nothing is. What an interrupted call
    /// left is completed; a directory with anything else in it is refused.
    pub fn open_or_create(path: &Path) -> Result<Repository> {
        let fail = |e| Error::io("make", path, e);
        if path.join("format").symlink_metadata().is_ok() {
            return Repository::open(path);
        }
        if path.symlink_metadata().is_ok() {
            if !path.is_dir() {
                let text = format!("{} cannot be a repository: not a directory", path.display());
                return Err(Error::config(text));
            }
            refuse_strangers(path)?;
            // Only our own directories will be in it, and those are private in any case.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        } else {
            // Only the last part: a file system that is not mounted must not be filled below.
            DirBuilder::new().mode(0o700).create(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::config(format!(
                    "repository {} cannot be made: the directory it would lie in does not exist",
                    path.display()
                )),
                _ => fail(e),
            })?;
            if let Some(parent) = std::path::absolute(path).map_err(fail)?.parent() {
                sync_dir(parent)?;
            }
        }
        for dir in DIRS {
            match DirBuilder::new().mode(0o700).create(path.join(dir)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
                _ => {}
            }
        }
        sync_dir(path)?;
        // Last of all: with it in place the rest is there too.
        write_durably(&path.join("tmp/format"), format!("{FORMAT}\n").as_bytes())?;
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

    /// Takes the lock for `command`, as `rollforward run`, or says at once who has it.
    pub fn lock(&self, command: &str) -> Result<RepoLock> {
        for dir in DIRS.map(|d| self.root.join(d)) {
            // What is removed, and where packs are put, must not be behind a symbolic link.
            if dir.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
                let dir = dir.display();
                let text = format!("{dir} is not a directory: put back what belongs there");
                return Err(Error::config(text));
            }
        }
        let file = lock_file(&self.root.join("lock"), command)?;
        self.locked.store(true, Ordering::Relaxed);
        Ok(RepoLock { _file: file, locked: Arc::clone(&self.locked) })
    }

    /// Removes what an interrupted pass left half written.
    pub fn sweep_tmp(&self, _lock: &RepoLock) -> Result<()> {
        let tmp = self.tmp();
        let swept = files::open_dir(&tmp).and_then(|dir| files::empty(&dir));
        swept.map_err(|e| Error::io("sweep", &tmp, e))
    }

    /// The names of all backups, oldest first. What has no backup's name is not ours.
    pub fn names(&self) -> Result<Vec<String>> {
        let dir = self.backups();
        let fail = |e| Error::io("list", &dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().into_string();
            names.extend(name.ok().filter(|n| is_backup_name(n)));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A name that sorts behind all others, also when the clock was set back.
    pub(crate) fn new_name(&self) -> Result<String> {
        let newest = self.names()?.pop();
        let newest = newest.and_then(|n| Timestamp::parse_compact(n.get(..16)?));
        let time = newest.map_or(Timestamp::now(), |t| Timestamp(t.0 + 1).max(Timestamp::now()));
        let random = RandomState::new().hash_one(std::process::id()) as u16;
        Ok(format!("{}-{random:04x}", time.compact()))
    }

    /// Reads the manifest of the backup `name`.
    pub fn load(&self, name: &str) -> Result<Manifest> {
        self.read(name, &self.open_manifest(name, false)?)
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
                damaged(name, format!("its manifest cannot be read: {e}"))
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
                Err(damaged(name, format!("its manifest cannot be read: {e}")))
            }
            Err(e) => Err(Error::io("read", &self.backups().join(name), e)),
        }
    }

    /// What is missing of a backup at a cheap look: all its packs with their sizes.
    pub fn state(&self, manifest: &Manifest) -> Option<String> {
        manifest.packs.iter().find_map(|pack| packs::look(&self.root, pack).err())
    }

    /// Reads the backup `name` and keeps it from being removed meanwhile.
    pub fn hold(&self, name: &str) -> Result<Held> {
        let file = self.open_manifest(name, false)?;
        let path = self.backups().join(name);
        // Who holds it exclusively is about to unlink it, which takes no time.
        while let Err(e) = file.lock_shared() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(Error::io("lock", &path, e));
            }
        }
        let ours = file.metadata().map_err(|e| Error::io("read", &path, e))?;
        let linked =
            path.symlink_metadata().is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
        if !linked {
            return Err(Error::NoBackup { what: format!("backup {name} was just removed") });
        }
        let manifest = self.read(name, &file)?;
        Ok(Held { name: name.into(), manifest, file })
    }

    /// Renames a pack that is proven damaged, so that its content is stored anew by the next
    /// pass. `false` if that was not possible, as on a read-only repository.
    pub(crate) fn set_aside(&self, pack: &Hash) -> bool {
        let from = packs::pack_path(&self.root, pack);
        let to = packs::damaged_path(&self.root, pack);
        let moved = fs::rename(from, &to).is_ok();
        if let (true, Some(dir)) = (moved, to.parent()) {
            // If it comes back after a power loss, the next one to read it finds it again.
            let _ = sync_dir(dir);
        }
        moved
    }

    /// As a reader that met a bad block: sets the pack aside if it is damaged and we are the
    /// pass, which would use its other blocks again. A false manifest is not the pack's fault.
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

/// Is that what opening something else than a file says?
fn not_a_file(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::InvalidInput
        || matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::ELOOP))
}

/// A [`Error::BackupDamaged`].
pub(crate) fn damaged(name: &str, what: String) -> Error {
    Error::BackupDamaged { backup: name.into(), what }
}

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    // Never into what is there already: it may be a link.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| {
        f.write_all(content)?;
        f.sync_all()
    })
    .map_err(|e| Error::io("write", path, e))
}

/// Refuses a directory that holds more than a half made repository.
fn refuse_strangers(path: &Path) -> Result<()> {
    let fail = |e| Error::io("list", path, e);
    let empty = |p: &Path| fs::read_dir(p).map(|mut d| d.next().is_none());
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let harmless = match name.to_str() {
            Some("backups" | "packs") => empty(&path.join(&name)).map_err(fail)?,
            // The root of a file system of its own has the latter.
            Some("lock" | "lost+found") => true,
            // Only what we put there first ourselves.
            Some("tmp") => fs::read_dir(path.join("tmp"))
                .map_err(fail)?
                .all(|e| e.is_ok_and(|e| e.file_name() == "format")),
            _ => false,
        };
        if !harmless {
            let (path, name) = (path.display(), name.to_string_lossy());
            let text = format!("{path} is not a repository and not empty: it holds '{name}'");
            return Err(Error::config(text));
        }
    }
    Ok(())
}
