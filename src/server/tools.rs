//! The clients of the server's package: where they are, what they are told, how they log in,
//! what they complain of.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::mysql::position::Flavor;
use crate::mysql::session::{Account, ServerKey, TlsMode};
use crate::os::files;
use crate::os::process::Child;
use crate::replication::primary::{Address, TLS_FAILED, denies_access};
use crate::server::error_log::{self, without_statement};
use crate::server::mysqld::Setup;

/// So much of what a child said is read.
const SAID: u64 = 1 << 20;
/// So much of its end: an error is a line.
const END: u64 = 16 << 10;

/// The option file of a client that logs in to the primary; it holds the password.
pub fn client_options(account: &Account, address: &Address, flavor: Flavor) -> String {
    let quote = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    };
    let mut text = format!(
        "[client]\nuser={}\npassword={}\nhost={}\nport={}\nprotocol=tcp\n",
        quote(&account.user),
        quote(&account.password.0),
        quote(&address.host),
        address.port
    );
    let tls = &account.tls;
    text += match (flavor, &tls.mode) {
        (Flavor::MariaDb, TlsMode::Disabled) => "skip-ssl\n",
        (Flavor::MariaDb, TlsMode::Required) => "ssl\ndisable-ssl-verify-server-cert\n",
        (Flavor::MariaDb, TlsMode::VerifyIdentity) => "ssl\nssl-verify-server-cert\n",
        (Flavor::MySql, TlsMode::Disabled) => "ssl-mode=DISABLED\n",
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

/// What a complaint of the dump's client means.
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
    // Names of tables may hold numbers, too: what stands where the clients put theirs comes first.
    let after = |mark: &str| {
        let (_, rest) = text.split_once(mark)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (digits.len() == 4).then(|| digits.parse().ok()).flatten()
    };
    ["rror: ", "ERROR ", "Error ", "("].iter().find_map(|m| after(m)).unwrap_or(0)
}

/// A client or script of the server's package: beside the server program, else from PATH.
pub fn tool(program: &Path, name: &str) -> Result<PathBuf> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let mut places = vec![beside.to_path_buf(), beside.join("../bin"), beside.join("../scripts")];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.push("/usr/bin".into());
    let found = places.iter().map(|p| p.join(name)).find(|p| p.is_file());
    let what = if name.ends_with("-upgrade") { "an upgrade" } else { "a dump" };
    found.ok_or_else(|| Error::config(format!("{name} is not installed; {what} needs it")))
}

/// Starts a client.
pub fn spawn(command: &mut Command) -> Result<Child> {
    Child::spawn(command)
        .map_err(|e| Error::io("execute", &PathBuf::from(command.get_program()), e))
}

/// What dumps a server of `flavor`, and what loads that.
fn programs(flavor: Flavor) -> (&'static str, &'static str) {
    match flavor {
        Flavor::MariaDb => ("mariadb-dump", "mariadb"),
        Flavor::MySql => ("mysqldump", "mysql"),
    }
}

/// The client that dumps everything, of one moment and with its position. It reads its options
/// from its standard input: the password is in no file and no argument.
pub fn dump_command(setup: &Setup) -> Result<Command> {
    let mut command = Command::new(tool(&setup.program, programs(setup.flavor).0)?);
    command
        .arg("--defaults-file=/dev/stdin")
        .args(["--all-databases", "--single-transaction", "--max-allowed-packet=1G"])
        .args(["--routines", "--triggers", "--events"])
        // Tells which table it is at.
        .arg("--verbose")
        .args(match setup.flavor {
            Flavor::MariaDb => ["--gtid", "--master-data=1"].as_slice(),
            Flavor::MySql => ["--set-gtid-purged=ON"].as_slice(),
        })
        .env_remove("MYSQL_PWD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Ok(command)
}

/// The client that loads a dump into the private server.
pub fn load_command(setup: &Setup) -> Result<Command> {
    let mut command = Command::new(tool(&setup.program, programs(setup.flavor).1)?);
    command
        .args(["--no-defaults", "--socket=mysqld.sock", "--user=root", "--binary-mode"])
        .args(["--max-allowed-packet=1G", "--default-character-set=utf8mb4"])
        .current_dir(&setup.scratch)
        .env_remove("MYSQL_PWD")
        .stdout(Stdio::null());
    if setup.flavor == Flavor::MariaDb {
        // That of MariaDB 11 would have TLS even on a socket, and the private server has none.
        command.arg("--skip-ssl");
    }
    Ok(command)
}

/// An empty file for what a child says.
pub fn output(path: &Path) -> Result<File> {
    let _ = fs::remove_file(path);
    File::options().append(true).create_new(true).open(path).map_err(|e| Error::io("open", path, e))
}

/// What a child complained of: its error, else its first lines. What `--verbose` makes it tell
/// begins with two dashes. MariaDB's client shows the statement between lines of dashes before the
/// error: it may be long, and may hold passwords.
pub fn complaint(path: &Path) -> String {
    if let Some(error) = end(path).lines().rfind(|l| l.starts_with("ERROR ")) {
        return error.trim().to_string();
    }
    let mut in_statement = false;
    let said = said(path);
    let lines = said.lines().map(str::trim).filter(|line| {
        let border = line.len() > 3 && line.bytes().all(|b| b == b'-');
        in_statement ^= border;
        !border && !in_statement && !line.is_empty() && !line.starts_with("-- ")
    });
    lines.take(3).collect::<Vec<_>>().join(" | ")
}

/// The last error lines of what a child said.
pub fn last_errors(path: &Path) -> String {
    error_log::quote(&said(path))
}

/// Was it refused space, as its error lines say?
pub fn lacked_space(path: &Path) -> bool {
    matches!(error_log::shortage(&end(path)), Some((error_log::Shortage::Space, _)))
}

/// The end of what a child said.
fn end(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = files::open_no_link(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(END)));
        let _ = file.take(END).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What a child said; the beginning, if it is long.
fn said(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = files::open_no_link(path) {
        let _ = file.take(SAID).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_failed_is_not_passed_on_and_hides_no_error() {
        let path = std::env::temp_dir().join(format!("rf-unit-say-{}", std::process::id()));
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            let complaint = complaint(&path);
            fs::remove_file(&path).unwrap();
            complaint
        };
        let border = "--------------\n";
        let error = "ERROR 2013 (HY000) at line 7: Lost connection to server during query";
        let statement = format!("{border}/*!40101 SET x */;\nCREATE USER a\n{border}");
        assert_eq!(said(&format!("{statement}\n{error}\n")), error);
        let long = format!("{border}INSERT {}\n{border}\n{error}\n", "x".repeat(3 << 20));
        assert_eq!(said(&long), error);
        assert_eq!(said(&statement), "", "the client was killed");
        assert_eq!(
            said("-- Connecting to db1...\nmariadb-dump: no\n\nb\n"),
            "mariadb-dump: no | b"
        );
    }

    #[test]
    fn the_number_is_found_where_each_client_puts_it() {
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
