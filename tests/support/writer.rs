//! A client that writes to the primary all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::{Conn, OptsBuilder};

use super::server::query;
use super::{PATIENCE, Primary, wait_until};

/// Between two transactions of a steady load: other tests want the processors, too.
pub const STEADY: Duration = Duration::from_millis(4);

/// Writes single transactions into `SCHEMA.w0` to `w3` until it is stopped or dropped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// A steady load of some two hundred transactions a second: inserts, updates, deletes.
    pub fn start(primary: &Primary, schema: &str) -> Writer {
        Writer::start_with(primary, schema, STEADY, false)
    }

    /// The same with a pause between transactions and, if asked, DDL every 50 of them.
    pub fn start_with(primary: &Primary, schema: &str, pause: Duration, ddl: bool) -> Writer {
        primary.sql(&format!("CREATE DATABASE IF NOT EXISTS {schema}"));
        for t in 0..4 {
            primary.sql(&format!(
                "CREATE TABLE IF NOT EXISTS {schema}.w{t} (id BIGINT PRIMARY KEY \
                 AUTO_INCREMENT, n BIGINT, text VARCHAR(64)) ENGINE=InnoDB"
            ));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let socket = primary.socket().to_string_lossy().into_owned();
        let schema = schema.to_string();
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            let mut session: Option<Conn> = None;
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                // A primary that is killed in a test comes back: so does the writer.
                if session.is_none() {
                    let options = OptsBuilder::new()
                        .socket(Some(&socket))
                        .prefer_socket(false)
                        .user(Some("root"))
                        .read_timeout(Some(PATIENCE));
                    session = Conn::new(options).ok();
                }
                let done = session.as_mut().is_some_and(|s| write(s, &schema, n, ddl).is_ok());
                if done {
                    n += 1;
                    counted.fetch_add(1, Ordering::Relaxed);
                } else {
                    session = None;
                }
                std::thread::sleep(if done { pause } else { Duration::from_millis(20) });
            }
        });
        Writer { stop, count, thread: Some(thread) }
    }

    /// Transactions so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until it has written `n` more.
    #[track_caller]
    pub fn wait_for_more(&self, n: u64) {
        let goal = self.count() + n;
        wait_until("the writer to write", PATIENCE, || self.count() >= goal);
    }

    /// Stops it; how many transactions there were.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.count()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(session: &mut Conn, schema: &str, n: u64, ddl: bool) -> Result<(), mysql::Error> {
    let t = n % 4;
    let table = format!("{schema}.w{t}");
    query(session, "BEGIN")?;
    query(session, &format!("INSERT INTO {table} (n, text) VALUES ({n}, SHA2({n}, 224))"))?;
    if n.is_multiple_of(3) {
        query(
            session,
            &format!("UPDATE {table} SET text = SHA2({n}, 256) WHERE id = {}", n / 8 + 1),
        )?;
    }
    if n.is_multiple_of(7) {
        query(session, &format!("DELETE FROM {table} WHERE id = {}", n / 16 + 1))?;
    }
    query(session, "COMMIT")?;
    if ddl && n % 50 == 49 {
        let k = n / 50;
        query(session, &format!("CREATE TABLE {schema}.d{k} LIKE {table}"))?;
        query(session, &format!("ALTER TABLE {schema}.d{k} ADD COLUMN more INT DEFAULT {k}"))?;
        if k > 4 {
            query(session, &format!("DROP TABLE IF EXISTS {schema}.d{}", k - 4))?;
        }
    }
    Ok(())
}
