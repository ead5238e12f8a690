//! Files that may be something else than a file: opened without waiting, read up to a limit.
//!
//! Whoever can write into a repository or a scratch directory can put a pipe, a device, a link
//! or a file without an end where we look for a small text. Opening never waits here, memory
//! has a limit, and a directory is listed and emptied by its descriptor, so that nobody can put
//! a link in its place meanwhile. Who may be followed where is the caller's business.

use std::fs::{self, File, OpenOptions, ReadDir};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::os::sys;

/// How long nothing may come out of a pipe that was named to us: somebody may have to look a
/// password up on another machine.
const SILENCE: Duration = Duration::from_secs(30);

/// Opens a file for reading; fails at once on anything that is no file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same, and a symbolic link is no file either.
pub fn open_no_link(path: &Path) -> io::Result<File> {
    open_with(path, libc::O_NOFOLLOW)
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(file)
}

/// Is it a file that somebody may execute?
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Reads a file of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_open(open(path)?, most)
}

/// The same of one that is open; fails when there is more in it.
pub fn read_open(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long(most)) } else { Ok(bytes) }
}

/// Reads what a user named, which may be a pipe too, as shells make them of `<(...)`. One that
/// nothing comes out of is given up on.
pub fn read_given(path: &Path, most: u64) -> io::Result<Vec<u8>> {
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
    // Asked before each read: a pipe whose writer is yet to come looks like one at its end.
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
    let text = format!("nothing came out of it for {} seconds", SILENCE.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

fn too_long(most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes"))
}

/// Replaces `path` by a file with `text` and these permissions, whole or not at all. Until then it
/// is `path` with `.new` behind it.
pub fn replace(path: &Path, text: &str, mode: u32, durably: bool) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // Never into what is there already, as a link or a pipe: the directory may belong to the
    // private mysqld's user.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    let written = (|| {
        // Whatever the umask takes away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    })();
    if let Err(e) = written {
        // Half of it, on a full disk, is of no use to anybody.
        let _ = fs::remove_file(&new);
        return Err(e);
    }
    if durably && let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Opens a directory itself, not what a symbolic link in its place points to.
pub fn open_dir(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// A path to an open directory that stays the same whatever becomes of its name.
pub fn path_of(dir: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string())
}

/// Lists an open directory. The entries' metadata are asked for below it as well.
pub fn list(dir: &File) -> io::Result<ReadDir> {
    fs::read_dir(path_of(dir))
}

/// Removes what is in an open directory, with all that is below it.
pub fn empty(dir: &File) -> io::Result<()> {
    for entry in list(dir)? {
        let entry = entry?;
        remove(dir, Path::new(&entry.file_name()), entry.file_type()?.is_dir())?;
    }
    Ok(())
}

/// Removes the entry `name` of an open directory; of a link the link itself.
pub fn remove(dir: &File, name: &Path, is_dir: bool) -> io::Result<()> {
    let path = path_of(dir).join(name);
    if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
