//! The private mysqld: how it is started, how we log in and keep others out, why it died.
//!
//! Its passwords are unknown to us, and no account of ours may remain. So it starts on a socket in
//! a private directory in a way that lets us in. We open every session that the attempt will need,
//! then load the grant tables, and after that nobody can log in: a lost session cannot be replaced.
//! It is started directly, never by a wrapper that would restart it.

mod clone_session;
mod components;
mod diagnosis;
mod leftovers;

pub use leftovers::{forget_login, forget_replication};

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Error, IoExt, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Session;
use crate::mysql::settings::{CONSTRAINTS, MANDATORY_ROLES, Values, value};
use crate::mysql::trouble::Trouble;
use crate::os::cgroup;
use crate::os::process::{Activity, Child, Exit, Heeds, heeds, start_time};
use crate::server::access::Login;
use crate::server::error_log::{self, LogTail};
use crate::server::setup::Setup;
use crate::supervisor::watched::Watched;
use crate::text::system_text;

/// Between two signals to a server that is starting.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two connections to see whether it greets.
const KNOCK: Duration = Duration::from_millis(500);
/// No server takes longer from its start to its signals: what heeds none by then is no server.
const DEAF: Duration = Duration::from_secs(10);

/// A running private mysqld with our sessions.
pub struct Mysqld {
    child: Child,
    scratch: File,
    program: PathBuf,
    data: PathBuf,
    /// As the primary's sessions do.
    ignores_constraints: bool,
    /// The primary's, where it has any, until they are in force here.
    pub(super) mandatory_roles: Option<String>,
    call_timeout: Duration,
    login: Option<Login>,
    log: LogTail,
    ready: bool,
    /// When it was first asked to end, and last sent the signal for that.
    asked_to_end: Option<Instant>,
    signalled: Option<Instant>,
    knocked: Option<Instant>,
    control: Option<Session>,
    pinger: Option<Session>,
    spare: Option<Session>,
    worker: Option<Session>,
    kills_before: u64,
    /// Its settings when it was about to apply statements of the primary's.
    pub(super) globals: Values,
}

impl Mysqld {
    /// Starts it. `fresh` means an empty server to load a dump into, with a root account without a
    /// password.
    ///
    /// # Errors
    /// [`Error::MysqldStart`] if the program cannot be executed.
    pub fn spawn(setup: &Setup, fresh: bool) -> Result<Mysqld> {
        let log_path = setup.log();
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&log_path)
            .doing("open", &log_path)?;
        let again = || log.try_clone().doing("open", &log_path);
        let login = (setup.needs_grant_tables && !fresh).then(|| Login::make(setup)).transpose()?;
        let mut command = setup.command(fresh, login.as_ref().map(Login::file).as_deref());
        setup.run_as(&mut command)?;
        command.stdout(again()?).stderr(again()?);
        let tail = LogTail::from_end(&log_path);
        // MySQL would not start beside the lock file of a killed server that is not reaped yet.
        let _ = std::fs::remove_file(setup.scratch.join("mysqld.sock.lock"));
        let kills_before = cgroup::kills();
        let child = Child::spawn(&mut command).map_err(|e| Error::MysqldStart {
            how: format!("cannot execute {}: {}", setup.program.display(), system_text(&e)),
            log: String::new(),
        })?;
        let scratch = File::open(&setup.scratch).doing("open", &setup.scratch)?;
        Ok(Mysqld {
            child,
            scratch,
            program: setup.program.clone(),
            data: setup.data(),
            ignores_constraints: value(&setup.settings, CONSTRAINTS) == Some("0"),
            mandatory_roles: value(&setup.settings, MANDATORY_ROLES)
                .filter(|roles| !roles.is_empty())
                .map(String::from),
            call_timeout: setup.call_timeout,
            login,
            log: tail,
            ready: false,
            asked_to_end: None,
            signalled: None,
            knocked: None,
            control: None,
            pinger: None,
            spare: None,
            worker: None,
            kills_before,
            globals: Values::new(),
        })
    }

    /// Tries to open all the sessions; `false` while it is still starting.
    ///
    /// # Errors
    /// If it answers with an error.
    pub fn connect(&mut self) -> Result<bool> {
        while self.worker.is_none() {
            match self.open(self.call_timeout) {
                Ok(session) if self.control.is_none() => self.control = Some(session),
                Ok(session) if self.pinger.is_none() => self.pinger = Some(session),
                Ok(session) if self.spare.is_none() => self.spare = Some(session),
                Ok(session) => self.worker = Some(session),
                Err(Trouble::Lost(_)) => return Ok(false),
                Err(trouble) => return Err(self.lost("answer to a login", trouble)),
            }
        }
        self.login = None;
        self.ready = true;
        self.log.mark();
        Ok(true)
    }

    /// The session for status and replication statements; the spare one once the first is unusable.
    pub fn control(&mut self) -> Result<&mut Session> {
        if !self.control.as_ref().is_some_and(Session::is_alive) {
            self.control = self.spare.take();
        }
        self.control
            .as_mut()
            .ok_or(Error::MysqldHung { what: "remaining session with it".into(), after: None })
    }

    /// True if one of its sessions was lost: it has not answered in time before.
    pub fn has_lost_a_session(&self) -> bool {
        [&self.control, &self.pinger, &self.spare]
            .iter()
            .any(|session| !session.as_ref().is_some_and(Session::is_alive))
    }

    /// The session for statements that take long, to be used on a thread of its own.
    ///
    /// # Errors
    /// [`Error::MysqldHung`] if it was lost, or is lent already.
    pub fn lend(&mut self) -> Result<Session> {
        let worker = self.worker.take().filter(Session::is_alive);
        worker.ok_or(Error::MysqldHung { what: "session for long statements".into(), after: None })
    }

    /// Takes it back.
    pub fn give_back(&mut self, worker: Session) {
        self.worker = Some(worker);
    }

    /// Runs a statement on the control session.
    ///
    /// # Errors
    /// [`Error::MysqldHung`] if the session is lost, else the server's error.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.run_for(sql, Duration::ZERO)
    }

    /// The same for a statement that may take `longer` than the usual time-out.
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

    /// Converts `trouble` with one of our sessions.
    pub fn lost(&self, what: &str, trouble: Trouble) -> Error {
        match trouble {
            // 1053 and 3169: it is being shut down, or killed our session for that.
            Trouble::Server { errno, text } if !matches!(errno, 1053 | 3169) => {
                let text = error_log::without_statement(&text);
                self.root_cause(Error::ReplicationError { errno, text })
            }
            Trouble::TimedOut => {
                Error::MysqldHung { what: what.into(), after: Some(self.call_timeout) }
            }
            _ => Error::MysqldHung { what: what.into(), after: None },
        }
    }

    /// Why a worker of its applier stopped, according to its log.
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

    /// True once all our sessions were opened.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// True while an account of ours may be in its data.
    pub fn is_being_entered(&self) -> bool {
        self.login.as_ref().is_some_and(Login::may_stay)
    }

    /// True if its tables name functions that it loads only with its grant tables.
    ///
    /// # Errors
    /// [`Error::MysqldHung`] if it does not answer.
    pub fn has_functions(&mut self) -> Result<bool> {
        let answer = self.control()?.query("SELECT COUNT(*) FROM mysql.func");
        match answer {
            Ok(rows) => Ok(rows.first() != "0"),
            // A table that cannot be read names none.
            Err(Trouble::Server { .. }) => Ok(false),
            Err(trouble) => Err(self.lost("answer to a query", trouble)),
        }
    }

    /// True if the process has exited, for any reason.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().is_some()
    }

    /// Requests a clean shutdown. Closes our sessions first, because it would wait for them.
    pub fn request_shutdown(&mut self) {
        self.asked_to_end = Some(Instant::now());
        self.close();
        self.repeat_request();
    }

    /// Asks again for the shutdown of a server that was still starting: it may have lost the signal.
    /// One that was ready has it, and a second one could disturb it. One that was just executed would
    /// be killed by it, until it has come to its signals, and gets it then.
    pub fn repeat_request(&mut self) {
        let Some(asked) = self.asked_to_end else { return };
        let due = self.signalled.is_none_or(|at| !self.ready && at.elapsed() >= AGAIN);
        if !due
            || (!self.ready && self.signalled.unwrap_or(asked).elapsed() < DEAF && !self.can_end())
        {
            return;
        }
        self.signalled = Some(Instant::now());
        self.child.signal(libc::SIGTERM);
    }

    /// True if the signal ends it as it should. MariaDB 11.8 that has it before its thread for signals
    /// begins never ends, so that one has to greet first.
    fn can_end(&mut self) -> bool {
        let by_account = self.login.as_ref().is_some_and(|login| !login.may_stay());
        match heeds(self.pid(), libc::SIGTERM) {
            Heeds::Not => return false,
            Heeds::Blocked if by_account => {}
            _ => return true,
        }
        if self.knocked.is_some_and(|at| at.elapsed() < KNOCK) {
            return false;
        }
        self.knocked = Some(Instant::now());
        let greets = || {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            stream.read(&mut [0])
        };
        greets().is_ok_and(|n| n > 0)
    }

    /// Its socket, through the directory's descriptor, because a socket's path must be short.
    fn socket(&self) -> String {
        format!("/proc/self/fd/{}/mysqld.sock", self.scratch.as_raw_fd())
    }

    /// The same path for other processes of our user, until we end.
    pub(super) fn short_socket(&self) -> PathBuf {
        self.socket().replacen("self", &std::process::id().to_string(), 1).into()
    }

    /// True if it exited with status 0 after we requested a shutdown.
    pub fn shutdown_completed(&mut self) -> bool {
        self.asked_to_end.is_some() && self.child.try_wait() == Some(Exit::Status(0))
    }

    /// True if it exited with status 0, whatever the reason. Then its data is clean.
    pub fn exited_cleanly(&mut self) -> bool {
        self.ready && self.child.try_wait() == Some(Exit::Status(0))
    }

    /// Opens a session, once it listens.
    pub(super) fn open(&self, timeout: Duration) -> Result<Session, Trouble> {
        let socket = self.socket();
        match &self.login {
            Some(Login { user, password, .. }) => {
                Session::over_socket(&socket, user, password, timeout)
            }
            None => Session::over_socket(&socket, "root", "", timeout),
        }
    }

    /// Loads the grant tables: from now on nobody else can log in, while our sessions stay.
    ///
    /// # Errors
    /// The server's error.
    pub fn load_grant_tables(&mut self, flavor: Flavor) -> Result<()> {
        // LOCAL: otherwise MySQL may count this as a transaction of its own.
        self.run("FLUSH LOCAL PRIVILEGES")?;
        if flavor == Flavor::MariaDb {
            // Where it was started without grant tables, this lets replicated event definitions
            // through.
            match self.run("SET GLOBAL event_scheduler = OFF") {
                // A newer server that did not print its version: it can follow until an event
                // arrives.
                Err(Error::ReplicationError { errno: 1290, .. }) => {}
                done => done?,
            }
            if self.ignores_constraints {
                self.run(&format!("SET GLOBAL {CONSTRAINTS} = 0"))?;
            }
        }
        Ok(())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.close();
        self.child.kill();
    }

    fn close(&mut self) {
        (self.control, self.pinger, self.spare, self.worker) = (None, None, None, None);
    }
}

impl Watched for Mysqld {
    fn ended(&mut self) -> Option<Error> {
        let exit = self.child.try_wait()?;
        Some(self.diagnose_exit(exit))
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

    fn activity(&self) -> Option<Activity> {
        Some(Activity { log_bytes: self.log.written(), ..self.child.activity() })
    }

    fn maintain(&mut self) -> Result<()> {
        self.log.truncate_beyond(error_log::MAX_LENGTH);
        if self.disk_full().is_some() {
            self.log.truncate_beyond(error_log::MAX_LENGTH_LOW_SPACE);
        }
        self.disk_full().map_or(Ok(()), Err)
    }
}
