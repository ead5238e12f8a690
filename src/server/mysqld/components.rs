//! Keyrings and other components of MySQL's that the data needs and the private server lacks.
//!
//! Measured on MySQL 9.7: without the keyring, a server whose dictionary, redo or undo log is
//! encrypted ends with status 1; one with encrypted tables starts, logs an error for each and
//! cannot open them. A component that the manifest `mysqld.my` names and that cannot be loaded
//! ends it with status 1, one of the table `mysql.component` is an error in the log only.

use std::collections::BTreeSet;
use std::path::Path;

use super::Mysqld;
use crate::error::{Error, Result};

/// So many are named.
const NAMED: usize = 3;

impl Mysqld {
    /// Is it up with all that it needs to read its data? Warns of a component that it lacks.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot read some of it for want of a key.
    pub fn check_components(&self) -> Result<()> {
        let log = self.log.text();
        if let Some(what) = without_key(&log) {
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

    /// Why it did not start, if it was a keyring or a component.
    pub(super) fn lacks_component(&self) -> Option<String> {
        let log = self.log.text();
        without_key(&log).or_else(|| refused_manifest(&log, &self.program, &self.data))
    }
}

/// What is encrypted and cannot be read, and what to do.
fn without_key(log: &str) -> Option<String> {
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
            "{files} cannot be decrypted, the private mysqld has no keyring with the key: give it \
             the keyring component of the server that the data is from, named in mysqld.my beside \
             the program that --mysqld names and set up in its plugin directory"
        )
    })
}

/// What the manifest names, since the server does not say which of it could not be loaded.
fn refused_manifest(log: &str, program: &Path, data: &Path) -> Option<String> {
    let refused = "processing components from manifest file";
    log.lines().find(|l| l.contains("[ERROR]") && l.contains(refused))?;
    // The one of the data counts only where the other one says so.
    let beside = program.with_file_name("mysqld.my");
    let (manifest, components) = [data.join("mysqld.my"), beside].into_iter().find_map(|path| {
        let text = std::fs::read_to_string(&path).ok()?;
        let names = urns(&text);
        (!names.is_empty()).then_some((path, names))
    })?;
    Some(format!(
        "it cannot load {}, which {} names: install it where --mysqld has its plugins",
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

/// `component_keyring_file` of `file://component_keyring_file`.
fn urns(text: &str) -> Vec<String> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    text.split("file://").skip(1).filter_map(|t| t.split(end).next()).map(String::from).collect()
}

/// The first few of them, and how many more.
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
    fn what_cannot_be_decrypted_is_named_once() {
        let text = without_key(&format!("{LOG}{LOG}")).unwrap();
        assert!(text.starts_with("./e/t.ibd cannot be decrypted, "), "{text}");
        let redo =
            "x 1 [ERROR] [MY-013063] [InnoDB] Redo log was encrypted, but keyring is not loaded.";
        assert!(without_key(redo).unwrap().starts_with("the redo log cannot be decrypted"));
        let many: String = (0..5).map(|n| LOG.replace("e/t", &format!("e/t{n}"))).collect();
        let text = without_key(&many).unwrap();
        assert!(text.starts_with("./e/t0.ibd, ./e/t1.ibd, ./e/t2.ibd and 2 more cannot"), "{text}");
        assert_eq!(
            without_key("x 1 [Note] Encryption information in datafile: x can't be decrypted"),
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
