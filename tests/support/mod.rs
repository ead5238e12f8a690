//! The harness of the tests: real servers on loopback, the real binary, and nothing left behind.
//!
//! Every child is killed by the kernel when the thread that started it ends, so start servers
//! and programs from the test's own thread. Files live below one directory per test process,
//! which a small watcher removes when the process is gone, however it went. Set
//! `ROLLFORWARD_KEEP=1` to keep them.
#![allow(unsafe_code, dead_code, unused_imports)]
// The watcher outlives us on purpose.
#![allow(clippy::zombie_processes)]

pub mod certificates;
pub mod compare;
pub mod flavor;
pub mod hostile;
pub mod intruder;
pub mod limits;
pub mod monitoring;
pub mod primary;
pub mod program;
pub mod proxy;
pub mod repository;
pub mod scene;
pub mod server;
pub mod small_disk;
pub mod template;
pub mod tricks;
pub mod writer;

pub use certificates::Certificates;
pub use compare::{Snapshot, assert_same, snapshot};
pub use primary::{Account, CLONE, DUMP, NIGHTLY, PASSWORD, Primary, Replica};
pub use program::{Checkpoint, Outcome, Rollforward, Running};
pub use proxy::Proxy;
pub use scene::{Scene, as_told};
pub use server::Server;
pub use writer::Writer;

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough for anything that should end, short enough to be waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The patience with one helper program: a package is packed, rules of a week are tried.
pub const HELPER_PATIENCE: Duration = Duration::from_secs(240);

/// Waits until `cond` gives a value. The one place that sleeps. Panics after `timeout`.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, mut cond: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = cond() {
            return value;
        }
        assert!(start.elapsed() < timeout, "waited {timeout:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `cond` is true. Panics after `timeout`.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut cond: impl FnMut() -> bool) {
    wait_for(what, timeout, || cond().then_some(()))
}

/// Returns from the test when there is no server to test with; fails where `CI` is set.
macro_rules! need_server {
    () => {
        if $crate::support::server_missing(module_path!()) {
            return;
        }
    };
}

/// Is there no `mariadbd` here? Says so loudly, and panics in CI.
pub fn server_missing(who: &str) -> bool {
    let installs = flavor::is_mysql() || find_program("mariadb-install-db").is_some();
    if find_program("mariadbd").is_some() && installs {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "mariadbd is not installed: 'make deps'");
    // Not eprintln: the test runner swallows that when the test passes.
    let line = format!("\n*** SKIPPED, mariadbd is not installed ('make deps'): {who} ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

/// Says loudly that a test, or a part of one, was left out.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED, {why} ***\n").as_bytes());
}

/// strace is missing: loudly, and a failure in CI.
pub fn strace_missing() -> bool {
    if find_program("strace").is_some() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "strace is not installed");
    let _ = std::io::stderr().write_all(b"\n*** SKIPPED, strace is not installed ***\n");
    true
}

/// Rows on the primary of a test under load: `ROLLFORWARD_ROWS`, or `few`, where time is short.
pub fn rows(few: u32) -> u32 {
    let more = std::env::var("ROLLFORWARD_ROWS").ok().filter(|v| !v.is_empty());
    more.map_or(few, |v| v.parse().unwrap_or_else(|_| panic!("ROLLFORWARD_ROWS: '{v}'")))
}

/// A program by MariaDB's name of it: of the chosen server, from PATH or the directories of
/// system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let name = flavor::program(name);
    let bin = flavor::chosen().bin.clone();
    bin.into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|d| d.join(name))
        .find(|p| p.is_file())
}

/// Are we root?
pub fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to one process.
#[track_caller]
pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "will not signal {pid}");
    // SAFETY: kill takes plain numbers.
    let sent = unsafe { libc::kill(pid, signal) };
    assert!(sent == 0, "kill({pid}, {signal}): {}", std::io::Error::last_os_error());
}

/// The same for one that may have ended meanwhile: says whether it was there.
pub fn try_kill(pid: i32, signal: i32) -> bool {
    assert!(pid > 1, "will not signal {pid}");
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Is there such a process, and is it more than a zombie?
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim_start().starts_with(['Z', 'X']))
}

/// Traces all threads of a process and never looks at them again, so that nobody can reap it before
/// our own thread ends. False where that is not allowed.
pub fn trace(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ids = threads.filter_map(|t| t.file_name().to_string_lossy().parse::<i32>().ok());
    let none = std::ptr::null_mut::<libc::c_void>();
    for id in ids {
        // SAFETY: it takes a number; the two pointers are not used.
        if unsafe { libc::ptrace(libc::PTRACE_SEIZE, id, none, none) } != 0 {
            return false;
        }
    }
    true
}

/// Lets the kernel kill the command's process when our thread ends.
pub fn die_with_us(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl, getppid and _exit are called.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 != parent {
                libc::_exit(127);
            }
            Ok(())
        });
    }
}

/// Kills the child and collects it.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    wait_until("the end of a killed child", PATIENCE, || {
        child.try_wait().map_or(true, |s| s.is_some())
    });
}

/// Runs a helper program to its end with the input given. Panics unless it ends 0.
#[track_caller]
pub fn run_helper(command: &mut Command, input: &str) -> String {
    let (good, out, err) = try_helper(command, input, HELPER_PATIENCE);
    assert!(good, "{command:?} failed\n{out}\n{err}");
    out
}

/// The same however it ends: whether that was well, its output, its errors.
#[track_caller]
pub fn try_helper(
    command: &mut Command,
    input: &str,
    patience: Duration,
) -> (bool, String, String) {
    let log = TempDir::new("helper");
    let file = |name: &str| fs::File::create(log.path().join(name)).unwrap();
    fs::write(log.path().join("in"), input).unwrap();
    command
        .stdin(fs::File::open(log.path().join("in")).unwrap())
        .stdout(file("out"))
        .stderr(file("err"));
    die_with_us(command);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > patience {
            end(&mut child);
            panic!("{command:?} did not end within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |name: &str| fs::read(log.path().join(name)).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    (status.success(), text("out"), text("err"))
}

/// Processes, other than ours, that have `dir` in their command line.
pub fn processes_under(dir: &Path) -> Vec<i32> {
    let dir = dir.to_string_lossy().into_owned();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok())
        .filter(|pid| *pid != std::process::id() as i32 && alive(*pid))
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|c| String::from_utf8_lossy(&c).contains(&dir))
        })
        .collect()
}

/// A directory of its own, removed on drop with every process that still works in it.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes a new empty one, 0700. The name is kept short: sockets go below it.
    pub fn new(name: &str) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base().join(format!("{n}-{name}"));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
        TempDir(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if keep() {
            return;
        }
        // The trailing slash keeps `1-a` from matching `1-ab`.
        for pid in processes_under(&self.0.join("")) {
            // SAFETY: kill takes plain numbers; the directory's name is ours alone.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let start = Instant::now();
        while fs::remove_dir_all(&self.0).is_err() && self.0.exists() {
            if start.elapsed() > Duration::from_secs(5) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn keep() -> bool {
    std::env::var_os("ROLLFORWARD_KEEP").is_some_and(|v| v == "1")
}

/// The directory of this test process. A watcher removes it when our end of its pipe closes.
fn base() -> &'static Path {
    static BASE: OnceLock<(PathBuf, Option<ChildStdin>)> = OnceLock::new();
    let (path, _) = BASE.get_or_init(|| {
        let path = (0..)
            .map(|n| std::env::temp_dir().join(format!("rf-test-{}-{n}", std::process::id())))
            .find(|p| {
                use std::os::unix::fs::DirBuilderExt;
                match fs::DirBuilder::new().mode(0o700).create(p) {
                    Ok(()) => true,
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
                    Err(e) => panic!("mkdir {}: {e}", p.display()),
                }
            })
            .expect("a free name");
        if keep() {
            return (path, None);
        }
        // Servers die with us at the same moment and may still write a file: so a few tries. What
        // a child of ours has started, as under strace, does not: it has our directory among its
        // arguments.
        let script = "cat >/dev/null; umount -l \"$1\"/*/disk 2>/dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do \
                      for p in $(grep -alF -- \"$1/\" /proc/[0-9]*/cmdline 2>/dev/null); do \
                      p=${p#/proc/} && kill -9 \"${p%/*}\" 2>/dev/null; done; \
                      rm -rf -- \"$1\" && exit; sleep 0.2; done";
        let mut watcher = Command::new("sh")
            .args(["-c", script, "watcher"])
            .arg(&path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let pipe = watcher.stdin.take();
        (path, pipe)
    });
    path
}
