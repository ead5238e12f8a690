//! The private server as a replica: statements in both dialects, status, and errors.
//!
//! Decisions depend on error numbers and column values, never on the text of an error.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::account::{Account, ServerKey, Tls, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::session::quoted;
use crate::replication::kept_logs::KeepLogs;
use crate::replication::primary::{Address, Facts, TLS_FAILED, denies_access};
use crate::server::error_log::{STOPPED_BY_ANOTHER, without_statement};
use crate::server::mysqld::Mysqld;

/// The minimum of `rpl_stop_replica_timeout`. MySQL blocks for this long when its applier is
/// stopped in the middle of a transaction, then answers while the stop continues.
const STOPPING: Duration = Duration::from_secs(2);

/// Time until a silent primary is noticed, and at most that a connection of the receiver may take; the
/// private server is started with it. Heartbeats arrive every two seconds.
const NET_TIMEOUT: Duration = Duration::from_secs(10);
/// MySQL's numbers for an applier whose worker has failed: its coordinator, woken by that, blames its
/// relay log (13121), or quotes another worker that ended for the same reason.
const WORKERS: [u16; 2] = [13121, STOPPED_BY_ANOTHER];

/// The same for the primary of `facts`: one that took long to greet us, greets the receiver no faster.
pub fn net_timeout(facts: &Facts) -> Duration {
    NET_TIMEOUT.max(3 * facts.greeted_after)
}

/// Points replication at the primary of `facts` and starts it, whatever it did before. It stops by
/// itself at `until`, so that a later statement, perhaps an hour's ALTER, is not running when
/// replication is to stop. Without `until` only the receiver starts, to test the connection. An
/// applier that is working on data from the same address is left alone, because stopping it means
/// waiting for its statement.
///
/// # Errors
/// The private server's error; [`Error::MysqldHung`] if it does not answer.
pub fn start(
    mysqld: &mut Mysqld,
    facts: &Facts,
    account: &Account,
    until: Option<&Position>,
    logs: &dyn KeepLogs,
) -> Result<()> {
    let (host, port) = (quoted(&facts.address.host), facts.address.port);
    let (user, password) = (quoted(&account.user), quoted(&account.password.0));
    let net_timeout = net_timeout(facts).as_secs();
    let compress = u8::from(account.compress);
    mysqld.run(&match facts.flavor {
        Flavor::MariaDb => format!(
            "SET GLOBAL slave_net_timeout = {net_timeout}, slave_compressed_protocol = {compress}"
        ),
        Flavor::MySql => format!("SET GLOBAL replica_net_timeout = {net_timeout}"),
    })?;
    match facts.flavor {
        Flavor::MariaDb => {
            if until.is_some() && is_applying_from(mysqld, facts)? {
                mysqld.run("STOP SLAVE IO_THREAD")?;
                return mysqld.run("START SLAVE IO_THREAD");
            }
            mysqld.run("STOP SLAVE")?;
            logs.begin(&position(mysqld, facts.flavor)?);
            mysqld.run(&format!(
                "CHANGE MASTER TO MASTER_HOST={host}, MASTER_PORT={port}, MASTER_USER={user}, \
                 MASTER_PASSWORD={password}, MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, \
                 MASTER_HEARTBEAT_PERIOD=2{}",
                tls_options(&account.tls, "MASTER")
            ))?;
            match until {
                Some(goal) => mysqld.run(&format!("START SLAVE UNTIL master_gtid_pos = '{goal}'")),
                None => mysqld.run("START SLAVE IO_THREAD"),
            }
        }
        Flavor::MySql => {
            // A partly received transaction keeps the applier busy, and stopping it blocks, until
            // the rest arrives. So only the receiver is redirected.
            let keeps_applier =
                until.is_some() && ReplicaStatus::read(mysqld, facts.flavor)?.applier_runs;
            let (threads, auto_position) = match until {
                _ if keeps_applier => (" IO_THREAD", ""),
                _ => ("", ", SOURCE_AUTO_POSITION=1"),
            };
            mysqld.run(&format!("STOP REPLICA{threads}"))?;
            // While its applier runs, the relay logs stay, and the receiver goes on with them.
            if !keeps_applier {
                logs.begin(&position(mysqld, facts.flavor)?);
            }
            mysqld.run(&format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST={host}, SOURCE_PORT={port}, \
                 SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=10, \
                 SOURCE_HEARTBEAT_PERIOD=2{auto_position}{}{}{}",
                tls_options(&account.tls, "SOURCE"),
                public_key_options(&account.tls),
                compression_options(account.compress)
            ))?;
            let what = match until {
                Some(goal) if !keeps_applier => format!("UNTIL SQL_AFTER_GTIDS = '{goal}'"),
                _ => "IO_THREAD".into(),
            };
            // Not in CHANGE, where MySQL would store the password in its tables.
            mysqld.run(&format!("START REPLICA {what} USER = {user} PASSWORD = {password}"))
        }
    }
}

/// True if the applier is running and replication already points at the primary of `facts`.
pub fn is_applying_from(mysqld: &mut Mysqld, facts: &Facts) -> Result<bool> {
    let status = ReplicaStatus::read(mysqld, facts.flavor)?;
    let Address { host, port } = &facts.address;
    Ok(status.applier_runs && status.from == (host.clone(), port.to_string()))
}

/// Stops the receiver thread, which never blocks.
pub fn stop_receiver(mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    mysqld.run(match flavor {
        Flavor::MariaDb => "STOP SLAVE IO_THREAD",
        Flavor::MySql => "STOP REPLICA IO_THREAD",
    })
}

/// The options that protect the connection, for `side` MASTER or SOURCE.
pub(super) fn tls_options(tls: &Tls, side: &str) -> String {
    let on = u8::from(tls.mode != TlsMode::Disabled);
    let verify = u8::from(tls.mode == TlsMode::VerifyIdentity);
    let mut words = format!(", {side}_SSL={on}, {side}_SSL_VERIFY_SERVER_CERT={verify}");
    if on == 1 {
        let (cert, key) = (tls.cert.as_ref(), tls.key.as_ref());
        for (name, path) in [("CA", tls.verified_by()), ("CERT", cert), ("KEY", key)] {
            if let Some(path) = path {
                words += &format!(", {side}_SSL_{name}={}", quoted(&path.to_string_lossy()));
            }
        }
    }
    words
}

/// The public key under which MySQL may send the password without TLS.
pub(super) fn public_key_options(tls: &Tls) -> String {
    let asked = u8::from(tls.server_key == ServerKey::Asked);
    let path = match &tls.server_key {
        ServerKey::File(path) => quoted(&path.to_string_lossy()),
        _ => "''".into(),
    };
    format!(", GET_SOURCE_PUBLIC_KEY={asked}, SOURCE_PUBLIC_KEY_PATH={path}")
}

/// Which compression MySQL may agree on, the best first. A primary that allows none of them sends as it
/// is rather than refuse.
fn compression_options(compress: bool) -> &'static str {
    match compress {
        true => ", SOURCE_COMPRESSION_ALGORITHMS='zstd,zlib,uncompressed'",
        false => ", SOURCE_COMPRESSION_ALGORITHMS='uncompressed'",
    }
}

/// Stops the applier before the receiver, which delivers the rest of its transaction. `false` while
/// it has not finished that transaction: MySQL answers so and keeps stopping, MariaDB does not
/// answer meanwhile. Call it again: only that makes an applier of MySQL that lacks the rest of a
/// transaction notice that it has waited long enough.
pub fn stop_applier(mysqld: &mut Mysqld, flavor: Flavor) -> Result<bool> {
    let (sql, longer) = match flavor {
        Flavor::MariaDb => ("STOP SLAVE SQL_THREAD", Duration::ZERO),
        Flavor::MySql => ("STOP REPLICA SQL_THREAD", STOPPING),
    };
    match mysqld.run_for(sql, longer) {
        Err(Error::ReplicationError { errno: 1875, .. }) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Stops the rest of replication and forgets the primary, so that no login is left behind.
pub fn forget(mysqld: &mut Mysqld, flavor: Flavor, logs: &dyn KeepLogs) -> Result<()> {
    let (stop, reset) = match flavor {
        Flavor::MariaDb => ("STOP SLAVE", "RESET SLAVE ALL"),
        Flavor::MySql => ("STOP REPLICA", "RESET REPLICA ALL"),
    };
    mysqld.run(stop)?;
    logs.end();
    mysqld.run(reset)
}

/// The executed position.
pub fn position(mysqld: &mut Mysqld, flavor: Flavor) -> Result<Position> {
    let sql = match flavor {
        Flavor::MariaDb => "SELECT @@global.gtid_slave_pos",
        Flavor::MySql => "SELECT @@global.gtid_executed",
    };
    let answer = mysqld.control()?.query(sql);
    let rows = answer.map_err(|t| mysqld.lost("answer to a position query", t))?;
    Position::parse(flavor, rows.first()).map_err(|text| Error::ReplicationError { errno: 0, text })
}

/// Sets the position of a fresh server whose data does not contain it. (MySQL's does after a clean
/// shutdown.)
pub fn set_position(mysqld: &mut Mysqld, position: &Position) -> Result<()> {
    match position.flavor() {
        Flavor::MariaDb => mysqld.run(&format!("SET GLOBAL gtid_slave_pos = '{position}'")),
        Flavor::MySql => {
            // The set can only be emptied this way.
            let reset = mysqld.run("RESET BINARY LOGS AND GTIDS");
            // 8.0 knows only the older statement; a syntax error is 1064.
            match reset {
                Err(Error::ReplicationError { errno: 1064, .. }) => mysqld.run("RESET MASTER")?,
                reset => reset?,
            }
            mysqld.run(&format!("SET GLOBAL gtid_purged = '{position}'"))
        }
    }
}

/// The state of the receiver thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Connected.
    Connected,
    /// Trying to connect.
    Connecting,
    /// Stopped.
    Stopped,
}

/// A snapshot of the replica's status.
#[derive(Debug)]
pub struct ReplicaStatus {
    /// The receiver thread.
    pub receiver: Receiver,
    /// True if the applier thread is running.
    pub applier_runs: bool,
    /// What was received so far, only for comparison.
    pub received: String,
    /// The transactions that were received completely.
    pub whole: Position,
    /// The relay log that the applier is at.
    pub applying: String,
    /// Host and port of the configured primary.
    from: (String, String),
    receiver_error: (u16, String),
    applier_error: (u16, String),
}

impl ReplicaStatus {
    /// Queries the status.
    pub fn read(mysqld: &mut Mysqld, flavor: Flavor) -> Result<ReplicaStatus> {
        let (sql, side, other, received) = match flavor {
            Flavor::MariaDb => (
                "SHOW SLAVE STATUS",
                "Slave",
                "Master",
                ["Gtid_IO_Pos", "Master_Log_File", "Read_Master_Log_Pos", "Relay_Log_Space"],
            ),
            Flavor::MySql => (
                "SHOW REPLICA STATUS",
                "Replica",
                "Source",
                ["Retrieved_Gtid_Set", "Source_Log_File", "Read_Source_Log_Pos", "Relay_Log_Space"],
            ),
        };
        let answer = mysqld.control()?.query(sql);
        let row = answer.map_err(|t| mysqld.lost("answer to a status query", t))?;
        let receiver = match row.require(&format!("{side}_IO_Running"))? {
            "Yes" => Receiver::Connected,
            "Connecting" | "Preparing" => Receiver::Connecting,
            _ => Receiver::Stopped,
        };
        let error = |side: &str| -> Result<(u16, String)> {
            let errno = row.require(&format!("Last_{side}_Errno"))?.parse().unwrap_or(0);
            Ok((errno, without_statement(row.require(&format!("Last_{side}_Error"))?)))
        };
        let mut applier_error = error("SQL")?;
        if flavor == Flavor::MySql
            && applier_error.0 != 0
            && let Some(error) = mysqld.worker_error()
            && (error.0 == applier_error.0 || WORKERS.contains(&applier_error.0))
        {
            applier_error = error;
        }
        Ok(ReplicaStatus {
            receiver,
            applier_runs: row.require(&format!("{side}_SQL_Running"))? == "Yes",
            received: received
                .iter()
                .map(|c| row.require(c))
                .collect::<Result<Vec<_>>>()?
                .join(" "),
            whole: Position::parse(flavor, row.require(received[0])?)
                .map_err(|text| Error::ReplicationError { errno: 0, text })?,
            applying: row.require("Relay_Log_File")?.to_string(),
            from: (
                row.require(&format!("{other}_Host"))?.to_string(),
                row.require(&format!("{other}_Port"))?.to_string(),
            ),
            receiver_error: error("IO")?,
            applier_error,
        })
    }

    /// True if the receiver is connected, or has all that it was started for.
    pub fn has_connected(&self) -> bool {
        match self.receiver {
            Receiver::Connected => true,
            Receiver::Connecting => false,
            Receiver::Stopped => self.receiver_error.0 == 0 && self.applier_runs,
        }
    }

    /// True if the receiver has tried to connect and failed, and not just begun.
    pub fn has_failed_to_connect(&self) -> bool {
        self.receiver_error.0 != 0
    }

    /// The error at which the applier has stopped, or that it has stopped without one.
    pub fn applier_failure(&self) -> Option<Error> {
        let (errno, text) = self.applier_error.clone();
        match (self.applier_runs, errno) {
            (true, _) => None,
            (false, 0) => {
                let text = "the applier stopped without an error".into();
                Some(Error::ReplicationError { errno: 0, text })
            }
            _ => Some(Error::ReplicationError { errno, text }),
        }
    }

    /// True if the applier has stopped at a statement.
    pub fn applier_failed(&self) -> bool {
        self.applier_error.0 != 0 && !self.applier_runs
    }

    /// The failure in this status, unless it is a connection that may still succeed. `facts`
    /// describe the primary it follows, `at` is the executed position.
    pub fn failure(&self, facts: &Facts, at: &Position) -> Option<Error> {
        let (errno, text) = &self.applier_error;
        if self.applier_failed() {
            return Some(Error::ReplicationError { errno: *errno, text: text.clone() });
        }
        if let Some(failure) = self.receiver_failure(facts, at) {
            return Some(failure);
        }
        if !self.applier_runs && self.receiver == Receiver::Connected {
            let text = "the applier stopped without an error".into();
            return Some(Error::ReplicationError { errno: 0, text });
        }
        None
    }

    /// The failure of the receiver alone, unless it is a connection that may still succeed.
    pub fn receiver_failure(&self, facts: &Facts, at: &Position) -> Option<Error> {
        let (errno, text) = &self.receiver_error;
        if denies_access(*errno) && self.receiver != Receiver::Connected {
            let text = if matches!(errno, 1597 | 13120) {
                format!("it lacks REPLICATION SLAVE (error {errno}: {text})")
            } else {
                format!("error {errno}: {text}")
            };
            return Some(Error::AccessDenied { primary: facts.address.to_string(), text });
        }
        if self.receiver == Receiver::Stopped && *errno != 0 && !is_connection_error(*errno) {
            return Some(match errno {
                1236 => facts.explain_refusal(at),
                // MySQL uses one number for purged logs, a base that is ahead, and another replica
                // with our uuid. The positions reveal the first two.
                13114 => facts.check_base(at).err().unwrap_or_else(|| Error::ReplicationError {
                    errno: *errno,
                    text: text.clone(),
                }),
                _ => Error::ReplicationError { errno: *errno, text: text.clone() },
            });
        }
        None
    }

    /// The failure of a receiver that did not connect.
    pub fn not_connected(&self, address: &Address) -> Error {
        let (errno, text) = &self.receiver_error;
        let text = match errno {
            0 => "replication cannot connect to it".into(),
            _ => format!("error {errno}: {text}"),
        };
        let primary = address.to_string();
        if *errno == TLS_FAILED {
            return Error::AccessDenied { primary, text };
        }
        Error::PrimaryUnreachable { primary, text }
    }
}

/// Error numbers of a missing connection, or of a server that accepts none right now. From the
/// client error reference (2xxx) and the servers' (1xxx).
fn is_connection_error(errno: u16) -> bool {
    matches!(errno, 1040 | 1053 | 1129 | 1152..=1161 | 1184 | 1203 | 1226 | 2002..=2006 | 2012 | 2013 | TLS_FAILED | 2055)
}
