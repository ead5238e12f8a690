//! The options and environment of a private mysqld.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{IoExt, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::LARGEST_PACKET;
use crate::mysql::settings::{Decides, SETTINGS, Values, value};
use crate::os::cgroup;
use crate::os::confinement::Confinement;
use crate::os::process;
use crate::os::syncs;
use crate::os::sys;
use crate::server::buffers;
use crate::text::bytes;

/// What becomes of relay logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayLogs {
    /// They are received, and go once they are applied.
    Go,
    /// They are received, and stay.
    Stay,
    /// They are in the data directory, to be applied.
    Given,
}

/// What distinguishes one private mysqld from another.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server program.
    pub program: PathBuf,
    /// Its kind.
    pub flavor: Flavor,
    /// The absolute scratch directory: it contains `data`, the socket and the log.
    pub scratch: PathBuf,
    /// uid and gid to run as, if we are root and it is another user.
    pub user: Option<(u32, u32)>,
    /// The user's `--mysqld-option`s.
    pub options: Vec<String>,
    /// Settings that the data and the primary's statements need.
    pub settings: Values,
    /// The time zone to run in, if not ours.
    pub zone: Option<String>,
    /// Never the primary's.
    pub server_id: u32,
    /// The time-out of every SQL call.
    pub call_timeout: Duration,
    /// Needs its grant tables from the start, to apply everything that may be replicated.
    pub needs_grant_tables: bool,
    /// What becomes of relay logs.
    pub relay_logs: RelayLogs,
    /// Bytes of the data that it works on, if there is any yet.
    pub data_size: Option<u64>,
}

impl Setup {
    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// The socket's path, for people and monitors.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("mysqld.sock")
    }

    /// The directory for temporary files, as the server is told: it would take a colon for the end of
    /// one directory and the beginning of another.
    pub fn tmp(&self) -> PathBuf {
        if self.has_colon() { "../tmp".into() } else { self.scratch.join("tmp") }
    }

    /// Where it is started: a relative directory must be right before and after it goes to its data.
    pub fn place(&self) -> PathBuf {
        if self.has_colon() { self.data() } else { self.scratch.clone() }
    }

    fn has_colon(&self) -> bool {
        self.scratch.as_os_str().as_encoded_bytes().contains(&b':')
    }

    /// mysqld's log.
    pub fn log(&self) -> PathBuf {
        self.scratch.join("mysqld.log")
    }

    /// Makes `command` run as the private mysqld's user, with private files, and write below the
    /// scratch directory only.
    pub fn run_as(&self, command: &mut Command) -> Result<()> {
        self.run_within(command, &self.scratch)
    }

    /// The same for a program that writes below `dir` only.
    ///
    /// # Errors
    /// When it cannot be confined.
    pub fn run_within(&self, command: &mut Command, dir: &Path) -> Result<()> {
        // The umask is not enough, because mysqld sets its own: master.info contains a password.
        command.env("UMASK", "0600").env("UMASK_DIR", "0700");
        command.env("TMPDIR", self.scratch.join("tmp"));
        if let Some(zone) = &self.zone {
            command.env("TZ", zone);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        syncs::spare(command);
        Confinement::below(dir).apply(command).doing("confine programs to", dir)
    }

    /// The options without which the data is another: fixed when it is made.
    pub fn made_with(&self) -> impl Iterator<Item = String> {
        let own = SETTINGS.iter().filter(|s| s.decides == Decides::Data);
        own.filter_map(|s| s.option(value(&self.settings, s.name)?))
    }

    /// The command that starts it. With `grant_tables` it is entered through its own accounts, to load
    /// a dump; `init_file` contains statements that it runs before it listens.
    pub fn command(&self, grant_tables: bool, init_file: Option<&Path>) -> Command {
        let mut command = process::command(&self.program);
        let path = |name: &str, at: PathBuf| {
            let mut arg = std::ffi::OsString::from(name);
            arg.push(at);
            arg
        };
        let buffers = buffers::buffers(self.data_size);
        log::debug!("buffer pool of {}", bytes(buffers.pool));
        command
            .arg("--no-defaults")
            .arg(path("--datadir=", self.data()))
            // Relative to the data directory, because a socket's path is limited to 107 bytes.
            .arg("--socket=../mysqld.sock")
            .arg(path("--pid-file=", self.scratch.join("mysqld.pid")))
            .arg(path("--tmpdir=", self.tmp()))
            .arg(format!("--server-id={}", self.server_id))
            .arg(format!("--innodb-buffer-pool-size={}", buffers.pool))
            .arg(format!("--key-buffer-size={}", buffers.other))
            .args([
                "--skip-networking",
                "--skip-log-bin",
                "--relay-log=relay",
                "--performance-schema=OFF",
                // Position and data roll back together after a kill, so a lost second only costs
                // time.
                "--innodb-flush-log-at-trx-commit=0",
                // Through the page cache, where all of the data is that was just restored; without
                // the cache, each page that is read or written would first go to the disk. Newer
                // MariaDB has another word for it.
                "--loose-innodb-flush-method=fsync",
                "--loose-innodb-data-file-buffering=ON",
                // The list of pages is in no backup, and what it would read early may not be needed.
                "--innodb-buffer-pool-load-at-startup=OFF",
                "--innodb-buffer-pool-dump-at-shutdown=OFF",
            ]);
        if self.relay_logs == RelayLogs::Stay {
            command.arg("--relay-log-purge=OFF");
        }
        match self.flavor {
            Flavor::MariaDb => {
                // A replicated statement may read and write files there, and nowhere else.
                command.arg(path("--secure-file-priv=", self.scratch.join("tmp")));
                command.arg(format!("--aria-pagecache-buffer-size={}", buffers.other)).args([
                    // No line for every look of status: log lines count as activity.
                    "--log-warnings=1",
                    "--skip-slave-start",
                    // Seconds until a silent primary is noticed; heartbeats arrive every two.
                    "--slave-net-timeout=10",
                    "--skip-symbolic-links",
                    // Writes to the page cache wait for nothing, and io_uring hands each of them to a
                    // thread of the kernel.
                    "--loose-innodb-use-native-aio=OFF",
                    // Nothing connects over a network, and MariaDB 11 creates a key at each start,
                    // which takes up to two seconds. Our own connections have settings of their
                    // own.
                    "--skip-ssl",
                    // Not DISABLED, which would reject replicated events.
                    "--event-scheduler=OFF",
                    // Without a binary log, SET PASSWORD changes the password and still returns an
                    // error if a plugin of the account has none (ER_SET_PASSWORD_AUTH_PLUGIN).
                    "--slave-skip-errors=1699",
                ])
            }
            Flavor::MySql => command.args([
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--skip-replica-start",
                "--replica-net-timeout=10",
                // A stop in the middle of a transaction may take a minute: see replica.rs.
                "--loose-rpl-stop-replica-timeout=2",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
                // A new beginning at each start, where they are received.
                match self.relay_logs {
                    RelayLogs::Given => "--relay-log-recovery=OFF",
                    _ => "--relay-log-recovery=ON",
                },
                "--persisted-globals-load=OFF",
                // Since 8.4 it is 64 MiB, all used from the start, and there are few writers.
                "--innodb-log-buffer-size=16M",
                "--event-scheduler=OFF",
                // Nothing connects over a network, so keys for that only cost time.
                "--auto-generate-certs=OFF",
                "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
                "--loose-sha256-password-auto-generate-rsa-keys=OFF",
            ]),
        };
        match init_file {
            Some(file) => {
                command.arg(path("--init-file=", file.into()));
                if self.flavor == Flavor::MySql {
                    // A plugin of the primary's that would look for its group.
                    command.arg("--loose-group-replication-start-on-boot=OFF");
                }
            }
            None if grant_tables => {}
            None => drop(command.arg("--skip-grant-tables")),
        }
        if sys::is_root() && self.user.is_none() {
            command.arg("--user=root");
        }
        for setting in SETTINGS {
            // A dump says of each table which engine it has, the system's own included.
            if grant_tables && init_file.is_none() && setting.name == "enforce_storage_engine" {
                continue;
            }
            let value = value(&self.settings, setting.name);
            command.args(value.and_then(|value| setting.option(value)));
        }
        // Sessions of the primary may have turned it off, and no log event says so. What passes with
        // it is made the same without it.
        command.arg("--innodb-strict-mode=OFF");
        if grant_tables {
            // A dump's text takes up to twice the bytes of a row: more than the primary's own limit.
            command.arg(format!("--max-allowed-packet={LARGEST_PACKET}"));
        }
        command.args(&self.options);
        if cgroup::space_limit().is_some() {
            // glibc would reserve 64 MiB of address space for the heap of each thread.
            command.env("MALLOC_ARENA_MAX", "1");
        }
        command.current_dir(self.place()).stdin(Stdio::null());
        command
    }
}
