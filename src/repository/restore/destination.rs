//! The directory that a backup is restored into.
//!
//! It is prepared first: directories are created, extra entries and entries of the wrong kind are
//! removed, and free space is checked. Then files are opened below it, and only regular files with
//! a single link are written; one that may not be is replaced. Modes and owners come last, since a
//! directory may be recorded as read-only.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::gate::Gate;
use super::survey::{self, Survey};
use super::target_file::{self, TargetFile};
use crate::error::{Error, IoExt, Place, Result};
use crate::os::files;
use crate::os::space::check_room;
use crate::os::stamp::{Conditions, Stamp};
use crate::os::sys;
use crate::repository::held::Held;
use crate::repository::known::{self, Known};
use crate::repository::manifest::{Block, FileEntry, Manifest, Piece};
use crate::repository::packs::buffer::ALIGNMENT;

/// The expected state of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Absent or empty; anything else is refused.
    Empty,
    /// Ours, with older data: extra files are removed and equal ones kept.
    Existing,
    /// The same with a server's directory, perhaps empty: only what servers have is removed, and no
    /// server starts on it before all is done. See [`Gate`].
    Marked,
}

/// Where the content is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the page cache, for a server of ours. What a pass removes again soon may never get to the disk.
    Cached,
    /// There and on the disk.
    Synced,
    /// On the disk, and past the page cache where that is possible: no server of ours comes next, and
    /// others read past it themselves.
    Direct,
    /// Past the page cache where that is possible, and not synced: for a server of ours that reads next to
    /// nothing, of data that does not stay unwritten in the page cache.
    Uncached,
}

impl Kept {
    /// True if it is on the disk in the end.
    pub(super) fn is_durable(self) -> bool {
        matches!(self, Kept::Synced | Kept::Direct)
    }

    /// True if it goes past the page cache.
    pub(super) fn is_direct(self) -> bool {
        matches!(self, Kept::Direct | Kept::Uncached)
    }
}

/// Where a backup is restored to, and how.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The directory; created if absent.
    pub path: &'a Path,
    /// uid and gid for everything; `None` for our own.
    pub owner: Option<(u32, u32)>,
    /// What it may contain already.
    pub into: Into,
    /// Where it is then.
    pub kept: Kept,
    /// What is known of older data in it, and not read there.
    pub known: Option<&'a Known>,
}

/// The open target.
pub struct Target {
    /// For messages.
    path: PathBuf,
    /// Everything is opened below this.
    root: File,
    into: Into,
    owner: Option<(u32, u32)>,
    durable: bool,
    /// Whether new files are written past the page cache; no longer once that was refused.
    direct: AtomicBool,
    /// Until the restore is finished.
    gate: Option<Gate>,
    /// What was in it.
    found: Survey,
}

impl Target {
    /// Prepares the directory for the files of the backup.
    pub fn prepare(to: &Destination<'_>, held: &Held) -> Result<Target> {
        let Destination { path, owner, into, known, .. } = *to;
        let manifest = &held.manifest;
        let made = DirBuilder::new().mode(0o700).create(path);
        made.ignoring(io::ErrorKind::AlreadyExists).doing("create", path)?;
        let root = files::open_dir(path).doing("open", path)?;
        let gate = (into == Into::Marked).then(|| Gate::of(manifest));
        let found = match into {
            Into::Empty => {
                check_empty(path)?;
                Survey { unchanged: vec![false; manifest.files.len()], ..Survey::default() }
            }
            Into::Existing | Into::Marked => {
                let stamps = known::stamps(known, &held.name, &root);
                Survey::of(&root, path, manifest, stamps, gate.as_ref())?
            }
        };
        let target = Target::new(to, root, gate, found);
        if let Some(gate) = &target.gate {
            // Before anything is changed.
            check_space(path, manifest, &target.found)?;
            gate.close(&target.root, path, &held.name, owner)?;
        }
        target.found.remove_surplus(&target.root, path)?;
        if target.gate.is_none() {
            check_space(path, manifest, &target.found)?;
        }
        for dir in &manifest.dirs {
            match sys::mkdir_below(&target.root, &dir.path, 0o700) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && into != Into::Empty => {
                    target.make_writable(&dir.path).doing("chmod", &path.join(&dir.path))?;
                }
                other => {
                    other.doing("create", &path.join(&dir.path))?;
                }
            }
        }
        Ok(target)
    }

    /// Opens a directory that [`Target::prepare`] has prepared before, perhaps in another process.
    pub fn again(to: &Destination<'_>, held: &Held) -> Result<Target> {
        let root = files::open_dir(to.path).doing("open", to.path)?;
        let unchanged = vec![false; held.manifest.files.len()];
        Ok(Target::new(to, root, None, Survey { unchanged, ..Survey::default() }))
    }

    fn new(to: &Destination<'_>, root: File, gate: Option<Gate>, found: Survey) -> Target {
        let Destination { path, owner, into, kept, .. } = *to;
        let (durable, direct) = (kept.is_durable(), AtomicBool::new(kept.is_direct()));
        Target { path: path.to_path_buf(), root, into, owner, durable, direct, gate, found }
    }

    /// The path of a file, for messages.
    pub fn path(&self, entry: &FileEntry) -> PathBuf {
        self.path.join(&entry.path)
    }

    /// True if the file number `index` of the manifest has its content already.
    pub fn is_unchanged(&self, index: usize) -> bool {
        self.found.unchanged[index]
    }

    /// What was there and had to go, and what stays though it is not in the backup.
    pub fn into_found(self) -> Survey {
        self.found
    }

    /// A directory of older data may be read-only.
    fn make_writable(&self, dir: &Path) -> io::Result<()> {
        let dir = self.open_dir(dir)?;
        let mode = dir.metadata()?.mode() & 0o7777;
        if mode & 0o700 == 0o700 {
            return Ok(());
        }
        dir.set_permissions(Permissions::from_mode(mode | 0o700))
    }

    /// A directory below the target; the target itself for the empty path.
    fn open_dir(&self, path: &Path) -> io::Result<File> {
        survey::open_dir(&self.root, path)
    }

    /// Where a file is until the restore is finished.
    fn place<'a>(&self, path: &'a Path) -> &'a Path {
        self.gate.as_ref().map_or(path, |gate| gate.place(path))
    }

    /// Opens or creates a file and sets its size.
    pub fn open(&self, entry: &FileEntry) -> Result<TargetFile> {
        let fail = |e| Error::io("write", &self.path(entry), e);
        let (file, new) = self.open_or_make(self.place(&entry.path)).map_err(fail)?;
        // An existing file is truncated or extended; the extension is a hole until written.
        file.set_len(entry.size).map_err(fail)?;
        Ok(TargetFile { file, new, durable: self.durable, direct: false })
    }

    /// Reopens a file that [`Target::open`] opened; `new` is what that returned.
    pub fn reopen(&self, entry: &FileEntry, new: bool) -> Result<TargetFile> {
        let path = self.place(&entry.path);
        let mut direct = new
            && entry.size.is_multiple_of(ALIGNMENT as u64)
            && self.direct.load(Ordering::Relaxed);
        let mut file = self.open_own(path, if direct { libc::O_DIRECT } else { 0 });
        if direct && file.as_ref().is_err_and(target_file::is_refusal) {
            self.write_through_cache();
            (direct, file) = (false, self.open_own(path, 0));
        }
        let file = file.doing("write", &self.path(entry))?;
        Ok(TargetFile { file, new, durable: self.durable, direct })
    }

    /// Nothing is written past the page cache from now on: the file system does not do it.
    fn write_through_cache(&self) {
        self.direct.store(false, Ordering::Relaxed);
    }

    /// Writes a block of a file.
    pub fn write(
        &self,
        entry: &FileEntry,
        file: &TargetFile,
        piece: &Piece,
        content: &[u8],
    ) -> Result<()> {
        let written = match file.write(piece, content) {
            Err(e) if file.direct && target_file::is_refusal(&e) => {
                self.write_through_cache();
                self.reopen(entry, file.new)?.write(piece, content)
            }
            written => written,
        };
        written.doing("write", &self.path(entry))
    }

    /// Opens an existing regular file with a single link. It may have been replaced by a link since
    /// it was checked.
    fn open_own(&self, path: &Path, flags: i32) -> io::Result<File> {
        let flags = flags | libc::O_RDWR | libc::O_NONBLOCK;
        let file = sys::open_below(&self.root, path, flags, 0)?;
        let m = file.metadata()?;
        if !m.is_file() || m.nlink() != 1 {
            return Err(io::Error::other("not a regular file with a single link"));
        }
        Ok(file)
    }

    fn open_or_make(&self, path: &Path) -> io::Result<(File, bool)> {
        if self.into != Into::Empty {
            match self.open_own(path, 0) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // Read-only, or of another user.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    let parent = self.open_dir(path.parent().unwrap_or(Path::new("")))?;
                    let name = Path::new(path.file_name().unwrap_or_default());
                    files::remove(&parent, name, false)?;
                }
                other => return Ok((other?, false)),
            }
        }
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        Ok((sys::open_below(&self.root, path, flags, 0o600)?, true))
    }

    /// Sets the mode and owner of a file that is written, and returns what shows whether it is written
    /// again.
    pub fn finish_file(&self, file: &TargetFile, entry: &FileEntry) -> Result<Stamp> {
        let done = self.set_attributes(&file.file, entry.mode).and_then(|()| file.file.metadata());
        done.map(|m| Stamp::of(&m)).doing("write", &self.path(entry))
    }

    /// The conditions under which stamps taken here mean anything.
    pub fn conditions(&self) -> Option<Conditions> {
        Conditions::of(&self.root)
    }

    /// What is known of the files, of which `stamps` are those written now.
    pub fn known(
        &self,
        backup: &str,
        conditions: Option<Conditions>,
        before: Option<&Known>,
        stamps: Vec<(usize, Stamp)>,
    ) -> Option<Known> {
        let known = known::stamps(before, backup, &self.root);
        let old = |(index, unchanged): (usize, &bool)| {
            known.get(index).copied().flatten().filter(|_| *unchanged)
        };
        let mut files: Vec<_> = self.found.unchanged.iter().enumerate().map(old).collect();
        for (index, stamp) in stamps {
            files[index] = Some(stamp);
        }
        Known::new(backup, &self.root, conditions, files)
    }

    /// Syncs one file.
    pub fn sync_file(&self, file: &TargetFile, entry: &FileEntry) -> Result<()> {
        file.file.sync_all().doing("write", &self.path(entry))
    }

    /// Syncs everything, with the whole file system.
    pub fn sync(&self) -> Result<()> {
        sys::sync_file_system(&self.root).doing("write", &self.path)
    }

    /// Sets the modes and owners of the directories, innermost first.
    pub fn finish_dirs(&self, manifest: &Manifest) -> Result<()> {
        // A server of ours works below it, and we remove it again: no manifest may keep us from that.
        let ours = if self.durable { 0 } else { 0o700 };
        for dir in manifest.dirs.iter().rev() {
            self.open_dir(&dir.path)
                .and_then(|d| self.set_attributes(&d, dir.mode | ours))
                .doing("write", &self.path.join(&dir.path))?;
        }
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::fchown(&self.root, Some(uid), Some(gid))
                .doing("write", &self.path),
            None => Ok(()),
        }
    }

    /// Ends the restore; a server may start.
    pub fn finish(&self) -> Result<()> {
        let finished = self.gate.as_ref().map_or(Ok(()), |gate| gate.finish(&self.root));
        finished.doing("finish", &self.path)
    }

    fn set_attributes(&self, file: &File, mode: u32) -> io::Result<()> {
        let is = file.metadata()?;
        if let Some((uid, gid)) = self.owner
            && (is.uid(), is.gid()) != (uid, gid)
        {
            std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        if is.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

fn check_empty(path: &Path) -> Result<()> {
    let fail = |e| Error::io("list", path, e);
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        // A file system's root has lost+found, and servers ignore it too.
        if name != "lost+found" {
            let (path, name) = (path.display(), name.to_string_lossy());
            return Err(Error::config(format!("{path} is not empty: it contains '{name}'")));
        }
    }
    Ok(())
}

/// Checks that the directory has room for what is not in it yet.
pub fn check_space(path: &Path, manifest: &Manifest, found: &Survey) -> Result<()> {
    let pieces = manifest.files.iter().flat_map(|f| f.pieces(manifest.block_size));
    let stored = pieces.filter(|p| matches!(p.block, Block::Stored(_)));
    let needed = stored.map(|p| p.length).sum::<u64>();
    check_room(path, needed.saturating_sub(found.kept + found.freed), Place::Other)
}
