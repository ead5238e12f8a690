//! A file system that is soon full: a tmpfs where one may be mounted, else a directory that a
//! preloaded library makes play the part.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{TempDir, run_helper};

/// It, unmounted on drop.
pub struct SmallDisk {
    path: PathBuf,
    bytes: u64,
    mounted: bool,
    _dir: TempDir,
}

impl SmallDisk {
    /// One of so many bytes. `ROLLFORWARD_PRELOAD=1` takes the second way in any case.
    pub fn new(name: &str, bytes: u64) -> SmallDisk {
        let dir = TempDir::new(name);
        let path = dir.path().join("disk");
        fs::create_dir(&path).unwrap();
        let c = |text: &[u8]| CString::new(text).unwrap();
        let (at, tmpfs) = (c(path.as_os_str().as_bytes()), c(b"tmpfs"));
        let options = c(format!("size={bytes},mode=700").as_bytes());
        let wanted = std::env::var_os("ROLLFORWARD_PRELOAD").is_none();
        // SAFETY: all are C strings that outlive the call.
        let mounted = wanted
            && unsafe {
                let (tmpfs, at) = (tmpfs.as_ptr(), at.as_ptr());
                libc::mount(tmpfs, at, tmpfs, 0, options.as_ptr().cast()) == 0
            };
        SmallDisk { path, bytes, mounted, _dir: dir }
    }

    /// A directory that is full for whoever is started with the wrapper, and for nobody else.
    pub fn full(path: &Path) -> SmallDisk {
        let dir = TempDir::new("full");
        SmallDisk { path: path.to_path_buf(), bytes: 0, mounted: false, _dir: dir }
    }

    /// A path on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// For [`super::Rollforward::under`]: what makes the program see it.
    pub fn wrapper(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["env".into()];
        if !self.mounted {
            let library = self._dir.path().join("full_disk.so");
            if !library.exists() {
                let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
                let mut cc = Command::new("cc");
                cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
                run_helper(cc.arg(source.join("full_disk.c")).args(["-ldl", "-pthread"]), "");
            }
            line.push(format!("LD_PRELOAD={}", library.display()).into());
            line.push(format!("RF_DISK={}", self.path.display()).into());
            line.push(format!("RF_DISK_BYTES={}", self.bytes).into());
        }
        line
    }

    /// Options for a server on it: what it writes past the C library is not seen by the second
    /// way.
    pub fn server_options(&self) -> &'static [&'static str] {
        if self.mounted { &[] } else { &["--mysqld-option=--innodb-use-native-aio=0"] }
    }

    /// Bytes free.
    pub fn free(&self) -> u64 {
        self.bytes.saturating_sub(space(&self.path))
    }

    /// Leaves at most so many bytes free.
    pub fn leave(&self, bytes: u64) {
        let mut more = self.free().saturating_sub(bytes);
        while more > 0 {
            let n = more.min(1 << 20) as usize;
            let name = (0..).map(|n| self.path(&format!("filler-{n}"))).find(|p| !p.exists());
            if fs::write(name.unwrap(), vec![1; n]).is_err() {
                break;
            }
            more -= n as u64;
        }
    }

    /// Gives back what [`SmallDisk::leave`] took.
    pub fn make_room(&self) {
        for entry in fs::read_dir(&self.path).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// Bytes that everything below a directory takes.
pub fn space(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => space(&e.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            for pid in super::processes_under(&self.path) {
                // SAFETY: kill takes plain numbers; the directory's name is ours alone.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            let at = CString::new(self.path.as_os_str().as_bytes()).unwrap();
            // SAFETY: a C string that outlives the call. Lazily: a server may be on its way out.
            unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        }
    }
}
