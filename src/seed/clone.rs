//! The first backup by MySQL's CLONE: a fresh private server asks the primary for its files.
//!
//! The data comes over one session of ours that is held up until the end, so a thread of its own
//! waits there while the loop watches. Then the server ends by itself, and is started again to put
//! the files in place: only what it calls completed, without an error, is accepted. CLONE copies
//! InnoDB and leaves every other table empty without an error, so such tables are refused by name.

mod recipient;

use std::io;
use std::time::Duration;

use crate::error::{Error, Place, Result};
use crate::mysql::account::{ServerKey, Tls, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Rows;
use crate::os::space::check_room;
use crate::replication::primary::{Facts, Primary, refused};
use crate::replication::privileges;
use crate::replication::replica;
use crate::scratch::working_directory::Scratch;
use crate::seed::dump::Seeded;
use crate::seed::tables::{LISTING, NO_CACHE};
use crate::server::error_log::without_statement;
use crate::server::initialize::install;
use crate::server::lifecycle::{Patience, explain, shut_down, wait_for_exit, wait_until_ready};
use crate::server::mysqld::{Mysqld, forget_replication};
use crate::server::setup::Setup;
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Watched;
use recipient::{Recipient, no_plugin};

/// The recipient's further options. The performance schema alone tells how a clone ended; it takes
/// 240 MiB of memory by default, and 15 like this (MySQL 9.7.4).
const OPTIONS: [&str; 13] = [
    "--plugin-load-add=mysql_clone.so",
    "--performance-schema=ON",
    "--performance-schema-instrument=%=OFF",
    "--performance-schema-error-size=0",
    "--performance-schema-digests-size=0",
    "--performance-schema-max-thread-instances=64",
    "--performance-schema-accounts-size=1",
    "--performance-schema-hosts-size=1",
    "--performance-schema-users-size=1",
    "--performance-schema-max-table-instances=0",
    "--performance-schema-max-mutex-instances=0",
    "--performance-schema-max-rwlock-instances=0",
    "--performance-schema-events-statements-history-long-size=0",
];

/// What an empty server takes that receives another one's system tables beside its own: 200 and
/// 75 MiB with MySQL 9.7.4.
const RECIPIENT: u64 = 280 << 20;

/// Tables that CLONE leaves empty, with their engine. What keeps no data of its own on a disk
/// loses none.
const LEFT_EMPTY: &str = "\
    SELECT CONCAT(table_schema, '.', table_name), engine FROM information_schema.tables \
    WHERE table_type = 'BASE TABLE' \
      AND engine NOT IN ('InnoDB', 'MEMORY', 'BLACKHOLE', 'FEDERATED', 'MRG_MYISAM') \
      AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') \
    ORDER BY 1 LIMIT 1";

/// Files that CLONE put where the primary has them, outside of the data directory.
const OUTSIDE: &str = "\
    SELECT file_name FROM information_schema.files WHERE file_name LIKE '/%' ORDER BY 1 LIMIT 1";

/// How the last clone into this data ended.
const STATUS: &str = "\
    SELECT state AS state, error_no AS errno, error_message AS said \
    FROM performance_schema.clone_status";

/// Fills the scratch directory with a clone of the primary, as a data directory that was shut
/// down cleanly.
///
/// # Errors
/// What keeps it from being asked for, before anything is written; then what keeps it from being
/// complete.
pub fn clone(
    supervisor: &mut Supervisor,
    setup: &Setup,
    scratch: &mut Scratch,
    primary: &Primary,
    facts: &Facts,
    patience: Patience,
) -> Result<Seeded> {
    let requirement = check_way(primary, facts)?;
    let space = check_primary(primary, facts)?;
    scratch.discard(supervisor)?;
    check_room(scratch.root(), space + RECIPIENT, Place::Scratch)?;
    scratch.make_data()?;
    install(supervisor, setup, patience.start)?;
    let mut setup = setup.clone();
    setup.options.extend(OPTIONS.map(String::from));

    let mut mysqld = Mysqld::spawn(&setup, true)?;
    scratch.set_running(&mysqld, false)?;
    wait_until_ready(supervisor, &mut mysqld, patience.start)?;
    let ends = Recipient::new(&mut mysqld, primary, facts)
        .receive(supervisor, requirement, patience)
        .and_then(|()| wait_for_restart(supervisor, &mut mysqld, patience.shutdown));
    ends.map_err(|e| explain(supervisor, &mut mysqld, e, patience.shutdown))?;
    drop(mysqld);

    let mut mysqld = Mysqld::spawn(&setup, false)?;
    scratch.set_running(&mysqld, false)?;
    wait_until_ready(supervisor, &mut mysqld, patience.start)?;
    let seeded = match accept(&mut mysqld, facts) {
        Ok(seeded) => seeded,
        Err(e @ Error::Configuration { .. }) => {
            // Not to be gone on with, and as large as the primary.
            drop(mysqld);
            scratch.discard(supervisor)?;
            return Err(e);
        }
        Err(e) => return Err(explain(supervisor, &mut mysqld, e, patience.shutdown)),
    };
    shut_down(supervisor, &mut mysqld, patience.shutdown)?;
    scratch.set_clean()?;
    let notes = scratch.data().join("#clone");
    match std::fs::remove_dir_all(&notes) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &notes, e));
        }
        _ => {}
    }
    forget_replication(&scratch.data())?;
    Ok(seeded)
}

/// Can the primary be asked at all, and how is the way protected?
fn check_way(primary: &Primary, facts: &Facts) -> Result<&'static str> {
    let address = &facts.address;
    if facts.flavor != Flavor::MySql {
        return Err(Error::config(format!(
            "primary {address} is MariaDB, and only MySQL has CLONE: take the first backup with \
             rollforward seed --from dump, or run with --first-backup=dump"
        )));
    }
    if address.host.contains(':') {
        return Err(Error::config(format!(
            "CLONE takes no IPv6 address as that of primary {address}: give its name"
        )));
    }
    protection(&primary.account.tls)
}

/// What CLONE is told of TLS. It can check who signed a certificate but not whom it names; and
/// without TLS its client asks for the server's public key, whatever that is.
fn protection(tls: &Tls) -> Result<&'static str> {
    match (&tls.mode, &tls.server_key) {
        (TlsMode::VerifyIdentity, _) => Err(Error::config(
            "CLONE cannot do what ssl-mode=VERIFY_IDENTITY demands: it does not look whom the \
             certificate names; take the first backup by dump, or set ssl-mode=REQUIRED for it",
        )),
        (TlsMode::Required, _) => Ok("REQUIRE SSL"),
        (TlsMode::Disabled, ServerKey::Asked) => Ok("REQUIRE NO SSL"),
        (TlsMode::Disabled, _) => Err(Error::config(
            "without TLS CLONE sends the password under whatever public key the primary names: \
             set ssl-mode=REQUIRED or, if that will do, get-server-public-key in [client]",
        )),
    }
}

/// Has the primary what CLONE needs, and nothing that it leaves empty, as far as our account sees?
/// Gives the bytes of the tables that it sees.
fn check_primary(primary: &Primary, facts: &Facts) -> Result<u64> {
    let address = &facts.address;
    primary.check_privileges(address, privileges::CLONE)?;
    let mut session = primary.open(address)?;
    session.set_timeout(LISTING);
    let mut query = |sql: &str| session.query(sql).map_err(|t| refused(address, t));
    let plugin =
        query("SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'clone'")?;
    if plugin.first() != "ACTIVE" {
        return Err(no_plugin(facts));
    }
    query(NO_CACHE)?;
    check_engines(&query(LEFT_EMPTY)?)?;
    let space = query("SELECT SUM(data_length + index_length) FROM information_schema.tables")?;
    Ok(space.first().parse().unwrap_or(0))
}

fn check_engines(rows: &Rows) -> Result<()> {
    match rows.iter().next() {
        Some(row) => Err(Error::config(format!(
            "table {} ({}) would be empty in a clone, which brings InnoDB only: change its \
             engine, or take the first backup by dump",
            row[0], row[1]
        ))),
        None => Ok(()),
    }
}

/// Waits for the end that CLONE brings about.
fn wait_for_restart(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<()> {
    mysqld.close_sessions();
    if !wait_for_exit(supervisor, mysqld, patience)? {
        let what = "end after the clone".into();
        return Err(Error::MysqldHung { what, after: Some(patience) });
    }
    if mysqld.wants_a_restart() { Ok(()) } else { mysqld.ended().map_or(Ok(()), Err) }
}

/// Is the clone complete, and is nothing missing in it? Reads its position.
fn accept(mysqld: &mut Mysqld, facts: &Facts) -> Result<Seeded> {
    mysqld.close_the_door(facts.flavor)?;
    mysqld.control()?.set_timeout(LISTING);
    let mut query = |sql: &str| {
        let answer = mysqld.control()?.query(sql);
        answer.map_err(|t| mysqld.lost("answer to a query", t))
    };
    let status = query(STATUS)?;
    let (state, errno) = (status.get("state"), status.get("errno"));
    if state != "Completed" || errno != "0" {
        let said = without_statement(status.get("said"));
        let text = format!("the clone is not complete: its state is {state}; {said}");
        return Err(Error::ReplicationError { errno: errno.parse().unwrap_or(0), text });
    }
    check_engines(&query(LEFT_EMPTY)?)?;
    let outside = query(OUTSIDE)?;
    if !outside.first().is_empty() {
        return Err(Error::config(format!(
            "{} was cloned to where the primary has it, outside of the data directory, and would \
             not be in the backup: move the tablespace there, or take the first backup by dump",
            outside.first()
        )));
    }
    let version = query("SELECT VERSION()")?.first().to_string();
    let position = replica::position(mysqld, facts.flavor)?;
    if position.is_empty() {
        return Err(Error::ReplicationError { errno: 0, text: "the clone has no position".into() });
    }
    Ok(Seeded { position, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_goes_only_where_it_is_protected() {
        let way = |mode, server_key| {
            let tls = Tls { mode, server_key, ..Tls::default() };
            protection(&tls).map_err(|e| e.to_string())
        };
        assert_eq!(way(TlsMode::Required, ServerKey::Unknown), Ok("REQUIRE SSL"));
        assert_eq!(way(TlsMode::Disabled, ServerKey::Asked), Ok("REQUIRE NO SSL"));
        for key in [ServerKey::Unknown, ServerKey::File("k.pem".into())] {
            assert!(way(TlsMode::Disabled, key).unwrap_err().contains("get-server-public-key"));
        }
        let strict = way(TlsMode::VerifyIdentity, ServerKey::Asked).unwrap_err();
        assert!(strict.contains("VERIFY_IDENTITY"), "{strict}");
    }
}
