//! The primary as we ask it: who answers, what it has, and whether our base can follow it.
//!
//! Candidates are tried in order, looked up afresh at every attempt. All questions need no
//! privilege at all. A base is judged by positions, never by time: too old, or with transactions
//! that the primary lacks.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::account::{Account, Tls, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::{BinlogState, Position};
use crate::mysql::session::{Rows, Session};
use crate::mysql::trouble::Trouble;
use crate::os::clock::Timestamp;
use crate::replication::privileges;

/// No call to the primary lasts longer.
const CALL: Duration = Duration::from_secs(5);

/// Server settings that the data needs, or that decide what a replicated statement means.
pub const SETTINGS: [&str; 7] = [
    "lower_case_table_names",
    "innodb_page_size",
    "character_set_server",
    "collation_server",
    "sql_mode",
    "explicit_defaults_for_timestamp",
    "max_allowed_packet",
];

/// Where a primary may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// All the places where the primary may be, and who we are to it.
#[derive(Clone, Debug)]
pub struct Primary {
    /// In the order in which they are tried.
    pub candidates: Vec<Address>,
    /// The account.
    pub account: Account,
}

/// What a primary said of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who answered.
    pub address: Address,
    /// Whose words it speaks.
    pub flavor: Flavor,
    /// Its version, as it says it.
    pub version: String,
    /// What it has executed: the goal, if this pass needs one now.
    pub position: Position,
    /// When the position was read.
    pub asked: Timestamp,
    /// Never to be used by another server.
    pub server_id: u32,
    /// Settings to be shared with it.
    pub settings: Vec<(String, String)>,
    /// For how long it keeps its binary logs; `None` for ever, or when it does not say.
    pub keeps: Option<Duration>,
    history: History,
}

#[derive(Clone, Debug)]
enum History {
    MariaDb { state: BinlogState, applied: Position },
    MySql { purged: Position },
}

impl Facts {
    /// Is there a position at all?
    ///
    /// # Errors
    /// [`Error::Configuration`]: "at least nothing" would be reached at once.
    pub fn check_position(&self) -> Result<()> {
        if self.position.is_empty() {
            return Err(Error::config(format!(
                "primary {} has no position: nothing was written to its binary log yet",
                self.address
            )));
        }
        Ok(())
    }

    /// Can a replica go on from `position` here?
    ///
    /// # Errors
    /// [`Error::Configuration`] for another flavor, [`Error::Diverged`] or [`Error::Purged`].
    /// MariaDB tells the latter only once replication
    /// starts: see [`Facts::judge_refused`].
    pub fn judge(&self, position: &Position) -> Result<()> {
        if position.flavor() != self.flavor {
            return Err(Error::config(format!(
                "the base at {position} is of {}, and primary {} is {}",
                position.flavor().name(),
                self.address,
                self.flavor.name()
            )));
        }
        let errant = match &self.history {
            // A replica that keeps no binary log of what it applied has it all the same.
            History::MariaDb { state, applied } => state.lacks(position).minus(applied),
            History::MySql { .. } => position.minus(&self.position),
        };
        if !errant.is_empty() {
            return Err(Error::Diverged {
                errant: errant.to_string(),
                primary: format!("{} at {}", self.address, shown(&self.position)),
            });
        }
        match &self.history {
            History::MySql { purged } if !purged.minus(position).is_empty() => {
                let at = shown(&self.position);
                Err(self.purged(position, &format!("it is at {at} and has purged {purged}")))
            }
            _ => Ok(()),
        }
    }

    /// The verdict on `position` after the primary refused to send what follows it.
    pub fn judge_refused(&self, position: &Position) -> Error {
        let at = format!("it is at {} and refuses to go back so far", shown(&self.position));
        self.judge(position).err().unwrap_or_else(|| self.purged(position, &at))
    }

    fn purged(&self, position: &Position, what: &str) -> Error {
        Error::Purged {
            position: position.to_string(),
            primary: format!("{} says {what}", self.address),
        }
    }
}

fn shown(position: &Position) -> String {
    if position.is_empty() { "no position".into() } else { position.to_string() }
}

impl Primary {
    /// A session with one candidate.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], or [`Error::PrimaryUnreachable`].
    pub fn open(&self, address: &Address) -> Result<Session> {
        Session::over_tcp(&address.host, address.port, &self.account, CALL)
            .map_err(|t| refused(address, hinted(t, &self.account.tls)))
    }

    /// The facts of the first candidate that answers and that a replica at `base` can follow.
    /// `go_on` is asked before each of them, since a dead one takes its time.
    ///
    /// # Errors
    /// The verdict of the last candidate, unless another one may do better later: then that
    /// nobody can be reached.
    pub fn choose(
        &self,
        base: Option<&Position>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Facts> {
        let mut worst: Option<Error> = None;
        for address in &self.candidates {
            go_on()?;
            let judged = self.ask(address).and_then(|facts| {
                base.map_or(Ok(()), |b| facts.judge(b))?;
                Ok(facts)
            });
            match judged {
                Ok(facts) => return Ok(facts),
                Err(e) => {
                    log::debug!("candidate {address}: {e}");
                    worst = Some(match worst {
                        Some(w) if w.is_temporary() => w,
                        _ => e,
                    });
                }
            }
        }
        Err(worst.unwrap_or_else(|| Error::config("no primary is given: use --primary")))
    }

    /// Checks that the account has the privileges `wanted` (see [`privileges`]) at `address`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] naming what is missing, and the statement that grants it.
    pub fn check_privileges(&self, address: &Address, wanted: &[&str]) -> Result<()> {
        let mut session = self.open(address)?;
        let rows = session.query("SHOW GRANTS").map_err(|t| refused(address, t))?;
        let grants: Vec<String> = rows.iter().map(|r| r.concat()).collect();
        let missing = privileges::missing(&grants, wanted).join(", ");
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::AccessDenied {
            primary: address.to_string(),
            text: format!(
                "the account {user} lacks {missing}; run there: GRANT {missing} ON *.* TO \
                 `{user}`@`...`",
                user = self.account.user
            ),
        })
    }

    fn ask(&self, address: &Address) -> Result<Facts> {
        let mut session = self.open(address)?;
        let mut query = |sql: &str| session.query(sql).map_err(|t| refused(address, t));
        let version = query("SELECT VERSION()")?.first().to_string();
        let flavor = Flavor::from_version(&version);
        let settings: String = SETTINGS.iter().map(|s| format!(", @@global.{s} AS {s}")).collect();
        let own = match flavor {
            Flavor::MariaDb => {
                "@@global.gtid_binlog_pos AS position, @@global.gtid_binlog_state AS state, \
                 @@global.gtid_slave_pos AS applied, @@global.log_bin AS logs"
            }
            Flavor::MySql => {
                "@@global.gtid_executed AS position, @@global.gtid_purged AS purged, \
                 @@global.gtid_mode AS gtids, @@global.log_bin AS logs"
            }
        };
        let asked = Timestamp::now();
        let rows = query(&format!("SELECT {own}, @@global.server_id AS server_id{settings}"))?;
        check_logs(address, flavor, &rows)?;
        let position = |column: &str| {
            Position::parse(flavor, rows.get(column)).map_err(|text| Error::ReplicationError {
                errno: 0,
                text: format!("{address} gave an unreadable {column}: {text}"),
            })
        };
        let history = match flavor {
            Flavor::MariaDb => History::MariaDb {
                state: BinlogState::parse(rows.get("state"))
                    .map_err(|text| Error::ReplicationError { errno: 0, text })?,
                applied: position("applied")?,
            },
            Flavor::MySql => History::MySql { purged: position("purged")? },
        };
        let position = position("position")?;
        let limits = query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('binlog_expire_logs_seconds', 'expire_logs_days')",
        )?;
        Ok(Facts {
            address: address.clone(),
            flavor,
            version,
            position,
            keeps: kept(&limits.iter().collect::<Vec<_>>()),
            asked,
            server_id: rows.get("server_id").parse().unwrap_or(0),
            settings: SETTINGS.iter().map(|s| (s.to_string(), rows.get(s).to_string())).collect(),
            history,
        })
    }
}

/// What the variables say of how long binary logs are kept. The newer one, in seconds, wins
/// where it is set; 0 is for ever.
fn kept(variables: &[Vec<&str>]) -> Option<Duration> {
    let value = |name: &str| {
        let row = variables.iter().find(|r| r.first() == Some(&name))?;
        row.get(1)?.parse::<f64>().ok().filter(|v| *v > 0.0)
    };
    let days = || value("expire_logs_days").map(|days| days * 86_400.0);
    let seconds = value("binlog_expire_logs_seconds").or_else(days)?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn check_logs(address: &Address, flavor: Flavor, rows: &Rows) -> Result<()> {
    if rows.get("logs") != "1" {
        return Err(Error::config(format!(
            "primary {address} writes no binary log: set log_bin there"
        )));
    }
    if flavor == Flavor::MySql && rows.get("gtids") != "ON" {
        return Err(Error::config(format!(
            "primary {address} has gtid_mode={}: set it to ON there",
            rows.get("gtids")
        )));
    }
    Ok(())
}

/// What a primary's refusal means.
pub fn refused(address: &Address, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Server { errno, text } if denies_access(errno) => Error::AccessDenied {
            primary: address.to_string(),
            text: format!("error {errno}: {text}"),
        },
        Trouble::Refused(text) => Error::AccessDenied { primary: address.to_string(), text },
        Trouble::Unusable(text) => Error::Configuration { text },
        trouble => {
            Error::PrimaryUnreachable { primary: address.to_string(), text: trouble.to_string() }
        }
    }
}

/// A login that is refused for want of TLS, or of a certificate, looks like a wrong password.
fn hinted(trouble: Trouble, tls: &Tls) -> Trouble {
    let hint = if tls.mode == TlsMode::Disabled {
        "check user and password; TLS is off: if the primary demands it, set ssl-mode in [client]"
    } else if tls.cert.is_none() {
        "check user and password; if the primary demands a client certificate, set ssl-cert and \
         ssl-key in [client]"
    } else {
        "check user, password and the client certificate in [client]"
    };
    match trouble {
        // 3159 is the servers' "insecure transport is prohibited".
        Trouble::Server { errno: errno @ (1045 | 3159), text } => {
            Trouble::Server { errno, text: format!("{text}; {hint}") }
        }
        trouble => trouble,
    }
}

/// The client libraries' number for whatever goes wrong with TLS. A line that was cut says so
/// once; a certificate that is refused says so at each look.
pub const TLS_FAILED: u16 = 2026;

/// Error numbers that waiting does not cure: the account, its password, its privileges or the
/// way it must connect. From the error references of both servers; 1597 and 13120 are the
/// replica's "registering was refused".
pub fn denies_access(errno: u16) -> bool {
    const NUMBERS: [u16; 20] = [
        1044, 1045, 1130, 1142, 1143, 1227, 1251, 1275, 1370, 1597, 1698, 1820, 1862, 2059, 2061,
        3118, 3159, 3955, 4151, 13120,
    ];
    NUMBERS.contains(&errno)
}

#[cfg(test)]
mod tests;
