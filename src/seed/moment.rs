//! One moment of the primary, known by its position, without holding it up.
//!
//! A dumping client of MySQL that is to tell its position takes FLUSH TABLES WITH READ LOCK: it waits for
//! every statement that runs, all others wait behind it, and those that use the same tables still do so
//! after it has given up. So the client begins its snapshot without a lock, and we watch it do that: if the primary's
//! position is the same before and after, that is the snapshot's. A primary that commits all the time
//! takes several tries. Our own session begins its snapshot between the same two looks.
//!
//! MariaDB's client tells its position, but not ours. There several sessions begin snapshots one after the
//! other, each of which knows its position, and one of them has that of the client.
//!
//! MySQL shows a GTID after the engine's commit; transactions between the two are looked for. So are those
//! that are prepared then.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::os::files;
use crate::os::process::{is_gone, start_time};
use crate::replication::primary::{Facts, Primary, refused};
use crate::seed::carry::reader;
use crate::seed::dump_progress::BEGINS;
use crate::seed::literals::text;
use crate::seed::pipe::{Dump, Output};
use crate::seed::prepared;
use crate::text::plain;

/// How long a client may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// The same where all commits wait for it.
const BEGIN_LOCKED: Duration = Duration::from_secs(3);
/// The most that a client reports before, bytes.
const REPORT: u64 = 1 << 20;
/// How long the primary may take to let us lock it, seconds.
const LOCK: u32 = 1;

const SNAPSHOT: &str = "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */";

/// Statements that run for a second and longer: behind a lock that waits for one, all others would wait.
/// The applier of a replica, or of a member of a group, counts as one while it has nothing to do.
const LONG: &str = "\
    SELECT CONCAT(id, ' of ', user, ', for ', time, ' s') FROM information_schema.processlist \
    WHERE command IN ('Query', 'Execute') AND time >= 1 AND id <> CONNECTION_ID() \
    AND NOT (user = 'system user' AND COALESCE(state, '') LIKE '% has read all relay log%') \
    ORDER BY time DESC LIMIT 1";

/// Which connection of our account a process of this machine has; nothing without a performance schema.
const CONNECTION: &str = "\
    SELECT processlist_id FROM performance_schema.session_account_connect_attrs \
    WHERE attr_name = '_pid' AND attr_value = ";

/// How far a connection is: 0 before its transaction, 1 beginning it, 2 past that.
const BEGUN: &str = "\
    SELECT IF(t.state = 'ACTIVE' AND t.autocommit = 'NO', \
              IF(s.end_event_id IS NULL AND s.sql_text LIKE 'START%', 1, 2), 0) \
    FROM performance_schema.threads h \
    LEFT JOIN performance_schema.events_transactions_current t ON t.thread_id = h.thread_id \
    LEFT JOIN performance_schema.events_statements_current s ON s.thread_id = h.thread_id \
    WHERE h.processlist_id = ";

/// Transactions that are being committed: their GTIDs may come after what a snapshot shows of them. One
/// thread of group replication, which commits nothing, has that state for ever.
const COMMITTING: &str = "\
    SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'waiting for handler commit' \
    AND NOT (user = 'system user' AND COALESCE(info, '') = 'Group replication applier module')";

/// Sessions of MariaDB that hold snapshots.
const SNAPSHOTS: usize = 12;

/// The sessions that look for a moment.
pub struct Watch {
    eye: Session,
    readers: Vec<Session>,
    lock: Option<Session>,
    /// Of MySQL.
    first: String,
    facts: Facts,
}

/// A moment that a dumping client has seen.
pub struct Moment {
    /// Its position.
    pub position: String,
    /// A session that reads as of that moment, too.
    pub reader: Option<Session>,
}

/// Why the primary was not locked.
pub enum Begun {
    /// Ready for the client to be started.
    Ready(Box<Watch>),
    /// Why a lock would make others wait for it.
    Busy(String),
}

impl Watch {
    /// Gets ready, before the client is started; `reads` if a session is to read as of the same moment.
    /// With `lock` all commits wait until a moment is found, unless a statement runs that this would have
    /// to wait for.
    ///
    /// # Errors
    /// Those of any query to the primary.
    pub fn begin(primary: &Primary, facts: Facts, reads: bool, lock: bool) -> Result<Begun> {
        let refused = |t| refused(&facts.address, t);
        let mut eye = reader(primary, &facts)?;
        let (flavor, mut readers) = (facts.flavor, Vec::new());
        let wanted = if flavor == Flavor::MySql || lock { 1 } else { SNAPSHOTS };
        while reads && readers.len() < wanted {
            match reader(primary, &facts) {
                Ok(session) => readers.push(session),
                // It may allow fewer sessions.
                Err(_) if readers.len() > 1 => break,
                Err(e) => return Err(e),
            }
        }
        let locked = match lock {
            true => match locked(primary, &facts)? {
                Ok(session) => Some(session),
                Err(why) => return Ok(Begun::Busy(why)),
            },
            false => None,
        };
        let first = match flavor {
            Flavor::MySql => executed(&mut eye).map_err(refused)?,
            Flavor::MariaDb => String::new(),
        };
        Ok(Begun::Ready(Box::new(Watch { eye, readers, lock: locked, first, facts })))
    }

    /// Watches the client `pid`, which reports to a file, begin its snapshot. `None` if the primary
    /// committed something meanwhile, or the client has ended.
    ///
    /// # Errors
    /// Those of any query to the primary.
    pub fn find(mut self, pid: u32, report: &Path, output: &mut Output) -> Result<Option<Moment>> {
        let address = self.facts.address.clone();
        let client = Client { began: Instant::now(), pid, start: start_time(pid), report };
        let found = match self.facts.flavor {
            Flavor::MySql => self.look(&client),
            Flavor::MariaDb => self.collect(&client, output),
        };
        found.map_err(|t| refused(&address, t))
    }

    fn patience(&self) -> Duration {
        if self.lock.is_some() { BEGIN_LOCKED } else { BEGIN }
    }

    fn look(&mut self, client: &Client) -> std::result::Result<Option<Moment>, Trouble> {
        let mut before = std::mem::take(&mut self.first);
        let mut connection = String::new();
        while !client.has_begun() {
            if client.began.elapsed() > self.patience() || client.is_gone() {
                return Ok(None);
            }
            let at = executed(&mut self.eye)?;
            if connection.is_empty() {
                let rows = self.eye.query(&format!("{CONNECTION}'{}'", client.pid))?;
                connection = rows.first().to_string();
                continue;
            }
            match self.eye.query(&format!("{BEGUN}{connection}"))?.first() {
                "0" => before = at,
                "2" => break,
                _ => {}
            }
        }
        let mut reader = self.readers.pop();
        if let Some(reader) = &mut reader {
            reader.run(SNAPSHOT)?;
        }
        let committing = self.eye.query(COMMITTING)?.first() != "0";
        // Each of them also has a GTID, before and after, so that none comes and goes between our looks.
        let prepared = prepared::list(&mut self.eye, Flavor::MySql)?.len();
        let position = executed(&mut self.eye)?;
        if committing || prepared > 0 || position != before {
            log::debug!(
                "no moment: {before} and {position}, committing: {committing}, prepared: {prepared}"
            );
            return Ok(None);
        }
        Ok(Some(Moment { position, reader }))
    }

    fn collect(
        &mut self,
        client: &Client,
        output: &mut Output,
    ) -> std::result::Result<Option<Moment>, Trouble> {
        let mut held: VecDeque<(String, Session)> = VecDeque::new();
        loop {
            let last = client.has_begun();
            if client.began.elapsed() > self.patience() || (client.is_gone() && !last) {
                return Ok(None);
            }
            let free = self.readers.pop().or_else(|| held.pop_front().map(|(_, session)| session));
            let Some(mut session) = free else { return Ok(None) };
            session.run(SNAPSHOT)?;
            let at = coordinates(&mut session)?;
            if held.back().is_some_and(|(newest, _)| *newest == at) {
                self.readers.push(session);
                output.wait(Duration::from_millis(1));
            } else {
                held.push_back((at, session));
            }
            if last {
                break;
            }
        }
        let Some((file, offset)) = output.find(self.patience(), dumped_at) else { return Ok(None) };
        let at = format!("{file}:{offset}");
        let found = held.into_iter().find(|(position, _)| *position == at);
        let Some((_, reader)) = found else {
            log::debug!("no moment: none of ours is {at}");
            return Ok(None);
        };
        let rows = self.eye.query(&format!("SELECT BINLOG_GTID_POS({}, {offset})", text(&file)))?;
        Ok(Some(Moment { position: rows.first().to_string(), reader: Some(reader) }))
    }
}

/// Fails if MariaDB cannot tell its position, of which its client dies.
///
/// # Errors
/// [`Error::Configuration`] naming the file; those of any query to the primary.
pub fn check_log(primary: &Primary, facts: &Facts) -> Result<()> {
    if facts.flavor == Flavor::MySql {
        return Ok(());
    }
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
    let told = session.run(SNAPSHOT).and_then(|()| {
        let at = coordinates(&mut session)?;
        let (file, offset) = at.rsplit_once(':').unwrap_or((&at, ""));
        let offset: u64 = offset.parse().unwrap_or(0);
        let sql = format!("SELECT BINLOG_GTID_POS({}, {offset}) IS NULL", text(file));
        Ok((session.query(&sql)?.first() != "1").then_some(()).ok_or(file.to_string()))
    });
    told.map_err(|t| refused(&facts.address, t))?.map_err(|file| {
        Error::config(format!(
            "a dump cannot tell its position: {} cannot read its binary log {}, which has an event larger \
             than its max_allowed_packet: run FLUSH BINARY LOGS there, and seed again",
            facts.address,
            plain(&file)
        ))
    })
}

/// A session that keeps all others from committing, or why there is none.
fn locked(primary: &Primary, facts: &Facts) -> Result<std::result::Result<Session, String>> {
    let refused = |t| refused(&facts.address, t);
    let mut lock = primary.open(facts)?;
    if facts.flavor == Flavor::MySql {
        // MariaDB's lock waits for no query.
        let rows = lock.query(LONG).map_err(refused)?;
        if !rows.first().is_empty() {
            return Ok(Err(format!("statement {} runs there", plain(rows.first()))));
        }
    }
    // Should we be cut off, it does not last.
    let settings = format!("SET SESSION lock_wait_timeout = {LOCK}, SESSION wait_timeout = 10");
    lock.run(&settings).map_err(refused)?;
    match lock.run("FLUSH TABLES WITH READ LOCK") {
        Ok(()) => Ok(Ok(lock)),
        // "Lock wait timeout exceeded" of the servers' error references.
        Err(Trouble::Server { errno: 1205, .. }) => Ok(Err("a statement runs there".into())),
        Err(t) => Err(refused(t)),
    }
}

/// A dumping client that begins.
pub struct Client<'a> {
    began: Instant,
    pid: u32,
    start: Option<u64>,
    report: &'a Path,
}

impl Client<'_> {
    /// The client of `dump`.
    pub fn of(dump: &Dump) -> Client<'_> {
        let (began, pid) = (Instant::now(), dump.pid());
        Client { began, pid, start: start_time(pid), report: dump.report() }
    }

    /// It has its snapshot, or has ended. It may write so much of a database without tables that it waits
    /// to be read before it reports any.
    pub fn has_begun_or_ended(&self, output: &mut Output) -> bool {
        let first = b"CREATE DATABASE";
        let written = |head: &[u8]| head.windows(first.len()).any(|w| w == first).then_some(());
        self.has_begun()
            || self.is_gone()
            || output.find(Duration::from_millis(1), written).is_some()
    }

    /// It reports what it does with its snapshot.
    fn has_begun(&self) -> bool {
        let file = files::open_no_link(self.report);
        let text = file.and_then(|file| files::read_open(file, REPORT)).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(BEGINS)
    }

    fn is_gone(&self) -> bool {
        self.start.is_none_or(|start| is_gone(self.pid, start))
    }
}

/// The position of MySQL now.
fn executed(eye: &mut Session) -> std::result::Result<String, Trouble> {
    Ok(eye.query("SELECT @@global.gtid_executed")?.first().to_string())
}

/// The file and offset in MariaDB's binary log of a session's snapshot.
fn coordinates(session: &mut Session) -> std::result::Result<String, Trouble> {
    let rows = session.query("SHOW STATUS LIKE 'binlog_snapshot_%'")?;
    let value = |name: &str| {
        let row = rows.iter().find(|r| r[0].eq_ignore_ascii_case(name));
        row.map(|r| r[1].to_string()).unwrap_or_default()
    };
    Ok(format!("{}:{}", value("binlog_snapshot_file"), value("binlog_snapshot_position")))
}

/// The same of a dump, from its beginning.
fn dumped_at(head: &[u8]) -> Option<(String, u64)> {
    let head = String::from_utf8_lossy(head);
    let (file, rest) = head.split_once("MASTER_LOG_FILE='")?.1.split_once("', MASTER_LOG_POS=")?;
    let (offset, _) = rest.split_once(';')?;
    Some((file.to_string(), offset.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_dump_begins_is_read_once_whole() {
        let head =
            b"/*!40101 SET NAMES utf8mb4 */;\nCHANGE MASTER TO MASTER_LOG_FILE='binlog.000002', \
            MASTER_LOG_POS=11964;\n";
        assert_eq!(dumped_at(head), Some(("binlog.000002".into(), 11964)));
        assert_eq!(dumped_at(&head[..head.len() - 2]), None);
    }
}
