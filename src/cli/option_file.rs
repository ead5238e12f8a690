//! Option files in MySQL's format, with the account and addresses in them.
//!
//! `[client]` is shared with other programs, so unknown keys are ignored there. `[rollforward]` is
//! ours: the caller refuses unknown keys. For the syntax see "Using option files" in the servers'
//! documentation: `#` and `;` start comments, values may be quoted, `\s \t \n \r \b \\` are
//! escapes, `!include` and `!includedir` are followed.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::mysql::account::{Account, Secret, ServerKey, Tls, TlsMode};
use crate::os::files;
use crate::replication::primary::Address;
use crate::text::system_text;

/// How deeply files may include one another.
const DEPTH: u32 = 10;
/// Larger files are refused.
const LARGEST: u64 = 1 << 20;

/// The content of an option file.
#[derive(Default)]
pub struct OptionFile {
    /// The file named on the command line.
    pub path: PathBuf,
    /// Keys of `[client]` with dashes for underscores; the last one counts.
    client: BTreeMap<String, String>,
    /// The content of `--password-file`, once read.
    password: OnceCell<Secret>,
    /// The names of all groups.
    pub groups: BTreeSet<String>,
    /// Keys of `[rollforward]` in order; `None` without a `=`.
    pub rollforward: Vec<(String, Option<String>)>,
    /// The same by option, once the keys are known to be options.
    pub merged: BTreeMap<&'static str, Vec<String>>,
}

/// Reads `path` and the files it includes.
///
/// # Errors
/// [`Error::Configuration`] naming file and line.
pub fn read(path: &Path) -> Result<OptionFile> {
    let mut file = OptionFile { path: path.to_path_buf(), ..OptionFile::default() };
    file.add(path, DEPTH)?;
    Ok(file)
}

impl OptionFile {
    fn add(&mut self, path: &Path, depth: u32) -> Result<()> {
        self.add_text(path, &load(path)?, depth)
    }

    /// Parses the text of the file `path`, at this include depth.
    pub fn add_text(&mut self, path: &Path, text: &str, depth: u32) -> Result<()> {
        let mut group = String::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what: &str| {
                Error::config(format!("{}, line {}: {what}", path.display(), number + 1))
            };
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(directive) = line.strip_prefix('!') {
                if depth == 0 {
                    return Err(wrong("includes are nested too deeply"));
                }
                self.include(path, directive, depth - 1, &wrong)?;
            } else if let Some(rest) = line.strip_prefix('[') {
                let (name, _) = rest.split_once(']').ok_or_else(|| wrong("missing ']'"))?;
                group = name.trim().to_ascii_lowercase();
                self.groups.insert(group.clone());
            } else if group.is_empty() {
                return Err(wrong("key before the first [group]"));
            } else if is_read(&group) && without_comment(line).contains('\0') {
                // No value can have one, least of all a path, which would end there. It may be a password.
                let (key, _) = line.split_once('=').unwrap_or((line, ""));
                return Err(wrong(&format!("the value of {} contains a NUL byte", key.trim())));
            } else {
                self.entry(&group, line);
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        from: &Path,
        directive: &str,
        depth: u32,
        wrong: &dyn Fn(&str) -> Error,
    ) -> Result<()> {
        let (word, target) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        let target = from.parent().unwrap_or(Path::new("")).join(target.trim());
        match word {
            "include" => self.add(&target, depth),
            "includedir" => {
                let entries = fs::read_dir(&target).map_err(|e| {
                    wrong(&format!("cannot read {}: {}", target.display(), system_text(&e)))
                })?;
                let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
                files.retain(|f| f.extension().is_some_and(|e| e == "cnf"));
                files.sort();
                files.iter().try_for_each(|f| self.add(f, depth))
            }
            _ => Err(wrong(&format!("unknown directive '!{word}'"))),
        }
    }

    fn entry(&mut self, group: &str, line: &str) {
        let line = without_comment(line);
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim(), Some(unquote(value.trim()))),
            None => (line.trim(), None),
        };
        match group {
            "client" => {
                self.client.insert(key.replace('_', "-"), value.unwrap_or_default());
            }
            "rollforward" => self.rollforward.push((key.to_string(), value)),
            _ => {}
        }
    }

    /// The account of `[client]`, with the addresses in `given` (`--primary`) or else in
    /// `[client]`.
    ///
    /// # Errors
    /// [`Error::Configuration`] naming what is missing or malformed.
    pub fn primary(
        &self,
        given: Option<&str>,
        password_file: Option<&Path>,
    ) -> Result<(Vec<Address>, Account)> {
        let port = match self.client.get("port") {
            Some(text) => parse_port(text).ok_or_else(|| {
                Error::config(format!("malformed port '{text}' in [client]: 1 to 65535"))
            })?,
            None => 3306,
        };
        let host = self.client.get("host").map(String::as_str);
        let named = if given.is_some() { "--primary" } else { "host in [client]" };
        let parts = given.or(host).into_iter().flat_map(|l| l.split(','));
        let wrong = |part: &str| {
            Error::config(format!(
                "malformed {named} '{part}': HOST, HOST:PORT or [IPV6]:PORT, with a port from 1 to 65535"
            ))
        };
        let candidates = parts
            .map(|a| address(a.trim(), port).ok_or_else(|| wrong(a)))
            .collect::<Result<_>>()?;
        let password = match password_file {
            // Read once, because it may be a pipe.
            Some(path) => match self.password.get() {
                Some(password) => password.0.clone(),
                None => {
                    let text = password_in(path)?;
                    self.password.get_or_init(|| Secret(text)).0.clone()
                }
            },
            None => self.client.get("password").cloned().unwrap_or_default(),
        };
        let user = self.client.get("user").cloned().unwrap_or_default();
        let account =
            Account { user, password: Secret(password), tls: self.tls()?, compress: false };
        Ok((candidates, account))
    }

    /// A switch as MariaDB's clients read it: `ssl`, `ssl=0`, `skip-ssl`, `disable-ssl`.
    fn flag(&self, name: &str) -> Option<bool> {
        let off = |prefix: &str| self.client.contains_key(&format!("{prefix}-{name}"));
        if off("skip") || off("disable") {
            return Some(false);
        }
        let value = self.client.get(name)?.to_ascii_lowercase();
        Some(!matches!(value.as_str(), "0" | "off" | "false"))
    }

    fn tls(&self) -> Result<Tls> {
        let path = |key: &str| {
            let value = self.client.get(key).filter(|v| !v.is_empty());
            // The private server runs in a directory of its own.
            value.map(|v| std::path::absolute(v).unwrap_or_else(|_| PathBuf::from(v)))
        };
        let (ca, cert, key) = (path("ssl-ca"), path("ssl-cert"), path("ssl-key"));
        let (wanted, verified) = (self.flag("ssl"), self.flag("ssl-verify-server-cert"));
        let mode = match self.client.get("ssl-mode").map(|m| m.to_ascii_uppercase()) {
            None if wanted == Some(false) => TlsMode::Disabled,
            None if verified == Some(true) && ca.is_none() => {
                return Err(Error::config("ssl-verify-server-cert in [client] needs ssl-ca"));
            }
            None if ca.is_some() && verified != Some(false) => TlsMode::VerifyIdentity,
            None if ca.is_some() || cert.is_some() || wanted.is_some() => TlsMode::Required,
            None => TlsMode::Preferred,
            Some(mode) => match mode.as_str() {
                "DISABLED" => TlsMode::Disabled,
                "PREFERRED" => TlsMode::Preferred,
                "REQUIRED" => TlsMode::Required,
                "VERIFY_IDENTITY" if ca.is_some() => TlsMode::VerifyIdentity,
                "VERIFY_IDENTITY" => {
                    return Err(Error::config("ssl-mode=VERIFY_IDENTITY in [client] needs ssl-ca"));
                }
                "VERIFY_CA" => {
                    return Err(Error::config(
                        "ssl-mode=VERIFY_CA in [client] is refused: the TLS library also trusts \
                         the public roots, so it would protect nothing; use VERIFY_IDENTITY",
                    ));
                }
                _ => {
                    return Err(Error::config(format!(
                        "malformed ssl-mode '{mode}' in [client]: DISABLED, PREFERRED, \
                         REQUIRED or VERIFY_IDENTITY"
                    )));
                }
            },
        };
        if cert.is_some() != key.is_some() {
            return Err(Error::config("ssl-cert and ssl-key in [client] go together"));
        }
        if mode != TlsMode::Disabled {
            let files = [
                ("ssl-ca", &ca, "CERTIFICATE-----"),
                ("ssl-cert", &cert, "CERTIFICATE-----"),
                ("ssl-key", &key, "PRIVATE KEY-----"),
            ];
            for (name, path, what) in files {
                let Some(path) = path else { continue };
                let read = files::read(path, LARGEST);
                let text =
                    read.map_err(|e| cannot_read(path, &e)).and_then(|b| text_of(path, b))?;
                if !text.contains(what) || text.contains("ENCRYPTED") {
                    return Err(Error::config(format!(
                        "{name} in [client]: {} contains no {} in PEM format without a passphrase",
                        path.display(),
                        what.trim_end_matches('-').to_ascii_lowercase()
                    )));
                }
            }
        }
        let server_key = match path("server-public-key-path") {
            Some(path) if !load(&path)?.contains("PUBLIC KEY-----") => {
                return Err(Error::config(format!(
                    "server-public-key-path in [client]: {} contains no public key in PEM format",
                    path.display()
                )));
            }
            Some(path) => ServerKey::File(path),
            None if self.is_on("get-server-public-key") => ServerKey::Asked,
            None => ServerKey::Unknown,
        };
        Ok(Tls { mode, ca, cert, key, server_key })
    }

    /// A switch as the servers read it: on without a value.
    fn is_on(&self, key: &str) -> bool {
        let value = self.client.get(key).map(|v| v.to_ascii_lowercase());
        value.is_some_and(|v| !matches!(v.as_str(), "0" | "off" | "false"))
    }
}

/// True for the groups that mean us.
fn is_read(group: &str) -> bool {
    matches!(group, "client" | "rollforward")
}

/// The password that a file holds alone.
fn password_in(path: &Path) -> Result<String> {
    let text = load(path)?.trim_end_matches(['\n', '\r']).to_string();
    if text.contains('\0') {
        // The server would end it there, and say that the password is wrong.
        let path = path.display();
        return Err(Error::config(format!("the password in {path} contains a NUL byte")));
    }
    Ok(text)
}

fn load(path: &Path) -> Result<String> {
    // It names programs that run as us, and where everything is written.
    if std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o002 != 0) {
        let path = path.display();
        return Err(Error::config(format!("any user can write to {path}: chmod o-w {path}")));
    }
    files::read_user_file(path, LARGEST)
        .map_err(|e| cannot_read(path, &e))
        .and_then(|bytes| text_of(path, bytes))
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let wrong = |_| Error::config(format!("cannot read {}: not UTF-8 text", path.display()));
    String::from_utf8(bytes).map_err(wrong)
}

fn cannot_read(path: &Path, e: &io::Error) -> Error {
    let why = match e.kind() {
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
            "not a text file of at most 1 MiB".into()
        }
        _ => system_text(e),
    };
    Error::config(format!("cannot read {}: {why}", path.display()))
}

/// A `#` outside quotes starts a comment even after a value.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' => return line[..at].trim_end(),
            None => {}
        }
    }
    line
}

fn unquote(value: &str) -> String {
    let inner =
        ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('s') => text.push(' '),
            Some(other @ ('\\' | '"' | '\'')) => text.push(other),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

/// Parses `host`, `host:port`, `[::1]`, `[::1]:port` or `::1`.
fn address(text: &str, default_port: u16) -> Option<Address> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.len() > 255 || !host.chars().all(plain) {
        return None;
    }
    let is_v6 = || host.split('%').next().is_some_and(|a| a.parse::<Ipv6Addr>().is_ok());
    if (text.starts_with('[') || host.contains(':')) && !is_v6() {
        return None;
    }
    let port = port.map_or(Some(default_port), parse_port)?;
    // A server would take localhost for its Unix socket.
    let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
    Some(Address { host: host.to_string(), port })
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|p| *p > 0)
}

#[cfg(test)]
mod tests;
