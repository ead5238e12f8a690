//! The scratch directory: exclusively ours, locked, with a record of what its data is.
//!
//! `state` records which backup the data came from, in which boot, and which mysqld runs on it. It
//! is written before the data changes its nature, so that data of unknown nature is never used: it
//! marks a partial restore, and data whose mysqld was not shut down.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, IoExt, Result};
use crate::mysql::flavor::Flavor;
use crate::os::files;
use crate::os::lock::{LockFile, lock_file};
use crate::os::process::{KILL_TIMEOUT, is_gone};
use crate::os::stamp::boot_id;
use crate::os::sys;
use crate::report::checkpoint::{self, Facts};
use crate::server::mysqld::{Mysqld, forget_login};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::text::system_text;

use crate::scratch::crash_safety;
use crate::scratch::foreign;
use crate::scratch::removal::{self, remove_all};
use crate::scratch::run_as::run_as;
use crate::scratch::unlogged_ddl::Doubt;
use crate::supervisor::watched::Nothing;

/// The relay logs that are kept beside the data.
pub(super) const JOURNAL: &str = "journal";
/// Data that is being removed.
const OLD_DATA: &str = "data.old";

/// The state of the data in the scratch directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Being restored or dumped into; useful only for its equal blocks.
    Partial,
    /// Restored and perhaps partly caught up; can be resumed.
    Ready,
    /// Kept by a pass that succeeded.
    Kept,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Partial => "partial",
            Stage::Ready => "ready",
            Stage::Kept => "kept",
        }
    }
}

/// The scratch directory, locked.
pub struct Scratch {
    root: PathBuf,
    user: Option<(u32, u32)>,
    state: Facts,
    _lock: LockFile,
    /// One of `--slots`, as long as a server or what it left may be here.
    pub slot: Option<LockFile>,
}

impl Scratch {
    /// Opens or creates the scratch directory at `root` and locks it. `others` are files of ours
    /// that the user may have put there; `user` is `--mysqld-user`.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it contains foreign files, [`Error::Locked`].
    pub fn open(
        root: &Path,
        others: &[PathBuf],
        user: Option<&str>,
        command: &str,
    ) -> Result<Scratch> {
        foreign::check(root, others)?;
        if !root.exists() {
            let made = fs::DirBuilder::new().mode(0o700).create(root);
            made.map_err(|e| foreign::cannot_be(root, &system_text(&e)))?;
        }
        let root = root.canonicalize().doing("open", root)?;
        let lock = lock_file(&root.join("lock"), command)?;
        let state = match checkpoint::read(&root.join("state")) {
            Ok(state) => state.unwrap_or_default(),
            Err(why) => {
                log::warn!("ignoring the scratch data: cannot read its state file: {why}");
                Facts::new()
            }
        };
        let user = run_as(&root, user)?;
        let scratch = Scratch { root, user, state, _lock: lock, slot: None };
        scratch.make_tmp()?;
        Ok(scratch)
    }

    /// A directory of the same kind, `name` within this one, for a server beside the data here.
    pub(super) fn within(&self, name: &str) -> Result<Scratch> {
        self.claim()?;
        self.make_dir(name)?;
        Scratch::at(self.root.join(name), self.user, "prove")
    }

    /// The same in the directory `root`, for a server that runs as `user`.
    ///
    /// # Errors
    /// [`Error::Locked`]; when it cannot be written.
    pub fn at(root: PathBuf, user: Option<(u32, u32)>, command: &str) -> Result<Scratch> {
        let lock = lock_file(&root.join("lock"), command)?;
        let state = checkpoint::read(&root.join("state")).unwrap_or_default().unwrap_or_default();
        let scratch = Scratch { root, user, state, _lock: lock, slot: None };
        scratch.make_tmp()?;
        Ok(scratch)
    }

    /// Its absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The user of the private mysqld, if not our own.
    pub fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Records the state of the data and the backup it came from.
    ///
    /// # Errors
    /// When the state file cannot be written; then the data must not be touched.
    pub fn set_stage(&mut self, stage: Stage, base: Option<&str>) -> Result<()> {
        self.state.insert("stage".into(), stage.name().into());
        self.state.insert("boot".into(), boot_id());
        self.state.remove("doubtful");
        self.state.remove("upgraded");
        match base {
            Some(base) => self.state.insert("base".into(), base.into()),
            None => self.state.remove("base"),
        };
        self.save()
    }

    /// Records that the data was upgraded to `version`, unlike its base.
    pub fn set_upgraded(&mut self, version: &str) -> Result<()> {
        self.state.insert("upgraded".into(), version.into());
        self.save()
    }

    /// The version that the data was upgraded to, if any.
    pub fn upgraded(&self) -> Option<&str> {
        self.state.get("upgraded").map(String::as_str)
    }

    /// Records that `mysqld` runs on the data, and whether the data is in doubt until its position
    /// is known.
    pub fn set_running(&mut self, mysqld: &Mysqld, doubtful: bool) -> Result<()> {
        self.state.remove("replicating");
        if doubtful {
            self.state.insert("doubtful".into(), "yes".into());
        }
        self.state.insert("mysqld_pid".into(), mysqld.pid().to_string());
        self.state.insert("mysqld_start".into(), mysqld.start_time().to_string());
        self.save()
    }

    /// Records that replication starts on data that is no longer in doubt: changes from now on come
    /// from the primary.
    pub fn set_replicating(&mut self) -> Result<()> {
        if self.state.contains_key("replicating") {
            return Ok(());
        }
        self.state.remove("doubtful");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.state.insert("replicating".into(), now.as_millis().to_string());
        self.save()
    }

    /// What is in doubt about data whose mysqld was killed. Call it before the relay logs go.
    ///
    /// # Errors
    /// Says why that is unknown.
    pub fn doubt(&self, flavor: Flavor) -> Result<Option<Doubt>, String> {
        let since = self.state.get("replicating").and_then(|s| s.parse().ok());
        match since {
            // MySQL's definitions are in its log, too.
            Some(since) if flavor == Flavor::MariaDb => {
                let since = UNIX_EPOCH + Duration::from_millis(since);
                Doubt::look(&self.data(), since).map_err(crash_safety::unsure)
            }
            _ => Ok(None),
        }
    }

    /// Records that mysqld was shut down cleanly.
    pub fn set_clean(&mut self) -> Result<()> {
        self.state.remove("replicating");
        self.state.remove("mysqld_pid");
        self.state.remove("mysqld_start");
        self.save()
    }

    /// Writes the state, which shows whose directory this is, unless it is there.
    pub(super) fn claim(&self) -> Result<()> {
        if self.root.join("state").exists() { Ok(()) } else { self.save() }
    }

    fn save(&self) -> Result<()> {
        let path = self.root.join("state");
        let mut text = String::from("format=1\n");
        for (key, value) in &self.state {
            text += &format!("{key}={value}\n");
        }
        files::replace(&path, &text, 0o600, true).doing("write", &path)
    }

    /// True if there is any data.
    pub fn has_data(&self) -> bool {
        self.data().exists()
    }

    /// True if a pass that succeeded kept the data, which then serves to speed up a restore.
    pub fn is_kept(&self) -> bool {
        self.state.get("stage").map(String::as_str) == Some(Stage::Kept.name())
    }

    /// True if its data is whole, whatever has become of its server.
    pub fn is_ready(&self) -> bool {
        self.has_data() && self.state.get("stage").is_some_and(|s| s == Stage::Ready.name())
    }

    /// The backup whose data it is or has grown from.
    pub fn base(&self) -> Option<&str> {
        self.state.get("base").map(String::as_str).filter(|_| self.has_data())
    }

    /// True if the last mysqld was not shut down.
    fn is_unclean(&self) -> bool {
        self.state.contains_key("mysqld_pid")
    }

    /// Checks that the data that came from `base` can be resumed.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_resumable(&self, base: Option<&str>, flavor: Flavor) -> Result<(), String> {
        if !self.has_data() {
            return Err("there is none".into());
        }
        if self.state.get("stage").map(String::as_str) != Some(Stage::Ready.name()) {
            return Err("it is incomplete or was left by a finished pass".into());
        }
        if self.state.get("base").map(String::as_str) != base {
            return Err("it came from another backup".into());
        }
        if self.state.contains_key("doubtful") {
            return Err("its mysqld did not shut down, and the data was not verified since".into());
        }
        if self.state.get("boot") != Some(&boot_id()) {
            return Err("the machine was restarted since".into());
        }
        if self.is_unclean() { self.check_crash_safe(flavor) } else { Ok(()) }
    }

    /// Checks that all data and the position survive a killed mysqld.
    ///
    /// # Errors
    /// Names the first file that does not.
    pub fn check_crash_safe(&self, flavor: Flavor) -> Result<(), String> {
        crash_safety::check(&self.data(), flavor)
    }

    /// Removes the data. It is first renamed, which needs no space on a full disk, so that a partly
    /// removed directory is never taken for the whole, whatever the state file says.
    pub fn discard(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        let (data, old) = (self.data(), self.root.join(OLD_DATA));
        if self.has_data() || old.exists() {
            let has_data = self.has_data();
            // A large directory takes minutes.
            let mut crew = supervisor.crew("remove", removal::THREADS);
            remove_all(&old, &mut crew)?;
            if has_data {
                fs::rename(&data, &old).doing("move away", &data)?;
                remove_all(&old, &mut crew)?;
            }
        }
        let logs = self.root.join(JOURNAL);
        fs::remove_dir_all(&logs).ignoring(io::ErrorKind::NotFound).doing("remove", &logs)?;
        // Even if something else removed it: new data must not be taken for the old.
        self.set_stage(Stage::Partial, None)?;
        // A process that does not end works on removed files, and must stay on record.
        if self.check_gone().is_ok() { self.set_clean() } else { Ok(()) }
    }

    /// Checks that the last mysqld on the data has ended. One that even SIGKILL cannot end blocks
    /// the start of another.
    ///
    /// # Errors
    /// [`Error::MysqldHung`], naming its process.
    pub fn check_gone(&self) -> Result<()> {
        match self.last_mysqld() {
            Some((pid, start)) if !is_gone(pid, start) => Err(unkillable(pid)),
            _ => Ok(()),
        }
    }

    fn last_mysqld(&self) -> Option<(u32, u64)> {
        let number = |key: &str| self.state.get(key).and_then(|v| v.parse::<u64>().ok());
        Some((number("mysqld_pid")? as u32, number("mysqld_start")?))
    }

    /// Creates an empty data directory with the right owner.
    pub fn make_data(&self) -> Result<()> {
        self.make_dir("data")
    }

    fn make_tmp(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        fs::remove_dir_all(&tmp).ignoring(io::ErrorKind::NotFound).doing("remove", &tmp)?;
        self.make_dir("tmp")
    }

    fn make_dir(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.ignoring(io::ErrorKind::AlreadyExists).doing("create", &path)?;
        // Through its descriptor: the private mysqld's user could put a link in its place.
        let dir = files::open_dir(&path).doing("open", &path)?;
        match self.user {
            Some((uid, gid)) => fchown(&dir, Some(uid), Some(gid)).doing("chown", &path),
            None => Ok(()),
        }
    }

    /// Ends a mysqld that an earlier pass left behind, and removes its socket and other leftovers.
    ///
    /// # Errors
    /// When it does not end, or a stop.
    pub fn sweep(&mut self, supervisor: &mut Supervisor) -> Result<()> {
        if let Some((pid, start)) = self.last_mysqld() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let ours = String::from_utf8_lossy(&command)
                .contains(&format!("--datadir={}", self.data().display()));
            // One that dies with its parent has no arguments any more.
            if (ours || command.is_empty()) && !is_gone(pid, start) {
                log::warn!("ending the mysqld (pid {pid}) that an earlier pass left behind");
                let _ = sys::kill(pid as i32, libc::SIGKILL);
                let wait = Wait { every: Duration::from_millis(20), patience: Some(KILL_TIMEOUT) };
                let gone = supervisor.wait_for(&mut Nothing, wait, |_, _| {
                    Ok(if is_gone(pid, start) { Look::Done(()) } else { Look::Still })
                })?;
                if gone.is_none() {
                    return Err(unkillable(pid));
                }
            }
        }
        let old = self.root.join(OLD_DATA);
        if old.exists() {
            // As large as the data was.
            remove_all(&old, &mut supervisor.crew("remove", removal::THREADS))?;
        }
        self.tidy();
        let log = self.root.join("mysqld.log");
        fs::remove_file(&log).ignoring(io::ErrorKind::NotFound).doing("remove", &log)
    }

    /// Removes sockets, other temporary files, and the login that a killed pass left.
    pub fn tidy(&self) {
        let files =
            ["mysqld.sock", "mysqld.sock.lock", "mysqld.pid", "state.new", "dump.err", "load.err"];
        for name in files {
            let _ = fs::remove_file(self.root.join(name));
        }
        let _ = self.make_tmp();
        if self.check_gone().is_ok()
            && let Err(e) = forget_login(&self.data())
        {
            log::warn!("cannot remove the login in {}: {e}", self.data().display());
        }
    }
}

/// The backup that the data of an interrupted pass in the scratch directory at `root` grew from, if
/// there is such data.
pub fn interrupted_base(root: &Path) -> Option<String> {
    let state = checkpoint::read(&root.join("state")).ok()??;
    let ready = state.get("stage").map(String::as_str) == Some(Stage::Ready.name());
    state.get("base").filter(|_| ready && root.join("data").exists()).cloned()
}

fn unkillable(pid: u32) -> Error {
    let what = format!("exit of its process {pid}, which was killed but is stuck in the kernel,");
    Error::MysqldHung { what, after: Some(KILL_TIMEOUT) }
}
