//! The primary: which candidate answers, what it has, and whether our base can follow it.
//!
//! Candidates are tried in order and resolved again at every attempt. The queries need no
//! privilege. A base is judged by its position, never by its age: it may be too old, or have
//! transactions that the primary lacks.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::account::{Account, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::position::{BinlogState, Position};
use crate::mysql::primary_log::mark;
use crate::mysql::session::{MOST_PACKET, Session};
use crate::mysql::settings;
use crate::os::clock::Timestamp;
use crate::replication::time_zone::{self, Offsets};
use crate::replication::{privileges, values};
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Watched;
use crate::text::harmless;

mod address;
mod binary_log;
mod facts;
mod log_start;
mod protection;
mod refusal;

pub use address::Address;
pub use facts::Facts;
use facts::History;
pub use refusal::{TLS_FAILED, denies_access, refused};

/// The longest password in MySQL's START REPLICA, characters; it cuts off the rest without a word. From
/// the manual of CHANGE REPLICATION SOURCE.
const MYSQL_PASSWORD: usize = 32;

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

/// The variable of MariaDB that is on in a member of a Galera cluster.
const CLUSTERED: &str = "wsrep_on";

/// A setting by which MySQL shows the keys that it makes by itself.
pub const SHOW_KEYS: &str = "show_gipk_in_create_table_and_information_schema = ON";

/// Shows them; an older server has none to show.
pub fn show_all(session: &mut Session, facts: &Facts) {
    if facts.flavor == Flavor::MySql {
        let _ = session.run(&format!("SET SESSION {SHOW_KEYS}"));
    }
}

impl Primary {
    /// Opens another session with the candidate that answered, protected as the first one was.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], or [`Error::PrimaryUnreachable`].
    pub fn open(&self, facts: &Facts) -> Result<Session> {
        let mut session = open(&facts.address, &self.account_at(facts), self.patience)?;
        show_all(&mut session, facts);
        Ok(session)
    }

    /// The same as its settings and its init_connect leave it, as a client of the primary's finds it.
    ///
    /// # Errors
    /// As there.
    pub fn open_as_it_is(&self, facts: &Facts) -> Result<Session> {
        let (host, port) = (&facts.address.host, facts.address.port);
        let account = self.account_at(facts);
        Session::as_it_is(host, port, &account, self.patience, MOST_PACKET)
            .map_err(|t| refused(&facts.address, t))
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

    /// What the primary of `facts` has committed now, and what its clock said just before.
    ///
    /// # Errors
    /// Those of the login and of the answer.
    pub fn now(&self, facts: &Facts) -> Result<(Position, Timestamp)> {
        let address = &facts.address;
        let own = match facts.flavor {
            Flavor::MariaDb => "@@global.gtid_binlog_pos",
            Flavor::MySql => "@@global.gtid_executed",
        };
        let clock = "CAST(UNIX_TIMESTAMP() AS SIGNED)";
        let sql = format!("SELECT {clock} AS clock, {own} AS position");
        let rows = self.open(facts)?.query(&sql).map_err(|t| refused(address, t))?;
        let position = Position::parse(facts.flavor, rows.require("position")?)
            .map_err(|text| Error::ReplicationError { errno: 0, text })?;
        let clock = values::number(&address.to_string(), "clock", rows.require("clock")?)?;
        Ok((position, Timestamp(i64::from(clock))))
    }

    /// Fails if the primary of `facts`, which is at `now` and was at `before`, lacks a part of what came from
    /// it, which is `at`: it was reset, or another server answers in its place. MariaDB counts what it
    /// sends first, and goes on sending after a reset. MySQL may count it later, so only that it has
    /// gone back says anything there.
    ///
    /// # Errors
    /// [`Error::Diverged`]; those of the login and of the answers.
    pub fn check_still_has(
        &self,
        facts: &Facts,
        at: &Position,
        before: &Position,
        now: &Position,
    ) -> Result<()> {
        let tells = facts.flavor == Flavor::MariaDb || !now.contains(before);
        match tells && !now.contains(at) {
            true => self.ask(&facts.address)?.check_base(at),
            false => Ok(()),
        }
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
        let user = &self.account.user;
        let missing = privileges::missing(&grants, wanted).join(", ");
        let text = if !missing.is_empty() {
            format!(
                "the account {user} lacks {missing}; run there: GRANT {missing} ON *.* TO \
                 `{user}`@`...`"
            )
        } else if let Some(revoked) = revoked(&privileges::revoked(&grants, wanted)) {
            format!(
                "partial revokes take from the account {user}, or from a role of it, {revoked}; run there \
                 for each: GRANT ... ON that schema TO `{user}`@`...`, or to the role"
            )
        } else {
            return Ok(());
        };
        Err(Error::AccessDenied { primary: address.to_string(), text })
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
        let own = match flavor {
            Flavor::MariaDb => {
                "@@global.gtid_binlog_pos AS position, @@global.gtid_binlog_state AS state, \
                 @@global.gtid_slave_pos AS applied, @@global.log_slave_updates AS logs_all, \
                 @@global.log_bin AS logs, CONCAT(@@global.hostname, ':', @@global.port) AS server"
            }
            Flavor::MySql => {
                "@@global.gtid_executed AS position, @@global.gtid_purged AS purged, \
                 @@global.gtid_mode AS gtids, @@global.log_bin AS logs, @@global.server_uuid AS server"
            }
        };
        let asked = Timestamp::now();
        let rows = query(&format!(
            "SELECT {own}, @@global.server_id AS server_id, UNIX_TIMESTAMP() AS clock"
        ))?;
        binary_log::check(address, flavor, &rows)?;
        let position = |column: &str| {
            Position::parse(flavor, rows.require(column)?).map_err(|text| Error::ReplicationError {
                errno: 0,
                text: format!("cannot parse {column} of {address}: {text}"),
            })
        };
        let history = match flavor {
            Flavor::MariaDb => {
                let state = BinlogState::parse(rows.require("state")?)
                    .map_err(|text| Error::ReplicationError { errno: 0, text })?;
                let applied = position("applied")?;
                let logs_all = rows.require("logs_all")? != "0";
                let all =
                    if logs_all { Position::MariaDb(Default::default()) } else { applied.clone() };
                History::MariaDb { unlogged: state.lacks(&all), state, applied }
            }
            Flavor::MySql => History::MySql { purged: position("purged")? },
        };
        let position = position("position")?;
        let names = ["binlog_expire_logs_seconds", "expire_logs_days", CLUSTERED];
        let variables = query(&settings::query(&[&names[..], &binary_log::FILTERS].concat()))?;
        let variables: Vec<Vec<&str>> = variables.iter().collect();
        if let History::MariaDb { applied, unlogged, .. } = &history
            && !unlogged.is_empty()
        {
            let running = query(binary_log::REPLICATES)?;
            binary_log::check_replica(address, !position.contains(applied), &running)?;
        }
        let unfiltered = binary_log::is_unfiltered(address, flavor, &variables, &mut session)?;
        let mut query = |sql: &str| session.query(sql).map_err(|t| refused(address, t));
        query(time_zone::AS_SYSTEM)?;
        let zone = Offsets::parse(&address.to_string(), query(&time_zone::query())?.first())?;
        let clustered = variables.iter().any(|row| row[..] == [CLUSTERED, "ON"]);
        Ok(Facts {
            server: (!clustered).then(|| mark(rows.require("server").unwrap_or_default())),
            zone,
            address: address.clone(),
            flavor,
            version,
            encrypted,
            greeted_after,
            position,
            keeps: values::binlog_retention(&variables),
            asked,
            clock: Timestamp(i64::from(values::number(
                &address.to_string(),
                "clock",
                rows.require("clock")?,
            )?)),
            server_id: values::number(
                &address.to_string(),
                "server_id",
                rows.require("server_id")?,
            )?,
            settings: settings::read(&address.to_string(), &variables)?,
            unfiltered,
            history,
        })
    }
}

/// Partial revokes, for people; `None` without any.
fn revoked(found: &[(String, Vec<&str>)]) -> Option<String> {
    let named = |(schema, taken): &(String, Vec<&str>)| {
        format!("{} on {}", taken.join(", "), harmless(schema))
    };
    let named: Vec<String> = found.iter().map(named).collect();
    (!named.is_empty()).then(|| named.join("; "))
}

fn open(address: &Address, account: &Account, patience: Duration) -> Result<Session> {
    Session::over_tcp(&address.host, address.port, account, patience)
        .map_err(|t| refused(address, protection::with_hint(t, &account.tls)))
}
