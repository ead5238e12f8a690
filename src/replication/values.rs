//! What a server may say of itself. Pure.
//!
//! These values go into option files, arguments, statements and scripts of the servers' own tools.
//! Whoever answers in the place of a primary can say anything: what has another form than any server
//! gives it is refused when it is read, before something is written.

use std::time::Duration;

use crate::error::{Error, Result};

/// Longer than any version line, list of modes or name of a collation.
const LONGEST: usize = 1024;
/// The longest version line; the greeting has no more room in some clients.
const LONGEST_VERSION: usize = 128;

/// Checks the value of the setting `name`, as `server` gives it.
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
    let all = |allowed: fn(u8) -> bool| value.len() <= LONGEST && value.bytes().all(allowed);
    match name {
        "version" => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+~:() -".contains(&b);
            value.len() <= LONGEST_VERSION && value.bytes().all(allowed)
        }
        "lower_case_table_names" => matches!(value, "0" | "1" | "2"),
        "innodb_page_size" | "max_allowed_packet" | "server_id" => {
            (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit())
        }
        "explicit_defaults_for_timestamp" => matches!(value, "0" | "1" | "ON" | "OFF"),
        "sql_mode" => all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_,".contains(&b)),
        // Names of character sets and collations.
        _ => {
            !value.is_empty() && all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }
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
            ("lower_case_table_names", "1", "3"),
            ("innodb_page_size", "16384", "16384 --user=root"),
            ("max_allowed_packet", "16777216", ""),
            ("explicit_defaults_for_timestamp", "ON", "on"),
            ("character_set_server", "utf8mb4", "utf8mb4\nplugin-load=x"),
            ("collation_server", "utf8mb4_uca1400_ai_ci", "utf8mb4'"),
            ("sql_mode", "STRICT_TRANS_TABLES,NO_ZERO_DATE", "ANSI'; --"),
            ("sql_mode", "", "A B"),
        ] {
            check("db:3306", name, good).unwrap();
            let refused = check("db:3306", name, bad).unwrap_err().to_string();
            assert!(refused.contains("db:3306") && refused.contains(name), "{refused}");
        }
        assert!(check("db:3306", "version", &"1".repeat(200)).is_err());
        assert!(number("db:3306", "server_id", "99999999999").is_err());
    }
}
