//! The two kinds of servers: MariaDB and MySQL.

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// MariaDB 10.5 and later.
    MariaDb,
    /// MySQL 8.0 and later.
    MySql,
}

impl Flavor {
    /// Its name in manifests: `mariadb` or `mysql`.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::MariaDb => "mariadb",
            Flavor::MySql => "mysql",
        }
    }

    /// Parses the result of [`Flavor::name`].
    pub fn from_name(name: &str) -> Option<Flavor> {
        [Flavor::MariaDb, Flavor::MySql].into_iter().find(|f| f.name() == name)
    }

    /// From the text of `SELECT VERSION()` or of `mysqld --version`.
    pub fn from_version(version: &str) -> Flavor {
        if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql }
    }
}
