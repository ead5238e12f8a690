//! The private mysqld: how it is started, how we get in and nobody else does, why it died.
//!
//! Its passwords are unknown to us and no account of ours may stay behind. So it starts on a socket
//! in a private directory in a way that lets us in; we open every session that the attempt will
//! need, then load the grant tables, and from there on nobody gets in: a session that is lost
//! cannot be had again. It is started directly, never through a wrapper that would restart it.

mod access;
mod clone_session;
mod components;
mod diagnosis;
mod leftovers;

pub use leftovers::{forget_login, forget_replication};

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::position::Flavor;
use crate::mysql::session::{Session, Trouble};
use crate::os::cgroup;
use crate::os::process::{Child, Exit, VitalSigns, start_time};
use crate::os::sys;
use crate::server::buffers;
use crate::server::error_log::{self, LogTail};
use crate::supervisor::watched::Watched;
use access::Login;

/// How one private mysqld differs from another.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server program.
    pub program: PathBuf,
    /// Whose words it speaks.
    pub flavor: Flavor,
    /// The scratch directory, absolute: it holds `data`, the socket, the log.
    pub scratch: PathBuf,
    /// uid and gid to run as, when we are root and it is somebody else.
    pub user: Option<(u32, u32)>,
    /// The user's `--mysqld-option`s.
    pub options: Vec<String>,
    /// Server settings that the data needs: name and value.
    pub settings: Vec<(String, String)>,
    /// Never the primary's.
    pub server_id: u32,
    /// Time-out of every SQL call.
    pub call_timeout: Duration,
    /// Without its grant tables it would not do all that may come by replication.
    pub needs_grant_tables: bool,
    /// Bytes of the data it is started on, if there is any yet.
    pub data_size: Option<u64>,
}

impl Setup {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// The socket's path as people and monitors see it.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("mysqld.sock")
    }

    /// mysqld's log.
    pub fn log(&self) -> PathBuf {
        self.scratch.join("mysqld.log")
    }

    /// Lets `command` run as the private mysqld's user, and what it makes be private.
    pub fn run_as(&self, command: &mut Command) {
        // The umask is not enough, since mysqld sets its own: master.info holds a password.
        command.env("UMASK", "0600").env("UMASK_DIR", "0700");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
    }

    fn command(&self, grant_tables: bool, login: Option<&Login>) -> Command {
        let mut command = Command::new(&self.program);
        let path = |name: &str, at: PathBuf| {
            let mut arg = std::ffi::OsString::from(name);
            arg.push(at);
            arg
        };
        let buffers = buffers::buffers(self.data_size);
        command
            .arg("--no-defaults")
            .arg(path("--datadir=", self.data()))
            // Relative to the data directory: a socket's whole path may have 107 bytes only.
            .arg("--socket=../mysqld.sock")
            .arg(path("--pid-file=", self.scratch.join("mysqld.pid")))
            .arg(path("--tmpdir=", self.scratch.join("tmp")))
            .arg(format!("--server-id={}", self.server_id))
            .arg(format!("--innodb-buffer-pool-size={}", buffers.pool))
            .arg(format!("--key-buffer-size={}", buffers.other))
            .args([
                "--skip-networking",
                "--skip-log-bin",
                "--relay-log=relay",
                "--performance-schema=OFF",
                // Position and data go back together after a kill, so a lost second costs time only.
                "--innodb-flush-log-at-trx-commit=0",
            ]);
        match self.flavor {
            Flavor::MariaDb => {
                command.arg(format!("--aria-pagecache-buffer-size={}", buffers.other)).args([
                    // No line for each look of a `status`: lines are signs of life.
                    "--log-warnings=1",
                    "--skip-slave-start",
                    // A silent primary is noticed after so many seconds; heartbeats come every two.
                    "--slave-net-timeout=10",
                    "--skip-symbolic-links",
                    // Nobody comes over a network, and MariaDB 11 makes a key at each start, which
                    // takes up to two seconds. What we connect to has its own settings.
                    "--skip-ssl",
                    // Not DISABLED: replicated events could then not be created.
                    "--event-scheduler=OFF",
                ])
            }
            Flavor::MySql => command.args([
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--skip-replica-start",
                "--replica-net-timeout=10",
                // A stop in the middle of a transaction may take a minute: see replication.rs.
                "--loose-rpl-stop-replica-timeout=2",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
                "--relay-log-recovery=ON",
                "--persisted-globals-load=OFF",
                // Since 8.4 it is 64 MiB, all of them used from the start; there are few writers.
                "--innodb-log-buffer-size=16M",
                // Not in a backup, and its absence is an error line.
                "--innodb-buffer-pool-load-at-startup=OFF",
                "--innodb-buffer-pool-dump-at-shutdown=OFF",
                "--event-scheduler=OFF",
                // Nobody comes over a network, so keys for that cost time only.
                "--auto-generate-certs=OFF",
                "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
                "--loose-sha256-password-auto-generate-rsa-keys=OFF",
            ]),
        };
        match login {
            Some(login) => drop(command.arg(path("--init-file=", login.file()))),
            None if grant_tables => {}
            None => drop(command.arg("--skip-grant-tables")),
        }
        if sys::is_root() && self.user.is_none() {
            command.arg("--user=root");
        }
        for (name, value) in &self.settings {
            let name = name.replace('_', "-");
            command.arg(format!("--{name}={value}"));
        }
        command.args(&self.options);
        command.env_remove("MYSQLD_PARENT_PID");
        if cgroup::space_limit().is_some() {
            // glibc would reserve 64 MiB of address space for the heap of each thread.
            command.env("MALLOC_ARENA_MAX", "1");
        }
        command.current_dir(&self.scratch).stdin(Stdio::null());
        command
    }
}

/// A private mysqld that was started, with our sessions.
pub struct Mysqld {
    child: Child,
    scratch: File,
    program: PathBuf,
    data: PathBuf,
    call_timeout: Duration,
    login: Option<Login>,
    log: LogTail,
    ready: bool,
    asked_to_end: bool,
    control: Option<Session>,
    pinger: Option<Session>,
    spare: Option<Session>,
    kills_before: u64,
}

impl Mysqld {
    /// Starts it. `fresh` says that it is an empty server, to load a dump into, with a root that
    /// needs no password.
    ///
    /// # Errors
    /// [`Error::MysqldStart`] when the program cannot be executed.
    pub fn spawn(setup: &Setup, fresh: bool) -> Result<Mysqld> {
        let log_path = setup.log();
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&log_path)
            .map_err(|e| Error::io("open", &log_path, e))?;
        let again = || log.try_clone().map_err(|e| Error::io("open", &log_path, e));
        let login = (setup.needs_grant_tables && !fresh).then(|| Login::make(setup)).transpose()?;
        let mut command = setup.command(fresh, login.as_ref());
        setup.run_as(&mut command);
        command.stdout(again()?).stderr(again()?);
        let tail = LogTail::from_end(&log_path);
        // MySQL would not start beside the lock of one that was killed and is not reaped yet.
        let _ = std::fs::remove_file(setup.scratch.join("mysqld.sock.lock"));
        let kills_before = cgroup::kills();
        let child = Child::spawn(&mut command).map_err(|e| Error::MysqldStart {
            how: format!("cannot execute {}: {e}", setup.program.display()),
            log: String::new(),
        })?;
        let scratch =
            File::open(&setup.scratch).map_err(|e| Error::io("open", &setup.scratch, e))?;
        Ok(Mysqld {
            child,
            scratch,
            program: setup.program.clone(),
            data: setup.data(),
            call_timeout: setup.call_timeout,
            login,
            log: tail,
            ready: false,
            asked_to_end: false,
            control: None,
            pinger: None,
            spare: None,
            kills_before,
        })
    }

    /// Tries to open all the sessions: `false` while it is still starting.
    ///
    /// # Errors
    /// When it answers, and with an error.
    pub fn connect(&mut self) -> Result<bool> {
        while self.spare.is_none() {
            match self.open(self.call_timeout) {
                Ok(session) if self.control.is_none() => self.control = Some(session),
                Ok(session) if self.pinger.is_none() => self.pinger = Some(session),
                Ok(session) => self.spare = Some(session),
                Err(Trouble::Lost(_)) => return Ok(false),
                Err(trouble) => return Err(self.lost("answer to a login", trouble)),
            }
        }
        self.login = None;
        self.ready = true;
        self.log.mark();
        Ok(true)
    }

    /// The session that status and replication statements go through; the spare one when the
    /// first is used up.
    ///
    /// # Errors
    /// When none is left.
    pub fn control(&mut self) -> Result<&mut Session> {
        if !self.control.as_ref().is_some_and(Session::is_alive) {
            self.control = self.spare.take();
        }
        self.control
            .as_mut()
            .ok_or(Error::MysqldHung { what: "session to it is left".into(), after: None })
    }

    /// Runs a statement on the control session.
    ///
    /// # Errors
    /// [`Error::MysqldHung`] if the session is lost; else what the server says.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.run_for(sql, Duration::ZERO)
    }

    /// The same for a statement that may take so much longer than it takes to answer.
    ///
    /// # Errors
    /// As [`Mysqld::run`].
    pub fn run_for(&mut self, sql: &str, longer: Duration) -> Result<()> {
        let usual = self.call_timeout;
        let control = self.control()?;
        control.set_timeout(usual + longer);
        let result = control.run(sql);
        control.set_timeout(usual);
        result.map_err(|t| self.lost("answer to a statement", t))
    }

    /// How long it may take to answer.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// What a `trouble` with a session of ours means.
    pub fn lost(&self, what: &str, trouble: Trouble) -> Error {
        match trouble {
            // 1053 and 3169: it is being shut down, or killed our session for that.
            Trouble::Server { errno, text } if !matches!(errno, 1053 | 3169) => {
                let text = error_log::without_statement(&text);
                self.shortage_or(Error::ReplicationError { errno, text })
            }
            Trouble::TimedOut => {
                Error::MysqldHung { what: what.into(), after: Some(self.call_timeout) }
            }
            _ => Error::MysqldHung { what: what.into(), after: None },
        }
    }

    /// Why a worker of its applier stopped, as its log tells.
    pub fn worker_error(&self) -> Option<(u16, String)> {
        self.log.worker_error()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// When it started, for the scratch directory's state file.
    pub fn start_time(&self) -> u64 {
        start_time(self.pid()).unwrap_or(0)
    }

    /// Are all of our sessions open, or were they?
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Has the process ended, for whatever reason?
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().is_some()
    }

    /// Asks it to shut down cleanly. Our sessions are closed first: it would wait for them.
    pub fn ask_to_end(&mut self) {
        self.asked_to_end = true;
        (self.control, self.pinger, self.spare) = (None, None, None);
        self.child.signal(libc::SIGTERM);
    }

    /// Did it end by itself with status 0, after it was asked to?
    pub fn ended_cleanly(&mut self) -> bool {
        self.asked_to_end && self.child.try_wait() == Some(Exit::Status(0))
    }

    /// Did it end with status 0, whoever asked it to? Then its data is clean.
    pub fn left_clean_data(&mut self) -> bool {
        self.ready && self.child.try_wait() == Some(Exit::Status(0))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        (self.control, self.pinger, self.spare) = (None, None, None);
        self.child.kill();
    }
}

impl Watched for Mysqld {
    fn ended(&mut self) -> Option<Error> {
        let exit = self.child.try_wait()?;
        Some(self.cause_of_death(exit))
    }

    fn ping(&mut self) -> Result<()> {
        if !self.ready {
            return Ok(());
        }
        let answer = match self.pinger.as_mut() {
            Some(session) => session.run("SELECT 1"),
            None => return Ok(()),
        };
        answer.map_err(|t| self.lost("answer to a ping", t))
    }

    fn vital_signs(&self) -> Option<VitalSigns> {
        Some(VitalSigns { log_bytes: self.log.written(), ..self.child.vital_signs() })
    }

    fn look_after(&mut self) -> Result<()> {
        self.log.keep_short(error_log::LONGEST);
        if self.disk_full().is_some() {
            self.log.keep_short(error_log::SHORT);
        }
        self.disk_full().map_or(Ok(()), Err)
    }
}
