//! An account for the user's program on a private server that runs.
//!
//! The server knows it, but its tables do not: it is created, and then its rows are deleted, which the
//! server does not notice until it loads its accounts again. So nothing of it is in a dump of the accounts,
//! nor in the data. Its password is random, and known to the option file alone, which is in memory. In the
//! same way all other accounts are locked, where data is to be thrown away: nobody logs in with them, and
//! yet they are there as the definers of views and routines.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::error::{IoExt, Result};
use crate::mysql::flavor::Flavor;
use crate::os::random::random_name;
use crate::os::sys;
use crate::server::mysqld::Mysqld;

/// The variable that tells a program the path of the option file.
pub const DEFAULTS_FILE: &str = "ROLLFORWARD_DEFAULTS_FILE";

/// The programs that take `--defaults-file` as their first argument.
const CLIENTS: [&str; 14] = [
    "mariadb",
    "mysql",
    "mariadb-admin",
    "mysqladmin",
    "mariadb-check",
    "mysqlcheck",
    "mariadb-dump",
    "mysqldump",
    "mariadb-import",
    "mysqlimport",
    "mariadb-show",
    "mysqlshow",
    "mariadb-slap",
    "mysqlslap",
];

/// The longest path of a socket that every client takes, bytes.
const LONGEST: usize = 100;
/// What a path may have besides letters and digits, to be the same in an option file without quotes.
const PLAIN: &[u8] = b"/._-+=,@:";

/// What an account may do that only reads. Nothing that gets around `read_only`.
const READS: &str = "SELECT, RELOAD, PROCESS, SHOW DATABASES, LOCK TABLES, CREATE TEMPORARY TABLES, \
                     EXECUTE, SHOW VIEW, TRIGGER, EVENT, REPLICATION CLIENT";

/// Locks all accounts but one in the tables, and keeps what was there.
const MARIADB_LOCK: [&str; 2] = [
    "CREATE TEMPORARY TABLE mysql.rollforward_kept SELECT Host, User, Priv FROM mysql.global_priv \
     WHERE User <> 'GUEST' AND JSON_VALUE(Priv, '$.is_role') IS NULL",
    "UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.account_locked', true) \
     WHERE User <> 'GUEST' AND JSON_VALUE(Priv, '$.is_role') IS NULL",
];
/// Puts back what was there.
const MARIADB_UNLOCK: [&str; 2] = [
    "UPDATE mysql.global_priv JOIN mysql.rollforward_kept USING (Host, User) \
     SET global_priv.Priv = rollforward_kept.Priv",
    "DROP TEMPORARY TABLE mysql.rollforward_kept",
];
const MYSQL_LOCK: [&str; 2] = [
    "CREATE TEMPORARY TABLE mysql.rollforward_kept SELECT Host, User FROM mysql.user \
     WHERE account_locked = 'N' AND User <> 'GUEST'",
    "UPDATE mysql.user SET account_locked = 'Y' WHERE User <> 'GUEST'",
];
const MYSQL_UNLOCK: [&str; 2] = [
    "UPDATE mysql.user JOIN mysql.rollforward_kept USING (Host, User) SET account_locked = 'N'",
    "DROP TEMPORARY TABLE mysql.rollforward_kept",
];

/// What a client of the servers' packages needs before its own `args`, so that it logs in by
/// `option_file`; nothing for any other program, or for one that is told where to read.
pub fn first_argument(program: &Path, args: &[String], option_file: &Path) -> Option<String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let told = |arg: &String| arg.starts_with("--defaults") || arg.starts_with("--no-defaults");
    let ours = CLIENTS.contains(&&*name) && !args.first().is_some_and(told);
    ours.then(|| format!("--defaults-file={}", option_file.display()))
}

/// What a guest may do.
#[derive(Clone, Copy)]
pub struct Rights {
    /// Anything; otherwise it only reads.
    pub write: bool,
    /// Nobody else can log in.
    pub alone: bool,
}

/// An account of a running server, with the option file for it.
pub struct Guest {
    user: String,
    flavor: Flavor,
    file: File,
    socket: PathBuf,
}

impl Guest {
    /// Lets a guest in: to `write` anything, or only to read; `alone`, with all others locked. `socket` is
    /// where the server listens.
    ///
    /// # Errors
    /// The server's; when there is no memory for the option file.
    pub fn admit(
        mysqld: &mut Mysqld,
        flavor: Flavor,
        Rights { write, alone }: Rights,
        socket: &Path,
    ) -> Result<Guest> {
        let here = Path::new("/dev/urandom");
        let name = || random_name().doing("read", here);
        // MySQL allows 32 characters.
        let user: String = format!("rollforward-{}", name()?).chars().take(32).collect();
        // Enough of everything for a server that looks at passwords.
        let password = format!("Rf.{}", name()?);
        let account = format!("'{user}'@'localhost'");
        let rights = match (write, flavor) {
            (true, _) => "ALL PRIVILEGES".to_string(),
            (false, Flavor::MariaDb) => format!("{READS}, SLAVE MONITOR"),
            (false, Flavor::MySql) => READS.to_string(),
        };
        let option = if write { " WITH GRANT OPTION" } else { "" };
        let with = match flavor {
            Flavor::MariaDb => "",
            Flavor::MySql => "WITH caching_sha2_password ",
        };
        mysqld.run("SET SESSION sql_mode = ''")?;
        mysqld.run(&format!("CREATE USER {account} IDENTIFIED {with}BY '{password}'"))?;
        mysqld.run(&format!("GRANT {rights} ON *.* TO {account}{option}"))?;
        let (lock, unlock) = match flavor {
            Flavor::MariaDb => (MARIADB_LOCK, MARIADB_UNLOCK),
            Flavor::MySql => (MYSQL_LOCK, MYSQL_UNLOCK),
        };
        if alone {
            for sql in lock {
                mysqld.run(&sql.replace("GUEST", &user))?;
            }
            // LOCAL: otherwise MySQL may count this as a transaction of its own.
            mysqld.run("FLUSH LOCAL PRIVILEGES")?;
            for sql in unlock {
                mysqld.run(sql)?;
            }
        }
        let tables: &[&str] = match flavor {
            Flavor::MariaDb => &["global_priv"],
            Flavor::MySql => &["user", "global_grants", "password_history"],
        };
        for table in tables {
            mysqld.run(&format!("DELETE FROM mysql.{table} WHERE User = '{user}'"))?;
        }
        let mut file = sys::memory_file(c"rollforward-login").doing("make", Path::new("login"))?;
        let bytes = socket.as_os_str().as_encoded_bytes();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || PLAIN.contains(b);
        let shown = match bytes.len() <= LONGEST && bytes.iter().all(plain) {
            true => socket.to_path_buf(),
            false => mysqld.short_socket(),
        };
        // MariaDB's clients insist on TLS, since 11.4 also on a socket; MySQL's do not know the word.
        let text = format!(
            "[client]\nuser={user}\npassword={password}\nhost=localhost\nprotocol=socket\nsocket={}\n\
             [client-mariadb]\nskip-ssl\n",
            shown.display()
        );
        file.write_all(text.as_bytes()).doing("write", Path::new("login"))?;
        Ok(Guest { user, flavor, file, socket: shown })
    }

    /// The option file, as other processes of our user open it, until we end.
    pub fn option_file(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// The socket that it names.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The server forgets the account. What is logged in stays so.
    ///
    /// # Errors
    /// The server's.
    pub fn dismiss(self, mysqld: &mut Mysqld) -> Result<()> {
        log::debug!("the account {} goes", self.user);
        mysqld.load_grant_tables(self.flavor)
    }
}

/// The statement after which nothing is written any more: on MySQL by nobody, on MariaDB by no guest
/// that only reads.
pub fn read_only(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => "SET GLOBAL read_only = ON",
        Flavor::MySql => "SET GLOBAL super_read_only = ON",
    }
}
