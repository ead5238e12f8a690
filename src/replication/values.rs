//! What a server may say of itself. Pure.
//!
//! These values go into option files, arguments, statements and scripts of the servers' own tools.
//! Whoever answers in the place of a primary can say anything: what has another form than any server
//! gives it is refused when it is read, before something is written. The forms of settings are in
//! `mysql/settings.rs`.

use std::time::Duration;

use crate::error::{Error, Result};

/// The longest version line; the greeting has no more room in some clients.
const LONGEST_VERSION: usize = 128;

/// Checks the value of `name`, the version or a number, as `server` gives it.
///
/// # Errors
/// [`Error::Configuration`], with server, name and value.
pub fn check(server: &str, name: &str, value: &str) -> Result<()> {
    if fits(name, value) {
        return Ok(());
    }
    let shown: String = value.chars().take(60).collect();
    Err(Error::config(format!("{server} gives a {name} that no server has: '{shown}'")))
}

/// The number that `server` gives for `name`.
///
/// # Errors
/// As [`check`].
pub fn number(server: &str, name: &str, value: &str) -> Result<u32> {
    check(server, name, value)?;
    value.parse().map_err(|_| Error::config(format!("{server} gives {name}={value}: too large")))
}

fn fits(name: &str, value: &str) -> bool {
    match name {
        "version" => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+~:() -".contains(&b);
            value.len() <= LONGEST_VERSION && value.bytes().all(allowed)
        }
        _ => (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// How long binary logs are kept according to the variables. The newer one, in seconds, wins where
/// it is set; 0 means forever.
pub fn binlog_retention(variables: &[Vec<&str>]) -> Option<Duration> {
    let value = |name: &str| {
        let row = variables.iter().find(|r| r.first() == Some(&name))?;
        row.get(1)?.parse::<f64>().ok().filter(|v| *v > 0.0)
    };
    let days = || value("expire_logs_days").map(|days| days * 86_400.0);
    let seconds = value("binlog_expire_logs_seconds").or_else(days)?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_says_is_refused_by_name() {
        for (name, good, bad) in [
            ("version", "10.11.19-MariaDB-0+deb12u1-log", "10.11.1-MariaDB\n\\! id"),
            ("version", "8.4.3", "8.4.3; DROP"),
            ("server_id", "4711", ""),
            ("server_id", "4711", "1 OR 1"),
        ] {
            check("db:3306", name, good).unwrap();
            let refused = check("db:3306", name, bad).unwrap_err().to_string();
            assert!(refused.contains("db:3306") && refused.contains(name), "{refused}");
        }
        assert!(check("db:3306", "version", &"1".repeat(200)).is_err());
        assert!(number("db:3306", "server_id", "99999999999").is_err());
    }
}
