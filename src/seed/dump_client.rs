//! The clients that dump the primary and load the private server: their options, how they log in,
//! what their complaints mean.

use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::mysql::account::{Account, ServerKey, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::replication::primary::{Address, TLS_FAILED, denies_access};
use crate::server::error_log::without_statement;
use crate::server::setup::Setup;
use crate::server::tools::client;

/// A directory that cannot exist. MariaDB's client would load whatever login the other side asks for
/// from its directory of plugins, and `mysql_clear_password` and `dialog` send the password as it is.
/// The logins that pass replication are built in.
const NO_PLUGINS: &str = "/dev/null/none";

/// The option file for a client that logs in to the primary. It holds the password.
pub fn client_options(account: &Account, address: &Address, flavor: Flavor) -> String {
    let quote = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    };
    let mut text = format!(
        "[client]\nuser={}\npassword={}\nhost={}\nport={}\nprotocol=tcp\nplugin-dir={NO_PLUGINS}\n",
        quote(&account.user),
        quote(&account.password.0),
        quote(&address.host),
        address.port
    );
    let tls = &account.tls;
    text += match (flavor, &tls.mode) {
        (Flavor::MariaDb, TlsMode::Disabled) => "skip-ssl\n",
        (Flavor::MariaDb, TlsMode::Preferred | TlsMode::Required) => {
            "ssl\ndisable-ssl-verify-server-cert\n"
        }
        (Flavor::MariaDb, TlsMode::VerifyIdentity) => "ssl\nssl-verify-server-cert\n",
        (Flavor::MySql, TlsMode::Disabled) => "ssl-mode=DISABLED\n",
        (Flavor::MySql, TlsMode::Preferred) => "ssl-mode=PREFERRED\n",
        (Flavor::MySql, TlsMode::Required) => "ssl-mode=REQUIRED\n",
        (Flavor::MySql, TlsMode::VerifyIdentity) => "ssl-mode=VERIFY_IDENTITY\n",
    };
    match &tls.server_key {
        _ if flavor == Flavor::MariaDb => {}
        ServerKey::Unknown => {}
        ServerKey::Asked => text += "get-server-public-key\n",
        ServerKey::File(path) => {
            text += &format!("server-public-key-path={}\n", quote(&path.to_string_lossy()));
        }
    }
    if tls.mode != TlsMode::Disabled {
        let (cert, private) = (tls.cert.as_ref(), tls.key.as_ref());
        for (key, path) in [("ca", tls.verified_by()), ("cert", cert), ("key", private)] {
            if let Some(path) = path {
                text += &format!("ssl-{key}={}\n", quote(&path.to_string_lossy()));
            }
        }
    }
    text
}

/// The error that a complaint of the dumping client stands for.
pub fn dump_error(address: &str, flavor: Flavor, text: &str) -> Error {
    let (errno, text) = (errno_of(text), without_statement(text));
    match errno {
        2002..=2006 | 2013 | 1040 | 1053 | 1158..=1161 => {
            Error::PrimaryUnreachable { primary: address.into(), text }
        }
        e if denies_access(e) || e == TLS_FAILED => {
            Error::AccessDenied { primary: address.into(), text }
        }
        errno => Error::ReplicationError { errno, text: format!("{}: {text}", programs(flavor).0) },
    }
}

/// The number in a client's complaint, as in `Got error: 1045:`, `ERROR 1062 (23000)` or
/// `Error 1412:`.
pub fn errno_of(text: &str) -> u16 {
    // Names of tables may hold numbers, too: the places where clients put theirs come first.
    let after = |mark: &str| {
        let (_, rest) = text.split_once(mark)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (digits.len() == 4).then(|| digits.parse().ok()).flatten()
    };
    ["rror: ", "ERROR ", "Error ", "("].iter().find_map(|m| after(m)).unwrap_or(0)
}

/// The names of the dumping and the loading client.
fn programs(flavor: Flavor) -> (&'static str, &'static str) {
    match flavor {
        Flavor::MariaDb => ("mariadb-dump", "mariadb"),
        Flavor::MySql => ("mysqldump", "mysql"),
    }
}

/// A client that dumps. It reads its options from standard input, so that the password is in no file and
/// no argument.
pub fn dump_command(setup: &Setup) -> Result<Command> {
    let mut command = client(setup, programs(setup.flavor).0)?;
    command
        .arg("--defaults-file=/dev/stdin")
        .args(["--single-transaction", "--max-allowed-packet=1G"])
        // They quote the greeting's version line, in which a line break would begin a statement.
        .arg("--skip-comments")
        // Reports which table it is at.
        .arg("--verbose")
        .stdout(Stdio::piped());
    Ok(command)
}

/// What a primary has that a client must be told of.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug)]
pub struct Has {
    pub versions: bool,
    pub sequences: bool,
}

/// Everything, as of one moment, but for the tables in `ignored`. MariaDB's client tells its position: the
/// GTIDs at its end, or file and offset at its beginning for those who look for them. To tell it MySQL's
/// would lock the primary.
pub fn everything(flavor: Flavor, has: Has, ignored: &[String]) -> Vec<String> {
    let mut what = vec!["--all-databases", "--routines", "--triggers", "--events"];
    what.extend(match flavor {
        // To MariaDB every directory is a database, also that of a file system's root.
        Flavor::MariaDb => ["--master-data=1", "--ignore-database=#mysql50#lost+found"].as_slice(),
        Flavor::MySql => ["--set-gtid-purged=OFF"].as_slice(),
    });
    what.extend((flavor == Flavor::MariaDb && ignored.is_empty()).then_some("--gtid"));
    what.extend(has.versions.then_some("--dump-history"));
    // While a table is locked, no row goes into it if the sequence of a default is not locked, too (1100).
    // Without locks an Aria table takes twice as long.
    what.extend(has.sequences.then_some("--skip-add-locks"));
    let what = what.into_iter().map(str::to_string);
    what.chain(ignored.iter().map(|table| format!("--ignore-table={table}"))).collect()
}

/// The triggers of these tables and nothing else.
pub fn triggers(flavor: Flavor, schema: &str, tables: impl Iterator<Item = String>) -> Vec<String> {
    let mut what = vec!["--no-data", "--no-create-info", "--no-tablespaces", "--triggers"];
    what.extend((flavor == Flavor::MySql).then_some("--set-gtid-purged=OFF"));
    what.extend(["--", schema]);
    what.into_iter().map(str::to_string).chain(tables).collect()
}

/// The client that loads a dump into the private server.
pub fn load_command(setup: &Setup) -> Result<Command> {
    let mut command = client(setup, programs(setup.flavor).1)?;
    command
        .args(["--no-defaults", "--protocol=socket", "--host=localhost", "--socket=mysqld.sock"])
        .args(["--user=root", "--binary-mode"])
        .args(["--max-allowed-packet=1G", "--default-character-set=utf8mb4"])
        .stdout(Stdio::null());
    if setup.flavor == Flavor::MariaDb {
        // MariaDB 11's client wants TLS even on a socket, and the private server has none.
        command.arg("--skip-ssl");
        // It takes comments out of the bodies of routines otherwise.
        command.arg("--comments");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clients_error_number_is_found() {
        for (text, errno) in [
            ("mariadb-dump: Got error: 1045: Access denied for user x(1)", 1045),
            ("ERROR 1062 (23000) at line 7: Duplicate entry", 1062),
            ("mariadb-dump: Couldn't execute 'show events': Access denied (1044)", 1044),
            (
                "mariadb-dump: Error 1412: Table definition has changed, please retry transaction \
                 when dumping table `big` at row: 0",
                1412,
            ),
            ("mariadb-dump: Error: none of them", 0),
        ] {
            assert_eq!(errno_of(text), errno, "{text}");
        }
    }
}
