//! A lock file that names its holder.
//!
//! The lock is the kernel's flock on the open file: it ends with the process, however that ends,
//! and a leftover file blocks nothing. The text in it is only for people. The file is never
//! removed, since another process might lock the removed one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, IoExt, Result};
use crate::os::clock::Timestamp;

/// A lock, released on drop.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Locks the file `path` for `command`, such as `rollforward run`, or fails naming the holder.
pub fn lock_file(path: &Path, command: &str) -> Result<LockFile> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .doing("open", path)?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(Error::config(format!("{} is not a file: remove it", path.display())));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::Locked { path: path.to_path_buf(), holder: holder(&file) });
        }
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
    }
    let since = Timestamp::now().rfc3339();
    let text = format!("pid {} ({command} since {since})\n", std::process::id());
    // A full disk must not keep a prune from freeing space, and the text is only for people.
    let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    Ok(LockFile { _file: file })
}

fn holder(file: &File) -> String {
    let mut text = Vec::new();
    let _ = file.take(200).read_to_end(&mut text);
    let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
    if line.is_empty() {
        // The holder has just locked it and not written yet, or had no space to write.
        return "another process".into();
    }
    line.iter().map(|&b| if matches!(b, b' '..=b'~') { char::from(b) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_the_holder_until_it_drops() {
        let path = std::env::temp_dir().join(format!("rf-unit-lock-{}", std::process::id()));
        std::fs::write(&path, "pid 1 (left by a dead process, and a longer text than ours is)")
            .unwrap();
        let first = lock_file(&path, "rollforward run").unwrap();
        let holder = match lock_file(&path, "rollforward prune") {
            Err(Error::Locked { holder, .. }) => holder,
            other => panic!("{other:?}"),
        };
        let start = format!("pid {} (rollforward run since 2", std::process::id());
        assert!(holder.starts_with(&start) && holder.ends_with("Z)"), "{holder}");
        drop(first);
        lock_file(&path, "rollforward prune").unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
