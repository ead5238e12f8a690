//! The primary: which candidate answers, what it has, and whether our base can follow it.
//!
//! Candidates are tried in order and resolved again at every attempt. The queries need no
//! privilege. A base is judged by its position, never by its age: it may be too old, or have
//! transactions that the primary lacks.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::account::{Account, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::{BinlogState, Position};
use crate::mysql::session::{Rows, Session};
use crate::os::clock::Timestamp;
use crate::replication::time_zone::{self, Offsets};
use crate::replication::{privileges, values};
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Watched;

mod protection;
mod refusal;

pub use refusal::{TLS_FAILED, denies_access, refused};

/// The longest password in MySQL's START REPLICA, characters; it cuts off the rest without a word. From
/// the manual of CHANGE REPLICATION SOURCE.
const MYSQL_PASSWORD: usize = 32;

/// Server settings that the data needs, or that affect replicated statements.
pub const SETTINGS: [&str; 7] = [
    "lower_case_table_names",
    "innodb_page_size",
    "character_set_server",
    "collation_server",
    "sql_mode",
    "explicit_defaults_for_timestamp",
    "max_allowed_packet",
];

/// The address of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// True for an address of this machine, which nobody can come between. What a name stands for
    /// may change before a client of ours looks it up.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
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

/// All addresses of the primary, and the account there.
#[derive(Clone, Debug)]
pub struct Primary {
    /// In the order of trying.
    pub candidates: Vec<Address>,
    /// The account.
    pub account: Account,
    /// `--connect-timeout`: for a login as a whole, and for each short query.
    pub patience: Duration,
    /// For a query about all tables, each of which a large server opens for it: `--stall-timeout`,
    /// or zero if that is off.
    pub listing: Duration,
}

/// What a primary reported.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The address that answered.
    pub address: Address,
    /// Its kind.
    pub flavor: Flavor,
    /// Its version string.
    pub version: String,
    /// Whether our session with it was encrypted.
    pub encrypted: bool,
    /// What it has executed: the goal, if this pass needs one now.
    pub position: Position,
    /// When the position was read.
    pub asked: Timestamp,
    /// Its server id, which no other server may use.
    pub server_id: u32,
    /// Settings that the private server must share.
    pub settings: Vec<(String, String)>,
    /// How long it keeps its binary logs; `None` for forever or unknown.
    pub keeps: Option<Duration>,
    /// The time zone of its machine.
    pub zone: Offsets,
    /// How long our login took.
    pub greeted_after: Duration,
    history: History,
}

#[derive(Clone, Debug)]
enum History {
    MariaDb { state: BinlogState, applied: Position },
    MySql { purged: Position },
}

impl Facts {
    /// Checks that there is a position at all.
    ///
    /// # Errors
    /// [`Error::Configuration`]: an empty goal would be reached at once.
    pub fn check_position(&self) -> Result<()> {
        if self.position.is_empty() {
            return Err(Error::config(format!(
                "primary {} has no position: its binary log is empty",
                self.address
            )));
        }
        Ok(())
    }

    /// Checks that a replica at `position` can follow this primary.
    ///
    /// # Errors
    /// [`Error::Configuration`] for another flavor, [`Error::Diverged`] or [`Error::Purged`].
    /// MariaDB reports the latter only once replication starts: see [`Facts::explain_refusal`].
    pub fn check_base(&self, position: &Position) -> Result<()> {
        if position.flavor() != self.flavor {
            return Err(Error::config(format!(
                "the base at {position} is of {}, and primary {} is {}",
                position.flavor().name(),
                self.address,
                self.flavor.name()
            )));
        }
        let errant = match &self.history {
            // Even a replica without a binary log of its own has applied it.
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

    /// The error for `position` after the primary refused to send what follows it.
    pub fn explain_refusal(&self, position: &Position) -> Error {
        let at = format!("it is at {} and refuses to go back that far", shown(&self.position));
        self.check_base(position).err().unwrap_or_else(|| self.purged(position, &at))
    }

    fn purged(&self, position: &Position, what: &str) -> Error {
        Error::Purged {
            position: position.to_string(),
            primary: format!("{} reports that {what}", self.address),
        }
    }
}

fn shown(position: &Position) -> String {
    if position.is_empty() { "no position".into() } else { position.to_string() }
}

impl Primary {
    /// Opens another session with the candidate that answered, protected as the first one was.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], or [`Error::PrimaryUnreachable`].
    pub fn open(&self, facts: &Facts) -> Result<Session> {
        open(&facts.address, &self.account_at(facts), self.patience)
    }

    /// Runs `question` beside the loop, which watches `watched` meanwhile: a primary may take its time,
    /// and nothing waits for one that does not answer but the question. See [`Supervisor::aside`].
    ///
    /// # Errors
    /// As there.
    pub fn question<W: Watched, T: Send + 'static>(
        &self,
        supervisor: &mut Supervisor,
        watched: &mut W,
        question: impl FnOnce(&Primary) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let primary = self.clone();
        let answer = supervisor.aside(watched, move || question(&primary))?;
        answer.ok_or_else(|| {
            let names: Vec<_> = self.candidates.iter().map(Address::to_string).collect();
            let text = "its answer is malformed: no memory holds what it announces".into();
            Error::PrimaryUnreachable { primary: names.join(","), text }
        })
    }

    /// The account, with what was found out about TLS in place of PREFERRED.
    pub fn account_at(&self, facts: &Facts) -> Account {
        Account { tls: self.account.tls.settled(facts.encrypted), ..self.account.clone() }
    }

    /// What is to be said about a line to the primary that anybody may read although encryption
    /// was preferred; `None` if all is well.
    pub fn unencrypted(&self, facts: &Facts) -> Option<String> {
        let bare = self.account.tls.mode == TlsMode::Preferred && !facts.encrypted;
        (bare && !facts.address.is_loopback()).then(|| {
            format!(
                "primary {} offers no TLS: all but the password crosses the network readable; give \
                 it a certificate, or set ssl-mode=DISABLED in [client] if that is acceptable",
                facts.address
            )
        })
    }

    /// The facts of the first candidate that answers and that a replica at `base` can follow.
    ///
    /// # Errors
    /// The last candidate's error; unreachable if any candidate may recover.
    pub fn choose(&self, base: Option<&Position>) -> Result<Facts> {
        let mut worst: Option<Error> = None;
        for address in &self.candidates {
            let judged = self.ask(address).and_then(|facts| {
                base.map_or(Ok(()), |b| facts.check_base(b))?;
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

    /// Checks that the account has the privileges `wanted` (see [`privileges`]) at the
    /// primary of `facts`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], with the missing privileges and the statement that grants them.
    pub fn check_privileges(&self, facts: &Facts, wanted: &[&str]) -> Result<()> {
        let address = &facts.address;
        let mut session = self.open(facts)?;
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
        let began = Instant::now();
        let mut session = open(address, &self.account, self.patience)?;
        let greeted_after = began.elapsed();
        let encrypted = session.is_encrypted();
        let mut query = |sql: &str| session.query(sql).map_err(|t| refused(address, t));
        let version = query("SELECT VERSION()")?.first().to_string();
        values::check(&address.to_string(), "version", &version)?;
        let flavor = Flavor::from_version(&version);
        if flavor == Flavor::MySql && self.account.password.0.chars().count() > MYSQL_PASSWORD {
            return Err(Error::config(format!(
                "the password of {} is longer than {MYSQL_PASSWORD} characters, all that MySQL's \
                 replication takes: give that account a shorter one",
                self.account.user
            )));
        }
        if !address.is_loopback() {
            protection::check(&address.to_string(), flavor, &self.account.tls)?;
        }
        let columns: String = SETTINGS.iter().map(|s| format!(", @@global.{s} AS {s}")).collect();
        let own = match flavor {
            Flavor::MariaDb => {
                "@@global.gtid_binlog_pos AS position, @@global.gtid_binlog_state AS state, \
                 @@global.gtid_slave_pos AS applied, @@global.log_slave_updates AS logs_all, \
                 @@global.log_bin AS logs"
            }
            Flavor::MySql => {
                "@@global.gtid_executed AS position, @@global.gtid_purged AS purged, \
                 @@global.gtid_mode AS gtids, @@global.log_bin AS logs"
            }
        };
        let asked = Timestamp::now();
        let rows = query(&format!("SELECT {own}, @@global.server_id AS server_id{columns}"))?;
        check_logs(address, flavor, &rows)?;
        let position = |column: &str| {
            Position::parse(flavor, rows.require(column)?).map_err(|text| Error::ReplicationError {
                errno: 0,
                text: format!("cannot parse {column} of {address}: {text}"),
            })
        };
        let history = match flavor {
            Flavor::MariaDb => History::MariaDb {
                state: BinlogState::parse(rows.require("state")?)
                    .map_err(|text| Error::ReplicationError { errno: 0, text })?,
                applied: position("applied")?,
            },
            Flavor::MySql => History::MySql { purged: position("purged")? },
        };
        let position = position("position")?;
        if let History::MariaDb { applied, .. } = &history
            && rows.require("logs_all")? == "0"
            && !position.contains(applied)
        {
            return Err(Error::config(format!(
                "primary {address} is a replica that does not log what it applies: nothing of that \
                 would arrive here; set log_slave_updates there, or use its own primary"
            )));
        }
        let limits = query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('binlog_expire_logs_seconds', 'expire_logs_days')",
        )?;
        query(time_zone::AS_SYSTEM)?;
        let zone = Offsets::parse(&address.to_string(), query(&time_zone::query())?.first())?;
        Ok(Facts {
            zone,
            address: address.clone(),
            flavor,
            version,
            encrypted,
            greeted_after,
            position,
            keeps: values::binlog_retention(&limits.iter().collect::<Vec<_>>()),
            asked,
            server_id: values::number(
                &address.to_string(),
                "server_id",
                rows.require("server_id")?,
            )?,
            settings: settings(&address.to_string(), &rows)?,
            history,
        })
    }
}

/// The values of [`SETTINGS`] in an answer that has them as columns.
///
/// # Errors
/// When one of them is missing, or not what a server ever says.
pub fn settings(server: &str, rows: &Rows) -> Result<Vec<(String, String)>> {
    let read = |name: &&str| {
        let value = rows.require(name)?;
        values::check(server, name, value)?;
        Ok((name.to_string(), value.to_string()))
    };
    SETTINGS.iter().map(read).collect()
}

fn open(address: &Address, account: &Account, patience: Duration) -> Result<Session> {
    Session::over_tcp(&address.host, address.port, account, patience)
        .map_err(|t| refused(address, protection::with_hint(t, &account.tls)))
}

fn check_logs(address: &Address, flavor: Flavor, rows: &Rows) -> Result<()> {
    if rows.require("logs")? != "1" {
        return Err(Error::config(format!(
            "primary {address} writes no binary log: set log_bin there"
        )));
    }
    if flavor == Flavor::MySql && rows.require("gtids")? != "ON" {
        return Err(Error::config(format!(
            "primary {address} has gtid_mode={}: set it to ON there",
            rows.require("gtids")?
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
