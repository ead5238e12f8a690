//! Keys, keyrings and other MySQL components that the data needs and the private server lacks.
//!
//! MariaDB calls a table damaged that it has no plugin with the key for, once it reads it.
//!
//! Measured with MySQL 9.7: without the keyring, a server with an encrypted dictionary, redo or
//! undo log exits with status 1; one with encrypted tables starts, logs an error for each, and
//! cannot open them. A component in the manifest `mysqld.my` that cannot be loaded makes it exit
//! with status 1; one in the table `mysql.component` is only an error in the log.

use std::collections::BTreeSet;
use std::path::Path;

use super::Mysqld;
use crate::error::{Error, Result};

/// How many are named in a message.
const NAMED: usize = 3;

/// Whether MariaDB has a plugin with keys.
const KEY_PLUGINS: &str = "SELECT COUNT(*) FROM information_schema.plugins \
                           WHERE plugin_type = 'ENCRYPTION' AND plugin_status = 'ACTIVE'";

impl Mysqld {
    /// What it wrote to its log of late.
    pub fn log_text(&self) -> String {
        self.log.text()
    }

    /// Checks that it can read all its data, and warns of a component that it lacks.
    ///
    /// # Errors
    /// [`Error::Configuration`] if it lacks a key for some of its data.
    pub fn check_components(&self) -> Result<()> {
        let log = self.log.text();
        if let Some(what) = missing_key(&log) {
            return Err(Error::config(what));
        }
        let components = not_loaded(&log);
        if !components.is_empty() {
            log::warn!(
                "the private mysqld cannot load {}, which mysql.component names: replication fails \
                 where it is needed; install it where --mysqld has its plugins",
                list(&components)
            );
        }
        Ok(())
    }

    /// The error for tables of MariaDB's that it cannot read, since no plugin of its has keys.
    pub fn lacks_keys(&mut self) -> Option<Error> {
        let files = encrypted(&self.log.text());
        if files.is_empty() {
            return None;
        }
        let active = self.control().ok()?.query(KEY_PLUGINS).ok()?;
        (active.first() == "0").then(|| {
            Error::config(format!(
                "{} cannot be decrypted, because the private mysqld has no plugin with the keys: have it \
                 load that of the server that the data comes from, as with \
                 --mysqld-option=--plugin-load-add=file_key_management and \
                 --mysqld-option=--file-key-management-filename=FILE",
                list(&files)
            ))
        })
    }

    /// Why it did not start, if a keyring or component was the reason.
    pub(super) fn missing_component(&self) -> Option<String> {
        let log = self.log.text();
        missing_key(&log).or_else(|| refused_manifest(&log, &self.program, &self.data))
    }
}

/// What cannot be decrypted, and the remedy.
fn missing_key(log: &str) -> Option<String> {
    let mut files = BTreeSet::new();
    for line in log.lines().filter(|l| l.contains("[ERROR]")) {
        if line.contains("Redo log was encrypted, but keyring is not loaded") {
            files.insert("the redo log".to_string());
        }
        if let Some((_, rest)) = line.split_once("Encryption information in datafile: ")
            && let Some((file, _)) = rest.split_once(" can't be decrypted")
        {
            files.insert(file.to_string());
        }
    }
    let files = list(&files.into_iter().collect::<Vec<_>>());
    (!files.is_empty()).then(|| {
        format!(
            "{files} cannot be decrypted, because the private mysqld has no keyring with the key: \
             install the keyring component of the server that the data comes from, list it in \
             mysqld.my next to the --mysqld program, and set it up in its plugin directory"
        )
    })
}

/// The files with pages that MariaDB took for encrypted, and could not decrypt.
fn encrypted(log: &str) -> Vec<String> {
    let pages = log.lines().filter_map(|line| line.split_once("InnoDB: Encrypted page ["));
    let files = pages.filter_map(|(_, rest)| rest.split_once(" in file ")?.1.split_once(" looks "));
    let files: BTreeSet<String> = files.map(|(file, _)| file.to_string()).collect();
    files.into_iter().collect()
}

/// The components in the manifest, since the server does not name the one that failed.
fn refused_manifest(log: &str, program: &Path, data: &Path) -> Option<String> {
    let refused = "processing components from manifest file";
    log.lines().find(|l| l.contains("[ERROR]") && l.contains(refused))?;
    // The manifest in the data directory counts only if the other one says so.
    let beside = program.with_file_name("mysqld.my");
    let (manifest, components) = [data.join("mysqld.my"), beside].into_iter().find_map(|path| {
        let text = std::fs::read_to_string(&path).ok()?;
        let names = urns(&text);
        (!names.is_empty()).then_some((path, names))
    })?;
    Some(format!(
        "it cannot load {}, listed in {}: install it in the plugin directory of --mysqld",
        list(&components),
        manifest.display()
    ))
}

/// Components of `mysql.component` that could not be loaded.
fn not_loaded(log: &str) -> Vec<String> {
    let failed = "Cannot load component from specified URN: ";
    let lines = log.lines().filter(|l| l.contains("[ERROR]"));
    let all: BTreeSet<String> =
        lines.filter_map(|l| Some(urns(l.split_once(failed)?.1))).flatten().collect();
    all.into_iter().collect()
}

/// Extracts `component_keyring_file` from `file://component_keyring_file`.
fn urns(text: &str) -> Vec<String> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    text.split("file://").skip(1).filter_map(|t| t.split(end).next()).map(String::from).collect()
}

/// The first few, and how many more there are.
fn list(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-23T01:20:48.4Z 1 [ERROR] [MY-012657] [InnoDB] Encryption can't find master key, please check \
the keyring is loaded.
2026-11-23T01:20:48.4Z 1 [ERROR] [MY-012226] [InnoDB] Encryption information in datafile: ./e/t.ibd \
can't be decrypted, please confirm that keyring is loaded.
";

    #[test]
    fn encrypted_tables_are_told_from_the_log() {
        let line = |file: &str| {
            format!(
                "2026-12-01  0:52:43 4 [ERROR] InnoDB: Encrypted page [page id: space=10, page number=3] in \
                 file {file} looks corrupted; key_version=1\n"
            )
        };
        let log = [line("./shop/b.ibd"), line("./shop/a.ibd"), line("./shop/b.ibd")].concat();
        assert_eq!(encrypted(&log), ["./shop/a.ibd", "./shop/b.ibd"]);
        assert!(encrypted("x 4 [ERROR] InnoDB: File './shop/e2.ibd' is corrupted").is_empty());
    }

    #[test]
    fn what_cannot_be_decrypted_is_named_once() {
        let text = missing_key(&format!("{LOG}{LOG}")).unwrap();
        assert!(text.starts_with("./e/t.ibd cannot be decrypted, "), "{text}");
        let redo =
            "x 1 [ERROR] [MY-013063] [InnoDB] Redo log was encrypted, but keyring is not loaded.";
        assert!(missing_key(redo).unwrap().starts_with("the redo log cannot be decrypted"));
        let many: String = (0..5).map(|n| LOG.replace("e/t", &format!("e/t{n}"))).collect();
        let text = missing_key(&many).unwrap();
        assert!(text.starts_with("./e/t0.ibd, ./e/t1.ibd, ./e/t2.ibd and 2 more cannot"), "{text}");
        assert_eq!(
            missing_key("x 1 [Note] Encryption information in datafile: x can't be decrypted"),
            None
        );
    }

    #[test]
    fn a_component_is_named_by_its_urn() {
        let line = "x 0 [ERROR] [MY-013129] [Server] A message intended for a client: MY-003529 - Cannot \
                    load component from specified URN: 'file://component_validate_password'.\n";
        assert_eq!(not_loaded(&line.repeat(2)), ["component_validate_password"]);
        assert!(
            not_loaded("mysqld: Cannot load component from specified URN: 'file://x'.").is_empty()
        );
        let manifest =
            r#"{ "components": "file://component_keyring_file,file://component_other" }"#;
        assert_eq!(urns(manifest), ["component_keyring_file", "component_other"]);
    }
}
