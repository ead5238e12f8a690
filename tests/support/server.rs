//! A MariaDB server of the tests: started directly, killed on drop.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

use super::template;
use super::{PATIENCE, TempDir, end, flavor, kill, wait_for, wait_until};

/// Rows of text, as a client in batch mode prints them: `NULL` for no value.
pub type Rows = Vec<Vec<String>>;

/// A running (or stopped) server, its files and one held session of root's.
pub struct Server {
    name: String,
    dir: TempDir,
    datadir: PathBuf,
    program: PathBuf,
    args: Vec<OsString>,
    /// Where it listens on 127.0.0.1, if it does.
    pub port: Option<u16>,
    child: Option<Child>,
    session: Mutex<Option<Conn>>,
}

/// For a restored copy that is only looked at.
const QUIET: [&str; 3] = ["--skip-slave-start", "--read-only", "--event-scheduler=OFF"];

impl Server {
    /// A fresh server on a copy of the template.
    pub fn start(name: &str, listen: bool, args: &[&str]) -> Server {
        let dir = TempDir::new(name);
        let datadir = dir.path().join("data");
        // These are settled when the files are made; MariaDB can change the last one later.
        let fixed = ["--innodb-page-size", "--innodb-data-file-path", "--lower-case-table-names"];
        let fixed = &fixed[..if flavor::is_mysql() { 3 } else { 2 }];
        let own = args.iter().copied().filter(|a| fixed.iter().any(|name| a.starts_with(name)));
        match own.collect::<Vec<_>>().as_slice() {
            [] => template::copy_to(&datadir),
            own => template::install(&datadir, own),
        }
        Server::launch(name, dir, datadir, template::program(), listen, args)
    }

    /// A server on a copy of a data directory that was shut down, as itself.
    pub fn start_copy(name: &str, from: &Path, listen: bool, args: &[&str]) -> Server {
        let dir = TempDir::new(name);
        let datadir = dir.path().join("data");
        template::copy(from, &datadir);
        Server::launch(name, dir, datadir, template::program(), listen, args)
    }

    /// A server on an existing data directory, say a restored one: without network, not
    /// replicating, read-only, with its grant tables. Reach it by [`Server::sql`].
    pub fn start_on(datadir: &Path) -> Server {
        Server::start_on_with(datadir, &QUIET)
    }

    /// The same with another server program.
    pub fn start_on_by(program: &Path, datadir: &Path) -> Server {
        let dir = TempDir::new("by");
        Server::launch("restored", dir, datadir.to_path_buf(), program.into(), false, &QUIET)
    }

    /// The same with options of your own in place of those.
    pub fn start_on_with(datadir: &Path, args: &[&str]) -> Server {
        let dir = TempDir::new("on");
        Server::launch("restored", dir, datadir.to_path_buf(), template::program(), false, args)
    }

    fn launch(
        name: &str,
        dir: TempDir,
        datadir: PathBuf,
        program: PathBuf,
        listen: bool,
        args: &[&str],
    ) -> Server {
        static SERVER_ID: AtomicU32 = AtomicU32::new(1);
        let id = 1000 + SERVER_ID.fetch_add(1, Ordering::Relaxed);
        let mut all: Vec<OsString> = vec![format!("--server-id={id}").into()];
        all.extend(template::format().map(OsString::from));
        all.extend(flavor::always().iter().map(OsString::from));
        // Keys that nobody needs cost more than all the rest of a start.
        if !args.iter().any(|a| a.contains("ssl")) {
            all.extend(flavor::no_keys(listen).iter().map(OsString::from));
        }
        // The default of MySQL is a binary log everywhere.
        let logs = args.iter().any(|a| a.starts_with("--log-bin"));
        all.extend((flavor::is_mysql() && !logs).then(|| OsString::from("--skip-log-bin")));
        all.extend(
            [
                "--skip-name-resolve",
                // No fsync for each commit, and yet nothing is lost by a kill -9.
                "--innodb-flush-log-at-trx-commit=2",
                // What the tests' own servers write may be lost with the machine. The private
                // server of a pass, which is what they test, waits for the disk as anywhere.
                "--innodb-flush-method=nosync",
                "--innodb-buffer-pool-size=64M",
                "--performance-schema=OFF",
                "--innodb-buffer-pool-dump-at-shutdown=OFF",
            ]
            .map(OsString::from),
        );
        all.extend(args.iter().filter_map(|a| flavor::option(a)).map(OsString::from));
        let name = name.to_string();
        let session = Mutex::new(None);
        let (port, child) = (None, None);
        let mut server = Server { name, dir, datadir, program, args: all, port, child, session };
        for _ in 0..20 {
            server.port = listen.then(free_port);
            if server.try_start() {
                return server;
            }
        }
        panic!("no free port for {}", server.name);
    }

    /// False if the port was taken by somebody else meanwhile.
    #[track_caller]
    fn try_start(&mut self) -> bool {
        let mut command = template::server(&self.program);
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command.arg(option("datadir", &self.datadir));
        command.arg(option("socket", &self.socket()));
        command.arg(option("pid-file", &self.dir.path().join("pid")));
        command.arg(option("log-error", &self.error_log()));
        // Its own: at its start a server removes the temporary files of all others in there.
        let tmp = self.dir.path().join("tmp");
        let _ = fs::create_dir(&tmp);
        command.arg(option("tmpdir", &tmp));
        match self.port {
            Some(port) => command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]),
            None => command.arg("--skip-networking"),
        };
        // `env:TZ=UTC` is no option but a variable.
        for arg in &self.args {
            match arg.to_str().and_then(|arg| arg.strip_prefix("env:")?.split_once('=')) {
                Some((name, value)) => command.env(name, value),
                None => command.arg(arg),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        super::die_with_us(&mut command);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let opened = wait_for("a server that answers", PATIENCE, || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            self.open().ok().map(Ok)
        });
        match opened {
            Ok(session) => {
                *self.hold() = Some(session);
                self.child = Some(child);
                true
            }
            Err(_) if self.log().contains("ind on TCP/IP port") && self.port.is_some() => {
                let _ = fs::remove_file(self.error_log());
                false
            }
            Err(status) => panic!("{} ended with {status}:\n{}", self.name, self.log()),
        }
    }

    /// A new session of root's over the socket; it gives up on an answer after a minute.
    pub fn open(&self) -> Result<Conn, mysql::Error> {
        let options = OptsBuilder::new()
            .socket(Some(self.socket().to_string_lossy()))
            .user(Some("root"))
            .prefer_socket(false)
            .read_timeout(Some(PATIENCE))
            .write_timeout(Some(PATIENCE));
        Conn::new(options)
    }

    fn hold(&self) -> MutexGuard<'_, Option<Conn>> {
        self.session.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs one or more statements as root; the rows of all of them. Panics on an error.
    #[track_caller]
    pub fn sql(&self, text: &str) -> Rows {
        match self.try_sql(text) {
            Ok(rows) => rows,
            Err(e) => panic!("{}: {text}: {e}\n{}", self.name, self.log()),
        }
    }

    /// The same, with the error in your hands.
    pub fn try_sql(&self, text: &str) -> Result<Rows, mysql::Error> {
        let mut held = self.hold();
        if held.is_none() {
            *held = Some(self.open()?);
        }
        let result = query(held.as_mut().expect("just opened"), &flavor::sql(text));
        if !matches!(result, Ok(_) | Err(mysql::Error::MySqlError(_))) {
            *held = None;
        }
        result
    }

    /// The first column of the first row.
    #[track_caller]
    pub fn value(&self, text: &str) -> String {
        let rows = self.sql(text);
        let first = rows.into_iter().next().and_then(|r| r.into_iter().next());
        let first = first.unwrap_or_else(|| panic!("{}: no row from: {text}", self.name));
        // As MySQL prints the parts of a position.
        first.replace(",\n", ",")
    }

    /// The first row by the names of its columns, as of `SHOW SLAVE STATUS`.
    #[track_caller]
    pub fn record(&self, text: &str) -> Option<BTreeMap<String, String>> {
        let mut held = self.hold();
        let session = held.as_mut().expect("a running server");
        let row: Option<mysql::Row> = session.query_first(flavor::sql(text)).unwrap();
        let row = row?;
        let names: Vec<String> = row.columns_ref().iter().map(|c| c.name_str().into()).collect();
        Some(names.into_iter().zip(row.unwrap().into_iter().map(text_of)).collect())
    }

    /// Its process.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("a running server").id() as i32
    }

    /// kill -9, and collected.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
        *self.hold() = None;
    }

    /// A clean shutdown. Panics if it is not one.
    #[track_caller]
    pub fn stop(&mut self) {
        *self.hold() = None;
        let Some(mut child) = self.child.take() else { return };
        kill(child.id() as i32, libc::SIGTERM);
        let mut status: Option<ExitStatus> = None;
        wait_until("a clean shutdown", PATIENCE, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|s| s.success()), "{status:?}:\n{}", self.log());
    }

    /// Starts it again on the same data, port and options; stops it first if it runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        assert!(self.try_start(), "port {:?} of {} was taken meanwhile", self.port, self.name);
    }

    /// Adds an option for the next [`Server::restart`].
    pub fn add_option(&mut self, option: &str) {
        self.args.extend(flavor::option(option).map(OsString::from));
    }

    /// Its data directory.
    pub fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn error_log(&self) -> PathBuf {
        self.dir.path().join("error.log")
    }

    /// The end of its error log.
    pub fn log(&self) -> String {
        tail(&self.error_log(), 60)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- error log of {} ---\n{}", self.name, self.log());
        }
        self.kill9();
    }
}

/// The last lines of a text file, empty when it is not there.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs statements on a session; the rows of all of them.
pub fn query(session: &mut Conn, text: &str) -> Result<Rows, mysql::Error> {
    let mut rows = Rows::new();
    let mut result = session.query_iter(text)?;
    while let Some(set) = result.iter() {
        for row in set {
            rows.push(row?.unwrap().into_iter().map(text_of).collect());
        }
    }
    Ok(rows)
}

fn text_of(value: Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
        other => other.as_sql(true).trim_matches('\'').into(),
    }
}

/// A port that was free a moment ago, below the range the system takes ports from.
pub fn free_port() -> u16 {
    free_listener().local_addr().unwrap().port()
}

/// A listener on such a port: nobody else can take it meanwhile.
pub fn free_listener() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    wait_for("a free port", Duration::from_secs(10), || {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) * 7;
        let port = 20_000 + ((std::process::id() * 131 + step) % 12_000) as u16;
        TcpListener::bind(("127.0.0.1", port)).ok()
    })
}
