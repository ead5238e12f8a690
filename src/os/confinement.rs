//! What a child may write: Landlock, set in the child before exec.
//!
//! The server replays what its primary sends, and some of it may be hostile: a statement can name
//! any file that the server may write. So every program of the server's package may read and
//! execute what it likes, write only below the directories that it was given, gain no privileges
//! and leave no core file, which would hold all data. A kernel without Landlock leaves the rest.
//! Numbers and structures: landlock(7), linux/landlock.h.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// The first version that lets files be renamed from one directory to another, as a RENAME TABLE
/// between databases does.
const ABI: i64 = 2;
/// The first version that knows of truncating files.
const ABI_TRUNCATE: i64 = 3;

const WRITE_FILE: u64 = 1 << 1;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
/// Character devices, directories, files, sockets, pipes, block devices, links.
const MAKE_ANY: u64 = 0b111_1111 << 6;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

/// Asks for the version instead of a ruleset.
const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_ruleset_attr`, as of its first version.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The directories below which a child may write.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    writable: Vec<PathBuf>,
}

impl Confinement {
    /// Writing below `dir` only.
    pub fn below(dir: &Path) -> Confinement {
        Confinement { writable: vec![dir.to_path_buf()] }
    }

    /// Confines `command`: takes effect in the child, before exec.
    ///
    /// # Errors
    /// When a directory cannot be opened, or the kernel refuses what it offers.
    pub fn apply(&self, command: &mut Command) -> io::Result<()> {
        let ruleset = self.ruleset()?;
        // SAFETY: between fork and exec only setrlimit, prctl and a plain system call are made,
        // which are async-signal-safe; nothing is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                if libc::setrlimit(libc::RLIMIT_CORE, &none) != 0
                    || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                if let Some(ruleset) = &ruleset
                    && libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// The rules, where the kernel has them.
    fn ruleset(&self) -> io::Result<Option<OwnedFd>> {
        let Some(abi) = abi() else { return Ok(None) };
        let mut handled = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_ANY | REFER;
        if abi >= ABI_TRUNCATE {
            handled |= TRUNCATE;
        }
        let attr = RulesetAttr { handled_access_fs: handled };
        // SAFETY: the pointer is to a live structure of the size that is given.
        let fd = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, &attr, size_of::<RulesetAttr>(), 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours alone.
        let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        for dir in &self.writable {
            allow(&ruleset, dir, handled)?;
        }
        // What scripts and servers throw away.
        allow(&ruleset, Path::new("/dev/null"), handled & (WRITE_FILE | TRUNCATE))?;
        Ok(Some(ruleset))
    }
}

fn allow(ruleset: &OwnedFd, path: &Path, access: u64) -> io::Result<()> {
    let parent = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let rule = PathBeneathAttr { allowed_access: access, parent_fd: parent.as_raw_fd() };
    // SAFETY: the pointer is to a live structure of the kind that the rule's type names.
    let added = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &rule, 0)
    };
    if added != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of Landlock, if the kernel has one that is of use; said once where it has none.
fn abi() -> Option<i64> {
    // SAFETY: without a structure only the version is asked for.
    let abi = unsafe {
        let none: *const RulesetAttr = std::ptr::null();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_RULESET_VERSION)
    };
    if abi >= ABI {
        return Some(abi);
    }
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        log::debug!("this kernel has no Landlock of use: nothing confines what children write");
    });
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::{Child, Exit, command};

    #[test]
    fn a_child_writes_below_its_directory_only() {
        if abi().is_none() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("rf-unit-confined-{}", std::process::id()));
        let (inside, outside) = (dir.join("inside"), dir.join("outside"));
        std::fs::create_dir_all(inside.join("a")).unwrap();
        std::fs::create_dir_all(inside.join("b")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("old"), "old").unwrap();
        let run = |script: &str| {
            let mut sh = command("sh");
            sh.args(["-c", script]).current_dir(&dir).stderr(std::process::Stdio::null());
            Confinement::below(&inside).apply(&mut sh).unwrap();
            let mut child = Child::spawn(&mut sh).unwrap();
            loop {
                match child.try_wait() {
                    Some(exit) => break exit == Exit::Status(0),
                    None => std::thread::yield_now(),
                }
            }
        };
        assert!(run("echo x >inside/a/x && mv inside/a/x inside/b/y && rm inside/b/y"));
        assert!(run("cat outside/old >/dev/null && mkdir inside/c && rmdir inside/c"));
        for bad in [
            "echo x >outside/new",
            "echo x >>outside/old",
            ": >outside/old",
            "rm outside/old",
            "mkdir outside/dir",
            "ln -s x outside/link",
            "touch inside/z && mv inside/z outside/z",
        ] {
            assert!(!run(bad), "{bad}");
        }
        assert!(run("[ \"$(ulimit -c)\" = 0 ] && [ \"$(ulimit -H -c)\" = 0 ]"));
        assert_eq!(std::fs::read_to_string(outside.join("old")).unwrap(), "old");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
