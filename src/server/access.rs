//! How we log in to a private server whose passwords are unknown, and keep others out.
//!
//! Where possible, it starts without its grant tables: until they are loaded, anyone who reaches
//! the socket gets in. MariaDB 11 then rejects event definitions, even from replication and even
//! after loading them (its MDEV-29827). There the server starts with its grant tables and runs a
//! few statements before it listens: an account with a random name and password goes into an
//! in-memory table, which stands in for the table of accounts while that is loaded. So the server
//! knows the account, but it is stored nowhere, and loading the grant tables again removes it. If
//! the server is killed at that moment, its table of accounts has another name: nobody can log in,
//! and the data is restored again.
//!
//! Without grant tables neither server loads functions and plugins of its tables, nor lets one be
//! created ("UDFs are unavailable with the --skip-grant-tables option"). So data that has such
//! functions, or gets some, is entered through an account on any version. MySQL keeps its accounts
//! in InnoDB only: there the account is a row, without a password like the server before, that is
//! deleted, and that deletion flushed, before it listens. If the server is killed at that moment,
//! the row may be left, and the data is restored again.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::mysql::flavor::Flavor;
use crate::os::files;
use crate::os::random::random_name;
use crate::os::sys;

use crate::server::setup::Setup;

/// The name of the file of statements, in the directory for temporary files.
const FILE: &str = "login.sql";

/// The columns of MySQL's table of accounts: with one missing, ours could neither do all that a pass
/// does, nor grant it to the account of a program on the server.
const PRIVILEGES: [&str; 31] = [
    "Select",
    "Insert",
    "Update",
    "Delete",
    "Create",
    "Drop",
    "Reload",
    "Shutdown",
    "Process",
    "File",
    "Grant",
    "References",
    "Index",
    "Alter",
    "Show_db",
    "Super",
    "Create_tmp_table",
    "Lock_tables",
    "Execute",
    "Repl_slave",
    "Repl_client",
    "Create_view",
    "Show_view",
    "Create_routine",
    "Alter_routine",
    "Create_user",
    "Event",
    "Trigger",
    "Create_tablespace",
    "Create_role",
    "Drop_role",
];

/// What `error` of the applier means if the server was started without its grant tables. Once they were
/// loaded afterwards, MariaDB 10.11 takes its lack of loadable functions for one of memory:
/// `ER_OUT_OF_RESOURCES` for `ER_CANT_INITIALIZE_UDF`.
pub fn without_functions(error: Error) -> Error {
    match error {
        Error::ReplicationError { errno: 1041, text } => {
            Error::ReplicationError { errno: 1123, text }
        }
        error => error,
    }
}

/// An account that only a running server knows. Dropping this removes its file.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    flavor: Flavor,
    tmp: PathBuf,
}

impl Login {
    /// Generates an account and writes the statements that create it at the server's start.
    pub(super) fn make(setup: &Setup) -> Result<Login> {
        let tmp = setup.scratch.join("tmp");
        let path = tmp.join(FILE);
        let write = || {
            // MySQL allows 32 characters.
            let user: String = format!("rollforward-{}", random_name()?).chars().take(32).collect();
            let flavor = setup.flavor;
            let password = match flavor {
                Flavor::MariaDb => random_name()?,
                Flavor::MySql => String::new(),
            };
            let login = Login { user, password, flavor, tmp };
            login.forget()?;
            // Through its descriptor: the private mysqld's user could put a link in its place.
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let mut file = sys::open_below(&login.dir()?, Path::new(FILE), flags, 0o600)?;
            if let Some((uid, gid)) = setup.user {
                fchown(&file, Some(uid), Some(gid))?;
            }
            file.write_all(login.statements().as_bytes())?;
            Ok(login)
        };
        write().doing("write", &path)
    }

    /// The path of the statements.
    pub(super) fn file(&self) -> PathBuf {
        self.tmp.join(FILE)
    }

    fn dir(&self) -> io::Result<File> {
        files::open_dir(&self.tmp)
    }

    fn forget(&self) -> io::Result<()> {
        files::remove(&self.dir()?, Path::new(FILE), false).ignoring(io::ErrorKind::NotFound)
    }

    /// True if data of a server that ended before it listened may hold the account.
    pub(super) fn may_stay(&self) -> bool {
        self.flavor == Flavor::MySql
    }

    fn statements(&self) -> String {
        match self.flavor {
            Flavor::MariaDb => self.mariadb(),
            Flavor::MySql => self.mysql(),
        }
    }

    /// One statement per line. The log of InnoDB is flushed with the deletion.
    fn mysql(&self) -> String {
        let user = &self.user;
        let names: String = PRIVILEGES.iter().map(|name| format!(", {name}_priv")).collect();
        let all = ", 'Y'".repeat(PRIVILEGES.len());
        format!(
            "SET SESSION sql_mode = '';\n\
             SET GLOBAL innodb_flush_log_at_trx_commit = 1;\n\
             INSERT INTO mysql.user (Host, User, plugin, authentication_string{names}) \
             VALUES ('localhost', '{user}', 'caching_sha2_password', ''{all});\n\
             FLUSH LOCAL PRIVILEGES;\n\
             DELETE FROM mysql.user WHERE Host = 'localhost' AND User = '{user}';\n\
             SET GLOBAL innodb_flush_log_at_trx_commit = 0;\n"
        )
    }

    /// The same. MEMORY does not support TEXT, the column's type in the real table.
    fn mariadb(&self) -> String {
        let Login { user, password, .. } = self;
        format!(
            "SET SESSION sql_mode = '', enforce_storage_engine = NULL;\n\
             CREATE OR REPLACE TABLE mysql.rollforward_login (Host CHAR(60) NOT NULL, User \
             CHAR(80) NOT NULL, Priv VARCHAR(300) NOT NULL, PRIMARY KEY (Host, User)) \
             ENGINE=MEMORY CHARACTER SET latin1 COLLATE latin1_bin;\n\
             INSERT INTO mysql.rollforward_login VALUES ('localhost', '{user}', \
             CONCAT('{{\"access\":18446744073709551615,\"plugin\":\"mysql_native_password\",\
             \"authentication_string\":\"*', UPPER(SHA1(UNHEX(SHA1('{password}')))), '\"}}'));\n\
             RENAME TABLE mysql.global_priv TO mysql.rollforward_kept, \
             mysql.rollforward_login TO mysql.global_priv;\n\
             FLUSH LOCAL PRIVILEGES;\n\
             RENAME TABLE mysql.global_priv TO mysql.rollforward_login, \
             mysql.rollforward_kept TO mysql.global_priv;\n\
             DROP TABLE mysql.rollforward_login;\n"
        )
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // The directory is also emptied when the pass ends.
        let _ = self.forget();
    }
}
