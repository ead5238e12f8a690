//! The first backup by MySQL's CLONE: a fresh private server asks the primary for its files.
//!
//! CLONE is one statement that takes hours, so a separate thread waits for its answer while the
//! loop watches. The server then exits by itself, and is started again to put the files in place.
//! A clone is accepted only if the server calls it completed without an error. CLONE copies InnoDB
//! and silently leaves every other table empty, so such tables are refused by name.

mod recipient;

use std::io;
use std::time::Duration;

use crate::compare::sessions::ask_private;
use crate::error::{Error, Result};
use crate::mysql::account::{ServerKey, Tls, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::Rows;
use crate::replication::primary::{Facts, Primary, refused};
use crate::replication::privileges;
use crate::replication::replica;
use crate::seed::memory;
use crate::seed::seeding::{Seeded, Seeding};
use crate::seed::tables::NO_CACHE;
use crate::server::error_log::without_statement;
use crate::server::lifecycle::wait_for_exit;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Nothing;
use crate::supervisor::watched::Watched;
use recipient::{Recipient, no_plugin};

/// The recipient's additional options. Only the performance schema tells how a clone ended. It
/// takes 240 MiB of memory by default, and 15 with these options (MySQL 9.7.4).
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

/// What an empty server takes that receives another server's system tables in addition to its own:
/// 200 and 75 MiB with MySQL 9.7.4.
const RECIPIENT: u64 = 280 << 20;

/// Tables that CLONE leaves empty, with their engine. Engines that keep no data on disk lose none.
const LEFT_EMPTY: &str = "\
    SELECT CONCAT(table_schema, '.', table_name), engine FROM information_schema.tables \
    WHERE table_type = 'BASE TABLE' \
      AND engine NOT IN ('InnoDB', 'MEMORY', 'BLACKHOLE', 'FEDERATED', 'MRG_MYISAM') \
      AND CAST(table_schema AS BINARY) NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') \
    ORDER BY 1 LIMIT 1";

/// Files that CLONE put outside the data directory, at their path on the primary.
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
/// What keeps CLONE from being used, before anything is written; then what keeps the clone from
/// being complete.
pub fn clone(seeding: &mut Seeding, primary: &Primary, facts: &Facts) -> Result<Seeded> {
    let requirement = check_connection(primary, facts)?;
    let asked = facts.clone();
    let space = primary.question(seeding.supervisor, &mut Nothing, move |primary| {
        let space = check_primary(primary, &asked)?;
        memory::warn(primary, &asked)?;
        Ok(space)
    })?;
    seeding.make_empty(space + RECIPIENT)?;
    seeding.setup.options.extend(OPTIONS.map(String::from));

    let patience = seeding.patience;
    let mut mysqld = seeding.start(true)?;
    Recipient::new(&mut mysqld, primary, facts)
        .receive(seeding.supervisor, requirement, patience.stall)
        .and_then(|()| wait_for_restart(seeding.supervisor, &mut mysqld, patience.shutdown))
        .map_err(|e| seeding.explain(&mut mysqld, e))?;
    drop(mysqld);

    let mut mysqld = seeding.start(false)?;
    let seeded = match accept(seeding.supervisor, &mut mysqld, facts) {
        Ok(seeded) => seeded,
        Err(e @ Error::Configuration { .. }) => {
            // Nothing can be done with this clone, and it is as large as the primary.
            drop(mysqld);
            seeding.scratch.discard(seeding.supervisor)?;
            return Err(e);
        }
        Err(e) => return Err(seeding.explain(&mut mysqld, e)),
    };
    seeding.finish(mysqld)?;
    let notes = seeding.scratch.data().join("#clone");
    match std::fs::remove_dir_all(&notes) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &notes, e)),
        _ => Ok(seeded),
    }
}

/// Checks that the primary can be asked at all. Returns what CLONE must require of the connection.
fn check_connection(primary: &Primary, facts: &Facts) -> Result<&'static str> {
    let address = &facts.address;
    if facts.flavor != Flavor::MySql {
        return Err(Error::config(format!(
            "primary {address} is MariaDB, and only MySQL has CLONE: take the first backup with \
             rollforward seed --from dump, or run with --first-backup=dump"
        )));
    }
    if address.host.contains(':') {
        return Err(Error::config(format!(
            "CLONE accepts no IPv6 address, and primary {address} is named by one: use its name"
        )));
    }
    protection(&primary.account_at(facts).tls)
}

/// The clause of CLONE that asks for TLS or not. CLONE can check who signed a certificate, but not
/// the name in it; and without TLS its client asks for the server's public key and trusts it.
fn protection(tls: &Tls) -> Result<&'static str> {
    match (&tls.mode, &tls.server_key) {
        (TlsMode::VerifyIdentity, _) => Err(Error::config(
            "CLONE cannot check the name in a certificate, as ssl-mode=VERIFY_IDENTITY demands: \
             take the first backup by dump, or set ssl-mode=REQUIRED for it",
        )),
        (TlsMode::Required, _) => Ok("REQUIRE SSL"),
        (TlsMode::Disabled | TlsMode::Preferred, ServerKey::Asked) => Ok("REQUIRE NO SSL"),
        (TlsMode::Disabled | TlsMode::Preferred, _) => Err(Error::config(
            "without TLS, CLONE encrypts the password with whatever public key the primary sends: \
             set ssl-mode=REQUIRED or, if that is acceptable, get-server-public-key in [client]",
        )),
    }
}

/// Checks that the primary has what CLONE needs, and no table that CLONE leaves empty, as far as
/// our account can see. Returns the bytes of the tables that it sees.
fn check_primary(primary: &Primary, facts: &Facts) -> Result<u64> {
    let address = &facts.address;
    primary.check_privileges(facts, privileges::CLONE)?;
    let mut session = primary.open(facts)?;
    session.set_timeout(primary.listing);
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
            "table {} ({}) would be empty in a clone, since CLONE copies only InnoDB: change its \
             engine, or take the first backup by dump",
            row[0], row[1]
        ))),
        None => Ok(()),
    }
}

/// Waits for the exit that follows a clone.
fn wait_for_restart(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    patience: Duration,
) -> Result<()> {
    mysqld.close_sessions();
    if !wait_for_exit(supervisor, mysqld, patience)? {
        let what = "exit after the clone".into();
        return Err(Error::MysqldHung { what, after: Some(patience) });
    }
    if mysqld.wants_restart() { Ok(()) } else { mysqld.ended().map_or(Ok(()), Err) }
}

/// Checks that the clone is complete and nothing is missing from it, and reads its position.
fn accept(supervisor: &mut Supervisor, mysqld: &mut Mysqld, facts: &Facts) -> Result<Seeded> {
    mysqld.load_grant_tables(facts.flavor)?;
    // It opens each table to tell of it.
    let answers = ask_private(supervisor, mysqld, |session| {
        let asked = [STATUS, LEFT_EMPTY, OUTSIDE, "SELECT VERSION()"];
        asked.iter().map(|sql| session.query(sql)).collect::<Result<Vec<_>, _>>()
    })?;
    let answers = answers.map_err(|t| mysqld.lost("answer to a query", t))?;
    let [status, empty, outside, version] = &answers[..] else {
        unreachable!("each question has an answer")
    };
    let (state, errno) = (status.require("state")?, status.require("errno")?);
    if state != "Completed" || errno != "0" {
        let said = without_statement(status.require("said")?);
        let text = format!("the clone is not complete: its state is {state}; {said}");
        return Err(Error::ReplicationError { errno: errno.parse().unwrap_or(0), text });
    }
    check_engines(empty)?;
    if !outside.first().is_empty() {
        return Err(Error::config(format!(
            "{} was cloned to its path on the primary, outside the data directory, so no backup \
             would have it: move the tablespace into the data directory",
            outside.first()
        )));
    }
    let version = version.first().to_string();
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
    fn an_unprotected_password_is_not_sent() {
        let way = |mode, server_key| {
            let tls = Tls { mode, server_key, ..Tls::default() };
            protection(&tls).map_err(|e| e.to_string())
        };
        assert_eq!(way(TlsMode::Required, ServerKey::Unknown), Ok("REQUIRE SSL"));
        assert_eq!(way(TlsMode::Disabled, ServerKey::Asked), Ok("REQUIRE NO SSL"));
        let found = |on| Tls::default().settled(on);
        assert_eq!(protection(&found(true)).ok(), Some("REQUIRE SSL"));
        assert!(protection(&found(false)).is_err());
        for key in [ServerKey::Unknown, ServerKey::File("k.pem".into())] {
            assert!(way(TlsMode::Disabled, key).unwrap_err().contains("get-server-public-key"));
        }
        let strict = way(TlsMode::VerifyIdentity, ServerKey::Asked).unwrap_err();
        assert!(strict.contains("VERIFY_IDENTITY"), "{strict}");
    }
}
