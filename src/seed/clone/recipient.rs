//! The private server while it receives a clone: the statement that takes hours, its progress,
//! and what its failure means.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::account::{Tls, TlsMode};
use crate::mysql::session::quoted;
use crate::mysql::trouble::Trouble;
use crate::os::process::Activity;
use crate::os::workers::{Aside, Crew, Gauge};
use crate::replication::primary::{Facts, Primary, TLS_FAILED, denies_access};
use crate::report::checkpoint::Checkpoint;
use crate::report::meter::Unit;
use crate::server::error_log::without_statement;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;
use crate::text::bytes;

/// How long without data before checking that the primary is up, and between such checks.
const QUIET: Duration = Duration::from_secs(5);
/// After so long without an answer the clone has failed. CLONE by itself would try to reconnect for
/// five minutes, but a restarted primary cannot continue a clone.
const GONE: Duration = Duration::from_secs(20);

// Numbers of MySQL's error reference.
/// The planned exit without a process that would start the server again.
const RESTART_FAILED: u16 = 3707;
/// An error of the primary, whose own number is in the text.
const DONOR: u16 = 3862;
const PLUGIN_NOT_LOADED: u16 = 1524;
const UNKNOWN_VARIABLE: u16 = 1193;
const SYNTAX: u16 = 1064;
const NO_ROOM: u16 = 3873;
/// Another clone or a DDL statement is in the way: it ends some time later.
const BUSY: [u16; 3] = [3633, 3634, 3874];

/// The private server while it receives.
pub(super) struct Recipient<'a> {
    mysqld: &'a mut Mysqld,
    primary: &'a Primary,
    facts: &'a Facts,
    /// Bytes received, and the server's estimate of all.
    done: u64,
    total: u64,
    /// When data last came, and when the primary was last asked whether it is there.
    quiet: Instant,
    asked: Instant,
    /// A login to the primary that is not answered yet.
    question: Option<Aside<()>>,
    /// Since when the primary has not answered.
    gone: Option<Instant>,
    /// The private server is shutting down and answers no more.
    silent: bool,
}

impl<'a> Recipient<'a> {
    pub(super) fn new(
        mysqld: &'a mut Mysqld,
        primary: &'a Primary,
        facts: &'a Facts,
    ) -> Recipient<'a> {
        let now = Instant::now();
        Recipient {
            mysqld,
            primary,
            facts,
            done: 0,
            total: 0,
            quiet: now,
            asked: now,
            question: None,
            gone: None,
            silent: false,
        }
    }

    /// Asks for the clone and waits until it is complete.
    pub(super) fn receive(
        mut self,
        supervisor: &mut Supervisor,
        requirement: &str,
        stall: Option<Duration>,
    ) -> Result<()> {
        self.prepare()?;
        let mut session = self.mysqld.take_session()?;
        let lost = || Error::MysqldHung { what: "session to it is left".into(), after: None };
        let line = session.shutdown_handle().ok_or_else(lost)?;
        // It takes hours: the loop watches, and closes the connection if need be.
        session.set_timeout(Duration::ZERO);
        let (account, address) = (&self.primary.account, &self.facts.address);
        let statement = format!(
            "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {} {requirement}",
            quoted(&account.user),
            quoted(&address.host),
            address.port,
            quoted(&account.password.0)
        );
        let waker = supervisor.waker();
        let mut crew = Crew::new(1, waker, |gauge| {
            let watched = self.watch(supervisor, gauge, stall);
            if watched.is_err() {
                let _ = line.shutdown(Shutdown::Both);
            }
            watched
        });
        let answer = crew.alone(move || Ok(session.run(&statement)));
        drop(crew);
        supervisor.checkpoint.measured();
        match answer? {
            Ok(()) | Err(Trouble::Server { errno: RESTART_FAILED, .. }) => Ok(()),
            Err(trouble) => Err(self.meaning(trouble)),
        }
    }

    fn prepare(&mut self) -> Result<()> {
        let Tls { mode, cert, key, .. } = self.primary.account_at(self.facts).tls;
        let address = &self.facts.address;
        let mut settings =
            vec![("clone_valid_donor_list", format!("{}:{}", address.host, address.port))];
        if mode != TlsMode::Disabled {
            for (name, path) in [("clone_ssl_cert", cert), ("clone_ssl_key", key)] {
                let path = path.map(|p| p.to_string_lossy().into_owned());
                settings.extend(path.map(|p| (name, p)));
            }
        }
        for (name, value) in settings {
            let set = self.mysqld.run(&format!("SET GLOBAL {name} = {}", quoted(&value)));
            set.map_err(|e| match e {
                Error::ReplicationError { errno: UNKNOWN_VARIABLE, .. } => Error::config(
                    "the private server could not load its plugin mysql_clone.so: install it, or \
                     use another server with --mysqld",
                ),
                e => e,
            })?;
        }
        Ok(())
    }

    /// Waits until the statement is answered.
    fn watch(
        &mut self,
        supervisor: &mut Supervisor,
        gauge: &Gauge,
        stall: Option<Duration>,
    ) -> Result<()> {
        let wait = Wait { every: Duration::from_secs(1), patience: stall };
        let answered = supervisor.wait_for(self, wait, |recipient, checkpoint| {
            if gauge.finished() {
                return Ok(Look::Done(()));
            }
            recipient.look(checkpoint)
        })?;
        answered.ok_or_else(|| {
            let what = format!("the clone of the primary, at {}", bytes(self.done));
            Error::Stalled { after: stall.unwrap_or_default(), what }
        })
    }

    fn look(&mut self, checkpoint: &mut Checkpoint) -> Result<Look<()>> {
        let before = self.done;
        self.read_progress();
        if self.total > 0 {
            checkpoint.measure("clone", Unit::Bytes, self.done, Some(self.total.max(self.done)));
        }
        if self.done != before {
            (self.quiet, self.gone) = (Instant::now(), None);
            return Ok(Look::Moving);
        }
        if self.quiet.elapsed() >= QUIET && self.asked.elapsed() >= QUIET {
            self.ask_primary()?;
        }
        Ok(Look::Still)
    }

    fn read_progress(&mut self) {
        const PROGRESS: &str = "SELECT COALESCE(SUM(data), 0) AS done, \
                                COALESCE(SUM(estimate), 0) AS total \
                                FROM performance_schema.clone_progress";
        if self.silent {
            return;
        }
        let Ok(rows) = self.mysqld.control().map(|s| s.query(PROGRESS)) else {
            self.silent = true;
            return;
        };
        match rows {
            Ok(rows) => {
                let number = |column: &str| rows.require(column).ok()?.parse().ok();
                let known = |column| number(column).unwrap_or(0);
                (self.done, self.total) = (known("done"), known("total"));
            }
            // Its exit shows elsewhere, and so does a hang.
            Err(_) => self.silent = true,
        }
    }

    /// Checks that the primary is still there. The server itself notices a lost connection only
    /// after minutes.
    fn ask_primary(&mut self) -> Result<()> {
        let Some(question) = &mut self.question else {
            let (primary, facts) = (self.primary.clone(), self.facts.clone());
            self.question = Some(Aside::ask(None, move || primary.open(&facts).map(drop))?);
            self.gone.get_or_insert_with(Instant::now);
            return Ok(());
        };
        if question.is_lost() {
            self.question = None;
            return Ok(());
        }
        let Some(answer) = question.take() else { return Ok(()) };
        (self.question, self.asked) = (None, Instant::now());
        match answer {
            Err(e @ Error::PrimaryUnreachable { .. }) => {
                let since = *self.gone.get_or_insert(self.asked);
                if since.elapsed() >= GONE { Err(e) } else { Ok(()) }
            }
            _ => {
                self.gone = None;
                Ok(())
            }
        }
    }

    /// The error that the server's answer stands for.
    fn meaning(&mut self, trouble: Trouble) -> Error {
        let Trouble::Server { errno, text } = trouble else {
            return self.mysqld.lost("answer to CLONE", trouble);
        };
        let primary = || self.facts.address.to_string();
        let text = without_statement(&text);
        let cause = if errno == DONOR { donors_errno(&text) } else { errno };
        match cause {
            SYNTAX => Error::config(format!("primary {} has no CLONE: use dump", primary())),
            PLUGIN_NOT_LOADED => no_plugin(self.facts),
            NO_ROOM => self.mysqld.no_room_for(estimated(&text)),
            e if denies_access(e) || e == TLS_FAILED => {
                Error::AccessDenied { primary: primary(), text }
            }
            // A session of ours was killed: the private server is being shut down.
            1053 | 1317 | 3169 if errno != DONOR => {
                Error::MysqldHung { what: "answer to CLONE".into(), after: None }
            }
            1040 | 1053 | 1158..=1161 | 1317 | 2000..=2013 => {
                Error::PrimaryUnreachable { primary: primary(), text }
            }
            e if BUSY.contains(&e) => Error::PrimaryUnreachable { primary: primary(), text },
            // Versions, platforms, settings and plugins that differ.
            3863..=3872 | 3957 => Error::config(format!(
                "primary {} and the private server are too different for CLONE (error {errno}: \
                 {text}): align them with --mysqld or --mysqld-option, or take the first backup \
                 by dump",
                primary()
            )),
            _ => self.mysqld.root_cause(Error::ReplicationError { errno, text }),
        }
    }
}

/// The primary's own number in `Clone Donor Error: 1227 : ...` or `Clone Donor Error: Connect
/// failed: 2003 : ...`; 0 if there is none.
fn donors_errno(text: &str) -> u16 {
    let rest = text.split_once("Error: ").map_or("", |(_, rest)| rest);
    let rest = rest.strip_prefix("Connect failed: ").unwrap_or(rest);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The bytes in `Clone estimated database size is 1.50 GiB. Available ...`; 0 if there are none.
fn estimated(text: &str) -> u64 {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut words = text.split_once("size is ").map_or("", |(_, rest)| rest).split_whitespace();
    let number: f64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let unit = words.next().unwrap_or_default().trim_end_matches('.');
    let power = UNITS.iter().position(|u| *u == unit).unwrap_or(0);
    (number * 1024f64.powi(power as i32)) as u64
}

impl Watched for Recipient<'_> {
    fn ended(&mut self) -> Option<Error> {
        // The planned exit; the thread that waits for the answer gets it at the same moment.
        if self.mysqld.wants_restart() { None } else { self.mysqld.ended() }
    }
    fn ping(&mut self) -> Result<()> {
        match self.mysqld.ping() {
            // It closes all sessions before its planned exit.
            Err(Error::MysqldHung { after: None, .. }) => Ok(()),
            answer => answer,
        }
    }
    fn activity(&self) -> Option<Activity> {
        self.mysqld.activity()
    }
    fn maintain(&mut self) -> Result<()> {
        self.mysqld.maintain()
    }
}

pub(super) fn no_plugin(facts: &Facts) -> Error {
    Error::config(format!(
        "primary {} has no plugin clone; run there: INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
        facts.address
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primarys_error_number_is_read() {
        for (text, errno) in [
            ("Clone Donor Error: 1227 : Access denied; you need BACKUP_ADMIN", 1227),
            ("Clone Donor Error: Connect failed: 2003 : Can't connect to MySQL server on", 2003),
            ("Clone Donor Error: 1524 : Plugin 'clone' is not loaded.", 1524),
            ("Clone Donor Error: none", 0),
            ("", 0),
        ] {
            assert_eq!(donors_errno(text), errno, "{text}");
        }
    }

    #[test]
    fn the_estimated_size_is_read() {
        let text =
            "Clone estimated database size is 1.50 GiB. Available space 9.00 MiB is not enough.";
        assert_eq!(estimated(text), 3 << 29);
        assert_eq!(estimated("Clone estimated database size is 2.00 EiB."), 2);
        assert_eq!(estimated("no"), 0);
    }
}
