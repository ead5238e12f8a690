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

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::os::files;
use crate::os::random::random_name;
use crate::os::sys;

use crate::server::setup::Setup;

/// The name of the file of statements, in the directory for temporary files.
const FILE: &str = "login.sql";

/// An account that only a running server knows. Dropping this removes its file.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    tmp: PathBuf,
}

impl Login {
    /// Generates an account and writes the statements that create it at the server's start.
    pub(super) fn make(setup: &Setup) -> Result<Login> {
        let tmp = setup.scratch.join("tmp");
        let path = tmp.join(FILE);
        let write = || {
            let (user, password) = (format!("rollforward-{}", random_name()?), random_name()?);
            let login = Login { user, password, tmp };
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

    /// One statement per line. MEMORY does not support TEXT, the column's type in the real table.
    fn statements(&self) -> String {
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
