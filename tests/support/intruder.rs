//! What somebody else puts where something of ours belongs, once or all the while.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{is_root, run_helper};

/// What may lie where something else belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// That nobody writes to.
    Pipe,
    /// That nobody listens on.
    Socket,
    /// That gives bytes without end.
    Device,
    /// With something in it.
    Directory,
    /// With a line of text.
    File,
    /// To what is outside, and not ours.
    Link,
    /// To nothing.
    Dangling,
}

/// All of them.
pub const ALL: [Kind; 7] = [
    Kind::Pipe,
    Kind::Socket,
    Kind::Device,
    Kind::Directory,
    Kind::File,
    Kind::Link,
    Kind::Dangling,
];

impl Kind {
    /// Puts it there, in place of what may be there; `outside` has something of the kind that
    /// belongs there.
    pub fn put(self, at: &Path, outside: &Path) {
        match at.symlink_metadata() {
            Ok(m) if m.is_dir() => fs::remove_dir_all(at).unwrap(),
            Ok(_) => fs::remove_file(at).unwrap(),
            Err(_) => {}
        }
        match self {
            Kind::Pipe => drop(run_helper(Command::new("mkfifo").arg(at), "")),
            Kind::Socket => {
                // Its own name may be too long to bind to.
                let short = outside.with_file_name("s");
                drop(UnixListener::bind(&short).unwrap());
                fs::rename(short, at).unwrap();
            }
            // One that gives bytes without end, where we may make it; a link to it elsewhere.
            Kind::Device if is_root() => {
                let script = "mknod \"$1\" c 1 5 2>/dev/null || ln -s /dev/zero \"$1\"";
                run_helper(Command::new("sh").args(["-c", script, "sh"]).arg(at), "");
            }
            Kind::Device => symlink("/dev/zero", at).unwrap(),
            Kind::Directory => {
                fs::create_dir(at).unwrap();
                fs::write(at.join("precious"), "precious").unwrap();
            }
            Kind::File => fs::write(at, "something else\n").unwrap(),
            Kind::Link => symlink(outside, at).unwrap(),
            Kind::Dangling => symlink("nowhere/at/all", at).unwrap(),
        }
    }
}

/// A directory outside, with files called like those of a repository and of a database and like
/// nothing in them. None may be touched.
pub fn outside(dir: &Path) -> PathBuf {
    let outside = dir.join("outside");
    for dir in ["", "sub", "shop"].map(|name| outside.join(name)) {
        fs::create_dir_all(&dir).unwrap();
        for name in ["precious", "format", "ibdata1", "t0.ibd", "t1.frm", "db.opt", "surplus"] {
            fs::write(dir.join(name), "precious").unwrap();
        }
    }
    outside
}

/// Exchanges a name and a link all the while, until it is dropped.
pub struct Swapper {
    stop: Arc<AtomicBool>,
    /// How many exchanges there were.
    pub swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// `place` need not be there yet. It is what it was whenever `link` is a link.
    pub fn start(place: &Path, link: &Path) -> Swapper {
        let c_string = |p: &Path| CString::new(p.as_os_str().as_bytes()).unwrap();
        let (place, link) = (c_string(place), c_string(link));
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            let exchange = || {
                // SAFETY: both are valid C strings.
                let done = unsafe {
                    let here = libc::AT_FDCWD;
                    let flags = libc::RENAME_EXCHANGE;
                    libc::renameat2(here, place.as_ptr(), here, link.as_ptr(), flags)
                };
                done == 0
            };
            while !stopped.load(Ordering::Relaxed) {
                if exchange() {
                    counted.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                    exchange();
                }
                std::thread::yield_now();
            }
        });
        Swapper { stop, swaps, thread: Some(thread) }
    }

    /// The number of its exchanges.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

/// Also when the test fails: the next one would share the processors with it.
impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
