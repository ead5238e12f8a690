//! The statements that make a server on restored data a replica of the primary, as a file for a client.
//! Pure.
//!
//! The password is in no file of ours: it is taken from a variable of the session. The position is in
//! the data, so the file may be read twice. Strings are quoted for the SQL mode that the file sets.

use crate::mysql::account::Account;
use crate::mysql::flavor::Flavor;
use crate::mysql::session::quoted;
use crate::replication::primary::Address;
use crate::replication::replica::{public_key_options, tls_options};
use crate::text::harmless;

/// The name of the file.
pub const NAME: &str = "rollforward-replica.sql";

/// Events that were made on the primary by the first backup are enabled in the data. As on any replica,
/// they are not to run here. The definer has to be given again, or it would be who reads the file; and
/// none of it may be in the replica's own binary log.
const MARIADB_EVENTS: &str = "\
DELIMITER //
BEGIN NOT ATOMIC
  FOR event IN (SELECT CONCAT(
        'ALTER DEFINER=',
        QUOTE(LEFT(DEFINER, CHAR_LENGTH(DEFINER) - CHAR_LENGTH(SUBSTRING_INDEX(DEFINER, '@', -1)) - 1)),
        '@', QUOTE(SUBSTRING_INDEX(DEFINER, '@', -1)),
        ' EVENT `', REPLACE(EVENT_SCHEMA, '`', '``'), '`.`', REPLACE(EVENT_NAME, '`', '``'),
        '` DISABLE ON SLAVE') AS statement
      FROM information_schema.EVENTS WHERE STATUS = 'ENABLED') DO
    EXECUTE IMMEDIATE event.statement;
  END FOR;
END//
DELIMITER ;
";

/// MySQL alters no event by a name that is in a variable.
const MYSQL_EVENTS: &str = "\
SET @rollforward = IF(@@GLOBAL.event_scheduler = 'DISABLED', 'DO 0',
  'SET PERSIST event_scheduler = OFF');
PREPARE rollforward FROM @rollforward; EXECUTE rollforward; DEALLOCATE PREPARE rollforward;
";

/// The text of the file for data of this flavor, to be read from `path`. `about` is what the data is, in
/// words.
pub fn text(
    flavor: Flavor,
    address: &Address,
    account: &Account,
    about: &str,
    path: &str,
) -> String {
    let (host, port, user) = (quoted(&address.host), address.port, quoted(&account.user));
    let shown = harmless(&address.to_string());
    let (side, position) = match flavor {
        Flavor::MariaDb => ("MASTER", "gtid_slave_pos"),
        Flavor::MySql => ("SOURCE", "gtid_executed"),
    };
    let tls = tls_options(&account.tls, side);
    let (change, events, start) = match flavor {
        Flavor::MariaDb => ("CHANGE MASTER TO", MARIADB_EVENTS, "START SLAVE"),
        Flavor::MySql => ("CHANGE REPLICATION SOURCE TO", MYSQL_EVENTS, "START REPLICA"),
    };
    let on_events = match flavor {
        Flavor::MariaDb => {
            "Events that are enabled become disabled on this replica; those that came by replication are \
             that already."
        }
        Flavor::MySql => {
            "The event scheduler is turned off for good, since events of the first backup are enabled, \
             and run on the primary. Before this server takes over: RESET PERSIST event_scheduler."
        }
    };
    let gtids = match flavor {
        Flavor::MariaDb => "MASTER_USE_GTID=slave_pos".to_string(),
        Flavor::MySql => format!("SOURCE_AUTO_POSITION=1{}", public_key_options(&account.tls)),
    };
    let hint = format!("no password was given: {change} {side}_PASSWORD=..., then {start}");
    let run = |statement: &str| match flavor {
        Flavor::MariaDb => format!("EXECUTE IMMEDIATE {statement};\n"),
        Flavor::MySql => format!(
            "SET @rollforward = {statement};\n\
             PREPARE rollforward FROM @rollforward; EXECUTE rollforward; DEALLOCATE PREPARE rollforward;\n"
        ),
    };
    let password = run(&format!(
        "IF(@password IS NULL, 'DO 0',\n  CONCAT('{change} {side}_PASSWORD=', QUOTE(@password)))"
    ));
    let begin = run(&format!(
        "IF(@password IS NULL,\n  {},\n  '{start}')",
        quoted(&format!("SELECT {} AS note", quoted(&hint)))
    ));
    let client = match flavor {
        Flavor::MariaDb => "mariadb",
        Flavor::MySql => "mysql, which needs --commands since MySQL 9",
    };
    let about = harmless(about);
    let account = harmless(&account.user);
    let path = harmless(path);
    format!(
        "-- Makes a server on this data a replica of {shown}.\n\
         -- {about}\n\
         -- The position is in its {position}: this file may be read again.\n\
         --\n\
         -- The server needs a server_id that no other server of the replication has. {on_events}\n\
         -- Log in to it as an administrator with {client}. The password of {account}\n\
         -- comes first, in the same session; it is in no file:\n\
         --\n\
         --     SET @password = '...';\n\
         --     source {path}\n\
         \n\
         SET @rollforward_mode = @@SESSION.sql_mode, @rollforward_log = @@SESSION.sql_log_bin;\n\
         SET SESSION sql_mode = '';\n\
         SET SESSION sql_log_bin = 0;\n\
         {events}\
         {change}\n  {side}_HOST={host}, {side}_PORT={port}, {side}_USER={user},\n  {gtids}{tls};\n\
         {password}\
         {begin}\
         SET @password = NULL;\n\
         SET SESSION sql_log_bin = @rollforward_log;\n\
         SET SESSION sql_mode = @rollforward_mode;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::account::{Secret, Tls, TlsMode};

    #[test]
    fn strings_are_quoted_and_the_password_is_not_there() {
        let address = Address { host: "db'1\\".into(), port: 3307 };
        let tls = Tls { mode: TlsMode::Required, ..Tls::default() };
        let password = Secret("hunter2".into());
        let account = Account { user: "o'brien\n-- x".into(), password, tls, compress: false };
        for flavor in [Flavor::MariaDb, Flavor::MySql] {
            let text = text(flavor, &address, &account, "copy\nDROP", "/d");
            assert!(text.contains(r"_HOST='db\'1\\', "), "{text}");
            assert!(text.contains("_USER='o\\'brien\n-- x',"), "{text}");
            assert!(text.contains("_SSL=1") && !text.contains("hunter2"), "{text}");
            assert!(
                text.contains("\n-- copy?DROP\n") && text.contains("of o'brien?-- x\n"),
                "{text}"
            );
        }
    }
}
