//! Rotation of InnoDB's master key, which MySQL replicates.
//!
//! It changes no data: the keys of the tables are wrapped in a new one. That would have to be written into a
//! keyring, and the private server writes below the scratch directory only, or has no keyring at all. So the
//! statement fails there, and is passed over: the data stays under the key that it has.
//!
//! Measured with MySQL 9.7: after the failure that server counts the new key as the one to use, and can create
//! nothing encrypted until it is started again.

use crate::error::{Error, Result};
use crate::mysql::session::quoted;
use crate::server::mysqld::Mysqld;

/// `ER_CANNOT_FIND_KEY_IN_KEYRING`.
const NO_KEY: u16 = 3185;
/// The statement, in lower case.
const ROTATION: [&str; 5] = ["alter", "instance", "rotate", "innodb", "master"];

/// Lets a transaction that failed with `error` count as executed if all that it does is rotate the key.
/// `true` if it was one.
///
/// # Errors
/// The server's.
pub fn pass_over(mysqld: &mut Mysqld, error: &Error) -> Result<bool> {
    if !matches!(error, Error::ReplicationError { errno: NO_KEY, .. }) {
        return Ok(false);
    }
    let Some(gtid) = rotation(&mysqld.log_text()) else { return Ok(false) };
    log::info!("{gtid} rotates the master key of InnoDB on the primary; here it stays as it is");
    let passed = mysqld
        .run(&format!("SET gtid_next = {}", quoted(&gtid)))
        .and_then(|()| mysqld.run("BEGIN"))
        .and_then(|()| mysqld.run("COMMIT"));
    mysqld.run("SET gtid_next = 'AUTOMATIC'")?;
    passed.map(|()| true)
}

/// The transaction of the last error of the applier in `log`, if that was at the statement.
fn rotation(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|l| l.contains("[MY-010584]") && l.contains("MY-003185"))?;
    let (_, from) = line.split_once("failed executing transaction '")?;
    let (gtid, rest) = from.split_once('\'')?;
    let (_, query) = rest.split_once(" Query: '")?;
    let (query, _) = query.rsplit_once("', Error_code: ")?;
    let words = query.trim_end_matches([';', ' ']).to_ascii_lowercase();
    let is = words.split_ascii_whitespace().eq(ROTATION.into_iter().chain(["key"]));
    is.then(|| gtid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rotation_is_passed_over() {
        let line = |query: &str| {
            format!(
                "2026-12-01T01:10:07.5Z 13 [ERROR] [MY-010584] [Repl] Replica SQL for channel '': Worker \
                 1 failed executing transaction '2e372fa7-ed22-11f1-ba5e-02fc00000001:32' at source log \
                 binlog.000004, end_log_pos 1673; Error 'Can't find master key from keyring, please check \
                 in the server log if a keyring is loaded and initialized successfully.' on query. \
                 Default database: ''. Query: '{query}', Error_code: MY-003185"
            )
        };
        let is = |query: &str| rotation(&line(query));
        let gtid = Some("2e372fa7-ed22-11f1-ba5e-02fc00000001:32".to_string());
        assert_eq!(is("alter instance rotate innodb master key"), gtid);
        assert_eq!(is("ALTER  INSTANCE ROTATE INNODB MASTER KEY ;"), gtid);
        for other in
            ["CREATE TABLE t (a INT) ENCRYPTION='Y'", "alter instance rotate innodb", "", "'"]
        {
            assert_eq!(is(other), None, "{other}");
        }
        // The last one counts.
        let then = |a: &str, b: &str| rotation(&format!("{}\n{}\n", line(a), line(b)));
        assert_eq!(then("alter instance rotate innodb master key", "CREATE TABLE t"), None);
    }
}
