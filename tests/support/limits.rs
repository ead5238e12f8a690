//! Limits to run the program under: a memory cgroup of its own, or its address space.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{PATIENCE, TempDir, run_helper, wait_until};

/// A wrapper for [`super::Rollforward::under`]: at most so many bytes of address space.
pub fn address_space(bytes: u64) -> [OsString; 3] {
    ["prlimit".into(), format!("--as={bytes}").into(), "--".into()]
}

/// A wrapper for [`super::Rollforward::under`]: no file larger than so many bytes.
pub fn file_size(bytes: u64) -> [OsString; 3] {
    ["prlimit".into(), format!("--fsize={bytes}").into(), "--".into()]
}

/// A wrapper for [`super::Rollforward::under`]: so many open files, `SOFT:HARD`.
pub fn open_files(limits: &str) -> [OsString; 3] {
    ["prlimit".into(), format!("--nofile={limits}").into(), "--".into()]
}

/// A cgroup of version 1 (of one controller) or 2, removed on drop when nobody is in it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// One with at most so many bytes of memory and no swap; `None` where we may not make any.
    pub fn with_memory(bytes: u64) -> Option<Cgroup> {
        let limit = bytes.to_string();
        let mount = Path::new("/sys/fs/cgroup");
        if let Some(made) = Cgroup::make(&mount.join("memory")) {
            made.set("memory.limit_in_bytes", &limit)?;
            let _ = fs::write(made.0.join("memory.memsw.limit_in_bytes"), &limit);
            return Some(made);
        }
        let _ = fs::write(mount.join("cgroup.subtree_control"), "+memory");
        let made = Cgroup::make(mount)?;
        made.set("memory.max", &limit)?;
        let _ = fs::write(made.0.join("memory.swap.max"), "0");
        Some(made)
    }

    /// One of version 1 whose processes can be frozen: then not even a kill ends them.
    pub fn freezer() -> Option<Cgroup> {
        Cgroup::make(Path::new("/sys/fs/cgroup/freezer"))
    }

    /// One whose share of the processor can be made small.
    pub fn with_cpu() -> Option<Cgroup> {
        let mount = Path::new("/sys/fs/cgroup");
        if let Some(made) = Cgroup::make(&mount.join("cpu")) {
            // Others on this machine must not make it slower still.
            made.set("cpu.shares", "20480")?;
            return Some(made);
        }
        let _ = fs::write(mount.join("cgroup.subtree_control"), "+cpu");
        Cgroup::make(mount)
    }

    /// Lets it have so many thousandths of a core from now on.
    #[track_caller]
    pub fn allow(&self, thousandths: u32) {
        let quota = thousandths * 100;
        let old = self.set("cpu.cfs_quota_us", &quota.to_string());
        old.or_else(|| self.set("cpu.max", &format!("{quota} 100000"))).expect("a quota");
    }

    /// What a shell says to go in here with all that it starts.
    pub fn enter(&self) -> String {
        format!("echo $$ >{}/cgroup.procs", self.0.display())
    }

    fn make(below: &Path) -> Option<Cgroup> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = below.join(format!("rf-test-{}-{n}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let made = Cgroup(path);
        made.0.join("cgroup.procs").exists().then_some(made)
    }

    fn set(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.0.join(file), text).ok()
    }

    /// A wrapper for [`super::Rollforward::under`] that moves the program in here.
    pub fn wrapper(&self) -> [OsString; 4] {
        let script = format!("{} && exec \"$@\"", self.enter());
        ["sh".into(), "-c".into(), script.into(), "sh".into()]
    }

    /// Moves a process in here.
    #[track_caller]
    pub fn take(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Freezes all in here, and waits until they are.
    #[track_caller]
    pub fn freeze(&self) {
        let state = self.0.join("freezer.state");
        fs::write(&state, "FROZEN").unwrap();
        let is_frozen = || fs::read_to_string(&state).unwrap().trim() == "FROZEN";
        wait_until("a frozen cgroup", PATIENCE, is_frozen);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
    }
}

/// Files in place of those of the cgroup file systems, which a preloaded library shows to the
/// program: for where no cgroup may be made.
pub struct FakeCgroup(TempDir);

impl FakeCgroup {
    /// One whose files have these contents, by their paths.
    pub fn new(files: &[(&str, &str)]) -> FakeCgroup {
        let dir = TempDir::new("cgroup");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cgroup.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("cgroup.so"));
        run_helper(cc.arg(source).arg("-ldl"), "");
        FakeCgroup(dir)
    }

    /// Where the file is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A wrapper for [`super::Rollforward::under`] that shows it.
    pub fn wrapper(&self) -> [OsString; 3] {
        let library = self.path("cgroup.so");
        let preload = format!("LD_PRELOAD={}", library.display());
        ["env".into(), preload.into(), format!("RF_CGROUP={}", self.0.path().display()).into()]
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.thaw();
        let start = std::time::Instant::now();
        while fs::remove_dir(&self.0).is_err() && start.elapsed().as_secs() < 5 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
