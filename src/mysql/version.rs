//! Server versions, and the series they belong to.

use std::fmt;

use crate::mysql::flavor::Flavor;

/// The version of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    flavor: Flavor,
    numbers: Vec<u32>,
    text: String,
}

impl Version {
    /// Parses the result of `SELECT VERSION()`, such as `10.11.19-MariaDB` or `8.4.3`.
    pub fn parse(text: &str) -> Option<Version> {
        let first = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
        let numbers: Vec<u32> = first.split('.').map_while(|n| n.parse().ok()).collect();
        let flavor = Flavor::from_version(text);
        (numbers.len() >= 2).then(|| Version { flavor, numbers, text: text.into() })
    }

    /// Parses the output of a server program, such as `mysqld  Ver 8.4.3 for Linux on x86_64`.
    pub fn of_program(text: &str) -> Option<Version> {
        Version::parse(text.split_once("Ver ")?.1.split_whitespace().next()?)
    }

    /// True if it rejects event definitions when started without its grant tables. MariaDB 10.11
    /// does not, 11.8 does; the versions between tolerate what 11.8 needs.
    pub fn needs_grant_tables(&self) -> bool {
        self.flavor == Flavor::MariaDb && self.numbers[0] >= 11
    }

    /// The kind of server.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The original text, which [`Version::parse`] accepts.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if it is of a later series of the same flavor.
    pub fn is_newer_than(&self, other: &Version) -> bool {
        self.flavor == other.flavor && self.series() > other.series()
    }

    /// True if it is of the same series.
    pub fn is_of_series(&self, other: &Version) -> bool {
        self.flavor == other.flavor && self.series() == other.series()
    }

    /// The numbers that identify its series, such as 10 and 11.
    pub fn series(&self) -> &[u32] {
        &self.numbers[..2]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flavor {
            Flavor::MariaDb => f.write_str(&self.text),
            Flavor::MySql => write!(f, "MySQL {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_servers_say_their_version() {
        for (text, series, flavor) in [
            (
                "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian)",
                [10, 11],
                Flavor::MariaDb,
            ),
            ("/x y/Ver/mysqld  Ver 9.7.4-2 for Linux on x86_64", [9, 7], Flavor::MySql),
        ] {
            let version = Version::of_program(text).unwrap();
            assert_eq!((version.series(), version.flavor), (series.as_slice(), flavor), "{text}");
        }
        assert_eq!(Version::parse("8.4.3").unwrap().numbers, [8, 4, 3]);
        for text in ["", "mysqld", "Ver", "mysqld Ver x", "mysqld Ver 9"] {
            assert_eq!(Version::of_program(text), None, "{text}");
        }
    }
}
