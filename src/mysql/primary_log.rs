//! A binary log of a primary as it is kept on record, to tell a primary that was reset: one whose logs
//! begin anew, and whose GTIDs may have got further since than they were. Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::os::clock::Timestamp;

/// The longest name of a log; that of a file on Linux.
const LONGEST: usize = 255;
/// The digits of a server's mark.
const MARK: usize = 16;

/// A binary log that a replica at some position began to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryLog {
    /// The [`mark`] of its server.
    pub server: String,
    /// Its name: a base name, and a number that counts up from 1 after a reset.
    pub file: String,
    /// When the server made it, by its own clock.
    pub made: Timestamp,
}

/// The mark of a server of this `name`: who reads it learns no name.
pub fn mark(name: &str) -> String {
    let hash = Sha256::digest(name);
    let mut digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(MARK);
    digits
}

impl PrimaryLog {
    /// A log of that name, if a server makes such names and they are words.
    pub fn new(server: &str, file: &str, made: Timestamp) -> Option<PrimaryLog> {
        let is_mark = |word: &str| {
            word.len() == MARK && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_word = file.len() <= LONGEST && file.bytes().all(|b| b.is_ascii_graphic());
        let log = PrimaryLog { server: server.into(), file: file.into(), made };
        (is_mark(server) && is_word && log.number().is_some()).then_some(log)
    }

    /// Parses what is displayed.
    pub fn parse(text: &str) -> Option<PrimaryLog> {
        let words: Vec<&str> = text.split(' ').collect();
        let [server, file, made] = words[..] else { return None };
        PrimaryLog::new(server, file, Timestamp::parse(made)?)
    }

    /// True if this server's logs begin anew after `earlier`: a replica got that far once, and is at an
    /// older log now, or at another one of the same name.
    pub fn begins_anew(&self, earlier: &PrimaryLog) -> bool {
        let (Some((base, now)), Some((other, then))) = (self.number(), earlier.number()) else {
            return false;
        };
        self.server == earlier.server
            && base == other
            && (now < then || (now == then && self.made != earlier.made))
    }

    /// The log that this server made after this one, if `later` is one of those.
    pub fn next_before(&self, later: &PrimaryLog) -> Option<String> {
        let ((base, now), (other, then)) = (self.number()?, later.number()?);
        let is_later = self.server == later.server && base == other && then > now;
        is_later.then(|| format!("{base}.{:06}", now + 1))
    }

    /// Its base name and number.
    fn number(&self) -> Option<(&str, u64)> {
        let (base, digits) = self.file.rsplit_once('.')?;
        let fits = !base.is_empty() && digits.len() >= 6;
        let is_number = fits && digits.bytes().all(|b| b.is_ascii_digit());
        Some((base, digits.parse().ok().filter(|_| is_number)?))
    }
}

impl fmt::Display for PrimaryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.server, self.file, self.made.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, file: &str, made: i64) -> PrimaryLog {
        PrimaryLog::new(&mark(name), file, Timestamp(made)).unwrap()
    }

    #[test]
    fn a_later_log_of_the_server_has_one_before_it() {
        let earlier = log("a", "binlog.000009", 1_796_000_000);
        for (later, next) in [
            (log("a", "binlog.000010", 1_796_000_900), Some("binlog.000010")),
            (log("a", "binlog.1000000", 1_796_000_900), Some("binlog.000010")),
            (log("a", "binlog.000009", 1_796_000_000), None),
            (log("a", "binlog.000008", 1_796_000_900), None),
            (log("a", "mysql-bin.000010", 1_796_000_900), None),
            (log("b", "binlog.000010", 1_796_000_900), None),
        ] {
            assert_eq!(earlier.next_before(&later).as_deref(), next, "{later}");
        }
    }

    #[test]
    fn an_older_log_or_another_of_its_name_begins_anew() {
        let earlier = log("a", "binlog.000007", 1_796_000_000);
        for (now, anew) in [
            (log("a", "binlog.000007", 1_796_000_000), false),
            (log("a", "binlog.000008", 1_796_000_000), false),
            (log("a", "binlog.1000000", 1_796_000_900), false),
            (log("a", "binlog.000007", 1_796_000_900), true),
            (log("a", "binlog.000001", 1_796_000_900), true),
            (log("a", "mysql-bin.000001", 1_796_000_900), false),
            (log("b", "binlog.000001", 1_796_000_900), false),
        ] {
            assert_eq!(now.begins_anew(&earlier), anew, "{now}");
        }
    }

    #[test]
    fn only_what_was_written_is_parsed() {
        let text = log("a", "binlog.000007", 1_796_000_000).to_string();
        assert_eq!(text, "ca978112ca1bbdca binlog.000007 2026-11-30T00:53:20Z");
        assert_eq!(PrimaryLog::parse(&text).unwrap().to_string(), text);
        for (from, to) in [
            ("ca97", "CA97"),
            ("ca97", "97"),
            ("binlog.000007", "binlog"),
            ("binlog.000007", ".000007"),
            ("binlog.000007", "binlog.+00007"),
            ("binlog", "bin\u{7f}log"),
            ("2026", "2O26"),
            ("Z", "Z "),
        ] {
            assert_eq!(PrimaryLog::parse(&text.replacen(from, to, 1)), None, "{to}");
        }
    }
}
