//! What to do next, appended to the last line of a command that failed.
//!
//! Many errors include advice that depends on their data. The others get theirs here, once per
//! command instead of once per attempt.

use crate::error::Error;
use crate::error::message::takes_none;

/// How the text of an error begins that dumping or loading has ended with.
const OF_A_DUMP: [&str; 4] = ["loading ", "reading a table: ", "mysqldump: ", "mariadb-dump: "];

/// How the text begins when the last of several dumps has failed as well.
pub const CHANGED: &str = "tables were changed during each of";

/// What MariaDB says of a table's options, among them `ENCRYPTED=YES` where it has no keys.
const WRONG_OPTIONS: &str = "Wrong create options";
/// Of MySQL's encrypted tables.
const NO_NEW_KEY: &str = "the private mysqld makes no new key, since it writes below the scratch directory \
    only: start from the primary's data directory, whose keys it then uses (rollforward seed --from \
    dir:PATH, with the primary's keyring)";

/// The error and what to do about it, on one line.
pub fn with(error: &Error) -> String {
    match next(error) {
        Some(next) => format!("{error}; {next}"),
        None => error.to_string(),
    }
}

fn next(error: &Error) -> Option<&'static str> {
    let next = match error {
        Error::MysqldDied { .. } | Error::MysqldStart { .. } => {
            "see mysqld.log in the scratch directory"
        }
        Error::MysqldHung { .. } => {
            "see mysqld.log in the scratch directory; if the disk is slow, raise --ping-timeout, \
             --start-timeout or --shutdown-timeout"
        }
        Error::PrimaryUnreachable { text, .. } if takes_none(text) => {
            "see to the limit or the mode that it names, then run again"
        }
        Error::PrimaryUnreachable { .. } => {
            "check that it is running and reachable from here, then run again"
        }
        Error::Stalled { .. } => {
            "check that the primary is still sending; if longer silences are normal, raise \
             --stall-timeout"
        }
        // MySQL's number for a source that refuses to send; purged and diverged were ruled out.
        Error::ReplicationError { errno: 13114, .. } => {
            "if another replica has the same server uuid, run again, since each run uses a new one; \
             otherwise start a new chain with rollforward seed --from dump"
        }
        Error::ReplicationError { errno: 1126..=1128, .. } => {
            "install the library of the primary's loadable functions in the plugin directory of \
             --mysqld (--mysqld-option=--plugin-dir=DIR); rollforward seed does not help"
        }
        Error::ReplicationError { errno: 1524, .. } => {
            "have --mysqld load the plugin, as with --mysqld-option=--plugin-load-add=NAME; \
             rollforward seed does not help"
        }
        Error::ReplicationError { errno: 3185 | 3825, .. } => NO_NEW_KEY,
        // A clone makes a key of its own.
        Error::ReplicationError { errno: 1815, text } if text.contains("Encrypt Key") => NO_NEW_KEY,
        Error::ReplicationError { errno: 1005, text } if text.contains(WRONG_OPTIONS) => {
            "if the table is encrypted, have --mysqld load the plugin with the primary's keys, as with \
             --mysqld-option=--plugin-load-add=file_key_management and \
             --mysqld-option=--file-key-management-filename=FILE; rollforward seed does not help"
        }
        Error::ReplicationError { text, .. } if text.starts_with(CHANGED) => {
            "run rollforward seed --from dump again while no table is created, altered or dropped"
        }
        Error::ReplicationError { text, .. } if OF_A_DUMP.iter().any(|by| text.starts_with(by)) => {
            "correct it on the primary and seed again, or copy the data directory (--from dir:PATH, or \
             clone on MySQL)"
        }
        Error::ReplicationError { errno: 1032, .. } => {
            "if it is a table of the MEMORY engine, which is empty in every backup, give it another \
             engine; if the data differs from the primary, start a new chain with rollforward seed \
             --from dump"
        }
        Error::ReplicationError { errno: 1146, .. } => {
            "if it is a temporary table of a session that was open when the first backup was made, or \
             if the data differs from the primary, start a new chain with rollforward seed --from dump"
        }
        Error::ReplicationError { .. } => {
            "if the data differs from the primary, start a new chain with rollforward seed --from \
             dump"
        }
        Error::BackupDamaged { .. } => {
            "rollforward verify lists all damage; restore another backup from rollforward list, or \
             start a new chain with rollforward seed --from dump"
        }
        Error::Unequal { .. } => {
            "prove older backups by name, and start a new chain with rollforward seed --from dump"
        }
        Error::Io { source, .. } => match source.raw_os_error()? {
            libc::EIO => "the disk may be failing: see the kernel log",
            libc::EROFS => {
                "remount it writable: the kernel may have made it read-only after an error"
            }
            libc::EACCES | libc::EPERM => "make it accessible to the user that runs rollforward",
            libc::ELOOP => "remove the symbolic link in its place",
            libc::EMFILE | libc::ENFILE => "raise the limit of open files",
            _ => return None,
        },
        Error::Hook { .. } => "correct the program, then run again",
        Error::Locked { .. } => "wait for it to finish, then run again",
        Error::Interrupted { .. } => "run again to resume",
        Error::OnSuspectData(error) | Error::ChainEnds { error, .. } => return next(error),
        // These messages already name the command or option that helps.
        Error::OutOfMemory { .. }
        | Error::DiskFull { .. }
        | Error::AccessDenied { .. }
        | Error::Purged { .. }
        | Error::Diverged { .. }
        | Error::NoBackup { .. }
        | Error::OutOfReach { .. }
        | Error::Configuration { .. } => return None,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_is_full_is_not_called_down() {
        let line = |text: &str| {
            with(&Error::PrimaryUnreachable { primary: "db1:3306".into(), text: text.into() })
        };
        let full = line("error 1040: Too many connections");
        assert!(full.starts_with("primary db1:3306 takes no session now: error 1040"), "{full}");
        assert!(full.contains("; see to the limit"), "{full}");
        assert!(line("error 2003: refused").contains("does not answer: error 2003"));
        assert!(line("error 10400: x").contains("does not answer"));
    }

    #[test]
    fn a_failed_dump_does_not_advise_the_same_dump() {
        let advice = |errno, text: &str| {
            with(&Error::ReplicationError { errno, text: text.into() })
                .split_once("; ")
                .unwrap()
                .1
                .to_string()
        };
        for text in ["mysqldump: Error 1690", "loading the dump: ERROR 1005", "loading a.b: x"] {
            assert!(advice(1005, text).contains("--from dir:PATH"), "{text}");
        }
        assert!(advice(1146, "mariadb-dump: x").contains("--from dir:PATH"));
        let changed = format!("{CHANGED} 3 dumps, the last time with: mysqldump: x");
        assert!(advice(1412, &changed).contains("rollforward seed --from dump again"));
        assert!(advice(1524, "loading a.b: x").contains("--plugin-load-add"));
        let wrong =
            "loading the dump: Can't create table `a`.`b` (errno: 140 \"Wrong create options\")";
        assert!(advice(1005, wrong).contains("file_key_management"));
        for (errno, text) in
            [(3185, "loading a.b: x"), (3825, "x"), (1815, "Failed to Encrypt Key")]
        {
            assert!(advice(errno, text).contains("with the primary's keyring"), "{text}");
        }
        assert!(advice(1146, "Table 'a.b' doesn't exist").contains("--from dump"));
    }
}
