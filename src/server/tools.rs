//! The client programs of the server's package: where they are, how they are started, and what they
//! print on errors.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, IoExt, Result};
use crate::os::files;
use crate::os::process::{self, Child};
use crate::server::error_log::{self};
use crate::server::setup::Setup;
use crate::text::harmless;

/// How much of a child's output is read.
const SAID: u64 = 1 << 20;
/// How much of its end is read: an error is one line.
const END: u64 = 16 << 10;
/// How much of a line is quoted, characters.
const LONGEST: usize = 300;

/// A client or script of the server's package: beside the server program, else from PATH.
pub fn tool(program: &Path, name: &str) -> Result<PathBuf> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let mut places = vec![beside.to_path_buf(), beside.join("../bin"), beside.join("../scripts")];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places.push("/usr/bin".into());
    let found = places.iter().map(|p| p.join(name)).find(|p| p.is_file());
    let what = match name {
        "mbstream" | "mariadb-backup" => {
            "a stream of mariadb-backup needs it: install the package mariadb-backup"
        }
        "xbstream" | "xtrabackup" => {
            "a stream that --mysqld of MySQL is to run on needs it: install Percona XtraBackup"
        }
        "tar" => "an archive needs it: install the package tar",
        _ if name.ends_with("-upgrade") => "an upgrade needs it",
        _ => "a dump needs it",
    };
    found.ok_or_else(|| Error::config(format!("{name} is not installed; {what}")))
}

/// The client `name` of the server's package, to run in the scratch directory.
///
/// # Errors
/// [`Error::Configuration`] when it is not installed; when it cannot be confined.
pub fn client(setup: &Setup, name: &str) -> Result<Command> {
    let mut command = process::command(tool(&setup.program, name)?);
    // A login file would beat every option of MySQL's clients. This one cannot exist.
    command.env("MYSQL_TEST_LOGIN_FILE", "/dev/null/none").current_dir(&setup.scratch);
    setup.run_as(&mut command)?;
    Ok(command)
}

/// Starts a client.
pub fn spawn(command: &mut Command) -> Result<Child> {
    Child::spawn(command).doing("execute", &PathBuf::from(command.get_program()))
}

/// An empty file for a child's output.
pub fn output(path: &Path) -> Result<File> {
    let _ = fs::remove_file(path);
    File::options().append(true).create_new(true).open(path).doing("open", path)
}

/// What a child complained of: its error, else its first lines. The lines that `--verbose` adds
/// start with two dashes, and go on where a name has a line break. MariaDB's client prints the statement between lines of dashes before the
/// error; it may be long and contain passwords.
pub fn complaint(path: &Path) -> String {
    if let Some(error) = read_end(path).lines().rfind(|l| l.starts_with("ERROR ")) {
        return error.trim().to_string();
    }
    let (mut in_statement, mut in_report) = (false, false);
    let said = read_start(path);
    let lines = said.lines().map(str::trim).filter(|line| {
        let border = line.len() > 3 && line.bytes().all(|b| b == b'-');
        in_statement ^= border;
        let complains = ["mariadb-dump: ", "mysqldump: ", "Warning: "];
        let report = line.starts_with("-- ")
            || in_report && !complains.iter().any(|begin| line.starts_with(begin));
        in_report = report && !line.ends_with("...") && !line.ends_with(" used");
        !border && !in_statement && !line.is_empty() && !report
    });
    lines.take(3).collect::<Vec<_>>().join(" | ")
}

/// The last error lines of a child's output.
pub fn last_errors(path: &Path) -> String {
    error_log::quote(&read_start(path))
}

/// Why a child that reports on its work has failed, as far as it says: the first and last error lines
/// of a server's kind, else the first line with an error, else the last one.
pub fn last_words(path: &Path) -> String {
    let said = read_end(path);
    // What tar says in any case.
    let idle = ["Removing leading", "Error is not recoverable", "Exiting with failure", "block "];
    let quoted = error_log::quote(&said);
    if !quoted.is_empty() {
        return quoted;
    }
    let lines = said.lines().map(without_time).filter(|line| !line.is_empty());
    let mut lines = lines.filter(|line| !idle.iter().any(|text| line.contains(text)));
    let first = lines.clone().find(|line| line.contains("rror"));
    let told = first.or(lines.next_back()).unwrap_or_default();
    harmless(&told.chars().take(LONGEST).collect::<String>())
}

/// A line without what mariadb-backup and xtrabackup begin it with: `[00] 2026-11-29 22:29:02`.
fn without_time(line: &str) -> &str {
    let said = line.strip_prefix('[').and_then(|l| l.split_once("] "));
    match said.and_then(|(_, rest)| rest.get(20..)) {
        Some(rest) => rest.trim(),
        None => line.trim(),
    }
}

/// True if its error lines report a lack of space.
pub fn ran_out_of_space(path: &Path) -> bool {
    matches!(error_log::shortage(&read_end(path)), Some((error_log::Shortage::Space, _)))
}

/// The end of a child's output.
fn read_end(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = files::open_no_link(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(END)));
        let _ = file.take(END).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The beginning of a child's output.
fn read_start(path: &Path) -> String {
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
    fn of_what_a_program_says_the_error_is_quoted() {
        let path = std::env::temp_dir().join(format!("rf-unit-words-{}", std::process::id()));
        let tar = "tar: Removing leading `../' from member names\ntar: ../x: Member name contains '..'\n\
                   tar: Exiting with failure status due to previous errors\n";
        let prepare = "mariadb-backup based on MariaDB server 10.11.14\n\
                       [00] 2026-11-29 22:29:29 cd to /s/data/\n\
                       [00] 2026-11-29 22:29:29 Error: cannot open ./xtrabackup_checkpoints\n\n\
                       [00] 2026-11-29 22:29:29 Error: failed to read metadata\n";
        let log = "2026-11-29 22:29:29 0 [ERROR] InnoDB: File ./ib_logfile0 is too small\n\
                   [00] 2026-11-29 22:29:29 mariadb-backup: srv_start() returned 11 (Generic error).\n";
        for (said, quoted) in [
            (tar, "tar: ../x: Member name contains '..'"),
            (prepare, "Error: cannot open ./xtrabackup_checkpoints"),
            (log, "InnoDB: File ./ib_logfile0 is too small"),
            ("", ""),
        ] {
            fs::write(&path, said).unwrap();
            assert_eq!(last_words(&path), quoted);
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_failed_statement_is_not_quoted_and_hides_no_error() {
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
        let report = "-- Retrieving table structure for table a\nb c\nd...\n";
        assert_eq!(said(&format!("{report}-- Retrieving rows...\n")), "");
        assert_eq!(said(&format!("{report}b\n")), "b");
        assert_eq!(
            said("-- Retrieving table structure for table a\nmysqldump: no\n"),
            "mysqldump: no"
        );
    }
}
