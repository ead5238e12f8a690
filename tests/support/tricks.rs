//! Ways to hold a phase open, and scripts that play the part of a bad mysqld.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Primary, Scene, find_program, flavor};

impl Primary {
    /// Writes `count` transactions into `SCHEMA.slow`, each of which takes the private server,
    /// and no other one, `seconds` to apply. While it sleeps it uses nothing.
    pub fn slow_backlog(&self, schema: &str, count: u32, seconds: f64) {
        self.sql(&format!("CREATE DATABASE IF NOT EXISTS {schema}"));
        self.sql(&format!(
            "CREATE TABLE IF NOT EXISTS {schema}.slow \
             (id INT PRIMARY KEY AUTO_INCREMENT, n INT) ENGINE=InnoDB"
        ));
        self.slow_rows(schema, count, seconds);
    }

    /// The same where the table is there already, so that nothing quick comes first.
    pub fn slow_rows(&self, schema: &str, count: u32, seconds: f64) {
        // As a statement, so that it is evaluated again where it is applied. Only the private
        // server runs with this setting.
        self.sql("SET SESSION binlog_format = 'STATEMENT'");
        let insert = format!(
            "INSERT INTO {schema}.slow (n) VALUES \
             (IF(@@global.innodb_flush_log_at_trx_commit = 0, SLEEP({seconds}), 0))"
        );
        flavor::repeat(count, &insert).iter().for_each(|part| {
            self.sql(part);
        });
        self.sql("SET SESSION binlog_format = 'MIXED'");
    }

    /// One transaction that the private server, and no other one, sleeps in for so many `seconds`
    /// when it has written the first of its rows. Says the position before it.
    pub fn long_transaction(&self, schema: &str, seconds: u32) -> String {
        self.sql(&format!("CREATE TABLE {schema}.long_trx (n INT, b LONGBLOB) ENGINE=InnoDB"));
        let before = self.gtid_pos();
        self.sql("SET SESSION binlog_format = 'STATEMENT'");
        self.sql(&format!(
            "INSERT INTO {schema}.long_trx VALUES (1, REPEAT('x', 4000000)), \
             (IF(@@global.innodb_flush_log_at_trx_commit = 0, SLEEP({seconds}), 0), '')"
        ));
        self.sql("SET SESSION binlog_format = 'MIXED'");
        before
    }
}

impl Scene {
    /// Is the private server in the middle of [`Primary::long_transaction`]? Its file has grown.
    pub fn is_in_long_transaction(&self, schema: &str) -> bool {
        let file = self.scratch.join(format!("data/{schema}/long_trx.ibd"));
        file.metadata().is_ok_and(|f| f.len() > 3_000_000)
    }

    /// A program for `--mysqld`: a shell script in which `MYSQLD` is the real server.
    pub fn fake_mysqld(&self, name: &str, body: &str) -> PathBuf {
        let real = find_program("mariadbd").expect("mariadbd");
        let path = self.path(name);
        // Whoever asks for its version before it is started is answered by the real one.
        let version = "case \" $* \" in *' --version '*) exec MYSQLD \"$@\" ;; esac";
        let text =
            format!("#!/bin/sh\n{version}\n{body}\n").replace("MYSQLD", &real.to_string_lossy());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What the scratch directory's data is, as its state file says; empty if there is none.
    pub fn state(&self) -> String {
        fs::read_to_string(self.scratch.join("state")).unwrap_or_default()
    }

    /// Is there any data in the scratch directory?
    pub fn has_scratch_data(&self) -> bool {
        self.scratch.join("data").exists()
    }

    /// Panics if a process, a socket or the like is left of a pass that has ended.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.leftover_processes(), [] as [i32; 0], "processes are left");
        for name in ["mysqld.sock", "mysqld.pid", "dump.err", "load.err", "state.new"] {
            assert!(!self.scratch.join(name).exists(), "{name} is left in the scratch directory");
        }
    }
}
