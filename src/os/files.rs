//! Reads and replaces files in directories where anyone may have planted something else.
//!
//! A user who can write to a repository or scratch directory can put a pipe, a device, a link or an
//! endless file where a small text is expected. So opening never blocks, reads have a limit, and a
//! directory is listed and emptied through its descriptor, which no link can replace. The caller
//! decides which links may be followed.

use std::fs::{self, File, OpenOptions, ReadDir};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::IoExt as _;
use crate::os::sys;

/// How long a pipe given by the user may stay silent. Its writer may be fetching a password from
/// another machine.
const SILENCE: Duration = Duration::from_secs(30);

/// Opens a regular file for reading and fails at once on anything else.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// Like [`open`], but refuses symbolic links too.
pub fn open_no_link(path: &Path) -> io::Result<File> {
    open_with(path, libc::O_NOFOLLOW)
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// True for an error that says nothing about what the file is: the system had no descriptor or memory
/// left, could not read the disk, or keeps it for another user.
pub fn hides_file(error: &io::Error) -> bool {
    let hiding = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO, libc::EACCES];
    error.raw_os_error().is_some_and(|errno| hiding.contains(&errno))
}

/// True for a file with an execute bit.
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Reads a file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_open(open(path)?, most)
}

/// Reads an open file and fails if it holds more than `most` bytes.
pub fn read_open(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long(most)) } else { Ok(bytes) }
}

/// Reads a file named by the user, which may be a pipe such as the shell's `<(...)`. Gives up on a
/// pipe that stays silent.
pub fn read_user_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?;
    if kind.is_file() {
        return read_open(file, most);
    }
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut until = Instant::now() + SILENCE;
    // Wait before each read: a pipe whose writer has not opened it yet looks like one at its end.
    while sys::wait_readable(&file, until.saturating_duration_since(Instant::now()))? {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock) => continue,
            Err(e) => return Err(e),
        }
        if bytes.len() as u64 > most {
            return Err(too_long(most));
        }
        until = Instant::now() + SILENCE;
    }
    let text = format!("it produced no data for {} seconds", SILENCE.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

fn too_long(most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {most} bytes"))
}

/// Replaces `path` atomically by a file with `text` and these permissions. The text is first
/// written to `path` with `.new` appended.
pub fn replace(path: &Path, text: &str, mode: u32, durably: bool) -> io::Result<()> {
    // What a user named by mistake must not cost the machine a device.
    let is_device = |kind: fs::FileType| kind.is_char_device() || kind.is_block_device();
    if path.symlink_metadata().is_ok_and(|meta| is_device(meta.file_type())) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a device"));
    }
    let new = new_of(path);
    // Never write into an existing link or pipe: the directory may belong to mysqld's user.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    let written = (|| {
        // Independent of the umask.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    })();
    if let Err(e) = written {
        // On a full disk, half a file helps nobody.
        let _ = fs::remove_file(&new);
        return Err(e);
    }
    if durably && let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Fails as [`replace`] would for lack of permission. Leaves nothing, and `path` as it is.
pub fn try_replace(path: &Path) -> io::Result<()> {
    let new = new_of(path);
    let _ = fs::remove_file(&new);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    fs::remove_file(&new)
}

fn new_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Opens a directory itself, not the target of a symbolic link in its place.
pub fn open_dir(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// What `path` is instead of a directory, to be said after its name.
pub fn no_directory(path: &Path) -> String {
    match fs::read_link(path) {
        Ok(to) => format!("is a symbolic link to {}", to.display()),
        Err(_) => "is not a directory".into(),
    }
}

/// A path to an open directory that stays valid when its name changes.
pub fn path_of(dir: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string())
}

/// Lists an open directory. The entries' metadata come through the descriptor as well.
pub fn list(dir: &File) -> io::Result<ReadDir> {
    fs::read_dir(path_of(dir))
}

/// Removes everything in an open directory, which may take minutes, or part of it if `stopped` says
/// so between two files. Several threads may do so at once: what one finds gone, another is removing.
pub fn empty(dir: &File, stopped: &dyn Fn() -> bool) -> io::Result<()> {
    for entry in list(dir)? {
        if stopped() {
            break;
        }
        let removed = entry.and_then(|entry| {
            let (name, is_dir) = (entry.file_name(), entry.file_type()?.is_dir());
            if is_dir {
                empty(&open_dir(&path_of(dir).join(&name))?, stopped)?;
                if stopped() {
                    return Ok(());
                }
            }
            remove(dir, Path::new(&name), is_dir)
        });
        removed.ignoring(io::ErrorKind::NotFound)?;
    }
    Ok(())
}

/// Removes the entry `name` of an open directory; of a link, the link itself.
pub fn remove(dir: &File, name: &Path, is_dir: bool) -> io::Result<()> {
    let path = path_of(dir).join(name);
    if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_hides_what_a_file_is() {
        let of = io::Error::from_raw_os_error;
        assert!(hides_file(&of(libc::EACCES)) && hides_file(&of(libc::EMFILE)));
        assert!(!hides_file(&of(libc::ENOENT)) && !hides_file(&of(libc::ELOOP)));
    }
}
