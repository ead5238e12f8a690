//! What the session that loads a dump has to accept: whatever some session of the primary once made.
//!
//! A client writes an sql_mode at the top of a dump, in which an impossible date such as February 31 becomes
//! zero, and the default of a column must not be one. MariaDB stores no difference of unsigned numbers in it.
//! So more modes are written there. What is a global setting is changed on the private server.

use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::settings::value;
use crate::server::mysqld::Mysqld;

/// What the clients write.
const WRITTEN: &[u8] = b"SQL_MODE='NO_AUTO_VALUE_ON_ZERO'";
/// The mode without which MariaDB makes no such column. The values of others are the same in it.
const SIGNED: &str = "NO_UNSIGNED_SUBTRACTION";
/// Modes that computed values depend on. What others decide, the text of a definition tells.
const COMPUTES: [&str; 4] =
    [SIGNED, "PAD_CHAR_TO_FULL_LENGTH", "TIME_ROUND_FRACTIONAL", "TIME_TRUNCATE_FRACTIONAL"];
/// No client writes more in front of it, bytes.
const TOP: usize = 32 << 10;
/// "Unknown system variable" of the servers' error references: it is older than the setting.
pub const UNKNOWN_VARIABLE: u16 = 1193;

/// The modes of a session that loads or copies what a primary with these settings has.
pub fn modes(flavor: Flavor, settings: &[(String, String)]) -> String {
    let its = value(settings, "sql_mode").unwrap_or_default();
    let mut modes = vec!["NO_AUTO_VALUE_ON_ZERO", "ALLOW_INVALID_DATES"];
    modes.extend(its.split(',').filter(|mode| COMPUTES.contains(mode)));
    // MySQL keeps the types that a view's columns have in the mode in which it is made.
    if flavor == Flavor::MariaDb && !modes.contains(&SIGNED) {
        modes.push(SIGNED);
    }
    modes.join(",")
}

/// What is turned off, so that a table can be made that the settings, which are the primary's, forbid:
/// others may have been in force when it was made.
pub fn accepted(flavor: Flavor) -> [&'static str; 2] {
    match flavor {
        // Rows may have been written before there was such a constraint, or without regard to it.
        Flavor::MariaDb => ["check_constraint_checks", "innodb_strict_mode"],
        Flavor::MySql => ["restrict_fk_on_non_standard_key", "innodb_strict_mode"],
    }
}

/// Has the fresh server accept that in the sessions to come.
///
/// # Errors
/// As those of [`Mysqld::run`].
pub fn accept(mysqld: &mut Mysqld, flavor: Flavor) -> Result<()> {
    for setting in accepted(flavor) {
        match mysqld.run(&format!("SET GLOBAL {setting} = 0")) {
            Err(Error::ReplicationError { errno: UNKNOWN_VARIABLE, .. }) => {}
            done => done?,
        }
    }
    Ok(())
}

/// A dump with other modes than the client's.
pub struct Accepting<R> {
    from: R,
    modes: String,
    /// The top of it, up to `passed` passed on.
    top: Vec<u8>,
    passed: usize,
    /// The modes were found, or are not there.
    known: bool,
}

impl<R: Read> Accepting<R> {
    /// Changes what comes `from` a client.
    pub fn new(from: R, modes: String) -> Accepting<R> {
        Accepting { from, modes, top: Vec::new(), passed: 0, known: false }
    }

    fn look(&mut self) -> io::Result<()> {
        while !self.known {
            let length = self.top.len();
            self.top.resize(length + 4096, 0);
            let read = self.from.read(&mut self.top[length..]);
            self.top.truncate(length + *read.as_ref().unwrap_or(&0));
            let ended = read? == 0;
            let found = self.top.windows(WRITTEN.len()).position(|window| window == WRITTEN);
            if let Some(at) = found {
                let accepted = format!("SQL_MODE='{}'", self.modes);
                self.top.splice(at..at + WRITTEN.len(), accepted.into_bytes());
            }
            self.known = ended || found.is_some() || self.top.len() >= TOP;
        }
        Ok(())
    }
}

impl<R: Read> Read for Accepting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.look()?;
        if self.passed == self.top.len() {
            return self.from.read(buffer);
        }
        let length = buffer.len().min(self.top.len() - self.passed);
        buffer[..length].copy_from_slice(&self.top[self.passed..self.passed + length]);
        self.passed += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_computed_values_depend_on_are_kept() {
        let of = |flavor, mode: &str| modes(flavor, &[("sql_mode".into(), mode.into())]);
        assert_eq!(
            of(Flavor::MySql, "ANSI_QUOTES,TIME_TRUNCATE_FRACTIONAL,STRICT_ALL_TABLES"),
            "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,TIME_TRUNCATE_FRACTIONAL"
        );
        let signed = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_UNSIGNED_SUBTRACTION";
        for mode in ["", "NO_UNSIGNED_SUBTRACTION"] {
            assert_eq!(of(Flavor::MariaDb, mode), signed);
        }
    }

    #[test]
    fn only_the_modes_at_the_top_are_changed() {
        let changed = |dump: &str| {
            let mut got = String::new();
            Accepting::new(dump.as_bytes(), "A,B".into()).read_to_string(&mut got).unwrap();
            got
        };
        let top = "SET @OLD=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n";
        let accepted = "SET @OLD=@@SQL_MODE, SQL_MODE='A,B' */;\n";
        let rows = top.repeat(2000);
        assert_eq!(changed(&rows), accepted.to_string() + &rows[top.len()..]);
        let late = format!("{}{top}", "-".repeat(TOP));
        assert_eq!(changed(&late), late);
        assert_eq!(changed("x"), "x");
        assert_eq!(changed(""), "");
    }
}
