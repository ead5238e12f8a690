//! Options of the private mysqld that only we may set. Pure.

use crate::error::{Error, Result};

/// What the pass depends on. A name that ends in `-` covers everything that begins with it.
const OURS: &[&str] = &[
    "defaults-file",
    "defaults-extra-file",
    "defaults-group-suffix",
    "no-defaults",
    "print-defaults",
    "datadir",
    "aria-log-dir-path",
    "innodb-data-home-dir",
    "innodb-fast-shutdown",
    "innodb-log-group-home-dir",
    "innodb-undo-directory",
    "socket",
    "user",
    "pid-file",
    "log-bin",
    "log-bin-",
    "binlog-",
    "bin-log",
    "log-basename",
    "sync-binlog",
    "log-slave-updates",
    "log-replica-updates",
    "relay-log",
    "relay-log-",
    "gtid-",
    "enforce-gtid-consistency",
    "server-id",
    "server-uuid",
    "networking",
    "port",
    "extra-port",
    "admin-",
    "create-admin-listener-thread",
    "bind-address",
    "mysqlx",
    "mysqlx-",
    "grant-tables",
    "event-scheduler",
    "replicate-",
    "replica-skip-errors",
    "slave-skip-errors",
    // IDEMPOTENT passes over rows that are not there, as those do.
    "replica-exec-mode",
    "slave-exec-mode",
    "init-file",
    "init-slave",
    "init-replica",
    "general-log",
    "general-log-",
    // They would log the statement with the password.
    "slow-query-log",
    "slow-query-log-",
    "log-slow-",
    "log",
    "log-output",
    "slave-start",
    "replica-start",
    "master-info-file",
    "bootstrap",
    "initialize",
    "initialize-insecure",
    "help",
    "version",
    "persisted-globals-load",
    "daemonize",
    "chroot",
    "log-error",
    "symbolic-links",
    "basedir-",
    "skip-external-locking",
    "external-locking",
    "innodb-force-recovery",
    "innodb-read-only",
    "master-",
    "wsrep-",
    "log-isam",
];

/// Refuses options that the pass depends on, under any name a server accepts for them.
///
/// # Errors
/// [`Error::Configuration`], naming the option.
pub fn check(options: &[String]) -> Result<()> {
    for option in options {
        let Some(body) = option.strip_prefix("--") else {
            return Err(Error::config(format!(
                "--mysqld-option '{option}' does not begin with '--'"
            )));
        };
        let name =
            body.split('=').next().unwrap_or_default().to_ascii_lowercase().replace('_', "-");
        let mut bare = name.as_str();
        // Servers accept these prefixes on any option.
        while let Some(rest) = ["loose-", "skip-", "disable-", "enable-", "maximum-", "autoset-"]
            .iter()
            .find_map(|p| bare.strip_prefix(p))
        {
            bare = rest;
        }
        let is_ours = |ours: &str| {
            // Servers accept an unambiguous prefix of a name.
            ours == bare
                || (ours.ends_with('-') && bare.starts_with(ours))
                || ours.starts_with(bare)
        };
        if bare.is_empty() || OURS.iter().any(|o| is_ours(o)) {
            return Err(Error::config(format!(
                "--mysqld-option '{option}' is refused: the pass depends on it"
            )));
        }
    }
    Ok(())
}

/// True if the user's options set `name`, with dashes.
pub fn is_given(options: &[String], name: &str) -> bool {
    options.iter().any(|option| {
        let option = option.to_ascii_lowercase().replace('_', "-");
        let option = option.trim_start_matches("--").trim_start_matches("loose-");
        option.split('=').next() == Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pass_depends_on_is_refused_under_every_name() {
        for bad in [
            "--datadir=/x",
            "--skip-log-bin",
            "--log_bin=x",
            "--LOG-BIN",
            "--loose-server-id=3",
            "--gtid_strict_mode=1",
            "--skip-networking=0",
            "--skip-grant-tables",
            "--init-file=/x",
            "--general_log=1",
            "--replicate-do-db=a",
            "--datad=/x",
            "--event-scheduler=ON",
            "--socket=/x",
            "--innodb-undo-directory=/x",
            "--innodb_fast_shutdown=2",
            "--user=me",
            "datadir=/x",
            "-u",
            "--",
            "--=x",
            "--binlog-format=ROW",
            "--skip-ne=0",
            "--skip_gr",
            "--ev=ON",
            "--p=1",
            "--extra-port=3306",
            "--admin-address=::",
            "--slave_exec_mode=IDEMPOTENT",
        ] {
            assert!(check(&[bad.into()]).is_err(), "{bad}");
        }
        for good in [
            "--innodb-buffer-pool-size=1G",
            "--slave-parallel-threads=4",
            "--plugin-dir=/x",
            "--max-connections=20",
            "--innodb_io_capacity=200",
            "--table-open-cache=10",
        ] {
            assert!(check(&[good.into()]).is_ok(), "{good}");
        }
    }
}
