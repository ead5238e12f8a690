//! The clients of the server's package: where they are, how they log in, what they complain of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::log_tail::{self, without_statement};
use crate::mysqld::Setup;
use crate::primary::{Facts, TLS_FAILED, denies_access};
use crate::process::Child;
use crate::session::{Account, TlsMode};

/// The option file of a client that logs in to the primary; it holds the password.
pub fn client_options(account: &Account, facts: &Facts) -> String {
    let quote = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    };
    let mut text = format!(
        "[client]\nuser={}\npassword={}\nhost={}\nport={}\nprotocol=tcp\n",
        quote(&account.user),
        quote(&account.password.0),
        quote(&facts.address.host),
        facts.address.port
    );
    let tls = &account.tls;
    match tls.mode {
        TlsMode::Disabled => text += "skip-ssl\n",
        TlsMode::Required => text += "ssl\ndisable-ssl-verify-server-cert\n",
        TlsMode::VerifyIdentity => text += "ssl\nssl-verify-server-cert\n",
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
pub fn dump_error(address: &str, text: &str) -> Error {
    let (errno, text) = (errno_of(text), without_statement(text));
    match errno {
        2002..=2006 | 2013 | 1040 | 1053 | 1158..=1161 => {
            Error::PrimaryUnreachable { primary: address.into(), text }
        }
        e if denies_access(e) || e == TLS_FAILED => {
            Error::AccessDenied { primary: address.into(), text }
        }
        errno => Error::ReplicationError { errno, text: format!("mariadb-dump: {text}") },
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
pub fn tool(setup: &Setup, name: &str) -> Result<PathBuf> {
    let beside = setup.program.parent().unwrap_or(Path::new("/"));
    let mut places = vec![beside.to_path_buf(), beside.join("../bin"), beside.join("../scripts")];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.push("/usr/bin".into());
    let found = places.iter().map(|p| p.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| Error::config(format!("{name} is not installed; a dump needs it")))
}

/// Starts a client.
pub fn spawn(command: &mut Command, program: &Path) -> Result<Child> {
    Child::spawn(command).map_err(|e| Error::io("execute", program, e))
}

/// An empty file for what a child says.
pub fn output(path: &Path) -> Result<File> {
    let _ = fs::remove_file(path);
    File::options().append(true).create_new(true).open(path).map_err(|e| Error::io("open", path, e))
}

/// The first lines of what a child said.
pub fn complaint(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::trim).filter(|l| !l.is_empty()).take(3).collect::<Vec<_>>().join(" | ")
}

/// The last error lines of what a child said.
pub fn last_errors(path: &Path) -> String {
    log_tail::quote(&fs::read_to_string(path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

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
