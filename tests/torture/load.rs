//! Everything that a primary may be told, all the while: small and large transactions, tables
//! and accounts that come, change and go, in two domains, within and outside of InnoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::{Conn, OptsBuilder};

use super::plan::Dice;
use super::words;
use crate::support::{PATIENCE, Primary, flavor, wait_until};

/// Between one statement and the next.
const PAUSE: Duration = Duration::from_millis(12);

/// Made before the first backup.
const BEGIN: &str = "\
    CREATE DATABASE live; CREATE DATABASE seven; \
    CREATE TABLE live.a (id BIGINT PRIMARY KEY AUTO_INCREMENT, n BIGINT, text VARCHAR(200), \
      KEY (n)) ENGINE=InnoDB; \
    CREATE TABLE live.b LIKE live.a; CREATE TABLE seven.a LIKE live.a; \
    CREATE TABLE live.big (id BIGINT PRIMARY KEY AUTO_INCREMENT, n BIGINT, text TEXT) \
      ENGINE=InnoDB; \
    CREATE TABLE live.audit (id BIGINT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40)) \
      ENGINE=InnoDB; \
    CREATE TRIGGER live.noted AFTER DELETE ON live.b FOR EACH ROW \
      INSERT INTO live.audit (what) VALUES (CONCAT('gone ', OLD.id)); \
    CREATE EVENT live.tick ON SCHEDULE EVERY 1 SECOND DO \
      INSERT INTO live.audit (what) VALUES ('tick'); \
    CREATE SEQUENCE live.s; \
    CREATE TABLE live.swap0 (id INT PRIMARY KEY, text VARCHAR(20)) ENGINE=InnoDB; \
    CREATE TABLE live.swap1 LIKE live.swap0; INSERT INTO live.swap1 VALUES (1, 'one'); \
    CREATE ROLE reader";

/// Tables outside of InnoDB: their presence makes data that was killed useless.
const ODD: &str = "\
    CREATE DATABASE odd; \
    CREATE TABLE odd.m (id INT PRIMARY KEY AUTO_INCREMENT, n INT, KEY (n)) ENGINE=MyISAM; \
    CREATE TABLE odd.a (id INT PRIMARY KEY AUTO_INCREMENT, n INT, KEY (n)) ENGINE=Aria";

/// What a group of statements that broke off leaves different.
const AS_EVER: &str = "\
    ROLLBACK; SET SESSION gtid_domain_id = 0; SET SESSION binlog_format = 'MIXED'";

/// The client that writes, as long as it is granted statements.
pub struct Load {
    stop: Arc<AtomicBool>,
    granted: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Fills the primary and goes on writing what `seed` says.
    pub fn start(primary: &Primary, seed: u64) -> Load {
        words::begin(primary, BEGIN);
        let (stop, calm) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let count = Arc::new(AtomicU64::new(0));
        let granted = Arc::new(AtomicU64::new(0));
        let options = OptsBuilder::new()
            .socket(Some(primary.socket().to_string_lossy()))
            .prefer_socket(false)
            .user(Some("root"))
            .read_timeout(Some(PATIENCE));
        let (stopped, calmed, counted) = (stop.clone(), calm.clone(), count.clone());
        let limit = granted.clone();
        let thread = std::thread::spawn(move || {
            let mut session = Conn::new(options).expect("a session with the primary");
            let mut words = Words::new(seed);
            let stopped = || stopped.load(Ordering::Relaxed);
            let more = || counted.load(Ordering::Relaxed) < limit.load(Ordering::Relaxed);
            while !stopped() {
                if !more() {
                    wait_until("leave to write", PATIENCE * 10, || stopped() || more());
                    continue;
                }
                let text = words.next(calmed.load(Ordering::Relaxed));
                match words::run(&mut session, &text) {
                    // Some things are not there, such as the tables outside of InnoDB.
                    Ok(_) => {}
                    Err(mysql::Error::MySqlError(_)) => {
                        words::run(&mut session, AS_EVER).expect("settings");
                    }
                    Err(_) if stopped() => return,
                    Err(e) => panic!("the writer lost its session: {text:.200}: {e}"),
                }
                counted.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                wait_until("a while", PATIENCE, || stopped() || began.elapsed() >= PAUSE);
            }
        });
        Load { stop, granted, calm, count, thread: Some(thread) }
    }

    /// Statements so far.
    pub fn count(&self) -> u64 {
        assert!(!self.thread.as_ref().is_some_and(|t| t.is_finished()), "the writer ended");
        self.count.load(Ordering::Relaxed)
    }

    /// Grants so many more statements: what a slow machine writes must not outgrow what it reads.
    pub fn grant(&self, statements: u64) {
        self.granted.store(self.count() + statements, Ordering::Relaxed);
    }

    /// Only transactions in InnoDB from here on, or everything again: tables that change would
    /// spoil a dump.
    pub fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// Has the primary tables outside of InnoDB? Then the writer uses them.
    pub fn odd(&self, primary: &Primary, odd: bool) {
        primary.sql("DROP DATABASE IF EXISTS odd");
        if odd {
            primary.sql(flavor::either(ODD, &ODD.replace("Aria", "MyISAM")));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is said next, and the names of what there is.
struct Words {
    dice: Dice,
    n: u64,
    tables: Vec<u64>,
    users: Vec<u64>,
}

impl Words {
    fn new(seed: u64) -> Words {
        Words { dice: Dice::new(seed, u64::MAX), n: 0, tables: Vec::new(), users: Vec::new() }
    }

    fn next(&mut self, calm: bool) -> String {
        self.n += 1;
        let n = self.n;
        match self.dice.below(if calm { 66 } else { 100 }) {
            0..40 => self.small(),
            40..48 => format!(
                "UPDATE live.a SET text = SHA2({n}, 224), n = n + 1 WHERE id % 7 = {} ORDER BY id; \
                 DELETE FROM live.a WHERE id < (SELECT MAX(id) - 1500 FROM live.b) ORDER BY id",
                n % 7
            ),
            48..54 => format!(
                "DELETE FROM live.b ORDER BY id LIMIT 5; \
                 DELETE FROM live.audit WHERE id < {n} - 1000; DO NEXTVAL(live.s)"
            ),
            54..57 => self.large(calm),
            57..64 => format!(
                "SET SESSION gtid_domain_id = 7; \
                 INSERT INTO seven.a (n, text) VALUES ({n}, SHA2({n}, 224)), ({n}, 'more'); \
                 UPDATE seven.a SET n = n + 1 WHERE id % 5 = 1; \
                 SET SESSION gtid_domain_id = 0"
            ),
            64..66 => format!(
                "BEGIN; INSERT INTO live.a (n, text) VALUES ({n}, 'kept'); SAVEPOINT s; \
                 DELETE FROM live.big LIMIT 50; ROLLBACK TO s; COMMIT"
            ),
            66..80 => self.table(),
            80..90 => self.account(),
            90..95 => self.code(),
            _ => format!(
                "INSERT INTO odd.m (n) VALUES ({n}), ({n} + 1); INSERT INTO odd.a (n) \
                 VALUES ({n}); UPDATE odd.m SET n = n + 1 WHERE id % 3 = 0"
            ),
        }
    }

    fn small(&mut self) -> String {
        let (n, t) = (self.n, self.dice.pick(&["a", "b"]));
        format!("INSERT INTO live.{t} (n, text) VALUES ({n}, REPEAT(SHA2({n}, 224), 3))")
    }

    /// Of half a megabyte to a few, as rows or as a statement.
    fn large(&mut self, calm: bool) -> String {
        let (n, rows) = (self.n, 500 + self.dice.below(2500));
        let format = self.dice.pick(&["ROW", "MIXED"]);
        let then = match self.dice.below(4) {
            0 if !calm => "TRUNCATE TABLE live.big".to_string(),
            1 => {
                format!("UPDATE live.big SET text = REVERSE(text), n = {n} ORDER BY id LIMIT 1500")
            }
            _ => "DELETE FROM live.big WHERE id < (SELECT * FROM \
                  (SELECT MAX(id) - 4000 FROM live.big) x)"
                .to_string(),
        };
        format!(
            "SET SESSION binlog_format = '{format}'; BEGIN; \
             INSERT INTO live.big (n, text) SELECT seq, REPEAT(SHA2(seq + {n}, 224), 14) \
             FROM live.seq_1_to_{rows}; COMMIT; {then}; SET SESSION binlog_format = 'MIXED'"
        )
    }

    /// Tables that come, change and go. Some of it works just as well a second time, and must
    /// not happen twice: a key without a name, a swap of names, one more partition.
    fn table(&mut self) -> String {
        let n = self.n;
        if self.tables.len() < 3 || (self.tables.len() < 7 && self.dice.percent(20)) {
            self.tables.push(n);
            return match self.dice.below(3) {
                0 => {
                    format!("CREATE TABLE live.d{n} ENGINE=InnoDB AS SELECT * FROM live.b LIMIT 9")
                }
                1 => format!("CREATE TABLE live.d{n} LIKE live.a"),
                _ => format!(
                    "CREATE TABLE live.d{n} (id BIGINT PRIMARY KEY, n BIGINT, text VARCHAR(200)) \
                     ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2; \
                     INSERT INTO live.d{n} SELECT seq, seq, 'p' FROM live.seq_1_to_30"
                ),
            };
        }
        let at = self.dice.below(self.tables.len() as u64) as usize;
        let t = self.tables[at];
        match self.dice.below(12) {
            0 => format!("ALTER TABLE live.d{t} ADD COLUMN c{n} INT DEFAULT {n}"),
            1 => format!("ALTER TABLE live.d{t} ADD KEY (n)"),
            2 => format!("ALTER TABLE live.d{t} ADD CHECK (n IS NULL OR n < 1000000000)"),
            3 => format!("ALTER TABLE live.d{t} ADD PARTITION PARTITIONS 1"),
            4 => format!("ALTER TABLE live.d{t} ENGINE=InnoDB, COMMENT='{n}'"),
            5 => format!("TRUNCATE TABLE live.d{t}"),
            6 | 7 => "RENAME TABLE live.swap0 TO live.swap, live.swap1 TO live.swap0, \
                      live.swap TO live.swap1"
                .to_string(),
            8 => {
                self.tables[at] = n;
                format!("RENAME TABLE live.d{t} TO live.d{n}")
            }
            9 => format!(
                "CREATE TABLE live.new LIKE live.d{t}; DROP TABLE live.d{t}; \
                 RENAME TABLE live.new TO live.d{t}"
            ),
            _ => {
                self.tables.remove(at);
                format!("DROP TABLE live.d{t}")
            }
        }
    }

    fn account(&mut self) -> String {
        let n = self.n;
        if self.users.len() < 3 || (self.users.len() < 8 && self.dice.percent(30)) {
            self.users.push(n);
            return format!("CREATE USER u{n} IDENTIFIED BY 'first-{n}'; GRANT reader TO u{n}");
        }
        let at = self.dice.below(self.users.len() as u64) as usize;
        let u = self.users[at];
        match self.dice.below(7) {
            0 => format!("GRANT SELECT, INSERT ON live.* TO u{u}"),
            1 => format!("GRANT SELECT (id), UPDATE (n) ON live.a TO u{u}; FLUSH PRIVILEGES"),
            2 => format!("SET PASSWORD FOR u{u} = PASSWORD('later-{n}')"),
            3 => format!("REVOKE ALL, GRANT OPTION FROM u{u}"),
            4 => {
                self.users[at] = n;
                format!("RENAME USER u{u} TO u{n}")
            }
            5 => "GRANT SELECT ON seven.* TO reader; REVOKE SELECT ON seven.* FROM reader".into(),
            _ => {
                self.users.remove(at);
                format!("DROP USER u{u}")
            }
        }
    }

    fn code(&mut self) -> String {
        let (n, k) = (self.n, self.n % 3);
        match self.dice.below(6) {
            0 => format!("CREATE OR REPLACE VIEW live.v{k} AS SELECT id + {n} AS x FROM live.a"),
            1 => format!("CREATE OR REPLACE PROCEDURE live.p{k} () SELECT {n}"),
            2 => format!("DROP PROCEDURE IF EXISTS live.p{k}"),
            3 => format!(
                "CREATE OR REPLACE TRIGGER live.t{k} BEFORE INSERT ON live.b FOR EACH ROW \
                 SET @x = {n}"
            ),
            4 => format!("DROP EVENT IF EXISTS live.e{k}"),
            _ => format!(
                "CREATE OR REPLACE EVENT live.e{k} ON SCHEDULE EVERY 1 HOUR DO \
                 DELETE FROM live.audit WHERE id = {n}"
            ),
        }
    }
}
