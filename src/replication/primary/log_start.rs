//! What a primary had written before a place in its binary logs.

use super::{Facts, Primary, refused};
use crate::error::Result;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::session::quoted;
use crate::mysql::trouble::Trouble;

/// After the bytes that tell a log from other files.
const BEGIN: u32 = 4;

impl Primary {
    /// The position at which the binary log `file` of the primary of `facts` begins; `None` if it does not
    /// say. On MariaDB the question needs no privilege, on MySQL that of a replica.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn log_start(&self, facts: &Facts, file: &str) -> Result<Option<Position>> {
        self.log_position(facts, file, BEGIN)
    }

    /// The same at the byte `offset` of the log, where an event begins; on MySQL at its beginning.
    ///
    /// # Errors
    /// As there.
    pub fn log_position(&self, facts: &Facts, file: &str, offset: u32) -> Result<Option<Position>> {
        let file = quoted(file);
        let sql = match facts.flavor {
            // NULL, as for an offset within an event, is no position.
            Flavor::MariaDb => {
                format!("SELECT COALESCE(BINLOG_GTID_POS({file}, {offset}), 'unknown')")
            }
            // A description of the format, and what came before.
            Flavor::MySql => format!("SHOW BINLOG EVENTS IN {file} LIMIT 2"),
        };
        let rows = match self.open(facts)?.query(&sql) {
            Ok(rows) => rows,
            Err(Trouble::Server { errno, .. }) => {
                log::debug!("{} does not show {file}: error {errno}", facts.address);
                return Ok(None);
            }
            Err(trouble) => return Err(refused(&facts.address, trouble)),
        };
        let start = match facts.flavor {
            Flavor::MariaDb => Some(rows.first()),
            // Log, position, kind of event, server, end, and what it says.
            Flavor::MySql => rows.iter().find_map(|row| match row[..] {
                [_, _, "Previous_gtids", _, _, set, ..] => Some(set),
                _ => None,
            }),
        };
        Ok(start.and_then(|text| Position::parse(facts.flavor, text).ok()))
    }
}
