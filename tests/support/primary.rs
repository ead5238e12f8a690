//! A primary with binary logs and accounts, and a plain replica of it to compare with.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use super::{Server, flavor, wait_until};

/// The password of both accounts; nothing but option files may hold it.
pub const PASSWORD: &str = "S3cret-of-the-tests";

/// An account on the primary and the privileges it is given.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Its name; the host is `%`.
    pub user: &'static str,
    /// What `GRANT` gets.
    pub grants: &'static str,
}

/// All that the nightly pass needs.
pub const NIGHTLY: Account = Account { user: "rf_nightly", grants: "REPLICATION SLAVE" };

/// What the first backup by dump needs.
pub const DUMP: Account =
    Account { user: "rf_dump", grants: "SELECT, SHOW VIEW, TRIGGER, EVENT, REPLICATION SLAVE" };

/// What the first backup by MySQL's CLONE needs.
pub const CLONE: Account = Account { user: "rf_clone", grants: "BACKUP_ADMIN, REPLICATION SLAVE" };

/// What a [`Replica`] of the tests logs in with.
const COMPARE: Account = Account { user: "rf_compare", grants: "REPLICATION SLAVE" };

/// What makes a server a primary.
const LOGGING: [&str; 3] = ["--log-bin=binlog", "--sync-binlog=0", "--gtid-strict-mode=ON"];

/// A real primary on 127.0.0.1: binary log with GTIDs, from the first transaction on.
pub struct Primary(Server);

impl Primary {
    /// Starts one.
    pub fn start(name: &str) -> Primary {
        Primary::start_with(name, &[])
    }

    /// Starts one with further options.
    pub fn start_with(name: &str, args: &[&str]) -> Primary {
        let all = [&LOGGING, args].concat();
        let primary = Primary(Server::start(name, true, &all));
        // From the start and in the binary log, so that it is in every copy alike.
        primary.create_account(COMPARE);
        primary
    }

    /// Starts one with further options on a copy of another one's data directory, with the accounts
    /// and logs in it.
    pub fn start_copy(name: &str, from: &Path, args: &[&str]) -> Primary {
        Primary(Server::start_copy(name, from, true, &[&LOGGING, args].concat()))
    }

    /// A primary without binary log, of no use to us.
    pub fn without_binlog(name: &str) -> Primary {
        Primary(Server::start(name, true, &[]))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port.expect("a primary listens")
    }

    /// The position after all it has written.
    pub fn gtid_pos(&self) -> String {
        self.value("SELECT @@global.gtid_binlog_pos")
    }

    /// Makes an account.
    pub fn create_account(&self, account: Account) {
        let user = account.user;
        let grants = flavor::grants(account.grants);
        self.sql(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'"));
        self.sql(&format!("GRANT {grants} ON *.* TO '{user}'@'%'"));
    }

    /// Writes an option file for an account, 0600.
    pub fn write_option_file(&self, path: &Path, account: Account) {
        self.write_option_file_as(path, account.user, PASSWORD);
    }

    /// The same with any name and password.
    pub fn write_option_file_as(&self, path: &Path, user: &str, password: &str) {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let port = self.port();
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        write!(file, "[client]\nhost=127.0.0.1\nport={port}\nuser={user}\npassword={password}\n")
            .unwrap();
        // Without TLS the default login of MySQL wants the server's public key.
        file.write_all(flavor::either("", "get-server-public-key\n").as_bytes()).unwrap();
    }

    /// Begins a new binary log and removes all earlier ones, waiting out whoever reads them.
    pub fn flush_and_purge_logs(&self) {
        self.sql("FLUSH BINARY LOGS");
        let last = self.sql("SHOW BINARY LOGS").pop().expect("a log")[0].clone();
        wait_until("the earlier binary logs to be purged", Duration::from_secs(20), || {
            self.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
            self.sql("SHOW BINARY LOGS").len() == 1
        });
    }

    /// Makes `tables` tables `SCHEMA.t0`, `SCHEMA.t1`, ... with `rows` rows each. Fast.
    pub fn fill(&self, schema: &str, tables: u32, rows: u32) {
        self.sql(&format!("CREATE DATABASE IF NOT EXISTS {schema}"));
        for t in 0..tables {
            self.sql(&format!(
                "CREATE TABLE {schema}.t{t} (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, \
                 text VARCHAR(200) NOT NULL, KEY (n)) ENGINE=InnoDB"
            ));
            self.sql(&format!(
                "INSERT INTO {schema}.t{t} (n, text) \
                 SELECT seq % 1000, REPEAT(SHA2(seq + {t}, 256), 2) FROM {schema}.seq_1_to_{rows}"
            ));
        }
    }

    /// Writes `count` single-row transactions into `SCHEMA.backlog`, as fast as the server can
    /// without a client in the way; a replica needs seconds for some 100,000.
    pub fn backlog(&self, schema: &str, count: u32) {
        self.sql(&format!("CREATE DATABASE IF NOT EXISTS {schema}"));
        self.sql(&format!(
            "CREATE TABLE IF NOT EXISTS {schema}.backlog \
             (id INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(64)) ENGINE=InnoDB"
        ));
        let insert = format!("INSERT INTO {schema}.backlog (text) VALUES (SHA2(i, 224))");
        // In pieces, so that each stays far below the read time-out of the session.
        for done in (0..count).step_by(20_000) {
            flavor::repeat((count - done).min(20_000), &insert).iter().for_each(|part| {
                self.sql(part);
            });
        }
    }
}

impl Deref for Primary {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Primary {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

/// A plain replica of a primary from its first transaction on, moved along by hand.
pub struct Replica(Server);

impl Replica {
    /// Starts an empty one that does not replicate yet. It reads the primary's binary logs from
    /// the first: before they are purged, [`Replica::advance_to`] somewhere.
    pub fn start(primary: &Primary) -> Replica {
        Replica::of(
            primary,
            Server::start("replica", false, &["--skip-slave-start", "--read-only"]),
        )
    }

    /// One that listens and keeps a binary log, so that it can be followed itself.
    pub fn with_log(primary: &Primary) -> Replica {
        let args = ["--skip-slave-start", "--log-bin=binlog", "--log-slave-updates"];
        Replica::of(primary, Server::start("second", true, &args))
    }

    /// Where it is reached, if it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.expect("one that listens"))
    }

    /// The same on a restored data directory, from the position of its backup on.
    pub fn start_on(primary: &Primary, datadir: &Path) -> Replica {
        let server = Server::start_on(datadir);
        if flavor::is_mysql() {
            // Its tables may name relay logs that are not there: of a server that was killed.
            server.sql("RESET SLAVE ALL");
        }
        Replica::of(primary, server)
    }

    fn of(primary: &Primary, replica: Server) -> Replica {
        let port = primary.port();
        let (user, password) = (COMPARE.user, PASSWORD);
        let source = format!(
            "MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{user}', \
             MASTER_PASSWORD='{password}', MASTER_CONNECT_RETRY=1"
        );
        replica.sql(&flavor::change_master(&source));
        Replica(replica)
    }

    /// Replicates up to `position` and stops there.
    #[track_caller]
    pub fn advance_to(&self, position: &str) {
        let at = self.advance(position);
        assert_eq!(at, sorted(position), "the replica's position");
    }

    /// Replicates up to `position` and says where it stopped. MySQL may go on by a transaction:
    /// seen where the last one had a tag.
    #[track_caller]
    pub fn advance(&self, position: &str) -> String {
        if self.position() == sorted(position) {
            return self.position();
        }
        let until = flavor::either("master_gtid_pos", "SQL_AFTER_GTIDS");
        self.sql(&format!("START SLAVE UNTIL {until}='{position}'"));
        wait_until(&format!("the replica to stop at {position}"), super::PATIENCE * 3, || {
            let status = self.record("SHOW SLAVE STATUS").expect("a replica");
            for key in ["Last_SQL_Errno", "Last_IO_Errno"] {
                assert_eq!(status[key], "0", "replica: {status:?}");
            }
            status[&flavor::column("Slave_SQL_Running")] == "No"
        });
        self.sql("STOP SLAVE");
        self.position()
    }

    fn position(&self) -> String {
        sorted(&self.value("SELECT @@global.gtid_slave_pos"))
    }
}

impl Deref for Replica {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Replica {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

/// A position with its domains in order, for comparison as text.
fn sorted(position: &str) -> String {
    let mut parts: Vec<&str> = position.split(',').map(str::trim).collect();
    parts.sort_unstable();
    parts.join(",")
}
