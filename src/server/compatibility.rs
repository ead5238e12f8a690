//! Which server program may run on which data and follow which primary.
//!
//! Data of another flavor does not start, an older server cannot run newer data, and a newer server
//! changes older data for good. So all three must be of the same flavor and series, which is
//! checked before anything is written. A pass that may upgrade the data may then follow a primary
//! of an older series, like any replica.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::settings::value;
use crate::mysql::version::Version;
use crate::os::process::{self, Child, Exit};
use crate::server::initialize::Tool;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};

/// How long a program may take to print its version. If it does not, its start will tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// Settings of the data directory that a primary must have as well.
const FOR_LIFE: [&str; 2] = ["lower_case_table_names", "innodb_page_size"];

/// What a private server is checked against, as named in messages.
pub enum With<'a> {
    /// A backup; true if it may be upgraded.
    Backup(&'a str, bool),
    /// A backup that is to be proved, as it is.
    Proof(&'a str),
    /// What a stream brought.
    Stream(&'a str),
    /// A primary; true if there is data of the private server's series.
    Primary(&'a str, bool),
}

impl fmt::Display for With<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            With::Backup(name, _) | With::Proof(name) => write!(f, "backup {name}"),
            With::Stream(name) => write!(f, "{name}"),
            With::Primary(address, _) => write!(f, "primary {address}"),
        }
    }
}

/// Asks the server program for its version; `None` if it does not print one.
///
/// # Errors
/// A stop.
pub fn program_version(supervisor: &mut Supervisor, program: &Path) -> Result<Option<Version>> {
    let mut command = process::command(program);
    command.args(["--no-defaults", "--version"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A program that cannot be executed is reported when it is started for real.
    let Ok(child) = Child::spawn(&mut command) else { return Ok(None) };
    let mut tool = Tool(child);
    let wait = Wait { every: Duration::from_millis(10), patience: Some(PATIENCE) };
    let exit = supervisor
        .wait_for(&mut tool, wait, |tool, _| Ok(tool.0.try_wait().map_or(Look::Still, Look::Done)));
    let mut said = String::new();
    // A few words, which fit into the pipe. A child that outlives it would keep the pipe open.
    if exit? == Some(Exit::Status(0))
        && let Some(stdout) = tool.0.pipes().stdout.take()
    {
        let mut bytes = [0; 1024];
        let length = stdout.take(1024).read(&mut bytes).unwrap_or(0);
        said = String::from_utf8_lossy(&bytes[..length]).into_owned();
    }
    let version = Version::of_program(&said);
    if version.is_none() {
        log::debug!("{} does not print its version", program.display());
    }
    Ok(version)
}

/// Checks that the server `program`, of version `its`, may run with `what`, of version `theirs`.
///
/// # Errors
/// [`Error::Configuration`], naming both and the remedy.
pub fn check(program: &Path, its: &Version, what: &With, theirs: &Version) -> Result<()> {
    let (a, b) = (its, theirs);
    let program = program.display();
    if its.flavor() != theirs.flavor() {
        return Err(Error::config(format!(
            "{what} is {b}, but the private server {program} is {a}: set one of the same kind \
             with --mysqld"
        )));
    }
    let newer = its.is_newer_than(theirs);
    let allowed = match *what {
        With::Backup(_, allowed) | With::Primary(_, allowed) => allowed,
        With::Proof(_) | With::Stream(_) => false,
    };
    if its.series() == theirs.series() || (newer && allowed) {
        return Ok(());
    }
    let instead = match what {
        With::Backup(..) if newer => {
            ", or let this pass upgrade the data permanently with --allow-upgrade"
        }
        _ => "",
    };
    let why = if its.series() < theirs.series() { "an older" } else { "a newer" };
    let series = theirs.series().iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    let article = if matches!(theirs.series().first(), Some(8 | 11 | 18)) { "an" } else { "a" };
    Err(Error::config(format!(
        "{what} is {b}, but the private server {program} is {a}, of {why} series: use --mysqld \
         to select {article} {series} server{instead}"
    )))
}

/// Checks that the server `program`, of version `its`, matches the `flavor` of `data`.
///
/// # Errors
/// [`Error::Configuration`], as in [`check`].
pub fn check_kind(program: &Path, its: &Version, data: &str, flavor: Flavor) -> Result<()> {
    if its.flavor() == flavor {
        return Ok(());
    }
    Err(Error::config(format!(
        "{data} contains data of {}, but the private server {} is {}: set one of the same kind with \
         --mysqld",
        flavor.name(),
        program.display(),
        its
    )))
}

/// Checks that a backup and its primary agree on the settings that are fixed when
/// the data directory is created.
///
/// # Errors
/// [`Error::Configuration`], naming the first difference.
pub fn check_settings(
    backup: &str,
    its: &[(String, String)],
    primary: &str,
    theirs: &[(String, String)],
) -> Result<()> {
    for name in FOR_LIFE {
        if let (Some(a), Some(b)) = (value(its, name), value(theirs, name))
            && a != b
        {
            return Err(Error::config(format!(
                "backup {backup} has {name}={a}, and primary {primary} has {b}: it is fixed when the \
                 data directory is created; start a new chain with rollforward seed"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flavor_and_one_series() {
        let version = |text: &str| Version::parse(text).unwrap();
        let try_it = |program: &str, data: &str| {
            let what = With::Backup("b", false);
            let checked = check(Path::new("/m"), &version(program), &what, &version(data));
            checked.map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        assert_eq!(try_it("10.11.4-MariaDB", "10.11.19-MariaDB-log"), "");
        assert_eq!(try_it("8.4.1", "8.4.3"), "");
        for (program, data, says) in [
            ("8.4.3", "10.11.19-MariaDB", "one of the same kind"),
            ("10.11.19-MariaDB", "8.4.3", "backup b is MySQL 8.4.3, but the private server /m is"),
            (
                "10.11.19-MariaDB",
                "11.8.1-MariaDB",
                "of an older series: use --mysqld to select an 11.8 server",
            ),
            (
                "11.8.1-MariaDB",
                "10.11.19-MariaDB",
                "of a newer series: use --mysqld to select a 10.11 server",
            ),
            (
                "9.7.4",
                "8.0.40",
                "an 8.0 server, or let this pass upgrade the data permanently with",
            ),
        ] {
            let said = try_it(program, data);
            assert!(said.contains(says), "{program} {data}: {said}");
        }
    }

    #[test]
    fn only_what_is_newer_and_allowed_may_differ() {
        let version = |text: &str| Version::parse(text).unwrap();
        for (program, data, is_newer) in [
            ("9.7.4", "8.4.3", true),
            ("10.0.1", "9.7.4", true),
            ("8.4.3", "9.7.4", false),
            ("8.0.40", "8.4.1", false),
            ("11.8.6-MariaDB", "10.11.19-MariaDB", true),
            ("11.8.6-MariaDB", "10.11.19-MariaDB-log", true),
            ("10.11.19-MariaDB", "11.8.6-MariaDB", false),
            ("11.8.6-MariaDB", "8.4.3", false),
            ("9.7.4", "5.5.68-MariaDB", false),
        ] {
            let (its, theirs) = (version(program), version(data));
            assert_eq!(its.is_newer_than(&theirs), is_newer, "{program} {data}");
            assert!(!its.is_of_series(&theirs), "{program} {data}");
            let check = |what: With| check(Path::new("/m"), &its, &what, &theirs);
            for (allowed, refused) in [
                (With::Backup("b", true), With::Backup("b", false)),
                (With::Primary("p", true), With::Primary("p", false)),
            ] {
                assert_eq!(check(allowed).is_ok(), is_newer, "{program} {data}");
                let said = check(refused).unwrap_err().to_string();
                let offered = is_newer && said.contains("backup b");
                assert_eq!(said.contains("--allow-upgrade"), offered, "{said}");
            }
        }
        let (one, other) = (version("9.7.4"), version("9.7.1"));
        assert!(one.is_of_series(&other) && !one.is_newer_than(&other));
    }
}
